"""The pitch of recordings, which harmonic phases are trained on."""

import numpy as np

from silk_fast.errors import SilkTrainingError
from silk_fast.reference.harmonics import HIGHEST, LOWEST


def pitch_track(samples: np.ndarray, sample_rate: int, hop: int) -> np.ndarray:
    """Track the pitch of samples ``[n]`` at every ``hop`` samples, by Praat's autocorrelation (Boersma, 1993).

    Returns:
        Hz, float32 ``[n // hop]``; 0 where there is no voice.

    Raises:
        SilkTrainingError: praat-parselmouth is not installed.
    """
    try:
        from parselmouth import Sound
    except ImportError as error:
        raise SilkTrainingError(
            "harmonic phases are trained with parselmouth: pip install 'silk_fast[train]'"
        ) from error
    n_values = len(samples) // hop
    if len(samples) < 4 * sample_rate / LOWEST:  # Praat wants more periods than that
        return np.zeros(n_values, np.float32)
    track = Sound(samples.astype(np.float64), sample_rate).to_pitch(hop / sample_rate, 1.2 * LOWEST, HIGHEST / 1.1)
    frequencies = track.selected_array["frequency"].astype(np.float32)
    found = np.rint((np.arange(n_values) * hop / sample_rate - track.x1) / track.dx).astype(int)
    inside = (found >= 0) & (found < len(frequencies))
    return np.where(inside, frequencies[found.clip(0, len(frequencies) - 1)], np.float32(0))
