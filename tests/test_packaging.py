"""The wheel that users install: every package, the bundled files, the C library where there is a compiler."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from silk_fast import SilkConfig
from silk_fast.cli.console import MODEL
from tests.programs import needs

ROOT = Path(__file__).resolve().parents[1]


def copy_source(target: Path) -> Path:
    """Copy what is packed, so that building leaves nothing in the checkout."""
    for name in ("silk_fast", "kernels"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, target)
    return target


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    source, target = copy_source(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source]
    subprocess.run(command, check=True)
    return zipfile.ZipFile(next(target.glob("silk_fast-*.whl")))


@pytest.fixture(scope="module")
def wheel_names(wheel) -> set[str]:
    return set(wheel.namelist())


def test_wheel_holds_one_top_level_package(wheel_names):
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"silk_fast"}


def test_wheel_holds_every_module_and_bundled_file(wheel_names):
    modules = {path.relative_to(ROOT) for path in (ROOT / "silk_fast").rglob("*.py")}
    modules |= {Path("silk_fast") / path.relative_to(ROOT) for path in (ROOT / "kernels").rglob("*.py")}
    missing = {str(path) for path in modules} - wheel_names
    assert not missing
    model = [f"models/{MODEL}/{name}" for name in ("config.json", "model.safetensors", "training.json", "README.md")]
    page = [f"runtime/serve/page/{path.name}" for path in (ROOT / "silk_fast/runtime/serve/page").iterdir()]
    for name in ("assets/speech.flac", "assets/words/en.txt", *model, *page):
        assert f"silk_fast/{name}" in wheel_names


def is_of_c(name: str) -> bool:
    return Path(name).suffix in (".c", ".h")


@needs("gcc")
def test_wheel_holds_the_c_library_and_not_its_sources(wheel_names):
    libraries = [name for name in wheel_names if Path(name).suffix in (".so", ".dylib", ".pyd")]
    assert [name.split(".")[0] for name in libraries] == ["silk_fast/cpu/_library"]
    assert not any(is_of_c(name) for name in wheel_names)


def run_installed(code: str, folder: Path) -> str:
    """What code prints where the package in ``folder`` is the one that is imported."""
    command = [sys.executable, "-c", f"import silk_fast; print(silk_fast.__file__); {code}"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    result = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    path, *printed = result.stdout.splitlines()
    assert Path(path).is_relative_to(folder)
    return "\n".join(printed)


@pytest.mark.slow
@needs("gcc")
def test_library_of_the_wheel_computes(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = "import torch; from silk_fast.cpu.ops import bias_silu; print(bias_silu(torch.ones(3), torch.ones(3)))"
    assert run_installed(code, tmp_path) == "tensor([1.7616, 1.7616, 1.7616])"


@pytest.mark.slow
def test_source_distribution_holds_the_c_sources(tmp_path):
    source = copy_source(tmp_path / "source")
    subprocess.run([sys.executable, "setup.py", "-q", "sdist", "-d", tmp_path], cwd=source, check=True)
    with tarfile.open(next(tmp_path.glob("silk_fast-*.tar.gz"))) as archive:
        packed = {Path(*Path(name).parts[1:]) for name in archive.getnames() if is_of_c(name)}
    assert packed == {path.relative_to(ROOT) for path in (ROOT / "silk_fast" / "cpu").iterdir() if is_of_c(path.name)}


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["false", "/no/such/compiler"])
def test_without_a_compiler_installation_goes_on_and_says_so(compiler, tmp_path):
    source, target = copy_source(tmp_path / "source"), tmp_path / "target"
    options = ("--no-deps", "--no-build-isolation", "--target", target)
    command = [sys.executable, "-m", "pip", "install", "-v", *options, source]
    environment = os.environ | {"CC": compiler}
    log = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert log.returncode == 0, log.stdout
    said = [line.strip() for line in log.stdout.splitlines() if "was not built" in line]
    assert said == [
        "silk_fast.cpu._library was not built (it needs a C compiler): on a CPU, PyTorch's operations serve instead"
    ]
    code = "from silk_fast.cpu.library import why_not; print(why_not())"
    assert "was not built: install a C compiler" in run_installed(code, target)


def test_bundled_model_is_the_small_preset_with_40_ms_of_output_delay():
    text = (ROOT / "silk_fast" / "models" / MODEL / "config.json").read_text()
    assert SilkConfig.from_json(text) == SilkConfig.preset("small", output_delay=960)
