"""Bias + SiLU: three-way bound, partial sums over many tiles, a peer's feed-forward block."""

import importlib

import pytest
import torch
from silk_fast.kernels import bias_silu

from silk_fast.reference import ops
from tests.kernels.support import DEVICE, DTYPES, assert_op_matches, of_pytorch

module = importlib.import_module("silk_fast.kernels.bias_silu")  # of the same name as its function

SHAPES = [(1,), (7,), (1, 1), (63, 1), (1, 63), (2, 3, 7), (500, 20), (3, 1000), (1, 5, 513)]


def make_inputs(shape):
    """x, bias and dy; sums over rows are of order 1."""
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, *shape, generator=generator)
    return [2 * x, torch.randn(shape[-1], generator=generator), dy * (shape[-1] / max(1, x.numel())) ** 0.5]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference_forward_and_backward(shape, dtype):
    *inputs, dy = make_inputs(shape)
    assert_op_matches(bias_silu, ops.bias_silu, inputs, [dy], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_programs_that_take_several_tiles(dtype, monkeypatch):
    monkeypatch.setattr(module, "TILE", 128)
    monkeypatch.setattr(module, "PROGRAMS", 3)
    *inputs, dy = make_inputs((41, 30))  # 11 tiles of 4 rows
    assert_op_matches(bias_silu, ops.bias_silu, inputs, [dy], dtype)


def test_strided_inputs():
    x = torch.randn(9, 4, 6, device=DEVICE).transpose(0, 2)
    bias = torch.randn(18, device=DEVICE)[::2]
    leaves = x.clone().requires_grad_(), bias.clone().requires_grad_()
    views = x.requires_grad_(), bias.requires_grad_()
    y, expected = bias_silu(*views), ops.bias_silu(*leaves)
    assert y.is_contiguous()
    torch.testing.assert_close(y, expected)
    dy = torch.randn(1, 1, 9, device=DEVICE).expand(y.shape)
    for ours, truth in zip(torch.autograd.grad(y, views, dy), torch.autograd.grad(expected, leaves, dy), strict=True):
        torch.testing.assert_close(ours, truth)


def test_bias_in_float32_beside_a_float16_signal():
    x, bias, dy = (t.to(DEVICE) for t in make_inputs((33, 12)))
    x, bias = x.half().requires_grad_(), bias.requires_grad_()
    y = bias_silu(x, bias)
    assert y.dtype == torch.float16
    gradients = torch.autograd.grad(y, (x, bias), dy.half())
    exact = ops.bias_silu(x.double(), bias.double())
    truths = torch.autograd.grad(exact, (x, bias), dy.half().double())
    torch.testing.assert_close(y.double(), exact, rtol=1e-3, atol=1e-4)
    for ours, truth, leaf in zip(gradients, truths, (x, bias), strict=True):
        assert ours.dtype == leaf.dtype
        torch.testing.assert_close(ours, truth, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_range_ends(dtype):
    """Only a sum beyond the range overflows, and only its gradient may be lost."""
    top = torch.finfo(dtype).max
    x = torch.tensor([top, -top, top, -top, 0.0], device=DEVICE, dtype=dtype).requires_grad_()
    bias = torch.tensor([0.0, 0.0, top, -top, top], device=DEVICE, dtype=dtype).requires_grad_()
    y = bias_silu(x, bias)
    assert y[[0, 4]].tolist() == [top, top]
    assert y[[1, 2]].tolist() == [0.0, torch.inf]
    assert torch.autograd.grad(y[[0, 1, 4]].sum(), x)[0][[0, 1, 4]].tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,)], ids=str)
def test_empty_gives_empty_and_zero_gradients(shape):
    x, bias, _ = (t.to(DEVICE).requires_grad_() for t in make_inputs(shape))
    y = bias_silu(x, bias)
    assert y.shape == ops.bias_silu(x, bias).shape == shape
    dx, dbias = torch.autograd.grad(y.sum(), (x, bias))
    assert dx.shape == shape
    assert dbias.tolist() == [0.0] * shape[-1]


def test_nothing_given_is_written_and_runs_are_equal():
    tensors = [t.to(DEVICE) for t in make_inputs((70, 40))]
    copies = [t.clone() for t in tensors]
    results = []
    for _ in range(2):
        leaves = [t.requires_grad_() for t in tensors[:2]]
        y = bias_silu(*leaves)
        results.append([y, *torch.autograd.grad(y, leaves, tensors[2])])
    assert all(torch.equal(t, c) for t, c in zip(tensors, copies, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gradcheck():
    inputs = [t.to(DEVICE, torch.float64).requires_grad_() for t in make_inputs((2, 3))[:2]]
    assert torch.autograd.gradcheck(bias_silu, inputs)


@of_pytorch
def test_registration_is_sound():
    x, bias, dy = (t.to(DEVICE) for t in make_inputs((2, 3, 5)))
    torch.library.opcheck(bias_silu, (x.clone().requires_grad_(), bias.clone().requires_grad_()))
    torch.library.opcheck(bias_silu, (x.transpose(0, 1), bias))
    torch.library.opcheck(torch.ops.silk_fast.bias_silu_backward.default, (dy, x, bias))


def test_compiles_without_graph_breaks():
    x, bias, _ = (t.to(DEVICE).requires_grad_() for t in make_inputs((4, 6)))
    compiled = torch.compile(lambda x, bias: 2 * bias_silu(x, bias), fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad((2 * bias_silu(x, bias)).square().sum(), (x, bias))
    for ours, truth in zip(torch.autograd.grad(compiled(x, bias).square().sum(), (x, bias)), expected, strict=True):
        torch.testing.assert_close(ours, truth)


def test_feed_forward_block_of_wav2vec2_bert():
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertFeedForward

    torch.manual_seed(0)
    config = Wav2Vec2BertConfig(hidden_size=8, intermediate_size=20, hidden_act="swish")
    peer = Wav2Vec2BertFeedForward(config).to(DEVICE).eval()
    x = torch.randn(2, 5, 8, device=DEVICE)
    hidden = bias_silu(x @ peer.intermediate_dense.weight.T, peer.intermediate_dense.bias)
    torch.testing.assert_close(peer.output_dense(hidden), peer(x))


@pytest.mark.parametrize(
    ("x", "bias", "error", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(4), ValueError, r"bias must be \[3\], got \[4\]"),
        (torch.zeros(2, 3), torch.zeros(1, 3), ValueError, r"bias must be \[3\], got \[1, 3\]"),
        (torch.zeros(()), torch.zeros(1), ValueError, r"x must be \[\.\.\., C\]"),
        (torch.zeros(2, 3, dtype=torch.int32), torch.zeros(3), TypeError, "x must be float32.*int32"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), TypeError, "bias must be float32.*int64"),
        (torch.zeros(2, 3), torch.zeros(3, device="meta"), ValueError, "bias must be on the device of x"),
    ],
)
def test_bad_input_is_refused_by_name(x, bias, error, message):
    with pytest.raises(error, match=message):
        bias_silu(x.to(DEVICE), bias if bias.is_meta else bias.to(DEVICE))
