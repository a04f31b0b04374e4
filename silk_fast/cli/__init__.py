"""The ``silk`` command: arguments to calls, and results to lines a person or a machine reads.

Exit status: 0 when everything was done, 1 when something failed, 2 for wrong usage, 130 when
interrupted. Messages go to stderr, results to stdout where nothing else is written there.
"""

import argparse
import os
import signal
import sys

from silk_fast import __version__
from silk_fast.cli import bench, evaluate, inspect, train, transcode
from silk_fast.cli.console import Commands, Console, message_of
from silk_fast.errors import SilkError

COMMAND_MODULES = (transcode, inspect, bench, train, evaluate)


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


def main(argv: list[str] | None = None) -> int:
    """Run the ``silk`` command; returns its exit status."""
    arguments = build_parser().parse_args(argv)
    console = Console(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return arguments.run(arguments, console)
    except SilkError as error:
        console.error(str(error))
    except KeyboardInterrupt:
        console.error("interrupted; unfinished files were removed")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        console.error(message_of(error, "input/output"))
    return 1
