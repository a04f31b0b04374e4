"""Every operation against the reference, and what holds of all: any memory, batch, threads, NaN and infinity."""

import math

import pytest
import torch
from torch import Tensor

from silk_fast.cpu import ops
from silk_fast.reference import ops as reference
from tests.cpu.support import CASES, DTYPES, Case, assert_op_matches, in_float, many, normal, polar, positive, to

pytestmark = pytest.mark.usefixtures("level")
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def exact_in(dtype: torch.dtype, arguments: list) -> list:
    return to(torch.float32, to(dtype, arguments))


@dtypes
@pytest.mark.parametrize("n", [1, 7, 63, 500])
@pytest.mark.parametrize("name", [name for name in CASES if "fsq" not in name])
def test_matches_reference(name, n, dtype):
    case = CASES[name]
    assert_op_matches(case.ours, case.reference, exact_in(dtype, case.make(2, n)), dtype)


@dtypes
@pytest.mark.parametrize("n_channels", [1, 15, 16, 33, 128])
def test_rows_of_any_length(n_channels, dtype):
    x, y, weight, bias = normal(3, n_channels), normal(3, n_channels, seed=1), positive(n_channels), normal(n_channels)
    assert_op_matches(ops.bias_silu, reference.bias_silu, exact_in(dtype, [3 * x, bias]), dtype)
    for scale in (1.0, 0.5):
        arguments = exact_in(dtype, [x, y, scale, weight, bias])
        assert_op_matches(ops.add_layer_norm, reference.add_layer_norm, arguments, dtype)
    taps, context = normal(n_channels, 2), normal(2, 1, 2 * n_channels)
    arguments = exact_in(dtype, [normal(2, 3, 2 * n_channels), taps, bias, weight, bias, 1e-5, context])
    assert_op_matches(ops.glu_conv_norm_silu, reference.glu_conv_norm_silu, arguments, dtype)


@dtypes
@pytest.mark.parametrize("n_taps", [1, 2, 31])
def test_convolution_of_any_length_at_the_start_of_a_signal(n_taps, dtype):
    arguments = exact_in(dtype, [normal(2, 9, 14), normal(7, n_taps), normal(7), positive(7), normal(7)])
    assert_op_matches(ops.glu_conv_norm_silu, reference.glu_conv_norm_silu, arguments, dtype)


@dtypes
@pytest.mark.parametrize("alignment", ["center", "same", "causal"])
@pytest.mark.parametrize(("n_fft", "hop"), [(1280, 320), (20, 5), (2, 1), (2, 2), (6, 3), (130, 13), (66, 1)])
def test_inverse_stft_of_any_size(n_fft, hop, alignment, dtype):
    window = torch.hann_window(n_fft) + 0.1  # no sample has an envelope of zero
    for n_frames in (2, 19):
        arguments = [*polar(2, n_frames, n_fft), window, hop]
        assert_op_matches(ops.polar_istft, in_float(reference.polar_istft), [*arguments, alignment], dtype)
    assert_op_matches(ops.polar_overlap_add, in_float(reference.polar_overlap_add), arguments, dtype)


@pytest.mark.parametrize("beta", [1.0, 0.05, 20.0])
@pytest.mark.parametrize(("alpha_scale", "x_scale"), [(1.0, 1.0), (1.0, 1e4), (100.0, 100.0), (1e4, 1.0)])
def test_error_of_snake_does_not_grow_with_the_argument(alpha_scale, x_scale, beta):
    x = (positive(1, 32, 1000) - 1.2) * x_scale
    alpha, betas = (positive(32) / 2.2) * alpha_scale, torch.full((32,), beta)
    truth = reference.snake(x.double(), alpha.double(), betas.double())
    error = (ops.snake(x, alpha, betas) - truth).abs()
    assert (error / x.double().abs().clamp(min=max(1, 1 / beta))).max() <= 1e-6


