"""Engines that speak, where they are installed, and what is said where they are not."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from silk_fast.corpus import engines
from silk_fast.corpus.engines import find_engines, speak
from silk_fast.corpus.plan import plan_clip
from silk_fast.corpus.text import word_list
from silk_fast.corpus.voices import DIALECTS, FESTIVAL_VOICES, HELDOUT_SPEAKERS, PACKAGES, TRAIN_SPEAKERS
from silk_fast.errors import SilkAudioError
from silk_fast.programs import run_program
from tests.corpus.test_plan import SETTINGS, WITH_FESTIVAL
from tests.programs import needs, needs_festival

TRAINING_PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


@needs("espeak-ng")
def test_every_voice_of_the_engines_is_there():
    versions = find_engines()  # raises where a variant is missing
    listed = subprocess.run(["espeak-ng", "--voices"], capture_output=True, text=True, check=True).stdout
    there = {line.split()[1] for line in listed.splitlines()[1:]}
    assert {dialect for dialects in DIALECTS.values() for dialect in dialects} <= there
    if "flite" in versions:
        listed = subprocess.run(["flite", "-lv"], capture_output=True, text=True, check=True).stdout
        assert {*TRAIN_SPEAKERS, *HELDOUT_SPEAKERS} <= set(listed.split())


@needs("flite")
def test_flite_follows_pitch_and_stretch():
    index = next(i for i in range(100) if plan_clip(SETTINGS, i).engine == "flite")
    plan = plan_clip(SETTINGS, index)
    seconds = {}
    for stretch in (0.8, 1.2):
        seconds[stretch] = len(speak(replace(plan, speed=stretch), "The river runs.")) / 24_000
    assert 1.2 < seconds[1.2] / seconds[0.8] < 1.7
    low, high = (speak(replace(plan, pitch=hertz), "The river runs.") for hertz in (90, 240))
    assert not np.array_equal(low, high[: len(low)])


@needs_festival()
@pytest.mark.parametrize("voice", FESTIVAL_VOICES)
def test_festival_follows_speed_and_stretch(voice):
    plan = next(plan for plan in (plan_clip(WITH_FESTIVAL, i) for i in range(100)) if plan.engine == "festival")
    plan = replace(plan, voice=voice, speed=1.0, pitch=100)
    text = " ".join(word_list(FESTIVAL_VOICES[voice][0])[:8])
    plain = speak(plan, text)
    assert np.array_equal(plain, speak(plan, text))
    assert np.sqrt(np.mean(plain**2)) > 0.005
    assert 1.2 < len(plain) / 24_000 < 12
    assert len(speak(replace(plan, pitch=85), text)) == pytest.approx(len(plain) / 0.85, rel=0.001)
    if not voice.endswith(("clunits", "hts")):  # these have durations of their own
        assert 1.1 < len(speak(replace(plan, speed=1.2), text)) / len(plain) < 1.25


def test_an_engine_that_fails_is_named(monkeypatch):
    plan = plan_clip(SETTINGS, 0)
    monkeypatch.setattr(engines, "run_program", lambda command, text=b"": b"no sound")
    with pytest.raises(SilkAudioError, match="expected a WAV file"):
        speak(plan, "hello")
    monkeypatch.undo()
    with pytest.raises(SilkAudioError, match=r"false.* failed"):
        run_program(["false"])


@needs_festival()
def test_festival_without_a_voice_does_not_speak(monkeypatch):
    monkeypatch.setitem(FESTIVAL_VOICES, "nobody", ("en", "ascii"))
    notices = []
    assert "festival" not in find_engines(notices.append)
    assert "the voices nobody are missing" in notices[-1]
    assert "festvox-ru" in notices[-1]


def test_the_page_on_training_installs_every_engine_and_voice():
    page = TRAINING_PAGE.read_text(encoding="utf-8")
    command = page.split("apt install ")[1].replace("\\\n", " ").split("\n\n")[0]
    assert command.split() == " ".join(PACKAGES.values()).split()
