"""What the quantisers of DAC and SNAC share on a GPU: one product, one kernel, one product back."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast.acceleration.folding import Folding
from silk_fast.codecs.places import gpu_serves, kernels, weight_of
from silk_fast.reference.ops import factorized_tables


class Stages(NamedTuple):
    """The weights of the first Q stages, together.

    Args:
        into: ``[Q * D, C]``, and its bias ``[Q * D]``: projections of all stages.
        codebooks: ``[Q, K, D]``.
        packed: they, as the kernel searches them.
        tables: ``[Q, K, Q * D]``.
        back: ``[C, Q * D]``, and the sum of its biases ``[C]``.
    """

    into: Tensor
    into_bias: Tensor
    codebooks: Tensor
    packed: Any
    tables: Tensor
    back: Tensor
    back_bias: Tensor


def _stack(stages: list[Any]) -> Stages:
    into = torch.stack([weight_of(stage.in_proj)[..., 0] for stage in stages]).float()
    back = torch.stack([weight_of(stage.out_proj)[..., 0] for stage in stages]).float()
    codebooks = torch.stack([stage.codebook.weight for stage in stages]).float()
    biases = torch.stack([stage.out_proj.bias for stage in stages]).float()
    return Stages(
        into.flatten(0, 1),
        torch.cat([stage.in_proj.bias for stage in stages]).float(),
        codebooks,
        kernels().pack_codebooks(codebooks, directions=True),
        factorized_tables(into, codebooks, back, biases),
        back.transpose(0, 1).flatten(1),
        biases.sum(0),
    )


@contextmanager
def _ieee_products() -> Iterator[None]:
    """Multiply without TF32, in which other entries would be nearest."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


class FactorizedQuantizer(Folding):
    """Base of forms whose stages are ``quantizers``. The residual of all channels never exists."""

    quantizers: Any

    def _parts(self) -> list[Any]:
        return [projection for stage in self.quantizers for projection in (stage.in_proj, stage.out_proj)]

    def _serves(self, x: Tensor) -> bool:
        return not self.training and x.ndim == 3 and x.numel() > 0 and x.dtype == torch.float32 and gpu_serves(x)

    def _stages(self, n_stages: int) -> Stages:
        stages = list(self.quantizers[:n_stages])
        parameters = [parameter for stage in stages for parameter in stage.parameters()]
        return self.folded(f"stages {n_stages}", partial(_stack, stages), *parameters)

    def _search(self, x: Tensor, stages: Stages, strides: list[int] | None, score: str) -> tuple[Tensor, Tensor]:
        """Indices ``[B, Q, T]`` and latents ``[B, T, Q * D]`` of ``x`` ``[B, C, T]``, in IEEE float32."""
        with _ieee_products():
            projections = F.linear(x.transpose(1, 2), stages.into, stages.into_bias)
        operands = projections, stages.codebooks, stages.tables
        return kernels().factorized_rvq_encode(*operands, strides, score, stages.packed)

    def _entries(self, indices: Tensor, stages: Stages) -> Tensor:
        """Entries ``[B, T, Q * D]`` that indices ``[B, Q, T]`` name, one gather for all stages."""
        n_stages, n_codes, n_dims = stages.codebooks.shape
        first = torch.arange(0, n_stages * n_codes, n_codes, device=indices.device)
        return F.embedding(indices.transpose(1, 2) + first, stages.codebooks.view(-1, n_dims)).flatten(2)

    def _back(self, entries: Tensor, stages: Stages) -> Tensor:
        """Sum of what the stages project back, ``[B, C, T]``."""
        return F.linear(entries, stages.back, stages.back_bias).transpose(1, 2)
