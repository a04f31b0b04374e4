"""GLU, depthwise convolution, LayerNorm, SiLU: three-way bound, chunks, Wav2Vec2-BERT's convolution module."""

import importlib
from itertools import product

import pytest
import torch
from silk_fast.kernels import INTERPRETED, glu_conv_norm_silu

from silk_fast.reference import ops
from tests.kernels.support import DEVICE, DTYPES, assert_op_matches, of_pytorch

module = importlib.import_module("silk_fast.kernels.glu_conv_norm_silu.launch")

# batch, frames, channels, taps
SHAPES = [(1, 1, 1, 1), (2, 7, 1, 3), (3, 18, 63, 4), (1, 2, 500, 3)]
# A kernel of many taps takes seconds to compile: of each one dtype, with the context or without.
MANY_TAPS = [
    ((1, 63, 7, 15), False, torch.float32),
    ((1, 21, 7, 15), True, torch.float16),
    ((2, 5, 12, 31), True, torch.float32),
    ((1, 18, 5, 20), False, torch.float16),
]
CASES = [*product(SHAPES, (False, True), DTYPES), *MANY_TAPS]
EPS = 1e-5


def make_inputs(shape):
    """x, the parameters and a context; sums over frames are of order 1."""
    n_batch, n_time, n_channels, n_taps = shape
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(size, generator=generator)

    parameters = [
        normal(n_channels, n_taps) * n_taps**-0.5,
        normal(n_channels),
        1 + 0.3 * normal(n_channels),
        normal(n_channels),
    ]
    dy = normal(n_batch, n_time, n_channels) * max(1, n_batch * n_time) ** -0.5
    return normal(n_batch, n_time, 2 * n_channels), *parameters, normal(n_batch, n_taps - 1, 2 * n_channels), dy


@pytest.mark.parametrize(("shape", "has_context", "dtype"), CASES, ids=str)
def test_matches_reference_forward_and_backward(shape, has_context, dtype):
    *inputs, context, dy = make_inputs(shape)
    inputs += [EPS, context] if has_context else [EPS]
    assert_op_matches(glu_conv_norm_silu, ops.glu_conv_norm_silu, inputs, [dy], dtype)


@pytest.mark.parametrize("shape", [(1, 300, 16, 2), (1, 1, 1000, 2)], ids=str)
def test_many_frames_or_channels(shape):
    """In float32 if compiled only: the interpreter adds the channels up one after the other, a GPU in pairs.

    With 16 channels, not 3: of 300 frames of 3 the least deviation is 0.06, by which the norm divides the errors that
    PTX allows in a sigmoid.
    """
    *inputs, _, dy = make_inputs(shape)
    dtype = torch.float64 if INTERPRETED else torch.float32
    assert_op_matches(glu_conv_norm_silu, ops.glu_conv_norm_silu, inputs, [dy], dtype)


def test_thousand_frames_forward():
    *inputs, _, _ = make_inputs((1, 1000, 3, 2))
    assert_op_matches(glu_conv_norm_silu, ops.glu_conv_norm_silu, inputs, [], torch.float32)


