"""Long audio and batches through the codecs of other libraries: bounded memory, and the results of one call.

A codec without a state is cut into pieces that overlap by the reach of its convolutions, counted from the modules: what
is kept of a piece is what the whole would give, but for the rounding of convolutions of another length. Frames of a
piece are whole units, so that groups of frames with one code and windows of attention stay together.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from silk_fast.arguments import shown
from silk_fast.errors import SilkInputError

PIECE_SECONDS = 10.0


@dataclass(frozen=True)
class Cuts:
    """How a model is cut.

    Args:
        sample_rate: of its audio.
        n_channels: of its audio.
        hop: samples of a frame.
        unit: frames that stay together.
        encoder, decoder: of which the reach is counted.
        encode: audio ``[B, C, T]`` to results, tensors with time in the last dimension.
        decode: the same tensors to audio ``[B, C, T]``.
        strides: frames for one element of each result; one for all where it is an integer.
        join: what :func:`encode_long` returns, of the joined results.
        split: results, of what :func:`decode_long` is given.
    """

    sample_rate: int
    n_channels: int
    hop: int
    unit: int
    encoder: nn.Module
    decoder: nn.Module
    encode: Callable[[Tensor], list[Tensor]]
    decode: Callable[[list[Tensor]], Tensor]
    strides: tuple[int, ...]
    join: Callable[[list[Tensor]], Any]
    split: Callable[[Any], list[Tensor]]


def reach(module: nn.Module, hop: int) -> int:
    """Count how many frames a chain of convolutions reads, at most, on one side of a frame.

    Args:
        module: an encoder from ``hop`` samples to a frame or, with transposed convolutions, a decoder; its convolutions
            in the order in which they are applied, and of parallel branches all.
        hop: samples of a frame.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)]
    rate = Fraction(1 if any(isinstance(layer, nn.ConvTranspose1d) for layer in layers) else hop)  # samples of a frame
    left, right = Fraction(0), Fraction(0)
    for layer in layers:
        stride, padding = int(layer.stride[0]), int(layer.padding[0])
        span = (layer.kernel_size[0] - 1) * layer.dilation[0]
        if isinstance(layer, nn.ConvTranspose1d):
            left += Fraction(max(span - padding, 0), stride) / rate
            right += Fraction(padding, stride) / rate
            rate *= stride
        else:
            left += padding / rate
            right += max(span - padding, 0) / rate
            rate /= stride
    return math.ceil(max(left, right)) + 1  # a frame is read from its start to its end


def _dac(model: Any) -> Cuts:
    config = model.config
    return Cuts(
        *(config.sampling_rate, 1, config.hop_length, 1, model.encoder, model.decoder),
        encode=lambda audio: [model.encode(audio).audio_codes],
        decode=lambda codes: model.decode(audio_codes=codes[0]).audio_values[:, None],
        strides=(1,),
        join=lambda codes: codes[0],
        split=lambda codes: [codes],
    )


def _oobleck(model: Any) -> Cuts:
    from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution

    n_channels = model.config.audio_channels
    return Cuts(
        *(model.config.sampling_rate, n_channels, model.hop_length, 1, model.encoder, model.decoder),
        encode=lambda audio: [model.encode(audio).latent_dist.parameters],
        decode=lambda latents: model.decode(latents[0]).sample,
        strides=(1,),
        join=lambda parameters: OobleckDiagonalGaussianDistribution(parameters[0]),
        split=lambda latents: [latents],
    )


def _snac(model: Any) -> Cuts:
    strides = tuple(model.vq_strides)
    return Cuts(
        *(model.sampling_rate, 1, int(model.hop_length)),
        *(math.lcm(*strides, model.attn_window_size or 1), model.encoder, model.decoder),
        encode=model.encode,
        decode=model.decode,
        strides=strides,
        join=list,
        split=list,
    )


_CUTS: dict[tuple[str, str], Callable[[Any], Cuts]] = {
    ("transformers.models.dac.modeling_dac", "DacModel"): _dac,
    ("diffusers.models.autoencoders.autoencoder_oobleck", "AutoencoderOobleck"): _oobleck,
    ("snac.snac", "SNAC"): _snac,
}


def cuts_of(model: nn.Module) -> Cuts:
    """Tell how a model is cut.

    Raises:
        SilkInputError: it is none of those that are known, or it is in training mode.
    """
    known = (_CUTS.get((kind.__module__, kind.__qualname__)) for kind in type(model).__mro__)
    cuts = next(filter(None, known), None)
    if cuts is None:
        names = ", ".join(name for _, name in _CUTS)
        raise SilkInputError(f"model must be one of {names}, got {shown(model)}; others have no exact cut here")
    if model.training:
        raise SilkInputError("model is in training mode, where codes are dropped at random; call model.eval() first")
    return cuts(model)


