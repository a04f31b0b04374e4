"""``silk tokenize``: a corpus to shards of tokens."""

import argparse
import os
import time
from dataclasses import asdict

from silk_fast.cli.console import Commands, Console, hours, model_of, positive
from silk_fast.cli.models import pick_device
from silk_fast.cli.transcode import add_codec_arguments, options_of_codec
from silk_fast.errors import SilkInputError
from silk_fast.files import printable


def run_tokenize(arguments: argparse.Namespace, console: Console) -> int:
    """Make the shards that the arguments describe, or go on with them; returns the exit status."""
    options = options_of_codec(arguments)
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise SilkInputError("silk tokenize needs the package pyarrow: pip install silk_fast[tokenize]") from error
    from silk_fast.runtime.tokenize.run import tokenize

    start = time.perf_counter()
    with console.progress(printable(os.path.basename(os.path.normpath(arguments.out)))) as bar:

        def progress(n_done: float, n_total: float) -> None:
            if bar.total is None:  # where a run that was stopped goes on
                bar.reset(n_total)
                bar.initial = bar.n = n_done
            bar.update(n_done - bar.n)

        summary = tokenize(
            arguments.source,
            arguments.out,
            codec=arguments.codec or "silk",
            weights=arguments.weights if arguments.codec else model_of(arguments),
            device=pick_device(arguments),
            accelerate=arguments.accelerate,
            options=options,
            unit_hours=arguments.unit_hours,
            max_hours=arguments.max_hours,
            workers=arguments.workers,
            readers=arguments.readers,
            to=arguments.to,
            merged=arguments.merge,
            engine=arguments.engine,
            progress=progress,
            notice=console.notice,
        )
    elapsed = time.perf_counter() - start
    for problem in summary.problems:
        console.error(f"{problem.id}: {problem.reason}")
    if n_more := summary.n_failed - len(summary.problems):
        console.error(f"{n_more} more without tokens, see {os.path.join(summary.out, 'errors-*.parquet')}")
    lines = [
        f"{summary.n_done} done, {summary.n_failed} failed, {summary.n_units} parts in {summary.out}",
        f"{summary.seconds / 3600:.3f} h in {elapsed:.1f} s, {summary.seconds / elapsed:.1f}x real time, "
        f"{summary.n_frames} frames; {summary.n_resumed} parts were there already",
    ]
    if summary.merged:
        lines.append(f"all of them in {summary.merged}")
    console.result({**asdict(summary), "elapsed_seconds": elapsed}, lines)
    return 1 if summary.n_failed else 0


def add_commands(commands: Commands) -> None:
    parents = [commands.model, commands.place, commands.faster, commands.common]
    description = "Make Parquet shards of the tokens of a corpus, or go on with them."
    command = commands.add("tokenize", run_tokenize, description, parents)
    command.set_defaults(threads=None)  # each worker has one
    command.add_argument("source", metavar="SRC", help="folder, .jsonl or .csv manifest, .tar archive, or .parquet")
    command.add_argument("out", metavar="OUT", help="folder of the shards, made or continued")
    add_codec_arguments(command, "of another library, not Silk")
    command.add_argument("--unit-hours", type=hours, default=1.0, help="of audio in a shard (default: %(default)s)")
    command.add_argument("--max-hours", type=hours, default=24.0, help="of one recording (default: %(default)s)")
    command.add_argument("--workers", type=positive, help="processes (default: one a core, or one a GPU)")
    command.add_argument("--readers", type=int, help="processes that read for one that encodes (default on a CPU: 0)")
    command.add_argument("--to", choices=("parquet", "webdataset"), default="parquet", help="kind of the shards")
    command.add_argument("--merge", action="store_true", help="write one Parquet file of all shards as well")
    command.add_argument("--engine", choices=("local", "ray"), default="local", help="who works (default: %(default)s)")
