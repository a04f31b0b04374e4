"""``silk bench``: how fast this machine encodes and decodes."""

import argparse
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from silk_fast.cli.console import Commands, Console, seconds
from silk_fast.cli.files import check_suffix, check_target
from silk_fast.cli.models import pick_device
from silk_fast.config import PRESETS
from silk_fast.files import is_stream

if TYPE_CHECKING:
    from silk_fast.benchmark.rows import Row

QUICK_SECONDS = 45.0
FULL_SECONDS = 900.0


def run_bench(arguments: argparse.Namespace, console: Console) -> int:
    """Measure, and print a table or one JSON object; 1 if a provider failed."""
    from dataclasses import asdict

    import torch

    from silk_fast.benchmark import card, codec_cases
    from silk_fast.benchmark.provenance import provenance
    from silk_fast.benchmark.rows import ResultWriter
    from silk_fast.benchmark.runner import Bench, run_jobs

    console.check_output(arguments.output)
    if arguments.output:
        check_suffix(arguments.output, (".json",), "results", "")
        check_target([], arguments.output, arguments.force)
    device, full = torch.device(pick_device(arguments)), arguments.full
    where = provenance(device)
    streams = arguments.output is not None and is_stream(arguments.output)  # cannot be written anew after each row
    writer = ResultWriter(Path(arguments.output) if arguments.output and not streams else None, where)
    threads = _thread_counts(arguments, device.type)
    cases = (codec_cases.full_cases if full else codec_cases.quick_cases)(device, threads, arguments.preset)

    def started(case) -> None:
        threads = f", {case.threads} threads" if case.threads else ""
        i_case = sum(row.section == "codec" for row in writer.rows)
        console.notice(f"[{i_case + 1}/{len(cases)}] {case.op}, {case.name}, {case.provider}{threads}")

    console.notice(f"{where['device']}, torch {where['torch']}, commit {where['commit']}")
    ceilings = card.measure_ceilings(device, threads, writer.add)
    bench = Bench(device, ceilings, seconds=2.0 if full else 1.0, with_memory=True)
    budget = arguments.budget or (FULL_SECONDS if full else QUICK_SECONDS)
    run_jobs(cases, bench, writer.add, time.monotonic() + budget, started)
    if streams:
        writer.write(arguments.output)
    rows = writer.rows
    lines = table(row for row in rows if row.section == "codec")
    console.result({"rows": [asdict(row) for row in rows]}, lines, arguments.output)
    return 1 if any(row.status.startswith("failed") for row in rows) else 0


def _thread_counts(arguments: argparse.Namespace, kind: str) -> list[int | None]:
    import torch

    if kind != "cpu":
        return [None]
    if arguments.threads or not arguments.full:
        return [torch.get_num_threads()]
    return [*sorted({1, os.cpu_count() or 1})]


def table(rows: "Iterable[Row]") -> list[str]:
    """Lay out a short table for people: median, spread, seconds of audio per second, peak memory; ``~`` marks noise."""
    columns = f"{'dtype':<9}{'threads':>7}  {'provider':<12}{'ms':>10}  {'p20 .. p80':<20}{'x real time':>11}{'MB':>7}"
    lines = [f"{'':<46}{columns}"]
    for row in rows:
        label = f"{row.op}, {row.case.split(', ', 1)[-1]}"
        head = f"{label:<46}{row.dtype:<9}{row.threads or '-':>7}  {row.provider:<12}"
        if row.call is None:
            lines.append(f"{head}  {row.status}")
            continue
        spread = f"{row.call.p20:.4g} .. {row.call.p80:.4g}{' ~' * row.call.noisy}"
        memory = f"{row.peak_bytes / 1e6:.0f}" if row.peak_bytes else "-"
        lines.append(f"{head}{row.call.p50:>10.3f}  {spread:<20}{row.realtime:>11.1f}{memory:>7}")
    return lines


def add_commands(commands: Commands) -> None:
    """Add ``bench`` to the command line."""
    description = "Measure how fast this machine encodes and decodes, and in how much memory."
    bench = commands.add("bench", run_bench, description, [commands.device, commands.common])
    bench.add_argument("--preset", choices=sorted(PRESETS), default="small", help="codec (default: %(default)s)")
    bench.add_argument("--full", action="store_true", help="every provider, batches, and 1 s to 1 h of audio")
    limits = f"{QUICK_SECONDS:g}, with --full {FULL_SECONDS:g}"
    bench.add_argument(
        "--budget", type=seconds, metavar="SECONDS", help=f"skip what would take longer (default: {limits})"
    )
    bench.add_argument("-o", "--output", metavar="JSON", help="write the rows, each as soon as it is measured")
    bench.add_argument("-f", "--force", action="store_true", help="overwrite an existing file")
