"""An accelerated codec computes what the reference does: tokens, audio, gradients, in half precision, in a stream."""

import pytest
import torch

from silk_fast import accelerate_
from silk_fast.cpu.ops import why_no_bfloat16
from tests.acceleration.support import N_FRAMES, TINY
from tests.kernels.support import ATOL, DEVICE, DTYPES
from tests.support import assert_same_tokens, make_codec


def test_accelerated_codec_gives_the_same_tokens_and_audio(codec, audio):
    expected = codec.encode(audio)
    sound = codec.decode(expected.tokens)
    with torch.no_grad():
        latents = codec.quantizer.norm(codec.latents(audio))
    report = accelerate_(codec, deterministic=True)
    assert not report.refused
    assert_same_tokens(codec.encode(audio).tokens, expected.tokens, latents, TINY.levels)
    torch.testing.assert_close(codec.decode(expected.tokens), sound, rtol=0, atol=1e-5)


def training_gradients(audio: torch.Tensor, dtype: torch.dtype, accelerated: bool = False) -> dict[str, torch.Tensor]:
    model = make_codec(TINY).apply_weight_norm_().to(DEVICE, dtype)
    model.quantizer.norm.frozen = True
    if accelerated:
        accelerate_(model, deterministic=True)
    audio = audio.to(dtype)
    out = model.decoder(model.quantizer(model.latents(audio)).to(dtype))
    (out - audio).square().mean().backward()
    return {name: p.grad.double().cpu() for name, p in model.named_parameters()}


@pytest.mark.not_interpreted("takes minutes; make test-compiled runs it")
def test_gradients_of_a_training_loss_are_within_the_bound(audio):
    """Relative error of every gradient against twice the worst of the reference in the same part of the model.

    Gradients that vanish by symmetry, such as that of the keys' bias, are measured against a
    thousandth of the largest in their part.
    """
    exact, eager = training_gradients(audio, torch.float64), training_gradients(audio, torch.float32)
    ours = training_gradients(audio, torch.float32, accelerated=True)

    def errors(gradients: dict[str, torch.Tensor], part: str) -> dict[str, float]:
        norms = {name: g.norm() for name, g in exact.items() if name.startswith(part)}
        floor = 1e-3 * max(norms.values())
        return {n: ((gradients[n] - exact[n]).norm() / norm.clamp(min=floor)).item() for n, norm in norms.items()}

    for part in ("encoder", "conformer", "decoder"):
        bound = 2 * max(errors(eager, part).values()) + ATOL[torch.float32]
        worst, error = max(errors(ours, part).items(), key=lambda item: item[1])
        assert error <= bound, f"{worst}: relative error {error:.1e} > {bound:.1e}"
        assert bound < 1e-3


@pytest.mark.not_interpreted("takes minutes; make test-compiled runs it")
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != torch.float32], ids=str)
def test_half_precision_is_close_and_keeps_the_interfaces_in_float32(codec, audio, dtype):
    if DEVICE == "cpu" and dtype == torch.bfloat16 and (reason := why_no_bfloat16()):
        pytest.skip(f"convolutions of an emulated GPU are this processor's: {reason}")
    tokens = codec.encode(audio).tokens
    expected = codec.decode(tokens)
    with torch.no_grad():
        latents = codec.latents(audio)
    report = accelerate_(codec, dtype=dtype)
    assert {name.split(".units")[0] for name in report.refused} == {
        "encoder.stages.1"
    }  # its 8 channels are no multiple of 16
    with torch.no_grad():
        half = codec.latents(audio)
    assert half.dtype == torch.float32
    tolerance = 0.02 if dtype == torch.float16 else 0.15
    assert (half - latents).abs().mean() < tolerance * latents.abs().mean()
    decoded = codec.decode(tokens)
    assert decoded.dtype == torch.float32
    assert (decoded - expected).square().mean() < tolerance**2 * expected.square().mean()
    agree = (codec.encode(audio).tokens == tokens).float().mean()
    assert agree > 0.5 if dtype == torch.float16 else agree > 0


@pytest.mark.not_interpreted("takes a minute; make test-compiled runs it")
def test_accelerated_stream_equals_accelerated_whole(codec, audio):
    accelerate_(codec, deterministic=True)
    tokens = codec.encode(audio).tokens
    with codec.streaming() as stream:
        streamed = torch.cat([stream.encode(audio[..., :9700]), stream.encode(audio[..., 9700:])], dim=1)
        sound = torch.cat([stream.decode(tokens[:, i : i + 1]) for i in range(N_FRAMES)], dim=-1)
    assert torch.equal(streamed, tokens)
    torch.testing.assert_close(sound, codec.decode(tokens), rtol=0, atol=1e-5)
