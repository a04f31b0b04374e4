"""Directories that hold no model, or a damaged one: a typed error that names the field, before memory is taken."""

import json
import os
import random
import resource
import shutil
import struct
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from silk_fast import SilkCodec, SilkConfig, SilkConfigError, SilkError, SilkModelError
from silk_fast.config import LARGEST, PRESETS
from silk_fast.reference.network import SilkNetwork
from tests.support import TINY

N_MUTATIONS = 60
VALUES = [
    *(-1, 0, 7, 64, 10**6, 2**31, 10**30, int("9" * 4000), 1.5, 1e300, True, None, "8", [], {}, [[8]]),
    *([0], [1] * 17, [10**12], [2**14] * 5, [8, 8, 5], [None], ["8"], [1.0, 2.0]),
]
TEXTS = [
    *("", "{", "[]", "null", "NaN", '"text"', "[" * 100_000, '{"a":' * 50_000, '{"levels": ' + "9" * 5000 + "}"),
    *('{"levels": 1e999}', '{"\\ud800": 1}', '{"levels": 8, "levels": 1}', "{" + " " * 2**17 + "}", "\ufeff{}"),
]


@pytest.fixture
def damaged(model, tmp_path):
    """A model of the test's own, to damage."""
    return shutil.copytree(model, tmp_path / "damaged")


def load_or_refuse(directory) -> str:
    """Load a model; the message of the error if it is refused, in a second of this process and with little memory."""
    start, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        SilkCodec.from_pretrained(directory)
        message = ""
    except SilkError as error:
        message = str(error)
        assert 0 < len(message) < 1000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**16  # KiB
        message.encode()
    assert time.process_time() - start < 2
    return message


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_configuration_that_is_no_json_object_of_fields_is_refused(damaged, text):
    (damaged / "config.json").write_text(text)
    assert "config.json" in load_or_refuse(damaged)


def test_a_configuration_that_is_not_utf_8_is_refused(damaged):
    (damaged / "config.json").write_bytes(b'{"levels\xff": 8}')
    with pytest.raises(SilkModelError, match=r"config\.json: it is not UTF-8, byte 8 is wrong"):
        SilkCodec.from_pretrained(damaged)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_not_read(damaged, name, make):
    (damaged / name).unlink()
    make(damaged / name)
    with pytest.raises(SilkModelError, match=f"cannot read .*{name}: not a regular file"):
        SilkCodec.from_pretrained(damaged)


@pytest.mark.parametrize("name", sorted(LARGEST))
def test_a_size_that_no_codec_has_is_named(name):
    """What is accepted makes a network, without values, in a second."""
    for value in VALUES:
        text = json.dumps({**vars(TINY), name: value})
        start, message = time.process_time(), None
        try:
            config = SilkConfig.from_json(text)
        except SilkConfigError as error:
            message = str(error)
        if message is None:
            with torch.device("meta"):
                SilkNetwork(config)
        else:
            assert any(field in message for field in (name, "levels", "n_fft", "output_delay", "heads", "subframes"))
        assert time.process_time() - start < 2


def test_every_size_has_a_limit_that_the_presets_keep():
    sizes = set(vars(SilkConfig())) - {"phases"}
    assert {field for preset in PRESETS.values() for field in preset} <= set(LARGEST) == sizes


def test_a_codec_of_too_many_parameters_names_where_they_are():
    with pytest.raises(SilkConfigError, match=r"encoder_channels must make a codec of at most .* parameters, got"):
        SilkConfig(encoder_channels=(2**14,) * 5)
    with pytest.raises(SilkConfigError, match="decoder_width must make a codec of at most"):
        SilkConfig(decoder_width=2**16, decoder_channels=2**12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w["quantizer.norm.mean"].fill_(torch.nan), r"quantizer.norm.mean must be finite, found NaN"),
        (lambda w: w["decoder.head.weight"].fill_(torch.inf), r"decoder.head.weight must be finite"),
        (lambda w: w["quantizer.norm.variance"].fill_(-1), r"quantizer.norm.variance must be >= 0, found -1"),
        (lambda w: w["decoder.snake.log_alpha"].fill_(1e3), r"decoder.snake.log_alpha must have finite exponentials"),
        (lambda w: w.update({"encoder.input.bias": w["encoder.input.bias"].int()}), r"input.bias must be one of F32"),
        (lambda w: w.update({"encoder.input.bias": w["encoder.input.bias"].bool()}), r"found BOOL"),
        (lambda w: w.update({"encoder.input.bias": w["encoder.input.bias"].double() + 1e300}), r"must be finite"),
        (lambda w: w.update({"encoder.output.bias": torch.zeros(0)}), r"output.bias should be \(128,\), found \(0,\)"),
        (lambda w: w.update({"more\n": torch.zeros(1)}), r"'more\\n' should be absent, found \(1,\)"),
    ],
    ids=["NaN", "infinite", "variance", "exponent", "int", "bool", "float64", "empty", "more"],
)
def test_weights_that_no_codec_has_are_named(damaged, change, message):
    weights = load_file(damaged / "model.safetensors")
    change(weights)
    save_file(weights, damaged / "model.safetensors")
    with pytest.raises(SilkModelError, match=message):
        SilkCodec.from_pretrained(damaged)


def test_shapes_are_compared_before_memory_is_taken(damaged):
    """The configuration asks for 6 GB."""
    config = SilkConfig.preset("tiny", encoder_channels=(7000, 7000, 8, 16, 24), dilations=(1,))
    (damaged / "config.json").write_text(config.to_json())
    assert "encoder.input.bias should be (7000,), found (8,)" in load_or_refuse(damaged)


@pytest.mark.parametrize("seed", range(N_MUTATIONS))
def test_mutated_models_load_or_are_refused(damaged, seed):
    """Bytes of one file, or of the header of the weights, are changed, cut, doubled or inserted."""
    rng = random.Random(seed)
    path = damaged / rng.choice(["config.json", "model.safetensors"])
    data = bytearray(path.read_bytes())
    n_header = 8 + struct.unpack("<Q", data[:8])[0] if path.suffix == ".safetensors" else len(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        i = rng.randrange(rng.choice([8, n_header, len(data)])) % max(1, len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[i : i + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del data[i : i + rng.choice([1, 4, 1000])]
        elif kind == 2:
            data[i:i] = data[i : i + rng.choice([1, 8, 50])]
        elif kind == 3:
            data[i:i] = rng.choice([b"9" * 30, b"\xff", b"\0", b"-", b"[", b'"', b"e400"])
        else:
            del data[i:]
        if not data:
            break
    path.write_bytes(data)
    load_or_refuse(damaged)


def test_the_model_that_is_damaged_here_loads(damaged):
    assert not load_or_refuse(damaged)
    assert SilkCodec.from_pretrained(damaged).config == TINY
