"""Overlap-add alone; what the inverse STFT does with it is in ``test_polar_istft.py``."""

import pytest
import torch
from silk_fast.kernels.inverse_stft.overlap_add import overlap_add

from tests.kernels.support import DEVICE, hann


def test_chunks_repeat_the_additions_of_the_whole_bit_by_bit():
    frames = torch.randn(2, 11, 20, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    window = hann(20)
    whole = overlap_add(frames, window, 5, 0, 55, "constant")
    overlap, audio = torch.zeros(2, 15, device=DEVICE), []
    for chunk in frames.split([1, 2, 7, 1], dim=1):
        n_out = chunk.shape[1] * 5
        total = overlap_add(chunk, window, 5, 0, n_out + 15, "constant", overlap)
        audio.append(total[:, :n_out])
        overlap = total[:, n_out:]
    assert torch.equal(torch.cat(audio, dim=1), whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 0, 25), "first and n_out must lie within 24 samples"),
        ((4, -1, 2), "first and n_out must lie within"),
        ((4, 0, 4, "both"), "normalization must be one of"),
        ((3, 0, 4), "hop must divide n_fft = 16"),
        ((4, 0, 12, "window", torch.zeros(1, 12, device=DEVICE)), "overlap goes with first = 0"),
    ],
)
def test_overlap_add_refuses_what_lies_outside(arguments, message):
    with pytest.raises(ValueError, match=message):
        overlap_add(torch.zeros(1, 3, 16, device=DEVICE), hann(16), *arguments)
    with pytest.raises(TypeError, match="frames must be float32 or float64"):
        overlap_add(torch.zeros(1, 3, 16, device=DEVICE).half(), hann(16), 4, 0, 4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"window": torch.ones(16, device="meta")}, ValueError, "window must be on the device of frames"),
        ({"window": torch.ones(16).int()}, TypeError, "window must be float32.*int32"),
        ({"overlap": torch.ones(1, 12, device="meta")}, ValueError, "overlap must be on the device of frames"),
        ({"overlap": torch.ones(1, 12).long()}, TypeError, "overlap must be float32.*int64"),
    ],
)
def test_overlap_add_refuses_other_devices_and_kinds(changes, error, message):
    arguments = {"window": torch.ones(16), "overlap": torch.zeros(1, 12)} | changes
    arguments = {name: t if t.is_meta else t.to(DEVICE) for name, t in arguments.items()}
    with pytest.raises(error, match=message):
        overlap_add(torch.zeros(1, 3, 16, device=DEVICE), hop=4, first=0, n_out=4, **arguments)
