"""Fast neural audio codecs: the Silk reference model, and Triton kernels for it and its peers."""

from silk_fast.accelerate import Report, accelerate_, restore_
from silk_fast.config import SilkConfig
from silk_fast.errors import (
    SilkAudioError,
    SilkConfigError,
    SilkError,
    SilkFileError,
    SilkFormatError,
    SilkInputError,
    SilkModelError,
)
from silk_fast.reference.codec import EncodedAudio, SilkCodec
from silk_fast.reference.streaming import Stream

__version__ = "0.1.0"

__all__ = [
    "EncodedAudio",
    "Report",
    "SilkAudioError",
    "SilkCodec",
    "SilkConfig",
    "SilkConfigError",
    "SilkError",
    "SilkFileError",
    "SilkFormatError",
    "SilkInputError",
    "SilkModelError",
    "Stream",
    "accelerate_",
    "restore_",
]
