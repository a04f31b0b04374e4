"""The end-to-end cases: which sizes of encode and decode are measured, by whom and in which order."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from silk_fast.benchmark.codec import COMPILE_MODES, codec_call, example_input
from silk_fast.benchmark.codec_costs import codec_cost, codec_layers
from silk_fast.benchmark.costs import Cost
from silk_fast.benchmark.rows import Row, dtype_name
from silk_fast.benchmark.runner import Bench, triton_absence
from silk_fast.benchmark.timing import FEW, Measurement, measure, measure_long, seconds_of, side_stream
from silk_fast.config import SilkConfig
from silk_fast.errors import SilkInputError

DURATIONS = (1.0, 10.0, 60.0, 600.0, 3600.0)
CLIP = 10.0
BATCHES = {"cpu": (1, 2, 8), "cuda": (1, 8, 32, 128)}
DTYPES = {"cpu": (torch.float32,), "cuda": (torch.float16, torch.float32)}
OURS = ("ours", "cuda-graph")  # what is no rival
NEED_GPU = {"cuda-graph": "CUDA graphs need an NVIDIA GPU", "compile-max": "CUDA graphs need an NVIDIA GPU"}

# A process starts with the peak of the one that made it, so a small one stands between.
LAUNCHER = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


@dataclass(frozen=True)
class CodecCase:
    """One provider at one size.

    Args:
        op: ``"encode"`` or ``"decode"`` of whole clips, ``"encode_frame"`` or ``"decode_frame"`` of a stream.
        seconds: of audio in each signal; one frame where a stream is measured.
        batch: signals at once.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``, of the convolutions.
        provider: of ``PROVIDERS``.
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
        return Row(
            section="codec",
            op=self.op,
            case=self.name,
            shape=self.shape,
            dtype=self.dtype,
            direction="forward",
            provider=self.provider,
            threads=self.threads,
            bytes=cost.bytes,
            flops=cost.flops,
            seconds=self.batch * self.n_samples / self.config.sample_rate,
            **values,
        )

    def absence(self, bench: Bench) -> str | None:
        """Why it cannot be measured, as the status of its row; None if it can."""
        if bench.device.type != "cuda":
            return f"absent: {NEED_GPU[self.provider]}" if self.provider in NEED_GPU else None
        if self.provider not in OURS:
            return None
        return triton_absence() or bench.wrong.get((self.direction, "float32", "forward"))

    def source(self, device: torch.device) -> Tensor:
        """The input."""
        return example_input(self.config, self.direction, self.batch, self.n_samples).to(device)

    def call(self, device: torch.device) -> Callable[[], object]:
        """What is measured: one encode or decode, ready to run."""
        dtype = getattr(torch, self.dtype)
        return codec_call(self.provider, self.op, self.preset, dtype, self.source(device), device)

    def measure(self, bench: Bench, expected_seconds: float = 0.0) -> Measurement:
        """Time it; what is longer than its share of the time is repeated twice only.

        Raises:
            Whatever the provider raises.
        """
        device = bench.device
        try:
            with side_stream(device):
                return _measure(self.call(device), device, bench.seconds, expected_seconds)
        finally:
            if device.type == "cuda":
                gc.collect()  # what it held would count as memory of the next

    def peak_memory(self) -> int | None:
        """Peak resident bytes of a process that does it once on the CPU: Python, PyTorch and the signal included.

        None for frames, which take next to nothing, and for what is compiled: there the compiler takes the most.
        """
        if self.is_frame or self.provider in COMPILE_MODES:
            return None
        command = [sys.executable, "-m", "silk_fast.benchmark.codec_cases", json.dumps(asdict(self))]
        done = subprocess.run([sys.executable, "-S", "-c", LAUNCHER, *command], capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip().rpartition("\n")[2]
            raise SilkInputError(f"the process that measures memory failed: {reason}")
        return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def _measure(call: Callable[[], object], device: torch.device, budget: float, expected_seconds: float) -> Measurement:
    seconds = seconds_of(call, device)
    if expected_seconds <= budget:  # the first call may have compiled, tuned and folded
        seconds = seconds_of(call, device)
    if seconds * (FEW + 1) > budget:
        return measure_long(call, device)
    return measure(call, device, seconds_budget=budget, capture=False)


# ---------------------------------------------------------------- which cases


def quick_cases(device: torch.device | str, threads: Iterable[int | None], preset: str = "small") -> list[CodecCase]:
    """Latency of one frame and of 10 s, and a larger batch: eager, ours, and the CUDA graph on a GPU."""
    kind = torch.device(device).type
    dtype = dtype_name(DTYPES[kind][0])
    providers = [p for p in ("ours", "eager", "cuda-graph") if kind == "cuda" or p not in NEED_GPU]
    return [
        CodecCase(op, seconds, batch, dtype, provider, n_threads, preset)
        for n_threads in threads
        for batch in (1, max(BATCHES[kind]) if kind == "cuda" else BATCHES[kind][1])
        for op, seconds in _latency_ops(preset)
        for provider in providers
        if _exists(op, provider) and (batch == 1 or not op.endswith("_frame"))
    ]


def full_cases(device: torch.device | str, threads: Iterable[int | None], preset: str = "small") -> list[CodecCase]:
    """Every provider at batch 1, larger batches, and durations from 1 s to 1 h.

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
            if _exists(op, provider)
        ]

    ops = ("encode", "decode")
    latency = [(op, seconds, 1) for op, seconds in _latency_ops(preset)]
    batches = [(op, CLIP, batch) for batch in BATCHES[kind] if batch > 1 for op in ops]
    durations = [(op, seconds, 1) for seconds in DURATIONS if seconds != CLIP for op in ops]
    return [
        *cases(latency, ("ours", "eager", "cuda-graph")),
        *cases(batches, ("ours", "eager")),
        *cases(durations, ("ours", "eager"), threads[-1:]),
        *cases(latency, ("compile",)),
        *cases(latency, ("compile-max",)),
        *cases(durations, ("ours", "eager"), threads[:-1]),
    ]


def _latency_ops(preset: str) -> list[tuple[str, float]]:
    frame = 1 / SilkConfig.preset(preset).frame_rate
    return [("encode_frame", frame), ("decode_frame", frame), ("encode", CLIP), ("decode", CLIP)]


def _exists(op: str, provider: str) -> bool:
    return provider != "cuda-graph" or op.endswith("_frame")


if __name__ == "__main__":  # the process of CodecCase.peak_memory
    case = CodecCase(**json.loads(sys.argv[1]))
    torch.set_num_threads(case.threads or torch.get_num_threads())
    case.call(torch.device("cpu"))()
