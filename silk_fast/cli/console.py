"""What every command shares: where messages go, and the arguments they have in common."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from silk_fast.arguments import LARGEST_RATE
from silk_fast.cli.files import is_standard_output
from silk_fast.errors import SilkInputError
from silk_fast.files import input_name, printable

MODEL = "silk-small-24khz"


class Console:
    """Where messages go: progress and notices to stderr unless quiet, results to stdout."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.quiet = arguments.quiet
        self.json = arguments.json

    def notice(self, text: str) -> None:
        """Write one line to stderr, unless quiet."""
        if not self.quiet:
            self._stderr(text)

    def error(self, text: str) -> None:
        """Write one line to stderr."""
        self._stderr(text)

    def _stderr(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(printable(f"silk: {text}".replace("\n", " ")), file=sys.stderr)

    def check_output(self, output: str | None) -> None:
        """Raise SilkInputError if a file and one JSON object would both go to standard output."""
        if self.json and is_standard_output(output):
            raise SilkInputError("--json and the output file cannot both go to standard output")

    def result(self, values: dict[str, Any], lines: Iterable[str], output: str | None = None) -> None:
        """Print ``values`` as one JSON object, or ``lines``; to stderr where ``output`` went to standard output."""
        if is_standard_output(output):
            for line in lines:
                self.notice(line)
        elif self.json:
            print(json.dumps(values, indent=2, allow_nan=True))
        else:
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            for line in map(printable, lines):
                print(line.encode(encoding, "backslashreplace").decode(encoding))

    def progress(self, label: str) -> Any:
        """Make a bar of ``tqdm`` in seconds of audio with rate and remaining time, shown on a terminal only."""
        from tqdm import tqdm

        return tqdm(desc=label, unit=" s", unit_scale=True, leave=False, disable=True if self.quiet else None)


def message_of(error: BaseException, source: str) -> str:
    """Say what went wrong and, if the error does not, with which file."""
    name = input_name(source)
    if isinstance(error, OSError):
        return f"{error.filename or name}: {error.strerror or error}"
    text = str(error)
    return text if os.path.basename(name) in text else f"{name}: {text}"


def rounded(value: Any) -> Any:
    """Format a float with three decimals; leave anything else as it is."""
    return f"{value:.3f}" if isinstance(value, float) else value


def positive(text: str, most: int = 2**31 - 1) -> int:
    """Parse a whole number from 1 to ``most``.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    digits = text if text.isdecimal() else "0"
    if not digits.strip("0"):
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    if len(digits) > 10 or int(digits) > most:
        raise argparse.ArgumentTypeError(f"expected a whole number <= {most}, got {text[:20]!r}")
    return int(digits)


def thread_count(text: str) -> int:
    """Parse a number of threads; beyond what a process can have, starting them would end it.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    return positive(text, 1024)


def sample_rate(text: str) -> int:
    """Parse a number of samples per second.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    return positive(text, LARGEST_RATE)


class Commands:
    """The commands of a parser, and the arguments that several of them take.

    ``common``, ``model`` and ``runs`` are argparse parents: messages, the model's name, where and how to run it.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        self.common = argparse.ArgumentParser(add_help=False)
        self.common.add_argument("-q", "--quiet", action="store_true", help="print errors only")
        self.common.add_argument("--json", action="store_true", help="print one JSON object on standard output")
        self.model = argparse.ArgumentParser(add_help=False)
        self.model.add_argument(
            "-m", "--model", default=MODEL, help="bundled name, directory or hub id (default: %(default)s)"
        )
        self.device = argparse.ArgumentParser(add_help=False)
        self.device.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto (default: %(default)s)")
        self.device.add_argument("--threads", type=thread_count, help="CPU threads (default: all cores)")
        self.runs = argparse.ArgumentParser(add_help=False, parents=[self.model, self.device])
        self.runs.add_argument(
            "--accelerate",
            action=argparse.BooleanOptionalAction,
            help="swap faster operations into the codec (default: on a CPU; the kernels for GPUs when asked for)",
        )

    def add(
        self, name: str, run: Callable, description: str, parents: list[argparse.ArgumentParser]
    ) -> argparse.ArgumentParser:
        """Add a command that calls ``run(arguments, console)`` for its exit status."""
        command = self.subparsers.add_parser(name, help=description, description=description, parents=parents)
        command.set_defaults(run=run)
        return command
