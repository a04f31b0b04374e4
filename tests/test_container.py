"""``.silk`` files: golden bytes, every truncation, every bit flip, round trips, recovery, seeking, refusals."""

import hashlib
import io
import math
import random
import re
import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silk_fast.container import SilkHeader, SilkReader, SilkWriter, bytes_to_tokens, tokens_to_bytes
from silk_fast.errors import SilkFormatError, SilkInputError

ROOT = Path(__file__).parent.parent
HEADER_BYTES, BLOCK_EXTRA_BYTES, END_BYTES = 80, 16, 20  # as docs/format.md says
SHA256 = hashlib.sha256(b"weights").hexdigest()
SILK = SilkHeader(
    dims=128, levels=8, group_size=7, sample_rate=24_000, frame_samples=9600, weights_sha256=SHA256, frames_per_block=2
)
ODD = SilkHeader(  # 15 bits a frame in 2 bytes, digits 6 and 7 invalid, tokens of 3 and 2 digits
    dims=5,
    levels=6,
    group_size=3,
    sample_rate=16_000,
    frame_samples=100,
    output_delay=40,
    weights_sha256=SHA256,
    frames_per_block=2,
)
GOLDEN = {"silk": replace(SILK, n_samples=2 * 9600 + 1), "odd": replace(ODD, n_samples=4 * 100 - 40 + 7)}


class Pipe(io.RawIOBase):
    """A stream that can only be written."""

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += data
        return len(data)


def token_limits(header):
    digits = [header.group_size] * header.tokens_per_frame
    digits[-1] = header.dims - header.group_size * (header.tokens_per_frame - 1)
    return [header.levels**n for n in digits]


def make_tokens(header, n_frames, seed=0):
    """Random tokens ``[F, G]`` that no release of numpy or Python changes."""
    rng, limits = random.Random(seed), token_limits(header)
    tokens = [int(rng.random() * limit) for _ in range(n_frames) for limit in limits]
    return np.array(tokens, np.int32).reshape(n_frames, len(limits))


def write(header, tokens, n_samples, file=None):
    file = file or io.BytesIO()
    writer = SilkWriter(file, header)
    writer.write(tokens)
    writer.close(n_samples)
    return file.getvalue() if isinstance(file, io.BytesIO) else file.data


def short_file(name):
    """Bytes, tokens and sample count of a short file; ``-pipe``: the header does not know the count."""
    header = GOLDEN[name.removesuffix("-pipe")]
    tokens = make_tokens(header, header.n_frames)
    if name.endswith("-pipe"):
        return write(replace(header, n_samples=None), tokens, header.n_samples, Pipe()), tokens, header.n_samples
    return write(header, tokens, header.n_samples), tokens, header.n_samples


def read_strictly(data):
    return np.concatenate([block.tokens for block in SilkReader(io.BytesIO(data)).blocks()])


def recover(data, truth):
    """The recovering reader and its blocks, which must be in order, without gaps, and true where not lost."""
    reader = SilkReader(io.BytesIO(data), recover=True)
    blocks, frame = list(reader.blocks()), 0
    for block in blocks:
        assert block.first_frame == frame
        frame += block.n_frames
        if block.tokens is not None:
            np.testing.assert_array_equal(block.tokens, truth[block.first_frame : frame])
    assert frame == reader.n_frames
    assert reader.damage or read_strictly(data) is not None
    assert sum(d.n_frames for d in reader.damage) == sum(b.n_frames for b in blocks if b.tokens is None)
    return reader, blocks


def lost_frames(blocks):
    return [i for b in blocks if b.tokens is None for i in range(b.first_frame, b.first_frame + b.n_frames)]


def with_crc(data):
    return data + struct.pack("<I", zlib.crc32(data))


def with_header(data, header):
    return header.to_bytes() + data[HEADER_BYTES:]


FILES = pytest.mark.parametrize("name", ["silk", "odd", "silk-pipe", "odd-pipe"])


