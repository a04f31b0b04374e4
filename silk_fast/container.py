"""The ``.silk`` file: FSQ tokens in CRC-protected blocks. ``docs/format.md`` gives every byte.

    header | block 0 | block 1 | ... | end marker

Every block but the last holds ``frames_per_block`` frames, so block i lies at a fixed offset and
seeking needs no index. All sizes come from the header, whose CRC protects them, and a block is
never longer than 1 MiB: no file makes a reader hold more than one block.
"""

import contextlib
import dataclasses
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from silk_fast.arguments import shown
from silk_fast.errors import SilkFormatError, SilkInputError

VERSION = 1
MAGIC = b"\x89SILK\r\n\x1a"  # a high bit and CR LF, as in PNG: any text-mode transfer breaks it
BLOCK_SYNC, END_SYNC = b"\xf5BLK", b"\xf5END"
HEADER = struct.Struct("<8s HHH HHH III Q 32s I I")  # magic, version, size, 0, the fields of SilkHeader, CRC
BLOCK = struct.Struct("<4s I I")  # sync, index, frames; then the payload and a CRC
END = struct.Struct("<4s I Q I")  # sync, blocks, samples, CRC
CRC = struct.Struct("<I")
UNKNOWN = 2**64 - 1
MAX_PAYLOAD = 2**20  # bytes
SEARCH_WINDOW = 2**16  # bytes


def _expect(what: str, found: Any, expected: Any, offset: int) -> None:
    if found != expected:
        raise SilkFormatError(f"byte {offset}: {what} is {found!r}, expected {expected!r}")


def _with_crc(data: bytes) -> bytes:
    return data + CRC.pack(zlib.crc32(data))