@torch.no_grad()
def encode_long(model: nn.Module, audio: Tensor, *, piece_seconds: float = PIECE_SECONDS) -> Any:
    """Encode audio of any length in the memory of ``piece_seconds`` of it.

    Codes are those of one call but where two entries are equally near to within the rounding of a convolution.

    Args:
        model: ``DacModel`` (transformers), ``AutoencoderOobleck`` (diffusers) or ``SNAC``, in evaluation mode, as the
            library made it or accelerated.
        audio: ``[B, C, T]``, floating-point, with the model's channels at its rate; on any device: pieces are moved to
            the model's, results to that of ``audio``.
        piece_seconds: of audio that go through the model at once, beside what they overlap.

    Returns:
        What the library's ``encode`` gives of it: codes ``[B, K, F]`` of DAC; of SNAC a list of codes ``[B, F / s]``,
        one for each stage; of Oobleck the distribution of latents ``[B, 64, F]``.

    Raises:
        SilkInputError: a model that has no exact cut, or that trains; audio of another shape or dtype, or too short;
            ``piece_seconds`` that is not positive.
    """
    cuts = cuts_of(model)
    _check_audio(audio, cuts)
    n_frames = -(-audio.shape[-1] // cuts.hop)
    pieces: list[list[Tensor]] = []
    for piece in _pieces(n_frames, reach(cuts.encoder, cuts.hop), cuts, piece_seconds):
        samples = audio[..., piece.first * cuts.hop : piece.last * cuts.hop if piece.last < n_frames else None]
        results = cuts.encode(samples.to(*_place(model)))
        pieces.append([piece.kept(y, s).to(audio.device) for y, s in zip(results, cuts.strides, strict=True)])
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
    audio = []
    for piece in _pieces(n_frames, reach(cuts.decoder, cuts.hop), cuts, piece_seconds):
        inputs = [part[..., piece.first // s : piece.last // s] for part, s in zip(parts, cuts.strides, strict=True)]
        device, dtype = _place(model)
        moved = [part.to(device, dtype if part.is_floating_point() else None) for part in inputs]
        audio.append(piece.kept(cuts.decode(moved), Fraction(1, cuts.hop)).to(parts[0].device))
    return torch.cat(audio, dim=-1)


@torch.no_grad()
def encode_batch(
    model: nn.Module, clips: Sequence[Tensor], *, max_batch: int = 16, piece_seconds: float = PIECE_SECONDS
) -> list[Any]:
    """Encode clips of any lengths, each to what it gives alone: those of one length go together, nothing is padded.

    Args:
        model, piece_seconds: as of :func:`encode_long`.
        clips: ``[C, T]`` each.
        max_batch: clips that go through the model at once.

    Returns:
        For each clip what :func:`encode_long` gives of it alone, with a batch of one.

    Raises:
        SilkInputError: as :func:`encode_long`; ``max_batch`` that is not a positive integer.
    """
    if isinstance(max_batch, bool) or not isinstance(max_batch, int) or max_batch < 1:
        raise SilkInputError(f"max_batch must be a positive integer, got {shown(max_batch)}")
    cuts = cuts_of(model)
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
            joined = encode_long(model, torch.stack([clips[i] for i in some]), piece_seconds=piece_seconds)
            parts = _results_of(joined, cuts)
            results |= {i: cuts.join([part[row : row + 1] for part in parts]) for row, i in enumerate(some)}
    return [results[i] for i in range(len(clips))]


def _results_of(joined: Any, cuts: Cuts) -> list[Tensor]:
    """The tensors that ``cuts.join`` made ``joined`` of."""
    return [joined.parameters] if hasattr(joined, "parameters") else cuts.split(joined)


@dataclass(frozen=True)
class _Piece:
    """Frames ``first`` to ``last`` go through the model, ``start`` to ``end`` are kept."""

    first: int
    last: int
    start: int
    end: int
    is_last: bool

    def kept(self, y: Tensor, stride: int | Fraction) -> Tensor:
        """Of results with an element for every ``stride`` frames; at the end all there is."""
        first = int((self.start - self.first) / stride)
        return y[..., first : None if self.is_last else first + int((self.end - self.start) / stride)]


def _pieces(n_frames: int, n_reach: int, cuts: Cuts, seconds: float) -> Iterator[_Piece]:
    """Pieces of whole units; each overlaps by the reach, and by one unit more where attention spreads it."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise SilkInputError(f"piece_seconds must be a positive number, got {shown(seconds)}")
    unit = cuts.unit
    n_more = (-(-n_reach // unit) + (unit > 1)) * unit
    size = max(1, round(seconds * cuts.sample_rate / cuts.hop / unit)) * unit
    for start in range(0, n_frames, size):
        end = min(start + size, n_frames)
        if n_frames - end < size // 2:  # no piece too short for the model's padding
            end = n_frames
        yield _Piece(max(0, start - n_more), min(n_frames, end + n_more), start, end, end == n_frames)
        if end == n_frames:
            return


def _place(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    parameter = next(model.parameters())
    return parameter.device, parameter.dtype


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
    except TypeError:
        parts = []
    if len(parts) != len(cuts.strides) or not all(isinstance(part, Tensor) and part.ndim > 1 for part in parts):
        raise SilkInputError(f"codes must be what encode_long returns, of Oobleck latents, got {shown(codes)}")
    counts = {part.shape[-1] * stride for part, stride in zip(parts, cuts.strides, strict=True)}
    if len(counts) != 1 or counts == {0}:
        raise SilkInputError(f"codes must have frames, as many in every stage, got {[list(p.shape) for p in parts]}")
    return parts, counts.pop()
