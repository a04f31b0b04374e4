"""The training loop of both stages: data, steps, averaged weights, checkpoints, logs, several processes.

A run lives in one folder: ``run.json``, ``checkpoint-<step>.safetensors``, ``log.jsonl``,
``tensorboard/`` and, when it is done, ``model/`` (what ``SilkCodec.from_pretrained`` loads). Crops
and masks are functions of seed and step alone, so a run that was killed goes on as if it had not been.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from silk_fast.errors import SilkConfigError, SilkFileError, SilkTrainingError
from silk_fast.files import atomic_file
from silk_fast.history import write_history
from silk_fast.reference.codec import SilkCodec
from silk_fast.reference.initialisation import calibrate_
from silk_fast.training.checkpoint import Checkpoint, checkpoints, load_checkpoint, save_checkpoint
from silk_fast.training.config import TrainingConfig
from silk_fast.training.data import batches, make_loader
from silk_fast.training.logs import LOG_FILE, Logs
from silk_fast.training.monitors import CollapseMonitor
from silk_fast.training.recordings import Clip, whole_clips
from silk_fast.training.stage import Stage

RUN_FILE = "run.json"
CALIBRATION_CROPS = 16
STATISTICS_CLIPS = 64
STATISTICS_SECONDS = 30.0
GRACE = 50  # steps before collapse is judged


@dataclass(frozen=True)
class RunOptions:
    """What changes how a run is carried out, but not its numbers.

    Args:
        folder: of the run.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        resume: go on from the last checkpoint.
        max_minutes: stop with a checkpoint after so long; None for never.
        checkpoint_every: steps.
        log_every: steps.
        listen_every: steps between spectrograms and audio in TensorBoard.
        workers: processes that read audio.
        compile: run the model through ``torch.compile``.
        kernels: use the Triton kernels where there is a GPU.
        patience: collapsed steps on end that stop the run.
    """

    folder: Path
    device: str = "cpu"
    resume: bool = False
    max_minutes: float | None = None
    checkpoint_every: int = 500
    log_every: int = 10
    listen_every: int = 500
    workers: int = 1
    compile: bool = False
    kernels: bool = True
    patience: int = 100


class Trainer:
    """Carries a stage from its first step, or its last checkpoint, to its last step.

    Args:
        stage: what learns.
        clips: training data.
        options: how.
        facts: what the run is made of, to record in ``run.json``; a resumed run must have the same, but for ``init``.
        fresh: the weights are random: fit latent statistics and the decoder's mean spectrum to the data first.
        notice: receives messages for people.
        progress: receives (steps done, all steps, values of the last logged step).

    Raises:
        SilkTrainingError: the folder holds a run already and ``resume`` is off, or holds none and it is on.
        SilkConfigError: resumed with another configuration, other data or another number of processes.
        SilkInputError: no clip is long enough.
    """

    def __init__(
        self,
        stage: Stage,
        clips: list[Clip],
        options: RunOptions,
        facts: dict[str, Any] | None = None,
        fresh: bool = True,
        notice: Callable[[str], None] = print,
        progress: Callable[[int, int, dict[str, float]], None] = lambda *_: None,
    ) -> None:
        self.stage, self.options, self.clips = stage, options, clips
        self.config: TrainingConfig = stage.config
        self.notice, self.progress = notice, progress
        self.folder = Path(options.folder)
        self.device = torch.device(options.device)
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.first_step = 0
        self.earlier_pieces: list[dict[str, Any]] = []
        self.pieces: list[dict[str, Any]] = []
        found = checkpoints(self.folder) if self.folder.is_dir() else []
        if options.resume:
            if not found:
                raise SilkTrainingError(
                    f"{self.folder}: no checkpoint to go on from, expected checkpoint-*.safetensors"
                )
            self._check_facts(facts or {})
            self._load(load_checkpoint(found[-1]), found[-1])
        elif found:
            raise SilkTrainingError(f"{self.folder}: holds a run already, give --resume to go on or another folder")
        self.dataset = stage.dataset(clips, notice)
        if not options.resume:
            self._start(facts or {}, fresh)

    def _start(self, facts: dict[str, Any], fresh: bool) -> None:
        if fresh:
            crops = torch.stack([self.dataset.joined(self.dataset.excerpts(i)) for i in range(CALIBRATION_CROPS)])
            calibrate_(self.stage.codec, crops.to(self.device))
        self.average = {name: t.detach().clone() for name, t in self.stage.codec.state_dict().items()}
        if self.rank:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SilkFileError(f"{self.folder}: cannot be made: {error.strerror}") from error
        run = {"stage": type(self.stage).__name__, "config": self.config.to_dict(), "processes": self.world, **facts}
        with atomic_file(self.folder / RUN_FILE) as file:
            file.write((json.dumps(run, indent=2) + "\n").encode())

    def _check_facts(self, facts: dict[str, Any]) -> None:
        path = self.folder / RUN_FILE
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SilkTrainingError(f"{path}: cannot be read: {error}") from error
        given = {name: value for name, value in facts.items() if name not in ("init", "earlier", "torch")}
        for name, value in {**given, "processes": self.world}.items():
            if run.get(name, value) != value:
                raise SilkConfigError(f"{path}: {name} was {run[name]!r}, expected the same, got {value!r}")

    def _load(self, checkpoint: Checkpoint, path: Path) -> None:
        saved = type(self.config).from_dict(checkpoint.config)
        differences = saved.differences(self.config)
        if differences:
            raise SilkConfigError(f"{path}: made with another configuration (saved, given): {differences}")
        try:
            names = self.stage.codec.state_dict()
            self.average = {name: checkpoint.tensors[f"average.{name}"].to(self.device) for name in names}
            self.stage.codec.load_state_dict(self.average)  # for what no learner trains
            for name, learner in self.stage.learners.items():
                learner.load(name, checkpoint.tensors)
        except (KeyError, RuntimeError, ValueError) as error:
            raise SilkTrainingError(f"{path}: does not fit the run: {error}") from error
        self.stage.follow(self.average)
        self.first_step, self.earlier_pieces, self.pieces = checkpoint.step, checkpoint.pieces, checkpoint.pieces

    def _save(self, step: int, started: float) -> None:
        if self.rank:
            return
        tensors = {f"average.{name}": t for name, t in self.average.items()}
        for name, learner in self.stage.learners.items():
            tensors |= learner.state(name)
        piece: dict[str, Any] = {"from": self.first_step, "to": step, "seconds": round(time.monotonic() - started, 1)}
        piece |= {"device": device_name(self.device), "processes": self.world}
        self.pieces = [*self.earlier_pieces, piece]
        save_checkpoint(self.folder, Checkpoint(step, self.config.to_dict(), tensors, self.pieces))

    def run(self) -> int:
        """Train; returns the steps done, fewer than ``config.steps`` if the time was up.

        Raises:
            SilkTrainingError: a loss is not finite (the batch is saved in the folder), or the latents have collapsed.
            SilkFileError: a checkpoint cannot be written.
        """
        config, options = self.config, self.options
        started, step, saved_at = time.monotonic(), self.first_step, self.first_step
        monitor = CollapseMonitor(options.patience, config.warmup_steps + GRACE, step)
        loader = make_loader(
            self.dataset, config.batch_size, step, config.steps - 1, self.rank, self.world, options.workers
        )
        self.stage.codec.train()
        with Logs(self.folder, self.rank == 0, self.stage.codec.config.sample_rate, step) as logs:
            for batch in batches(loader):
                if step == self.stage.statistics_frozen_from:
                    self.estimate_statistics(self.stage.codec)
                # A copy also on a CPU: compiled code reads a few samples past a tensor's end (torch 2.13), which is
                # a segmentation fault where the loader's shared memory ends with a page.
                more = {name: t.to(self.device, non_blocking=True, copy=True) for name, t in batch.items()}
                audio = more.pop("audio")
                values = self._step(step, audio, more)
                step += 1
                if step % options.log_every == 0 or step == config.steps:
                    logged = {name: float(value) for name, value in values.items()}
                    monitor.check(step, logged)
                    logs.scalars(step, logged, time.monotonic() - started)
                    self.progress(step, config.steps, logged)
                if step % options.listen_every == 0:
                    logs.listen(step, audio[:1], self.stage)
                if step % options.checkpoint_every == 0:
                    self._save(step, started)
                    saved_at = step
                if self._time_is_up(started):
                    break
        if step > saved_at:
            self._save(step, started)
        return step

    def _step(self, step: int, audio: Tensor, more: dict[str, Tensor]) -> dict[str, Tensor]:
        try:
            values = self.stage.step(audio, step, **more)
        except SilkTrainingError as error:
            path = self.folder / f"bad-batch-{step:08d}-{self.rank}.safetensors"
            self._save_batch(path, audio)
            raise SilkTrainingError(f"{error}; its batch is in {path}") from error
        self._average_weights(step)
        self.stage.follow(self.average)
        return values

    @staticmethod
    def _save_batch(path: Path, audio: Tensor) -> None:
        from safetensors.torch import save

        with atomic_file(path) as file:
            file.write(save({"audio": audio.cpu().contiguous()}))

    @torch.no_grad()
    def _average_weights(self, step: int) -> None:
        """Move the averaged weights towards the trained ones; buffers are copied."""
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        trained = dict(self.stage.codec.named_parameters())
        for name, tensor in self.stage.codec.state_dict().items():
            if name not in trained:
                if self.world > 1 and tensor.is_floating_point():
                    dist.all_reduce(tensor)
                    tensor /= self.world
                self.average[name].copy_(tensor)
        names = [name for name in self.average if name in trained]
        torch._foreach_lerp_([self.average[n] for n in names], [trained[n].detach() for n in names], 1 - decay)

    def _time_is_up(self, started: float) -> bool:
        if self.options.max_minutes is None:
            return False
        up = torch.tensor(time.monotonic() - started > 60 * self.options.max_minutes, dtype=torch.int32)
        if self.world > 1:
            up = up.to(self.device)
            dist.broadcast(up, 0)
        return bool(up)

    @torch.no_grad()
    def estimate_statistics(self, codec: SilkCodec) -> None:
        """Set the latent statistics of ``codec`` from whole utterances."""
        codec.eval()
        frame, latents = codec.config.frame_samples, []
        for audio in whole_clips(self.clips, STATISTICS_CLIPS, STATISTICS_SECONDS, notice=self.notice):
            padded = torch.nn.functional.pad(audio, (0, -audio.shape[-1] % frame))
            latents.append(codec.latents(padded[None].to(self.device))[0])
        codec.quantizer.norm.set_statistics(torch.cat(latents))
        codec.train()

    def export(self, folder: Path) -> None:
        """Write the averaged weights as a model that ``SilkCodec.from_pretrained`` loads, in half precision.

        Beside it, ``training.json`` tells how it came about: one object for each run, this one last, after those that
        ``earlier`` of its facts lists.

        Raises:
            SilkFileError: it cannot be written.
        """
        codec = SilkCodec(self.stage.codec.config).to(self.device)
        codec.load_state_dict(self.average)
        steps, frozen_from = self.pieces[-1]["to"], self.stage.statistics_frozen_from
        if frozen_from is None or steps <= frozen_from:
            self.estimate_statistics(codec)
        codec.save_pretrained(folder, torch.float16)
        run = json.loads((self.folder / RUN_FILE).read_text(encoding="utf-8"))
        earlier = run.pop("earlier", [])
        record = {
            **run,
            "steps": steps,
            "pieces": self.pieces,
            "last": json.loads((self.folder / LOG_FILE).read_text(encoding="utf-8").splitlines()[-1]),
            "weights_sha256": SilkCodec.from_pretrained(folder).weights_sha256,
        }
        write_history(folder, [*earlier, record])


def device_name(device: torch.device) -> str:
    """Name the GPU, or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} of {os.cpu_count()} threads"
