"""Pitch of recordings, and runs whose decoder follows it."""

import builtins
from dataclasses import replace

import numpy as np
import pytest
import torch

from silk_fast import SilkCodec, SilkConfig
from silk_fast.errors import SilkTrainingError
from silk_fast.training.adaptation import set_phases
from silk_fast.training.data import CropDataset
from silk_fast.training.losses import voice_losses
from silk_fast.training.pitch import pitch_track
from silk_fast.training.recordings import find_clips
from silk_fast.training.run import train
from tests.support import make_codec, speech
from tests.training.conftest import RATE
from tests.training.runs import STAGE2, log_of, options, tensors_of

HOP = 320


def glide(seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Harmonics of a pitch that rises from 100 to 200 Hz, and the pitch of every sample."""
    pitch = np.linspace(100, 200, int(seconds * RATE))
    angle = 2 * np.pi * np.cumsum(pitch) / RATE
    return (0.1 * sum(np.sin(k * angle) / k for k in range(1, 12))).astype(np.float32), pitch


def test_a_pitch_is_found_where_it_is_and_none_in_noise_or_silence():
    pytest.importorskip("parselmouth", reason="no parselmouth: pip install praat-parselmouth")
    samples, pitch = glide(2.0)
    track = pitch_track(samples, RATE, HOP)
    assert track.dtype == np.float32
    assert len(track) == len(samples) // HOP
    inner = slice(8, -8)  # windows of Praat that lie inside
    np.testing.assert_allclose(track[inner], pitch[::HOP][inner], rtol=0.01)
    noise = np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    assert (pitch_track(0.1 * noise, RATE, HOP) > 0).mean() < 0.1
    for silence in (np.zeros(RATE, np.float32), samples[:500]):
        assert not pitch_track(silence, RATE, HOP).any()
        assert len(pitch_track(silence, RATE, HOP)) == len(silence) // HOP


def test_a_crop_has_the_pitch_of_its_samples(speech_folder):
    pytest.importorskip("parselmouth", reason="no parselmouth: pip install praat-parselmouth")
    item = CropDataset(find_clips(speech_folder), 38_400, seed=1, pieces=2, gain_db=None, pitch_hop=HOP)[3]
    halves = item["audio"][0].view(2, -1).numpy()
    expected = np.concatenate([pitch_track(half, RATE, HOP) for half in halves])
    assert np.array_equal(item["pitch"], expected)
    assert (expected > 0).any()


def test_without_praat_what_is_missing_is_named(monkeypatch):
    real = builtins.__import__
    monkeypatch.setattr(
        builtins,
        "__import__",
        lambda name, *rest: exec("raise ImportError") if name == "parselmouth" else real(name, *rest),
    )
    with pytest.raises(SilkTrainingError, match="pip install"):
        pitch_track(np.zeros(RATE, np.float32), RATE, HOP)


def test_harmonics_begin_without_a_voice_so_nothing_changes():
    codec = make_codec(SilkConfig.preset("tiny"))
    changed = set_phases(codec, "harmonic").eval()
    assert changed.config.phases == "harmonic"
    assert set_phases(changed, "harmonic") is changed
    tokens = codec.encode(speech(9600 * 3)).tokens
    assert torch.equal(changed.encode(speech(9600 * 3)).tokens, tokens)
    voice = changed.decoder.voice(changed.quantizer.codes(tokens))
    assert (voice.voicing < 0).all()
    torch.testing.assert_close(changed.decode(tokens), codec.decode(tokens), rtol=0, atol=1e-2)


def test_the_network_learns_a_pitch_that_its_codes_hold():
    """Codes in which two dimensions tell the pitch and a third whether there is one."""
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 8, (1, 200, 128), generator=random) / 3.5 - 1
    voiced = codes[..., 2].repeat_interleave(30, 1) > 0
    pitch = 200 * torch.exp2(0.6 * codes[..., 0] + 0.3 * codes[..., 1]).repeat_interleave(30, 1) * voiced
    source = make_codec(SilkConfig.preset("tiny", phases="harmonic")).decoder.source
    optimizer, totals = torch.optim.AdamW(source.parameters(), 3e-3), []
    for _ in range(40):
        losses = voice_losses(source.voice(codes), pitch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        totals.append({name: loss.item() for name, loss in losses.items()})
    assert totals[-1]["pitch"] < 0.1 < 0.3 < totals[0]["pitch"]
    assert totals[-1]["voicing"] < 0.1 < 0.5 < totals[0]["voicing"]


def test_a_run_with_harmonic_phases_trains_the_network_and_goes_on_bit_for_bit(speech_folder, tmp_path):
    pytest.importorskip("parselmouth", reason="no parselmouth: pip install praat-parselmouth")
    config = replace(STAGE2, phases="harmonic", optimizer="muon")
    train(config, [speech_folder], options(tmp_path / "whole"))
    assert all(row["pitch"] > 0 and row["voicing"] > 0 for row in log_of(tmp_path / "whole"))
    trained = SilkCodec.from_pretrained(tmp_path / "whole" / "model")
    assert trained.config.phases == "harmonic"
    start = SilkCodec(trained.config, seed=config.seed).decoder.source.state_dict()
    assert all(
        (tensor - start[name]).abs().max() > 1e-3 for name, tensor in trained.decoder.source.state_dict().items()
    )
    train(config, [speech_folder], options(tmp_path / "cut", checkpoint_every=4, max_minutes=0))
    train(config, [speech_folder], options(tmp_path / "cut", resume=True))
    whole, cut = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