def test_elu_is_as_exact_beside_0_as_elsewhere():
    x = torch.cat([-torch.logspace(-44, 2, 20_000), torch.logspace(-44, 2, 500)])[None, None]
    truth = reference.elu(x.double())
    assert ((ops.elu(x) - truth).abs() <= 1.2e-7 * truth.abs() + 1e-45).all()
    ends = torch.tensor([-math.inf, -1e38, -104.0, -0.0, 0.0, 1e38])[None, None]
    assert torch.equal(ops.elu(ends), torch.tensor([-1.0, -1.0, -1.0, 0.0, 0.0, 1e38])[None, None])


def test_bfloat16_is_rounded_once():
    x, alpha, beta = to(torch.bfloat16, CASES["snake"].make(2, 500))
    truth = reference.snake(x.double(), alpha.double(), beta.double())
    error = (ops.snake(x, alpha, beta).double() - truth).abs()
    assert (error <= truth.abs() * torch.finfo(torch.bfloat16).eps / 2 + 1e-6).all()


# ---------------------------------------------------------------- memory


def in_other_memory(x: Tensor, layout: str) -> Tensor:
    if layout == "unaligned":
        return torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape).copy_(x)
    if layout == "transposed":
        return x.movedim(0, -1).contiguous().movedim(-1, 0)
    return torch.stack([x, x.flip(0)], dim=-1)[..., 0]


@dtypes
@pytest.mark.parametrize("layout", ["unaligned", "transposed", "spaced"])
@cases
def test_any_memory_gives_the_same_bits_and_is_not_written(case, layout, dtype):
    arguments = to(dtype, case.make(3, 21))
    others = [in_other_memory(x, layout) if isinstance(x, Tensor) else x for x in arguments]
    copies = [x.clone() if isinstance(x, Tensor) else x for x in others]
    for ours, expected in zip(many(case.ours(*others)), many(case.ours(*arguments)), strict=True):
        assert torch.equal(ours, expected)
        assert ours.is_contiguous() or ours._base.is_contiguous()  # a stream's two views
    assert all(torch.equal(x, y) for x, y in zip(others, copies, strict=True) if isinstance(x, Tensor))


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("name", [name for name in CASES if "polar" not in name])
def test_empty_gives_empty(name, shape):
    for y in many(CASES[name].ours(*CASES[name].make(*shape))):
        assert y.shape[0] == shape[0]
        assert y.numel() == 0


@dtypes
@pytest.mark.parametrize("op", ["snake", "elu"])
def test_an_activation_writes_where_it_is_told(op, dtype):
    function = getattr(ops, op)
    x, *parameters, residual = to(dtype, CASES[f"fused {op}"].make(2, 300))
    expected = function(x, *parameters, residual)
    for out in (torch.empty_like(x), x.clone(), residual.clone()):
        given = [out if torch.equal(out, t) else t for t in (x, residual)]
        assert function(given[0], *parameters, given[1], out=out) is out
        assert torch.equal(out, expected)


# ---------------------------------------------------------------- batch, chunks, threads


@dtypes
@cases
def test_a_signal_alone_equals_it_in_a_batch(case, dtype):
    arguments = to(dtype, case.make(3, 40))
    batched = [i for i in range(len(arguments)) if i < case.n_batched or i in case.also]
    alone = [x[1:2] if i in batched else x for i, x in enumerate(arguments)]
    for ours, whole in zip(many(case.ours(*alone)), many(case.ours(*arguments)), strict=True):
        assert torch.equal(ours, whole[1:2])


@dtypes
@cases
def test_any_number_of_threads_gives_the_same_bits(case, dtype):
    arguments, n_threads, results = to(dtype, case.make(2, 9001)), torch.get_num_threads(), []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        results.append(many(case.ours(*arguments)))
    torch.set_num_threads(n_threads)
    assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(other, results[0], strict=True))


