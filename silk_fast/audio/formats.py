"""Which audio files are read and written, and what every sample of them must be."""

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

MOST_CHANNELS = 1024  # of libsndfile
# fmt: on


def as_samples(samples: object, channels: int = 1) -> np.ndarray:
    """Convert samples ``[n]``, or ``[n, channels]`` of more than one channel, to floating point in [-1, 1].

    They become float32, and float64 of int32, which keeps all bits.

    Args:
        samples: array, tensor or list of floating-point numbers, taken as they are; or of int16, int32 or uint8, whose
            full scale becomes 1, as in WAV files.

    Raises:
        SilkInputError: another shape or dtype.
    """
    shape = "[n]" if channels == 1 else f"[n, {channels}]"
    try:
        array = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors with a gradient or on a GPU
        raise SilkInputError(f"samples must be an array {shape}, got {type(samples).__name__} ({error})") from error
    if array.ndim == 0 or array.shape[1:] != ((channels,) if channels > 1 else ()):
        raise SilkInputError(f"samples must be {shape}, got {list(array.shape)}")
    kind = array.dtype.name
    if kind == "uint8":
        return (array.astype(np.float32) - 128) / 128
    if kind in ("int16", "int32"):
        return array.astype(np.float32 if kind == "int16" else np.float64) / 2 ** (8 * array.itemsize - 1)
    if array.dtype.kind != "f":
        raise SilkInputError(f"samples must be floating point in [-1, 1], int16, int32 or uint8, got {array.dtype}")
    with np.errstate(over="ignore"):  # what float32 does not hold is infinite, and refused as such
        return array.astype(np.float32, copy=False)


def check_finite(frames: np.ndarray, n_before: int, sample_rate: int, name: str) -> None:
    """Raise SilkAudioError at the first NaN or infinity in ``[n, channels]`` frames that follow ``n_before`` others."""
    if not np.isfinite(frames).all():
        i_frame, i_channel = np.argwhere(~np.isfinite(frames))[0].tolist()
        i_bad, value = n_before + i_frame, frames[i_frame, i_channel]
        raise SilkAudioError(f"{name}: sample {i_bad} ({i_bad / sample_rate:.6f} s) is {value}, expected a finite one")
