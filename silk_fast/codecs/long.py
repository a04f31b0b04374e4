"""Long audio and batches through the codecs of other libraries: bounded memory, and the results of one call.

What is kept of a piece is what the whole would give, but for the rounding of convolutions of another length.
"""

import math
from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from silk_fast.arguments import shown
from silk_fast.codecs import dac, encodec, mimi, oobleck, snac
from silk_fast.codecs.cuts import Cuts, Move
from silk_fast.errors import SilkInputError

PIECE_SECONDS = 10.0
CODECS = {codec.MODEL: codec for codec in (dac, encodec, mimi, oobleck, snac)}


def cuts_of(model: nn.Module, **options: Any) -> Cuts:
    """Tell how a model is cut.

    Args:
        options: of the library's ``encode``: ``n_quantizers`` of DAC, ``bandwidth`` of EnCodec, ``num_quantizers`` of
            Mimi.

    Raises:
        SilkInputError: it is none of those that are known, or it is in training mode; an option that it has not.
    """
    for kind in type(model).__mro__:
        codec = CODECS.get(kind.__name__)
        if codec and f"{kind.__module__}.".startswith(f"{codec.LIBRARY.package}."):
            break
    else:
        names = ", ".join(CODECS)
        raise SilkInputError(f"model must be one of {names}, got {shown(model)}; others have no exact cut here")
    if model.training:
        raise SilkInputError("model is in training mode, where codes are dropped at random; call model.eval() first")
    known = list(signature(codec.cuts).parameters)[1:]
    if unknown := options.keys() - known:
        expected = f"expected {' or '.join(known)}" if known else "it has none"
        raise SilkInputError(f"unknown option {min(unknown)!r} of {codec.MODEL}; {expected}")
    return codec.cuts(model, **options)


@torch.no_grad()
def encode_long(model: nn.Module, audio: Tensor, *, piece_seconds: float = PIECE_SECONDS, **options: Any) -> Any:
    """Encode audio of any length in the memory of ``piece_seconds`` of it.

    Codes are those of one call but where two entries are equally near to within the rounding of a convolution.

    Args:
        model: ``DacModel``, ``EncodecModel`` or ``MimiModel`` (transformers), ``AutoencoderOobleck`` (diffusers) or
            ``SNAC``, in evaluation mode, as the library made it or accelerated.
        audio: ``[B, C, T]``, floating-point, with the model's channels at its rate; on any device: pieces are moved to
            the model's, results to that of ``audio``.
        piece_seconds: of audio that go through the model at once, beside what they overlap.
        options: of the library's ``encode``: ``n_quantizers`` of DAC, ``bandwidth`` of EnCodec, ``num_quantizers`` of
            Mimi.

    Returns:
        What the library's ``encode`` gives of it: codes ``[B, K, F]`` of DAC and Mimi; of EnCodec its output, with
        codes ``[chunks, B, K, F]`` and scales; of SNAC a list of codes ``[B, F / s]``, one for each stage; of Oobleck
        the distribution of latents ``[B, 64, F]``.

    Raises:
        SilkInputError: a model that has no exact cut, or that trains; audio of another shape or dtype, or too short;
            ``piece_seconds`` that is not positive.
    """
    cuts = cuts_of(model, **options)
    _check_audio(audio, cuts)
    found = cuts.encoded(audio, _size(piece_seconds, cuts), mover(model))
    pieces = [[y.to(audio.device) for y in results] for results in found]
    return cuts.join([torch.cat(parts, dim=-1) for parts in zip(*pieces, strict=True)])


@torch.no_grad()
def decode_long(model: nn.Module, codes: Any, *, piece_seconds: float = PIECE_SECONDS) -> Tensor:
    """Decode codes of any length in the memory of ``piece_seconds`` of audio.

    Samples are those of one call but for the rounding of convolutions, some 1e-7. SNAC's decoder adds noise at random,
    so with it no two calls agree, whole or not.

    Args:
        model: as of :func:`encode_long`.
        codes: as :func:`encode_long` returns them; of Oobleck latents ``[B, 64, F]``. On any device.
        piece_seconds: of audio that go through the model at once, beside what they overlap.

    Returns:
        ``[B, C, T]``, on the device of the codes.

    Raises:
        SilkInputError: a model that has no exact cut, or that trains; codes of another shape; ``piece_seconds`` that is
            not positive.
    """
    cuts = cuts_of(model)
    parts, n_frames = _check_codes(codes, cuts)
    found = cuts.decoded(parts, n_frames, _size(piece_seconds, cuts), mover(model))
    return torch.cat([y.to(parts[0].device) for y in found], dim=-1)


