"""Latent standardisation and finite scalar quantisation of frames ``[B, F, D]``."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from silk_fast.errors import SilkInputError
from silk_fast.reference import ops
from silk_fast.reference.module import OpsModule


class LatentNorm(nn.Module):
    """Standardise every dimension over frames: batch statistics in training, stored ones in inference.

    Without it most FSQ levels are never used. ``frozen`` makes training use the stored statistics too.
    """

    EPSILON = 1e-5
    mean: Tensor
    variance: Tensor

    def __init__(self, dim: int, momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum = momentum
        self.frozen = False
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    @torch.no_grad()
    def set_statistics(self, latents: Tensor) -> None:
        """Store the statistics of ``latents`` ``[..., D]``, for example of whole utterances."""
        flat = latents.flatten(0, -2).double()
        self.mean.copy_(flat.mean(0))
        self.variance.copy_(flat.var(0, unbiased=False))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, F, D]`` to the same; ``mask`` bool ``[B, F]`` marks the frames that count in training."""
        mean, variance = self.mean, self.variance
        if self.training and not self.frozen:
            valid = (x if mask is None else x[mask]).flatten(0, -2).float()
            mean, variance = valid.mean(0), valid.var(0, unbiased=False)
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)
                self.variance.lerp_(variance, self.momentum)
        return (x.float() - mean) * torch.rsqrt(variance + self.EPSILON)


class FiniteScalarQuantizer(OpsModule):
    """FSQ (Mentzer et al., 2023) of standardised latents, packed into tokens.

    Args:
        levels: level count of each of the D dimensions.
        group_size: dimensions per token; G = ceil(D / group_size).
    """

    def __init__(self, levels: Sequence[int], group_size: int) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.group_size = group_size
        self.norm = LatentNorm(len(self.levels))

    def extra_repr(self) -> str:
        return f"levels={sorted(set(self.levels))} x {len(self.levels)}, group_size={self.group_size}"

    @property
    def token_sizes(self) -> list[int]:
        """How many values each of the G tokens can take."""
        return [math.prod(group) for group in ops.group_levels(self.levels, self.group_size)]

    def forward(self, latents: Tensor, mask: Tensor | None = None) -> Tensor:
        """Codes float32 ``[B, F, D]`` of latents ``[B, F, D]``, with straight-through gradients."""
        return self.ops.fsq_quantize(self.norm(latents, mask), self.levels)

    def encode(self, latents: Tensor) -> Tensor:
        """Tokens int32 ``[B, F, G]`` of latents ``[B, F, D]``.

        Raises:
            SilkInputError: a latent is NaN or infinite.
        """
        z = self.norm(latents)
        if not torch.isfinite(z).all():
            raise SilkInputError("latents must be finite, got NaN or infinite values")
        return self.ops.fsq_pack(z, self.levels, self.group_size)

    def decode(self, tokens: Tensor) -> Tensor:
        """Codes float32 ``[B, F, D]`` of tokens ``[B, F, G]``.

        Raises:
            SilkInputError: not ``[B, F, G]`` integers, or a token out of range.
        """
        sizes = self.token_sizes
        if tokens.ndim != 3 or tokens.shape[-1] != len(sizes) or tokens.dtype not in (torch.int32, torch.int64):
            raise SilkInputError(
                f"tokens must be int32 or int64 [B, F, {len(sizes)}], got {tokens.dtype} {tuple(tokens.shape)}"
            )
        wrong = (tokens < 0) | (tokens >= torch.tensor(sizes, device=tokens.device))
        if wrong.any():
            b, f, g = (int(i) for i in wrong.nonzero()[0])
            raise SilkInputError(
                f"token {g} of frame {f}, sample {b}, must be in 0 .. {sizes[g] - 1}, got {int(tokens[b, f, g])}"
            )
        return self.ops.fsq_unpack(tokens, self.levels, self.group_size)
