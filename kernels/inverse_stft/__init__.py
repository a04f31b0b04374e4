"""Inverse STFT of ``exp(min(m, log 100)) * exp(i p)``  (Vocos, Siuzdak, 2023), in three alignments.

Three launches, all memory-bound: polar form to packed spectrum (``polar_spectrum.py``), complex inverse DFT of half the
length (cuFFT), windowed overlap-add with its envelope (``overlap_add.py``). A Silk frame (n_fft 1280, hop 320) moves
10 + 10 + 7 = 27 KB. docs/kernels.md compares one product with the DFT matrix.
"""

from .polar_istft import polar_istft, polar_istft_stream, polar_overlap_add

__all__ = ["polar_istft", "polar_istft_stream", "polar_overlap_add"]
