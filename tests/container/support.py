"""Headers, tokens and whole ``.silk`` files to read and to spoil."""

import hashlib
import io
import random
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from silk_fast.container import SilkHeader, SilkReader, SilkWriter
from silk_fast.errors import SilkFormatError

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
FILES = pytest.mark.parametrize("name", ["silk", "odd", "silk-pipe", "odd-pipe"])


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


def refused(data, message):
    with pytest.raises(SilkFormatError, match=message):
        read_strictly(data)