def test_chunks_of_a_convolution_module_equal_the_whole():
    x, *parameters, eps, context = CASES["glu_conv_norm_silu"].make(2, 40)
    whole, pieces = ops.glu_conv_norm_silu(x, *parameters, eps, context), []
    for chunk in x.split([1, 2, 20, 17], dim=1):
        pieces.append(ops.glu_conv_norm_silu(chunk, *parameters, eps, context))
        context = torch.cat([context, chunk], dim=1)[:, -14:]
    assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_chunks_of_an_inverse_stft_equal_the_whole():
    log_magnitude, phase, window, hop, _ = CASES["polar_istft_stream"].make(2, 40)
    whole, overlap, pieces = ops.polar_istft(log_magnitude, phase, window, hop), None, []
    for m, p in zip(*(x.split([1, 2, 20, 17], dim=1) for x in (log_magnitude, phase)), strict=True):
        audio, overlap = ops.polar_istft_stream(m, p, window, hop, overlap)
        pieces.append(audio)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- NaN, infinity, ends of the range


@dtypes
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("name", [name for name in CASES if "fsq" not in name and "attention" not in name])
def test_nan_and_infinity_come_out_where_they_do_of_the_reference(name, value, dtype):
    case: Case = CASES[name]
    for i, argument in enumerate(case.make(2, 20)):
        if not isinstance(argument, Tensor) or not argument.is_floating_point():
            continue
        arguments = to(dtype, case.make(2, 20))
        arguments[i].view(-1)[arguments[i].numel() // 2] = value
        results = zip(many(case.ours(*arguments)), many(case.reference(*arguments)), strict=True)
        for ours, expected in results:
            assert torch.equal(ours.isnan(), expected.isnan()), f"argument {i}"
            assert torch.equal(ours.isposinf(), expected.isposinf()), f"argument {i}"
            assert torch.equal(ours.isneginf(), expected.isneginf()), f"argument {i}"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("i_argument", range(6))
def test_nan_and_infinity_of_attention_reach_the_queries_that_see_them(i_argument, value):
    arguments = CASES["rel_attention"].make(2, 20)[:6]
    arguments[3] = normal(2, 45, 5)
    arguments[i_argument].view(-1)[arguments[i_argument].numel() // 2] = value
    ours, expected = ops.rel_attention(*arguments), reference.rel_attention(*arguments)
    assert torch.equal(ours.isnan(), expected.isnan())
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5, equal_nan=True)
    outside = ops.rel_attention(*arguments[:3], arguments[3][:, 22:23], *arguments[4:6], window=(0, 0))
    assert outside[:, :, :5].isfinite().all()  # at the other end of the signal


def test_chunks_of_attention_equal_the_whole():
    q, k, v = (normal(2, 3, 70, 24, seed=seed) for seed in range(3))
    heads = normal(3, 13, 24), normal(3, 24), normal(3, 24, seed=1)
    whole = ops.rel_attention(q, k, v, *heads, (12, 0))
    for cut in (1, 12, 33):
        first = ops.rel_attention(q[:, :, :cut], k[:, :, :cut], v[:, :, :cut], *heads, (12, 0))
        cached = max(cut - 12, 0)
        second = ops.rel_attention(q[:, :, cut:], k[:, :, cached:], v[:, :, cached:], *heads, (12, 0))
        assert torch.equal(torch.cat([first, second], dim=2), whole)


@dtypes
@pytest.mark.parametrize("window", [(None, None), (None, 0), (0, 0), (3, 40), (100, 2)], ids=str)
@pytest.mark.parametrize(("n_queries", "n_keys", "n_dims"), [(1, 1, 1), (5, 5, 33), (17, 40, 16), (1, 64, 7)])
def test_attention_in_any_window(n_queries, n_keys, n_dims, window, dtype):
    n_rows = sum(n_keys - 1 if extent is None else extent for extent in window) + 1
    q, k, v = normal(2, 3, n_queries, n_dims), *(normal(2, 3, n_keys, n_dims, seed=seed) for seed in (1, 2))
    arguments = exact_in(dtype, [q, k, v, normal(3, n_rows, n_dims), normal(3, n_dims), normal(3, n_dims), window])
    for limits in ([], [torch.tensor([n_keys, 1]), torch.tensor([n_keys // 2, 0])]):
        assert_op_matches(ops.rel_attention, reference.rel_attention, [*arguments, *limits], dtype)


@dtypes
def test_ends_of_the_range(dtype):
    largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).tiny
    x = torch.tensor([largest, -largest, 1e30, -1e10, smallest, 1e-40, 0.0, 88.9, -88.9, -104.0], dtype=dtype)
    y = ops.snake(x.repeat(1, 2, 1), torch.tensor([1.0, 2.0]), torch.ones(2))
    assert ((y[:, 0] - x).abs() <= 1 + x.abs() * torch.finfo(dtype).eps).all()
    zeros = torch.zeros(len(x))
    expected = reference.bias_silu(x.float(), zeros).to(dtype)
    torch.testing.assert_close(ops.bias_silu(x, zeros), expected, rtol=torch.finfo(dtype).eps * 4, atol=0)
    polar_ends = x[None, None].repeat(1, 9, 1)[..., :9].contiguous()
    assert ops.polar_istft(polar_ends, polar_ends, torch.hann_window(16), 4).isfinite().all()


# ---------------------------------------------------------------- refusals

X, V = torch.zeros(2, 3, 4), torch.ones(3)
M, W = torch.zeros(2, 3, 9), torch.ones(16)
TAPS = torch.zeros(2, 5)
Q = torch.zeros(2, 1, 3, 4)


def attend(**changes):
    """An attention call that is right but for ``changes``."""
    arguments = {"q": Q, "k": Q, "v": Q, "pos": Q[:1, 0], "u": Q[0, :, 0], "v_bias": Q[0, :, 0], "window": (2, 0)}
    return ops.rel_attention(**arguments | changes)


CONTOUR = torch.full((2, 3), 100.0, dtype=torch.float64)


def harmonise(**changes):
    """A call of harmonics that is right but for ``changes``."""
    contours = {"spacing": CONTOUR, "cutoff": CONTOUR, "turns": CONTOUR.long()}
    return ops.add_harmonics(**{"log_magnitude": M, "phase": M} | contours | changes, bin_width=250.0)


BAD = [
    (ValueError, r"x must be \[B, C, T\], got \[3, 4\]", lambda: ops.snake(X[0], V, V)),
    (TypeError, "x must be float32 or bfloat16, got torch.float16", lambda: ops.snake(X.half(), V, V)),
    (ValueError, "x must be on the CPU, got a tensor on meta", lambda: ops.snake(X.to("meta"), V, V)),
    (ValueError, r"alpha must be \[3\], got \[4\]", lambda: ops.snake(X, torch.ones(4), V)),
    (TypeError, "beta must be float32, float16, bfloat16 or float64", lambda: ops.snake(X, V, V.int())),
    (ValueError, "beta must be on the CPU", lambda: ops.snake(X, V, V.to("meta"))),
    (ValueError, r"bias must be \[3\]", lambda: ops.snake(X, V, V, V[:2])),
    (ValueError, r"residual must be \[2, 3, 4\]", lambda: ops.snake(X, V, V, None, X[:1])),
    (TypeError, "residual must be torch.float32 as x", lambda: ops.snake(X, V, V, None, X.bfloat16())),
    (ValueError, "out must be contiguous", lambda: ops.snake(X, V, V, out=X.mT.contiguous().mT)),
    (ValueError, r"out must be \[2, 3, 4\]", lambda: ops.snake(X, V, V, out=X[:1])),
    (ValueError, r"x must be \[B, C, T\], got \[3, 4\]", lambda: ops.elu(X[0])),
    (TypeError, "x must be float32 or bfloat16, got torch.float64", lambda: ops.elu(X.double())),
    (ValueError, r"bias must be \[3\]", lambda: ops.elu(X, V[:2])),
    (ValueError, r"residual must be \[2, 3, 4\]", lambda: ops.elu(X, None, X[:1])),
    (TypeError, "out must be torch.float32 as x", lambda: ops.elu(X, out=X.bfloat16())),
    (ValueError, "x must be .*no dimension", lambda: ops.bias_silu(torch.tensor(1.0), V)),
    (ValueError, r"bias must be \[4\]", lambda: ops.bias_silu(X, V)),
    (ValueError, r"residual must be \[2, 3, 4\]", lambda: ops.add_layer_norm(X, X[:1], 1.0, V, V)),
    (ValueError, r"weight must be \[4\]", lambda: ops.add_layer_norm(X, X, 1.0, V, V)),
    (ValueError, r"x must be \[B, T, 2C\]", lambda: ops.glu_conv_norm_silu(X[..., :3], TAPS, V, V, V)),
    (ValueError, r"weight must be \[2, K\]", lambda: ops.glu_conv_norm_silu(X, TAPS[:1], V[:2], V[:2], V[:2])),
    (ValueError, r"context must be \[2, 4, 4\]", lambda: ops.glu_conv_norm_silu(X, TAPS, *3 * [V[:2]], 1e-5, X)),
    (TypeError, "q must be float32 or bfloat16, got torch.float64", lambda: attend(q=Q.double())),
    (TypeError, "v must be torch.float32 as q", lambda: attend(v=Q.bfloat16())),
    (ValueError, r"k must be \[B, H, T, D\]", lambda: attend(k=Q[0])),
    (ValueError, r"k must be \[2, 1, 3, 4\]", lambda: attend(k=Q[..., :2])),
    (ValueError, "q must have at most as many frames as k, 2, got 3", lambda: attend(k=Q[:, :, :2], v=Q[:, :, :2])),
    (ValueError, r"pos must be \[1, 3, 4\]", lambda: attend(pos=Q[:1, 0, :2])),
    (ValueError, "window must not be negative", lambda: attend(window=(-1, 4))),
    (ValueError, r"lengths must be \[2\]", lambda: attend(lengths=torch.tensor([1]))),
    (TypeError, "starts must be int32 or int64", lambda: attend(starts=torch.tensor([1.0, 2.0]))),
    (ValueError, r"window must be \[n_fft\], n_fft even", lambda: ops.polar_istft(M, M, W[:15], 4)),
    (ValueError, "hop must divide n_fft = 16, got 5", lambda: ops.polar_istft(M, M, W, 5)),
    (ValueError, r"log_magnitude must be \[B, N, 9\]", lambda: ops.polar_istft(M[..., 1:], M, W, 4)),
    (ValueError, "not empty", lambda: ops.polar_istft(M[:, :0], M[:, :0], W, 4)),
    (ValueError, r"phase must be \[2, 3, 9\]", lambda: ops.polar_istft(M, M[:1], W, 4)),
    (ValueError, r"log_magnitude must be \[B, N, K\]", lambda: harmonise(log_magnitude=M[0])),
    (TypeError, "phase must be float32, got torch.bfloat16", lambda: harmonise(phase=M.bfloat16())),
    (TypeError, "spacing must be float64, got torch.float32", lambda: harmonise(spacing=torch.ones(2, 3))),
    (ValueError, r"cutoff must be \[2, 3\], got \[2, 2\]", lambda: harmonise(cutoff=CONTOUR[:, 1:])),
    (ValueError, "turns must be on the CPU", lambda: harmonise(turns=torch.zeros(2, 3).long().to("meta"))),
    (TypeError, "phase must be torch.float32", lambda: ops.polar_istft(M, M.bfloat16(), W, 4)),
    (ValueError, "alignment must be center, same or causal", lambda: ops.polar_istft(M, M, W, 4, "left")),
    (ValueError, r"overlap must be \[2, 12\]", lambda: ops.polar_istft_stream(M, M, W, 4, M[0])),
    (ValueError, "first and n_out must lie within 24", lambda: ops.overlap_add(torch.zeros(2, 3, 16), W, 4, 1, 24)),
    (ValueError, "normalization must be", lambda: ops.overlap_add(torch.zeros(2, 3, 16), W, 4, 0, 24, "all")),
]


@pytest.mark.parametrize(("error", "message", "call"), BAD, ids=[message for _, message, _ in BAD])
def test_bad_input_is_refused_by_name(error, message, call):
    with pytest.raises(error, match=message):
        call()
