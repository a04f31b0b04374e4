"""What a stream refuses leaves it as it was, a signal can start anew alone, and an end is an end."""

import contextlib
import warnings

import pytest
import torch

from silk_fast import SilkInputError, SilkWarning
from tests.support import FRAME, speech

CLEAN = torch.cat([speech(4 * FRAME), speech(4 * FRAME, start=50_000)])  # two signals


def _tokens(codec):
    return codec.encode(CLEAN).tokens


@pytest.mark.parametrize(("magnitude", "n_pending"), [(1e9, 500), (1e20, 500), (3e38, 0), (torch.nan, 500)])
def test_a_bad_row_costs_no_other_row_anything(codec, magnitude, n_pending):
    """Whatever its magnitude: refused, then the clean chunk follows; or accepted, as 1e9 may be, and forgotten."""
    with codec.streaming(2) as stream:
        first = stream.encode(CLEAN[..., : FRAME + n_pending])
        before = stream.state.tensors()
        bad = CLEAN[..., FRAME + n_pending : 3 * FRAME].clone()
        bad[1, :, :FRAME] = magnitude
        tokens = None
        if magnitude < 2**31:
            with contextlib.suppress(SilkInputError):
                tokens = stream.encode(bad)
        else:
            with pytest.raises(SilkInputError, match="in row 1"):
                stream.encode(bad)
        if tokens is None:
            after = stream.state.tensors()
            assert all(torch.equal(after[name], value) for name, value in before.items())
            tokens = stream.encode(CLEAN[..., FRAME + n_pending : 3 * FRAME])
        tokens = torch.cat([first, tokens, stream.encode(CLEAN[..., 3 * FRAME :]), stream.finish()], dim=1)
    assert torch.equal(tokens[0], _tokens(codec)[0])


def test_latents_that_overflow_leave_the_state_as_it_was(codec):
    with codec.streaming(2) as stream:
        first = stream.encode(CLEAN[..., :20_000])
        before = stream.state.tensors()
        with torch.no_grad():
            codec.encoder.output.weight[0, 0, -1] = torch.nan
        with pytest.raises(SilkInputError, match=r"latents must be finite.*; the samples have magnitudes up to 0"):
            stream.encode(CLEAN[..., 20_000:])
        after = stream.state.tensors()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert first.shape[1] == 2