@torch.no_grad()
def encode_batch(
    model: nn.Module,
    clips: Sequence[Tensor],
    *,
    max_batch: int = 16,
    piece_seconds: float = PIECE_SECONDS,
    **options: Any,
) -> list[Any]:
    """Encode clips of any lengths, each to what it gives alone: those of one length go together, nothing is padded.

    Args:
        model, piece_seconds, options: as of :func:`encode_long`.
        clips: ``[C, T]`` each.
        max_batch: clips that go through the model at once.

    Returns:
        For each clip what :func:`encode_long` gives of it alone, with a batch of one.

    Raises:
        SilkInputError: as :func:`encode_long`; ``max_batch`` that is not a positive integer.
    """
    if isinstance(max_batch, bool) or not isinstance(max_batch, int) or max_batch < 1:
        raise SilkInputError(f"max_batch must be a positive integer, got {shown(max_batch)}")
    cuts = cuts_of(model, **options)
    groups: dict[tuple, list[int]] = {}
    for i, clip in enumerate(clips):
        if not isinstance(clip, Tensor) or clip.ndim != 2:
            raise SilkInputError(f"clips must be tensors [C, T], got {shown(clip)}")
        _check_audio(clip[None], cuts)
        groups.setdefault((clip.shape[-1], clip.dtype, clip.device), []).append(i)
    results: dict[int, Any] = {}
    for group in groups.values():
        for start in range(0, len(group), max_batch):
            some = group[start : start + max_batch]
            joined = encode_long(model, torch.stack([clips[i] for i in some]), piece_seconds=piece_seconds, **options)
            parts = cuts.split(joined)
            results |= {i: cuts.join([part[row : row + 1] for part in parts]) for row, i in enumerate(some)}
    return [results[i] for i in range(len(clips))]


def _size(seconds: float, cuts: Cuts) -> int:
    """Frames of a piece: whole units."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise SilkInputError(f"piece_seconds must be a positive number, got {shown(seconds)}")
    return max(1, round(seconds * cuts.sample_rate / cuts.hop / cuts.unit)) * cuts.unit


def mover(model: nn.Module) -> Move:
    """What moves a piece to where the model is, and to its dtype unless it holds integers."""
    like = next(model.parameters())
    return lambda piece: piece.to(like.device, like.dtype if piece.is_floating_point() else None)


def _check_audio(audio: Tensor, cuts: Cuts) -> None:
    if not isinstance(audio, Tensor) or not audio.is_floating_point():
        raise SilkInputError(f"audio must be a floating-point tensor [B, {cuts.n_channels}, T], got {shown(audio)}")
    if audio.ndim != 3 or audio.shape[1] != cuts.n_channels or audio.shape[0] < 1:
        raise SilkInputError(f"audio must be [B, {cuts.n_channels}, T], got {list(audio.shape)}")
    if audio.shape[-1] < cuts.hop:
        raise SilkInputError(f"audio must have a frame, {cuts.hop} samples, or more, got {audio.shape[-1]}")


def _check_codes(codes: Any, cuts: Cuts) -> tuple[list[Tensor], int]:
    """The results that codes hold, and their frames."""
    try:
        parts = cuts.split(codes)
    except (AttributeError, TypeError):
        parts = []
    if len(parts) != len(cuts.strides) or not all(isinstance(part, Tensor) and part.ndim > 1 for part in parts):
        raise SilkInputError(f"codes must be what encode_long returns, of Oobleck latents, got {shown(codes)}")
    counts = {part.shape[-1] * stride for part, stride in zip(parts, cuts.strides, strict=True)}
    if len(counts) != 1 or counts == {0}:
        raise SilkInputError(f"codes must have frames, as many in every stage, got {[list(p.shape) for p in parts]}")
    return parts, counts.pop()
