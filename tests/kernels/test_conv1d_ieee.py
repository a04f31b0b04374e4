"""``conv1d_ieee``: it is ``F.conv1d``, and its settings hold forward, backward, compiled and exported."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from silk_fast.kernels import conv1d_ieee

from tests.kernels.support import DEVICE

pytestmark = pytest.mark.not_emulated(reason="its convolutions are those of cuDNN")

GEOMETRY = {"stride": 3, "dilation": 2, "groups": 2}


def settings() -> tuple:
    cudnn = torch.backends.cudnn
    precision = cudnn.conv.fp32_precision if hasattr(cudnn, "conv") else cudnn.allow_tf32
    return cudnn.deterministic, cudnn.benchmark, precision


EXACT = ((True, False, "ieee"), (True, False, "none"), (True, False, False))


@pytest.fixture
def seen(monkeypatch) -> list[tuple]:
    """Settings in force whenever convolutions ran, which start from those that users of speed choose."""
    found = []
    convolve, back = F.conv1d, torch.ops.aten.convolution_backward

    class Recorder:
        def __call__(self, *arguments):
            found.append(("forward", *settings()))
            return convolve(*arguments)

        def convolution_backward(self, *arguments):
            found.append(("backward", *settings()))
            return back(*arguments)

    recorder = Recorder()
    monkeypatch.setattr(F, "conv1d", recorder)
    monkeypatch.setattr(torch.ops.aten, "convolution_backward", recorder.convolution_backward)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    return found


def make_inputs(dtype=torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(s).to(DEVICE, dtype).requires_grad_() for s in ((2, 4, 20), (6, 2, 3), (6,))]


@pytest.mark.parametrize("n_inputs", [2, 3])
def test_equals_conv1d_forward_and_backward(n_inputs):
    leaves = make_inputs()[:n_inputs]
    both = [convolve(*leaves, **GEOMETRY) for convolve in (conv1d_ieee, F.conv1d)]
    results = [[y, *torch.autograd.grad(y.square().sum(), leaves)] for y in both]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_settings_hold_forward_and_backward_and_are_put_back(seen):
    before = settings()
    y = conv1d_ieee(*(leaves := make_inputs()), **GEOMETRY)
    torch.autograd.grad(y.sum(), leaves[1:])
    assert [direction for direction, *_ in seen] == ["forward", "backward"]
    assert all(tuple(found) in EXACT for _, *found in seen)
    assert settings() == before
    assert torch.backends.cudnn.allow_tf32


def test_settings_are_put_back_after_an_error(seen):
    before = settings()
    with pytest.raises(RuntimeError):
        conv1d_ieee(torch.zeros(1, 2, 3, device=DEVICE), torch.zeros(1, 3, 1, device=DEVICE))
    assert settings() == before


NEW_SETTINGS = """
import torch
from silk_fast.kernels import conv1d_ieee
cudnn = torch.backends.cudnn
cudnn.conv.fp32_precision = "ieee"  # from here on reading allow_tf32 fails
x, weight = torch.randn(1, 2, 9, requires_grad=True), torch.randn(3, 2, 3, requires_grad=True)
conv1d_ieee(x, weight).sum().backward()
assert cudnn.conv.fp32_precision == "ieee"
cudnn.conv.fp32_precision, torch.backends.fp32_precision = "none", "ieee"
conv1d_ieee(x, weight)
torch.backends.fp32_precision = "tf32"
assert cudnn.conv.fp32_precision == "tf32"  # what was inherited still is
"""


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="needs torch 2.9, which made fp32_precision")
def test_works_beside_the_settings_of_newer_torch():
    subprocess.run([sys.executable, "-c", NEW_SETTINGS], check=True)


def test_computes_in_the_widest_dtype_even_under_autocast():
    x, weight, bias = make_inputs()
    expected = F.conv1d(x, weight, bias, **GEOMETRY)
    with torch.autocast(DEVICE, torch.bfloat16):
        y = conv1d_ieee(x, weight, bias, **GEOMETRY)
        half = conv1d_ieee(x.bfloat16(), weight, bias, **GEOMETRY)
    assert y.dtype == half.dtype == torch.float32
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(half, F.conv1d(x.bfloat16().float(), weight, bias, **GEOMETRY))


def test_gradcheck():
    assert torch.autograd.gradcheck(lambda *t: conv1d_ieee(*t, **GEOMETRY), make_inputs(torch.float64))


def test_registration_is_sound():
    leaves = make_inputs()
    arguments = tuple(GEOMETRY.values())
    torch.library.opcheck(torch.ops.silk_fast.conv1d_ieee.default, (*leaves, *arguments))
    torch.library.opcheck(torch.ops.silk_fast.conv1d_ieee.default, (*leaves[:2], None, *arguments))
    x, weight, _ = (t.detach() for t in leaves)
    dy = torch.randn_like(conv1d_ieee(x, weight, **GEOMETRY))
    for needs in ([True, True, True], [False, True, False]):
        torch.library.opcheck(torch.ops.silk_fast.conv1d_ieee_backward.default, (dy, x, weight, *arguments, needs))


def test_compiles_as_one_graph_that_keeps_the_settings(seen):
    leaves = make_inputs()
    compiled = torch.compile(lambda *t: conv1d_ieee(*t, **GEOMETRY), fullgraph=True, backend="aot_eager")
    torch.autograd.grad(compiled(*leaves).sum(), leaves)
    assert {direction for direction, *_ in seen} == {"forward", "backward"}
    assert all(tuple(found) in EXACT for _, *found in seen)
