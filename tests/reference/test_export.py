"""Encoding and decoding are exported whole, for any number of frames and signals."""

import pytest
import torch

from silk_fast import SilkCodec, SilkInputError
from tests.support import FRAME, speech


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


@pytest.mark.parametrize("strict", [True, False])
def test_decode_is_exported_for_any_number_of_frames(codec, strict):
    tokens = codec.encode(torch.cat([speech(5 * FRAME)] * 3)).tokens
    dynamic = ({0: N_SIGNALS, 1: N_FRAMES},)
    program = torch.export.export(Decode(codec), (tokens[:2, :3],), dynamic_shapes=dynamic, strict=strict)
    for part in (tokens, tokens[:1, 1:3], tokens[:2, :3]):
        torch.testing.assert_close(program.module()(part), codec.decode(part), rtol=0, atol=1e-5)


@pytest.mark.parametrize("strict", [True, False])
def test_encode_of_whole_frames_is_exported_for_any_number_of_them(codec, strict):
    audio = torch.cat([speech(5 * FRAME), speech(5 * FRAME, start=40_000)])
    dynamic = ({0: N_SIGNALS, 2: FRAME * N_FRAMES},)
    program = torch.export.export(Encode(codec), (audio[..., : 3 * FRAME],), dynamic_shapes=dynamic, strict=strict)
    for part in (audio, audio[1:, :, : 2 * FRAME]):
        assert torch.equal(program.module()(part), codec.encode(part).tokens)


def test_lengths_cannot_be_exported(codec):
    class WithLengths(Decode):
        def forward(self, tokens, lengths):
            return self.codec.decode(tokens, lengths)

    tokens = codec.encode(speech(3 * FRAME)).tokens
    with pytest.raises(SilkInputError, match=r"lengths must be None under torch\.export"):
        torch.export.export(WithLengths(codec), (tokens, torch.tensor([5])), strict=False)
