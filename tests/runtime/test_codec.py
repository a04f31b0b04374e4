"""Every codec through one interface: rows of tokens, as many as the signal has frames, each signal as alone."""

import pytest
import torch

from silk_fast import SilkInputError, SilkModelError, decode_long
from silk_fast.codecs.files import Codes, unpack
from silk_fast.runtime.codec import Codec, OfLibrary, open_codec
from tests.codecs.configurations import TINY
from tests.codecs.saved import save_model
from tests.support import speech

NAMES = ["dac", "encodec", "mimi", "snac", "snac with attention"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The small codec of some name; not to be changed."""
    folder, made = tmp_path_factory.mktemp("codecs"), {}

    def open_one(name: str) -> Codec:
        if name not in made:
            path = folder / name.replace(" ", "-")
            made[name] = open_codec(name.split()[0], str(save_model(name, path)))
        return made[name]

    return open_one


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_more", [1, -1, 0, 7])
def test_a_signal_has_a_row_of_tokens_for_every_frame(name, n_more, opened):
    codec = opened(name)
    audio = TINY[name].speech(1)[..., : max(1, 120 * codec.frame_samples + n_more)]
    tokens = codec.encode(audio)
    assert tokens.dtype == torch.int32
    assert tokens.shape == (1, codec.n_frames(audio.shape[-1]), codec.tokens_per_frame)
    if "attention" not in name:
        assert tokens.shape[1] == -(-audio.shape[-1] // codec.frame_samples)
    decoded = codec.decode(tokens)
    assert decoded.dtype == torch.float32
    assert decoded.shape == (1, codec.n_channels, tokens.shape[1] * codec.frame_samples)


@pytest.mark.parametrize("name", NAMES)
def test_signals_of_a_batch_are_as_alone(name, opened):
    codec = opened(name)
    audio = TINY[name].speech(0.2).repeat(3, 1, 1) * torch.tensor([1.0, 0.3, 0.05])[:, None, None]
    tokens = codec.encode(audio)
    assert torch.equal(tokens, torch.cat([codec.encode(row[None]) for row in audio]))
    if "snac" not in name:  # whose decoder adds noise
        alone = torch.cat([codec.decode(row[None]) for row in tokens])
        torch.testing.assert_close(codec.decode(tokens), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["dac", "encodec", "mimi"])
def test_tokens_are_those_of_the_library(name, opened):
    codec = opened(name)
    assert isinstance(codec, OfLibrary)
    audio = TINY[name].speech(1)[..., : 100 * codec.frame_samples]
    with torch.no_grad():
        codes = torch.stack(TINY[name].results(codec.model.encode(audio)), -1)
    tokens = codec.encode(audio)
    assert (tokens != codes).float().mean() < 0.02
    described = {"sample_rate": codec.sample_rate, "n_channels": 1, "n_samples": 1, "weights": "", "library": ""}
    codes = Codes(codec=name, weights_sha256="", tensors={"tokens": tokens[0]}, **described)
    expected = decode_long(codec.model, unpack(codec.cuts, codes, codec.model))
    torch.testing.assert_close(codec.decode(tokens)[..., : expected.shape[-1]], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "n_tokens"),
    [("dac", {"n_quantizers": 2}, 2), ("encodec", {"bandwidth": 10.0}, 1), ("mimi", {"num_quantizers": 3}, 3)],
)
def test_options_are_those_of_the_library(name, options, n_tokens, tmp_path):
    if name == "encodec":
        n_tokens = TINY[name].make().quantizer.get_num_quantizers_for_bandwidth(10.0)
    codec = open_codec(name, str(save_model(name, tmp_path / name)), options=options)
    assert codec.tokens_per_frame == n_tokens
    tokens = codec.encode(TINY[name].speech(0.1))
    assert tokens.shape[-1] == n_tokens
    assert codec.decode(tokens).abs().max() > 0
    with pytest.raises(SilkInputError, match="unknown option 'stages'"):
        open_codec(name, str(tmp_path / name), options={"stages": 1})


def test_causal_are_those_that_read_nothing_later(opened):
    assert {name: opened(name).causal for name in NAMES} == {
        "dac": False, "encodec": True, "mimi": True, "snac": False, "snac with attention": False
    }  # fmt: skip


def test_silk_is_one_of_them(model):
    codec = open_codec(weights=model)
    assert (codec.name, codec.sample_rate, codec.n_channels, codec.frame_samples) == ("silk", 24_000, 1, 9600)
    assert (codec.tokens_per_frame, codec.causal) == (19, True)
    audio = speech(20_000).repeat(2, 1, 1) * torch.tensor([1.0, 0.3])[:, None, None]
    tokens = codec.encode(audio)
    assert tokens.shape == (2, 3, 19)
    assert torch.equal(tokens, torch.cat([codec.encode(row[None]) for row in audio]))
    assert codec.decode(tokens).shape == (2, 1, 3 * 9600)
    assert set(codec.versions) == {"silk_fast", "torch"}
    assert open_codec().weights_sha256 != codec.weights_sha256


def test_what_tokens_depend_on_is_named(opened):
    codec = opened("dac")
    assert set(codec.versions) == {"silk_fast", "torch", "transformers"}
    assert len(codec.weights_sha256) == 64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: open_codec("mp3"), SilkInputError, "codec must be one of silk, dac, encodec, mimi, snac, got 'mp3'"),
        (lambda: open_codec("oobleck", "x"), SilkInputError, r"got 'oobleck' \(it has latents, no tokens\)"),
        (lambda: open_codec("dac"), SilkInputError, "dac needs weights, a directory or a hub id"),
        (lambda: open_codec("silk", options={"a": 1}), SilkInputError, "unknown option 'a' of Silk; it has none"),
        (lambda: open_codec("silk", "no such model"), SilkModelError, "unknown model 'no such model'"),
        (lambda: open_codec("dac", "no such model"), SilkModelError, "no directory 'no such model'"),
        (lambda: open_codec(device="abacus"), SilkInputError, "device 'abacus' cannot be used"),
    ],
)
def test_what_cannot_be_opened_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_encodec_in_chunks_has_more_than_tokens(tmp_path):
    path = save_model("encodec in chunks", tmp_path / "model")
    with pytest.raises(SilkInputError, match="works in chunks has a scale for each, beside its tokens"):
        open_codec("encodec", str(path))


@pytest.mark.parametrize("name", ["dac", "snac with attention"])
def test_bad_tensors_are_refused_by_name(name, opened):
    codec = opened(name)
    n = codec.tokens_per_frame
    for audio, message in (
        (torch.zeros(1, 2, 50), r"audio must be \[B, 1, T\] with at least one sample, got shape \(1, 2, 50\)"),
        (torch.zeros(1, 1, 0), r"audio must be \[B, 1, T\] with at least one sample, got shape \(1, 1, 0\)"),
        (torch.full((1, 1, 99), torch.nan), "audio must be finite, got NaN or infinite samples in row 0"),
        (torch.zeros(1, 1, 99).int(), r"audio must be floating-point \[B, 1, T\], got torch.int32"),
    ):
        with pytest.raises(SilkInputError, match=message):
            codec.encode(audio)
    for tokens, message in (
        (
            torch.zeros(1, 4, n + 1).int(),
            rf"tokens must be \[B, F, {n}\] with at least one frame, got \(1, 4, {n + 1}\)",
        ),
        (torch.zeros(1, 0, n).int(), "with at least one frame, got"),
        (torch.zeros(1, 4, n), rf"tokens must be int32 or int64 \[B, F, {n}\], got torch.float32"),
        (torch.full((1, 4, n), 64).int(), "tokens must be in 0 .. 63, got 64 .. 64"),
        (torch.full((1, 4, n), -1).int(), "tokens must be in 0 .. 63, got -1 .. -1"),
    ):
        with pytest.raises(SilkInputError, match=message):
            codec.decode(tokens)
    if "attention" in name:
        with pytest.raises(SilkInputError, match="tokens must be whole windows of 4 frames, got 3 frames"):
            codec.decode(torch.zeros(1, 3, n).int())
