"""What tests of benchmarks share: tiny cases and known rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.cases import FRAME, TimingCase
from bench.ops import timing_cases
from silk_fast.benchmark.codec_cases import CodecCase
from silk_fast.benchmark.costs import FORMULAS, Ceilings
from silk_fast.benchmark.rows import ResultWriter, Row, Timing
from silk_fast.benchmark.runner import Bench

CPU = torch.device("cpu")
TINY = {"rel_attention": (2, 1.2), "rel_key_attention": (1, 0.06)}  # three frames; of the others, 10 ms
THREADS = torch.get_num_threads()
BENCH = Bench(CPU, {(THREADS, "float32"): Ceilings(1e10, 1e11, 1e11)}, seconds=0.0)
DATE = "2026-01-01T00:00:00+00:00"
ON_CPU: dict[str, Any] = {
    **{"commit": "c0ffee", "device": "Some CPU (2 cores)", "driver": None, "torch": "2.6.0", "triton": None},
    **{"python": "3.11.1", "date": DATE},
}
ON_GPU = {**ON_CPU, "device": "Some GPU", "driver": "999 (CUDA 12)", "triton": "3.2.0"}
LATER = {**ON_GPU, "commit": "decade", "date": "2026-02-01T00:00:00+00:00"}
SNAKE = Row("ops", "snake", "Silk small 24 kHz, 10 s, batch 8", "8x32x240000", "float32", "forward", "ours")


def tiny_cases() -> list[TimingCase]:
    """The first layer of every op, both directions, and the first of every stream."""
    cases = [case for op in FORMULAS for case in timing_cases([TINY.get(op, (2, 0.01))], [torch.float32], op)]
    cases += streams(2, torch.float32)
    return list({(case.op, case.is_stream, case.direction): case for case in reversed(cases)}.values())


def streams(batch: int, dtype: torch.dtype) -> list[TimingCase]:
    return [case for case in timing_cases([(batch, FRAME)], [dtype]) if case.is_stream]


def tiny_case(op: str, direction: str) -> TimingCase:
    return next(case for case in tiny_cases() if (case.op, case.direction, case.is_stream) == (op, direction, False))


def case_id(case: TimingCase) -> str:
    return f"{case.op}-{'stream' if case.is_stream else case.direction}"


def timing(milliseconds: float, spread: float = 0.01, noisy: bool = False) -> Timing:
    return Timing(milliseconds * (1 - spread), milliseconds, milliseconds * (1 + spread), noisy)


def row(provider: str = "ours", milliseconds: float = 1.0, base: Row = SNAKE, where: dict = ON_GPU, **values) -> Row:
    found = {"call": timing(milliseconds), "kernel": timing(0.9 * milliseconds)} if milliseconds else {}
    return replace(base, provider=provider, **{**found, "bytes": 10**6, "flops": 10**6, **values}, **where)


def codec_rows(where: dict, threads: int | None) -> list[Row]:
    """Latency, batches and durations of eager and ours, eager twice as slow; ours without a figure at 1 h."""
    rows = []
    for op, seconds, batch in (
        ("decode_frame", 0.4, 1),
        ("decode", 10.0, 1),
        ("decode", 10.0, 8),
        ("decode", 3600.0, 1),
    ):
        for provider, factor in (("ours", 1.0), ("eager", 2.0)):
            case = CodecCase(op, seconds, batch, "float32", provider, threads, "tiny")
            status = {"status": "skipped: time budget"} if (provider, seconds) == ("ours", 3600.0) else None
            figures = status or {"call": timing(factor * seconds * batch), "peak_bytes": 10**8}
            rows.append(replace(case.row(**figures), **where))
    return rows


def write(path: Path, rows: list[Row]) -> Path:
    """A result file of rows of one run; returns its path."""
    ResultWriter(path, {name: getattr(rows[0], name) for name in ON_CPU}).add(*rows)
    return path
