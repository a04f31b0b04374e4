"""What is written is read, whole or in part, in memory that does not grow."""

import io
import math
import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silk_fast.container import SilkHeader, SilkReader, SilkWriter
from silk_fast.errors import SilkFormatError, SilkInputError
from tests.container.support import (
    BLOCK_EXTRA_BYTES,
    END_BYTES,
    GOLDEN,
    HEADER_BYTES,
    SHA256,
    SILK,
    Pipe,
    lost_frames,
    make_tokens,
    read_strictly,
    recover,
    refused,
    short_file,
    with_crc,
    with_header,
)


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
