"""The pages of an Ogg file (RFC 3533) and the sizes of the packets in them; what the packets hold is never read."""

import io
import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple


class Page(NamedTuple):
    """A page, as its header describes it.

    Args:
        is_first: whether a logical stream begins with it.
        lacing: sizes of its segments in bytes; a packet ends with the first of them below 255.
        end: offset in bytes behind it, which a file that is cut short does not reach.
    """

    is_first: bool
    lacing: bytes
    end: int


def pages(file: BinaryIO | io.FileIO) -> Iterator[Page]:
    """Read the headers of all pages, from the start of a file that can seek until something else than a page comes."""
    file.seek(0)
    while len(head := file.read(27)) == 27 and head[:4] == b"OggS":
        lacing = file.read(head[26])
        yield Page(bool(head[5] & 2), lacing, file.seek(sum(lacing), os.SEEK_CUR))


def packet_sizes(file: BinaryIO) -> list[int]:
    """List the bytes of every packet of a file with one logical stream; headers are packets too."""
    sizes, size = [], 0
    for page in pages(file):
        for segment in page.lacing:
            size += segment
            if segment < 255:
                sizes.append(size)
                size = 0
    return sizes
