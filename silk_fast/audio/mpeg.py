"""The frames of an MPEG audio file (ISO 11172-3, 13818-3), found by their headers; what they hold is never decoded."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, NamedTuple

HEADER_BYTES = 48  # of a frame, enough for its header, its side information and the mark of a length header
# fmt: off
_KBITS = {  # (MPEG-1?, layer): kbit/s by the index 1..14 in the header
    (True, 1):  (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2):  (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3):  (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# fmt: on
_RATES = (44_100, 48_000, 32_000)
_THIRD = bytes(b for b in range(256) if 0 < b >> 4 < 15 and b >> 2 & 3 < 3)  # of a header: bit rate, sample rate
_SYNC = re.compile(rb"\xff(?=[\xe2-\xe7\xf2-\xf7\xfa-\xff][" + re.escape(_THIRD) + rb"])")


class Frame(NamedTuple):
    """An MPEG audio frame, as its header describes it.

    Args:
        n_bytes: of the whole frame; 0 in free format, where the header does not say.
        n_samples: per channel.
        kind: version, layer and sample rate, which the frames of one file share.
        is_length_header: whether it holds no audio but the length of the file (``Xing``, ``Info`` or ``VBRI``).
    """

    n_bytes: int
    n_samples: int
    kind: tuple[int, int, int]
    is_length_header: bool


def parse_frame(data: bytes) -> Frame | None:
    """Parse the first bytes of a frame, at best ``HEADER_BYTES`` of them; None if no frame can begin so."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, 4 - (data[1] >> 1 & 3)
    i_rate, i_bits, padding = data[2] >> 2 & 3, data[2] >> 4, data[2] >> 1 & 1
    if version == 1 or layer == 4 or i_rate == 3 or i_bits == 15 or data[3] & 3 == 2:
        return None
    is_first = version == 3  # MPEG-1; 2 is MPEG-2, 0 is MPEG-2.5
    rate = _RATES[i_rate] >> (0 if is_first else 1 if version == 2 else 2)
    n_samples = 384 if layer == 1 else 1152 if is_first or layer == 2 else 576
    bits = 1000 * _KBITS[is_first, layer][i_bits - 1] if i_bits else 0
    n_bytes = 4 * (12 * bits // rate + padding) if layer == 1 else n_samples // 8 * bits // rate + padding
    is_mono = data[3] >> 6 == 3
    n_side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    side = data[4:]
    is_length = layer == 3 and (
        (side[n_side : n_side + 4] in (b"Xing", b"Info") and not any(side[:n_side]))
        or (side[32:36] == b"VBRI" and not any(side[:32]))
    )
    return Frame(n_bytes if bits else 0, n_samples, (version, layer, rate), is_length)


def skip_id3(file: BinaryIO, position: int) -> int:
    """Find the offset behind the ID3v2 tags at ``position``: ``position`` itself if there is none."""
    while True:
        file.seek(position)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
            return position
        size = sum(head[6 + i] << (21 - 7 * i) for i in range(4))
        position += 10 + size + (10 if head[5] & 16 else 0)


def frames(file: BinaryIO, position: int) -> Iterator[tuple[int, Frame]]:
    """Walk from one frame to the next: (offset, frame), until something else comes or the file ends."""
    while True:
        file.seek(position)
        frame = parse_frame(file.read(HEADER_BYTES))
        if frame is None:
            return
        yield position, frame
        if not frame.n_bytes:
            return
        position += frame.n_bytes


def is_chain(file: BinaryIO, position: int, n_least: int = 1, n_frames: int = 4) -> bool:
    """Tell whether ``n_frames`` of one kind follow each other at ``position``, or ``n_least`` up to the end."""
    found = list(islice(frames(file, position), n_frames))
    if len(found) < n_least or any(frame.kind != found[0][1].kind for _, frame in found):
        return False
    offset, frame = found[-1]
    return len(found) == n_frames or offset + frame.n_bytes == file.seek(0, os.SEEK_END)


def find_chain(file: BinaryIO, position: int, n_least: int = 1) -> int | None:
    """Find the next offset, ``position`` or later, where :func:`is_chain`."""
    for offset in find_pattern(file, _SYNC, position, 3):
        if is_chain(file, offset, n_least):
            return offset
    return None


def find_pattern(file: BinaryIO, pattern: re.Pattern[bytes], position: int, most_bytes: int) -> Iterator[int]:
    """Find every offset, ``position`` or later, where a pattern of at most ``most_bytes`` matches, in little memory."""
    window = b""
    while True:
        file.seek(position + len(window))
        more = file.read(2**20)
        window += more
        n_whole = len(window) - most_bytes + 1 if more else len(window)  # a match that begins later may be incomplete
        for match in pattern.finditer(window):
            if match.start() < n_whole:
                yield position + match.start()
        if not more:
            return
        position, window = position + max(0, n_whole), window[max(0, n_whole) :]


@dataclass(frozen=True)
class Survey:
    """What the frames of an MPEG audio file amount to.

    Args:
        n_samples: per channel, of all whole frames but a length header; None in free format, where it cannot be told.
        states_length: whether a header says how many frames follow; without, a decoder goes by an estimate.
        end: offset behind the last of its frames.
        goes_on: offset where another file begins behind the first, or frames that the length header does not count.
    """

    n_samples: int | None
    states_length: bool
    end: int
    goes_on: int | None


def survey(file: BinaryIO) -> Survey | None:
    """Walk through a file; None if it does not begin, ID3 tags apart, with an MPEG audio frame."""
    n_bytes = file.seek(0, os.SEEK_END)
    begin = skip_id3(file, 0)
    position: int | None = begin if next(frames(file, begin), None) else None
    if position is None:
        return None
    n_frames, n_samples, n_stated, end = 0, 0, None, begin

    def result(goes_on: int | None) -> Survey:
        return Survey(n_samples, n_stated is not None, end, goes_on)

    while position is not None:
        for offset, frame in frames(file, position):
            end = offset + frame.n_bytes
            if not frame.n_bytes:
                return Survey(None, n_stated is not None, n_bytes, None)
            if frame.is_length_header and offset != begin:
                return result(offset)
            if frame.is_length_header:
                n_stated = _stated_frames(file, offset, frame.n_bytes)
            elif end <= n_bytes:
                n_frames, n_samples = n_frames + 1, n_samples + frame.n_samples
                if n_stated is not None and n_frames > n_stated + 1:  # some count the header, some do not
                    return result(offset)
        behind = skip_id3(file, end)
        if behind != end and is_chain(file, behind):
            return result(end)
        position = find_chain(file, behind)
    return result(None)


def _stated_frames(file: BinaryIO, offset: int, n_bytes: int) -> int | None:
    """Read from a length header how many frames follow; None if it leaves that out."""
    file.seek(offset)
    data = file.read(n_bytes)
    for mark in (b"Xing", b"Info"):
        start = data.find(mark, 4, HEADER_BYTES)
        if start > 0:
            has_count = len(data) >= start + 12 and data[start + 7] & 1
            return int.from_bytes(data[start + 8 : start + 12], "big") if has_count else None
    return int.from_bytes(data[50:54], "big")


def offset_of_sample(file: BinaryIO, i_sample: int) -> int:
    """Find the offset of the frame that holds a sample, or of the last frame before a gap."""
    file.seek(0, os.SEEK_END)
    n_samples = offset = 0
    for offset, frame in frames(file, skip_id3(file, 0)):  # noqa: B007
        n_samples += frame.n_samples
        if n_samples > i_sample:
            break
    return offset
