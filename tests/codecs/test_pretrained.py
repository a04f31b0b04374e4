"""Loading codecs of other libraries: the weights that were saved or an error that says what is wrong."""

import json
import logging
import sys

import pytest
import torch

from silk_fast import SilkInputError, SilkModelError
from silk_fast.codecs import NAMES, pretrained
from silk_fast.codecs.pretrained import load_model
from silk_fast.reference.pretrained import weights_sha256
from tests.codecs.configurations import TINY
from tests.codecs.saved import save_model


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_that_were_saved(name, tmp_path, capfd):
    model = TINY[name].make()
    folder = save_model(name, tmp_path / "model", model)
    capfd.readouterr()
    loaded = load_model(name, str(folder))
    assert weights_sha256(loaded) == weights_sha256(model)
    assert not loaded.training
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == 0


def test_half_precision_is_loaded_as_float32(tmp_path):
    folder = save_model("mimi", tmp_path / "model", TINY["mimi"].make().half())
    assert {p.dtype for p in load_model("mimi", str(folder)).parameters()} == {torch.float32}


def break_model(kind, folder):
    if kind == "no directory":
        return str(folder / "nowhere")
    if kind == "empty name":
        return ""
    if kind == "empty directory":
        (folder / "empty").mkdir()
        return str(folder / "empty")
    path = save_model("encodec" if kind == "another codec" else "dac", folder / "model")
    weights, config = path / "model.safetensors", path / "config.json"
    if kind == "cut short":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif kind == "no JSON":
        config.write_text("{")
    elif kind == "other sizes":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"codebook_size": 32}))
    elif kind == "NaN":
        model = TINY["dac"].make()
        torch.nn.init.constant_(model.encoder.conv1.bias, torch.nan)
        model.save_pretrained(path)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no directory", "no directory '.*nowh.* to load DacModel from; expected a directory with its config.json"),
        ("empty name", "no directory '' to load DacModel from"),
        ("empty directory", "empty: cannot be loaded as DacModel of transformers: .*; expected a directory"),
        ("another codec", r"model: not weights of DacModel: \d+ of its tensors are missing, such as decoder"),
        ("cut short", "model: cannot be loaded as DacModel"),
        ("no JSON", "model: cannot be loaded as DacModel"),
        ("other sizes", "model: cannot be loaded as DacModel"),
        ("NaN", "model: encoder.conv1.bias must be finite"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(kind, message, tmp_path, capfd):
    path = break_model(kind, tmp_path)
    capfd.readouterr()
    with pytest.raises(SilkModelError, match=message) as info:
        load_model("dac", path)
    assert "\n" not in str(info.value)
    assert len(str(info.value)) < 1000
    assert capfd.readouterr().err == ""
    assert logging.root.manager.disable == 0


def test_weights_of_another_snac_are_refused(tmp_path):
    folder = save_model("snac", tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"encoder_dim": 8}))
    with pytest.raises(SilkModelError, match="cannot be loaded as SNAC of snac: Error"):
        load_model("snac", str(folder))


def test_an_unknown_codec_is_refused_by_name():
    with pytest.raises(SilkInputError, match=r"codec must be one of dac, .*, got 'mp3'"):
        load_model("mp3", "a/b")


@pytest.mark.parametrize(("name", "package"), [("dac", "transformers"), ("oobleck", "diffusers"), ("snac", "snac")])
def test_a_missing_library_is_named_with_what_to_install(name, package, monkeypatch, tmp_path):
    library = pretrained.codec_module(name).LIBRARY
    monkeypatch.setitem(sys.modules, library.package, None)
    with pytest.raises(
        SilkModelError, match=rf"{name} needs .* {package}: pip install {package}, or silk_fast\[codecs\]"
    ):
        load_model(name, str(tmp_path))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("descript/dac_44khz", {}), ("stabilityai/stable-audio-open-1.0/vae", {"subfolder": "vae"})],
)
def test_a_hub_id_may_name_a_folder(weights, expected, monkeypatch):
    model, asked = TINY["dac"].make(), []

    def from_pretrained(where, **options):
        asked.append((where, options))
        return model, {"missing_keys": [], "mismatched_keys": []}

    monkeypatch.setattr(type(model), "from_pretrained", from_pretrained)
    load_model("dac", weights, local_only=True)
    where = "/".join(weights.split("/")[:2])
    assert asked == [(where, {"output_loading_info": True, "local_files_only": True, **expected})]


@pytest.mark.parametrize("name", NAMES)
def test_without_a_download_an_absent_hub_model_is_refused(name):
    TINY[name].make()  # skips where the library is absent
    with pytest.raises(SilkModelError, match="nobody/nothing: cannot be loaded as"):
        load_model(name, "nobody/nothing", local_only=True)
