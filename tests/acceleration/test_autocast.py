"""Under autocast an accelerated model computes, streams and learns as the reference does."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch

from silk_fast import SilkCodec, accelerate_
from silk_fast.training.config import Stage1Config, Stage2Config
from silk_fast.training.loop import RunOptions
from silk_fast.training.run import make_stage
from tests.acceleration.support import N_FRAMES
from tests.kernels.support import DEVICE, DTYPES
from tests.support import voices

each_half = pytest.mark.parametrize("dtype", [d for d in DTYPES if d != torch.float32], ids=str)


def autocast(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(DEVICE, dtype)


def run_codec(codec: SilkCodec, audio: torch.Tensor, precision: AbstractContextManager) -> tuple[torch.Tensor, ...]:
    """Latents, decoded audio, and gradients of a loss, by part of the model.

    The decoder hears latents and not codes, of which some would flip; the loss has both.
    """
    codec.zero_grad()
    with precision:
        latents = codec.latents(audio)
        decoded = codec.decoder(latents)
        codes = codec.quantizer(latents)
    ((decoded.float() - audio).square().mean() + 0.1 * codes.square().mean()).backward()
    parts = codec.encoder, codec.conformer, codec.decoder
    gradients = (torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None]) for part in parts)
    return latents.detach(), decoded.detach(), *gradients


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def assert_near(ours: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert ours.dtype == expected.dtype
    error = relative_error(ours, expected)
    assert error <= tolerance, f"relative error {error:.1e} > {tolerance:.0e}"


@pytest.mark.not_interpreted("takes minutes; make test-compiled runs it")
@each_half
def test_under_autocast_a_whole_codec_is_as_close_as_the_reference_forward_and_backward(codec, audio, dtype):
    """Every operation at once, where float32 signals meet half-precision residuals, weights and positions.

    In bfloat16 the reference's own gradients err by up to 0.24.
    """
    codec.quantizer.norm.frozen = True
    exact, eager = (run_codec(codec, audio, precision) for precision in (nullcontext(), autocast(dtype)))
    assert not accelerate_(codec).refused
    for ours, theirs, truth in zip(run_codec(codec, audio, autocast(dtype)), eager, exact, strict=True):
        assert ours.dtype == theirs.dtype
        assert_near(ours, truth, 1.5 * relative_error(theirs, truth))
        assert_near(ours, truth, 0.3 if dtype == torch.bfloat16 else 0.2)


@each_half
def test_under_autocast_a_stream_follows_the_reference(codec, audio, dtype):
    tokens, frames = codec.encode(audio).tokens, torch.randn(1, 3, 128, device=DEVICE)
    results = []
    for _ in range(2):
        with autocast(dtype), torch.no_grad(), codec.streaming() as stream:
            decoded = torch.cat([stream.decode(tokens[:, i : i + 1]) for i in range(N_FRAMES)], dim=-1)
            state = codec.conformer.initial_state(1)
            latents = [codec.conformer(frame, state=state) for frame in frames.split(1, dim=1)]
        results.append([decoded, torch.cat(latents, dim=1)])
        accelerate_(codec)
    for ours, theirs in zip(*reversed(results), strict=True):
        assert_near(ours, theirs, 0.01)


@each_half
@pytest.mark.parametrize("half_first", [True, False])
def test_folds_are_of_the_autocast_they_are_used_in(codec, half_first, dtype):
    attention = codec.conformer.blocks[0].attention
    x = torch.randn(1, 5, 128, device=DEVICE)

    def outputs() -> list[torch.Tensor]:
        results = []
        for half in (half_first, not half_first):
            with torch.autocast(DEVICE, dtype, enabled=half), torch.no_grad():
                results.append((attention(x), attention.projected_positions(5)))
        return [tensor for pair in results for tensor in pair]

    expected = outputs()
    accelerate_(codec)
    for ours, theirs in zip(outputs(), expected, strict=True):
        assert_near(ours, theirs, 1e-2)


STEP = {"preset": "tiny", "batch_size": 2, "steps": 6, "warmup_steps": 5}
STAGES = {
    "stage1": Stage1Config(**STEP, crop_seconds=1.6, predictor_layers=1),
    "stage2": Stage2Config(**STEP, crop_seconds=0.4, adversarial_from=0, discriminator_channels=2),
}


@pytest.mark.not_interpreted("takes minutes; make test-compiled runs it")
@pytest.mark.parametrize("name", STAGES)
def test_a_training_step_under_autocast_learns_the_same(name):
    """In bfloat16, as one trains, where kernels are compiled."""
    config, dtype = STAGES[name], DTYPES[-1]
    n_samples = round(config.crop_seconds * 24_000)
    audio = voices()[..., : 2 * n_samples].reshape(2, 1, n_samples).to(DEVICE)
    results = []
    for accelerated in (False, True):
        stage = make_stage(config, torch.device(DEVICE), RunOptions(Path()))
        stage.autocast = lambda device: autocast(dtype)
        for network in stage.networks if accelerated else []:
            accelerate_(network)
        results.append(stage.step(audio, 0))
    expected, ours = results
    torch.testing.assert_close(ours["loss"], expected["loss"], rtol=0.01, atol=0)
    torch.testing.assert_close(ours["gradient"], expected["gradient"], rtol=0.03, atol=0)
