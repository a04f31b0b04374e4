"""The models that commands run: on which device, accelerated or not."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from silk_fast.cli.console import model_of
from silk_fast.errors import SilkInputError, SilkModelError

if TYPE_CHECKING:
    from silk_fast.reference.codec import SilkCodec
    from silk_fast.runtime.codecs import CodecTranscoder


def pick_device(arguments: argparse.Namespace) -> str:
    """Give the device that ``--device`` asks for, and set the number of CPU threads.

    Raises:
        SilkInputError: there is no such device.
    """
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or not (index == "" or index.isdecimal()):
        raise SilkInputError(f"device must be cpu, cuda, cuda:1 or auto, got {device!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise SilkInputError(f"device {device!r} is not there: PyTorch sees {torch.cuda.device_count()} CUDA GPUs")
    return device


def load_codec(arguments: argparse.Namespace) -> "tuple[SilkCodec, str]":
    """Load the codec that the arguments ask for, on its device and accelerated or not, and hash its weights."""
    from silk_fast.runtime.codec import load

    loaded = load("silk", model_of(arguments), device=pick_device(arguments), accelerate=arguments.accelerate)
    return cast("SilkCodec", loaded.model), loaded.weights_sha256


def load_other_codec(
    arguments: argparse.Namespace,
    name: str,
    weights: str,
    notice: Callable[[str], None],
    options: dict[str, Any] | None = None,
) -> "CodecTranscoder":
    """Load a codec of another library, as :func:`load_codec` loads Silk.

    Args:
        name: one of ``silk_fast.codecs.NAMES``.
        weights: directory or hub id; what the arguments do not name themselves is not downloaded.
        notice, options: as of :class:`silk_fast.runtime.codecs.CodecTranscoder`.

    Raises:
        SilkInputError: no such device, or an option that the codec has not.
        SilkModelError: no such weights, or no library to load them.
    """
    from silk_fast.runtime.codec import load
    from silk_fast.runtime.codecs import CodecTranscoder

    where = {"device": pick_device(arguments), "accelerate": arguments.accelerate}
    try:
        loaded = load(name, weights, local_only=arguments.weights is None, **where)
    except SilkModelError as error:
        if arguments.weights is None:
            raise SilkModelError(f"{error}; give --weights") from error
        raise
    transcoder = CodecTranscoder(name, weights, loaded.model, loaded.weights_sha256, options or {}, notice)
    report = loaded.report
    if report and not report.swapped:
        notice(f"{name} runs as {transcoder.library} has it: {next(iter(report.refused.values()), 'nothing to swap')}")
    return transcoder
