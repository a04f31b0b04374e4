"""Learning of codebooks without gradients, as in VQ-VAE (van den Oord et al., 2017, appendix A.1) and SoundStream.

A stage of residual quantisation begins with means of what it meets (:func:`k_means`), follows by moving averages
(:func:`moving_average`), and gives entries that nothing is near to any more a new place (:func:`replace_unused`), as
EnCodec does (Défossez et al., 2022). Nothing given is written.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from silk_fast.errors import SilkInputError
from silk_fast.reference.ops import nearest_code


class MovingCodebook(NamedTuple):
    """A codebook, and the averages that it is the quotient of.

    Args:
        entries: ``[K, D]``.
        counts: ``[K]``, moving average of how many vectors an entry is nearest to.
        sums: ``[K, D]``, moving average of their sum.
    """

    entries: Tensor
    counts: Tensor
    sums: Tensor


def _members(x: Tensor, index: Tensor, n_codes: int) -> tuple[Tensor, Tensor]:
    """How many of ``x`` ``[N, D]`` each entry has, ``[K]``, and their sum ``[K, D]``."""
    counts = torch.bincount(index, minlength=n_codes).to(x.dtype)
    return counts, x.new_zeros(n_codes, x.shape[1]).index_add(0, index, x)


def _check(x: Tensor, n_dims: int | None = None) -> None:
    wanted = "D" if n_dims is None else n_dims
    if x.ndim != 2 or len(x) == 0 or n_dims not in (None, x.shape[1]):
        raise SilkInputError(f"x must be [N, {wanted}] with N of 1 or more, got {list(x.shape)}")


def k_means(x: Tensor, n_codes: int, n_steps: int = 50, generator: torch.Generator | None = None) -> MovingCodebook:
    """Begin a codebook with means of vectors (Lloyd, 1982), from vectors chosen at random.

    Args:
        x: ``[N, D]``; fewer than ``n_codes`` are chosen repeatedly.
        n_codes: K.
        n_steps: of Lloyd's iteration; a mean of nothing stays where it is.
        generator: of the choice; None for PyTorch's own.

    Returns:
        The means, how many vectors each has, and their sums.

    Raises:
        SilkInputError: ``x`` is no ``[N, D]`` or empty, ``n_codes`` or ``n_steps`` is not positive.
    """
    _check(x)
    if n_codes < 1 or n_steps < 1:
        raise SilkInputError(f"n_codes and n_steps must be positive, got {n_codes} and {n_steps}")
    means = _chosen(x, n_codes, generator)
    for _ in range(n_steps):
        counts, sums = _members(x, nearest_code(x[None], means)[0], n_codes)
        means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], means)
    return MovingCodebook(means, counts, torch.where(counts[:, None] > 0, sums, means))


def moving_average(codebook: MovingCodebook, x: Tensor, decay: float = 0.99, epsilon: float = 1e-5) -> MovingCodebook:
    """Move every entry towards the mean of the vectors that it is nearest to.

    ``counts = decay * counts + (1 - decay) * n_k``, sums alike, ``entries = sums / smoothed``, where Laplace's
    smoothing of the counts, ``(counts + epsilon) / (total + K * epsilon) * total``, keeps rare entries in bounds.

    Args:
        codebook: before.
        x: ``[N, D]``, what the stage met.
        decay: of the averages, in 0 .. 1.
        epsilon: of the smoothing.

    Raises:
        SilkInputError: ``x`` is no ``[N, D]`` or empty, or ``decay`` is out of its range.
    """
    _check(x, codebook.entries.shape[1])
    if not 0 <= decay <= 1:
        raise SilkInputError(f"decay must be in 0 .. 1, got {decay}")
    n_codes = len(codebook.entries)
    counts, sums = _members(x, nearest_code(x[None], codebook.entries)[0], n_codes)
    counts = decay * codebook.counts + (1 - decay) * counts
    sums = decay * codebook.sums + (1 - decay) * sums
    total = counts.sum()
    smoothed = (counts + epsilon) / (total + n_codes * epsilon) * total
    return MovingCodebook(sums / smoothed[:, None], counts, sums)


def replace_unused(
    codebook: MovingCodebook, x: Tensor, threshold: float = 2.0, generator: torch.Generator | None = None
) -> MovingCodebook:
    """Give entries with a count below ``threshold`` the place of a vector chosen at random, and that count.

    Args:
        codebook: before.
        x: ``[N, D]``, what the stage met.
        threshold: of ``codebook.counts``.
        generator: of the choice; None for PyTorch's own.

    Raises:
        SilkInputError: ``x`` is no ``[N, D]`` or empty.
    """
    _check(x, codebook.entries.shape[1])
    unused = codebook.counts < threshold
    entries = torch.where(unused[:, None], _chosen(x, len(unused), generator), codebook.entries)
    counts = torch.where(unused, threshold, codebook.counts)
    return MovingCodebook(entries, counts, torch.where(unused[:, None], entries * threshold, codebook.sums))


def _chosen(x: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """``n`` of the vectors, different ones if there are as many."""
    if len(x) >= n:
        return x[torch.randperm(len(x), generator=generator, device=x.device)[:n]]
    return x[torch.randint(len(x), (n,), generator=generator, device=x.device)]
