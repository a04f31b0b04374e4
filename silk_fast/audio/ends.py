"""Where audio files say that they end: libsndfile passes over in silence what is cut short or joined."""

import os
import re
from functools import partial
from typing import BinaryIO, Literal

from silk_fast.audio import mpeg
from silk_fast.errors import SilkAudioError
from silk_fast.ogg import pages

_STREAMED = (0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # sizes written into pipes (sox, ffmpeg, ...)
_BEGINNINGS = (  # of a file, so long that samples do not look like one
    rb"(?:RIF[FX]|RF64).{4}WAVE",
    rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb",
    rb"FORM.{4}(?:AIF[FC]|8SVX|16SV)",
    rb"\.snd\0\0.{6}\0\0\0[\x01-\x22]",
    rb"dns\..{2}\0\0.{4}[\x01-\x22]\0\0\0",
    rb"caff\0[\x01\x02]\0\0desc",
    rb"fLaC[\0\x80]\0\0\x22",
    rb"OggS\0\x02\0{8}",
    rb"Creative Voice File\x1a",
    rb"NIST_1A\n",
    rb"MATLAB 5\.0 MAT-file",
    rb"\xff[\xe2-\xff].{2}\0{9,32}(?:Xing|Info)",
)
_PCM = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"dns.", b"caff")  # containers whose header is read here
_CUT_CHUNKS = (b"LIST", b"bext", b"iXML", b"id3 ", b"ID3 ", b"_PMX", b"JUNK")  # after samples; they may be cut short
_SDS = rb"\xf0\x7e.\x01.{16}\xf7"  # MIDI sample dump, whose samples are of 7 bits
_TAG = rb"ID3[\x02-\x04]\0"  # may also end a file
_N_SIGNATURE = 24  # bytes of an unknown format that do not come twice in one file


def check_container(file: BinaryIO, name: str) -> mpeg.Survey | None:
    """Raise SilkAudioError if a file is empty, is shorter than its header says, or is several files joined.

    Returns:
        What its frames amount to if it is MPEG audio, such as MP3, else None.
    """
    n_bytes = file.seek(0, os.SEEK_END)
    if not n_bytes:
        raise SilkAudioError(f"{name}: is empty (0 bytes), expected audio")
    begin = mpeg.skip_id3(file, 0)
    file.seek(begin)
    head, survey, end, goes_on = file.read(4), None, 0, None
    if head == b"OggS":
        end, goes_on = _ogg_end(file)
    elif head == b"fLaC":
        goes_on = _next_file(file, *_first_flac_frame(file, begin))
    elif head in _PCM:
        end = _pcm_end(file, begin)
        goes_on = None if end else _next_file(file, begin + 4)
    elif survey := mpeg.survey(file):
        end, goes_on = min(survey.end, n_bytes), survey.goes_on
    if end > n_bytes:
        raise SilkAudioError(f"{name}: cut short, {n_bytes} bytes where its header announces {end}")
    if end and goes_on is None:
        goes_on = _next_file(file, end)
    _refuse_joined(name, goes_on, n_bytes)
    if end and not survey:
        _refuse_strays(file, name, head, end)
    return survey


def check_unknown(file: BinaryIO, name: str) -> None:
    """Raise SilkAudioError if another file follows in one whose format is not known here but to libsndfile."""
    n_bytes = file.seek(0, os.SEEK_END)
    file.seek(mpeg.skip_id3(file, 0))
    head = file.read(_N_SIGNATURE)
    if len(head) == _N_SIGNATURE and head[:4] not in (b"OggS", b"fLaC", *_PCM) and not mpeg.parse_frame(head):
        own = _SDS if re.match(_SDS, head, re.DOTALL) else re.escape(head)
        _refuse_joined(name, _next_file(file, 4, own), n_bytes)


def _refuse_joined(name: str, goes_on: int | None, n_bytes: int) -> None:
    if goes_on is not None:
        raise SilkAudioError(
            f"{name}: joined files, another begins at byte {goes_on} of {n_bytes}, expected one file; "
            "split it, or convert it to one .flac or .wav first"
        )


def _pcm_end(file: BinaryIO, begin: int) -> int:
    """Find the offset in bytes where a WAV, RF64, W64, AIFF, AU or CAF header says that the samples end; 0: unsaid."""
    file.seek(begin)
    head = file.read(24)
    order: Literal["big", "little"] = "big" if head[:4] in (b"FORM", b"RIFX", b".snd", b"caff") else "little"
    number = partial(int.from_bytes, byteorder=order)
    start = size = size_64 = 0
    if head[:4] in (b".snd", b"dns."):
        start, size = begin + number(head[4:8]), number(head[8:12])
    elif head[:4] == b"riff":
        start, size = begin, number(head[16:24])  # of the whole file
    else:
        is_caf = head[:4] == b"caff"
        n_head = 12 if is_caf else 8
        file.seek(begin + (8 if is_caf else 12))
        while len(chunk := file.read(n_head)) == n_head:
            start, size = file.tell(), number(chunk[4:])
            if chunk[:4] in (b"data", b"SSND"):
                break
            if chunk[:4] == b"ds64":
                size_64 = number(file.read(16)[8:])
            if size >= 2**62:
                break
            file.seek(start + size + (size % 2 and not is_caf))
            size = 0
        size = size_64 if size_64 and size == 0xFFFFFFFF else size
    is_streamed = size == 0 or size >= 2**62 or any(abs(size - n) <= 64 for n in _STREAMED)
    return 0 if is_streamed else start + size


