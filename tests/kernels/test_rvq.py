"""Residual vector quantisation: the reference's indices wherever the two nearest entries are told apart."""

import pytest
import torch
import torch.nn.functional as F
from silk_fast.kernels.rvq import encode
from torch import Tensor

from silk_fast import kernels
from silk_fast.reference import ops
from tests.kernels.support import DEVICE, DTYPES, of_pytorch

MARGIN = 1e-5  # relative; scores of float32 err by a tenth of it


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def codebooks(n_stages: int, n_codes: int, n_dims: int) -> Tensor:
    """Of smaller entries from stage to stage, as residuals are; without an order of magnitude between coordinates."""
    sizes = 0.7 ** torch.arange(n_stages, device=DEVICE)
    return torch.randn(n_stages, n_codes, n_dims, device=DEVICE) * sizes[:, None, None]


def assert_nearest(indices: Tensor, x: Tensor, books: Tensor) -> None:
    """Every index names an entry nearest to what the earlier ones leave, but for MARGIN; in float64, of squares."""
    rest = x.double()
    for index, book in zip(indices.unbind(1), books.double(), strict=True):
        distance = torch.cdist(rest, book, compute_mode="donot_use_mm_for_euclid_dist").square()
        chosen = distance.gather(-1, index[..., None])[..., 0]
        assert (chosen <= distance.amin(-1) + MARGIN * rest.square().sum(-1)).all()
        rest = rest - F.embedding(index, book)


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize(
    ("n_batch", "n_time", "n_stages", "n_codes", "n_dims"),
    [(2, 37, 4, 100, 24), (1, 1, 1, 1, 1), (1, 17, 3, 65, 128), (3, 16, 2, 256, 256), (1, 5, 2, 33, 7)],
)
def test_matches_reference(n_batch, n_time, n_stages, n_codes, n_dims, euclidean):
    x, books = torch.randn(n_batch, n_time, n_dims, device=DEVICE), codebooks(n_stages, n_codes, n_dims)
    indices = kernels.rvq_encode(x, books, euclidean)
    assert indices.dtype == torch.int64
    assert_nearest(indices, x, books)
    assert (indices != ops.rvq_encode(x, books, euclidean)).float().mean() < 0.01


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_half_precision_is_searched_in_float32(dtype):
    x, books = torch.randn(2, 20, 16, device=DEVICE).to(dtype), codebooks(3, 50, 16).to(dtype)
    indices = kernels.rvq_encode(x, books)
    assert torch.equal(indices, kernels.rvq_encode(x.float(), books.float()))
    assert torch.equal(kernels.rvq_decode(indices, books), ops.rvq_decode(indices, books.float()).to(dtype))


def test_first_of_equal_entries_in_whatever_tile():
    x = torch.randn(1, 20, 16, device=DEVICE).mul(4).round()  # integers, so that no order of additions matters:
    books = torch.randn(1, 40, 16, device=DEVICE).mul(4).round().repeat(1, 5, 1)  # NumPy has several, by the column
    assert (kernels.rvq_encode(x, books) < 40).all()
    assert (kernels.rvq_encode(x, torch.zeros_like(books)) == 0).all()


def test_nan_gives_the_first_entry_and_only_there():
    x, books = torch.randn(2, 20, 16, device=DEVICE), codebooks(2, 50, 16)
    expected = kernels.rvq_encode(x, books)
    x[0, 3, 5] = torch.nan
    expected[0, :, 3] = 0
    found = kernels.rvq_encode(x, books)
    assert torch.equal(found, expected)


def test_indices_depend_on_nothing_but_the_frame(monkeypatch):
    x, books = torch.randn(3, 21, 16, device=DEVICE), codebooks(3, 300, 16)
    whole = kernels.rvq_encode(x, books)
    assert torch.equal(kernels.rvq_encode(x[1:2, 5:9], books), whole[1:2, :, 5:9])
    assert torch.equal(kernels.rvq_encode(x.transpose(1, 2).contiguous().transpose(1, 2), books), whole)
    for splits in (1, 8):
        monkeypatch.setattr(encode, "_splits", lambda *_, n=splits: n)
        assert torch.equal(kernels.rvq_encode(x, books), whole)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize(("n_stages", "n_dims"), [(1, 1), (3, 24), (8, 128), (2, 300)])
