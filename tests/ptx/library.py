"""The machine of ``machine/``, compiled once for this processor into a cache folder."""

import ctypes
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "machine"
# No contraction and no unsafe mathematics: what PTX rounds is rounded.
FLAGS = ["-std=c++17", "-O2", "-ftree-vectorize", "-ffp-contract=off", "-fno-math-errno", "-fPIC"]
OWN_FLAGS = {"directed.cpp": ["-frounding-math"]}


class NoCompiler(RuntimeError):
    """There is no C++ compiler to build the machine with."""


def compiler() -> str | None:
    """The C++ compiler: ``$CXX``, or the first of c++, g++ and clang++ that is there."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")))), None)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "silk_fast" / "ptx"


@functools.cache
def library() -> ctypes.CDLL:
    """Load the machine, and compile it first where this version for this processor is not in the cache.

    Raises:
        NoCompiler: it must be compiled, and there is no compiler.
    """
    command = compiler()
    if command is None:
        raise NoCompiler("the PTX emulator needs a C++ compiler (c++, g++, clang++ or $CXX), and there is none")
    # What the compiler defines tells its version and the processor's features.
    defined = subprocess.run([command, "-march=native", "-dM", "-E", "-x", "c++", os.devnull], capture_output=True)
    flags = [*FLAGS, "-march=native"] if defined.returncode == 0 else FLAGS
    files = sorted([*SOURCES.glob("*.h"), *SOURCES.glob("*.cpp")])
    digest = hashlib.sha256(repr((flags, OWN_FLAGS)).encode() + defined.stdout)
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    path = cache_folder() / f"machine-{digest.hexdigest()[:16]}.so"
    if not path.exists():
        _build(command, flags, path)
    lib = ctypes.CDLL(str(path))
    lib.ptx_entry.restype = lib.ptx_program.restype = ctypes.c_void_p
    lib.ptx_finding_text.restype = ctypes.c_char_p
    return lib


def _build(command: str, flags: list[str], path: Path) -> None:
    """Compile to ``path``, which appears complete or not at all; of several processes one compiles, the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        with tempfile.TemporaryDirectory(dir=path.parent) as name:
            folder, objects = Path(name), []
            for source in sorted(SOURCES.glob("*.cpp")):
                objects.append(str(folder / f"{source.stem}.o"))
                own = OWN_FLAGS.get(source.name, [])
                subprocess.run([command, *flags, *own, "-c", str(source), "-o", objects[-1]], check=True)
            subprocess.run([command, "-shared", *objects, "-o", str(folder / path.name)], check=True)
            os.replace(folder / path.name, path)
