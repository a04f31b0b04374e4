"""Signs of collapse: latents that stop moving, levels that are never used, an encoder without gradient."""

import math

import torch
from torch import Tensor

from silk_fast.errors import SilkTrainingError

LIMITS = {"fsq_entropy": 2.0, "latent_deviation": 0.3, "encoder_gradient": 1e-4}


@torch.no_grad()
def fsq_entropy(codes: Tensor, levels: int) -> Tensor:
    """Average the entropy of the levels in ``codes`` ``[B, F, D]``, in bits, over dimensions; a scalar."""
    digits = ((codes.detach().float() + 1) * (levels / 2)).round().long().flatten(0, -2)  # [N, D]
    shares = torch.nn.functional.one_hot(digits, levels).float().mean(0)  # [D, L]
    return torch.special.entr(shares).sum(-1).mean() / math.log(2)


@torch.no_grad()
def latent_deviation(latents: Tensor) -> Tensor:
    """Compute the deviation over frames of latents ``[B, F, D]`` relative to their rms: 0 if they never change."""
    flat = latents.detach().float().flatten(0, -2)
    return flat.std(0, unbiased=False).square().mean().sqrt() / flat.square().mean().sqrt().clamp(min=1e-12)


@torch.no_grad()
def effective_rank(latents: Tensor) -> Tensor:
    """Compute e to the entropy of the normalised singular values of centred latents (Roy and Vetterli, 2007)."""
    flat = latents.detach().float().flatten(0, -2)
    shares = torch.linalg.svdvals(flat - flat.mean(0))
    shares = shares / shares.sum().clamp(min=1e-12)
    return torch.special.entr(shares).sum().exp()


class CollapseMonitor:
    """Stops a run whose latents have collapsed.

    Args:
        patience: steps on end below a limit of ``LIMITS`` that are borne.
        grace: first steps that are not judged.
        step: that the run begins with.
    """

    def __init__(self, patience: int, grace: int, step: int = 0) -> None:
        self.patience = patience
        self.grace = grace
        self.judged = max(step, grace)
        self.steps_below = dict.fromkeys(LIMITS, 0)

    def check(self, step: int, values: dict[str, float]) -> None:
        """Judge the values of one step, for all steps since the last that was judged.

        Raises:
            SilkTrainingError: a value has been below its limit for too long; the message says which.
        """
        if step <= self.grace:
            return
        n_steps, self.judged = step - self.judged, step
        for name, limit in LIMITS.items():
            below = name in values and values[name] < limit
            self.steps_below[name] = self.steps_below[name] + n_steps if below else 0
            if self.steps_below[name] > self.patience:
                raise SilkTrainingError(
                    f"collapsed at step {step}: {name} is {values[name]:.3g}, below {limit:g} for "
                    f"{self.steps_below[name]} steps; try a lower learning rate or a longer warm-up"
                )
