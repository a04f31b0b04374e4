"""Programs and packages that some tests need: a test without them is skipped, and says what to install."""

import shutil
from pathlib import Path

import pytest

from silk_fast.corpus.engines import lacking_of_festival
from silk_fast.corpus.voices import HELDOUT_VARIANTS, PACKAGES, TRAIN_VARIANTS
from silk_fast.evaluation.anchors import ANCHORS

DEBIAN = {
    **PACKAGES,
    **{program: anchor.package for anchor in ANCHORS for program in anchor.programs},
    "g++": "g++",  # of torch.compile on a CPU
    "chromium": "chromium",  # that opens the page of the server
    "gcc": "gcc",  # of the C library
    "objdump": "binutils",
    "qemu-x86_64": "qemu-user",  # other processors
}
"""Program to the Debian packages that hold it."""


def absence(*programs: str) -> str:
    """Say which programs are not there and what to install; empty if all are."""
    missing = [program for program in programs if shutil.which(program) is None]
    packages = " ".join(dict.fromkeys(DEBIAN[program] for program in missing))
    return f"no {' and '.join(missing)}: apt-get install {packages}" if missing else ""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Mark a test that is skipped where a program is missing."""
    return pytest.mark.skipif(bool(absence(*programs)), reason=absence(*programs))


def needs_festival() -> pytest.MarkDecorator:
    """Mark a test that is skipped where Festival or one of its voices is missing."""
    lacking = lacking_of_festival()
    return pytest.mark.skipif(bool(lacking), reason=f"{lacking} missing: apt-get install {DEBIAN['festival']}")


# ---------------------------------------------------------------- stand-ins

ESPEAK = """#!{python} -IS
import sys, zlib
if sys.argv[1] == "--voices=variant":
    print("{variants}")
elif sys.argv[1] == "--version":
    print("eSpeak NG text-to-speech: stand-in  Data at: nowhere")
else:
    arguments = dict(zip(sys.argv[1:-2:2], sys.argv[2:-2:2]))
    period = zlib.crc32(repr(sys.argv).encode()).to_bytes(4, "little") * (30 + int(arguments["-p"]))
    n_bytes = 2 * int(22050 * 60 / float(arguments["-s"]) * len(sys.argv[-1].split()) * 1.4)
    samples = (period * (n_bytes // len(period) + 1))[:n_bytes]
    sizes = [(n_bytes + 36, 4), (16, 4), (1, 2), (1, 2), (22050, 4), (44100, 4), (2, 2), (16, 2), (n_bytes, 4)]
    riff, *format, data = [size.to_bytes(n, "little") for size, n in sizes]
    sys.stdout.buffer.write(b"RIFF" + riff + b"WAVEfmt " + b"".join(format) + b"data" + data + samples)
"""


def write_espeak(folder: Path, python: str) -> None:
    """Write a program ``espeak-ng`` that has all variants, and buzzes for as long as it would speak.

    The sound is a function of the arguments: a period of random bytes, longer for a higher ``-p``.
    """
    variants = "\\n".join(f"!v/{variant}" for variant in (*TRAIN_VARIANTS, *HELDOUT_VARIANTS))
    program = folder / "espeak-ng"
    program.write_text(ESPEAK.format(python=python, variants=variants))
    program.chmod(0o755)
