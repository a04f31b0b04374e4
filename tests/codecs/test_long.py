"""Long audio in pieces, and batches of many lengths: the results of one call each."""

import math
import weakref
from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from silk_fast import SilkInputError, accelerate_, decode_long, encode_batch, encode_long
from silk_fast.acceleration.table import release_of
from silk_fast.codecs import long, mimi
from silk_fast.codecs.cuts import Arriving, Chained, pieces, reach
from tests.codecs.configurations import TINY
from tests.codecs.support import Codec, Encodec, Mimi

FRAMES = 70  # of a piece
each_codec = pytest.mark.parametrize("name", TINY)


def made(name: str) -> tuple[Codec, nn.Module, float]:
    """A codec, its model, and seconds of FRAMES frames, or of two chunks; no decoder adds noise."""
    codec = TINY[name]
    model = codec.make()
    if name == "mimi" and release_of(mimi.LIBRARY.installed()) < mimi.CARRIES_ON:
        pytest.skip(f"transformers {mimi.LIBRARY.installed()} cannot carry on")
    for module in model.modules():
        if type(module).__name__ == "NoiseBlock":
            nn.init.zeros_(module.linear.parametrizations.weight.original0)
    cuts = long.cuts_of(model)
    return codec, model, (2 if name == "encodec in chunks" else FRAMES) * cuts.hop / cuts.sample_rate


def results(codec: Codec, found: Any) -> list[Tensor]:
    """Codes of every stage, or parameters, of what ``encode_long`` returned."""
    if isinstance(found, Tensor):
        return list(found.unbind(1))
    if isinstance(found, list):
        return found
    return [found.parameters] if hasattr(found, "parameters") else codec.results(found)


