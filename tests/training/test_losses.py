"""Losses and discriminators: known values, gradients, and what a better signal must do."""

import pytest
import torch

from silk_fast.errors import SilkModelError
from silk_fast.reference.harmonics import LOWEST, Voice
from silk_fast.training.discriminators import Discriminators
from silk_fast.training.losses import (
    STFT,
    ReconstructionLoss,
    adversarial_loss,
    band_limited,
    discriminator_loss,
    feature_loss,
    voice_losses,
)
from silk_fast.training.perceptual import Resampler, WavLMLoss
from tests.programs import needs


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_reconstruction_is_zero_for_equal_signals_and_grows_with_noise():
    loss, target = ReconstructionLoss(24_000), noise(2, 1, 9600)
    assert all(value == 0 for value in loss(target, target).values())
    little, much = (loss(target + scale * noise(2, 1, 9600, seed=1), target) for scale in (0.1, 1.0))
    assert all(little[name] < much[name] for name in ("waveform", "stft", "mel"))


def test_stft_loss_of_a_scaled_signal_is_known():
    """Half the amplitude: every log magnitude is log 2 lower, and the convergence term is 1/2 of 1/2."""
    target = noise(1, 1, 24_000)
    losses = ReconstructionLoss(24_000)(target / 2, target)
    expected = torch.log(torch.tensor(2.0))
    torch.testing.assert_close(losses["stft"], expected + 0.25, atol=0.005, rtol=0)
    torch.testing.assert_close(losses["mel"], expected, atol=0.005, rtol=0)
    torch.testing.assert_close(losses["waveform"], target.abs().mean() / 2)


def test_reconstruction_has_finite_gradients_at_silence():
    silence = torch.zeros(1, 1, 4800, requires_grad=True)
    total = sum(ReconstructionLoss(24_000)(silence, noise(1, 1, 4800)).values())
    total.backward()
    assert torch.isfinite(silence.grad).all()