def test_decode_adds_entries_in_their_order(n_stages, n_dims, dtype):
    books = codebooks(8, 50, n_dims)
    indices = torch.randint(0, 50, (2, n_stages, 37), device=DEVICE, dtype=dtype)
    assert torch.equal(kernels.rvq_decode(indices, books), ops.rvq_decode(indices, books))
    strided = indices.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(kernels.rvq_decode(strided, books), ops.rvq_decode(indices, books))


def test_indices_out_of_range_are_moved_into_it():
    books = codebooks(1, 50, 8)
    indices = torch.tensor([[[-1, 50, 2**40]]], device=DEVICE)
    assert torch.equal(kernels.rvq_decode(indices, books)[0], books[0, [0, 49, 49]])


def test_nothing_gives_nothing():
    books = codebooks(3, 50, 8)
    assert kernels.rvq_encode(torch.empty(2, 0, 8, device=DEVICE), books).shape == (2, 3, 0)
    assert kernels.rvq_encode(torch.empty(0, 4, 8, device=DEVICE), books).shape == (0, 3, 4)
    assert kernels.rvq_encode(torch.empty(2, 4, 8, device=DEVICE), books[:0]).shape == (2, 0, 4)
    assert not kernels.rvq_decode(torch.empty(2, 0, 4, dtype=torch.int64, device=DEVICE), books).any()
    assert kernels.rvq_decode(torch.empty(2, 3, 0, dtype=torch.int64, device=DEVICE), books).shape == (2, 0, 8)


# ---------------------------------------------------------------- behind projections