def whole(codec: Codec, model: nn.Module, audio: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return codec.results(codec.encode(model, audio))


def assert_alike(ours: list[Tensor], expected: list[Tensor], share: float, atol: float = 2e-5) -> None:
    """Codes are equal but for a share of them, where two entries may be equally near; others within ``atol``."""
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.shape == theirs.shape
        if mine.is_floating_point():
            torch.testing.assert_close(mine, theirs, rtol=0, atol=atol * theirs.abs().max().item())
        else:
            assert (mine != theirs).sum() <= max(1, share * theirs.numel())


@each_codec
@pytest.mark.parametrize("n_pieces", [0.6, 2, 5.504])
def test_pieces_give_the_codes_of_the_whole(name, n_pieces):
    codec, model, seconds = made(name)
    audio = codec.speech(n_pieces * seconds).expand(2, -1, -1) * torch.tensor([1.0, 0.5])[:, None, None]
    found = encode_long(model, audio, piece_seconds=seconds, **codec.options(model))
    assert_alike(results(codec, found), whole(codec, model, audio), 0.005)


@each_codec
def test_audio_that_arrives_in_blocks_gives_the_codes_that_it_gives_at_once(name):
    codec, model, seconds = made(name)
    audio = codec.speech(4.7 * seconds)
    expected = encode_long(model, audio, piece_seconds=seconds, **codec.options(model))
    blocks = [*audio.split(197, -1), audio[..., :0]]
    found = long.encode_blocks(model, blocks, piece_seconds=seconds, **codec.options(model))
    for ours, theirs in zip(results(codec, found), results(codec, expected), strict=True):
        assert torch.equal(ours, theirs)


def test_of_a_signal_that_arrives_what_was_read_is_forgotten():
    alive = []

    def blocks():
        for i in range(100):
            alive.append(weakref.ref(block := torch.full((1, 10), float(i))))
            yield block
            del block

    signal, seen = Arriving(blocks()), []
    for piece in pieces(signal, 5, size=6, n_before=2, n_after=2):
        span = signal.span(piece.first * 5, piece.last * 5)
        assert torch.equal(span, torch.arange(100.0).repeat_interleave(10)[None, piece.first * 5 : piece.last * 5])
        seen.append((piece.start, piece.end))
        assert sum(reference() is not None for reference in alive) <= 10
    assert seen == [(start, start + 6) for start in range(0, 192, 6)] + [(192, 200)]


@each_codec
def test_pieces_give_the_audio_of_the_whole(name):
    codec, model, seconds = made(name)
    audio = codec.speech(5.3 * seconds)
    codes = encode_long(model, audio, **codec.options(model))
    with torch.no_grad():
        expected = codec.decode(model, codec.encode(model, audio))
    ours = decode_long(model, codes, piece_seconds=seconds)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@each_codec
def test_without_their_reach_pieces_would_differ(name, monkeypatch):
    codec, model, seconds = made(name)
    codes = encode_long(model, codec.speech(4 * seconds))
    expected = decode_long(model, codes)
    cuts = long.cuts_of(model)
    if isinstance(cuts, Chained):
        (less,) = (replace(cuts, decoder=replace(cuts.decoder, reaches=(1, n))) for n in [cuts.decoder.reaches[1] // 2])
    else:
        less = replace(cuts, reaches=(0, max(0, cuts.reaches[1] // 2 - cuts.unit)))
    monkeypatch.setattr(long, "cuts_of", lambda model: less)
    ours = decode_long(model, codes, piece_seconds=seconds)
    assert ours.shape != expected.shape or (ours - expected).abs().max() > 1e-5


@pytest.mark.usefixtures("on_cpu")
@each_codec
def test_accelerated_pieces_too(name):
    codec, model, seconds = made(name)
    audio = codec.speech(4.2 * seconds)
    expected = [*map(torch.clone, whole(codec, model, audio))]
    accelerate_(model)
    found = encode_long(model, audio, piece_seconds=seconds, **codec.options(model))
    assert_alike(results(codec, found), expected, 0.01, 1e-4)


@each_codec
def test_a_clip_in_a_batch_gives_what_it_gives_alone(name):
    codec, model, seconds = made(name)
    lengths = [1.3, 0.591, 1.3, 0.86, 0.591]
    clips = [codec.speech(n * seconds)[0] * (i + 1) / 5 for i, n in enumerate(lengths)]
    options = codec.options(model)
    for clip, result in zip(clips, encode_batch(model, clips, max_batch=2, **options), strict=True):
        assert_alike(results(codec, result), whole(codec, model, clip[None]), 0.02)


def test_no_clips_give_no_results():
    _, model, _ = made("dac")
    assert encode_batch(model, []) == []


@pytest.mark.parametrize("name", [name for name, codec in TINY.items() if not isinstance(codec, Encodec | Mimi)])
def test_reach_is_that_of_the_gradient(name):
    """No frame further away than the reach has a gradient, and one nearly as far has."""
    codec, model, _ = made(name)
    cuts = long.cuts_of(model)
    assert_reach(model.encoder, codec.n_channels, cuts.hop, 1, cuts.unit)
    first = next(m for m in model.decoder.modules() if isinstance(m, nn.Conv1d))
    assert_reach(model.decoder, first.in_channels, 1, cuts.hop, cuts.unit)


def assert_reach(module: nn.Module, n_channels: int, n_in: int, n_out: int, unit: int = 1) -> None:
    n_frames, middle = 15 * 8, 60
    x = torch.randn(1, n_channels, n_frames * n_in, requires_grad=True)
    module(x)[..., middle * n_out : (middle + 1) * n_out].square().sum().backward()
    touched = x.grad.abs().amax((0, 1)).nonzero()[:, 0] // n_in
    farthest = max(middle - touched.min().item(), touched.max().item() - middle)
    counted = reach(module, n_in) + (unit if unit > 2 else 0)
    assert farthest <= counted
    assert unit > 2 or farthest >= counted - 2


@pytest.mark.parametrize("name", ["encodec", "mimi"])
def test_reach_of_the_convolutions_beside_a_state_is_that_of_the_gradient(name):
    _, model, _ = made(name)
    cuts = long.cuts_of(model)
    assert isinstance(cuts, Chained)
    n_in, n_middle, _ = cuts.encoder.sizes
    assert_reach(cuts.encoder.front, 1, n_in, n_middle)
    _, n_middle, n_out = cuts.decoder.sizes
    first = next(m for m in cuts.decoder.back.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d))
    assert_reach(cuts.decoder.back, first.in_channels, n_middle, n_out)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: encode_long(nn.Conv1d(1, 1, 1), x), "must be one of DacModel, EncodecModel, MimiModel, Auto.*"),
        (lambda m, x: encode_long(m.train(), x), "training mode"),
        (lambda m, x: encode_long(m, x[0]), r"audio must be \[B, 1, T\], got \[1, 1000\]"),
        (lambda m, x: encode_long(m, x.expand(1, 2, -1)), r"audio must be \[B, 1, T\], got \[1, 2, 1000\]"),
        (lambda m, x: encode_long(m, x.int()), "audio must be a floating-point tensor"),
        (lambda m, x: encode_long(m, x.numpy()), "audio must be a floating-point tensor"),
        (lambda m, x: encode_long(m, x[..., :9]), "a frame, 10 samples, or more, got 9"),
        (lambda m, x: encode_long(m, x, piece_seconds=0), "piece_seconds must be a positive number, got 0"),
        (lambda m, x: encode_long(m, x, piece_seconds=math.nan), "piece_seconds must be a positive number, got nan"),
        (lambda m, x: encode_long(m, x, piece_seconds="1"), "piece_seconds must be a positive number, got '1'"),
        (lambda m, x: encode_long(m, x, n_quantizers=4), "n_quantizers must be an integer in 1 .. 3, got 4"),
        (lambda m, x: encode_long(m, x, bandwidth=4), "unknown option 'bandwidth' of DacModel; expected n_quantizers"),
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


def test_options_are_those_of_the_library():
    for name, options, bad, message in (
        ("dac", {"n_quantizers": 2}, {"n_quantizers": 0}, "n_quantizers must be"),
        (
            "encodec",
            {"bandwidth": 10.0},
            {"bandwidth": 6.0},
            r"bandwidth must be one of 10.0, 40.0 \(kbit/s\), got 6.0",
        ),
        ("mimi", {"num_quantizers": 2}, {"num_quantizers": 9}, "num_quantizers must be an integer in 1 .. 4, got 9"),
        ("snac", {}, {"stages": 1}, "unknown option 'stages' of SNAC; it has none"),
    ):
        codec, model, seconds = made(name)
        audio = codec.speech(1.2 * seconds)
        with torch.no_grad():
            expected = codec.results(model.encode(audio, **options))
        assert_alike(results(codec, encode_long(model, audio, piece_seconds=seconds, **options)), expected, 0.01)
        with pytest.raises(SilkInputError, match=message):
            encode_long(model, audio, **bad)


def test_mimi_of_a_version_whose_cache_differs_is_refused(monkeypatch):
    model = TINY["mimi"].make()
    monkeypatch.setattr(metadata, "version", lambda distribution: "5.3.0")
    with pytest.raises(SilkInputError, match=r"Mimi in pieces needs transformers 5\.4 or later, got 5\.3\.0"):
        encode_long(model, TINY["mimi"].speech(0.1))