def test_an_interrupted_chunk_leaves_the_state_as_it_was(codec, monkeypatch):
    def interrupted(latents):
        raise KeyboardInterrupt

    with codec.streaming(2) as stream:
        first = stream.encode(CLEAN[..., :20_000])
        monkeypatch.setattr(codec.quantizer, "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.encode(CLEAN[..., 20_000:])
        monkeypatch.undo()
        tokens = torch.cat([first, stream.encode(CLEAN[..., 20_000:]), stream.finish()], dim=1)
    assert torch.equal(tokens, _tokens(codec))


def test_refused_tokens_leave_the_state_as_it_was(codec):
    tokens = _tokens(codec)
    with codec.streaming(2) as stream:
        first = stream.decode(tokens[:, :2])
        wrong = tokens[:, 2:].clone()
        wrong[1, 1, 4] = -5
        with pytest.raises(SilkInputError, match="token 4 of frame 1, sample 1, must be in 0"):
            stream.decode(wrong)
        audio = torch.cat([first, stream.decode(tokens[:, 2:])], dim=-1)
    torch.testing.assert_close(audio, codec.decode(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [1, [1], (1, 1), torch.tensor([1]), torch.tensor(1)], ids=repr)
def test_one_row_starts_anew_and_the_other_goes_on(codec, rows):
    expected = _tokens(codec)
    with codec.streaming(2) as stream:
        stream.encode(torch.cat([CLEAN[:1, :, : 2 * FRAME], speech(2 * FRAME, start=9000)]))
        stream.decode(expected[:, :2].flip(0))
        stream.reset(rows)
        tokens = stream.encode(torch.cat([CLEAN[:1, :, 2 * FRAME : 4 * FRAME], CLEAN[1:, :, : 2 * FRAME]]))
        audio = stream.decode(torch.cat([expected[1:, 2:4], expected[1:, :2]]))
    assert torch.equal(tokens[0], expected[0, 2:4])
    assert torch.equal(tokens[1], expected[1, :2])
    whole = codec.decode(expected[1:, :4])[0, 0]
    delay = codec.config.output_delay
    torch.testing.assert_close(audio[1, 0, delay:], whole[: 2 * FRAME - delay], rtol=0, atol=1e-5)
    torch.testing.assert_close(audio[0, 0], whole[2 * FRAME - delay :], rtol=0, atol=1e-5)


def test_a_stream_that_is_reset_whole_is_a_new_one(codec):
    expected = _tokens(codec)
    with codec.streaming(2) as stream:
        stream.decode(stream.encode(CLEAN[..., :20_001]))
        stream.finish()
        stream.reset()
        tokens = torch.cat([stream.encode(CLEAN), stream.finish()], dim=1)
        audio = stream.decode(tokens)
    assert torch.equal(tokens, expected)
    torch.testing.assert_close(audio, codec.decode(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [2, -1, [0, 5], "0", 1.0, [None], True, torch.tensor([0.5])], ids=repr)
def test_rows_that_are_none_are_refused(codec, rows):
    with codec.streaming(2) as stream:
        stream.encode(CLEAN[..., :20_001])
        before = stream.state.tensors()
        with pytest.raises(SilkInputError, match=r"rows must be an integer in 0 \.\. 1, got"):
            stream.reset(rows)
        after = stream.state.tensors()
        assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_second_end_gives_no_more_frames_and_no_signal_goes_on_after_it(codec):
    with codec.streaming(2) as stream:
        stream.encode(CLEAN[..., :5000])
        assert stream.finish().shape == (2, 1, 19)
        assert stream.finish().shape == (2, 0, 19)
        with pytest.raises(SilkInputError, match=r"ended by finish\(\); reset\(\) starts another"):
            stream.encode(CLEAN)
        with codec.streaming(2) as other:
            other.state.load(stream.state.tensors())
            assert other.finish().shape == (2, 0, 19)


@pytest.mark.parametrize(
    "call",
    [
        lambda stream: stream.encode(CLEAN),
        lambda stream: stream.decode(torch.zeros(2, 1, 19, dtype=torch.int32)),
        lambda stream: stream.finish(),
        lambda stream: stream.reset(),
        lambda stream: stream.state,
        lambda stream: stream.__enter__(),
    ],
    ids=["encode", "decode", "finish", "reset", "state", "with"],
)
def test_a_closed_stream_says_so(codec, call):
    with codec.streaming(2) as stream:
        pass
    with pytest.raises(SilkInputError, match="closed at the end of its with block"):
        call(stream)


def test_a_stream_says_that_the_codec_moved(codec):
    with codec.streaming(2) as stream:
        codec.double()
        with pytest.raises(SilkInputError, match=r"moved to torch\.float64 on cpu since this stream was opened"):
            stream.encode(CLEAN)


def test_samples_far_beyond_one_are_warned_of_once(codec):
    int16 = CLEAN * 32767
    expected = r"magnitude \d+, expected samples in \[-1, 1\]; divide 16-bit integers by 32768"
    with pytest.warns(SilkWarning, match=expected):
        codec.encode(int16)
    with warnings.catch_warnings(), codec.streaming(2) as stream:
        warnings.simplefilter("error")
        codec.encode(int16)
        stream.encode(int16)


def test_samples_a_little_beyond_one_are_not_warned_of(codec, recwarn):
    codec.encode(CLEAN / CLEAN.abs().max() * 4)
    assert not recwarn.list


@pytest.mark.parametrize("wrong", [torch.nan, -1.0, 9600, "text"], ids=str)
def test_a_damaged_state_is_refused(codec, wrong):
    with codec.streaming(2) as stream:
        stream.encode(CLEAN[..., :20_001])
        tensors = stream.state.tensors()
        if wrong == "text":
            tensors["pending"] = wrong
        elif wrong == 9600:
            tensors["n_pending"] = torch.tensor(wrong)
        elif wrong == -1.0:
            tensors["conformer.blocks.0.attention.n_valid"] = torch.tensor([1, -1])
        else:
            tensors["encoder.input.context"][1, 0, 3] = wrong
        before = stream.state.tensors()
        with pytest.raises(SilkInputError, match=r"state .*: expected"):
            stream.state.load(tensors)
        after = stream.state.tensors()
        assert all(torch.equal(after[name], value) for name, value in before.items())
