"""Harmonics of a voice: at multiples of its pitch, without a seam, for as long as a signal goes on."""

import math

import pytest
import torch

from silk_fast import SilkCodec, SilkConfig
from silk_fast.reference import ops
from silk_fast.reference.harmonics import HIGHEST, LOWEST, HarmonicSource
from tests.support import make_codec, speech

RATE, HOP, N_FFT = 24_000, 320, 1280
N_BINS = N_FFT // 2 + 1


def spectra(n_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """White magnitudes, and phases that put the middle of every frame's pulse in the middle of its window."""
    return torch.full((1, n_frames, N_BINS), -2.0), math.pi * (torch.arange(N_BINS) % 2).expand(1, n_frames, N_BINS)


def harmonics(pitch: torch.Tensor, cutoff: float = 12_000.0) -> tuple[torch.Tensor, torch.Tensor]:
    turns, _ = ops.count_turns(pitch, torch.zeros(1, 2, dtype=torch.int64), HOP, RATE)
    contours = pitch * N_FFT / RATE, torch.full_like(pitch, cutoff), turns
    return ops.add_harmonics(*spectra(pitch.shape[1]), *contours, RATE / N_FFT)


def synthesised(pitch: torch.Tensor, cutoff: float = 12_000.0) -> torch.Tensor:
    log_magnitude, phase = harmonics(pitch, cutoff)
    return ops.polar_istft(log_magnitude, phase, torch.hann_window(N_FFT), HOP)[0, N_FFT:]


@pytest.mark.parametrize("pitch", [87.3, 150.0, 441.7])
def test_a_steady_pitch_is_a_sum_of_sines_at_its_multiples(pitch):
    """Of two seconds 99 % of the energy lies within 2 Hz of a multiple, a minute after the start."""
    audio = synthesised(torch.full((1, 75 * 62), pitch, dtype=torch.float64))[-2 * RATE :]
    power = torch.fft.rfft(audio * torch.hann_window(len(audio))).abs().square()
    frequencies = torch.arange(len(power)) / 2
    beside = (frequencies - pitch * (frequencies / pitch).round().clamp(min=1)).abs()
    inside = frequencies < 11_000
    assert power[inside & (beside <= 2)].sum() > 0.99 * power[inside].sum()


def test_a_gliding_pitch_is_followed():
    """Against a sine whose phase is the integral of the pitch, the fundamental stays in step."""
    pitch = 120 + 40 * torch.sin(torch.arange(75 * 4, dtype=torch.float64) * (2 * math.pi / 75))
    audio = synthesised(pitch[None])
    at_samples = torch.nn.functional.interpolate(pitch[None, None], scale_factor=HOP, mode="linear")[0, 0]
    angle = (2 * math.pi / RATE) * at_samples.cumsum(0)
    # Frame n is centred at sample n * hop + n_fft / 2; what is interpolated is centred half a hop after n * hop.
    start = N_FFT - N_FFT // 2 + HOP // 2
    angle = angle[start : start + len(audio)]
    audio = audio[: len(angle)].double()
    parts = torch.stack([(audio * wave).unfold(0, 2400, 2400).sum(1) for wave in (angle.cos(), angle.sin())])
    turned = torch.atan2(parts[1], parts[0])
    turned = torch.remainder(turned - turned[0] + math.pi, 2 * math.pi) - math.pi
    assert turned.abs().max() < 0.3


def test_above_the_cutoff_and_without_a_voice_nothing_changes():
    pitch = torch.full((1, 20), 200.0, dtype=torch.float64)
    (log_magnitude, phase), (before, phase_before) = harmonics(pitch, 2000.0), spectra(20)
    above = torch.arange(N_BINS) * RATE / N_FFT > 2000
    assert torch.equal(phase[..., above], phase_before[..., above])
    assert not torch.equal(phase[..., ~above], phase_before[..., ~above])
    assert (log_magnitude[..., -1] - before[..., -1]).abs().max() < 1e-6
    silent = harmonics(pitch, -math.inf)
    assert torch.equal(silent[0], before)
    assert torch.equal(silent[1], phase_before)


@pytest.mark.parametrize("split", [1, 7, 19])
def test_chunks_count_as_the_whole_does(split):
    pitch = 60 + 400 * torch.rand(1, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.zeros(1, 2, dtype=torch.int64)
    whole, end = ops.count_turns(pitch, start, HOP, RATE)
    first, middle = ops.count_turns(pitch[:, :split], start, HOP, RATE)
    second, after = ops.count_turns(pitch[:, split:], middle, HOP, RATE)
    assert torch.equal(torch.cat([first, second], 1), whole)
    assert torch.equal(after, end)
    assert (whole >= 0).all()
    assert torch.equal(ops.count_turns(pitch[:, :0], middle, HOP, RATE)[1], middle)


def test_the_response_of_a_window_is_that_of_its_transform():
    window = torch.hann_window(N_FFT, dtype=torch.float64)
    offset = torch.tensor([0.0, 0.3, 1.0, 1.7, 2.0, 2.5], dtype=torch.float64)
    turn = torch.arange(N_FFT) - N_FFT / 2
    expected = (window * torch.cos(2 * math.pi * offset[:, None] * turn / N_FFT)).sum(1).abs() / window.sum()
    torch.testing.assert_close(ops.hann_response(offset), expected, rtol=0, atol=1e-6)


def test_gradients_reach_magnitudes_phases_and_cutoff():
    generator = torch.Generator().manual_seed(1)
    log_magnitude, phase = (torch.randn(1, 3, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    cutoff = torch.tensor([[900.0, 400.0, 1450.0]], dtype=torch.float64)
    spacing = torch.tensor([[0.44, 0.88, 0.6]], dtype=torch.float64)
    turns = torch.arange(3)[None] * 2**30
    inputs = [t.requires_grad_() for t in (log_magnitude, phase, cutoff)]

    def outputs(log_magnitude, phase, cutoff):
        return ops.add_harmonics(log_magnitude, phase, spacing, cutoff, turns, 250.0)

    assert torch.autograd.gradcheck(outputs, inputs, eps=1e-3, atol=1e-4)


def test_what_is_read_from_codes_lies_in_its_range_and_does_not_depend_on_chunks():
    source = HarmonicSource(SilkConfig.preset("tiny"))
    codes = torch.randint(0, 8, (2, 6, 128), generator=torch.Generator().manual_seed(2)) / 3.5 - 1
    with torch.no_grad():
        whole, state = source.voice(codes), source.initial_state(2)
        parts = [source.voice(codes[:, i : i + 2], state) for i in (0, 2, 4)]
    assert whole.pitch.shape == (2, 180)
    assert (whole.pitch > LOWEST).all()
    assert (whole.pitch < HIGHEST).all()
    for name in ("log_pitch", "voicing", "cutoff"):
        joined = torch.cat([getattr(part, name) for part in parts], 1)
        torch.testing.assert_close(joined, getattr(whole, name), rtol=1e-12, atol=1e-12)


def test_after_a_minute_a_chunk_at_a_time_is_still_in_step(tmp_path):
    """A stored codec decodes 64 s in chunks of one frame as at once, although convolutions add in another order."""
    codec = make_codec(SilkConfig.preset("tiny", phases="harmonic"))
    source = codec.decoder.source
    torch.nn.init.constant_(source.contour.bias[source.subframes : 2 * source.subframes], 10.0)
    codec.save_pretrained(tmp_path / "model", torch.float32)
    loaded = SilkCodec.from_pretrained(tmp_path / "model")
    assert loaded.config.phases == "harmonic"
    tokens = codec.encode(speech(9600 * 20)).tokens.repeat(1, 8, 1)
    expected = codec.decode(tokens, chunk_frames=1000)
    scale = expected.abs().max().item()
    torch.testing.assert_close(loaded.decode(tokens, chunk_frames=1), expected, rtol=0, atol=1e-5 * scale)
