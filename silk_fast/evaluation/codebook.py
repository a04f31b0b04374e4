"""How much of the FSQ codebook is used: entropy, levels and saturation of every latent dimension."""

from dataclasses import dataclass

import numpy as np

COLLAPSED_BITS = 0.5
LEVELS_USED_TARGET = 0.9


@dataclass(frozen=True)
class CodebookUse:
    """Statistics of FSQ digits, one value per latent dimension unless said otherwise.

    Args:
        shares: ``[D, L]``, how often each level occurs; rows add to 1.
        frame_rate: frames per second.
        n_frames: counted.
    """

    shares: np.ndarray
    frame_rate: float
    n_frames: int

    @property
    def entropy(self) -> np.ndarray:
        """Bits ``[D]``, of each dimension alone; log2 L at most."""
        logarithms = np.log2(self.shares, out=np.zeros_like(self.shares), where=self.shares > 0)
        return np.maximum(0.0, -(self.shares * logarithms).sum(1))

    @property
    def levels_used(self) -> np.ndarray:
        """Levels ``[D]`` that occur at all."""
        return (self.shares > 0).sum(1)

    @property
    def saturation(self) -> np.ndarray:
        """Share ``[D]`` of digits at the lowest or the highest level."""
        return self.shares[:, 0] + self.shares[:, -1]

    @property
    def effective_bits_per_second(self) -> float:
        """Sum of the entropies times the frame rate: what an entropy coder without context would need."""
        return float(self.entropy.sum() * self.frame_rate)

    @property
    def collapsed(self) -> list[int]:
        """Dimensions below 0.5 bit."""
        return np.flatnonzero(self.entropy < COLLAPSED_BITS).tolist()

    @property
    def share_of_levels(self) -> np.ndarray:
        """Share ``[D]`` of the levels that occur."""
        return self.levels_used / self.shares.shape[1]

    def summary(self) -> dict[str, float]:
        """Collect the figures that say whether the codebook is used."""
        return {
            "frames": self.n_frames,
            "bits per dimension": float(self.entropy.mean()),
            "fewest levels used": int(self.levels_used.min()),
            "collapsed dimensions": len(self.collapsed),
            "effective bits per second": self.effective_bits_per_second,
        }


def codebook_use(digits: np.ndarray, n_levels: int, frame_rate: float) -> CodebookUse:
    """Count FSQ digits.

    Args:
        digits: int ``[F, D]`` in 0 .. ``n_levels`` - 1, F >= 1.
        n_levels: L, of every dimension.
        frame_rate: frames per second.
    """
    counts = np.stack([(digits == level).sum(0) for level in range(n_levels)], axis=1)
    return CodebookUse(counts / len(digits), frame_rate, len(digits))
