"""Who speaks a clip of a corpus, and how: drawn from seed and index."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from silk_fast.corpus.voices import (
    DIALECTS,
    FESTIVAL_VOICES,
    HELDOUT_LANGUAGES,
    HELDOUT_SPEAKERS,
    HELDOUT_VARIANTS,
    TRAIN_SPEAKERS,
    TRAIN_VARIANTS,
)

SPLITS = ("train", "validation", "heldout-voice", "heldout-language")

_FESTIVAL_SHARE = 0.4  # of the clips of voices that are not held out
_FLITE_SHARE = 0.2  # of the other clips of a split that has English
_SLOTS = {39: "validation", 9: "heldout-voice", 29: "heldout-voice", 19: "heldout-language", 34: "heldout-language"}


@dataclass(frozen=True)
class CorpusSettings:
    """What, beside its index, decides a clip.

    ``engines`` gives the version of each engine in use by its name, ``"espeak-ng"`` and possibly ``"flite"`` and
    ``"festival"``.
    """

    seed: int
    languages: tuple[str, ...]
    engines: dict[str, str]

    @property
    def train_languages(self) -> tuple[str, ...]:
        return tuple(language for language in self.languages if language not in HELDOUT_LANGUAGES)

    @property
    def heldout_languages(self) -> tuple[str, ...]:
        return tuple(language for language in self.languages if language in HELDOUT_LANGUAGES)


@dataclass(frozen=True)
class ClipPlan:
    """Who speaks a clip, and how.

    ``speed`` is in words per minute for eSpeak NG and a stretch of durations for the others; ``pitch`` is eSpeak NG's
    0..99, Flite's mean in Hz, or for Festival the percentage of its speed at which the voice is played, formants and
    all; ``gap`` is the pause between words in steps of 10 ms at eSpeak NG's default speed;
    ``target_seconds`` is about what the first text is to last.
    """

    index: int
    split: str
    engine: str
    voice: str
    language: str
    dialect: str
    speed: float
    pitch: int
    gap: int
    target_seconds: float


def plan_clip(settings: CorpusSettings, index: int) -> ClipPlan:
    """Draw split, engine, voice and manner of clip ``index``; the split depends on the index alone."""
    random = np.random.default_rng([settings.seed, index, 0])
    split = _SLOTS.get(index % 40, "train")
    if split == "heldout-language" and not settings.heldout_languages:
        split = "train"
    is_heldout_voice = split == "heldout-voice"
    languages = settings.heldout_languages if split == "heldout-language" else settings.train_languages
    readers = [voice for voice, (language, _) in FESTIVAL_VOICES.items() if language in languages]
    has_festival = "festival" in settings.engines and split in ("train", "validation") and readers
    use_festival = has_festival and random.random() < _FESTIVAL_SHARE
    has_flite = "flite" in settings.engines and "en" in languages
    use_flite = not use_festival and has_flite and random.random() < _FLITE_SHARE
    target_seconds = round(random.uniform(3.0, 12.0), 2)
    clip = partial(ClipPlan, index=index, split=split, target_seconds=target_seconds)
    if use_festival:
        voice = str(random.choice(readers))
        language = FESTIVAL_VOICES[voice][0]
        return clip(
            engine="festival",
            voice=voice,
            language=language,
            dialect=language,
            speed=round(random.uniform(0.8, 1.3), 2),
            pitch=int(random.integers(85, 119)),
            gap=0,
        )
    if use_flite:
        return clip(
            engine="flite",
            voice=str(random.choice(HELDOUT_SPEAKERS if is_heldout_voice else TRAIN_SPEAKERS)),
            language="en",
            dialect="en",
            speed=round(random.uniform(0.8, 1.3), 2),
            pitch=int(random.integers(80, 251)),
            gap=0,
        )
    language = str(random.choice(languages))
    return clip(
        engine="espeak-ng",
        voice=str(random.choice(HELDOUT_VARIANTS if is_heldout_voice else TRAIN_VARIANTS)),
        language=language,
        dialect=str(random.choice(DIALECTS[language])),
        speed=int(random.integers(120, 241)),
        pitch=int(random.integers(10, 91)),
        gap=int(random.choice([0, 0, 0, 2, 5])),
    )
