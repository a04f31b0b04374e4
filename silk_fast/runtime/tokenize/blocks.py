"""Recordings of a unit as blocks of samples, read in this process."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from silk_fast.audio import AudioReader
from silk_fast.runtime.tokenize.archives import read_archives
from silk_fast.runtime.tokenize.sources import Input, Reader, Recording, read_files
from silk_fast.runtime.tokenize.tables import read_tables

READERS: dict[str, Reader] = {"files": read_files, "tar": read_archives, "parquet": read_tables}


@dataclass(frozen=True)
class Form:
    """Of blocks: ``n_samples`` each, but the last, at ``sample_rate`` in Hz."""

    sample_rate: int
    n_channels: int
    n_samples: int


@dataclass(frozen=True)
class Sound:
    """A recording that is being read.

    Args:
        sha256: of its bytes, in hexadecimal.
        values: of columns that the plan has not.
        n_samples: that its header lets expect; None if it does not tell.
        blocks: float32 ``[n]``, or ``[n, channels]`` of more than one; raise as :class:`AudioReader` does.
    """

    sha256: str
    values: dict[str, Any]
    n_samples: int | None
    blocks: Iterator[np.ndarray]


Heard = tuple[list[Input], AbstractContextManager[Sound]]
"""Inputs that share a recording, and what begins to read it, once: raises what it cannot be opened for."""


def hear(kind: str, root: str, inputs: Iterable[Input], form: Form) -> Iterator[Heard]:
    """Read the recordings of inputs, in their order.

    Args:
        kind: of the source, a key of :data:`READERS`.
        root: folder to which the paths of inputs are relative.
        inputs: of a unit; those that are refused are passed over.
    """
    for some, opening in READERS[kind](root, [one for one in inputs if not one.kind]):
        yield some, _heard(opening, form)


@contextmanager
def _heard(opening: AbstractContextManager[Recording], form: Form) -> Iterator[Sound]:
    with (
        opening as recording,
        AudioReader(recording.file, form.sample_rate, form.n_samples, channels=form.n_channels) as reader,
    ):
        yield Sound(recording.sha256, recording.values, reader.n_samples_estimate, iter(reader))
