"""FSQ: the tokens and codes of the reference exactly, at ties too."""

import math

import pytest
import torch

from silk_fast.cpu.ops import fsq_pack, fsq_quantize, fsq_unpack
from silk_fast.reference import ops
from tests.cpu.support import normal

pytestmark = pytest.mark.usefixtures("level")

LEVELS = {  # levels, group size
    "silk": ([8] * 128, 7),
    "xcodec2": ([4] * 8, 8),
    "paper": ([8, 5, 5, 5], 4),
    "odd": ([2, 3, 7], 2),
    "binary": ([2] * 31, 31),
    "wide group": ([3, 4], 100),
    "one": ([9], 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", LEVELS)
def test_equals_the_reference(name, dtype):
    levels, group_size = LEVELS[name]
    z = 1.5 * normal(3, 21, len(levels)).to(dtype)
    tokens = fsq_pack(z, levels, group_size)
    assert tokens.dtype == torch.int32
    assert torch.equal(tokens, ops.fsq_pack(z, levels, group_size))
    codes = fsq_unpack(tokens, levels, group_size)
    assert torch.equal(codes, ops.fsq_unpack(tokens, levels, group_size))
    assert torch.equal(codes, fsq_unpack(tokens.long(), levels, group_size))
    assert torch.equal(codes, fsq_quantize(z, levels))
    assert torch.equal(codes, ops.fsq_quantize(z, levels))


@pytest.mark.parametrize("n_levels", range(2, 18))
def test_equals_the_reference_around_every_tie(n_levels):
    """Latents on every rounding boundary, and 20 floats to either side."""
    half, offset = (n_levels - 1) * (1 + ops.FSQ_EPSILON) / 2, 0.5 if n_levels % 2 == 0 else 0.0
    boundaries = torch.arange(n_levels - 1).double() + 0.5 - n_levels // 2
    z = (torch.atanh((boundaries + offset) / half) - math.atanh(offset / half)).float()
    bits = z.view(torch.int32)[None] + torch.arange(-20, 21, dtype=torch.int32)[:, None]
    z = bits.view(torch.float32)[..., None]
    digits = fsq_pack(z, [n_levels], 1)
    assert torch.equal(digits, ops.fsq_pack(z, [n_levels], 1))
    assert torch.equal(fsq_quantize(z, [n_levels]), ops.fsq_quantize(z, [n_levels]))
    assert ((digits[..., 0] == torch.arange(n_levels - 1)) | (digits[..., 0] == torch.arange(1, n_levels))).all()


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 2, 2, 3), (0, 3), (2, 0, 3)], ids=str)
def test_any_leading_shape(shape):
    z, levels = normal(*shape), [2, 3, 7]
    tokens = fsq_pack(z, levels, 2)
    assert tokens.shape == (*shape[:-1], 2)
    assert torch.equal(tokens, ops.fsq_pack(z, levels, 2))
    assert fsq_unpack(tokens, levels, 2).shape == fsq_quantize(z, levels).shape == shape


def test_channels_first():
    z, levels = normal(2, 21, 9), [8] * 9
    tokens, first = fsq_pack(z, levels, 7), z.transpose(1, 2).contiguous()
    assert torch.equal(fsq_pack(first, levels, 7, dim=1), tokens)
    for codes in (fsq_unpack(tokens, levels, 7, dim=1), fsq_quantize(first, levels, dim=1)):
        assert codes.is_contiguous()
        assert torch.equal(codes, ops.fsq_unpack(tokens, levels, 7).transpose(1, 2))


@pytest.mark.parametrize("levels", [[8, 5, 2, 3], [4] * 4, [1024, 1001, 5, 8]], ids=str)
def test_saturation_and_nan(levels):
    values = torch.tensor([1e4, math.inf, -1e4, -math.inf, math.nan])
    z = values[:, None].expand(-1, 4)
    top = [level - 1 for level in levels]
    expected = torch.tensor([top, top, [0] * 4, [0] * 4, [level // 2 for level in levels]])
    tokens = fsq_pack(z, levels, 2)
    assert torch.equal(ops.unpack_digits(tokens, levels, 2), expected.int())
    codes = fsq_quantize(z, levels)
    assert codes[-1].isnan().all()
    assert torch.equal(codes[:-1], fsq_unpack(tokens, levels, 2)[:-1])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("levels", [[8] * 7, [2, 3, 7]], ids=str)
def test_tokens_out_of_range_give_the_codes_of_the_reference(levels, dtype):
    tokens = torch.tensor([[-1], [2**31 - 1], [-(2**31)], [8**7], [-5]], dtype=dtype)
    codes = fsq_unpack(tokens, levels, 7)
    assert torch.equal(codes, ops.fsq_unpack(tokens, levels, 7))
    assert ((codes >= -1) & (codes <= 1)).all()


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
    "group_size 4 gives tokens up to": (ValueError, fsq_pack, (Z, [4096] * 4, 4)),
    "z must be float32": (TypeError, fsq_pack, (Z.int(), [8] * 4, 4)),
    "z must be on the CPU": (ValueError, fsq_pack, (Z.to("meta"), [8] * 4, 4)),
    "tokens must be int32 or int64": (TypeError, fsq_unpack, (Z, [8] * 4, 1)),
    "tokens must hold 2 values along dimension -1": (ValueError, fsq_unpack, (Z.int(), [8] * 4, 2)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_by_name(message):
    error, function, arguments = BAD[message]
    with pytest.raises(error, match=message):
        function(*arguments)