@dataclass(frozen=True, kw_only=True)
class SilkHeader:
    """What a ``.silk`` file says about its frames.

    Args:
        dims: FSQ digits per frame.
        levels: values of a digit.
        group_size: digits per token; the last token of a frame takes what is left.
        sample_rate: samples per second.
        frame_samples: samples per frame.
        output_delay: samples that the decoder's output lags, less than ``frame_samples``.
        n_samples: samples of the signal, at least 1; None while unknown.
        weights_sha256: SHA-256 of the weights that made the tokens, 64 lower-case hexadecimal digits.
        frames_per_block: frames in every block but the last; at most 1 MiB of payload.

    Raises:
        SilkFormatError: a value that no file can have; the message names the field.
    """

    dims: int
    levels: int
    group_size: int
    sample_rate: int
    frame_samples: int
    output_delay: int = 0
    n_samples: int | None = None
    weights_sha256: str
    frames_per_block: int = 64

    def __post_init__(self) -> None:
        for name in ("dims", "levels", "group_size"):
            self._check_integer(name, 1 + (name == "levels"), 2**16 - 1)
        for name in ("sample_rate", "frame_samples"):
            self._check_integer(name, 1, 2**32 - 1)
        self._check_integer("output_delay", 0, self.frame_samples - 1)
        self._check_integer("frames_per_block", 1, MAX_PAYLOAD // self.frame_bytes)
        if self.n_samples is not None:
            self._check_integer("n_samples", 1, UNKNOWN - 1)
        if self.levels ** min(self.group_size, self.dims) > 2**31:
            raise SilkFormatError(f"group_size {self.group_size}: tokens of {self.levels} levels do not fit an int32")
        if not isinstance(self.weights_sha256, str) or not re.fullmatch("[0-9a-f]{64}", self.weights_sha256):
            raise SilkFormatError(f"weights_sha256 must be 64 hexadecimal digits, got {shown(self.weights_sha256)}")

    def _check_integer(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise SilkFormatError(f"{name} must be an integer in {low}..{high}, got {shown(value)}")

    @property
    def bits_per_digit(self) -> int:
        """ceil(log2(levels)) (3 for 8 levels)."""
        return (self.levels - 1).bit_length()

    @property
    def frame_bytes(self) -> int:
        """Bytes of a packed frame (48 for 128 digits of 8 levels)."""
        return -(-self.dims * self.bits_per_digit // 8)

    @property
    def tokens_per_frame(self) -> int:
        """Tokens per frame (19 for 128 digits in groups of 7)."""
        return -(-self.dims // self.group_size)

    @property
    def block_bytes(self) -> int:
        """Bytes from one block to the next: those of a block of ``frames_per_block`` frames."""
        return BLOCK.size + self.frames_per_block * self.frame_bytes + CRC.size

    @property
    def n_frames(self) -> int | None:
        """Frames of the file: ceil((n_samples + output_delay) / frame_samples); None while unknown."""
        return None if self.n_samples is None else -(-(self.n_samples + self.output_delay) // self.frame_samples)

    @property
    def n_blocks(self) -> int | None:
        """Blocks of the file; None while unknown."""
        return None if self.n_frames is None else -(-self.n_frames // self.frames_per_block)

    def to_bytes(self) -> bytes:
        """Pack the 80 bytes that open a file."""
        values = vars(self) | {
            "n_samples": UNKNOWN if self.n_samples is None else self.n_samples,
            "weights_sha256": bytes.fromhex(self.weights_sha256),
        }
        fields = [values[field.name] for field in dataclasses.fields(self)]
        return _with_crc(HEADER.pack(MAGIC, VERSION, HEADER.size, 0, *fields, 0)[: -CRC.size])

    @classmethod
    def from_bytes(cls, data: bytes) -> "SilkHeader":
        """Read what :meth:`to_bytes` wrote; bytes after the header are ignored.

        Raises:
            SilkFormatError: not a ``.silk`` file, another version, truncated, damaged, or a field out of range.
        """
        data = bytes(data[: HEADER.size])
        if not data:
            raise SilkFormatError("is empty (0 bytes), expected a .silk file")
        if data[:8] != MAGIC[: len(data)]:
            raise SilkFormatError(
                f"not a .silk file, or one damaged by a text-mode transfer: it starts with {data[:8]!r}, not {MAGIC!r}"
            )
        if len(data) < HEADER.size:
            raise SilkFormatError(f"byte {len(data)}: file ends within its header of {HEADER.size} bytes")
        _, version, size, reserved, *values, crc = HEADER.unpack(data)
        if version != VERSION:
            raise SilkFormatError(f"byte 8: format version is {version}; this reader supports version {VERSION} only")
        _expect("header CRC-32", crc, zlib.crc32(data[: -CRC.size]), HEADER.size - CRC.size)
        _expect("header size", size, HEADER.size, 10)
        _expect("reserved field", reserved, 0, 12)
        fields = dict(zip((field.name for field in dataclasses.fields(cls)), values, strict=True))
        fields["n_samples"] = None if fields["n_samples"] == UNKNOWN else fields["n_samples"]
        return cls(**fields | {"weights_sha256": fields["weights_sha256"].hex()})


def _radix(header: SilkHeader) -> np.ndarray:
    """Give the weight of each digit within its token, int32 ``[min(group_size, dims)]``."""
    return header.levels ** np.arange(min(header.group_size, header.dims), dtype=np.int32)


def _checked_tokens(tokens: Any, header: SilkHeader) -> np.ndarray:
    """Give frames of tokens as the integers ``[F, tokens_per_frame]`` in range that they must be."""
    n_tokens = header.tokens_per_frame
    try:
        tokens = np.asarray(tokens)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of several lengths, tensors without values
        raise SilkInputError(
            f"tokens must be integers [F, {n_tokens}], got {type(tokens).__name__}: {error}"
        ) from error
    if tokens.ndim != 2 or tokens.shape[1] != n_tokens or tokens.dtype.kind not in "iu":
        raise SilkInputError(f"tokens must be integers [F, {n_tokens}], got {tokens.dtype} {list(tokens.shape)}")
    limits = np.full(n_tokens, header.levels ** min(header.group_size, header.dims), np.int64)
    limits[-1] = header.levels ** (header.dims - (n_tokens - 1) * header.group_size)
    if len(bad := np.argwhere((tokens < 0) | (tokens >= limits))):
        frame, i = bad[0]
        raise SilkFormatError(f"frame {frame}: token {i} is {tokens[frame, i]}, expected 0..{limits[i] - 1}")
    return tokens


def tokens_to_bytes(tokens: np.ndarray, header: SilkHeader) -> bytes:
    """Pack frames of tokens: digit i of a frame takes bits ``i * bits_per_digit`` and up, LSB first.

    Args:
        tokens: ``[F, tokens_per_frame]``, any integer dtype, F >= 0.

    Returns:
        ``F * frame_bytes`` bytes.

    Raises:
        SilkInputError: not an integer array of that shape.
        SilkFormatError: a token out of range; the message names its frame, its index and its value.
    """
    tokens = _checked_tokens(tokens, header)
    n_frames, dims, bits, radix = len(tokens), header.dims, header.bits_per_digit, _radix(header)
    digits = tokens.astype(np.int32)[:, :, None] // radix % header.levels
    digits = digits.reshape(n_frames, header.tokens_per_frame * len(radix))[:, :dims]
    planes = (digits[:, :, None] >> np.arange(bits, dtype=np.int32)) & 1
    return np.packbits(planes.reshape(n_frames, dims * bits), axis=1, bitorder="little").tobytes()


def bytes_to_tokens(data: bytes, header: SilkHeader) -> np.ndarray:
    """Unpack what :func:`tokens_to_bytes` packed.

    Args:
        data: ``F * frame_bytes`` bytes, F >= 0.

    Returns:
        int32 ``[F, tokens_per_frame]``.

    Raises:
        SilkFormatError: not whole frames, a digit that is not below ``levels``, or a spare bit that is set.
    """
    n_frames, rest = divmod(len(data), header.frame_bytes)
    n_tokens, dims, bits, radix = header.tokens_per_frame, header.dims, header.bits_per_digit, _radix(header)
    if rest:
        raise SilkFormatError(f"{len(data)} bytes are not whole frames of {header.frame_bytes} bytes")
    packed = np.frombuffer(data, np.uint8).reshape(n_frames, header.frame_bytes)
    planes = np.unpackbits(packed, axis=1, bitorder="little")
    if len(bad := np.argwhere(planes[:, dims * bits :])):
        raise SilkFormatError(f"frame {bad[0, 0]}: spare bit {bad[0, 1] + dims * bits} is 1, expected 0")
    digits = np.zeros((n_frames, n_tokens * len(radix)), np.int32)
    digits[:, :dims] = planes[:, : dims * bits].reshape(n_frames, dims, bits) @ (1 << np.arange(bits, dtype=np.int32))
    if len(bad := np.argwhere(digits >= header.levels)):
        frame, i = bad[0]
        raise SilkFormatError(f"frame {frame}: digit {i} is {digits[frame, i]}, expected 0..{header.levels - 1}")
    return digits.reshape(n_frames, n_tokens, len(radix)) @ radix


class SilkWriter:
    """Write a ``.silk`` file front to back, one block in memory.

    As a context manager it closes itself when ``header.n_samples`` is known; otherwise call
    :meth:`close` with the count. After an exception the file stays unfinished, and readers say so.

    Args:
        file: binary file object, seekable or not, not opened for appending. It is never closed here.
        header: ``n_samples`` None writes "unknown"; :meth:`close` fills it in where the file can seek.
    """

    def __init__(self, file: BinaryIO, header: SilkHeader) -> None:
        self.header = header
        self.n_frames = 0
        self._file = file
        self._start = file.tell() if file.seekable() else None
        self._pending = bytearray()
        self._n_blocks = 0
        self._closed = False
        file.write(header.to_bytes())

    def write(self, tokens: np.ndarray) -> None:
        """Append frames.

        Args:
            tokens: ``[F, tokens_per_frame]``, any integer dtype, F >= 0.

        Raises:
            SilkInputError: wrong shape or dtype, or the writer is closed; nothing is written.
            SilkFormatError: a token out of range; nothing is written.
        """
        if self._closed:
            raise SilkInputError("the writer is closed")
        tokens, per_block = _checked_tokens(tokens, self.header), self.header.frames_per_block
        size = per_block * self.header.frame_bytes
        for first in range(0, len(tokens), per_block):
            self._pending += tokens_to_bytes(tokens[first : first + per_block], self.header)
            if len(self._pending) >= size:
                self._write_block(self._pending[:size])
                del self._pending[:size]
        self.n_frames += len(tokens)

    def _write_block(self, payload: bytearray) -> None:
        head = BLOCK.pack(BLOCK_SYNC, self._n_blocks, len(payload) // self.header.frame_bytes)
        self._file.write(_with_crc(head + payload))
        self._n_blocks += 1

    def close(self, n_samples: int | None = None) -> None:
        """Write the last block and the end marker; a second call does nothing.

        Args:
            n_samples: samples of the signal; None takes ``header.n_samples``.

        Raises:
            SilkFormatError: the count is unknown, is not the header's, or does not fit the frames written.
        """
        if self._closed:
            return
        n_samples = self.header.n_samples if n_samples is None else n_samples
        if n_samples is None or self.header.n_samples not in (None, n_samples):
            raise SilkFormatError(
                f"close needs n_samples, got {shown(n_samples)}; the header has {self.header.n_samples}"
            )
        header = replace(self.header, n_samples=n_samples)
        if header.n_frames != self.n_frames:
            raise SilkFormatError(f"{n_samples} samples make {header.n_frames} frames, {self.n_frames} were written")
        if self._pending:
            self._write_block(self._pending)
        self._file.write(_with_crc(END.pack(END_SYNC, self._n_blocks, n_samples, 0)[: -CRC.size]))
        if self._start is not None and header != self.header:
            position = self._file.tell()
            self._file.seek(self._start)
            self._file.write(header.to_bytes())
            self._file.seek(position)
        self.header, self._closed = header, True

    def __enter__(self) -> "SilkWriter":
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        if error_type is None:
            self.close()


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive frames: int32 ``tokens`` ``[n_frames, tokens_per_frame]``, or None where they are lost."""

    first_frame: int
    n_frames: int
    tokens: np.ndarray | None


@dataclass(frozen=True)
class Damage:
    """A fault found at byte ``offset``, and the frames it cost (``n_frames`` may be 0)."""

    first_frame: int
    n_frames: int
    offset: int
    reason: str


class SilkReader:
    """Read a ``.silk`` file, one block in memory.

    Strict (the default), it raises at the first fault. With ``recover`` it needs an intact header
    only: it skips damaged blocks, finds the next intact one wherever it lies, and reports what is
    missing. If neither the header nor an end marker has the sample count, the file is taken to end
    with its last intact block.

    Args:
        file: seekable binary file object; byte 0 is the header.
        recover: tolerate damage.

    Attributes:
        header: :class:`SilkHeader` with the sample count filled in.
        n_samples, n_frames, n_blocks: sizes of the whole signal, what is lost included.
        damage: list of :class:`Damage`, filled as :meth:`blocks` proceeds; empty at its end if and
            only if a strict reader accepts the file.

    Raises:
        SilkFormatError: the header is damaged; strict: the file's size, its header and its end
            marker disagree; recovering: no sample count and no intact block.
    """

    def __init__(self, file: BinaryIO, *, recover: bool = False) -> None:
        self.damage: list[Damage] = []
        self._file = file
        self._recover = recover
        self._size = file.seek(0, os.SEEK_END)
        self.header = SilkHeader.from_bytes(self._read(0, min(HEADER.size, self._size)))
        if self.header.n_samples is None:
            self.header = self._recovered_header() if recover else self._end_at(self._size - END.size)
        n_samples, n_frames, n_blocks = self.header.n_samples, self.header.n_frames, self.header.n_blocks
        assert n_samples is not None  # the end marker or the blocks gave it where the header did not
        assert n_frames is not None
        assert n_blocks is not None
        self.n_samples, self.n_frames, self.n_blocks = n_samples, n_frames, n_blocks
        if not recover:
            needed = self._offset(n_frames) + END.size
            _expect(f"file size for {n_samples} samples", self._size, needed, self._size)
            self._end_at(self._size - END.size)

    def blocks(self) -> Iterator[Block]:
        """Read all frames in order: intact blocks of at most ``frames_per_block``, a lost stretch as one.

        Raises:
            SilkFormatError: strict only, at the first fault; names its byte offset.
        """
        self.damage.clear()
        offset, frame = HEADER.size, 0
        while frame < self.n_frames:
            tokens, offset, next_frame = self._step(offset, frame)
            yield Block(frame, next_frame - frame, tokens)
            frame = next_frame
        if self._recover:
            try:
                self._end_at(offset)
                _expect("file size", self._size, offset + END.size, offset + END.size)
            except SilkFormatError as error:
                self.damage.append(Damage(frame, 0, offset, str(error)))

    def read(self, first_frame: int, n_frames: int) -> np.ndarray:
        """Read the tokens of some frames, from their blocks only.

        A recovering reader looks for them where an undamaged file has them.

        Returns:
            int32 ``[n_frames, tokens_per_frame]``.

        Raises:
            SilkInputError: frames that the file does not have.
            SilkFormatError: a block that they lie in is damaged.
        """
        stop, per_block = first_frame + n_frames, self.header.frames_per_block
        if not 0 <= first_frame <= stop <= self.n_frames:
            raise SilkInputError(f"frames {first_frame}..{stop} are not within 0..{self.n_frames}")
        parts = [np.empty((0, self.header.tokens_per_frame), np.int32)]
        for index in range(first_frame // per_block, -(-stop // per_block)):
            tokens = self._block_at(self._offset(index * per_block), index)
            parts.append(tokens[max(first_frame - index * per_block, 0) : stop - index * per_block])
        return np.concatenate(parts)

    def _offset(self, frame: int) -> int:
        """Find the byte where the block that starts with ``frame`` lies; for ``n_frames``, the end marker."""
        n_blocks = -(-frame // self.header.frames_per_block)
        return HEADER.size + n_blocks * (BLOCK.size + CRC.size) + frame * self.header.frame_bytes

    def _read(self, offset: int, n_bytes: int) -> bytes:
        data = b""
        if offset + n_bytes <= self._size:
            self._file.seek(offset)
            data = self._file.read(n_bytes)
        if len(data) != n_bytes:
            raise SilkFormatError(f"byte {offset}: expected {n_bytes} bytes, but the file ends at {self._size}")
        return data

    def _step(self, offset: int, frame: int) -> tuple[np.ndarray | None, int, int]:
        """Read the tokens of the block at ``offset``, None if lost; find the offset and the frame that come next."""
        try:
            tokens = self._block_at(offset, frame // self.header.frames_per_block)
        except SilkFormatError as error:
            if not self._recover:
                raise
            next_offset, next_frame = self._resync(offset, frame)
            self.damage.append(Damage(frame, next_frame - frame, offset, str(error)))
            return None, next_offset, next_frame
        next_frame = frame + len(tokens)
        return tokens, offset + self._offset(next_frame) - self._offset(frame), next_frame

    def _block_at(self, offset: int, index: int) -> np.ndarray:
        """Read the tokens of block ``index``, which must lie at byte ``offset``."""
        header = self.header
        head = self._read(offset, BLOCK.size)
        sync, found_index, n_frames = BLOCK.unpack(head)
        _expect("block sync", sync, BLOCK_SYNC, offset)
        _expect("block index", found_index, index, offset + 4)
        if header.n_frames is not None:
            expected = min(header.frames_per_block, header.n_frames - index * header.frames_per_block)
            _expect("number of frames", n_frames, expected, offset + 8)
        elif not 1 <= n_frames <= header.frames_per_block:
            raise SilkFormatError(f"byte {offset + 8}: block of {n_frames} frames, limit {header.frames_per_block}")
        data = self._read(offset + BLOCK.size, n_frames * header.frame_bytes + CRC.size)
        payload, (crc,) = data[: -CRC.size], CRC.unpack(data[-CRC.size :])
        _expect("block CRC-32", crc, zlib.crc32(payload, zlib.crc32(head)), offset + BLOCK.size + len(payload))
        try:
            return bytes_to_tokens(payload, header)
        except SilkFormatError as error:
            raise SilkFormatError(f"byte {offset + BLOCK.size}: block {index}, {error}") from error

    def _end_at(self, offset: int) -> SilkHeader:
        """Complete the header with the sample count of the end marker, which must lie at byte ``offset``."""
        data = self._read(offset, END.size)
        sync, n_blocks, n_samples, crc = END.unpack(data)
        _expect("end marker", sync, END_SYNC, offset)
        _expect("end marker's CRC-32", crc, zlib.crc32(data[: -CRC.size]), offset + END.size - CRC.size)
        if self.header.n_samples is not None:
            _expect("end marker's sample count", n_samples, self.header.n_samples, offset + 8)
        header = replace(self.header, n_samples=n_samples)
        _expect("end marker's number of blocks", n_blocks, header.n_blocks, offset + 4)
        return header

    def _find(self, sync: bytes, offset: int) -> Iterator[int]:
        """Find every place at or after byte ``offset`` where ``sync`` stands."""
        while offset < self._size:
            self._file.seek(offset)
            window = self._file.read(SEARCH_WINDOW)
            i = window.find(sync)
            while i >= 0:
                yield offset + i
                i = window.find(sync, i + 1)
            offset += SEARCH_WINDOW - len(sync) + 1

    def _find_blocks(self, offset: int) -> Iterator[tuple[int, int, int]]:
        """Find offset, first frame and number of frames of every intact block at or after byte ``offset``."""
        for found in self._find(BLOCK_SYNC, offset):
            with contextlib.suppress(SilkFormatError):
                _, index, _ = BLOCK.unpack(self._read(found, BLOCK.size))
                yield found, index * self.header.frames_per_block, len(self._block_at(found, index))

    def _find_ends(self, offset: int) -> Iterator[tuple[int, SilkHeader]]:
        """Find the offset of every intact end marker at or after byte ``offset``, and the header that it completes."""
        for found in self._find(END_SYNC, offset):
            with contextlib.suppress(SilkFormatError):
                yield found, self._end_at(found)

    def _resync(self, offset: int, frame: int) -> tuple[int, int]:
        """Find offset and first frame of what comes next at or after byte ``offset``: block, end marker or nothing."""
        for found, first_frame, _ in self._find_blocks(offset):
            if first_frame >= frame:
                return found, first_frame
        return next(self._find_ends(offset), (self._size,))[0], self.n_frames

    def _recovered_header(self) -> SilkHeader:
        """Complete the header with the sample count of an end marker, or else that of the intact blocks."""
        for _, header in self._find_ends(HEADER.size):
            return header
        n_frames = max((first + n for _, first, n in self._find_blocks(HEADER.size)), default=0)
        if n_frames == 0:
            raise SilkFormatError("nothing to recover: no sample count and no intact block")
        return replace(self.header, n_samples=n_frames * self.header.frame_samples - self.header.output_delay)
