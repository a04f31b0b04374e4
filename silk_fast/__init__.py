"""Fast neural audio codecs: the Silk reference model, and Triton kernels for it and its peers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from silk_fast.config import SilkConfig
from silk_fast.errors import (
    SilkAudioError,
    SilkBusyError,
    SilkConfigError,
    SilkError,
    SilkFileError,
    SilkFormatError,
    SilkInputError,
    SilkModelError,
    SilkTimeoutError,
    SilkWarning,
)

if TYPE_CHECKING:
    from silk_fast.acceleration import Report, accelerate_, restore_
    from silk_fast.codecs.long import decode_long, encode_batch, encode_long
    from silk_fast.reference.codec import EncodedAudio, SilkCodec
    from silk_fast.reference.streaming import Stream

__version__ = "0.1.0"

__all__ = [
    "EncodedAudio",
    "Report",
    "SilkAudioError",
    "SilkBusyError",
    "SilkCodec",
    "SilkConfig",
    "SilkConfigError",
    "SilkError",
    "SilkFileError",
    "SilkFormatError",
    "SilkInputError",
    "SilkModelError",
    "SilkTimeoutError",
    "SilkWarning",
    "Stream",
    "accelerate_",
    "decode_long",
    "encode_batch",
    "encode_long",
    "restore_",
]

_BRING_TORCH = {
    "EncodedAudio": "silk_fast.reference.codec",
    "Report": "silk_fast.acceleration",
    "SilkCodec": "silk_fast.reference.codec",
    "Stream": "silk_fast.reference.streaming",
    "accelerate_": "silk_fast.acceleration",
    "decode_long": "silk_fast.codecs.long",
    "encode_batch": "silk_fast.codecs.long",
    "encode_long": "silk_fast.codecs.long",
    "restore_": "silk_fast.acceleration",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first used, so that ``silk --help`` need not wait for it."""
    if name not in _BRING_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_BRING_TORCH[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _BRING_TORCH.keys())
