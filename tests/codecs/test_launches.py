"""How many kernels a call launches on a GPU, counted without one: PyTorch's operations and Triton's launches."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from silk_fast import accelerate_
from tests.codecs.configurations import CODECS
from tests.codecs.support import Codec
from tests.kernels.support import DEVICE

pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="launches are counted in Triton's interpreter")
LSTM = torch._VF.lstm
ALLOCATE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


PAGE = (Path(__file__).parents[2] / "docs" / "codecs.md").read_text()


class Launches(TorchDispatchMode):
    """Counts operations that read or write elements, as on a GPU with cuDNN.

    There a convolution adds its bias by another launch, and an LSTM is one call, whatever that launches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def lstm(self, *arguments):
        """In place of ``torch.lstm``."""
        self.n += 1
        with torch._C._DisableTorchDispatch():
            return LSTM(*arguments)

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
    """Launches of a call whose kernels, but for those whose results are indices, are not run."""
    from triton.runtime.interpreter import GridExecutor

    launch, n_kernels = GridExecutor.__call__, 0

    def counted(self, *args, **kwargs):
        nonlocal n_kernels
        n_kernels += 1
        if "rvq" in self.fn.__name__:
            launch(self, *args, **kwargs)

    monkeypatch.setattr(GridExecutor, "__call__", counted)
    with torch.no_grad():
        call()  # packs weights
        n_kernels = 0
        with Launches() as launches:
            monkeypatch.setattr(torch._VF, "lstm", launches.lstm)
            call()
    monkeypatch.undo()
    return launches.n + n_kernels


def _thin(name: str, **options) -> Codec:
    """A codec of as many layers as that of real size, with few channels."""
    codec = CODECS[name]
    return type(codec)(partial(codec.build.func, **codec.build.keywords | options), codec.rate, codec.n_channels)


THIN = {
    "dac": _thin("dac 44.1 kHz", encoder_hidden_size=16, decoder_hidden_size=256, codebook_size=32),
    "snac": _thin("snac 24 kHz", encoder_dim=16, decoder_dim=256, codebook_size=32),
    "oobleck": _thin("oobleck stereo", encoder_hidden_size=16, decoder_channels=16, decoder_input_channels=8),
    "encodec": _thin("encodec 24 kHz", num_filters=4, hidden_size=32, codebook_size=32, codebook_dim=32),
    "mimi": _thin("mimi, 8 codebooks", codebook_size=32),
}


@pytest.mark.parametrize("name", THIN)
def test_a_call_launches_no_more_than_the_page_says(name, monkeypatch):
    (row,) = (line.split("|")[2:-1] for line in PAGE.splitlines() if line.startswith(f"| launches, {name} |"))
    codec = THIN[name]
    model, audio = codec.make(), codec.speech(0.2)
    with torch.no_grad():
        encoded = codec.encode(model, audio)
    found = []
    for dtype in (None, torch.float32, torch.float16):
        if dtype is not None:
            accelerate_(model, dtype=dtype)
        found += [
            count(monkeypatch, partial(codec.encode, model, audio)),
            count(monkeypatch, partial(codec.decode, model, encoded)),
        ]
    said = [int(number) for cell in row for number in cell.split(",")]
    assert found[:2] == said[:2]
    assert all(mine <= page for mine, page in zip(found[2:], said[2:], strict=True)), found
