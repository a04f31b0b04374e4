"""A fresh codec must be alive: latents that vary, FSQ levels that are used, a gradient that reaches the first layer."""

import pytest
import torch

from silk_fast import SilkCodec, SilkConfig
from silk_fast.reference import ops
from tests.support import make_codec, voices


@pytest.fixture(scope="module")
def codec() -> SilkCodec:
    return make_codec(SilkConfig())


@pytest.fixture(scope="module")
def tokens(codec) -> torch.Tensor:
    return codec.encode(voices()).tokens


def test_latents_vary_across_the_frames_of_one_utterance(codec):
    with torch.no_grad():
        latents = codec.latents(voices()[..., : 16 * 9600])
    assert latents.std(1).mean() > 0.3 * latents.square().mean().sqrt()


def test_every_dimension_uses_at_least_six_levels_on_speech(codec, tokens):
    digits = ops.unpack_digits(tokens, codec.quantizer.levels, codec.quantizer.group_size)
    used = [len(digits[..., d].unique()) for d in range(digits.shape[-1])]
    assert min(used) >= 6, f"dimension {used.index(min(used))} uses {min(used)} levels"


@pytest.mark.parametrize("weight_norm", [False, True])
def test_gradient_reaches_the_first_convolution(weight_norm):
    codec = SilkCodec(weight_norm=weight_norm, seed=0).train()
    audio = voices()[..., 9600:48_000]
    (codec(audio) - audio).abs().mean().backward()
    first = codec.encoder.input.parametrizations.weight.original1 if weight_norm else codec.encoder.input.weight
    relative = first.grad.norm() * first.norm() / (codec(audio) - audio).abs().mean().item()
    assert first.grad.isfinite().all()
    assert relative > 1e-3, f"relative gradient {relative:.1e}"


def test_decoder_starts_at_the_level_of_speech(codec, tokens):
    audio, decoded = voices(), codec.decode(tokens)
    ratio = decoded.square().mean().sqrt() / audio.square().mean().sqrt()
    assert 0.01 < ratio < 10


def test_same_seed_gives_same_weights():
    first, second, other = (SilkCodec(seed=seed).weights_sha256 for seed in (3, 3, 4))
    assert first == second != other
