"""FSQ: exact integers away from rounding boundaries, a neighbour at them; gradients by the three-way bound."""

import math

import pytest
import torch
from silk_fast.kernels import fsq_pack, fsq_quantize, fsq_unpack

from silk_fast.reference import ops
from tests.kernels.support import DEVICE, DTYPES, assert_op_matches, of_pytorch

LEVELS = {  # levels, group size
    "silk": ([8] * 128, 7),
    "xcodec2": ([4] * 8, 8),
    "paper": ([8, 5, 5, 5], 4),
    "odd": ([2, 3, 7], 2),
    "powers": ([2, 16, 4, 8, 2], 3),
    "binary": ([2] * 31, 31),
    "one": ([9], 1),
    "wide group": ([3, 4], 100),
    "fine": ([1000, 999], 2),
}


def latents(n_dims, *leading, scale=1.5):
    return torch.randn(*leading, n_dims, generator=torch.Generator().manual_seed(0)) * scale


def bound64(z, levels):
    """The bound in float64."""
    n_levels = torch.tensor(levels, dtype=torch.float64)
    half = (n_levels - 1) * (1 + ops.FSQ_EPSILON) / 2
    offset = torch.where(n_levels % 2 == 0, 0.5, 0.0).double()
    return torch.tanh(z.double() + torch.atanh(offset / half)) * half - offset


def assert_same_tokens(tokens, z, levels, group_size):
    """Digits equal the reference's; within 1e-6 (of 8 levels; more for more) of a boundary, or its neighbour's."""
    z = z.cpu()
    ours, expected = ops.unpack_digits(tokens.cpu(), levels, group_size), ops.fsq_digits(z, levels)
    differ = ours != expected
    assert ((ours - expected).abs() <= 1).all()
    to_boundary = ((bound64(z, levels) % 1) - 0.5).abs() / (torch.tensor(levels) / 8).clamp(min=1)
    assert (to_boundary[differ] <= 1e-6).all(), f"{differ.sum()} digits differ, {to_boundary[differ].max()} from a tie"


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("name", LEVELS)
def test_pack_and_unpack_equal_the_reference(name, dtype):
    levels, group_size = LEVELS[name]
    z = latents(len(levels), 3, 21).to(dtype)
    tokens = fsq_pack(z.to(DEVICE), levels, group_size)
    assert tokens.dtype == torch.int32
    assert tokens.shape == (3, 21, math.ceil(len(levels) / group_size))
    assert_same_tokens(tokens, z, levels, group_size)
    codes = fsq_unpack(tokens, levels, group_size)
    assert torch.equal(codes.cpu(), ops.fsq_unpack(tokens.cpu(), levels, group_size))
    assert torch.equal(codes, fsq_quantize(z.to(DEVICE), levels))


@pytest.mark.parametrize("n_frames", [1, 7, 63, 500])
def test_both_layouts_of_every_length(n_frames):
    levels, group_size = [8] * 16, 7
    z = latents(16, 2, n_frames)
    tokens = fsq_pack(z.to(DEVICE), levels, group_size)
    assert_same_tokens(tokens, z, levels, group_size)
    channels_first = z.to(DEVICE).transpose(1, 2).contiguous()
    assert torch.equal(fsq_pack(channels_first, levels, group_size, dim=1), tokens)
    codes = fsq_unpack(tokens, levels, group_size, dim=1)
    assert codes.is_contiguous()
    assert torch.equal(codes, fsq_unpack(tokens, levels, group_size).transpose(1, 2))
    assert torch.equal(codes, fsq_quantize(channels_first, levels, dim=1))


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 2, 2, 3), (0, 3), (2, 0, 3)], ids=str)
def test_any_leading_shape(shape):
    levels = [2, 3, 7]
    z = latents(3, *shape[:-1]).to(DEVICE)
    tokens = fsq_pack(z, levels, 2)
    assert tokens.shape == (*shape[:-1], 2)
    assert torch.equal(tokens.cpu(), ops.fsq_pack(z.cpu(), levels, 2))
    assert fsq_unpack(tokens, levels, 2).shape == fsq_quantize(z, levels).shape == shape


