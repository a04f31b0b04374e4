"""Weights: weight norm and back, saving and loading, the bundled model, the hub, and models that are refused."""

import json
import shutil

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from silk_fast import SilkCodec, SilkConfig, SilkConfigError, SilkModelError
from silk_fast.reference.pretrained import find_model
from tests.support import FRAME, TINY, make_codec, speech


def test_weight_norm_folds_to_the_same_function():
    codec = SilkCodec(TINY, seed=0).eval()
    audio = speech(3 * FRAME)
    assert any(".parametrizations." in name for name in codec.state_dict())
    with torch.no_grad():
        expected, sha = codec(audio), codec.weights_sha256
        codec.fold_weight_norm_()
        assert not any(".parametrizations." in name for name in codec.state_dict())
        torch.testing.assert_close(codec(audio), expected, rtol=1e-5, atol=1e-6)
    assert codec.weights_sha256 == sha


def test_weight_norm_keeps_a_channel_of_zeros_and_can_train_it():
    codec = SilkCodec(TINY, weight_norm=False, seed=0)
    conv = codec.decoder.units[0].conv2
    with torch.no_grad():
        conv.weight[3] = 0
    plain = conv.weight.detach().clone()
    codec.apply_weight_norm_()
    torch.testing.assert_close(conv.weight, plain)
    codec(speech(3 * FRAME)).square().sum().backward()
    gradient = conv.parametrizations.weight.original0.grad
    assert torch.isfinite(gradient).all()
    assert gradient[3] != 0


@pytest.mark.parametrize("weight_norm", [False, True])
def test_saved_and_loaded_codec_is_the_same(tmp_path, weight_norm):
    codec = make_codec()
    if weight_norm:
        codec.apply_weight_norm_()
    codec.save_pretrained(tmp_path / "model")
    loaded = SilkCodec.from_pretrained(tmp_path / "model")
    assert loaded.config == codec.config
    assert loaded.weights_sha256 == codec.weights_sha256
    assert not loaded.training
    audio = speech(3 * FRAME)
    assert torch.equal(loaded.encode(audio).tokens, codec.encode(audio).tokens)


def test_half_precision_checkpoint_keeps_its_hash_through_a_round_trip(tmp_path):
    make_codec().save_pretrained(tmp_path / "half", dtype=torch.float16)
    loaded = SilkCodec.from_pretrained(tmp_path / "half")
    loaded.save_pretrained(tmp_path / "again")
    assert SilkCodec.from_pretrained(tmp_path / "again").weights_sha256 == loaded.weights_sha256
    assert next(loaded.parameters()).dtype == torch.float32


def test_bundled_model_fits_in_32_megabytes_and_tells_how_it_was_trained(small):
    assert small.config == SilkConfig(output_delay=960)
    folder = find_model("silk-small-24khz")
    assert (folder / "model.safetensors").stat().st_size <= 32e6
    assert json.loads((folder / "training.json").read_text())[-1]["weights_sha256"] == small.weights_sha256
    assert small.weights_sha256 in (folder / "README.md").read_text()


def test_unknown_model_lists_the_bundled_ones():
    with pytest.raises(SilkModelError, match="unknown model 'silk-huge'; expected one of silk-small-24khz"):
        SilkCodec.from_pretrained("silk-huge")


def test_hub_id_is_downloaded(monkeypatch, tmp_path):
    make_codec().save_pretrained(tmp_path)
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, sorted(allow_patterns)))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert SilkCodec.from_pretrained("someone/silk").config == TINY
    assert asked == [("someone/silk", ["config.json", "model.safetensors", "training.json"])]


def test_unreachable_hub_is_explained(monkeypatch):
    def snapshot_download(name, allow_patterns):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(SilkModelError, match=r"cannot load 'someone/silk', neither a directory .*: no route to host"):
        SilkCodec.from_pretrained("someone/silk")


@pytest.fixture
def saved(tmp_path):
    make_codec().save_pretrained(tmp_path)
    return tmp_path


def test_weights_that_do_not_fit_are_refused(saved):
    (saved / "config.json").write_text(SilkConfig.preset("tiny", decoder_channels=32).to_json())
    with pytest.raises(SilkModelError, match=r"do not fit the configuration: decoder.* should be \(.*\), found \(.*\)"):
        SilkCodec.from_pretrained(saved)


def test_missing_weight_is_refused(saved):
    weights = load_file(saved / "model.safetensors")
    del weights["conformer.blocks.0.attention.u"]
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(SilkModelError, match=r"attention.u should be \(8, 16\), found nothing"):
        SilkCodec.from_pretrained(saved)


def test_damaged_weights_are_refused(saved):
    (saved / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(SilkModelError, match="cannot read weights"):
        SilkCodec.from_pretrained(saved)


def test_impossible_config_is_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "levels": 1}))
    with pytest.raises(SilkConfigError, match="levels must be at least 2"):
        SilkCodec.from_pretrained(saved)


def test_directory_without_a_model_is_refused(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(SilkModelError, match=r"no model\.safetensors in"):
        SilkCodec.from_pretrained(saved)
    shutil.rmtree(saved)
    saved.mkdir()
    with pytest.raises(SilkModelError, match=r"cannot read .*config.json: No such file"):
        SilkCodec.from_pretrained(saved)
