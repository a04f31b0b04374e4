"""Attention with relative positions, in one kernel forward and three backward: two schemes.

    score_ij = ((q_i + u) . k_j + (q_i + v_bias) . pos[row(i - j)]) / sqrt(D),  softmax over the keys, times v

Transformer-XL (:func:`rel_attention`): only distances in ``-right .. left`` are visible; ``row = distance + right``.
Clipped (:func:`rel_key_attention`, Shaw et al., 2018; ``CLIPPED``): the others take the nearest row,
``row = left - distance``, and there are no biases; the position scores of a tile far from the diagonal are one number
per query, without a product.

FLOPs: 6 D per pair of query and key, 4 D where far. Bytes: q, k, v, pos and the output once from memory; k, v and pos
again from L2 for each tile of queries. All are multiplied on tensor cores with float32 sums: float16 and bfloat16 as
they are, float32 in three products of TF32, as exact as one of float32 (docs/kernels.md).

Tiles depend on D and dtype only, so that a sample has the same result alone and padded in a batch, bit for bit. They
are small, for the sake of short sequences: at 2.5 Hz one tile holds 6 or 13 s of one (sample, head) pair, and by
registers 8 (float16) or 11 (float32) of these run at once on each SM of a 3090.
"""

from .rel_attention import rel_attention
from .rel_key_attention import rel_key_attention

__all__ = ["rel_attention", "rel_key_attention"]
