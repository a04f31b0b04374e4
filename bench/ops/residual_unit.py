"""Residual units of the codecs' stages. Half precision only: the op refuses float32, which stays with cuDNN.

T = 8192 fills a card with large tiles; T = 30 is one Silk frame at 75 Hz, as in streaming.
"""

import torch
from silk_fast.kernels.residual_unit import pack_weights, residual_unit_activated, residual_unit_channels_last

from bench.cases import StaticCase

KERNELS = frozenset({"_residual_unit_fwd_kernel", "_conv_fwd_kernel"})
N_TAPS, DILATION = 7, 9


def _case(n_channels: int, n_time: int, dtype: torch.dtype, form: str = "plain") -> StaticCase:
    """``form``: ``plain``, ``context`` (streaming) or ``activated``."""
    vector = torch.ones(n_channels, dtype=dtype)
    weight1 = torch.zeros(n_channels, n_channels, N_TAPS, dtype=dtype)
    packed = pack_weights(vector, vector, weight1, vector, vector, vector, weight1[..., :1], vector)
    x = torch.zeros(1, n_time, n_channels, dtype=dtype)
    context = torch.zeros(1, (N_TAPS - 1) * DILATION, n_channels, dtype=dtype) if form == "context" else None

    def run() -> None:
        if form == "activated":
            residual_unit_activated(x, x, packed, packed.snake1, DILATION)
        else:
            residual_unit_channels_last(x, packed, DILATION, context)

    return StaticCase("residual_unit", f"[1, {n_time}, {n_channels}] {form}", dtype, run, KERNELS, KERNELS)


def static_cases() -> list[StaticCase]:
    shapes = [
        *((c, 8192, torch.float16) for c in (32, 64, 96, 128, 192, 512)),
        *((c, 8192, torch.float16, "activated") for c in (32, 192)),
        (192, 30, torch.float16, "context"),
        *((c, 8192, torch.bfloat16) for c in (64, 192)),
    ]
    return [_case(*shape) for shape in shapes]
