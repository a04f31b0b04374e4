"""Other programs that silk_fast runs: speech synthesisers and codecs."""

import subprocess
from collections.abc import Sequence

from silk_fast.errors import SilkAudioError


def run_program(command: Sequence[str], data: bytes = b"", expected: str = "speech", seconds: float = 120) -> bytes:
    """Run a program that must succeed; returns its standard output.

    Args:
        command: program and arguments.
        data: for its standard input.
        expected: what it is run for, in the words of the error.
        seconds: that it may take.

    Raises:
        SilkAudioError: it is missing, fails or takes too long; the message has the last line of its complaint.
    """
    try:
        return subprocess.run(command, input=data, capture_output=True, check=True, timeout=seconds).stdout
    except subprocess.CalledProcessError as error:
        complaint = error.stderr.decode(errors="replace").strip().splitlines()
        reason = complaint[-1] if complaint else f"status {error.returncode}"
    except (subprocess.SubprocessError, OSError) as error:
        reason = str(error)
    raise SilkAudioError(f"{' '.join(command[:4])} failed, expected {expected}: {reason}")
