"""Check the kernels, then measure them and their rivals, on this machine's GPU, inside 8 minutes.

    python -m bench.gpu                      # make bench-gpu
    python -m bench.gpu --full               # every shape and dtype by every provider, without a limit of time
    python -m bench.gpu --device cpu --smoke # the whole path on tiny cases, where there is no GPU

Needs torch, triton, numpy, pytest and pytest-benchmark, and no installation of silk_fast. Rows are written to
``bench/results/<device>-<date>-<commit>.json`` as they come, the most telling first; what time does not suffice for
is a row that says so. A short table comes last.
"""

import argparse
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from bench.cases import DTYPES, GRID, TimingCase
from bench.checkout import find_kernels
from bench.ops import timing_cases
from bench.providers import COMPILE, Bench, family, measured_row, providers, row_of
from bench.table import behind, table
from silk_fast.benchmark import card
from silk_fast.benchmark.codec import CodecBenchmark, full_cases, quick_cases, run_cases
from silk_fast.benchmark.rows import OK, ResultWriter, Row, dtype_name, provenance, result_path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
SECONDS = 480
SMOKE_SECONDS = 25
PARITY_SHARE, CODEC_SHARE = 0.35, 0.25  # of the time, at most
NEEDED_SECONDS = {"compile": 15.0, "compile-max": 40.0, "flex_attention": 15.0}  # to compile, too; others need one
SMOKE_LAYERS = {
    "bias_silu": "Silk",
    "fsq_pack": "Silk",
    "polar_istft": "Silk's sizes, centred",
    "snake": "Silk small 75 Hz",
}
N_STAGES = 6
REPEAT, REST = 4, 5
FIRST_DTYPES = (torch.float32, torch.float16)

Job = tuple[TimingCase, str]
"""A case and a provider."""


class Clock:
    """What is left of the time for the whole run."""

    def __init__(self, seconds: float) -> None:
        self.start = time.monotonic()
        self.seconds = seconds

    @property
    def spent(self) -> float:
        return time.monotonic() - self.start

    @property
    def left(self) -> float:
        return self.seconds - self.spent


# ---------------------------------------------------------------- what is measured, in which order


def jobs_by_stage(cases: Iterable[TimingCase], full: bool) -> list[list[Job]]:
    """Cases and providers, the most telling stage first; in a stage the first layer of every op comes first."""
    stages: list[list[Job]] = [[] for _ in range(N_STAGES)]
    for case in cases:
        for provider in providers(case, with_compile=full or case.is_telling):
            stages[stage(case, provider)].append((case, provider))
    stages[REST].sort(key=lambda job: not job[0].is_telling)
    stages[REPEAT] = [(case, provider) for case, provider in stages[0] if case.is_served]
    return stages


def stage(case: TimingCase, provider: str) -> int:
    """0, 1, 2: forward passes by ours, eager and libraries, by compile, by compile-max; 3: gradients; then the rest.

    Compiling is slow: at first only in the dtype in which Silk serves. What was measured first is repeated before the
    rest, so that drift over minutes is seen.
    """
    is_compiled = provider in COMPILE
    if not case.is_telling or not (case.is_served or (case.dtype in FIRST_DTYPES and not is_compiled)):
        return REST
    if case.direction == "forward":
        return {"compile": 1, "compile-max": 2}.get(provider, 0)
    return 3 if case.is_served and provider != "compile-max" else REST


def selected_cases(device: torch.device, smoke: bool, full: bool) -> list[TimingCase]:
    """All telling cases, and of the others what Silk serves; with ``full`` all; on a CPU float32 only."""
    if smoke:
        cases = timing_cases([(1, 0.4)], DTYPES[:1])
        return [case for case in cases if SMOKE_LAYERS.get(case.op) == case.layer]
    cases = timing_cases(GRID, DTYPES if device.type == "cuda" else DTYPES[:1])
    if not full:
        is_cpu = device.type == "cpu"
        cases = [c for c in cases if c.is_telling or (c.direction == "forward" and (c.is_served or is_cpu))]
    ranks: dict[tuple[str, str], int] = {}  # of each layer among those of its op
    for case in cases:
        ranks.setdefault((case.op, case.layer), sum(op == case.op for op, _ in ranks))
    return sorted(cases, key=lambda case: ranks[case.op, case.layer])


# ---------------------------------------------------------------- parity


def failed_parity(seconds: float) -> dict[tuple[str, str, str], str]:
    """Run ``bench/test_parity.py``: by op, dtype and direction, why our kernel must not be measured."""
    from bench.test_parity import case_id, parity_cases

    command = [sys.executable, "-u", "-m", "pytest", "bench/test_parity.py", "-v", "-rfE", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=seconds)
        output, ending = done.stdout.decode(errors="replace"), f"pytest ended with status {done.returncode}"
    except subprocess.TimeoutExpired as expired:
        output, ending = (expired.stdout or b"").decode(errors="replace"), f"no result within {seconds:.0f} s"
    outcomes = dict(re.findall(r"test_parity\[(.+)\] (PASSED|FAILED|ERROR|SKIPPED)", output))
    reasons: dict[tuple[str, str, str], str] = {}
    for case in parity_cases():
        outcome = outcomes.get(case_id(case), ending)
        if outcome != "PASSED":
            reasons.setdefault(family(case), f"parity test of {case.case}: {outcome}")
    n_passed = sum(outcome == "PASSED" for outcome in outcomes.values())
    say(f"parity: {n_passed} of {len(parity_cases())} tests passed")
    if reasons:
        say(output[-3000:])
    return reasons


