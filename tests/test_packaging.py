"""The wheel that users install: every package, the bundled files, and no top-level ``kernels``."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from silk_fast import SilkConfig
from silk_fast.cli.console import MODEL

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> set[str]:
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("silk_fast", "kernels"):  # a copy, so that building leaves nothing in the checkout
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source]
    subprocess.run(command, check=True)
    return set(zipfile.ZipFile(next(target.glob("silk_fast-*.whl"))).namelist())


def test_wheel_holds_one_top_level_package(wheel_names):
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"silk_fast"}


def test_wheel_holds_every_module_and_bundled_file(wheel_names):
    modules = {path.relative_to(ROOT) for path in (ROOT / "silk_fast").rglob("*.py")}
    modules |= {Path("silk_fast") / path.relative_to(ROOT) for path in (ROOT / "kernels").rglob("*.py")}
    missing = {str(path) for path in modules} - wheel_names
    assert not missing
    model = [f"models/{MODEL}/{name}" for name in ("config.json", "model.safetensors", "training.json", "README.md")]
    for name in ("assets/speech.flac", "assets/words/en.txt", *model):
        assert f"silk_fast/{name}" in wheel_names


def test_bundled_model_is_the_small_preset_with_40_ms_of_output_delay():
    text = (ROOT / "silk_fast" / "models" / MODEL / "config.json").read_text()
    assert SilkConfig.from_json(text) == SilkConfig.preset("small", output_delay=960)
