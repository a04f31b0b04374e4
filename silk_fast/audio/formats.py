"""Which audio files are read and written, and what every sample of them must be."""

import operator

import numpy as np

from silk_fast.errors import SilkAudioError, SilkInputError

# fmt: off
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".rf64", ".w64")
"""Suffixes, in lower case, of the files that are taken for audio when a folder is read."""

FORMATS = {  # suffix: (libsndfile's format, its subtypes, the default first)
    ".wav":  ("WAV",  ("PCM_16", "PCM_24", "PCM_32", "FLOAT")),
    ".flac": ("FLAC", ("PCM_16", "PCM_24")),
    ".ogg":  ("OGG",  ("VORBIS",)),
    ".opus": ("OGG",  ("OPUS",)),
    ".mp3":  ("MP3",  ("MPEG_LAYER_III",)),
}
"""What can be written."""
# fmt: on


def check_number(name: str, value: object) -> int:
    """Return an integer >= 1; raise SilkInputError, which names it, for anything else."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # anything may come; what is no integer raises
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise SilkInputError(f"{name} must be >= 1 and a whole number, got {value!r}")
    return number


def check_finite(frames: np.ndarray, n_before: int, sample_rate: int, name: str) -> None:
    """Raise SilkAudioError at the first NaN or infinity in ``[n, channels]`` frames that follow ``n_before`` others."""
    if not np.isfinite(frames).all():
        i_frame, i_channel = np.argwhere(~np.isfinite(frames))[0].tolist()
        i_bad, value = n_before + i_frame, frames[i_frame, i_channel]
        raise SilkAudioError(f"{name}: sample {i_bad} ({i_bad / sample_rate:.6f} s) is {value}, expected a finite one")
