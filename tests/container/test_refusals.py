"""Files that are not what they say, and writers that are not told what they need."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest

from silk_fast.container import SilkReader, SilkWriter
from silk_fast.errors import SilkFormatError, SilkInputError
from tests.container.support import (
    END_BYTES,
    GOLDEN,
    HEADER_BYTES,
    ODD,
    SHA256,
    SILK,
    lost_frames,
    make_tokens,
    recover,
    refused,
    short_file,
    with_crc,
)


@pytest.mark.parametrize("recovering", [False, True])
def test_other_files_versions_and_damaged_headers_are_refused(recovering):
    data, _, _ = short_file("odd")

    def refused(data, message):
        with pytest.raises(SilkFormatError, match=message):
            SilkReader(io.BytesIO(data), recover=recovering)

    refused(b"", "is empty")
    refused(b"RIFF" + data, "not a .silk file")
    refused(data.replace(b"\r\n", b"\n"), "text-mode")
    refused(data.replace(b"\n", b"\r\n"), "text-mode")
    refused(data[:79], "byte 79: file ends within its header of 80 bytes")
    refused(with_crc(data[:8] + b"\2\0" + data[10:76]), "byte 8: format version is 2; .* supports version 1 only")
    refused(with_crc(data[:10] + b"\0\1" + data[12:76]), "byte 10: header size is 256, expected 80")
    refused(with_crc(data[:12] + b"\1\0" + data[14:76]), "byte 12: reserved field is 1, expected 0")
    refused(data[:76] + bytes(4) + data[80:], r"byte 76: header CRC-32 is 0, expected \d+")
    refused(with_crc(data[:16] + b"\1\0" + data[18:76]), r"levels must be an integer in 2\.\.65535, got 1")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dims", 0),
        ("dims", 65_536),
        ("levels", 1),
        ("levels", 8.0),
        ("group_size", 0),
        ("group_size", 11),
        ("sample_rate", 0),
        ("sample_rate", 2**32),
        ("frame_samples", 0),
        ("output_delay", -1),
        ("output_delay", 9600),
        ("n_samples", 0),
        ("n_samples", 2**64 - 1),
        ("frames_per_block", 0),
        ("frames_per_block", 2**20 // 48 + 1),
        ("frames_per_block", True),
        ("weights_sha256", SHA256.upper()),
        ("weights_sha256", SHA256[:-1]),
    ],
)
def test_header_names_the_field_at_fault(field, value):
    with pytest.raises(SilkFormatError, match=f"^{field} .*{value}" if field != "group_size" else field):
        replace(SILK, **{field: value})


def test_size_end_marker_and_trailing_bytes_are_checked():
    expected = {  # for one byte too many, and for a count of 467 in the end marker
        "odd": ("file size for 367 samples is 159, expected 158", "byte 146: end marker's sample count is 467"),
        "odd-pipe": ("byte 139: end marker is", "file size for 467 samples is 158, expected 160"),
    }
    for name, (trailing, other_count) in expected.items():
        data, tokens, n_samples = short_file(name)
        end = len(data) - END_BYTES
        refused(data + b"\0", trailing)
        refused(data[:end] + with_crc(data[end : end + 8] + struct.pack("<Q", n_samples + 100)), other_count)
        refused(data[:end] + with_crc(data[end : end + 4] + b"\7" + data[end + 5 : end + 16]), "number of blocks is 7")
        refused(data[:end] + b"\xf5END" + bytes(16), "end marker's CRC-32 is 0")
        reader, blocks = recover(data + b"trailing", tokens)
        assert (lost_frames(blocks), reader.n_samples, len(reader.damage)) == ([], n_samples, 1)


def test_sound_crc_does_not_excuse_a_wrong_block():
    data, tokens, _ = short_file("odd")
    head = struct.Struct("<4s I I")
    payload = data[92:96]

    def with_block(block):
        return data[:80] + with_crc(block) + data[100:]

    assert with_block(head.pack(b"\xf5BLK", 0, 2) + payload) == data
    refused(with_block(head.pack(b"\xf5BLK", 1, 2) + payload), "byte 84: block index is 1, expected 0")
    refused(with_block(head.pack(b"\xf5BLK", 0, 1) + payload), "byte 88: number of frames is 1, expected 2")
    refused(with_block(head.pack(b"\xf5BLX", 0, 2) + payload), "byte 80: block sync")
    spare = payload[:3] + bytes([payload[3] | 0x80])
    refused(with_block(head.pack(b"\xf5BLK", 0, 2) + spare), "byte 92: block 0, frame 1: spare bit 15 is 1")
    digit = bytes([payload[0] | 7]) + payload[1:]
    refused(
        with_block(head.pack(b"\xf5BLK", 0, 2) + digit), r"byte 92: block 0, frame 0: digit 0 is 7, expected 0\.\.5"
    )
    for block in (spare, digit):
        _, blocks = recover(with_block(head.pack(b"\xf5BLK", 0, 2) + block), tokens)
        assert lost_frames(blocks) == [0, 1]


@pytest.mark.parametrize(("token", "value", "limit"), [(0, 216, 215), (1, 36, 35), (0, -1, 215), (1, 2**40, 35)])
def test_tokens_out_of_range_are_refused_before_anything_is_written(token, value, limit):
    tokens = make_tokens(ODD, 7).astype(np.int64)
    tokens[5, token] = value
    file = io.BytesIO()
    writer = SilkWriter(file, ODD)
    with pytest.raises(SilkFormatError, match=rf"frame 5: token {token} is {value}, expected 0\.\.{limit}"):
        writer.write(tokens)
    assert len(file.getvalue()) == HEADER_BYTES
    assert writer.n_frames == 0


def test_writer_refuses_a_count_that_does_not_fit():
    writer = SilkWriter(io.BytesIO(), ODD)
    writer.write(make_tokens(ODD, 2))
    with pytest.raises(SilkFormatError, match="n_samples must be an integer in 1"):
        writer.close(0)
    with pytest.raises(SilkFormatError, match="161 samples make 3 frames, 2 were written"):
        writer.close(161)
    with pytest.raises(SilkFormatError, match="close needs n_samples"):
        writer.close()
    writer.close(160)
    writer.close(160)
    with pytest.raises(SilkInputError, match="closed"):
        writer.write(make_tokens(ODD, 1))
    with pytest.raises(SilkFormatError, match="the header has 160"):
        SilkWriter(io.BytesIO(), replace(ODD, n_samples=160)).close(159)


def test_a_file_left_by_an_exception_is_refused_as_unfinished():
    def fail_after(n_frames, file, header):
        with SilkWriter(file, header) as writer:
            writer.write(make_tokens(ODD, n_frames))
            raise RuntimeError("stop")

    for header, message in [(GOLDEN["odd"], "file size for 367 samples is 100, expected 158"), (ODD, "end marker")]:
        file = io.BytesIO()
        with pytest.raises(RuntimeError, match="stop"):
            fail_after(3, file, header)
        refused(file.getvalue(), message)


def test_leaving_a_writer_needs_a_sample_count():
    with SilkWriter(file := io.BytesIO(), GOLDEN["odd"]) as writer:
        writer.write(make_tokens(ODD, 5))
    assert file.getvalue() == short_file("odd")[0]
    with pytest.raises(SilkFormatError, match="close needs n_samples"), SilkWriter(io.BytesIO(), ODD):
        pass