@pytest.mark.parametrize("n_samples", [64, 65, 79, 500])
def test_stft_and_its_gradient_are_those_of_torch(n_samples):
    signal, window = noise(2, n_samples).double().requires_grad_(), torch.hann_window(64, dtype=torch.float64)
    theirs = torch.stft(signal, 64, 16, window=window, return_complex=True).transpose(1, 2)
    ours = torch.view_as_complex(STFT.apply(signal, window))
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn(theirs.shape, dtype=theirs.dtype, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((x * weights).abs().square().sum(), signal)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@needs("g++")
def test_compiled_reconstruction_is_the_eager_one():
    audio, target = noise(1, 1, 9600).requires_grad_(), noise(1, 1, 9600, seed=1)
    values, gradients = [], []
    for compile in (False, True):
        losses = ReconstructionLoss(24_000, compile)(audio, target)
        values.append(losses)
        gradients.append(torch.autograd.grad(sum(losses.values()), audio)[0])
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize(("bandwidth", "heard"), [(4000.0, ()), (7000.0, (5000,)), (12_000.0, (5000, 9000))])
def test_what_a_recording_does_not_hold_costs_nothing(bandwidth, heard):
    time = torch.arange(9600, dtype=torch.float64) / 24_000
    low, *others = (torch.sin(2 * torch.pi * f * time).float()[None, None] / 8 for f in (500, 5000, 9000))
    limit, loss = torch.tensor([bandwidth]), ReconstructionLoss(24_000)
    target = band_limited(low, limit, 24_000)
    torch.testing.assert_close(target, low, rtol=0, atol=1e-6)
    for frequency, other in zip((5000, 9000), others, strict=True):
        found = loss(band_limited(low + other, limit, 24_000), target)
        assert all((value > 0.01) == (frequency in heard) for value in found.values())


def test_signals_of_a_batch_have_bandwidths_of_their_own():
    x = noise(2, 1, 4800)
    together = band_limited(x, torch.tensor([3000.0, 12_000.0]), 24_000)
    torch.testing.assert_close(together[1], x[1], rtol=0, atol=1e-6)
    above = torch.fft.rfft(together[0, 0])[601:].abs().max()
    assert above < 1e-4 * torch.fft.rfft(x[0, 0]).abs().max()


def test_the_phase_loss_is_of_steps_and_not_of_where_a_signal_begins():
    x = noise(1, 1, 9600)
    loss = ReconstructionLoss(24_000, with_phase=True)

    def phase(y: torch.Tensor) -> float:
        return loss(y, x)["phase"].item()

    assert phase(x) < 1e-5
    assert phase(-x) < 1e-5  # every phase by half a turn
    assert phase(0.1 * x) < 1e-3
    other = noise(1, 1, 9600, seed=1)
    assert phase(x + 0.3 * other) < 0.5 * phase(other)
    assert phase(other) > 0.5  # and not 1, for bins and frames that overlap are alike in every signal
    time = torch.arange(9600, dtype=torch.float64) / 24_000
    tones = [torch.sin(2 * torch.pi * f * time).float()[None, None] / 8 for f in (200, 200, 230)]
    assert loss(tones[0], tones[1])["phase"] < 1e-5 < 0.05 < loss(tones[2], tones[0])["phase"]
    silent = torch.zeros(1, 1, 4800, requires_grad=True)
    loss(silent, x[..., :4800])["phase"].backward()
    assert silent.grad.isfinite().all()


def test_least_squares_losses():
    zeros, ones = [torch.zeros(2, 5)], [torch.ones(2, 5)]
    assert discriminator_loss(ones, zeros) == 0
    assert discriminator_loss(zeros, ones) == 2
    assert adversarial_loss(ones) == 0
    assert adversarial_loss(zeros) == 1
    assert feature_loss([[torch.ones(3)]], [[torch.full((3,), 3.0)]]) == 2


@pytest.mark.parametrize("n_samples", [9600, 9601, 12_345])
def test_discriminators_judge_any_length_and_reach_the_audio(n_samples):
    discriminators, audio = Discriminators(2), noise(2, 1, n_samples).requires_grad_()
    logits, features = discriminators(audio)
    assert len(logits) == len(features) == 8
    (adversarial_loss(logits) + feature_loss([[f + 1 for f in maps] for maps in features], features)).backward()
    assert torch.isfinite(audio.grad).all()
    assert audio.grad.abs().amax() > 0


def test_resampler_keeps_a_tone_and_removes_what_cannot_be_kept():
    times = torch.arange(24_000) / 24_000
    resample = Resampler(24_000)
    tone = resample(torch.sin(2 * torch.pi * 1000 * times)[None, None])[0, 200:-200]
    expected = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)[200:-200]
    torch.testing.assert_close(tone, expected, atol=2e-3, rtol=0)
    assert resample(torch.sin(2 * torch.pi * 10_000 * times)[None, None])[0, 200:-200].abs().max() < 0.02


def test_wavlm_loss_grows_with_noise_and_leaves_wavlm_alone(tiny_wavlm):
    loss, target = WavLMLoss(tiny_wavlm, 24_000), noise(1, 1, 9600)
    assert loss(target, target) == 0
    worse = (target + 0.5 * noise(1, 1, 9600, seed=1)).requires_grad_()
    distance = loss(worse, target)
    assert distance > loss(target + 0.05 * noise(1, 1, 9600, seed=1), target) > 0
    distance.backward()
    assert torch.isfinite(worse.grad).all()
    assert worse.grad.abs().amax() > 0
    assert all(p.grad is None for p in loss.wavlm.parameters())


def test_unknown_wavlm_is_a_typed_error(tmp_path):
    with pytest.raises(SilkModelError, match="cannot load WavLM"):
        WavLMLoss(str(tmp_path / "nothing"), 24_000)


def test_a_pitch_counts_where_there_is_a_voice_and_voicing_everywhere():
    pitch = torch.tensor([[0.0, 100.0, 200.0, 0.0]])
    octaves = torch.tensor([[9.0, 1.0, 3.0, 9.0]], dtype=torch.float64)  # of the second an octave too high
    assert LOWEST == 50
    right = torch.tensor([[-9.0, 9.0, 9.0, -9.0]], dtype=torch.float64)
    found = voice_losses(Voice(octaves, right, octaves), pitch)
    assert found["pitch"] == 0.5
    assert found["voicing"] < 1e-3 < 8 < voice_losses(Voice(octaves, -right, octaves), pitch)["voicing"]
    assert voice_losses(Voice(octaves, right, octaves), torch.zeros(1, 4))["pitch"] == 0
