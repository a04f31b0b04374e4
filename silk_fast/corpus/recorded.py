"""A corpus of recorded people, from packages of Debian: prompts and dialogues, joined to clips of some seconds.

Every clip is one speaker's; what is joined lies side by side in the package. Languages of :data:`HELDOUT` are for
evaluation and are in no other split.
"""

import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from silk_fast.audio import AudioReader, save
from silk_fast.corpus.manifest import MANIFEST, SUMMARY, Row, write_manifest
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.files import atomic_file, cannot_write

VERSION = 1  # of what the same packages make
HELDOUT = ("it", "ru")
SPLITS = ("train", "validation", "heldout-speaker")
VALIDATION_EVERY = 20  # clips of a speaker
JOINED_SECONDS = 8.0  # a clip's shortest duration, where a speaker says so much
PAUSE_SECONDS = 0.25
SILENT = 1e-3  # peak of a recording that says nothing
G722_RATE, G722_BANDWIDTH = 16_000, 7_000.0  # Hz; ITU-T G.722


@dataclass(frozen=True)
class Package:
    """Recordings in a package of Debian.

    Args:
        name: of the package.
        language: that is spoken.
        folder: whose files it holds.
        pattern: of the files, below the folder.
        bandwidth: Hz, up to which they hold speech.
        licence: of the recordings.
        speakers: the speaker of every file, by a word of its name; or of all, by ``""``.
    """

    name: str
    language: str
    folder: Path
    pattern: str
    bandwidth: float
    licence: str
    speakers: dict[str, str]

    @property
    def recordings(self) -> list[Path]:
        """Its files, sorted; none where it is not installed."""
        return sorted(path for path in self.folder.glob(self.pattern) if path.is_file())

    def speaker(self, path: Path) -> str:
        """Who speaks; of dialogues by the letter of a figure in the file's name."""
        words = path.stem.split("-")
        return next((name for word, name in self.speakers.items() if word in words), self.speakers.get("", "others"))
