"""Logs of a run: every value as a line of ``log.jsonl`` and in TensorBoard, with spectrograms and audio."""

import json
from pathlib import Path
from typing import IO, TYPE_CHECKING

from torch import Tensor

from silk_fast.files import atomic_file
from silk_fast.metrics import log_mel_spectrogram
from silk_fast.training.stage import Stage

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_FILE = "log.jsonl"


class Logs:
    """Writes the logs of one process; does nothing where ``active`` is false.

    Args:
        folder: of the run.
        active: whether this process writes; one does.
        sample_rate: Hz, of audio.
        first_step: steps done; what a killed run logged of later ones is dropped.
    """

    def __init__(self, folder: Path, active: bool, sample_rate: int, first_step: int = 0) -> None:
        self.folder, self.active, self.sample_rate, self.first_step = folder, active, sample_rate, first_step
        self.lines: IO[str] | None = None
        self.board: SummaryWriter | None = None

    def __enter__(self) -> "Logs":
        if self.active:
            self._drop_later_lines(self.folder / LOG_FILE)
            self.lines = open(self.folder / LOG_FILE, "a", encoding="utf-8")
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:  # optional: the extra "train"
                return self
            self.board = SummaryWriter(self.folder / "tensorboard", purge_step=self.first_step + 1)
        return self

    def _drop_later_lines(self, path: Path) -> None:
        if not path.exists():
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.first_step]
        if kept != lines:
            with atomic_file(path) as file:
                file.write("".join(kept).encode())

    def __exit__(self, *exception: object) -> None:
        if self.lines:
            self.lines.close()
        if self.board:
            self.board.close()

    def scalars(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Log the values of one step, ``seconds`` after the start."""
        if self.lines is None:
            return
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        self.lines.write(json.dumps({"step": step, "seconds": round(seconds, 1), **rounded}) + "\n")
        self.lines.flush()
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def listen(self, step: int, audio: Tensor, stage: Stage) -> None:
        """Log audio and spectrogram of ``audio`` ``[1, 1, T]`` and of what the stage makes of it, if it makes audio."""
        if not self.board:
            return
        for name, signal in (("original", audio), ("decoded", stage.listen(audio))):
            if signal is None:
                continue
            samples = signal[0, 0].float().cpu()
            self.board.add_audio(name, samples[None].clamp(-1, 1), step, self.sample_rate)
            mel = log_mel_spectrogram(samples, self.sample_rate).flip(0)
            self.board.add_image(f"{name}/spectrogram", (1 + mel / 100).clamp(0, 1)[None], step)
        self.board.flush()
