"""What many tests share: recorded voices, codecs small enough to run anywhere, and the installed command."""

import copy
import sys
from functools import cache
from pathlib import Path

import soundfile
import torch

from silk_fast import SilkCodec, SilkConfig
from silk_fast.reference import ops
from silk_fast.reference.initialisation import calibrate_

ROOT = Path(__file__).resolve().parents[1]
SILK = Path(sys.executable).with_name("silk")
VOICES = ROOT / "tests" / "data" / "voices.ogg"
TINY = SilkConfig.preset("tiny")
FRAME = TINY.frame_samples


@cache
def _voices() -> torch.Tensor:
    samples, rate = soundfile.read(VOICES, dtype="float32")
    assert rate == 24_000
    return torch.from_numpy(samples[: len(samples) // 9600 * 9600])[None, None]


def voices() -> torch.Tensor:
    """Recorded voices, float32 ``[1, 1, T]``, T a multiple of the frame; the caller's own."""
    return _voices().clone()


def speech(n_samples: int, start: int = 0) -> torch.Tensor:
    """Samples ``start`` and on of the voices said over and over, float32 ``[1, 1, n_samples]``."""
    audio = voices()
    audio = audio.repeat(1, 1, -(-(start + n_samples) // audio.shape[-1]))
    return audio[..., start : start + n_samples]


@cache
def _calibrated_codec(config: SilkConfig) -> SilkCodec:
    codec = SilkCodec(config, weight_norm=False, seed=0).eval()
    calibrate_(codec, voices())
    return codec


def make_codec(config: SilkConfig = TINY) -> SilkCodec:
    """An untrained codec of seed 0, fitted to the voices; the caller's own, to change at will."""
    return copy.deepcopy(_calibrated_codec(config))


def assert_same_tokens(ours: torch.Tensor, expected: torch.Tensor, latents: torch.Tensor, levels: int) -> None:
    """Equal, except for digits whose latent sits within 1e-4 of a rounding boundary."""
    assert ours.shape == expected.shape
    per_dim = [levels] * latents.shape[-1]
    mine, theirs = (ops.unpack_digits(t, per_dim, TINY.group_size) for t in (ours, expected))
    bounded = ops.fsq_bound(latents, per_dim)
    from_boundary = (bounded - bounded.floor() - 0.5).abs()
    assert not ((mine != theirs) & (from_boundary > 1e-4)).any()
    assert (mine != theirs).float().mean() < 1e-4
