"""``silk train corpus`` and ``silk train recordings``: make a corpus of synthetic or recorded speech."""

import argparse
import os

from silk_fast.cli.console import Commands, Console, hours, number, positive


def add_corpus_command(subparsers: argparse._SubParsersAction, commands: Commands) -> None:
    """Add ``corpus`` to the sub-commands of ``silk train``."""
    description = "Make a speech corpus with eSpeak NG, Flite and Festival, or go on with one."
    command = subparsers.add_parser("corpus", help=description, description=description, parents=[commands.common])
    command.set_defaults(run=run_corpus)
    command.add_argument("folder", metavar="FOLDER", help="where the corpus is made or continued")
    command.add_argument("--hours", type=hours, default=10.0, help="hours of speech (default: %(default)s)")
    command.add_argument("--seed", type=_seed, default=0, help="decides every clip (default: %(default)s)")
    command.add_argument("--workers", type=positive, default=os.cpu_count(), help="processes (default: all cores)")
    command.add_argument("--languages", nargs="+", metavar="LANGUAGE", help="such as en de (default: all there are)")


def add_recordings_command(subparsers: argparse._SubParsersAction, commands: Commands) -> None:
    """Add ``recordings`` to the sub-commands of ``silk train``."""
    description = "Make a speech corpus of recorded people, from the packages of Debian that are installed."
    command = subparsers.add_parser("recordings", help=description, description=description, parents=[commands.common])
    command.set_defaults(run=run_recordings)
    command.add_argument("folder", metavar="FOLDER", help="where the corpus is made")
    versions = "of every clip to train on: one as it is, the others varied (default: %(default)s)"
    command.add_argument("--versions", type=positive, default=1, help=versions)
    command.add_argument("--root", default="/usr/share", help="where packages have their data (default: %(default)s)")


def run_recordings(arguments: argparse.Namespace, console: Console) -> int:
    """Make a corpus of what is installed; returns the exit status."""
    from silk_fast.corpus.recorded import make_recorded_corpus

    with console.progress(os.path.basename(os.path.normpath(arguments.folder))) as bar:
        bar.unit, bar.unit_scale = " recordings", False

        def progress(n_done: float, n_total: float) -> None:
            bar.total = n_total
            bar.update(n_done - bar.n)

        summary = make_recorded_corpus(arguments.folder, arguments.root, arguments.versions, progress, console.notice)
    _tell(arguments.folder, summary, console)
    return 0


def run_corpus(arguments: argparse.Namespace, console: Console) -> int:
    """Make the corpus that the arguments describe; returns the exit status."""
    from silk_fast.corpus.make import make_corpus

    with console.progress(os.path.basename(os.path.normpath(arguments.folder))) as bar:

        def progress(n_done: float, n_total: float) -> None:
            bar.total = n_total
            bar.update(n_done - bar.n)

        summary = make_corpus(
            arguments.folder,
            arguments.hours,
            arguments.seed,
            arguments.workers,
            arguments.languages,
            progress,
            console.notice,
        )
    _tell(arguments.folder, summary, console)
    return 0


def _tell(folder: str, summary: dict, console: Console) -> None:
    lines = [f"{summary['clips']} clips, {summary['hours']:.2f} h in {folder}"]
    for split, values in summary["splits"].items():
        share = f"{values['clips']} clips, {values['hours']:.2f} h, {len(values['voices'])} voices"
        lines.append(f"{split:>18}  {share}, {' '.join(values['languages'])}")
    console.result({"folder": folder, **summary}, lines)


def _seed(text: str) -> int:
    return number(text, int, lambda seed: seed >= 0, "a whole number >= 0")
