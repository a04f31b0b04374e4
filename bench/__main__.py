"""Check the kernels, then measure them and their rivals, on this machine.

    python -m bench                       # on a GPU, inside 8 minutes: make bench-gpu
    python -m bench --device cpu          # make bench
    python -m bench --full                # on a GPU: every shape and dtype by every provider, without a limit

Needs torch, triton and numpy, and no installation of silk_fast. Rows are written to
``bench/results/<device>-<date>-<commit>.json`` as they come, the most telling first; what time does not suffice for
is a row that says so. What is behind comes last.
"""

import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path

import torch

from bench import STARTED, parity
from bench.checkout import find_kernels
from bench.selections import selected_jobs
from bench.summary import codec_section, libraries_section, losses_section, ops_section
from silk_fast.benchmark import card
from silk_fast.benchmark.provenance import provenance, result_path
from silk_fast.benchmark.rows import OK, ResultWriter, Row
from silk_fast.benchmark.runner import Bench, run_jobs

RESULTS = Path(__file__).with_name("results")
SECONDS = {"cuda": 470.0, "cpu": 900.0}  # of 8 minutes; what is under way then ends
REPEAT_SECONDS = {"cuda": 0.15, "cpu": 0.6}  # how long one call is repeated
PARITY_SHARE = 0.35  # of the time, at most


def main(arguments: list[str] | None = None, start: float | None = None) -> int:
    """Measure; returns the exit status.

    Args:
        start: of the process, by ``time.monotonic``; the limit of time counts from there.
    """
    parser = argparse.ArgumentParser(prog="bench", description="Check and measure every kernel and its rivals.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: %(default)s)")
    limits = ", ".join(f"{seconds:g} on {kind}" for kind, seconds in SECONDS.items())
    parser.add_argument("--seconds", type=float, help=f"for everything (default: {limits})")
    parser.add_argument("--full", action="store_true", help="every shape and dtype, without a limit of time")
    parser.add_argument("-o", "--output", type=Path, help="result file (default: in bench/results)")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no NVIDIA GPU; on a CPU: make bench, or --device cpu")
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("unset TRITON_INTERPRET: the speed of interpreted kernels means nothing")
    where = provenance(device)
    writer = ResultWriter(options.output or result_path(RESULTS, where), where)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = 0
    try:
        run(device, writer, options, time.monotonic() if start is None else start)
    except KeyboardInterrupt:
        status = 130
        say("interrupted: what was measured is kept")
    n_missing = sum(row.status != OK for row in writer.rows)
    last = f"{writer.path}: {len(writer.rows)} rows, {n_missing} of which have no figure, and say why"
    sections = [part for section in (codec_section, libraries_section, ops_section) for part in section(writer.rows)]
    print("\n".join([*sections, *losses_section(writer.rows, 40), last]))
    return status


def run(device: torch.device, writer: ResultWriter, options: argparse.Namespace, start: float) -> None:
    """Check, then measure."""
    seconds = options.seconds or (math.inf if options.full else SECONDS[device.type])
    is_gpu, wrong = device.type == "cuda", {}
    find_kernels()
    if device.index is not None:
        torch.cuda.set_device(device)  # streams and graphs are made on the current one
    if is_gpu:
        wrong = parity.faults(device, min(PARITY_SHARE * seconds, 3600.0))
        say("\n".join([f"parity: {len(wrong)} of our results are not known to be right", *sorted(set(wrong.values()))]))

    def add(*rows: Row) -> None:
        writer.add(*rows)
        announce(rows[0], time.monotonic() - start)  # many at once are those that there was no time for

    jobs = selected_jobs(device, options.full)
    ceilings = card.measure_ceilings(device, dict.fromkeys(job.threads for job in jobs), add)
    bench = Bench(device, ceilings, REPEAT_SECONDS[device.type], wrong, with_memory=not is_gpu)
    run_jobs(jobs, bench, add, start + seconds)


def announce(row: Row, spent: float) -> None:
    """Tell of one row."""
    figure = f"{row.timing.p50:.4f} ms{' (noisy)' * row.timing.noisy}" if row.status == OK else row.status
    say(f"{spent:5.0f} s  {row.op} {row.case} {row.dtype} {row.direction}, {row.provider}: {figure}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(start=STARTED))
