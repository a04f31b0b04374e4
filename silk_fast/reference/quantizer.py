"""Latent standardisation and finite scalar quantisation of frames ``[B, F, D]``."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from silk_fast.errors import SilkInputError
from silk_fast.reference import ops
from silk_fast.reference.checks import check_tokens, is_exporting
from silk_fast.reference.module import OpsModule


class LatentNorm(nn.Module):
    """Standardise every dimension over frames: batch statistics in training, stored ones in inference.

    Without it most FSQ levels are never used. ``frozen`` makes training use the stored statistics too. Batch statistics
    that are not finite are not stored.
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
        on_mps = latents.device.type == "mps"  # which has no float64
        flat = (latents.cpu() if on_mps else latents).flatten(0, -2).double()
        self.mean.copy_(flat.mean(0))
        self.variance.copy_(flat.var(0, unbiased=False))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, F, D]`` to the same; ``mask`` bool ``[B, F]`` marks the frames that count in training."""
        mean, variance = self.mean, self.variance
        if self.training and not self.frozen:
            valid = (x if mask is None else x[mask]).flatten(0, -2).float()
            mean, variance = valid.mean(0), valid.var(0, unbiased=False)
            with torch.no_grad():
                for stored, new in ((self.mean, mean), (self.variance, variance)):
                    stored.copy_(torch.where(new.isfinite(), stored.lerp(new, self.momentum), stored))
        return self._affine(x, mean, variance)

    def standardise(self, x: Tensor) -> Tensor:
        """``[B, F, D]`` to the same by the stored statistics, which it never changes, in training or not."""
        return self._affine(x, self.mean, self.variance)

    def _affine(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
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
        """Tokens int32 ``[B, F, G]`` of latents ``[B, F, D]``, by the stored statistics.

        Raises:
            SilkInputError: a latent is NaN or infinite.
        """
        z = self.norm.standardise(latents)
        if not is_exporting() and not torch.isfinite(z).all():
            rows = (~torch.isfinite(z)).flatten(1).any(1).nonzero().flatten().tolist()
            raise SilkInputError(f"latents must be finite, got NaN or infinite values in rows {rows}")
        return self.ops.fsq_pack(z, self.levels, self.group_size)

    def encode_rows(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens as of :meth:`encode`, and whether the latents of each signal are finite, bool ``[B]``.

        No value is looked at, so a GPU is not waited for; where latents are not finite the tokens mean nothing.
        """
        z = self.norm.standardise(latents)
        return self.ops.fsq_pack(z, self.levels, self.group_size), torch.isfinite(z).flatten(1).all(1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Codes float32 ``[B, F, D]`` of tokens ``[B, F, G]``.

        Raises:
            SilkInputError: not ``[B, F, G]`` integers, or a token out of range.
        """
        check_tokens(tokens, self.token_sizes)
        return self.codes(tokens)

    def codes(self, tokens: Tensor) -> Tensor:
        """Codes float32 ``[B, F, D]`` of tokens ``[B, F, G]`` that are known to be valid."""
        return self.ops.fsq_unpack(tokens, self.levels, self.group_size)
