"""Long audio in pieces, and batches of many lengths: the results of one call each."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from silk_fast import SilkInputError, accelerate_, decode_long, encode_batch, encode_long
from silk_fast.codecs import long
from tests.codecs.support import TINY, Codec

FRAMES = 70  # of a piece
each_codec = pytest.mark.parametrize("name", TINY)


def made(name: str) -> tuple[Codec, nn.Module, float]:
    """A codec, its model, and seconds of FRAMES frames; no decoder adds noise."""
    codec = TINY[name]
    model = codec.make()
    for module in model.modules():
        if type(module).__name__ == "NoiseBlock":
            nn.init.zeros_(module.linear.parametrizations.weight.original0)
    return codec, model, FRAMES * long.cuts_of(model).hop / codec.rate


def speech(codec: Codec, model: nn.Module, n_frames: float) -> Tensor:
    return codec.speech(n_frames * long.cuts_of(model).hop / codec.rate)


def tensors(codes: Any) -> list[Tensor]:
    return codes if isinstance(codes, list) else [codes.parameters if hasattr(codes, "parameters") else codes]


def whole(model: nn.Module, audio: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return long.cuts_of(model).encode(audio)


@each_codec
@pytest.mark.parametrize("n_frames", [FRAMES - 30, 2 * FRAMES, 5.5 * FRAMES + 0.3])
def test_pieces_give_the_codes_of_the_whole(name, n_frames):
    codec, model, seconds = made(name)
    audio = speech(codec, model, n_frames).expand(2, -1, -1) * torch.tensor([1.0, 0.5])[:, None, None]
    for ours, expected in zip(
        tensors(encode_long(model, audio, piece_seconds=seconds)), whole(model, audio), strict=True
    ):
        assert ours.shape == expected.shape
        if ours.is_floating_point():
            torch.testing.assert_close(ours, expected, rtol=0, atol=2e-5 * expected.abs().max().item())
        else:
            assert (ours != expected).float().mean() <= 0.005  # where two entries are equally near


@each_codec
def test_pieces_give_the_audio_of_the_whole(name):
    codec, model, seconds = made(name)
    codes = encode_long(model, speech(codec, model, 5.3 * FRAMES))
    codes = codes.mean if codec.library == "diffusers" else codes
    with torch.no_grad():
        expected = long.cuts_of(model).decode(codes if isinstance(codes, list) else [codes])
    ours = decode_long(model, codes, piece_seconds=seconds)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@each_codec
def test_without_their_reach_pieces_would_differ(name, monkeypatch):
    codec, model, seconds = made(name)
    audio = speech(codec, model, 4 * FRAMES)
    codes = encode_long(model, audio)
    codes = codes.mean if codec.library == "diffusers" else codes
    expected = decode_long(model, codes)
    needed = long.reach(long.cuts_of(model).decoder, long.cuts_of(model).hop)
    unit = long.cuts_of(model).unit
    for n_frames in {0, max(0, needed // 2 - unit)}:
        monkeypatch.setattr(long, "reach", lambda *_, n=n_frames: n)
        ours = decode_long(model, codes, piece_seconds=seconds)
        assert ours.shape != expected.shape or (ours - expected).abs().max() > 1e-5


@pytest.mark.usefixtures("on_cpu")
@each_codec
def test_accelerated_pieces_too(name):
    codec, model, seconds = made(name)
    audio = speech(codec, model, 4.2 * FRAMES)
    expected = [*map(torch.clone, whole(model, audio))]
    accelerate_(model)
    for ours, wanted in zip(tensors(encode_long(model, audio, piece_seconds=seconds)), expected, strict=True):
        if ours.is_floating_point():
            torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-4 * wanted.abs().max().item())
        else:
            assert (ours != wanted).float().mean() <= 0.01


@each_codec
def test_a_clip_in_a_batch_gives_what_it_gives_alone(name):
    codec, model, _ = made(name)
    lengths = [90, 41.4, 90, 60, 41.4]
    clips = [speech(codec, model, n)[0] * (i + 1) / 5 for i, n in enumerate(lengths)]
    for clip, result in zip(clips, encode_batch(model, clips, max_batch=2), strict=True):
        for ours, expected in zip(tensors(result), whole(model, clip[None]), strict=True):
            assert ours.shape == expected.shape
            if ours.is_floating_point():
                torch.testing.assert_close(ours, expected, rtol=0, atol=2e-5 * expected.abs().max().item())
            else:
                assert (ours != expected).float().mean() <= 0.02


def test_no_clips_give_no_results():
    _, model, _ = made("dac")
    assert encode_batch(model, []) == []


@each_codec
def test_reach_is_that_of_the_gradient(name):
    """No frame further away than the reach has a gradient, and one nearly as far has."""
    codec, model, _ = made(name)
    cuts = long.cuts_of(model)
    for module, hop_in, hop_out in ((cuts.encoder, cuts.hop, 1), (cuts.decoder, 1, cuts.hop)):
        n_frames, middle = 15 * 8, 60
        x = torch.randn(1, _channels(codec, module), n_frames * hop_in, requires_grad=True)
        module(x)[..., middle * hop_out : (middle + 1) * hop_out].square().sum().backward()
        touched = x.grad.abs().amax((0, 1)).nonzero()[:, 0] // hop_in
        farthest = max(middle - touched.min().item(), touched.max().item() - middle)
        counted = long.reach(module, cuts.hop) + (cuts.unit if cuts.unit > 2 else 0)
        assert farthest <= counted
        assert cuts.unit > 2 or farthest >= counted - 2


def _channels(codec: Codec, module: nn.Module) -> int:
    if "Encoder" in type(module).__name__:
        return codec.n_channels
    first = next(m for m in module.modules() if isinstance(m, nn.Conv1d))
    return first.in_channels


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: encode_long(nn.Conv1d(1, 1, 1), x), "must be one of DacModel, AutoencoderOobleck, SNAC, got"),
        (lambda m, x: encode_long(m.train(), x), "training mode"),
        (lambda m, x: encode_long(m, x[0]), r"audio must be \[B, 1, T\], got \[1, 1000\]"),
        (lambda m, x: encode_long(m, x.expand(1, 2, -1)), r"audio must be \[B, 1, T\], got \[1, 2, 1000\]"),
        (lambda m, x: encode_long(m, x.int()), "audio must be a floating-point tensor"),
        (lambda m, x: encode_long(m, x.numpy()), "audio must be a floating-point tensor"),
        (lambda m, x: encode_long(m, x[..., :9]), "a frame, 10 samples, or more, got 9"),
        (lambda m, x: encode_long(m, x, piece_seconds=0), "piece_seconds must be a positive number, got 0"),
        (lambda m, x: encode_long(m, x, piece_seconds=math.nan), "piece_seconds must be a positive number, got nan"),
        (lambda m, x: encode_long(m, x, piece_seconds="1"), "piece_seconds must be a positive number, got '1'"),
        (lambda m, x: encode_batch(m, [x]), r"clips must be tensors \[C, T\]"),
        (lambda m, x: encode_batch(m, [x[0]], max_batch=0), "max_batch must be a positive integer, got 0"),
        (lambda m, x: decode_long(m, [x]), "codes must be what encode_long returns"),
        (lambda m, x: decode_long(m, None), "codes must be what encode_long returns"),
        (lambda m, x: decode_long(m, torch.zeros(1, 3, 0, dtype=torch.int64)), "codes must have frames"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call, message):
    _, model, _ = made("dac")
    with pytest.raises(SilkInputError, match=message):
        call(model, torch.zeros(1, 1, 1000))
