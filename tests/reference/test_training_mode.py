"""Training mode changes the statistics in training only: never tokens, audio or weights of a codec that is used."""

import pytest
import torch

from tests.support import FRAME, make_codec, speech


def _encode(codec, audio):
    return codec.encode(audio).tokens


def _stream(codec, audio):
    with codec.streaming() as stream:
        tokens = [stream.encode(audio[..., :FRAME]), stream.encode(audio[..., FRAME:]), stream.finish()]
    return torch.cat(tokens, dim=1)


def _encode_one_frame(codec, audio):
    return codec.encode(audio[..., :FRAME]).tokens


def _encode_latents(codec, audio):
    with torch.no_grad():
        return codec.quantizer.encode(codec.latents(audio))


@pytest.mark.parametrize("use", [_encode, _stream, _encode_one_frame, _encode_latents])
def test_tokens_in_training_mode_are_those_of_evaluation_and_weights_stay(codec, use):
    audio = speech(3 * FRAME)
    expected, weights = use(codec, audio), codec.weights_sha256
    codec.requires_grad_(False).train()
    for _ in range(3):
        assert torch.equal(use(codec, audio), expected)
    assert codec.weights_sha256 == weights
    assert torch.equal(use(codec.eval(), audio), expected)


def test_audio_in_training_mode_is_that_of_evaluation(codec):
    encoded = codec.encode(speech(3 * FRAME))
    expected = codec.decode(encoded)
    assert torch.equal(codec.train().decode(encoded), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_one_bad_batch_in_training_does_not_ruin_the_statistics(bad):
    codec = make_codec().train()
    audio = speech(FRAME)
    codec(torch.full_like(audio, bad))
    assert all(value.isfinite().all() for value in codec.quantizer.norm.state_dict().values())
    codec.encode(audio)


def test_training_still_moves_the_statistics():
    codec = make_codec().train()
    weights = codec.weights_sha256
    codec(speech(3 * FRAME))
    assert codec.weights_sha256 != weights
