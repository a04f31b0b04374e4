"""What is laid over dry speech: a room, noise and a level."""

import numpy as np

from silk_fast.corpus import RATE


def room_response(random: np.random.Generator, rt60: float, direct_db: float) -> np.ndarray:
    """Draw the impulse response of a made-up room, float64 ``[n]``: direct sound, early reflections, a decaying tail.

    Args:
        rt60: seconds in which the tail falls by 60 dB.
        direct_db: energy of the direct sound (1.0 at sample 0) above that of all the rest.
    """
    time = np.arange(int(rt60 * RATE)) / RATE
    rest = random.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    rest[: int(0.004 * RATE)] = 0  # nothing returns before 4 ms
    n_early = int(random.integers(6, 13))
    at = random.integers(int(0.004 * RATE), int(0.04 * RATE), n_early)
    rest[at] += random.choice([-1, 1], n_early) * random.uniform(4, 12, n_early)
    rest *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(rest**2))
    rest[0] = 1
    return rest


def convolve(samples: np.ndarray, response: np.ndarray, n_out: int) -> np.ndarray:
    """Compute the first ``n_out`` samples of the convolution of ``[n]`` and ``[m]``, float64."""
    n_fft = -(-(len(samples) + len(response)) // 4096) * 4096
    spectrum = np.fft.rfft(samples, n_fft) * np.fft.rfft(response, n_fft)
    return np.fft.irfft(spectrum, n_fft)[:n_out]


def coloured_noise(random: np.random.Generator, n: int, slope: float) -> np.ndarray:
    """Draw noise of rms 1, float64 ``[n]``, whose power falls as ``frequency ** -slope`` above 40 Hz."""
    n_fft = -(-n // 4096) * 4096
    frequencies = np.maximum(np.fft.rfftfreq(n_fft, 1 / RATE), 40.0)
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(n_fft)) * frequencies ** (-slope / 2), n_fft)[:n]
    return noise / np.sqrt(np.mean(noise**2))


def augment(speech: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, dict]:
    """Lay a lead-in, possibly a room and noise, and a level over dry speech.

    Args:
        speech: float32 ``[n]`` at 24 kHz.
        random: decides everything.

    Returns:
        float64 ``[m]`` with peak below 1, and what was done: ``lead_seconds``; ``room`` (``rt60_seconds``,
        ``direct_to_reverberant_db``) or None; ``noise`` (``snr_db``, ``slope``) or None; ``level_db``, the rms in dBFS.
    """
    lead = round(random.uniform(0, 0.25), 3)
    samples = np.concatenate([np.zeros(int(lead * RATE)), speech.astype(np.float64)])
    room = noise = None
    if random.random() < 0.4:
        room = {
            "rt60_seconds": round(random.uniform(0.1, 0.6), 3),
            "direct_to_reverberant_db": round(random.uniform(0, 15), 1),
        }
        samples = convolve(samples, room_response(random, *room.values()), len(samples) + int(0.2 * RATE))
    rms = np.sqrt(np.mean(samples**2))
    if random.random() < 0.3:
        noise = {"snr_db": round(random.uniform(25, 45), 1), "slope": round(random.uniform(0, 2), 2)}
        samples = samples + coloured_noise(random, len(samples), noise["slope"]) * rms * 10 ** (-noise["snr_db"] / 20)
    samples *= 10 ** (random.uniform(-35, -12) / 20) / np.sqrt(np.mean(samples**2))
    samples *= min(1.0, 0.98 / np.abs(samples).max())
    level = round(float(10 * np.log10(np.mean(samples**2))), 2)
    return samples, {"lead_seconds": lead, "room": room, "noise": noise, "level_db": level}
