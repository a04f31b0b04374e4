"""Bytes of ``.silk`` files: golden files, the documented example, packing, pipes."""

import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from silk_fast.container import SilkReader, bytes_to_tokens, tokens_to_bytes
from silk_fast.errors import SilkFormatError, SilkInputError
from tests.container.support import (
    FILES,
    GOLDEN,
    HEADER_BYTES,
    ODD,
    SILK,
    make_tokens,
    read_strictly,
    short_file,
    with_header,
    write,
)
from tests.support import ROOT


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


@pytest.mark.parametrize("tokens", [np.zeros((2, 3), int), np.zeros(2, int), np.zeros((2, 2)), np.zeros((2, 2), bool)])
def test_tokens_of_another_shape_or_dtype_are_refused(tokens):
    with pytest.raises(SilkInputError, match=r"tokens must be integers \[F, 2\], got"):
        tokens_to_bytes(tokens, ODD)
