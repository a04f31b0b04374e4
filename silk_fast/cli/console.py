"""What every command shares: where messages go, and the arguments they have in common."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from silk_fast.arguments import LARGEST_RATE
from silk_fast.cli.files import is_standard_output
from silk_fast.errors import SilkFileError, SilkInputError
from silk_fast.files import cannot_write, input_name, printable

MODEL = "silk-small-24khz"


class Console:
    """Where messages go: progress and notices to stderr unless quiet, results to stdout."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.quiet = arguments.quiet
        self.json = arguments.json

    def notice(self, text: str) -> None:
        """Write one line to stderr, unless quiet."""
        if not self.quiet:
            write_message(text)

    def error(self, text: str) -> None:
        """Write one line to stderr."""
        write_message(text)

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
            _print(json.dumps(_finite(values), indent=2, allow_nan=False))
        else:
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            for line in map(printable, lines):
                _print(line.encode(encoding, "backslashreplace").decode(encoding))

    def progress(self, label: str) -> Any:
        """Make a bar of ``tqdm`` in seconds of audio with rate and remaining time, shown on a terminal only."""
        from tqdm import tqdm

        hidden = True if self.quiet or sys.stderr is None else None  # None: shown on a terminal
        return tqdm(desc=label, unit=" s", unit_scale=True, leave=False, disable=hidden)


def write_message(text: str) -> None:
    """Write one line to stderr, above the bars of progress; nothing where it is closed or full."""
    from tqdm import tqdm

    if sys.stderr is not None:
        try:
            tqdm.write(printable(f"silk: {text}".replace("\n", " ")), file=sys.stderr)
        except OSError:
            silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Let what is written to a stream that failed go nowhere, or the interpreter would try it again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _print(text: str) -> None:
    if sys.stdout is None:
        raise SilkFileError("standard output: cannot be written: it is closed")
    try:
        print(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write("standard output", error) from error


def _finite(value: Any) -> Any:
    """Put None, which JSON can write, for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def message_of(error: BaseException, source: str) -> str:
    """Say what went wrong and, if the error does not begin with it, with which file."""
    name, text = input_name(source), str(error)
    if isinstance(error, OSError):
        text = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
    return text if text.startswith(f"{name}: ") else f"{name}: {text}"


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


def number(text: str, kind: type, is_valid: Callable[[Any], bool], expected: str) -> Any:
    """Parse a number.

    Raises:
        argparse.ArgumentTypeError: it is none, or not valid.
    """
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not is_valid(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value


def hours(text: str) -> float:
    """Parse a number of hours.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    return number(text, float, lambda value: 0 < value < math.inf, "a number of hours > 0")


def model_of(arguments: argparse.Namespace) -> str:
    """Give the name of the model that the arguments ask for."""
    return MODEL if arguments.model is None else arguments.model


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


def seconds(text: str) -> float:
    """Parse a number of seconds.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds > 0, got {text!r}")
    return number


class Commands:
    """The commands of a parser, and the arguments that several of them take.

    ``common``, ``model``, ``place`` and ``faster`` are argparse parents: messages, the model's name, where it runs, and
    how; ``device`` is a place with threads, and ``runs`` all but messages.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        self.common = argparse.ArgumentParser(add_help=False)
        self.common.add_argument("-q", "--quiet", action="store_true", help="print errors only")
        self.common.add_argument("--json", action="store_true", help="print one JSON object on standard output")
        self.model = argparse.ArgumentParser(add_help=False)
        self.model.add_argument("-m", "--model", help=f"bundled name, directory or hub id (default: {MODEL})")
        self.place = argparse.ArgumentParser(add_help=False)
        self.place.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto (default: %(default)s)")
        self.device = argparse.ArgumentParser(add_help=False, parents=[self.place])
        self.device.add_argument("--threads", type=thread_count, help="CPU threads (default: all cores)")
        self.faster = argparse.ArgumentParser(add_help=False)
        self.faster.add_argument(
            "--accelerate",
            action=argparse.BooleanOptionalAction,
            help="swap faster operations into the codec (default: on a CPU; the kernels for GPUs when asked for)",
        )
        self.runs = argparse.ArgumentParser(add_help=False, parents=[self.model, self.device, self.faster])

    def add(
        self, name: str, run: Callable, description: str, parents: list[argparse.ArgumentParser]
    ) -> argparse.ArgumentParser:
        """Add a command that calls ``run(arguments, console)`` for its exit status."""
        command = self.subparsers.add_parser(name, help=description, description=description, parents=parents)
        command.set_defaults(run=run)
        return command