def factorized(n_stages: int, n_codes: int, n_dims: int, n_channels: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    """Projections of random vectors ``[2, 48, n_stages * n_dims]``, codebooks and tables."""
    into = torch.randn(n_stages, n_dims, n_channels, device=DEVICE) / n_channels**0.5
    back = torch.randn(n_stages, n_channels, n_dims, device=DEVICE) / n_dims**0.5
    books = codebooks(n_stages, n_codes, n_dims)
    tables = ops.factorized_tables(into, books, back, torch.randn(n_stages, n_channels, device=DEVICE))
    x = torch.randn(2, 48, n_channels, device=DEVICE)
    return x @ into.flatten(0, 1).T, books, tables


@pytest.mark.parametrize("score", ["dac", "snac"])
@pytest.mark.parametrize(
    ("n_codes", "n_dims", "strides"),
    [(100, 8, [1] * 5), (64, 8, [8, 4, 2, 1]), (33, 3, [1]), (70, 17, [2, 1]), (40, 8, [16, 1, 4])],
)
def test_factorized_matches_reference(n_codes, n_dims, strides, score):
    operands = factorized(len(strides), n_codes, n_dims)
    indices, latents = kernels.factorized_rvq_encode(*operands, strides, score)
    expected, wanted = ops.factorized_rvq_encode(*(t.double() for t in operands), strides, score)
    same = torch.cumprod((indices == expected).all(1, keepdim=True).float(), dim=1).bool()[:, 0]
    assert same.float().mean() > 0.98  # elsewhere two directions are equal but for rounding, and later stages differ
    torch.testing.assert_close(latents[same].double(), wanted[same], rtol=0, atol=2e-5)
    for i, stride in enumerate(strides):
        groups = indices[:, i].unflatten(1, (-1, stride))
        assert (groups == groups[..., :1]).all()


def test_factorized_index_is_that_of_the_nearest_direction():
    projections, books, tables = factorized(4, 200, 8)
    indices, latents = kernels.factorized_rvq_encode(projections, books, tables)
    for i, book in enumerate(F.normalize(books.double(), dim=-1)):
        cosine = F.normalize(latents[..., 8 * i : 8 * i + 8].double(), dim=-1) @ book.T
        chosen = cosine.gather(-1, indices[:, i, :, None])[..., 0]
        assert (chosen >= cosine.amax(-1) - 1e-6).all()


def test_factorized_indices_depend_on_nothing_but_the_frame():
    projections, books, tables = factorized(3, 100, 8)
    indices, latents = kernels.factorized_rvq_encode(projections, books, tables, [4, 1, 2])
    part = kernels.factorized_rvq_encode(projections[1:, 8:20], books, tables, [4, 1, 2])
    assert torch.equal(part[0], indices[1:, :, 8:20])
    assert torch.equal(part[1], latents[1:, 8:20])


def test_zeros_of_a_projection_have_no_direction():
    projections, books, tables = factorized(2, 100, 8)
    indices, _ = kernels.factorized_rvq_encode(torch.zeros_like(projections), books, torch.zeros_like(tables))
    expected, _ = ops.factorized_rvq_encode(torch.zeros_like(projections), books, torch.zeros_like(tables))
    assert torch.equal(indices, expected)


# ---------------------------------------------------------------- what every op owes


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_packed_once_gives_the_same(dtype):
    x, books = torch.randn(2, 20, 16, device=DEVICE), codebooks(3, 50, 16).to(dtype)
    packed = kernels.pack_codebooks(books)
    assert torch.equal(kernels.rvq_encode(x, books, packed=packed), kernels.rvq_encode(x, books))
    projections, books, tables = factorized(3, 50, 8)
    packed = kernels.pack_codebooks(books.to(dtype), directions=True)
    torch.testing.assert_close(packed.squares, torch.ones_like(packed.squares))
    expected = kernels.factorized_rvq_encode(projections, books.to(dtype), tables)
    for ours, theirs in zip(
        kernels.factorized_rvq_encode(projections, books.to(dtype), tables, packed=packed), expected, strict=True
    ):
        assert torch.equal(ours, theirs)


@of_pytorch
def test_ops_are_registered_whole():
    x, books = torch.randn(2, 5, 8, device=DEVICE), codebooks(2, 20, 8)
    indices = kernels.rvq_encode(x, books)
    torch.library.opcheck(torch.ops.silk_fast.rvq_encode.default, (x, books, False))
    torch.library.opcheck(torch.ops.silk_fast.rvq_encode.default, (x, books, False, *kernels.pack_codebooks(books)))
    torch.library.opcheck(torch.ops.silk_fast.rvq_decode.default, (indices, books))
    arguments = (*factorized(2, 20, 4), [1, 2], "snac")
    torch.library.opcheck(torch.ops.silk_fast.factorized_rvq_encode.default, arguments)


X, BOOKS, INDICES = torch.zeros(1, 4, 8), torch.zeros(2, 5, 8), torch.zeros(1, 2, 4, dtype=torch.int64)
TABLES, PROJECTIONS = torch.zeros(2, 5, 16), torch.zeros(1, 4, 16)
BAD = [
    (ValueError, r"x must be \[B, T, D\] with D in 1 .. 512, got \[4, 8\]", lambda: kernels.rvq_encode(X[0], BOOKS)),
    (TypeError, "x must be float32", lambda: kernels.rvq_encode(X.double(), BOOKS)),
    (ValueError, r"codebooks must be \[2, 5, 8\]", lambda: kernels.rvq_encode(X, BOOKS[..., :4])),
    (ValueError, r"codebooks must be \[Q, K, 8\]", lambda: kernels.rvq_encode(X, BOOKS[0])),
    (ValueError, r"packed.columns must be \[2, 8, 5\], got \[1, 8, 5\]", lambda: kernels.rvq_encode(
        X, BOOKS, packed=kernels.pack_codebooks(BOOKS[1:]))),
    (TypeError, "codebooks must be float32, float16 or bfloat16", lambda: kernels.pack_codebooks(BOOKS.double())),
    (TypeError, "indices must be int32 or int64", lambda: kernels.rvq_decode(INDICES.float(), BOOKS)),
    (ValueError, "Q at most 2", lambda: kernels.rvq_decode(INDICES.repeat(1, 2, 1), BOOKS)),
    (ValueError, r"codebooks must be \[Q, K, D\]", lambda: kernels.rvq_decode(INDICES, BOOKS[:, :0])),
    (ValueError, r"\[B, T, 16\]", lambda: kernels.factorized_rvq_encode(PROJECTIONS[..., :9], BOOKS, TABLES)),
    (ValueError, r"tables must be \[2, 5, 16\]", lambda: kernels.factorized_rvq_encode(PROJECTIONS, BOOKS, TABLES[1:])),
    (ValueError, "strides must be 2", lambda: kernels.factorized_rvq_encode(PROJECTIONS, BOOKS, TABLES, [3, 1])),
    (ValueError, "multiple of the largest stride, 8, got 4", lambda: kernels.factorized_rvq_encode(
        PROJECTIONS, BOOKS, TABLES, [8, 1])),
    (ValueError, "score must be dac or snac", lambda: kernels.factorized_rvq_encode(
        PROJECTIONS, BOOKS, TABLES, score="cosine")),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "call"), BAD, ids=[message for _, message, _ in BAD])
def test_bad_input_is_refused_by_name(error, message, call):
    with pytest.raises(error, match=message):
        call()
