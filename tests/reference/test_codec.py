"""The codec as its users call it: lengths, prefixes, batches, refusals."""

import pytest
import torch

from silk_fast import SilkInputError
from tests.support import FRAME, TINY, assert_same_tokens, make_codec, speech


@pytest.mark.parametrize("n_samples", [1, 9599, 9600, 9601, 100_000, 24_000 * 61])
def test_frames_are_the_ceiling_and_decode_returns_exactly_the_samples(codec, n_samples):
    encoded = codec.encode(speech(n_samples))
    n_frames = -(-(n_samples + codec.config.output_delay) // 9600)
    assert encoded.tokens.shape == (1, n_frames, 19)
    assert encoded.tokens.dtype == torch.int32
    assert encoded.lengths.tolist() == [n_samples]
    assert encoded.n_frames.tolist() == [n_frames]
    audio = codec.decode(encoded.tokens, encoded.lengths)
    assert audio.shape == (1, 1, n_samples)
    assert audio.dtype == torch.float32
    assert audio.isfinite().all()


def test_decode_without_lengths_returns_all_that_the_frames_hold(codec):
    audio = codec.decode(codec.encode(speech(3 * FRAME)).tokens[:, :2])
    assert audio.shape[-1] == 2 * FRAME - codec.config.output_delay


def test_whole_signal_modules_equal_the_chunked_codec():
    codec = make_codec()
    audio = speech(70 * FRAME)  # longer than the attention window of 64 frames
    with torch.no_grad():
        latents = codec.latents(audio)
        tokens = codec.quantizer.encode(latents)
        whole = codec.decoder(codec.quantizer.decode(tokens))
    chunked = codec.encode(audio, chunk_frames=9).tokens
    assert_same_tokens(chunked, tokens, codec.quantizer.norm(latents), TINY.levels)
    torch.testing.assert_close(codec.decode(tokens, chunk_frames=9), whole, rtol=0, atol=1e-5)


def test_tokens_and_audio_do_not_change_when_more_samples_follow(codec):
    audio = speech(8 * FRAME)
    encoded = codec.encode(audio)
    decoded = codec.decode(encoded.tokens)
    for n_frames in (1, 3, 7):
        prefix = codec.encode(audio[..., : n_frames * FRAME]).tokens[:, :n_frames]
        assert torch.equal(prefix, encoded.tokens[:, :n_frames])
        shorter = codec.decode(prefix)
        torch.testing.assert_close(shorter, decoded[..., : shorter.shape[-1]], rtol=0, atol=1e-5)


def test_latents_see_no_later_sample():
    codec = make_codec()
    audio = speech(6 * FRAME)
    changed = audio.clone()
    changed[..., 3 * FRAME :] = torch.rand(3 * FRAME)
    with torch.no_grad():
        first, second = codec.latents(audio), codec.latents(changed)
    torch.testing.assert_close(first[:, :3], second[:, :3], rtol=0, atol=1e-6)
    assert (first[:, 3:] - second[:, 3:]).abs().amax(-1).min() > 1e-3


def test_a_clip_gives_the_same_tokens_alone_and_padded_in_a_batch(codec):
    lengths = [30_000, 9_600, 70_001, 1]
    clips = [speech(n, start=i * 50_000) for i, n in enumerate(lengths)]
    batch = torch.full((4, 1, 70_001), 0.5)  # what follows a clip must not matter, so it is not zero
    for i, clip in enumerate(clips):
        batch[i, :, : lengths[i]] = clip[0]
    encoded = codec.encode(batch, torch.tensor(lengths))
    decoded = codec.decode(encoded.tokens, encoded.lengths)
    for i, clip in enumerate(clips):
        alone = codec.encode(clip)
        n_frames = encoded.n_frames[i]
        assert n_frames == alone.tokens.shape[1]
        assert torch.equal(encoded.tokens[i, :n_frames], alone.tokens[0])
        assert encoded.tokens[i, n_frames:].eq(0).all()
        expected = codec.decode(alone.tokens, alone.lengths)
        torch.testing.assert_close(decoded[i, :, : lengths[i]], expected[0], rtol=0, atol=1e-5)
        assert decoded[i, :, lengths[i] :].eq(0).all()


def test_batch_property_holds_for_the_small_preset(small):
    clip, longer = speech(30_000), speech(70_001, start=50_000)
    batch = torch.zeros(2, 1, 70_001)
    batch[0, :, :30_000], batch[1] = clip[0], longer[0]
    encoded = small.encode(batch, torch.tensor([30_000, 70_001]))
    assert torch.equal(encoded.tokens[:1, : encoded.n_frames[0]], small.encode(clip).tokens)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(1, 1, 0), "at least 1 sample"),
        (torch.zeros(0, 1, 5), "at least 1 sample"),
        (torch.zeros(1, 2, 5), r"audio must be \[B, 1, T\], got shape \(1, 2, 5\)"),
        (torch.zeros(5), r"audio must be \[B, 1, T\]"),
        (torch.zeros(1, 1, 5, dtype=torch.int16), "floating-point tensor, got torch.int16"),
        ([0.0], "floating-point tensor"),
        (torch.tensor([[[0.0, torch.nan]]]), "NaN or infinite"),
        (torch.tensor([[[0.0, -torch.inf]]]), "NaN or infinite"),
    ],
    ids=str,
)
def test_bad_audio_is_refused(codec, audio, message):
    with pytest.raises(SilkInputError, match=message):
        codec.encode(audio)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([10_001], r"lengths must be in 1 .. 10000, got \[10001\]"),
        ([0], "lengths must be in 1 .. 10000"),
        ([5, 5], "lengths must be 1 integer"),
        ([5.0], "lengths must be 1 integer"),
    ],
)
def test_bad_lengths_are_refused(codec, lengths, message):
    with pytest.raises(SilkInputError, match=message):
        codec.encode(speech(10_000), torch.tensor(lengths))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(1, 0, 19, dtype=torch.int32), "at least one frame"),
        (torch.zeros(1, 2, 18, dtype=torch.int32), r"tokens must be int32 or int64 \[B, F, 19\]"),
        (torch.zeros(1, 2, 19), "got torch.float32"),
        (torch.full((1, 2, 19), -1), "token 0 of frame 0, sample 0, must be in 0 .. 2097151, got -1"),
        (torch.full((1, 2, 19), 64), "token 18 of frame 0, sample 0, must be in 0 .. 63, got 64"),
    ],
    ids=["empty", "groups", "dtype", "negative", "too large"],
)
def test_bad_tokens_are_refused(codec, tokens, message):
    with pytest.raises(SilkInputError, match=message):
        codec.decode(tokens)


def test_infinite_latents_are_refused(codec):
    latents = torch.zeros(1, 2, 128)
    latents[0, 1, 5] = torch.inf
    with pytest.raises(SilkInputError, match="latents must be finite"):
        codec.quantizer.encode(latents)
