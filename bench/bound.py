"""The three-way bound: how far a kernel may be from the exact result, in terms of how far the reference is."""

import torch
from torch import Tensor

ATOL = {torch.float64: 1e-9, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def assert_matches(ours: Tensor, eager: Tensor, exact: Tensor, dtype: torch.dtype, what: str = "") -> None:
    """Check ``max|ours - exact| <= 2 * max|eager - exact| + atol``.

    Args:
        ours: the kernel's result; eager: the reference's in the same dtype; exact: the reference's in float64.
        dtype: the tested dtype, which selects ``atol``.

    Raises:
        AssertionError: another shape, or a larger error; the message names the worst element.
    """
    assert ours.shape == exact.shape, f"{what}: shape {tuple(ours.shape)}, expected {tuple(exact.shape)}"
    if not exact.numel():
        return
    error = (ours.double().cpu() - exact.cpu()).abs().nan_to_num(nan=torch.inf)
    bound = 2 * (eager.double().cpu() - exact.cpu()).abs().max() + ATOL[dtype]
    worst = tuple(i.item() for i in torch.unravel_index(error.argmax(), error.shape))
    assert error.max() <= bound, f"{what}: error {error.max():.2e} > {bound:.2e} at {worst}"
