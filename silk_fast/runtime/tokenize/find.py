"""Which kind of source a path is."""

import os

from silk_fast.arguments import shown_text
from silk_fast.audio import SUFFIXES
from silk_fast.errors import SilkInputError
from silk_fast.runtime.tokenize.archives import TARS, Archives
from silk_fast.runtime.tokenize.folder import Folder, walk
from silk_fast.runtime.tokenize.manifest import Manifest
from silk_fast.runtime.tokenize.sources import Source
from silk_fast.runtime.tokenize.tables import Tables

MANIFESTS = (".jsonl", ".ndjson", ".csv")
PARQUETS = (".parquet",)


def open_source(path: str, out: str) -> Source:
    """Open a source: a folder of audio files, archives or Parquet files; or a manifest, an archive, a Parquet file.

    Args:
        out: folder of the output, which may be within the source and is no part of it.

    Raises:
        SilkInputError: it is none of these, or cannot be read.
    """
    if os.path.isdir(path):
        return _of_folder(path, out)
    root, name = os.path.split(path)
    lower = name.lower()
    if not os.path.isfile(path) or not lower.endswith((*MANIFESTS, *TARS, *PARQUETS)):
        what = "is none of the kinds that are known" if os.path.exists(path) else "is not there"
        raise SilkInputError(
            f"{shown_text(path)}: {what}, expected a folder, a manifest ({', '.join(MANIFESTS)}), "
            f"an archive ({', '.join(TARS)}) or {PARQUETS[0]}"
        )
    if lower.endswith(MANIFESTS):
        return Manifest(path)
    return Archives(root, [name]) if lower.endswith(TARS) else Tables(root, [name])


def _of_folder(path: str, out: str) -> Source:
    """Open a folder as what it has: audio files if there are any, else archives, else Parquet files."""
    if any(not why for _, why in walk(path, SUFFIXES, out)):
        return Folder(path, out)
    for suffixes, kind in ((TARS, Archives), (PARQUETS, Tables)):
        if paths := [name for name, why in walk(path, suffixes, out) if not why]:
            return kind(path, paths)
    return Folder(path, out)
