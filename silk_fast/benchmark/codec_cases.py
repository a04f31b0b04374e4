"""The end-to-end cases: which sizes of encode and decode are measured, by whom and in which order."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch

from silk_fast.benchmark.codec import COMPILE_MODES, codec_call, example_input
from silk_fast.benchmark.codec_costs import codec_cost, codec_layers
from silk_fast.benchmark.costs import Cost
from silk_fast.benchmark.rows import Row, dtype_name
from silk_fast.benchmark.runner import Bench
from silk_fast.config import SilkConfig
from silk_fast.cpu.ops import why_no_bfloat16
from silk_fast.errors import SilkInputError

DURATIONS = (1.0, 10.0, 60.0, 600.0, 3600.0)
CLIP = 10.0
BATCHES = {"cpu": (1, 2, 8), "cuda": (1, 8, 32, 128)}
DTYPES = {"cpu": (torch.float32,), "cuda": (torch.float16, torch.float32)}
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class CodecCase:
    """One provider at one size.

    Args:
        op: ``"encode"`` or ``"decode"`` of whole clips, ``"encode_frame"`` or ``"decode_frame"`` of a stream.
        seconds: of audio in each signal; one frame where a stream is measured.
        batch: signals at once.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``, of the convolutions.
        provider: ``"ours"``, ``"eager"``, ``"compile"`` or ``"compile-max"``.
        threads: of the CPU; None on a GPU.
        preset: size of the codec.
    """

    op: str
    seconds: float
    batch: int
    dtype: str
    provider: str
    threads: int | None
    preset: str = "small"

    @property
    def config(self) -> SilkConfig:
        return SilkConfig.preset(self.preset)

    @property
    def direction(self) -> str:
        """``"encode"`` or ``"decode"``."""
        return self.op.removesuffix("_frame")

    @property
    def is_frame(self) -> bool:
        return self.op.endswith("_frame")

    @property
    def n_frames(self) -> int:
        return self.config.n_frames(self.n_samples)

    @property
    def n_samples(self) -> int:
        return round(self.seconds * self.config.sample_rate)

    @property
    def name(self) -> str:
        """What people call it: ``"Silk small 24 kHz, 10 s, batch 8"``."""
        what = f"one frame of {1000 * self.seconds:g} ms" if self.is_frame else f"{self.seconds:g} s"
        return f"Silk {self.preset} {self.config.sample_rate / 1000:g} kHz, {what}, batch {self.batch}"

    @property
    def shape(self) -> str:
        """Of the input: audio ``"8x1x240000"``, tokens ``"8x25x19"``."""
        sizes = (1, self.n_samples) if self.direction == "encode" else (self.n_frames, self.config.tokens_per_frame)
        return "x".join(str(size) for size in (self.batch, *sizes))

    @property
    def costs(self) -> list[Cost]:
        """By formula, of its layers."""
        dtype = getattr(torch, self.dtype)
        return list(codec_layers(self.config, self.n_frames, self.batch, dtype, self.direction).values())

    def row(self, **values) -> Row:
        """The row of this case with ``values`` filled in."""
        cost = codec_cost(self.config, self.n_frames, self.batch, getattr(torch, self.dtype), self.direction)
        place = ("codec", self.op, self.name, self.shape, self.dtype, "forward", self.provider, self.threads)
        seconds = self.batch * self.n_samples / self.config.sample_rate
        return Row(*place, bytes=cost.bytes, flops=cost.flops, seconds=seconds, **values)

    def absence(self, bench: Bench) -> str | None:
        """Why it cannot be measured, as the status of its row; None if it can."""
        if bench.device.type != "cuda":
            if self.dtype == "bfloat16" and (reason := why_no_bfloat16()):
                return f"absent: {reason}"
            return "absent: CUDA graphs need an NVIDIA GPU" if self.provider == "compile-max" else None
        if self.provider != "ours":
            return None
        if find_spec("triton") is None:
            return "absent: triton is not installed"
        return bench.wrong.get((self.direction, "float32", "forward"))

    def ready(self, device: torch.device) -> tuple[Callable[[], object], None]:
        """One encode or decode, ready to run."""
        dtype = getattr(torch, self.dtype)
        source = example_input(self.config, self.direction, self.batch, self.n_samples).to(device)
        return codec_call(self.provider, self.op, self.preset, dtype, source, device), None

    def peak_memory(self) -> int | None:
        """Peak resident bytes of a process that does it once on the CPU: Python, PyTorch and the signal included.

        None for frames, which take next to nothing, for what is compiled, where the compiler takes the most, and where
        the system does not say.
        """
        if self.is_frame or self.provider in COMPILE_MODES or not STATUS.exists():
            return None
        command = [sys.executable, "-m", "silk_fast.benchmark.codec_cases", json.dumps(asdict(self))]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip().rpartition("\n")[2]
            raise SilkInputError(f"the process that measures memory failed: {reason}")
        return int(done.stdout)


# ---------------------------------------------------------------- which cases


def quick_cases(device: torch.device | str, threads: Iterable[int | None], preset: str = "small") -> list[CodecCase]:
    """Latency of one frame and of 10 s, and a larger batch, by ours and eager."""
    kind = torch.device(device).type
    batches = (1, max(BATCHES[kind]) if kind == "cuda" else BATCHES[kind][1])
    return [
        case
        for case in full_cases(device, threads, preset)
        if case.provider not in COMPILE_MODES and case.dtype == dtype_name(DTYPES[kind][0])
        if case.is_frame or (case.seconds == CLIP and case.batch in batches)
    ]


def full_cases(device: torch.device | str, threads: Iterable[int | None], preset: str = "small") -> list[CodecCase]:
    """Every provider at batch 1, larger batches, and durations from 1 s to 1 h; ours on a CPU in bfloat16 too.

    The most telling come first: latency, growth, then what must be compiled, the slowest compiler last; and durations
    with all but the last of ``threads`` after that, for those take longest.
    """
    kind = torch.device(device).type
    threads = tuple(threads)

    def cases(
        sizes: list[tuple[str, float, int]], providers: Iterable[str], threads: tuple[int | None, ...] = threads
    ) -> list[CodecCase]:
        return [
            CodecCase(op, seconds, batch, dtype_name(dtype), provider, n_threads, preset)
            for op, seconds, batch in sizes
            for n_threads in threads
            for dtype in DTYPES[kind]
            for provider in providers
        ]

    ops = ("encode", "decode")
    latency = [(op, seconds, 1) for op, seconds in _latency_ops(preset)]
    halves = [] if kind == "cuda" else [replace(case, dtype="bfloat16") for case in cases(latency, ("ours",))]
    batches = [(op, CLIP, batch) for batch in BATCHES[kind] if batch > 1 for op in ops]
    durations = [(op, seconds, 1) for seconds in DURATIONS if seconds != CLIP for op in ops]
    return [
        *cases(latency, ("ours", "eager")),
        *halves,
        *cases(batches, ("ours", "eager")),
        *cases(durations, ("ours", "eager"), threads[-1:]),
        *cases(latency, ("compile",)),
        *cases(latency, ("compile-max",)),
        *cases(durations, ("ours", "eager"), threads[:-1]),
    ]


def _latency_ops(preset: str) -> list[tuple[str, float]]:
    frame = 1 / SilkConfig.preset(preset).frame_rate
    return [("encode_frame", frame), ("decode_frame", frame), ("encode", CLIP), ("decode", CLIP)]


if __name__ == "__main__":  # the process of CodecCase.peak_memory
    case = CodecCase(**json.loads(sys.argv[1]))
    torch.set_num_threads(case.threads or torch.get_num_threads())
    call, _ = case.ready(torch.device("cpu"))
    call()
    print(1024 * int(STATUS.read_text().split("VmHWM:")[1].split()[0]))