def _ogg_end(file: BinaryIO) -> tuple[int, int | None]:
    """Find the offsets where the last page of an Ogg file says that it ends, and where another file begins, if any."""
    is_data, end = False, 0
    for page in pages(file):
        if page.is_first and is_data:
            return end, end
        is_data = is_data or not page.is_first
        end = page.end
    return end, None


def _refuse_strays(file: BinaryIO, name: str, head: bytes, end: int) -> None:
    """Raise SilkAudioError if other bytes than chunks, tags and zeros lie behind the end of an Ogg or PCM file."""
    order: Literal["big", "little"] = "little" if head in (b"RIFF", b"RF64") else "big"
    n_head = {b"RIFF": 8, b"RF64": 8, b"RIFX": 8, b"FORM": 8, b"caff": 12}.get(head, 0)
    position, n_bytes = end, file.seek(0, os.SEEK_END)
    while position < n_bytes:
        file.seek(position)
        block = file.read(2**16)
        n_zeros = len(block) - len(block.lstrip(b"\0"))
        behind = mpeg.skip_id3(file, position + n_zeros)
        if block[:8] == b"APETAGEX":
            behind = position + 32 + int.from_bytes(block[12:16], "little")
        elif block[:3] == b"TAG":
            behind = position + 128
        elif n_head and re.match(rb"[ -~]{4}", block):
            size = int.from_bytes(block[4:n_head], order)
            behind = position + n_head + size + (size % 2 if n_head == 8 else 0)
            if size > n_bytes - position - n_head and block[:4] not in _CUT_CHUNKS:
                behind = position
        if behind == position == end and end % 2 and n_head == 8:
            behind += 1  # a byte of padding that is not zero
        if behind == position:
            raise SilkAudioError(
                f"{name}: {n_bytes - position} bytes follow its end, from byte {position}, that are no part of it: "
                "joined files, or a header that states too few samples; split it, or convert it first"
            )
        position = behind


def _first_flac_frame(file: BinaryIO, begin: int) -> tuple[int, bytes | None]:
    """Find an offset within the first frame of a FLAC file, and make the pattern of its header, which none repeats."""
    position, is_last = begin + 4, False
    while not is_last:
        file.seek(position)
        block = file.read(4)
        if len(block) < 4:
            return begin + 4, None
        is_last, position = bool(block[0] & 128), position + 4 + int.from_bytes(block[1:], "big")
    file.seek(position)
    header = file.read(6)
    is_frame = header[:2] in (b"\xff\xf8", b"\xff\xf9")
    return (position + 1, re.escape(header)) if is_frame else (begin + 4, None)


def _next_file(file: BinaryIO, position: int, signature: bytes | None = None) -> int | None:
    """Find the offset, ``position`` or later, where an audio file begins, or a chain of MPEG frames.

    Args:
        signature: another pattern to look for.
    """
    offset = _next_beginning(file, position, signature)
    return mpeg.find_chain(file, position, 2) if offset is None else offset


def _next_beginning(file: BinaryIO, position: int, signature: bytes | None) -> int | None:
    known = [*_BEGINNINGS, _TAG] + ([signature] if signature else [])
    for offset in mpeg.find_pattern(file, re.compile(b"|".join(known), re.DOTALL), position, 64):
        file.seek(offset)
        if file.read(3) != b"ID3":
            return offset
        behind = mpeg.skip_id3(file, offset)
        if behind > offset and mpeg.is_chain(file, behind):
            return offset
    return None


_OTHER_KINDS = (  # what FFmpeg reads and libsndfile does not: name, bytes, their offset
    ("MPEG-4 (m4a, mp4)", b"ftyp", 4),
    ("Matroska (webm, mkv)", b"\x1a\x45\xdf\xa3", 0),
    ("ADTS (aac)", b"\xff\xf1", 0),
    ("ADTS (aac)", b"\xff\xf9", 0),
    ("ADIF (aac)", b"ADIF", 0),
    ("ASF (wma)", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0),
    ("AVI", b"AVI ", 8),
    ("Flash video", b"FLV\x01", 0),
    ("AMR", b"#!AMR", 0),
    ("Monkey's Audio", b"MAC ", 0),
    ("WavPack", b"wvpk", 0),
    ("True Audio", b"TTA", 0),
    ("Musepack", b"MPCK", 0),
    ("RealAudio", b".RMF", 0),
    ("RealAudio", b".ra\xfd", 0),
    ("DSD (dsf)", b"DSD ", 0),
)


def other_kind(file: BinaryIO) -> str | None:
    """Name the kind of audio or video that a file holds if FFmpeg reads it and libsndfile does not; None for others."""
    file.seek(mpeg.skip_id3(file, 0))
    head = file.read(16)
    return next((kind for kind, mark, i in _OTHER_KINDS if head[i : i + len(mark)] == mark), None)