@pytest.mark.parametrize("has_context", [False, True], ids=["start", "context"])
def test_segments_and_programs_that_take_several(has_context, monkeypatch):
    """Two channel blocks, segments of 64 frames, three programs for the four segments of two samples."""
    monkeypatch.setattr(module, "WARPS", 1)
    monkeypatch.setattr(module, "CONV_PROGRAMS", 6)
    *inputs, context, dy = make_inputs((2, 66, 130, 2))
    inputs += [EPS, context] if has_context else [EPS]
    assert_op_matches(glu_conv_norm_silu, ops.glu_conv_norm_silu, inputs, [dy], torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_chunks_give_the_bits_of_the_whole(dtype):
    """Chunks, samples alone, and any segments: a frame is computed in the same order."""
    x, *parameters, _, _ = (t.to(DEVICE, dtype) for t in make_inputs((2, 41, 20, 5)))
    whole = glu_conv_norm_silu(x, *parameters)
    chunks, context = [], None
    for chunk in x.split([1, 2, 20, 18], dim=1):
        chunks.append(glu_conv_norm_silu(chunk, *parameters, context=context))
        heard = torch.cat([torch.zeros_like(x[:, :4]) if context is None else context, chunk], dim=1)
        context = heard[:, -4:]
    assert torch.equal(torch.cat(chunks, dim=1), whole)
    assert torch.equal(glu_conv_norm_silu(x[1:], *parameters), whole[1:])


def test_segments_do_not_change_the_bits(monkeypatch):
    x, *parameters, _, _ = (t.to(DEVICE) for t in make_inputs((1, 41, 20, 5)))
    short = glu_conv_norm_silu(x, *parameters)
    monkeypatch.setattr(module, "WARPS", 1)
    assert torch.equal(glu_conv_norm_silu(x, *parameters), short)


def test_convolution_module_of_wav2vec2_bert():
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertConvolutionModule

    torch.manual_seed(0)
    config = Wav2Vec2BertConfig(hidden_size=24, conv_depthwise_kernel_size=7, hidden_act="swish", layer_norm_eps=1e-4)
    peer = Wav2Vec2BertConvolutionModule(config).to(DEVICE, torch.float64).eval()
    norm = peer.depthwise_layer_norm
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 19, 24, device=DEVICE, dtype=torch.float64)

    def ours(x):
        y = peer.layer_norm(x) @ peer.pointwise_conv1.weight[:, :, 0].T
        no_bias = torch.zeros(24, device=DEVICE)
        y = glu_conv_norm_silu(y, peer.depthwise_conv.weight[:, 0], no_bias, norm.weight, norm.bias, norm.eps)
        return y @ peer.pointwise_conv2.weight[:, :, 0].T

    parameters = list(peer.parameters())
    results = [(y, *torch.autograd.grad(y.square().sum(), parameters)) for y in (ours(x), peer(x))]
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_strided_inputs():
    """Weights as a module holds them, and as the transpose that saves the copy."""
    x, weight, *vectors, context, dy = (t.to(DEVICE, torch.float64) for t in make_inputs((2, 6, 5, 3)))
    x, context = (t.transpose(0, 1).contiguous().transpose(0, 1) for t in (x, context))
    dy = dy[:1].expand(2, -1, -1)
    vectors = [v.repeat_interleave(2)[::2] for v in vectors]
    for held in (weight[:, None][:, 0], weight.T.contiguous().T):
        leaves = [t.detach().requires_grad_() for t in (x, held, *vectors, context)]
        results = []
        for function in (glu_conv_norm_silu, ops.glu_conv_norm_silu):
            y = function(*leaves[:5], context=leaves[5])
            results.append([y, *torch.autograd.grad(y, leaves, dy)])
        assert results[0][0].is_contiguous()
        for ours, truth in zip(*results, strict=True):
            torch.testing.assert_close(ours, truth)


def test_parameters_in_float32_beside_a_float16_signal():
    x, *parameters, _, dy = (t.to(DEVICE) for t in make_inputs((2, 9, 20, 5)))
    leaves = [t.requires_grad_() for t in (x.half(), *parameters)]
    y = glu_conv_norm_silu(*leaves)
    assert y.dtype == torch.float16
    gradients = torch.autograd.grad(y, leaves, dy.half())
    exact = ops.glu_conv_norm_silu(*(t.double() for t in leaves))
    truths = torch.autograd.grad(exact, leaves, dy.half().double())
    torch.testing.assert_close(y.double(), exact, rtol=1e-3, atol=1e-3)
    for ours, truth, leaf in zip(gradients, truths, leaves, strict=True):
        assert ours.dtype == leaf.dtype
        torch.testing.assert_close(ours, truth, rtol=2e-3, atol=2e-3)


def test_range_ends_of_float16_stay_finite():
    """Gates at both ends, squares beyond float16, and a signal so small that 1 / deviation is large."""
    x, *parameters, _, dy = (t.to(DEVICE).half() for t in make_inputs((1, 8, 20, 3)))
    loud = torch.where(x > 0, 65504.0, -65504.0).half()
    for signal, bias in ((loud, parameters[1]), (x * 1e-4, torch.zeros_like(parameters[1]))):
        leaves = [t.detach().requires_grad_() for t in (signal, parameters[0], bias, *parameters[2:])]
        y = glu_conv_norm_silu(*leaves)
        exact = ops.glu_conv_norm_silu(*(t.double() for t in leaves))
        torch.testing.assert_close(y.double(), exact, rtol=1e-3, atol=1e-3)
        assert all(g.isfinite().all() for g in torch.autograd.grad(y, leaves, dy))


def test_empty_batch_gives_empty_and_zero_gradients():
    leaves = [t.to(DEVICE).requires_grad_() for t in make_inputs((0, 5, 3, 4))[:5]]
    y = glu_conv_norm_silu(*leaves)
    assert y.shape == ops.glu_conv_norm_silu(*leaves).shape == (0, 5, 3)
    gradients = torch.autograd.grad(y.sum(), leaves)
    assert [g.shape for g in gradients] == [t.shape for t in leaves]
    assert not any(g.any() for g in gradients)


