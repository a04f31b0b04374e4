"""Which audio files are read and written, and what every sample of them must be."""

import numpy as np

from silk_fast.errors import SilkAudioError

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


def check_finite(frames: np.ndarray, n_before: int, sample_rate: int, name: str) -> None:
    """Raise SilkAudioError at the first NaN or infinity in ``[n, channels]`` frames that follow ``n_before`` others."""
    if not np.isfinite(frames).all():
        i_frame, i_channel = np.argwhere(~np.isfinite(frames))[0].tolist()
        i_bad, value = n_before + i_frame, frames[i_frame, i_channel]
        raise SilkAudioError(f"{name}: sample {i_bad} ({i_bad / sample_rate:.6f} s) is {value}, expected a finite one")
