"""Other builds and other processors: sanitizers, no AVX-512, no AVX at all."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from silk_fast.cpu import library
from tests.programs import needs
from tests.support import ROOT

x86_64_linux = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="a program of x86-64 Linux"
)


def build(folder: Path, flags: str) -> Path:
    """Build the library of these sources by ``setup.py``, with more flags of the compiler."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "silk_fast" / "cpu", folder / "silk_fast" / "cpu", ignore=ignored)
    for name in ("setup.py", "README.md"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, env=os.environ | {"CFLAGS": flags}, check=True)
    (path,) = (folder / "silk_fast" / "cpu").glob("_library*.so")
    return path


@pytest.mark.slow
@needs("gcc")
@pytest.mark.skipif(sys.platform != "linux", reason="preloads the sanitizers' runtime")
def test_sanitizers_find_nothing(tmp_path):
    path = build(tmp_path, "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer")
    runtimes = [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")
    ]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "SILK_TEST_LIBRARY": str(path),
    }
    tests = [ROOT / "tests" / "cpu" / name for name in ("test_ops.py", "test_fsq.py", "test_convolution.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *tests]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    assert re.search(r"^\d+ passed", result.stdout, re.MULTILINE)


@pytest.mark.skipif(bool(library.why_not()), reason=library.why_not())
@needs("objdump")
@x86_64_linux
@pytest.mark.parametrize("block", ["block_6_v4", "block_6_bf16", "block_3_v3"])
def test_a_vector_of_the_signal_is_loaded_once_for_all_channels(block):
    """Compilers like to load it with every product, which halves the speed: the loads are not aligned."""
    command = ["objdump", "-d", "--no-show-raw-insn", f"--disassemble={block}", str(library._path())]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    products = [line.partition(":")[2] for line in lines if re.search(r"\b(vfmadd\w+ps|vdpbf16ps)\b", line)]
    n_sums = 4 * int(block.split("_")[1])
    assert len(products) >= n_sums
    assert not [line for line in products if "(" in line]


PROGRAM = """
import array, ctypes, math, sys
library = ctypes.CDLL(sys.argv[1])
x = array.array("f", [i / 100 - 3 for i in range(777)])
y, one = array.array("f", bytes(4 * len(x))), array.array("f", [1.0])
level = library.silk_use_level(2)
addresses = [ctypes.c_void_p(a.buffer_info()[0]) for a in (x, one, one)]
sizes = [ctypes.c_int64(n) for n in (1, 1, len(x))]
library.silk_snake(*addresses, None, None, ctypes.c_void_p(y.buffer_info()[0]), *sizes, 0, 1)
assert max(abs(v + math.sin(v) ** 2 - w) for v, w in zip(x, y)) < 1e-6
print(level)
"""


@needs("qemu-x86_64")
@x86_64_linux
@pytest.mark.parametrize(("processor", "level"), [("Haswell", 1), ("Nehalem", 0)])
def test_the_installed_library_runs_on_other_processors(processor, level, built):
    command = ["qemu-x86_64", "-cpu", processor, os.path.realpath(sys.executable), "-IS", "-c", PROGRAM]
    result = subprocess.run([*command, str(library._path())], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == level


@needs("objdump")
@x86_64_linux
def test_vectors_are_used_where_the_processor_has_them_and_nowhere_else(built):
    """Loops of a level hold its registers, and whatever runs on every processor holds none of them."""
    command = ["objdump", "-d", "--no-show-raw-insn", str(library._path())]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name, code in re.findall(r"^[0-9a-f]+ <([^>]+)>:\n(.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL):
        found = re.search(r"(?:^|_)(v[134]|bf16|amx)(?:$|[._])", name)
        level = found[1] if found else "v1"
        assert "%tmm" not in code or level == "amx", name
        assert "%zmm" not in code or level in ("v4", "bf16", "amx"), name
        assert "%ymm" not in code or level in ("v3", "v4", "bf16", "amx"), name
        if level != "v1" and re.match(
            "plain|residual|bias_silu|gate|convolve|spectrum|overlap_add|block|activate", name
        ):
            assert ("%ymm" if level == "v3" else "%zmm") in code, name