# Bytes


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_file_is_written_and_read(name):
    header, golden = GOLDEN[name], (ROOT / f"tests/data/{name}_v1.silk").read_bytes()
    tokens = make_tokens(header, header.n_frames)
    assert write(header, tokens, header.n_samples) == golden
    reader = SilkReader(io.BytesIO(golden))
    assert reader.header == header
    assert (reader.n_samples, reader.n_frames, reader.n_blocks) == (header.n_samples, len(tokens), len(tokens) + 1 >> 1)
    np.testing.assert_array_equal(read_strictly(golden), tokens)


def test_documented_example_is_the_golden_file():
    section = (ROOT / "docs/format.md").read_text().split("## Example")[1]
    rows = re.findall(r"^\d+ +((?:[0-9a-f]{2}(?: |$))+)", section, re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == (ROOT / "tests/data/odd_v1.silk").read_bytes()


@pytest.mark.parametrize("header", [SILK, ODD], ids=["silk", "odd"])
def test_packing_is_the_digits_as_one_little_endian_number(header):
    tokens = make_tokens(header, 3, seed=1)
    expected = b""
    for frame in tokens.tolist():
        digits = [token // header.levels**i % header.levels for token in frame for i in range(header.group_size)]
        number = sum(digit << 3 * i for i, digit in enumerate(digits[: header.dims]))
        expected += number.to_bytes(math.ceil(header.dims * 3 / 8), "little")
    assert tokens_to_bytes(tokens, header) == expected
    unpacked = bytes_to_tokens(expected, header)
    assert unpacked.dtype == np.int32
    np.testing.assert_array_equal(unpacked, tokens)


def test_silk_frame_is_48_bytes_and_19_tokens():
    assert (SILK.bits_per_digit, SILK.frame_bytes, SILK.tokens_per_frame, SILK.block_bytes) == (3, 48, 19, 112)
    assert len(SILK.to_bytes()) == HEADER_BYTES
    assert SILK.n_frames is None
    assert [replace(ODD, n_samples=n).n_frames for n in (1, 60, 61, 160, 161)] == [1, 1, 2, 2, 3]


@FILES
def test_pipe_and_file_differ_in_the_header_only(name):
    data, tokens, n_samples = short_file(name)
    reader = SilkReader(io.BytesIO(data))
    assert reader.n_samples == n_samples
    np.testing.assert_array_equal(read_strictly(data), tokens)
    assert with_header(data, reader.header) == short_file(name.removesuffix("-pipe"))[0]


@pytest.mark.parametrize("prefix", [b"", b"other data"])
def test_count_is_filled_in_where_the_file_can_seek(prefix):
    tokens = make_tokens(ODD, 5)
    file = io.BytesIO(prefix)
    file.seek(len(prefix))
    data = write(ODD, tokens, 367, file)
    assert file.tell() == len(data)
    assert data == prefix + short_file("odd")[0]


# Round trips


@st.composite
def headers(draw):
    levels = draw(st.integers(2, 12) | st.sampled_from([256, 1000, 32_768, 46_340]))
    group_size = draw(st.integers(1, int(31 / math.log2(levels))))
    frame_samples = draw(st.integers(1, 10_000))
    return SilkHeader(
        dims=draw(st.integers(1, 40)),
        levels=levels,
        group_size=group_size,
        sample_rate=draw(st.integers(1, 2**32 - 1)),
        frame_samples=frame_samples,
        output_delay=draw(st.integers(0, frame_samples - 1)),
        weights_sha256=SHA256,
        frames_per_block=draw(st.integers(1, 7)),
    )


@settings(max_examples=150, deadline=None)
@given(headers(), st.lists(st.integers(0, 9), max_size=6), st.data())
def test_round_trip(header, chunks, data):
    n_frames = sum(chunks) + 1
    tokens = make_tokens(header, n_frames, seed=n_frames)
    most = n_frames * header.frame_samples - header.output_delay
    n_samples = data.draw(st.integers(max(1, most - header.frame_samples + 1), most))
    file = io.BytesIO() if data.draw(st.booleans()) else Pipe()
    known = data.draw(st.booleans())
    with SilkWriter(file, replace(header, n_samples=n_samples) if known else header) as writer:
        for chunk in np.split(tokens, np.cumsum(chunks)):
            writer.write(chunk)
        writer.close(n_samples)
    stored = file.getvalue() if isinstance(file, io.BytesIO) else file.data
    reader = SilkReader(io.BytesIO(stored))
    assert reader.header == replace(header, n_samples=n_samples)
    assert len(stored) == HEADER_BYTES + reader.n_blocks * BLOCK_EXTRA_BYTES + n_frames * header.frame_bytes + END_BYTES
    np.testing.assert_array_equal(read_strictly(stored), tokens)
    first = data.draw(st.integers(0, n_frames))
    count = data.draw(st.integers(0, n_frames - first))
    np.testing.assert_array_equal(reader.read(first, count), tokens[first : first + count])
    recovering, blocks = recover(stored, tokens)
    assert recovering.damage == []
    assert lost_frames(blocks) == []


def test_every_range_can_be_read_alone():
    data, tokens, _ = short_file("odd-pipe")
    reader = SilkReader(io.BytesIO(data))
    for first in range(len(tokens) + 1):
        for stop in range(first, len(tokens) + 1):
            np.testing.assert_array_equal(reader.read(first, stop - first), tokens[first:stop])
    for first, count in [(-1, 1), (0, len(tokens) + 1), (2, -1), (len(tokens) + 1, 0)]:
        with pytest.raises(SilkInputError, match=r"are not within 0\.\.5"):
            reader.read(first, count)


def test_reading_a_frame_touches_its_block_only():
    data, tokens, _ = short_file("odd")
    spoiled = bytearray(data)
    spoiled[HEADER_BYTES + 14] ^= 1  # in block 0
    reader = SilkReader(io.BytesIO(spoiled))
    np.testing.assert_array_equal(reader.read(2, 3), tokens[2:])
    with pytest.raises(SilkFormatError, match="byte 96: block CRC-32"):
        reader.read(1, 2)


# Damage


@FILES
def test_truncation_anywhere(name):
    data, tokens, n_samples = short_file(name)
    block_ends = [*range(HEADER_BYTES, len(data) - END_BYTES, SilkReader(io.BytesIO(data)).header.block_bytes)][1:]
    block_ends.append(len(data) - END_BYTES)
    for size in range(len(data)):
        with pytest.raises(SilkFormatError):
            read_strictly(data[:size])
        intact = min(len(tokens), 2 * sum(end <= size for end in block_ends))
        if size < HEADER_BYTES or (intact == 0 and name.endswith("-pipe")):
            with pytest.raises(SilkFormatError):
                SilkReader(io.BytesIO(data[:size]), recover=True)
            continue
        reader, blocks = recover(data[:size], tokens)
        if name.endswith("-pipe"):
            header = reader.header
            assert reader.n_frames == intact
            assert reader.n_samples == intact * header.frame_samples - header.output_delay
            assert lost_frames(blocks) == []
        else:
            assert reader.n_samples == n_samples
            assert lost_frames(blocks) == [*range(intact, len(tokens))]
        assert reader.damage


@FILES
def test_flip_of_any_bit(name):
    data, tokens, n_samples = short_file(name)
    block_bytes = SilkReader(io.BytesIO(data)).header.block_bytes
    for bit in range(8 * len(data)):
        spoiled = bytearray(data)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SilkFormatError):
            read_strictly(spoiled)
        if bit // 8 < HEADER_BYTES:
            with pytest.raises(SilkFormatError):
                SilkReader(io.BytesIO(spoiled), recover=True)
            continue
        reader, blocks = recover(spoiled, tokens)
        if bit // 8 < len(data) - END_BYTES:
            first = (bit // 8 - HEADER_BYTES) // block_bytes * 2
            assert lost_frames(blocks) == [*range(first, min(first + 2, len(tokens)))]
            assert reader.n_samples == n_samples
        else:
            assert lost_frames(blocks) == []
            assert reader.n_samples >= n_samples
        assert len(reader.damage) == 1


@FILES
@settings(max_examples=60, deadline=None)
@given(draw=st.data())
def test_bytes_inserted_or_deleted(name, draw):
    data, tokens, n_samples = short_file(name)
    block_bytes = SilkReader(io.BytesIO(data)).header.block_bytes
    at = draw.draw(st.integers(HEADER_BYTES, len(data)))
    junk = draw.draw(st.binary(max_size=200))
    gone = draw.draw(st.integers(0 if junk else 1, 40))
    spoiled = data[:at] + junk + data[at + gone :]
    touched = {(i - HEADER_BYTES) // block_bytes for i in range(at, min(at + gone, len(data) - END_BYTES))}
    if at < len(data) - END_BYTES and (at - HEADER_BYTES) % block_bytes:
        touched.add((at - HEADER_BYTES) // block_bytes)
    if spoiled == data:
        return
    if len(touched) == -(-len(tokens) // 2) and name.endswith("-pipe") and at + gone > len(data) - END_BYTES:
        return  # neither a block nor a count is left
    reader, blocks = recover(spoiled, tokens)
    # bytes that happen to equal the lost ones may leave a block intact, so "at most" and not "exactly"
    assert {i // 2 for i in lost_frames(blocks)} <= touched
    if len(data) - END_BYTES >= at + gone or not name.endswith("-pipe"):
        assert reader.n_samples == n_samples


def test_inserted_bytes_cost_no_frame_between_blocks_and_one_block_within():
    data, tokens, _ = short_file("odd")
    for at, lost in [(100, []), (101, [2, 3])]:  # block 1 starts at byte 100
        reader, blocks = recover(data[:at] + b"\xf5BLK junk \xf5END" + data[at:], tokens)
        assert lost_frames(blocks) == lost
        assert [(d.first_frame, d.n_frames, d.offset) for d in reader.damage] == [(2, len(lost), 100)]


def test_a_whole_block_taken_out_is_reported_lost():
    data, tokens, _ = short_file("silk")
    reader, blocks = recover(data[:80] + data[192:], tokens)
    assert [(b.first_frame, b.n_frames, b.tokens is None) for b in blocks] == [(0, 2, True), (2, 1, False)]
    assert [(d.first_frame, d.n_frames, d.offset) for d in reader.damage] == [(0, 2, 80)]
    assert "block index is 1, expected 0" in reader.damage[0].reason


def test_a_stale_copy_of_an_earlier_block_is_passed_over():
    data, tokens, _ = short_file("odd")
    reader, blocks = recover(data[:110] + data[80:100] + data[110:], tokens)  # block 0 again, within block 1
    assert lost_frames(blocks) == [2, 3]
    assert [(d.first_frame, d.n_frames, d.offset) for d in reader.damage] == [(2, 2, 100)]


def test_blocks_can_be_read_twice_and_damage_is_not_counted_twice():
    data, tokens, _ = short_file("odd")
    reader, blocks = recover(data[:90] + data[91:], tokens)
    before = list(reader.damage)
    assert [b.first_frame for b in reader.blocks()] == [b.first_frame for b in blocks]
    assert reader.damage == before


def test_resync_finds_a_block_across_search_windows():
    header = replace(SILK, frames_per_block=1, n_samples=9600 * 2)
    tokens = make_tokens(header, 2)
    data = write(header, tokens, header.n_samples)
    for junk in range(2**16 - 70, 2**16 + 2):
        spoiled = data[:144] + bytes(junk) + data[144:]
        reader, blocks = recover(spoiled, tokens)
        assert lost_frames(blocks) == []
        assert [d.offset for d in reader.damage] == [144]


# Refusals


def refused(data, message):
    with pytest.raises(SilkFormatError, match=message):
        read_strictly(data)


@pytest.mark.parametrize("recovering", [False, True])
def test_other_files_versions_and_damaged_headers_are_refused(recovering):
    data, _, _ = short_file("odd")

    def refused(data, message):
        with pytest.raises(SilkFormatError, match=message):
            SilkReader(io.BytesIO(data), recover=recovering)

    refused(b"", "not a .silk file")
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


def test_packed_bytes_are_checked():
    with pytest.raises(SilkFormatError, match="3 bytes are not whole frames of 2 bytes"):
        bytes_to_tokens(bytes(3), ODD)
    with pytest.raises(SilkFormatError, match="frame 1: spare bit 15 is 1, expected 0"):
        bytes_to_tokens(b"\0\0\0\x80", ODD)
    with pytest.raises(SilkFormatError, match=r"frame 1: digit 4 is 6, expected 0\.\.5"):
        bytes_to_tokens(b"\0\0\0\x60", ODD)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.uint64])
def test_any_integer_dtype_is_packed_alike(dtype):
    tokens = make_tokens(ODD, 6)
    assert tokens_to_bytes(tokens.astype(dtype), ODD) == tokens_to_bytes(tokens, ODD)


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


@pytest.mark.parametrize("tokens", [np.zeros((2, 3), int), np.zeros(2, int), np.zeros((2, 2)), np.zeros((2, 2), bool)])
def test_tokens_of_another_shape_or_dtype_are_refused(tokens):
    with pytest.raises(SilkInputError, match=r"tokens must be integers \[F, 2\], got"):
        tokens_to_bytes(tokens, ODD)


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


# Memory


def peak_bytes(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_sizes_that_lie_allocate_nothing():
    data, _, _ = short_file("silk")
    claim = with_header(data, replace(GOLDEN["silk"], n_samples=2**60))
    assert peak_bytes(lambda: refused(claim, rf"file size for {2**60} samples is {len(data)}, expected \d+")) < 2**16
    reader = SilkReader(io.BytesIO(claim), recover=True)
    assert peak_bytes(lambda: np.testing.assert_equal(next(reader.blocks()).n_frames, 2)) < 2**16

    far = SilkReader(io.BytesIO(with_header(data, replace(SILK, frame_samples=1, n_samples=2**63))), recover=True)
    with pytest.raises(SilkFormatError, match=f"the file ends at {len(data)}"):
        far.read(2**62, 1)


@pytest.mark.parametrize(("claimed", "stored"), [(0, 0), (3, 3), (2**32 - 1, 1)])
def test_block_of_too_many_frames_is_not_read(claimed, stored):
    pipe, _, _ = short_file("silk-pipe")
    spoiled = pipe[:192] + with_crc(struct.pack("<4s I I", b"\xf5BLK", 1, claimed) + bytes(48 * stored))
    assert peak_bytes(lambda: SilkReader(io.BytesIO(spoiled), recover=True)) < 2**18
    assert SilkReader(io.BytesIO(spoiled), recover=True).n_frames == 2


def test_memory_does_not_grow_with_the_file(tmp_path):
    header = replace(SILK, frames_per_block=64)
    tokens = make_tokens(header, 64)
    path = tmp_path / "long.silk"

    def write_and_read(n_blocks):
        with path.open("wb") as file, SilkWriter(file, header) as writer:
            for _ in range(n_blocks):
                writer.write(tokens)
            writer.close(n_blocks * 64 * 9600)
        with path.open("rb") as file:
            for recovering in (False, True):
                assert all((b.tokens == tokens).all() for b in SilkReader(file, recover=recovering).blocks())

    write_and_read(1)
    assert peak_bytes(lambda: write_and_read(200)) < peak_bytes(lambda: write_and_read(4)) + 2**16
