"""Who speaks what in a corpus: split so that held-out means held out, and texts."""

from dataclasses import replace

import pytest

from silk_fast.corpus.plan import SPLITS, CorpusSettings, plan_clip
from silk_fast.corpus.text import in_charset, word_list
from silk_fast.corpus.voices import (
    DIALECTS,
    FESTIVAL_VOICES,
    HELDOUT_SPEAKERS,
    HELDOUT_VARIANTS,
    TRAIN_SPEAKERS,
    TRAIN_VARIANTS,
)

SETTINGS = CorpusSettings(0, tuple(sorted(DIALECTS)), {"espeak-ng": "1.51", "flite": "2.2"})
WITH_FESTIVAL = replace(SETTINGS, engines={**SETTINGS.engines, "festival": "2.5.0"})


def test_held_out_is_held_out():
    plans = [plan_clip(SETTINGS, index) for index in range(4000)]
    by_split = {split: [plan for plan in plans if plan.split == split] for split in SPLITS}
    assert [len(clips) for clips in by_split.values()] == [3500, 100, 200, 200]
    voices = {split: {(plan.engine, plan.voice) for plan in clips} for split, clips in by_split.items()}
    languages = {split: {plan.language for plan in clips} for split, clips in by_split.items()}
    assert not voices["heldout-voice"] & voices["train"]
    assert languages["heldout-language"] == {"pl", "sv"}
    assert not languages["heldout-language"] & languages["train"]
    assert languages["heldout-voice"] <= languages["train"]
    assert voices["validation"] <= voices["train"]
    assert voices["heldout-language"] <= voices["train"]
    assert {voice for engine, voice in voices["train"] if engine == "flite"} == {"kal16", "rms", "slt"}
    assert len(voices["train"]) == len(TRAIN_VARIANTS) + len(TRAIN_SPEAKERS)


def test_festival_speaks_what_is_not_held_out_and_changes_nothing_else():
    plans = [plan_clip(WITH_FESTIVAL, index) for index in range(4000)]
    spoken = [plan for plan in plans if plan.engine == "festival"]
    assert {plan.split for plan in spoken} == {"train", "validation"}
    assert {plan.voice for plan in spoken} == set(FESTIVAL_VOICES)
    assert all(plan.language == FESTIVAL_VOICES[plan.voice][0] for plan in spoken)
    assert 1340 <= len(spoken) <= 1540  # 40 % of 3600, three standard deviations and some
    assert {plan.pitch for plan in spoken} == set(range(85, 119))
    for plan in plans:
        if plan.split.startswith("heldout"):
            assert plan == plan_clip(SETTINGS, plan.index)


def test_festival_speaks_chosen_languages_only():
    for languages, expected in ((("de", "fi"), {"fi"}), (("de",), set())):
        plans = [plan_clip(replace(WITH_FESTIVAL, languages=languages), index) for index in range(200)]
        assert {plan.language for plan in plans if plan.engine == "festival"} == expected


def test_voices_are_in_one_list_only():
    assert not set(TRAIN_VARIANTS) & set(HELDOUT_VARIANTS)
    assert not set(TRAIN_SPEAKERS) & set(HELDOUT_SPEAKERS)


def test_plans_cover_the_stated_ranges():
    plans = [plan_clip(SETTINGS, index) for index in range(2000)]
    spoken = [plan for plan in plans if plan.engine == "espeak-ng"]
    assert {plan.language for plan in spoken} == set(DIALECTS)
    assert min(plan.speed for plan in spoken) == 120
    assert max(plan.speed for plan in spoken) == 240
    assert min(plan.pitch for plan in spoken) == 10
    assert max(plan.pitch for plan in spoken) == 90
    stretches = [plan.speed for plan in plans if plan.engine == "flite"]
    assert 0.8 <= min(stretches) < 0.82
    assert 1.28 < max(stretches) <= 1.3


def test_seed_and_index_decide_the_plan():
    assert plan_clip(SETTINGS, 7) == plan_clip(SETTINGS, 7)
    other = CorpusSettings(1, SETTINGS.languages, SETTINGS.engines)
    assert plan_clip(SETTINGS, 7) != plan_clip(other, 7)


@pytest.mark.parametrize("language", DIALECTS)
def test_word_lists(language):
    words = word_list(language)
    assert 150 <= len(words) == len(set(words))
    assert all(word.replace("'", "").replace("-", "").isalpha() for word in words)


def test_letters_that_a_charset_lacks_lose_their_accents():
    assert in_charset("Città äöß", "ascii") == b"Citta ao"
    assert in_charset("Città äöß", "latin-1") == "Città äöß".encode("latin-1")
