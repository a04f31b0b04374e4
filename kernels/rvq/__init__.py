"""Residual vector quantisation (Zeghidour et al., 2021): vectors to indices, stage after stage, and back.

i_q = argmax_k (2 r_q . e_{q,k} - |r_q|^2) - |e_{q,k}|^2, the first of equals;  r_0 = x,  r_{q+1} = r_q - e_{q, i_q}

``encode.py`` searches codebooks as wide as the vectors (EnCodec, Mimi), ``factorized.py`` those of a few dimensions
behind a projection of each stage (DAC, SNAC), ``decode.py`` adds entries up. ``columns.py`` orders codebooks for both
searches, which a caller does once.
"""

from .columns import PackedCodebooks, pack_codebooks
from .decode import rvq_decode
from .encode import rvq_encode
from .factorized import factorized_rvq_encode

__all__ = ["PackedCodebooks", "factorized_rvq_encode", "pack_codebooks", "rvq_decode", "rvq_encode"]
