"""The ``silk`` command: arguments to calls, and results to lines a person or a machine reads.

Exit status: 0 when everything was done, 1 when something failed, 2 for wrong usage, 130 when
interrupted. Messages go to stderr, results to stdout where nothing else is written there.
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from silk_fast import __version__
from silk_fast.cli import bench, evaluate, inspect, serve, tokenize, train, transcode
from silk_fast.cli.console import Commands, Console, message_of, silence, write_message
from silk_fast.errors import SilkError, SilkInputError
from silk_fast.notices import warnings_to

COMMAND_MODULES = (transcode, tokenize, inspect, serve, bench, train, evaluate)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the ``silk`` command."""
    parser = argparse.ArgumentParser(prog="silk", description="Speech to 47.5 tokens a second, and back.")
    parser.add_argument("--version", action="version", version=f"silk {__version__}")
    commands = Commands(parser)
    for module in COMMAND_MODULES:
        module.add_commands(commands)
    return parser


def _terminate(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _standard_error() -> Iterator[None]:
    """Give a process whose stderr was closed, as by ``2>&-``, one that goes nowhere: no file may get its descriptor."""
    if sys.stderr is not None:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        yield


def _is_written(text: str = "") -> bool:
    """Write out ``text``, after what was printed; say so and tell False if that fails."""
    try:
        if sys.stdout is not None:
            if text:  # or a full device would fail for nothing
                sys.stdout.write(text)
            sys.stdout.flush()
    except OSError as error:
        silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            write_message(f"standard output: cannot be written: {error.strerror}")
        return False
    return True


def main(argv: list[str] | None = None) -> int:
    """Run the ``silk`` command; returns its exit status."""
    with _standard_error():
        shown = io.StringIO()  # argparse would pass over a write that fails
        try:
            with redirect_stdout(shown):
                arguments = build_parser().parse_args(argv)
        except SystemExit as end:
            raise SystemExit(end.code if _is_written(shown.getvalue()) else 1) from None
        for ending in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(ending) is not signal.SIG_IGN:  # as under nohup
                signal.signal(ending, _terminate)
        status = _run(arguments, Console(arguments))
        return status if _is_written() else status or 1


def _run(arguments: argparse.Namespace, console: Console) -> int:
    try:
        for value in vars(arguments).values():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and "\0" in text:
                    raise SilkInputError(f"{text}: no name has a NUL in it")
        with warnings_to(console.notice):
            return arguments.run(arguments, console)
    except SilkError as error:
        console.error(str(error))
    except KeyboardInterrupt:
        console.error("interrupted; unfinished files were removed")
        return 130
    except BrokenPipeError:
        pass
    except OSError as error:
        console.error(message_of(error, "input/output"))
    return 1
