"""End to end: how long encode and decode take, how much memory, and how both grow with duration and batch.

The model is a preset with seeded weights, and the signals are noise: time and memory do not depend on either.
Providers: ``eager`` is the reference with plain weights, ``ours`` the same after ``accelerate_``; ``compile`` and
``compile-max`` (with CUDA graphs) are ``torch.compile`` of encoder, Conformer and decoder; ``cuda-graph`` is one
frame of ``ours``, captured. On a GPU compiled parts take whole signals without state, for a CUDA graph cannot be
replayed where states move; all else is called as users call it. float32 is IEEE float32, without TF32.
"""

import copy
import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from silk_fast.acceleration import accelerate_
from silk_fast.benchmark.costs import Ceilings, bound_by, codec_cost, codec_layers, floor_seconds
from silk_fast.benchmark.limit import TimeLimit, time_limit
from silk_fast.benchmark.rows import OK, Row, dtype_name, failure
from silk_fast.benchmark.timing import Measurement, capture, measure, release, side_stream, summarise
from silk_fast.config import SilkConfig
from silk_fast.errors import SilkInputError
from silk_fast.reference.codec import SilkCodec
from silk_fast.reference.state import State

DURATIONS = (1.0, 10.0, 60.0, 600.0, 3600.0)
CLIP = 10.0
BATCHES = {"cpu": (1, 2, 8), "cuda": (1, 8, 32, 128)}
DTYPES = {"cpu": (torch.float32,), "cuda": (torch.float16, torch.float32)}
PROVIDERS = ("ours", "eager", "cuda-graph", "compile", "compile-max")
OURS = ("ours", "cuda-graph")  # what is no rival
NEED_GPU = {"cuda-graph": "CUDA graphs need an NVIDIA GPU", "compile-max": "CUDA graphs need an NVIDIA GPU"}
COMPILE_MODES = {"compile": "default", "compile-max": "max-autotune"}
WARM_UPS = 2  # and the capture makes one more
FEW = 2  # repetitions of a call that is longer than its share of the time
COMPILE_SECONDS = {"compile": 15.0, "compile-max": 30.0}  # with less it is not begun, until one was timed

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


# ---------------------------------------------------------------- one case


