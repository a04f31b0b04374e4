"""Defaults, modes and precisions that are set around a call change neither tokens nor weights, nor what follows."""

import warnings
from contextlib import contextmanager, nullcontext

import pytest
import torch

from silk_fast import SilkCodec, SilkConfig, SilkWarning
from silk_fast.reference.conformer import sinusoidal_positions
from tests.support import FRAME, make_codec, speech

AUDIO = speech(2 * FRAME)
CONFIG = SilkConfig.preset("tiny", conformer_layers=1, dilations=(1,), output_delay=960)


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default float64": lambda: default_dtype(torch.float64),
    "default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
}


@pytest.fixture
def codec():
    return make_codec(CONFIG)


def use(codec):
    with codec.streaming() as stream:
        stream.reset(0)
        stream.state.load(stream.state.tensors())
        streamed = [stream.encode(AUDIO[..., :FRAME]), stream.encode(AUDIO[..., FRAME:]), stream.finish()]
    encoded = codec.encode(AUDIO, [AUDIO.shape[-1] - 5])
    return torch.cat(streamed, dim=1), encoded.tokens, encoded.lengths, encoded.n_frames, codec.encode(AUDIO).tokens


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_tokens_are_the_same(codec, name):
    expected = use(codec)
    with SURROUNDINGS[name]():
        found = use(codec)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.device.type == "cpu"
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", [name for name in SURROUNDINGS if name != "autocast"])
def test_sound_is_the_same(codec, name):
    encoded = codec.encode(AUDIO)
    expected = codec.decode(encoded)
    with SURROUNDINGS[name]():
        assert torch.equal(codec.decode(encoded), expected)


def test_positions_are_exact_by_any_default():
    distances = torch.arange(5.0)
    with default_dtype(torch.bfloat16):
        found = sinusoidal_positions(distances, 8)
    torch.testing.assert_close(found, sinusoidal_positions(distances, 8), rtol=0, atol=0)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_codec_is_loaded_the_same_and_can_be_used_anywhere(codec, name, tmp_path):
    codec.save_pretrained(tmp_path)
    expected = codec.weights_sha256
    with SURROUNDINGS[name]():
        codec, normed = (SilkCodec.from_pretrained(tmp_path, weight_norm=weight_norm) for weight_norm in (False, True))
    assert codec.weights_sha256 == expected
    for other in (codec, normed.fold_weight_norm_()):
        other.apply_weight_norm_().train()(AUDIO[..., :FRAME]).sum().backward()
        assert other.decoder.head.bias.grad.dtype == torch.float32


@pytest.mark.parametrize("modes", [(torch.inference_mode, nullcontext), (nullcontext, torch.inference_mode)])
def test_streams_and_weight_norm_outlive_inference_mode(modes):
    codec, expected = make_codec(CONFIG), make_codec(CONFIG).encode(AUDIO).tokens
    first, second = modes
    with first():
        codec.apply_weight_norm_()
        stream = codec.streaming()
        head = stream.encode(AUDIO[..., :20_000])
        stream._state = stream.state.clone()
    with second():
        tokens = torch.cat([head, stream.encode(AUDIO[..., 20_000:]), stream.finish()], dim=1)
        codec.fold_weight_norm_()
    assert torch.equal(tokens, expected)
    codec.train()(AUDIO[..., :FRAME]).sum().backward()


def test_training_under_autocast_still_computes_in_half_precision():
    seen = []
    codec = make_codec(CONFIG).train()
    codec.conformer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].dtype))
    codec.encoder.output.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        codec(AUDIO)
    assert torch.bfloat16 in seen


@pytest.mark.parametrize(
    "call",
    [
        lambda codec: codec.encode(100 * AUDIO),
        lambda codec: codec.streaming().encode(100 * AUDIO),
        lambda codec: codec.bfloat16().streaming(),
        lambda codec: codec.to(torch.bfloat16).encode(AUDIO),
    ],
)
def test_warnings_point_at_the_caller(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SilkWarning)
        call(make_codec(CONFIG))
    assert [warning.filename for warning in caught] == [__file__]
