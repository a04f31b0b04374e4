"""What the quantisers of EnCodec and Mimi share on a GPU: one kernel finds all codes, one adds up their entries."""

from typing import Any

import torch
from torch import Tensor

from silk_fast.acceleration.folding import Folding
from silk_fast.codecs.places import gpu_serves, kernels


class NearestEntries(Folding):
    """Base of forms whose stages are ``layers``, each with a codebook of entries ``embed``."""

    layers: Any

    def _parts(self) -> list[Any]:
        return []

    def _serves(self, x: Tensor) -> bool:
        return x.ndim == 3 and x.numel() > 0 and x.dtype == torch.float32 and gpu_serves(x)

    def _knows(self, codes: Tensor) -> bool:
        """Whether ``codes`` ``[Q, B, T]`` are decoded here; a stage that there is not is the library's to refuse."""
        return codes.ndim == 3 and 0 < len(codes) <= len(self.layers) and self._serves(self._codebooks(1)[0])

    def _codebooks(self, n_stages: int) -> tuple[Tensor, Any]:
        """Entries of the first stages, ``[Q, K, D]``, and the same as the kernel searches them."""
        stages = [layer.codebook for layer in self.layers[:n_stages]]

        def compute() -> tuple[Tensor, Any]:
            codebooks = torch.stack([stage.embed for stage in stages]).float()
            return codebooks, kernels().pack_codebooks(codebooks)

        return self.folded(f"codebooks {n_stages}", compute, *(b for stage in stages for b in stage.buffers()))

    def _search(self, x: Tensor, n_stages: int, euclidean: bool) -> Tensor:
        """Codes ``[Q, B, T]`` of ``x`` ``[B, D, T]``."""
        codebooks, packed = self._codebooks(n_stages)
        return kernels().rvq_encode(x.transpose(1, 2), codebooks, euclidean, packed).transpose(0, 1)

    def _entries(self, codes: Tensor) -> Tensor:
        """Sum of the entries ``[B, D, T]`` that codes ``[Q, B, T]`` name."""
        return kernels().rvq_decode(codes.transpose(0, 1), self._codebooks(len(codes))[0]).transpose(1, 2)
