"""Who may import whom, and what importing does."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KERNELS = sorted((ROOT / "kernels").rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Names of every module that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.relative_to(ROOT / "kernels").as_posix())
def test_kernels_import_torch_and_triton_and_what_serves_a_cpu(path):
    allowed = ("torch", "triton", "silk_fast.kernels", ".", "silk_fast.cpu.registered")  # the last inside a function
    standard = ("collections", "contextlib", "dataclasses", "functools", "math", "typing", "itertools", "enum")
    wrong = {
        name for name in imported_modules(path) if not name.startswith(allowed) and name.split(".")[0] not in standard
    }
    assert not wrong


@pytest.mark.parametrize("path", sorted((ROOT / "silk_fast" / "reference").glob("*.py")), ids=lambda path: path.name)
def test_reference_never_imports_kernels(path):
    assert not {name for name in imported_modules(path) if "kernels" in name or "triton" in name}


def test_no_pickle_anywhere():
    for path in (*(ROOT / "silk_fast").rglob("*.py"), *KERNELS):
        assert "pickle" not in imported_modules(path)
        assert "torch.load(" not in path.read_text()


def test_no_modules_import_each_other_in_a_circle():
    """Not for a type checker and not within a function either; only ``silk_fast`` itself names what it holds."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.glob("silk_fast/**/*.py")}
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    del paths["silk_fast"]

    def imports_of(path: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                for name in (f"{node.module}.{alias.name}" for alias in node.names):
                    yield name if name in paths else node.module
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)

    TopologicalSorter({name: imports_of(path) for name, path in paths.items()}).prepare()  # CycleError names them


def test_the_folder_of_kernels_registers_nothing_under_its_own_name():
    """transformers imports whatever is called ``kernels``; from a checkout it finds the folder."""
    code = "import kernels, sys; assert not [name for name in sys.modules if name.startswith('kernels.')]"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
