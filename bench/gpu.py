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
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path

import torch

from bench import STARTED
from bench.cases import DTYPES, FRAME, GRID, TimingCase
from bench.checkout import find_kernels
from bench.ops import timing_cases
from bench.providers import COMPILED, Bench, family, measured_row, providers, row_of
from bench.table import behind, table
from silk_fast.benchmark import card
from silk_fast.benchmark.codec import CodecBenchmark, full_cases, quick_cases, run_cases
from silk_fast.benchmark.rows import OK, ResultWriter, Row, dtype_name, provenance, result_path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
SECONDS = 470  # of 8 minutes; what is under way then ends, and a table is printed
SMOKE_SECONDS = 25
PARITY_SHARE, CODEC_SHARE, COMPILE_SHARE = 0.35, 0.5, 0.6  # of the time left, at most
CODEC_SECONDS, CODEC_SECONDS_FULL, CODEC_SECONDS_SMOKE = 0.3, 1.0, 0.1  # to repeat one case
NEEDED_SECONDS = {"compile": 10.0, "compile-max": 20.0, "flex_attention": 10.0}  # to begin at all; others need one
LIMIT_SECONDS = {"compile": 60.0, "compile-max": 90.0, "flex_attention": 60.0}  # then one is stopped
LIMIT = 30.0  # of the others
SMOKE_LAYERS = {
    "bias_silu": "Silk",
    "fsq_pack": "Silk",
    "polar_istft": "Silk's sizes, centred",
    "snake": "Silk small 75 Hz",
}
FIRST_DTYPES = (torch.float32, torch.float16)

Job = tuple[TimingCase, str]
"""A case and a provider."""


class Stage(IntEnum):
    """What is measured when: the most telling first, what is slow to compile late.

    ``FORWARD`` and ``GRADIENTS`` are of our kernels, eager and libraries. ``REPEAT`` is the first stage again, so that
    drift over minutes is seen. ``COMPILE`` leaves a share of the time to ``COMPILE_MAX``. The ``REST`` is what earlier
    stages left out, then other sizes and dtypes.
    """

    FORWARD = 0
    CODEC = 1
    GRADIENTS = 2
    REPEAT = 3
    FLEX = 4
    COMPILE = 5
    COMPILE_MAX = 6
    REST = 7


CODEC_PROVIDERS = {
    Stage.CODEC: ("ours", "eager", "cuda-graph"),
    Stage.COMPILE: ("compile",),
    Stage.COMPILE_MAX: ("compile-max",),
}
"""Which rows of the codec a stage begins with."""


class Clock:
    """What is left of the time for the whole run."""

    def __init__(self, seconds: float, start: float | None = None) -> None:
        self.start = time.monotonic() if start is None else start
        self.seconds = seconds

    @property
    def spent(self) -> float:
        return time.monotonic() - self.start

    @property
    def left(self) -> float:
        return self.seconds - self.spent

    def part(self, share: float) -> "Clock":
        """A clock that has only a share of the time left."""
        return Clock(self.spent + share * self.left, self.start)

    def limit(self, provider: str) -> float:
        """Seconds after which a job is stopped; infinite where time is."""
        return min(self.left, LIMIT_SECONDS.get(provider, LIMIT)) if math.isfinite(self.seconds) else math.inf


# ---------------------------------------------------------------- what is measured, in which order


def jobs_by_stage(cases: Iterable[TimingCase], full: bool) -> dict[Stage, list[Job]]:
    """Cases and providers of every stage; in a stage the first layer of every op comes first."""
    stages: dict[Stage, list[Job]] = {stage: [] for stage in Stage}
    for case in cases:
        for provider in providers(case, with_compile=full or case.is_telling):
            stages[stage_of(case, provider)].append((case, provider))
    for stage in (Stage.FLEX, Stage.COMPILE):
        stages[stage].sort(key=lambda job: job[0].direction == "backward")
    stages[Stage.REST].sort(key=lambda job: not job[0].is_telling)
    stages[Stage.REPEAT] = [(case, provider) for case, provider in stages[Stage.FORWARD] if case.is_served]
    return stages


def stage_of(case: TimingCase, provider: str) -> Stage:
    """When a job has its turn; what is compiled only in the dtype in which Silk serves has an early one."""
    is_first = case.is_served or (case.dtype in FIRST_DTYPES and provider not in COMPILED)
    if not (case.is_telling and is_first):
        return Stage.REST
    if provider == "flex_attention":
        return Stage.FLEX
    if case.direction == "forward":
        return {"compile": Stage.COMPILE, "compile-max": Stage.COMPILE_MAX}.get(provider, Stage.FORWARD)
    if not case.is_served or provider == "compile-max":
        return Stage.REST
    return Stage.COMPILE if provider == "compile" else Stage.GRADIENTS


def selected_cases(device: torch.device, smoke: bool, full: bool) -> list[TimingCase]:
    """All telling cases, and of the others what Silk serves; with ``full`` all; on a CPU float32 only."""
    if smoke:
        cases = timing_cases([(1, FRAME)], DTYPES[:1])
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


