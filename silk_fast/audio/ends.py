"""Where audio files say that they end: libsndfile passes over in silence what is cut short or joined."""

import io
import os
from functools import partial
from typing import Literal

from silk_fast.errors import SilkAudioError
from silk_fast.ogg import pages

_STREAMED = (0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # sizes written into pipes (sox, ffmpeg, ...)


def check_container(raw: io.FileIO, name: str) -> None:
    """Raise SilkAudioError if the file is empty, is shorter than its header says, or is several Ogg files joined."""
    n_bytes = raw.seek(0, os.SEEK_END)
    if not n_bytes:
        raise SilkAudioError(f"{name}: is empty (0 bytes), expected audio")
    raw.seek(0)
    end = _ogg_end(raw, name) if raw.read(4) == b"OggS" else _pcm_end(raw)
    if end > n_bytes:
        raise SilkAudioError(f"{name}: cut short, {n_bytes} bytes where its header announces {end}")


def _pcm_end(raw: io.FileIO) -> int:
    """Find the offset in bytes where a WAV, RF64, W64, AIFF or AU header says that the samples end; 0 for unsaid."""
    raw.seek(0)
    head = raw.read(24)
    order: Literal["big", "little"] = "big" if head[:4] in (b"FORM", b"RIFX", b".snd") else "little"
    number = partial(int.from_bytes, byteorder=order)
    start = size = size_64 = 0
    if head[:4] == b".snd":
        start, size = number(head[4:8]), number(head[8:12])
    elif head[:4] == b"riff":
        size = number(head[16:24])  # of the whole file
    elif head[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        raw.seek(12)
        while len(chunk := raw.read(8)) == 8:
            start, size = raw.tell(), number(chunk[4:])
            if chunk[:4] in (b"data", b"SSND"):
                break
            if chunk[:4] == b"ds64":
                size_64 = number(raw.read(16)[8:])
            raw.seek(start + size + size % 2)
            size = 0
        size = size_64 if size_64 and size == 0xFFFFFFFF else size
    is_streamed = size == 0 or size >= 2**63 or any(abs(size - n) <= 64 for n in _STREAMED)
    return 0 if is_streamed else start + size


def _ogg_end(raw: io.FileIO, name: str) -> int:
    """Find the offset in bytes where the last page of an Ogg file says that it ends."""
    is_data, end = False, 0
    for page in pages(raw):
        if page.is_first and is_data:
            raise SilkAudioError(f"{name}: several Ogg files joined, expected one; convert it to .flac or .wav first")
        is_data = is_data or not page.is_first
        end = page.end
    return end


def mp3_states_length(raw: io.FileIO) -> bool:
    """Tell whether the first MPEG frame after an ID3 tag is a header with the length, which is else an estimate."""
    raw.seek(0)
    head = raw.read(10)
    raw.seek(10 + sum((head[6 + i] & 127) << (21 - 7 * i) for i in range(4)) if head[:3] == b"ID3" else 0)
    first = raw.read(64)
    return is_mpeg_sync(first) and (b"Xing" in first or b"Info" in first)


def is_mpeg_sync(data: bytes) -> bool:
    """Tell whether an MPEG audio frame can begin so."""
    return len(data) >= 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0
