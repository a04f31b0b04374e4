"""One clip of a corpus, from its plan to its file."""

import os
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from silk_fast.audio import save
from silk_fast.corpus import RATE
from silk_fast.corpus.engines import speak
from silk_fast.corpus.manifest import Row
from silk_fast.corpus.plan import ClipPlan, CorpusSettings, plan_clip
from silk_fast.corpus.room import augment
from silk_fast.corpus.text import draw_sentence, word_list
from silk_fast.errors import SilkAudioError
from silk_fast.files import cannot_write

SECONDS = (4.0, 15.0)  # a clip's shortest and longest duration

_TRIES = 12  # texts per clip, each made longer or shorter than the one before


def clip_path(index: int) -> str:
    """Name the file of clip ``index``, below the corpus folder."""
    return f"clips/{index // 1000:03d}/{index:06d}.flac"


def make_clip(folder: str | os.PathLike, settings: CorpusSettings, index: int) -> Row:
    """Speak, augment and write clip ``index``; returns its line of the manifest.

    Raises:
        SilkAudioError: an engine fails.
        SilkFileError: the file cannot be written.
    """
    plan = plan_clip(settings, index)
    text, speech = _speak_to_length(plan, np.random.default_rng([settings.seed, index, 1]))
    samples, augmentation = augment(speech, np.random.default_rng([settings.seed, index, 2]))
    path = Path(folder, clip_path(index))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(str(path.parent), error) from error
    save(path, samples, RATE)
    row = {"path": clip_path(index), **asdict(plan), "text": text, "seconds": len(samples) / RATE, **augmentation}
    del row["target_seconds"]
    return {**row, "crc32": zlib.crc32(path.read_bytes())}


def is_intact(folder: str | os.PathLike, row: Row) -> bool:
    """Tell whether the file of a clip is there and as its line of the manifest says."""
    try:
        return zlib.crc32(Path(folder, row["path"]).read_bytes()) == row["crc32"]
    except OSError:
        return False


def _speak_to_length(plan: ClipPlan, random: np.random.Generator) -> tuple[str, np.ndarray]:
    """Draw a text and speak it: float32 ``[T]``, of 4 to 15 s."""
    source = word_list(plan.language)
    # eSpeak NG measures speed in short words.
    words_per_minute = 0.7 * plan.speed if plan.engine == "espeak-ng" else 170 / plan.speed
    words: list[str] = []
    while len(words) < plan.target_seconds * words_per_minute / 60:
        words += draw_sentence(source, random)
    for _ in range(_TRIES):
        samples = speak(plan, text := " ".join(words))
        seconds = len(samples) / RATE
        if seconds > SECONDS[1] - 0.5:  # half a second is for the lead and the room
            words = words[: max(1, int(len(words) * 0.9 * SECONDS[1] / seconds))]
            words[-1] = words[-1].rstrip(".,?!") + "."
        elif seconds < SECONDS[0]:
            words += draw_sentence(source, random)
        else:
            return text, samples
    raise SilkAudioError(f"{plan.engine}: {seconds:.1f} s for {text!r}, expected {SECONDS[0]:g} to {SECONDS[1]:g} s")
