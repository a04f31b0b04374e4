"""``silk bench``: how fast this machine encodes and decodes."""

import argparse
import os
from collections.abc import Callable

from silk_fast.cli.console import Commands, Console
from silk_fast.cli.files import check_target
from silk_fast.cli.transcode import pick_device
from silk_fast.config import PRESETS

QUICK_SECONDS = 45.0
FULL_SECONDS = 900.0


def run_bench(arguments: argparse.Namespace, console: Console) -> int:
    """Measure, and print a table or one JSON object; 1 if a provider failed."""
    from dataclasses import asdict, replace

    from silk_fast.benchmark.codec import CodecBenchmark, full_cases, quick_cases, run_cases, table
    from silk_fast.benchmark.rows import ResultWriter, provenance

    if arguments.output:
        check_target("-", arguments.output, arguments.force)
    device, full = pick_device(arguments), arguments.full
    where = provenance(device)
    writer = ResultWriter(arguments.output, where) if arguments.output else None
    rows = []
    threads = _thread_counts(arguments, device)
    cases = (full_cases if full else quick_cases)(device, threads, arguments.preset)

    def started(case) -> None:
        threads = f", {case.threads} threads" if case.threads else ""
        i_case = sum(row.section == "codec" for row in rows)
        console.notice(f"[{i_case + 1}/{len(cases)}] {case.op}, {case.name}, {case.provider}{threads}")

    def add(row):
        rows.append(writer.add(row) if writer else replace(row, **asdict(where)))
        return rows[-1]

    console.notice(f"{where.device}, torch {where.torch}, commit {where.commit}")
    ceilings = _ceilings(device, threads, add)
    benchmark = CodecBenchmark(device, lambda dtype, threads: ceilings[threads][dtype], 2.0 if full else 1.0)
    budget = arguments.budget or (FULL_SECONDS if full else QUICK_SECONDS)
    run_cases(cases, benchmark, add, seconds_budget=budget, memory=True, started=started)
    console.result({"rows": [asdict(row) for row in rows]}, table([row for row in rows if row.section == "codec"]))
    return 1 if any(row.status.startswith("failed") for row in rows) else 0


def _thread_counts(arguments: argparse.Namespace, device: str) -> list[int | None]:
    import torch

    if device != "cpu":
        return [None]
    if arguments.threads or not arguments.full:
        return [torch.get_num_threads()]
    return sorted({1, os.cpu_count() or 1})


def _ceilings(device: str, thread_counts: list, add: Callable) -> dict:
    """What this machine reaches, by the number of threads and the name of the dtype."""
    import torch

    from silk_fast.benchmark import card
    from silk_fast.benchmark.rows import dtype_name

    on_cpu, before, found = device == "cpu", torch.get_num_threads(), {}
    dtypes = [torch.float32] if on_cpu else [torch.float32, torch.float16, torch.bfloat16]
    for threads in thread_counts:
        torch.set_num_threads(threads or before)
        measured = card.measure_card(torch.device(device), card.CPU if on_cpu else card.GPU, add, dtypes)
        found[threads] = {dtype_name(dtype): ceilings for dtype, ceilings in measured.items()}
    torch.set_num_threads(before)
    return found


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds > 0, got {text!r}")
    return number


def add_commands(commands: Commands) -> None:
    description = "Measure how fast this machine encodes and decodes, and in how much memory."
    bench = commands.add("bench", run_bench, description, [commands.device, commands.common])
    bench.add_argument("--preset", choices=sorted(PRESETS), default="small", help="codec (default: %(default)s)")
    bench.add_argument("--full", action="store_true", help="every provider, batches, and 1 s to 1 h of audio")
    limits = f"{QUICK_SECONDS:g}, with --full {FULL_SECONDS:g}"
    bench.add_argument(
        "--budget", type=_seconds, metavar="SECONDS", help=f"skip what would take longer (default: {limits})"
    )
    bench.add_argument("-o", "--output", metavar="JSON", help="write the rows, each as soon as it is measured")
    bench.add_argument("-f", "--force", action="store_true", help="overwrite an existing file")
