"""Other speakers, microphones and manners, made of recorded speech: what is played faster has a smaller head."""

import numpy as np

from silk_fast.audio import resample_blocks
from silk_fast.corpus import RATE

SPEEDS = (0.8, 1.25)
BANDS = (100, 400, 1600, 4000, 10_000)  # Hz, at which an equaliser is set
MOST_DB = 6.0
N_PLACES = 16  # of which the quietest gets the gap


def vary(speech: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, dict]:
    """Change speed with pitch and formants, the sound's colour and, for one in three, a pause.

    Args:
        speech: float32 ``[n]`` at 24 kHz.
        random: decides everything.

    Returns:
        float32 ``[m]``, and what was done: ``speed``, times as fast; ``equaliser_db``, at each of ``BANDS``;
        ``gap_seconds`` of silence, or 0.
    """
    speed = round(float(np.exp(random.uniform(*np.log(SPEEDS)))), 2)
    gains = [round(float(gain), 1) for gain in random.uniform(-MOST_DB, MOST_DB, len(BANDS))]
    gap = round(float(random.uniform(0.2, 0.8)), 2) if random.random() < 1 / 3 else 0.0
    samples = np.concatenate(list(resample_blocks([speech], round(speed * RATE), RATE)))
    samples = equalised(samples, gains)
    if gap:
        window = RATE // 25
        places = random.integers(0, max(1, len(samples) - window), N_PLACES)
        quietest = min(places, key=lambda at: float(np.square(samples[at : at + window]).sum())) + window // 2
        samples = np.concatenate([samples[:quietest], np.zeros(round(gap * RATE), np.float32), samples[quietest:]])
    return samples, {"speed": speed, "equaliser_db": gains, "gap_seconds": gap}


def equalised(samples: np.ndarray, gains_db: list[float]) -> np.ndarray:
    """Raise or lower samples ``[n]`` by so many dB at ``BANDS``, evenly between them by octaves."""
    n_fft = -(-(len(samples) + RATE // 10) // 4096) * 4096  # what the filter spreads does not come round
    frequencies = np.maximum(np.fft.rfftfreq(n_fft, 1 / RATE), 1.0)
    curve = 10 ** (np.interp(np.log(frequencies), np.log(BANDS), gains_db) / 20)
    return np.fft.irfft(np.fft.rfft(samples, n_fft) * curve, n_fft)[: len(samples)].astype(np.float32)