def test_nothing_given_is_written_and_runs_are_equal():
    tensors = [t.to(DEVICE) for t in make_inputs((2, 21, 20, 5))]
    copies = [t.clone() for t in tensors]
    results = []
    for _ in range(2):
        leaves = [t.requires_grad_() for t in tensors[:6]]
        y = glu_conv_norm_silu(*leaves[:5], context=leaves[5])
        results.append([y, *torch.autograd.grad(y, leaves, tensors[6])])
    assert all(torch.equal(t, c) for t, c in zip(tensors, copies, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gradcheck():
    leaves = [t.to(DEVICE, torch.float64).requires_grad_() for t in make_inputs((1, 3, 4, 2))[:6]]
    assert torch.autograd.gradcheck(lambda *t: glu_conv_norm_silu(*t[:5], context=t[5]), leaves, fast_mode=True)


@of_pytorch
def test_registration_is_sound():
    x, *parameters, context, dy = (t.to(DEVICE) for t in make_inputs((2, 3, 5, 2)))
    leaves = [t.clone().requires_grad_() for t in (x, *parameters)]
    torch.library.opcheck(glu_conv_norm_silu, leaves)
    torch.library.opcheck(glu_conv_norm_silu, (*leaves, 1e-3, context.clone().requires_grad_()))
    backward = torch.ops.silk_fast.glu_conv_norm_silu_backward.default
    torch.library.opcheck(backward, (dy, x, *parameters, EPS, None))
    torch.library.opcheck(backward, (dy, x.transpose(0, 1).contiguous().transpose(0, 1), *parameters, EPS, context))


def test_compiles_without_graph_breaks():
    leaves = [t.to(DEVICE).requires_grad_() for t in make_inputs((1, 4, 6, 3))[:6]]

    def loss(*t):
        return glu_conv_norm_silu(*t[:5], context=t[5]).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(loss(*leaves), leaves)
    for ours, truth in zip(torch.autograd.grad(compiled(*leaves), leaves), expected, strict=True):
        torch.testing.assert_close(ours, truth)


BAD = [
    ({"x": torch.zeros(2, 5, 7)}, ValueError, r"x must be \[B, T, 2C\].*\[2, 5, 7\]"),
    ({"x": torch.zeros(5, 6)}, ValueError, r"x must be \[B, T, 2C\]"),
    ({"x": torch.zeros(2, 0, 6)}, ValueError, "x must be .* with T >= 1"),
    ({"x": torch.zeros(2, 5, 0)}, ValueError, "x must be .* C in 1 .. 2048"),
    ({"x": torch.zeros(1, 1, 4098)}, ValueError, "x must be .* C in 1 .. 2048"),
    ({"x": torch.zeros(2, 5, 6, dtype=torch.int32)}, TypeError, "x must be float32.*int32"),
    ({"weight": torch.zeros(3, 1, 4)}, ValueError, r"weight must be \[3, K\]"),
    ({"weight": torch.zeros(2, 4)}, ValueError, r"weight must be \[3, 4\], got \[2, 4\]"),
    ({"weight": torch.zeros(3, 65)}, ValueError, "weight must be .* K in 1 .. 64"),
    ({"bias": torch.zeros(4)}, ValueError, r"bias must be \[3\], got \[4\]"),
    ({"norm_weight": torch.zeros(3, 1)}, ValueError, r"norm_weight must be \[3\], got \[3, 1\]"),
    ({"norm_bias": torch.zeros(3, device="meta")}, ValueError, "norm_bias must be on the device of x"),
    ({"context": torch.zeros(2, 4, 6)}, ValueError, r"context must be \[2, 3, 6\], got \[2, 4, 6\]"),
    ({"context": torch.zeros(2, 3, 6).half()}, TypeError, "context must be torch.float32 as x, got"),
]


@pytest.mark.parametrize(("changed", "error", "message"), BAD)
def test_bad_input_is_refused_by_name(changed, error, message):
    vectors = {name: torch.zeros(3) for name in ("bias", "norm_weight", "norm_bias")}
    good = {"x": torch.zeros(2, 5, 6), "weight": torch.zeros(3, 4), **vectors}
    tensors = {name: t if t.is_meta else t.to(DEVICE) for name, t in (good | changed).items()}
    with pytest.raises(error, match=message):
        glu_conv_norm_silu(**tensors)
