"""Every truncation, every bit flip, bytes inserted and deleted: nothing wrong is read, and what is intact is found."""

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silk_fast.container import SilkReader
from silk_fast.errors import SilkFormatError
from tests.container.support import (
    END_BYTES,
    FILES,
    HEADER_BYTES,
    SILK,
    lost_frames,
    make_tokens,
    read_strictly,
    recover,
    short_file,
    write,
)


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
