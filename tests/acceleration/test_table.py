"""The table of replacements: how a library registers its modules, and which versions of it are left alone."""

import copy
import pickle
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from silk_fast import SilkInputError, accelerate_, restore_
from silk_fast.acceleration import Form, Library, Replacement, known_ops, register, table
from silk_fast.acceleration.cpu_forms import CpuSnake
from silk_fast.reference.layers import Snake
from tests.kernels.support import DEVICE

LIBRARY = """
import torch

class Activation(torch.nn.Module):
    def forward(self, x):
        return x + torch.sin(x).square()

class Codec(torch.nn.Sequential):
    pass
"""

FORMS = """
import torch
from toycodec import Activation
from silk_fast.acceleration import FollowsPolicy, Form

class InPlaceActivation(Form, Activation):
    def forward(self, x):
        return torch.sin(x).square_().add_(x)

class FusedActivation(FollowsPolicy, Activation):
    def forward(self, x):
        return super().forward(x.to(self.policy.dtype))
"""

REGISTRATION = """
from silk_fast.acceleration import Library, Replacement, register

def replacements():
    from toycodec import Activation
    import toycodec_forms as forms
    return [Replacement(Activation, "toy", lambda: forms.FusedActivation, forms.InPlaceActivation)]

register(replacements, Library("toy-codec", "toycodec", tested=("1.2.1", "1.4")))
"""


@pytest.fixture
def own_table(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(table, "_entered", dict(table._entered))
    monkeypatch.setattr(table, "_waiting", list(table._waiting))


@pytest.fixture
def install(own_table, tmp_path: Path, monkeypatch):
    """Install a toy library in a version, None for one without metadata, and the file that registers it."""

    def install(version: str | None) -> None:
        for name, text in {"toycodec": LIBRARY, "toycodec_forms": FORMS, "toycodec_registration": REGISTRATION}.items():
            monkeypatch.delitem(sys.modules, name, raising=False)
            (tmp_path / f"{name}.py").write_text(text)
        if version is not None:
            about = tmp_path / f"toy_codec-{version}.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: toy-codec\nVersion: {version}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        __import__("toycodec_registration")

    yield install
    for name in ("toycodec", "toycodec_forms", "toycodec_registration"):
        sys.modules.pop(name, None)


def make_model() -> nn.Module:
    """A toy codec with a weight-normed convolution, beside a Snake of ours."""
    import toycodec

    torch.manual_seed(0)
    convolution = parametrizations.weight_norm(nn.Conv1d(2, 2, 3))
    codec = toycodec.Codec(toycodec.Activation(), convolution)
    return nn.ModuleDict({"codec": codec, "snake": Snake(2)}).to(DEVICE)


# ---------------------------------------------------------------- another library


def test_modules_of_another_library_are_swapped_by_class_and_restored(install):
    install("1.3.0")
    model, x = make_model(), torch.randn(1, 2, 20, device=DEVICE)
    expected = model["codec"](x)
    report = accelerate_(model)
    assert report.swapped == {
        "codec.0": "FusedActivation",
        "codec.1.parametrizations.weight": "FoldedWeight",
        "snake": "FusedSnake",
    }
    assert not report.refused
    torch.testing.assert_close(model["codec"](x), expected)
    accelerate_(model, ["toy"], dtype=torch.float16)
    assert model["codec"][0](x).dtype == torch.float16
    activation = pickle.loads(pickle.dumps(copy.deepcopy(model["codec"][0])))
    assert activation(x).dtype == torch.float16
    restore_(model)
    assert type(model["codec"][0]).__name__ == "Activation"
    assert not vars(model["codec"][0]).keys() & {"policy", "_folds"}
    assert torch.equal(model["codec"](x), expected)


def test_without_kernels_the_fallback_of_another_library_serves(install, monkeypatch):
    install("1.4.7.post1+cu126")
    model = make_model()
    monkeypatch.setattr("silk_fast.acceleration.swap._why_no_kernels", lambda model: "no card")
    report = accelerate_(model, "toy")
    assert report.swapped == {"codec.0": "InPlaceActivation"}
    assert report.refused == {"codec.0": "no card"}


UNTESTED = {
    "1.2.0": "toy-codec 1.2.0 is not a tested version; tested are 1.2.1 to 1.4",
    "1.4.0.dev3": "toy-codec 1.4.0.dev3 is not a tested version; tested are 1.2.1 to 1.4",
    "1.5": "toy-codec 1.5 is not a tested version; tested are 1.2.1 to 1.4",
    None: "the version of toy-codec is unknown; tested are 1.2.1 to 1.4",
}


@pytest.mark.parametrize("version", UNTESTED, ids=str)
def test_a_version_that_was_not_tested_is_left_alone_whole(install, version):
    """Not even the weight norm inside it is folded; what is not of that library is swapped."""
    install(version)
    model = make_model()
    report = accelerate_(model)
    assert report.swapped == {"snake": "FusedSnake"}
    assert report.refused == {"codec": UNTESTED[version]}
    assert f"codec (Codec, all): unchanged: {UNTESTED[version]}" in str(report)
    assert not any(isinstance(module, Form) for module in model["codec"].modules())
    assert "toycodec_forms" not in sys.modules
    for op, message in (("toy", "unknown op 'toy'; expected some of"), ("conv", "op 'conv' matches no module of")):
        with pytest.raises(SilkInputError, match=f"{message}.*; {UNTESTED[version]}"):
            accelerate_(model, op)


def test_a_library_that_is_not_imported_costs_nothing(install, monkeypatch):
    install("1.3.0")

    asked = []
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: asked.append(name) or version(name))
    accelerate_(Snake(2).to(DEVICE))
    assert "toy" not in known_ops()
    assert not [name for name in asked if "toy" in name]
    assert not {"toycodec", "toycodec_forms"} & sys.modules.keys()