def parity_faults(seconds: float, device: torch.device) -> dict[tuple[str, str, str], str]:
    """Run ``bench/test_parity.py``: by op, dtype and direction, the status of our rows that must not be measured.

    What a test found wrong has failed; what no test was reached for in the time is skipped.
    """
    from bench.test_parity import case_id, codec_families, parity_cases

    tests = {name: (family, name) for name, family in codec_families().items()}
    tests |= {case_id(case): (family(case), case.case) for case in parity_cases()}
    command = [sys.executable, "-u", "-m", "pytest", "bench/test_parity.py", "-v", "-rfE", "-p", "no:cacheprovider"]
    command += ["--device", str(device)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=seconds)
        output, unknown = done.stdout.decode(errors="replace"), f"failed: parity: pytest ended with {done.returncode}"
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode(errors="replace")
        unknown = f"skipped: parity not reached within {seconds:.0f} s"
    outcomes = dict(re.findall(r"::test_\w+\[(.+)\] (PASSED|FAILED|ERROR|SKIPPED)", output))
    faults: dict[tuple[str, str, str], str] = {}
    for test, (of, name) in tests.items():
        outcome = outcomes.get(test)
        if outcome in ("FAILED", "ERROR"):
            faults[of] = f"failed: parity test of {name}: {outcome}"
        elif outcome != "PASSED":
            faults.setdefault(of, unknown if outcome is None else f"skipped: parity test of {name}: {outcome}")
    n_passed = sum(outcome == "PASSED" for outcome in outcomes.values())
    say(f"parity: {n_passed} of {len(tests)} tests passed")
    if faults:
        say(output[-3000:])
    return faults


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
    stages: dict[Stage, list[Job]],
    bench: Bench,
    writer: ResultWriter,
    clock: Clock,
    faults: dict[tuple[str, str, str], str],
    smoke: bool,
) -> None:
    """All stages, ops and codec.

    Args:
        faults: what :func:`parity_faults` gave.
        smoke: few cases of the codec.
    """

    def measured(job: Job) -> Row:
        return measured_row(*job, bench, faults, clock.limit(job[1]))

    def measure_one(job: Job) -> None:
        announce(writer.add(measured(job)), clock)

    def measure_again(job: Job) -> None:
        first = writer.get(row_of(*job, bench).key)
        if first and first.status == OK:
            repeat = measured(job)
            if not repeat.is_left_out:
                announce(writer.add(first.confirmed_by(repeat) if repeat.status == OK else repeat), clock)

    left_out = []
    for stage, jobs in stages.items():
        part = clock.part(COMPILE_SHARE) if stage is Stage.COMPILE else clock
        if stage in CODEC_PROVIDERS:
            measure_codec(CODEC_PROVIDERS[stage], bench, writer, part, faults, smoke)
        if stage is Stage.REPEAT:
            run_jobs(jobs, measure_again, clock)
        elif stage is Stage.REST:
            left_out = run_jobs([*left_out, *jobs], measure_one, clock)
        else:
            left_out += run_jobs(jobs, measure_one, part)
    writer.extend(row_of(*job, bench, "skipped: time budget") for job in left_out)


def measure_codec(
    names: Iterable[str],
    bench: Bench,
    writer: ResultWriter,
    clock: Clock,
    faults: dict[tuple[str, str, str], str],
    smoke: bool,
) -> None:
    """End to end by the providers of these names, within a share of the time that is left."""
    ceilings = {dtype_name(dtype): value for dtype, value in bench.ceilings.items()}
    seconds = CODEC_SECONDS_SMOKE if smoke else CODEC_SECONDS if math.isfinite(clock.seconds) else CODEC_SECONDS_FULL
    wrong = {op: status for (op, _, _), status in faults.items() if op in ("encode", "decode")}
    benchmark = CodecBenchmark(bench.device, lambda dtype, threads: ceilings.get(dtype), seconds, wrong)
    cases = quick_cases(bench.device, [bench.threads])[:4] if smoke else full_cases(bench.device, [bench.threads])
    run_cases(
        [case for case in cases if case.provider in names],
        benchmark,
        lambda row: announce(writer.add(row), clock),
        seconds_budget=clock.part(CODEC_SHARE).left,
    )


def announce(row: Row, clock: Clock) -> None:
    """One line of progress."""
    timing = row.kernel or row.call
    figure = f"{timing.p50:.4f} ms{' (noisy)' if timing.noisy else ''}" if timing else row.status
    say(f"{clock.spent:5.0f} s  {row.op} {row.case} {row.dtype} {row.direction}, {row.provider}: {figure}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- command line


def main(arguments: list[str] | None = None, start: float | None = None) -> int:
    """Measure; returns the exit status.

    Args:
        start: of the process, by ``time.monotonic``; the limit of time counts from there.
    """
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
    seconds = math.inf if options.full else options.seconds or (SMOKE_SECONDS if options.smoke else SECONDS)
    where = provenance(device)
    writer = ResultWriter(options.output or result_path(RESULTS, where), where)
    signal.signal(signal.SIGTERM, _interrupt)
    status = 0
    try:
        run(device, writer, Clock(seconds, start), options)
    except KeyboardInterrupt:
        status = 130
        say("interrupted: what was measured is kept")
    print("\n".join([str(writer.path), *behind(writer.rows), "", table(writer.rows)]))
    return status


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


def run(device: torch.device, writer: ResultWriter, clock: Clock, options: argparse.Namespace) -> None:
    """Check, then measure."""
    is_gpu = device.type == "cuda"
    find_kernels()
    card.use_ieee_float32()
    if is_gpu and device.index is not None:
        torch.cuda.set_device(device)  # streams and graphs are made on the current one
    faults = parity_faults(min(PARITY_SHARE * clock.left, 3600.0), device) if is_gpu else {}
    sizes = card.SMOKE if options.smoke else card.GPU if is_gpu else card.CPU
    ceilings = card.measure_card(device, sizes, writer.add, DTYPES if is_gpu else DTYPES[:1])
    bound_bytes = torch.cuda.mem_get_info(device)[0] // 2 if is_gpu else 2**31
    bench = Bench(device, ceilings, bound_bytes, 0.02 if options.smoke else 0.15)
    stages = jobs_by_stage(selected_cases(device, options.smoke, options.full), options.full or options.smoke)
    measure_all(stages, bench, writer, clock, faults, options.smoke)


if __name__ == "__main__":
    sys.exit(main(start=STARTED))
