"""ELU (Clevert et al., 2016): ``elu.c``."""

from torch import Tensor

from silk_fast.cpu.checks import address, check_dtype, destination, is_half, operand, parameters, threads
from silk_fast.cpu.library import load


def elu(x: Tensor, bias: Tensor | None = None, residual: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Apply ELU, ``v`` or ``e^v - 1`` where it is negative, to ``v = residual + (x + bias)``.

    Args:
        x: ``[B, C, T]``.
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
    if bias is not None:
        bias = parameters("bias", bias, n_channels)
    if residual is not None:
        residual = operand("residual", residual, shape, x)
    y = destination(out, x)
    load().silk_elu(
        *(x.data_ptr(), address(bias), address(residual), y.data_ptr()),
        *(n_batch, n_channels, n_time, is_half(x), threads(n_batch * n_channels * n_time)),
    )
    return y
