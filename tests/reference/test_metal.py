"""What Metal lacks is not asked of it: checked here by the operations that a device without them would be given."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from silk_fast.reference import ops
from tests.support import FRAME, make_codec, speech

ABSENT = ("col2im", "im2col", "aminmax")  # from Metal, in a version of PyTorch that this package supports


class Operations(TorchDispatchMode):
    """Collect the names of operations, and the dtypes that they compute in."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.names.add(function.overloadpacket.__name__)
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.dtypes.add(tensor.dtype)
        return result


@pytest.mark.parametrize("hop", [1, 80, 320, 640, 1280])
def test_adding_shifted_frames_is_overlap_add(hop):
    frames = torch.randn(2, 7, 1280)
    torch.testing.assert_close(ops.overlap_add_by_shifts(frames, hop), ops.overlap_add(frames, hop))


def test_coding_asks_for_no_float64_and_for_nothing_that_metal_lacks(monkeypatch):
    monkeypatch.setattr(ops, "overlap_add", ops.overlap_add_by_shifts)  # what is chosen where the device is Metal
    codec = make_codec()
    with Operations() as seen:
        encoded = codec.encode(speech(3 * FRAME), [2 * FRAME + 5])
        codec.decode(encoded)
        with codec.streaming() as stream:
            stream.decode(stream.encode(speech(FRAME)))
            stream.reset()
    assert torch.float64 not in seen.dtypes
    assert not seen.names & set(ABSENT)


def test_statistics_are_computed_in_float64_where_there_is_one():
    norm = make_codec().quantizer.norm
    latents = torch.randn(1, 50, 128) + 1e3
    norm.set_statistics(latents)
    torch.testing.assert_close(norm.variance, latents[0].double().var(0, unbiased=False).float())
