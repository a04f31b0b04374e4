"""Files of the codes of other libraries' codecs: safetensors whose metadata say what decoding needs.

A file holds ``tokens``, int32 ``[frames, K]``, a row of codes for every frame:

- DAC, Mimi, EnCodec: one code of each codebook, the first first.
- SNAC: a row is a group of frames, as long as the coarsest code; the coarsest first, then those of the next stage that
  lie in the group, in order of time, and so on: 7 of the 24 kHz model, of stages with 1, 2 and 4.
- EnCodec in chunks: the rows of one chunk after the other, all as long as the longest, and ``scales``, float32
  ``[chunks]``.

Oobleck has ``latents``, float32 ``[frames, 64]``, the mean of each. Metadata are the fields of :class:`Codes`, and a
CRC-32 of all that.
"""

import json
import os
import re
import zlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from silk_fast.arguments import shown, shown_text
from silk_fast.codecs import NAMES
from silk_fast.codecs.cuts import Cuts
from silk_fast.codecs.pretrained import codec_module
from silk_fast.errors import SilkFormatError
from silk_fast.files import Source, atomic_file, cannot_read, input_name, open_seekable

FORMAT, VERSION = "silk_fast codes", "1"
MOST_HEADER = 2**16  # bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Codes:
    """What a file of codes holds.

    Args:
        codec: one of ``silk_fast.codecs.NAMES``.
        library: that made them, and its version, such as ``"transformers 5.23.0"``.
        sample_rate: samples per second, of each channel.
        n_channels: of the model.
        n_samples: of the signal, in each channel.
        options: of ``encode_long``, such as ``{"bandwidth": 6.0}``.
        weights: where they were loaded from, as it was given.
        weights_sha256: SHA-256 of them, as :func:`silk_fast.reference.pretrained.weights_sha256` has it.
        last_chunk_frames: of EnCodec in chunks, how many rows of the last chunk count; else None.
        tensors: ``tokens`` or ``latents``, and ``scales`` of EnCodec in chunks.
    """

    codec: str
    library: str
    sample_rate: int
    n_channels: int
    n_samples: int
    options: dict[str, Any] = field(default_factory=dict)
    weights: str
    weights_sha256: str
    last_chunk_frames: int | None = None
    tensors: dict[str, Tensor]

    @property
    def frames(self) -> Tensor:
        """Tokens or latents, a row a frame."""
        return self.tensors["latents" if "latents" in self.tensors else "tokens"]

    @property
    def n_tokens(self) -> int:
        """Tokens in all; 0 of latents."""
        return self.tensors["tokens"].numel() if "tokens" in self.tensors else 0


def holds_codes(source: Source) -> bool:
    """Tell whether a file begins as a file of codes does, whatever its name; False if it cannot be opened."""
    try:
        with open_seekable(source) as file:
            head = file.read(MOST_HEADER)
    except OSError:
        return False
    return head[8:9] == b"{" and f'"{FORMAT}"'.encode() in head


def write_codes(target: str | os.PathLike, codes: Codes) -> None:
    """Write codes into a file, which appears only when complete.

    Raises:
        SilkFileError: the target cannot be written.
        SilkInputError: it is no path.
    """
    from safetensors.torch import save

    metadata = {"format": FORMAT, "version": VERSION}
    for name in ("codec", "library", "sample_rate", "n_channels", "n_samples", "weights", "weights_sha256"):
        metadata[name] = str(getattr(codes, name))
    metadata["options"] = json.dumps(codes.options)
    if codes.last_chunk_frames is not None:
        metadata["last_chunk_frames"] = str(codes.last_chunk_frames)
    tensors = {name: tensor.contiguous() for name, tensor in codes.tensors.items()}
    metadata["crc32"] = _crc32(metadata, tensors)
    data = save(tensors)  # without metadata, which it would write in another order every time
    n_header = int.from_bytes(data[:8], "little")
    header = json.dumps({"__metadata__": metadata, **json.loads(data[8 : 8 + n_header])}).encode()
    header += b" " * (-len(header) % 8)  # tensors are aligned
    with atomic_file(target) as file:
        file.write(len(header).to_bytes(8, "little") + header + data[8 + n_header :])


