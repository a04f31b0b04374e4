"""Finite scalar quantisation (Mentzer et al., 2023): latents to tokens, tokens to codes, codes for training.

half = (L - 1) * (1 + 1e-3) / 2,  offset = 0.5 for even L, else 0,  shift = atanh(offset / half)
digit = round(tanh(z + shift) * half - offset) + L // 2,  code = (digit - L // 2) / (L // 2)
"""

from .pack import fsq_pack, fsq_unpack
from .quantize import fsq_quantize

__all__ = ["fsq_pack", "fsq_quantize", "fsq_unpack"]
