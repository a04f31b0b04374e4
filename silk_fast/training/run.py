"""A whole training run: processes, data, model, stage, loop, export."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from silk_fast.config import SilkConfig
from silk_fast.errors import SilkConfigError, SilkModelError
from silk_fast.history import read_history
from silk_fast.reference.codec import SilkCodec
from silk_fast.reference.pretrained import find_model
from silk_fast.training.adaptation import set_output_delay_, set_phases
from silk_fast.training.config import Stage1Config, Stage2Config
from silk_fast.training.loop import RunOptions, Trainer
from silk_fast.training.recordings import find_clips
from silk_fast.training.stage import Stage
from silk_fast.training.stage1 import Stage1
from silk_fast.training.stage2 import Stage2

MODEL_FOLDER = "model"


def train(
    config: Stage1Config | Stage2Config,
    data: list[str],
    options: dict[str, Any],
    split: str | None = None,
    init: str | None = None,
    notice: Callable[[str], None] = print,
    progress: Callable[[int, int, dict[str, float]], None] = lambda *_: None,
) -> dict[str, Any] | None:
    """Train a stage from its start or its last checkpoint, and export the model when all steps are done.

    Under ``torchrun`` every process calls it; they share the work and the first of them writes.

    Args:
        config: of the stage, which it decides.
        data: audio files, folders, or corpora with a manifest.
        options: of :class:`~silk_fast.training.loop.RunOptions`.
        split: of a corpus; None for all of it.
        init: model whose weights are the start; of no account when a run is resumed.

    Returns:
        ``steps`` done, ``all_steps``, and ``model``, the exported folder or None; None in processes that do not write.

    Raises:
        SilkError: as :class:`~silk_fast.training.loop.Trainer` says, or the model does not fit the configuration.
    """
    resume = options.get("resume", False)
    if not init and not resume and isinstance(config, Stage2Config):
        if config.frozen_encoder_stages:
            raise SilkConfigError("frozen_encoder_stages keeps the weights of a trained model, but init names none")
        if config.trained == "decoder":
            raise SilkConfigError("trained 'decoder' keeps the tokens of a trained model, but init names none")
    with processes(options["device"]) as (rank, device):
        how = RunOptions(**{**options, "device": device})
        quiet = notice if rank == 0 else lambda _: None
        clips = find_clips(data, split=split, notice=quiet)
        stage = make_stage(config, torch.device(device), how, None if resume else init)
        seconds = sum(clip.n_samples for clip in clips) / stage.codec.config.sample_rate
        quiet(f"{len(clips)} clips, {seconds / 3600:.2f} h, on {device}")
        facts = {
            "data": [os.path.basename(os.path.normpath(path)) for path in data],
            "split": split,
            "init": init,
            "clips": len(clips),
            "hours": round(seconds / 3600, 3),
            "torch": torch.__version__,
            "synthetic": all("engine" in clip.labels for clip in clips),
            "described": all({"engine", "licence"} & clip.labels.keys() for clip in clips),
            "sources": {clip.labels["package"]: clip.labels["licence"] for clip in clips if "licence" in clip.labels},
            "earlier": read_history(find_model(init)) if init else [],
        }
        trainer = Trainer(stage, clips, how, facts, init is None, quiet, progress if rank == 0 else lambda *_: None)
        steps = trainer.run()
        if rank:
            return None
        model = None
        if steps == config.steps:
            model = str(Path(how.folder) / MODEL_FOLDER)
            trainer.export(Path(model))
        return {"steps": steps, "all_steps": config.steps, "model": model}


def make_stage(
    config: Stage1Config | Stage2Config, device: torch.device, options: RunOptions, init: str | None = None
) -> Stage:
    """Make a stage with its codec on ``device``.

    Raises:
        SilkModelError: ``init`` is no model, or of other sizes than the configuration asks for.
        SilkConfigError: its output delay differs by no whole number of sub-frames.
    """
    silk_config = SilkConfig.preset(config.preset, output_delay=config.output_delay, phases=config.phases)
    if init is None:
        codec = SilkCodec(silk_config, seed=config.seed)
    else:
        trained = set_phases(SilkCodec.from_pretrained(init), config.phases)
        codec = set_output_delay_(trained, config.output_delay).apply_weight_norm_()
        if codec.config != silk_config:
            raise SilkModelError(f"init {init!r} has other sizes than preset {config.preset!r}")
    codec = codec.to(device).train()
    stage: Stage
    if isinstance(config, Stage1Config):
        stage = Stage1(config, codec, device, options.compile)
    else:
        stage = Stage2(config, codec, device, options.compile)
    if options.kernels and device.type == "cuda":
        from silk_fast.acceleration import accelerate_

        for network in stage.networks:
            accelerate_(network)
    return stage


@contextmanager
def processes(device: str) -> Iterator[tuple[int, str]]:
    """Give this process's rank and device; join the others when ``torchrun`` started it."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield 0, device
        return
    on_gpu = device.startswith("cuda")
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        if on_gpu:
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        yield dist.get_rank(), device
        dist.barrier()  # gloo aborts a process that ends while another still works (torch 2.13)
    finally:
        dist.destroy_process_group()