def _crc32(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Of metadata but for itself, and of the name, the shape and the values of every tensor."""
    crc = zlib.crc32(json.dumps(sorted(item for item in metadata.items() if item[0] != "crc32")).encode())
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.numpy().data, crc)
    return f"{crc:08x}"


def read_codes(source: Source) -> Codes:
    """Read what :func:`write_codes` wrote: a path, ``"-"`` for standard input, or a binary file object.

    Raises:
        SilkAudioError: the file cannot be opened.
        SilkFormatError: it holds no codes, or is damaged.
    """
    name = input_name(source)
    try:
        with open_seekable(source) as file:
            data = file.read()
    except OSError as error:
        raise cannot_read(name, error, ".safetensors") from error
    try:
        return _parse(data)
    except SilkFormatError as error:
        raise SilkFormatError(f"{name}: {error}") from error


def _parse(data: bytes) -> Codes:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    except (SafetensorError, KeyError, ValueError) as error:
        if f'"{FORMAT}"'.encode() in data[:MOST_HEADER]:
            raise SilkFormatError(f"damaged or cut short ({error})") from error
        metadata = {}
    if metadata.get("format") != FORMAT:
        raise SilkFormatError("holds no codes, expected a file that silk encode --codec wrote")
    _expect(metadata, "version", VERSION)
    values = {name: _value(metadata, name) for name in ("codec", "library", "weights", "weights_sha256", "options")}
    values |= {name: _number(metadata, name) for name in ("sample_rate", "n_channels", "n_samples")}
    if "last_chunk_frames" in metadata:
        values["last_chunk_frames"] = _number(metadata, "last_chunk_frames")
    _check_tensors(tensors, values.get("last_chunk_frames"))
    _expect(metadata, "crc32", _crc32(metadata, tensors))
    if values["codec"] not in NAMES:
        raise SilkFormatError(f"codec is {shown(values['codec'])}, expected one of {', '.join(NAMES)}")
    if not re.fullmatch("[0-9a-f]{64}", values["weights_sha256"]):
        raise SilkFormatError(f"weights_sha256 must be 64 hexadecimal digits, got {shown(values['weights_sha256'])}")
    try:
        values["options"] = dict(json.loads(values["options"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise SilkFormatError(f"options must be a JSON object, got {shown(values['options'])}") from error
    return Codes(**values, tensors=tensors)


def _value(metadata: dict[str, str], name: str) -> Any:
    if name not in metadata:
        raise SilkFormatError(f"{name} is missing from its metadata")
    return metadata[name]


def _expect(metadata: dict[str, str], name: str, expected: str) -> None:
    if _value(metadata, name) != expected:
        raise SilkFormatError(f"{name} is {shown(metadata[name])}, expected {expected!r}")


def _number(metadata: dict[str, str], name: str) -> int:
    text = _value(metadata, name)
    if not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise SilkFormatError(f"{name} must be a whole number >= 1, got {shown(text)}")
    return int(text)


def _check_tensors(tensors: dict[str, Tensor], n_last: int | None) -> None:
    """Raise SilkFormatError unless these are the tensors of some codec."""
    expected = {"tokens", "scales"} if n_last else {"latents"} if "latents" in tensors else {"tokens"}
    if tensors.keys() != expected:
        names = " and ".join(sorted(tensors)) or "nothing"
        raise SilkFormatError(f"holds {shown_text(names)}, expected {' and '.join(sorted(expected))}")
    for name, tensor in tensors.items():
        dtype, n_dims = torch.int32 if name == "tokens" else torch.float32, 1 if name == "scales" else 2
        if tensor.dtype != dtype or tensor.ndim != n_dims or not tensor.numel():
            what = f"{'[chunks]' if n_dims == 1 else '[frames, K]'} of {dtype}"
            raise SilkFormatError(f"{name} must be {what}, found {list(tensor.shape)} of {tensor.dtype}")
    if n_last:
        n_rows, n_chunks = len(tensors["tokens"]), len(tensors["scales"])
        if n_rows % n_chunks or n_last > n_rows // n_chunks:
            raise SilkFormatError(f"{n_rows} frames do not make {n_chunks} chunks, the last with {n_last} frames")


def pack(codec: str, cuts: Cuts, encoded: Any) -> tuple[dict[str, Tensor], int | None]:
    """Lay out what ``encode_long`` made of one signal.

    Returns:
        ``tensors`` and ``last_chunk_frames`` of :class:`Codes`.
    """
    results = [result[0] for result in cuts.split(encoded)]
    first = results[0]
    if first.is_floating_point():  # the parameters of a distribution: mean, and scale
        return {"latents": first.chunk(2)[0].T.float()}, None
    if first.ndim == 3:  # [K, frames of a chunk, chunks]
        _, scales, sizes = results
        tokens = first.permute(2, 1, 0).flatten(0, 1)
        return {"tokens": tokens.int(), "scales": scales[0].float()}, int(sizes[-1])
    if codec == "snac":
        rows = [stage.view(-1, width) for stage, width in zip(results, _widths(cuts), strict=True)]
        return {"tokens": torch.cat(rows, 1).int()}, None
    return {"tokens": first.T.int()}, None


def unpack(cuts: Cuts, codes: Codes, model: nn.Module) -> Any:
    """Give ``decode_long`` what it takes.

    Raises:
        SilkFormatError: the codes are not of this model: another rate, other channels, or codes that it has not.
    """
    for name, expected in (("sample_rate", cuts.sample_rate), ("n_channels", cuts.n_channels)):
        if getattr(codes, name) != expected:
            raise SilkFormatError(f"{name} is {getattr(codes, name)}, the model's is {expected}")
    frames, (n_columns, n_entries) = codes.frames, codec_module(codes.codec).sizes(model)
    if ("latents" in codes.tensors) != (n_entries is None):
        raise SilkFormatError(f"holds {' and '.join(codes.tensors)}, which are none of {codes.codec}")
    is_staged = codes.codec == "snac"
    n_columns = sum(_widths(cuts)) if is_staged else n_columns
    if frames.shape[1] > n_columns or (frames.shape[1] < n_columns and (is_staged or n_entries is None)):
        raise SilkFormatError(f"frames have {frames.shape[1]} values, the model's {n_columns}")
    if n_entries is None:
        return frames.T[None]
    if not 0 <= int(frames.min()) <= int(frames.max()) < n_entries:
        raise SilkFormatError(f"codes are {frames.min()} .. {frames.max()}, the model's 0 .. {n_entries - 1}")
    frames = frames.long()
    if not is_staged and (codes.last_chunk_frames is None) != (len(cuts.strides) == 1):
        raise SilkFormatError("only one of file and model is in chunks")
    if codes.last_chunk_frames is None:
        return cuts.join(arranged(codes.codec, cuts, frames[None]))
    scales = codes.tensors["scales"]
    sizes = torch.full((1, len(scales)), codes.last_chunk_frames)
    return cuts.join([frames.view(len(scales), -1, frames.shape[1]).permute(2, 1, 0)[None], scales[None, None], sizes])


def arranged(codec: str, cuts: Cuts, tokens: Tensor) -> list[Tensor]:
    """Results that ``cuts.join`` takes, of tokens ``[B, frames, K]`` that :func:`pack` laid out, in no chunks."""
    if codec == "snac":
        return [stage.flatten(1) for stage in tokens.split(_widths(cuts), 2)]
    return [tokens.transpose(1, 2)]


def _widths(cuts: Cuts) -> list[int]:
    """How many codes of each stage of SNAC lie in a group of frames."""
    return [max(cuts.strides) // stride for stride in cuts.strides]
