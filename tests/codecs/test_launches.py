"""How many kernels a call launches on a GPU, counted without one: PyTorch's operations and Triton's launches."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from silk_fast import accelerate_
from tests.codecs.configurations import CODECS, TINY
from tests.codecs.support import Codec
from tests.kernels.support import DEVICE

pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="launches are counted in Triton's interpreter")
ALLOCATE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


class Launches(TorchDispatchMode):
    """Counts operations that read or write elements; a convolution adds its bias by another launch, as with cuDNN."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.namespace == "silk_fast" or func._schema.name.partition("::")[2] in ALLOCATE:
            return result  # kernels are counted where Triton launches them
        inputs = {x.untyped_storage()._cdata for x in tree_leaves(args) if isinstance(x, Tensor)}
        outputs = [y for y in tree_leaves(result) if isinstance(y, Tensor)]
        is_view = bool(outputs) and all(y.untyped_storage()._cdata in inputs for y in outputs)
        if not is_view or func._schema.is_mutable:
            self.n += 1 + (func is torch.ops.aten.convolution.default and args[2] is not None)
        return result


def count(monkeypatch, call) -> int:
    from triton.runtime.interpreter import GridExecutor

    launch, n_kernels = GridExecutor.__call__, 0

    def counted(*args, **kwargs):
        nonlocal n_kernels
        n_kernels += 1
        return launch(*args, **kwargs)

    monkeypatch.setattr(GridExecutor, "__call__", counted)
    with torch.no_grad(), Launches() as launches:
        call()
    monkeypatch.undo()
    return launches.n + n_kernels


def _thin(name: str, **options) -> Codec:
    """A codec of as many layers as that of real size, with few channels."""
    codec = CODECS[name]
    return type(codec)(lambda: codec.build.func(**codec.build.keywords | options), codec.rate, codec.n_channels)


THIN = {
    "dac": _thin("dac 44.1 kHz", encoder_hidden_size=16, decoder_hidden_size=256, codebook_size=32),
    "snac": _thin("snac 24 kHz", encoder_dim=16, decoder_dim=256, codebook_size=32),
    "oobleck": _thin("oobleck stereo", encoder_hidden_size=16, decoder_channels=16, channel_multiples=[1, 2, 2, 2, 2]),
    "encodec": _thin("encodec 24 kHz", num_filters=4, hidden_size=32, codebook_size=32, codebook_dim=32),
}


@pytest.mark.parametrize("name", THIN)
def test_print(name, monkeypatch):
    codec = THIN[name]
    model = codec.make()
    audio = codec.speech(0.1)[..., :4096]
    with torch.no_grad():
        encoded = codec.encode(model, audio)
    for dtype in (None, torch.float32, torch.float16):
        if dtype:
            accelerate_(model, dtype=dtype)
        with torch.backends.mkldnn.flags(enabled=False):
            codec.encode(model, audio), codec.decode(model, encoded)
            print(name, dtype, count(monkeypatch, lambda: codec.encode(model, audio)), count(monkeypatch, lambda: codec.decode(model, encoded)))