# ---------------------------------------------------------------- measuring


def run_jobs(jobs: Iterable[Job], measure_one: Callable[[Job], object], clock: Clock) -> list[Job]:
    """Measure what there is time for; returns the rest."""
    left_out = []
    for job in jobs:
        if clock.left < NEEDED_SECONDS.get(job[1], 1.0):
            left_out.append(job)
        else:
            measure_one(job)
    return left_out


def measure_all(
    stages: list[list[Job]],
    bench: Bench,
    writer: ResultWriter,
    clock: Clock,
    parity: dict[tuple[str, str, str], str],
    smoke: bool,
) -> None:
    """All stages, and the codec after the first.

    Args:
        parity: what :func:`failed_parity` gave.
        smoke: few cases of the codec.
    """

    def measure_one(job: Job) -> None:
        announce(writer.add(measured_row(*job, bench, parity)), clock)

    def measure_again(job: Job) -> None:
        first = writer.get(row_of(*job, bench).key)
        if first and first.status == OK:
            repeat = measured_row(*job, bench, parity)
            announce(writer.add(first.confirmed_by(repeat) if repeat.status == OK else repeat), clock)

    left_out = []
    for i_stage, jobs in enumerate(stages):
        if i_stage == REPEAT:
            run_jobs(jobs, measure_again, clock)
            continue
        left_out += run_jobs(jobs, measure_one, clock)
        if i_stage == 0:
            measure_codec(bench, writer, clock, smoke)
    writer.extend(row_of(*job, bench, "skipped: time budget") for job in left_out)


def measure_codec(bench: Bench, writer: ResultWriter, clock: Clock, smoke: bool) -> None:
    """End to end, within a share of the time."""
    ceilings = {dtype_name(dtype): value for dtype, value in bench.ceilings.items()}
    benchmark = CodecBenchmark(bench.device, lambda dtype, threads: ceilings.get(dtype), 0.1 if smoke else 1.0)
    cases = (quick_cases if smoke else full_cases)(bench.device, [bench.threads])
    run_cases(
        cases[:4] if smoke else cases,
        benchmark,
        lambda row: announce(writer.add(row), clock),
        seconds_budget=CODEC_SHARE * clock.left if math.isfinite(clock.left) else 3600.0,
    )


def announce(row: Row, clock: Clock) -> None:
    """One line of progress."""
    timing = row.kernel or row.call
    figure = f"{timing.p50:.4f} ms{' (noisy)' if timing.noisy else ''}" if timing else row.status
    say(f"{clock.spent:5.0f} s  {row.op} {row.case} {row.dtype} {row.direction}, {row.provider}: {figure}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- command line


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check and measure every kernel and its rivals.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help=f"for everything (default: {SECONDS})")
    parser.add_argument("--full", action="store_true", help="every shape and dtype, without a limit of time")
    parser.add_argument("--smoke", action="store_true", help="tiny cases, to test the path itself")
    parser.add_argument("-o", "--output", type=Path, help="result file (default: in bench/results)")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no NVIDIA GPU; on a CPU: make bench, or --device cpu")
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("unset TRITON_INTERPRET: the speed of interpreted kernels means nothing")
    clock = Clock(math.inf if options.full else options.seconds or (SMOKE_SECONDS if options.smoke else SECONDS))
    where = provenance(device)
    writer = ResultWriter(options.output or result_path(RESULTS, where), where)
    run(device, writer, clock, options)
    print("\n".join([str(writer.path), *behind(writer.rows), "", table(writer.rows)]))
    return 0


def run(device: torch.device, writer: ResultWriter, clock: Clock, options: argparse.Namespace) -> None:
    """Check, then measure."""
    is_gpu = device.type == "cuda"
    find_kernels()
    card.use_ieee_float32()
    parity = failed_parity(min(PARITY_SHARE * clock.left, 3600.0)) if is_gpu else {}
    sizes = card.SMOKE if options.smoke else card.GPU if is_gpu else card.CPU
    ceilings = card.measure_card(device, sizes, writer.add, DTYPES if is_gpu else DTYPES[:1])
    bound_bytes = torch.cuda.mem_get_info(device)[0] // 2 if is_gpu else 2**31
    bench = Bench(device, ceilings, bound_bytes, 0.02 if options.smoke else 0.15)
    stages = jobs_by_stage(selected_cases(device, options.smoke, options.full), options.full or options.smoke)
    measure_all(stages, bench, writer, clock, parity, options.smoke)


if __name__ == "__main__":
    sys.exit(main())