def test_strided_input():
    levels = [5] * 6
    z = latents(12, 4, 20).to(DEVICE)
    for view, dim in ((z[:, ::2, ::2], -1), (z[:, ::2, ::2].transpose(1, 2), 1), (z[..., 6:].transpose(0, 1), -1)):
        tokens = fsq_pack(view, levels, 4, dim)
        rows = view.transpose(1, 2) if dim == 1 else view
        assert torch.equal(tokens, fsq_pack(rows.contiguous(), levels, 4))
        assert torch.equal(fsq_quantize(view, levels, dim), fsq_quantize(view.contiguous(), levels, dim))
    assert torch.equal(fsq_unpack(tokens.transpose(0, 1), levels, 4), fsq_unpack(tokens, levels, 4).transpose(0, 1))


@pytest.mark.parametrize("name", ["silk", "paper", "odd"])
def test_boundaries_give_a_neighbour(name):
    """Latents on every rounding boundary, and one float to either side."""
    levels = sorted(set(LEVELS[name][0]))
    for level in levels:
        half = (level - 1) * (1 + ops.FSQ_EPSILON) / 2
        offset = 0.5 if level % 2 == 0 else 0.0
        boundaries = torch.arange(level - 1).double() + 0.5 - level // 2
        z = (torch.atanh((boundaries + offset) / half) - math.atanh(offset / half)).float()
        z = torch.stack([z, z.nextafter(z + 1), z.nextafter(z - 1)])[..., None]
        digits = fsq_pack(z.to(DEVICE), [level], 1).cpu()[..., 0]
        assert ((digits == torch.arange(level - 1)) | (digits == torch.arange(1, level))).all()


