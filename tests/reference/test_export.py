"""Encoding and decoding are exported whole, for any number of frames and signals."""

import pytest
import torch

from silk_fast import SilkCodec, SilkConfig, SilkInputError
from tests.support import FRAME, make_codec, speech


class Encode(torch.nn.Module):
    def __init__(self, codec: SilkCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, audio):
        return self.codec.encode(audio).tokens


class Decode(torch.nn.Module):
    def __init__(self, codec: SilkCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, tokens):
        return self.codec.decode(tokens)


N_SIGNALS = torch.export.Dim("n_signals", min=1, max=64)
N_FRAMES = torch.export.Dim("n_frames", min=2, max=400)


@pytest.fixture(scope="module")
def codec():
    """A codec of few layers, not to be changed."""
    return make_codec(SilkConfig.preset("tiny", conformer_layers=1, dilations=(1,), output_delay=960))


@pytest.mark.parametrize("strict", [True, False])
def test_decode_is_exported_for_any_number_of_frames(codec, strict):
    tokens = codec.encode(torch.cat([speech(3 * FRAME)] * 2)).tokens
    program = torch.export.export(
        Decode(codec), (tokens,), dynamic_shapes=({0: N_SIGNALS, 1: N_FRAMES},), strict=strict
    ).module()
    for other in (tokens, tokens[:1, 1:3].contiguous(), tokens.repeat(2, 5, 1)):
        torch.testing.assert_close(program(other), codec.decode(other), rtol=0, atol=1e-5)


def test_encode_of_whole_frames_is_exported_for_any_number_of_them(codec):
    audio = torch.cat([speech(3 * FRAME), speech(3 * FRAME, start=40_000)])
    program = torch.export.export(
        Encode(codec), (audio,), dynamic_shapes=({0: N_SIGNALS, 2: FRAME * N_FRAMES},), strict=False
    ).module()
    for other in (audio, audio[1:, :, : 2 * FRAME].contiguous(), audio.repeat(2, 1, 3)):
        assert torch.equal(program(other), codec.encode(other).tokens)


@pytest.mark.parametrize(("strict", "n_samples"), [(True, 2 * FRAME), (False, 2 * FRAME - 5)])
def test_decode_of_what_encode_returned_is_exported(codec, strict, n_samples):
    class Both(Decode):
        def forward(self, audio):
            return self.codec.decode(self.codec.encode(audio))

    audio = speech(n_samples)
    program = torch.export.export(Both(codec), (audio,), strict=strict).module()
    other = speech(n_samples, start=30_000)
    torch.testing.assert_close(program(other), codec.decode(codec.encode(other)), rtol=0, atol=1e-5)


def test_lengths_cannot_be_exported(codec):
    class WithLengths(Decode):
        def forward(self, tokens, lengths):
            return self.codec.decode(tokens, lengths)

    tokens = codec.encode(speech(3 * FRAME)).tokens
    with pytest.raises(SilkInputError, match=r"lengths must be None under torch\.export"):
        torch.export.export(WithLengths(codec), (tokens, torch.tensor([5])), strict=False)
