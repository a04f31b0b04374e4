"""Codebooks as the searches read them, made once of what does not change."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .._launch import check_dtype, check_operand
from .search import HALVES


class PackedCodebooks(NamedTuple):
    """Entries as a search reads them, float32, made by :func:`pack_codebooks`."""

    columns: Tensor  # [Q, D, K]: neighbouring entries lie side by side, as the lanes of a warp take them
    squares: Tensor  # [Q, K], squared lengths of the entries


def pack_codebooks(codebooks: Tensor, directions: bool = False) -> PackedCodebooks:
    """Order codebooks for a search and measure their entries, once for many calls.

    Args:
        codebooks: ``[Q, K, D]``, float32, float16 or bfloat16.
        directions: scale entries to length one first: for ``factorized_rvq_encode``; else for ``rvq_encode``.

    Raises:
        TypeError: ``codebooks`` have another dtype.
    """
    check_dtype("codebooks", codebooks, HALVES)
    entries = F.normalize(codebooks.float(), dim=-1) if directions else codebooks.float()
    return PackedCodebooks(entries.transpose(1, 2).contiguous(), entries.square().sum(-1))


def packed_or_pack(
    codebooks: Tensor, columns: Tensor | None, squares: Tensor | None, directions: bool
) -> PackedCodebooks:
    """Give what was packed, after a check that it fits ``codebooks``, or pack them."""
    if columns is None or squares is None:
        return pack_codebooks(codebooks, directions)
    n_stages, n_codes, n_dims = codebooks.shape
    for name, tensor, shape in (
        ("columns", columns, (n_stages, n_dims, n_codes)),
        ("squares", squares, (n_stages, n_codes)),
    ):
        check_operand(f"packed.{name}", tensor, shape, codebooks, "codebooks", HALVES[:1])
    return PackedCodebooks(columns.contiguous(), squares.contiguous())