@pytest.mark.parametrize("levels", [[8, 5, 2, 3], [4] * 4, [1024, 1001, 5, 8]], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_saturation_and_nan(levels, dtype):
    values = torch.tensor([1e4, math.inf, -1e4, -math.inf, math.nan], dtype=dtype, device=DEVICE)
    z = values[:, None].expand(-1, 4)
    top = [level - 1 for level in levels]
    expected = torch.tensor([top, top, [0] * 4, [0] * 4, [level // 2 for level in levels]])
    tokens = fsq_pack(z, levels, 2).cpu()
    assert torch.equal(ops.unpack_digits(tokens, levels, 2), expected.int())
    codes = fsq_quantize(z, levels)
    assert codes[-1].isnan().all()
    assert torch.equal(codes[:-1], fsq_unpack(tokens.to(DEVICE), levels, 2)[:-1])


@pytest.mark.parametrize("levels", [[2, 3, 7], [4, 2, 8]], ids=str)
def test_every_token_unpacks_to_its_digits(levels):
    tokens = torch.arange(math.prod(levels), dtype=torch.int64)[:, None]
    half_width = torch.tensor(levels) // 2
    codes = fsq_unpack(tokens.to(DEVICE), levels, 3).cpu()
    digits = (codes * half_width + half_width).round().int()
    assert torch.equal(ops.pack_digits(digits, levels, 3).long(), tokens)


@pytest.mark.parametrize("levels", [[8] * 7, [2, 3, 7]], ids=str)
def test_tokens_out_of_range_stay_harmless(levels):
    tokens = torch.tensor([[-1], [2**31 - 1], [-(2**31)], [8**7]], dtype=torch.int32, device=DEVICE)
    codes = fsq_unpack(tokens, levels, 7)
    assert ((codes >= -1) & (codes <= 1)).all()


@pytest.mark.parametrize("levels", [[8] * 7, [8] * 2, [8, 5, 5, 5]], ids=str)
def test_equals_vector_quantize_pytorch(levels):
    peer = pytest.importorskip("vector_quantize_pytorch").FSQ(levels, return_indices=False)
    z = latents(len(levels), 4000)
    codes = peer.quantize(z)
    tokens = fsq_pack(z.to(DEVICE), levels, len(levels))
    differ = peer.codes_to_indices(codes) != tokens.cpu()[:, 0]
    assert ((bound64(z[differ], levels) % 1) - 0.5).abs().amin(-1).le(1e-6).all()
    ours = fsq_unpack(tokens, levels, len(levels)).cpu()
    torch.testing.assert_close(ours[~differ], codes[~differ], rtol=0, atol=1e-6)


def quantize_reference(z, levels):
    """``ops.fsq_quantize``, which computes in float32 whatever it is given; in float64 for the exact gradient."""
    if z.dtype != torch.float64:
        return ops.fsq_quantize(z, levels)
    bounded = bound64(z.cpu(), levels)
    return ((bounded + (bounded.round() - bounded).detach()) / (torch.tensor(levels) // 2)).to(z.device)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["silk", "paper", "odd", "binary", "one"])
def test_quantize_forward_and_straight_through_gradient(name, dtype):
    levels, _ = LEVELS[name]
    z = latents(len(levels), 3, 21).to(dtype).float()
    dcodes = latents(len(levels), 3, 21).flip(0)
    assert_op_matches(fsq_quantize, quantize_reference, [z, levels], [dcodes], dtype)
    z, dcodes = z.transpose(1, 2).contiguous(), dcodes.transpose(1, 2)

    def reference(z, levels):
        return quantize_reference(z.transpose(1, 2), levels).transpose(1, 2)

    assert_op_matches(lambda *args: fsq_quantize(*args, dim=1), reference, [z, levels], [dcodes], dtype)


def test_nothing_given_is_written_and_gradients_stay_finite():
    z = torch.tensor([[6e4, -6e4, 0.0], [1e-7, 3.0, -3.0]], device=DEVICE).half().requires_grad_()
    copy = z.detach().clone()
    dcodes = torch.ones(2, 3, device=DEVICE)
    (dz,) = torch.autograd.grad(fsq_quantize(z, [8, 5, 2]), z, dcodes)
    assert dz.isfinite().all()
    assert dz[0, :2].tolist() == [0.0, 0.0]
    assert not fsq_pack(z, [8, 5, 2], 3).requires_grad
    assert torch.equal(z, copy)
    assert (dcodes == 1).all()


@of_pytorch
@pytest.mark.parametrize("dim", [-1, 1])
def test_registration_is_sound(dim):
    levels = [8, 5, 3]
    z = latents(3, 2, 3).to(DEVICE).requires_grad_()
    tokens = torch.zeros(2, 3, 2, dtype=torch.int32, device=DEVICE)
    dcodes = torch.ones(2, 3, 3, device=DEVICE)
    torch.library.opcheck(torch.ops.silk_fast.fsq_pack.default, (z.detach(), levels, 2, dim))
    torch.library.opcheck(torch.ops.silk_fast.fsq_unpack.default, (tokens, levels, 2, dim))
    torch.library.opcheck(torch.ops.silk_fast.fsq_quantize.default, (z, levels, dim))
    torch.library.opcheck(torch.ops.silk_fast.fsq_quantize_backward.default, (dcodes, z.detach(), levels, dim))


def test_compiles_without_a_graph_break():
    levels = [8] * 9
    z = latents(9, 2, 5).to(DEVICE).requires_grad_()

    def function(z):
        tokens = fsq_pack(z, levels, 7)
        return tokens, fsq_unpack(tokens, levels, 7), fsq_quantize(z, levels)

    compiled, eager = torch.compile(function, fullgraph=True, backend="aot_eager")(z), function(z)
    assert all(torch.equal(a, b) for a, b in zip(compiled, eager, strict=True))
    assert torch.equal(*(torch.autograd.grad(o[2].sum(), z)[0] for o in (compiled, eager)))


Z = torch.zeros(2, 3, 4)
BAD = {
    "levels must be one or more integers of 2": (ValueError, fsq_pack, (Z, [8, 8, 8, 1], 4)),
    "levels must be one or more": (ValueError, fsq_quantize, (Z, [])),
    "levels must be integers": (TypeError, fsq_pack, (Z, [8.0] * 4, 4)),
    "z must hold 5 values along dimension -1": (ValueError, fsq_pack, (Z, [8] * 5, 4)),
    "z must hold 4 values along dimension 1": (ValueError, fsq_quantize, (Z, [8] * 4, 1)),
    "dim must be -1, or 1": (ValueError, fsq_pack, (Z, [8] * 4, 4, 2)),
    "dim must be -1, or 1 if tokens has three": (ValueError, fsq_unpack, (Z[0].int(), [8] * 4, 1, 1)),
    "group_size must be at least 1": (ValueError, fsq_pack, (Z, [8] * 4, 0)),
    "group_size must be at least 1, got -1": (ValueError, fsq_unpack, (Z.int(), [8] * 4, -1)),
    "group_size 4 gives tokens up to": (ValueError, fsq_pack, (Z, [4096] * 4, 4)),
    "z must be float32": (TypeError, fsq_pack, (Z.int(), [8] * 4, 4)),
    "tokens must be int32 or int64": (TypeError, fsq_unpack, (Z, [8] * 4, 1)),
    "tokens must hold 2 values along dimension -1": (ValueError, fsq_unpack, (Z.int(), [8] * 4, 2)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_by_name(message):
    error, function, (tensor, *rest) = BAD[message]
    with pytest.raises(error, match=message):
        function(tensor.to(DEVICE), *rest)
