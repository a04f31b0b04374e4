"""A stream gives what the whole signal gives, whatever the chunks; its state can be stored."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from silk_fast import SilkCodec, SilkConfig, SilkConfigError, SilkInputError
from tests.support import FRAME, TINY, assert_same_tokens, make_codec, speech


@pytest.mark.parametrize("sizes", [[1, 479, 9601, 20_000], [9600], [4800, 3], [31_000]])
def test_streamed_encoding_equals_offline(codec, sizes):
    audio = speech(10 * FRAME + 123)
    offline = codec.encode(audio, chunk_frames=1000).tokens
    streamed, start = [], 0
    with codec.streaming() as stream:
        while start < audio.shape[-1]:
            size = sizes[len(streamed) % len(sizes)]
            streamed.append(stream.encode(audio[..., start : start + size]))
            start += size
        streamed.append(stream.finish())
    padded = torch.nn.functional.pad(audio, (0, offline.shape[1] * FRAME - audio.shape[-1]))
    with torch.no_grad():
        latents = codec.quantizer.norm(codec.latents(padded))
    assert_same_tokens(torch.cat(streamed, 1), offline, latents, TINY.levels)


def test_a_sample_at_a_time_completes_a_frame_at_its_last_sample():
    codec = make_codec()
    audio = speech(FRAME + 5)
    with codec.streaming() as stream:
        for i in range(FRAME + 5):
            assert stream.encode(audio[..., i : i + 1]).shape[1] == (i == FRAME - 1)


@pytest.mark.parametrize("sizes", [[1], [2, 5], [0, 1, 3]])
def test_streamed_decoding_equals_offline(codec, sizes):
    tokens = codec.encode(speech(12 * FRAME)).tokens
    pieces, start = [], 0
    with codec.streaming() as stream:
        while start < tokens.shape[1]:
            size = min(sizes[len(pieces) % len(sizes)], tokens.shape[1] - start)
            pieces.append(stream.decode(tokens[:, start : start + size]))
            expected_size = size * FRAME - (codec.config.output_delay if size and start == 0 else 0)
            assert pieces[-1].shape == (1, 1, expected_size)
            start += size
    expected = codec.decode(tokens, chunk_frames=1000)
    torch.testing.assert_close(torch.cat(pieces, -1), expected, rtol=0, atol=1e-5)


def test_bundled_model_streams_as_it_codes_whole_signals(small):
    audio = speech(5 * FRAME + 1234, start=7000)
    whole = small.encode(audio)
    with small.streaming() as stream:
        tokens = [stream.encode(chunk) for chunk in audio.split(3333, dim=-1)]
        tokens.append(stream.finish())
    assert torch.equal(torch.cat(tokens, dim=1), whole.tokens)
    with small.streaming() as stream:
        decoded = torch.cat([stream.decode(frame) for frame in whole.tokens.split(1, dim=1)], dim=-1)
    expected = small.decode(whole.tokens, whole.lengths)
    torch.testing.assert_close(decoded[..., : audio.shape[-1]], expected, rtol=0, atol=1e-5)


def test_state_can_be_stored_and_restored(codec, tmp_path):
    audio = speech(6 * FRAME)
    with codec.streaming() as stream:
        stream.decode(stream.encode(audio[..., :25_000]))
        save_file(stream.state.tensors(), tmp_path / "state.safetensors")
        before = stream.state.clone()
        rest = stream.encode(audio[..., 25_000:])
        sound = stream.decode(rest)
        assert not torch.equal(before.encoder.input.context, stream.state.encoder.input.context)
    with codec.streaming() as other:
        other.state.load(load_file(tmp_path / "state.safetensors"))
        assert torch.equal(other.encode(audio[..., 25_000:]), rest)
        assert torch.equal(other.decode(rest), sound)


def test_state_of_another_size_is_refused():
    codec = make_codec()
    with codec.streaming(2) as two, codec.streaming(1) as one:
        with pytest.raises(SilkInputError, match=r"state conformer.blocks.0.attention.keys: expected \(1, 8, 63, 16\)"):
            one.state.load(two.state.tensors())
        tensors = one.state.tensors()
        del tensors["pending"]
        with pytest.raises(SilkInputError, match=r"state pending: expected .* got nothing"):
            one.state.load(tensors)


def test_attention_that_looks_ahead_cannot_be_streamed():
    with pytest.raises(SilkConfigError, match="streaming needs a bounded attention_left and attention_right 0"):
        SilkCodec(SilkConfig.preset("tiny", attention_right=3)).streaming()


def test_a_refused_chunk_leaves_the_stream_as_it_was(codec):
    audio = speech(2 * FRAME)
    with codec.streaming() as stream:
        stream.encode(audio[..., :5000])
        with pytest.raises(SilkInputError, match="NaN"):
            stream.encode(torch.full((1, 1, 20_000), torch.nan))
        with pytest.raises(SilkInputError, match="must be \\[1, 1, T\\]"):
            stream.encode(torch.zeros(2, 1, 5))
        tokens = torch.cat([stream.encode(audio[..., 5000:]), stream.finish()], dim=1)
    assert torch.equal(tokens, codec.encode(audio).tokens)
