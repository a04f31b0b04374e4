"""Muon: momentum whose direction is made orthogonal, for weight matrices; Adam for what is no matrix."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MATRIX_MOMENTUM = 0.9
ADAM_RMS = 0.2  # of an AdamW update, so that learning rate and weight decay mean the same for both (Liu et al., 2025)
EPSILON = 1e-8
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients that take singular values to about 1 fastest
NEWTON_SCHULZ_STEPS = 5


def is_matrix(parameter: Tensor) -> bool:
    """Tell whether a parameter maps vectors to vectors: not biases, gains, or norms ``[C, 1, 1]`` of weight norm."""
    return parameter.ndim > 1 and min(parameter.shape[0], parameter[0].numel()) > 1


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) for matrices, AdamW for other parameters.

    A convolution's weight ``[out, in, taps]`` counts as a matrix ``[out, in * taps]``.

    Args:
        parameters: tensors, or groups of them as of any optimiser; AdamW is for all of one that has ``by_adam`` set.
        lr: learning rate; an update of a matrix has the rms of an AdamW update, ``0.2 * lr``.
        betas: decays of AdamW's moments.
        weight_decay: decoupled, times the learning rate.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.8, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "by_adam": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step along the gradients; parameters without one stay.

        Args:
            closure: computes loss and gradients first, as with any optimiser; its loss is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                of_matrix = is_matrix(parameter) and not group["by_adam"]
                update = self._matrix_update if of_matrix else self._adam_update
                direction = update(parameter.grad, self.state[parameter], group["betas"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
        return loss

    @staticmethod
    def _matrix_update(gradient: Tensor, state: dict[str, Tensor], betas: tuple[float, float]) -> Tensor:
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - MATRIX_MOMENTUM)
        ahead = gradient.lerp(momentum, MATRIX_MOMENTUM).flatten(1)  # Nesterov's
        return (orthogonal(ahead) * (ADAM_RMS * max(ahead.shape) ** 0.5)).view_as(gradient)

    @staticmethod
    def _adam_update(gradient: Tensor, state: dict[str, Tensor], betas: tuple[float, float]) -> Tensor:
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] += 1
        mean_bias, square_bias = (1 - beta ** state["step"].item() for beta in betas)
        mean = state["mean"].lerp_(gradient, 1 - betas[0])
        square = state["square"].lerp_(gradient.square(), 1 - betas[1])
        return mean / mean_bias / (square / square_bias).sqrt_().add_(EPSILON)


def orthogonal(matrix: Tensor) -> Tensor:
    """Make a matrix ``[m, n]`` of the same singular vectors, and singular values of about 1; float32.

    Five Newton-Schulz steps in bfloat16; singular values that are not far below the largest end in 0.7 .. 1.2.
    """
    a, b, c = NEWTON_SCHULZ
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).bfloat16()
    x = x / x.float().norm().clamp(min=EPSILON).bfloat16()
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if is_tall else x).float()
