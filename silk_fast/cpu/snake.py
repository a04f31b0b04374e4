"""Snake (Ziyin et al., 2020; beta as in BigVGAN): ``snake.c``."""

from torch import Tensor

from silk_fast.cpu.checks import address, check_dtype, destination, is_half, operand, parameters, threads
from silk_fast.cpu.library import load


def snake(
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Apply Snake ``x + sin(alpha * x)^2 / (beta + 1e-9)``, optionally to ``x + bias`` and added to ``residual``.

    The error of the result is at most 1e-6 times the largest of 1, ``|x + bias|`` and ``1 / beta``.

    Args:
        x: ``[B, C, T]``.
        alpha, beta: ``[C]``, > 0.
        bias: ``[C]``, or None.
        residual: ``[B, C, T]`` in the dtype of ``x``, or None.
        out: ``[B, C, T]``, contiguous, in the dtype of ``x``, where the result goes; may be ``x`` or ``residual``,
            but not part of another memory of theirs. None for new memory.

    Returns:
        ``[B, C, T]``: ``out`` if given.
    """
    check_dtype("x", x)
    if x.ndim != 3:
        raise ValueError(f"x must be [B, C, T], got {list(x.shape)}")
    x, shape = x.contiguous(), x.shape
    n_batch, n_channels, n_time = shape
    alpha, beta = parameters("alpha", alpha, n_channels), parameters("beta", beta, n_channels)
    if bias is not None:
        bias = parameters("bias", bias, n_channels)
    if residual is not None:
        residual = operand("residual", residual, shape, x)
    y = destination(out, x)
    load().silk_snake(
        *(x.data_ptr(), alpha.data_ptr(), beta.data_ptr(), address(bias), address(residual), y.data_ptr()),
        *(n_batch, n_channels, n_time, is_half(x), threads(n_batch * n_channels * n_time)),
    )
    return y
