"""Residual unit ``y = x + conv1(snake(conv_d(snake(x))))`` (DAC, Kumar et al., 2023); inference only.

``conv_d`` has K taps (7) at distance d, ``conv1`` one; both keep the C channels. Snake is that of ``snake.py``.

Both convolutions are implicit matrix products on channels-last memory ``[B, T, C]``, where each tap is the
same tile of rows, shifted; a channels-first signal would cost scalar loads. Up to C = 192 one kernel does the
whole unit: its accumulator holds every channel of its rows and becomes the left operand of the second product
without leaving the registers. It is kept as two powers of two, which gives 96 and 192 exactly and makes Triton
put all warps along time, so that no two warps evaluate the same Snake. Wider units, and signals too short to
fill the card, take two launches of one convolution kernel with ``h = snake(conv_d(..))`` between them. Both forms
add up in the same order.

FLOPs per element: 2 (K + 1) C. Bytes per element in float16: 4 (x and y) in one kernel; two launches write and read
h, 4 more. From L2 a tile of 128 rows reads its rows K times (asynchronous 16-byte copies bypass L1) and all weights
once. docs/kernels.md compares this with what cards offer.
"""

from .launch import residual_unit, residual_unit_channels_last
from .weights import PackedResidualUnit, pack_weights

__all__ = ["PackedResidualUnit", "pack_weights", "residual_unit", "residual_unit_channels_last"]