class CodecBenchmark:
    """Measures cases on one device.

    Args:
        device: a CPU or a CUDA device.
        ceilings: gives the machine's measured rates for a dtype and a number of threads, or None; for the share.
        seconds_per_case: how long to repeat a call.
        wrong: by direction, status of the rows of our own providers, which compute something else; see
            ``bench.parity``.
    """

    def __init__(
        self,
        device: torch.device | str,
        ceilings: Callable[[str, int | None], Ceilings | None] = lambda dtype, threads: None,
        seconds_per_case: float = 2.0,
        wrong: Mapping[str, str] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.ceilings = ceilings
        self.seconds_per_case = seconds_per_case
        self.wrong = wrong or {}

    def run(
        self, case: CodecCase, memory: bool = False, expected_seconds: float = 0.0, limit_seconds: float = math.inf
    ) -> Row:
        """The row of a case; a provider that fails, is absent or takes too long gives one that says so.

        Args:
            memory: on a CPU, find the peak memory too, in a process of its own. On a GPU it costs nothing.
            expected_seconds: of one call, where that is known; a long one is repeated less.
            limit_seconds: for building the model, calling and measuring it.
        """
        if reason := self.absence(case):
            return case.row(status=reason)
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(case.threads or threads)
            with time_limit(limit_seconds), _ieee_float32():
                found = self._measure(case, expected_seconds)
            if memory and self.device.type == "cpu":
                found = replace(found, peak_bytes=peak_memory(case))
        except (Exception, TimeLimit) as error:  # of any kind: compilers, drivers and allocators have their own
            return case.row(status=failure(error))
        finally:
            torch.set_num_threads(threads)
            self._release(case)
        return self.row(case, found)

    def absence(self, case: CodecCase) -> str | None:
        """Why a provider cannot be measured here, as the status of its row; None if it can."""
        if self.device.type != "cuda":
            return f"absent: {NEED_GPU[case.provider]}" if case.provider in NEED_GPU else None
        if case.provider not in OURS:
            return None
        try:
            import triton  # noqa: F401
        except ImportError as error:
            return f"absent: {error}"
        return self.wrong.get(case.direction)

    def row(self, case: CodecCase, found: Measurement) -> Row:
        """The row of a case that was measured."""
        share, ceiling = self._share(case, found)
        return case.row(**found.figures, share=share, ceiling=ceiling)

    def call(self, case: CodecCase) -> Callable[[], object]:
        """What is measured: one encode or decode of the case, ready to run."""
        provider = "ours" if case.provider == "cuda-graph" else case.provider
        codec = build_codec(case.preset, getattr(torch, case.dtype), provider, self.device)
        source = example_input(case, self.device)
        if case.provider == "cuda-graph":
            return captured_step(codec, case, source)
        if case.is_frame:
            stream = codec.streaming(case.batch)
            if case.provider == "compile-max":
                _keep_addresses(stream.state)
            step = stream.encode if case.direction == "encode" else stream.decode
        elif case.provider in COMPILE_MODES and self.device.type == "cuda":
            step = torch.no_grad()(lambda x: _whole(codec, case.direction, x))
        else:
            step = codec.encode if case.direction == "encode" else codec.decode
        return lambda: step(source)

    def _measure(self, case: CodecCase, expected_seconds: float) -> Measurement:
        with side_stream(self.device):
            call = self.call(case)
            seconds = self._seconds_of(call)
            if expected_seconds <= self.seconds_per_case:  # the first call may have compiled, tuned and folded
                seconds = self._seconds_of(call)
            if seconds * (FEW + 1) > self.seconds_per_case:
                return self._measure_few(call)
            return measure(call, self.device, seconds_budget=self.seconds_per_case, capture=False)

    def _seconds_of(self, call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        self._synchronise()
        return time.perf_counter() - start

    def _measure_few(self, call: Callable[[], object]) -> Measurement:
        """Of a long call, which needs neither warm-up nor a cold cache."""
        is_gpu = self.device.type == "cuda"
        if is_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        milliseconds = [1e3 * self._seconds_of(call) for _ in range(FEW)]
        peak_bytes = torch.cuda.max_memory_allocated(self.device) if is_gpu else None
        return Measurement(summarise(milliseconds), None, peak_bytes)

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _release(self, case: CodecCase) -> None:
        """Give back what a case held, so that it does not count as memory of the next."""
        if case.provider in COMPILE_MODES:
            torch.compiler.reset()
        if self.device.type == "cuda":
            gc.collect()
        release(self.device)

    def _share(self, case: CodecCase, found: Measurement) -> tuple[float | None, str | None]:
        ceilings = self.ceilings(case.dtype, case.threads)
        if ceilings is None:
            return None, None
        rates = (ceilings.bandwidth, ceilings.matmul_rate, ceilings.flop_rate)
        layers = codec_layers(case.config, case.n_frames, case.batch, getattr(torch, case.dtype), case.direction)
        floors = {"bandwidth": 0.0, "compute": 0.0}
        for layer in layers:
            floors[bound_by(layer.cost, *rates)] += floor_seconds(layer.cost, *rates)
        measured = (found.kernel or found.call).p50 / 1e3
        return sum(floors.values()) / measured, max(floors, key=floors.get)


@contextmanager
def _ieee_float32() -> Iterator[None]:
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


@lru_cache
def _seeded_codec(preset: str) -> SilkCodec:
    return SilkCodec(SilkConfig.preset(preset), weight_norm=False, seed=0).eval()


def build_codec(preset: str, dtype: torch.dtype, provider: str, device: torch.device | str) -> SilkCodec:
    """A seeded codec, ready for inference by ``provider``.

    Compiling begins anew: what was compiled before would count as recompilations, too many of which end in silent
    eager execution.

    Raises:
        SilkInputError: an unknown provider, or ``ours`` on a GPU where no kernel can be used.
    """
    codec = copy.deepcopy(_seeded_codec(preset)).to(device)
    if provider == "ours":
        report = accelerate_(codec, dtype=dtype)
        if torch.device(device).type == "cuda" and len(report.refused) == len(report.swaps):
            raise SilkInputError(f"no kernel can be used: {'; '.join(sorted(set(report.refused.values())))}")
        return codec
    codec = codec.to(dtype)
    if provider in COMPILE_MODES:
        torch.compiler.reset()
        for part in (codec.encoder, codec.conformer, codec.decoder):
            part.compile(mode=COMPILE_MODES[provider], dynamic=False)
    elif provider != "eager":
        raise SilkInputError(f"provider must be one of {', '.join(PROVIDERS)}, got {provider!r}")
    return codec


def example_input(case: CodecCase, device: torch.device | str) -> Tensor:
    """Audio float32 ``[B, 1, T]`` to encode, tokens int32 ``[B, F, G]`` to decode; the same at every call."""
    generator = torch.Generator().manual_seed(0)
    if case.direction == "encode":
        return 0.08 * torch.randn(case.batch, 1, case.n_samples, generator=generator).to(device)
    config = case.config
    smallest = config.levels ** (config.latent_dim % config.group_size or config.group_size)
    shape = (case.batch, case.n_frames, config.tokens_per_frame)
    return torch.randint(smallest, shape, generator=generator, dtype=torch.int32).to(device)


def _whole(codec: SilkCodec, direction: str, source: Tensor) -> Tensor:
    """Encode or decode whole frames without state; what follows the last whole frame of audio is padded."""
    dtype = codec.decoder.head.weight.dtype
    if direction == "decode":
        return codec.decoder(codec.quantizer.decode(source).to(dtype))
    n_missing = -source.shape[-1] % codec.config.frame_samples
    return codec.quantizer.encode(codec.latents(torch.nn.functional.pad(source, (0, n_missing)).to(dtype)))


def _keep_addresses(state: State) -> None:
    """Promise a compiler that the tensors of ``state`` stay where they are, so that its CUDA graphs may update them."""
    for value in vars(state).values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, State):
                _keep_addresses(item)
            elif isinstance(item, Tensor):
                torch._dynamo.mark_static_address(item)


@dataclass(frozen=True)
class CapturedStep:
    """A CUDA graph and all memory that it reads and writes, none of which the graph itself keeps alive.

    Args:
        graph: reads ``frame`` and what ``step`` holds, weights and state; writes ``result``.
        source: copied to ``frame`` before each replay.
    """

    graph: torch.cuda.CUDAGraph
    step: Callable[[], Tensor]
    source: Tensor
    frame: Tensor
    result: Tensor

    def __call__(self) -> Tensor:
        self.frame.copy_(self.source)
        self.graph.replay()
        return self.result


@torch.no_grad()
def captured_step(codec: SilkCodec, case: CodecCase, source: Tensor) -> CapturedStep:
    """One frame of an accelerated stream as a CUDA graph: copies the input in, replays, returns the output.

    Checks of the input, which wait for the device, are left out.
    """
    state, quantizer, frame = codec.streaming(case.batch).state, codec.quantizer, source.clone()

    def step() -> Tensor:
        if case.direction == "decode":
            codes = quantizer.ops.fsq_unpack(frame, quantizer.levels, quantizer.group_size)
            return codec.decoder(codes, state.decoder)
        latents = codec.conformer(codec.encoder(frame, state.encoder), state=state.conformer)
        return quantizer.ops.fsq_pack(quantizer.norm(latents), quantizer.levels, quantizer.group_size)

    with side_stream(source.device):
        for _ in range(WARM_UPS):
            step()
        graph, result = capture(step, source.device)
    return CapturedStep(graph, step, source, frame, result)


# ---------------------------------------------------------------- memory on a CPU


def peak_memory(case: CodecCase) -> int | None:
    """Peak resident bytes of a process that does the case once on the CPU, Python, PyTorch and the signal included.

    None for what is compiled, for there the compiler takes the most.
    """
    if case.provider in COMPILE_MODES:
        return None
    command = [sys.executable, "-m", "silk_fast.benchmark.codec", json.dumps(asdict(case))]
    done = subprocess.run([sys.executable, "-S", "-c", LAUNCHER, *command], capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise SilkInputError(f"the process that measures memory failed: {reason}")
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


# ---------------------------------------------------------------- many cases


def run_cases(
    cases: Iterable[CodecCase],
    benchmark: CodecBenchmark,
    add: Callable[[Row], object],
    *,
    seconds_budget: float,
    memory: bool = False,
    started: Callable[[CodecCase], object] = lambda case: None,
) -> None:
    """Measure cases in order, and give each row to ``add`` as it comes.

    Args:
        seconds_budget: for all together. A case that would exceed it, judged by a shorter one and by how long the
            last compilation took, or that does exceed it, is a row that says so.
        memory: find peak memory too; on a CPU that of whole clips only, for each takes a process.
        started: is told of every case before it runs.
    """
    end = time.perf_counter() + seconds_budget
    known: dict[tuple, Row] = {}
    compiling = dict(COMPILE_SECONDS)
    for case in cases:
        key = case.op, case.provider, case.dtype, case.threads, case.preset
        expected = _expected_seconds(case, known.get(key))
        needed = (FEW + 2) * expected + compiling.get(case.provider, 0.0)
        start = time.perf_counter()
        if not benchmark.absence(case) and start + needed > end:
            guess = f", about {expected:.2g} s a call" if expected else ""
            add(case.row(status=f"skipped: time budget{guess}"))
            continue
        started(case)
        row = benchmark.run(case, memory and not case.is_frame, expected, end - start)
        if row.status == OK:
            known[key] = row
            if case.provider in compiling:
                compiling[case.provider] = time.perf_counter() - start
        add(row)


def _expected_seconds(case: CodecCase, known: Row | None) -> float:
    """Of one call, in proportion to the audio of a case that was measured; 0 if there is none."""
    if known is None:
        return 0.0
    return known.call.p50 / 1e3 * case.batch * case.seconds / known.seconds


def table(rows: Iterable[Row]) -> list[str]:
    """A short table for people: median, spread, seconds of audio per second, peak memory; ``~`` marks noise."""
    columns = f"{'dtype':<9}{'threads':>7}  {'provider':<12}{'ms':>10}  {'p20 .. p80':<20}{'x real time':>11}{'MB':>7}"
    lines = [f"{'':<46}{columns}"]
    for row in rows:
        label = f"{row.op}, {row.case.split(', ', 1)[-1]}"
        head = f"{label:<46}{row.dtype:<9}{row.threads or '-':>7}  {row.provider:<12}"
        if row.status != OK:
            lines.append(f"{head}  {row.status}")
            continue
        spread = f"{row.call.p20:.4g} .. {row.call.p80:.4g}{' ~' * row.call.noisy}"
        memory = f"{row.peak_bytes / 1e6:.0f}" if row.peak_bytes else "-"
        speed = 1e3 * row.seconds / row.call.p50
        lines.append(f"{head}{row.call.p50:>10.3f}  {spread:<20}{speed:>11.1f}{memory:>7}")
    return lines


if __name__ == "__main__":  # the process of peak_memory
    case = CodecCase(**json.loads(sys.argv[1]))
    torch.set_num_threads(case.threads or torch.get_num_threads())
    CodecBenchmark("cpu").call(case)()