NOTHING_ELSE = """
import sys
import silk_fast.acceleration
assert "triton" not in sys.modules
silk_fast.acceleration.accelerate_(__import__("torch").nn.Linear(1, 1))
assert not {"transformers", "diffusers", "snac"} & sys.modules.keys()
assert "silk_fast.acceleration.kernel_forms" not in sys.modules
"""


def test_importing_acceleration_imports_neither_triton_nor_other_libraries():
    subprocess.run([sys.executable, "-c", NOTHING_ELSE], check=True)


# ---------------------------------------------------------------- the table


def test_every_form_of_silk_takes_the_place_of_its_class():
    for module, entry in table.known_replacements().items():
        assert entry.module is module
        assert entry.kernel_form() or entry.fallback


def test_a_class_is_registered_once(own_table):
    before = table.known_replacements().copy()

    class Other(nn.Module):
        pass

    for entries in ([Replacement(Other, "other"), Replacement(Snake, "snake")], [Replacement(Other, "other")] * 2):
        with pytest.raises(SilkInputError, match="has a replacement already"):
            register(entries.copy)
        assert table.known_replacements() == before


def test_what_is_no_form_of_the_class_is_refused():
    class Bare(Snake):
        pass

    for wrong in (Bare, CpuSnake):
        message = f"{wrong.__name__} must derive from Form and, after that, from {nn.Identity.__name__}"
        with pytest.raises(SilkInputError, match=message):
            Replacement(nn.Identity, "identity", fallback=wrong)
        with pytest.raises(SilkInputError, match=message):
            Replacement(nn.Identity, "identity", lambda form=wrong: form).kernel_form()


@pytest.mark.parametrize(
    ("version", "is_tested"),
    [("4.57.5", False), ("4.57.6", True), ("5.0.0", True), ("5.24", True), ("5.24.9", True), ("5.25.0", False)]
    + [("5.1.0rc1", False), ("5.1.0.post1", True), ("5.1.0+local", True), ("main", False), ("10.0", False)],
)
def test_tested_versions_are_a_closed_range_of_releases(version, is_tested, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    assert bool(Library("transformers", "transformers.models.dac", ("4.57.6", "5.24")).why_not()) != is_tested


def test_modules_of_a_library_are_those_whose_class_or_base_it_defines():
    library = Library("torch", "torch.nn.modules.conv", ("2", "2"))
    assert library.is_imported
    assert library.defines(type("Mine", (nn.Conv1d,), {})(1, 1, 1))
    assert not library.defines(nn.Linear(1, 1))
    assert not Library("torch", "torch.nn.modules.con", ("2", "2")).defines(nn.Conv1d(1, 1, 1))
