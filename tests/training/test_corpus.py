"""The corpus of synthetic speech: reproducible, resumable, split so that held-out means held out."""

import json
import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from silk_fast.audio import load
from silk_fast.cli.corpus import add_corpus_command, run_corpus
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.training import corpus
from silk_fast.training.corpus import CorpusSettings, make_clip, make_corpus, plan_clip
from silk_fast.training.data import find_clips

HOURS = 0.02
SETTINGS = CorpusSettings(0, tuple(sorted(corpus.DIALECTS)), {"espeak-ng": "1.51", "flite": "2.2"})
needs_espeak = pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")
WITH_FESTIVAL = replace(SETTINGS, engines={**SETTINGS.engines, "festival": "2.5.0"})
needs_flite = pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed")
needs_festival = pytest.mark.skipif(bool(corpus.lacking_of_festival()), reason="Festival or a voice is not installed")


def files(folder):
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed")
    folder = tmp_path_factory.mktemp("corpus")
    return folder, make_corpus(folder, HOURS)


# ---------------------------------------------------------------- plans and text


def test_held_out_is_held_out():
    plans = [plan_clip(SETTINGS, index) for index in range(4000)]
    by_split = {split: [plan for plan in plans if plan.split == split] for split in corpus.SPLITS}
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
    assert len(voices["train"]) == len(corpus.TRAIN_VARIANTS) + len(corpus.TRAIN_SPEAKERS)


def test_festival_speaks_what_is_not_held_out_and_changes_nothing_else():
    plans = [plan_clip(WITH_FESTIVAL, index) for index in range(4000)]
    spoken = [plan for plan in plans if plan.engine == "festival"]
    assert {plan.split for plan in spoken} == {"train", "validation"}
    assert {plan.voice for plan in spoken} == set(corpus.FESTIVAL_VOICES)
    assert all(plan.language == corpus.FESTIVAL_VOICES[plan.voice][0] for plan in spoken)
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
    assert not set(corpus.TRAIN_VARIANTS) & set(corpus.HELDOUT_VARIANTS)
    assert not set(corpus.TRAIN_SPEAKERS) & set(corpus.HELDOUT_SPEAKERS)


def test_plans_cover_the_stated_ranges():
    plans = [plan_clip(SETTINGS, index) for index in range(2000)]
    spoken = [plan for plan in plans if plan.engine == "espeak-ng"]
    assert {plan.language for plan in spoken} == set(corpus.DIALECTS)
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


@pytest.mark.parametrize("language", corpus.DIALECTS)
def test_word_lists(language):
    words = corpus.word_list(language)
    assert 150 <= len(words) == len(set(words))
    assert all(word.replace("'", "").replace("-", "").isalpha() for word in words)


@needs_espeak
def test_every_voice_of_the_engines_is_there():
    engines = corpus.find_engines()  # raises where a variant is missing
    listed = subprocess.run(["espeak-ng", "--voices"], capture_output=True, text=True, check=True).stdout
    there = {line.split()[1] for line in listed.splitlines()[1:]}
    assert {dialect for dialects in corpus.DIALECTS.values() for dialect in dialects} <= there
    if "flite" in engines:
        listed = subprocess.run(["flite", "-lv"], capture_output=True, text=True, check=True).stdout
        assert {*corpus.TRAIN_SPEAKERS, *corpus.HELDOUT_SPEAKERS} <= set(listed.split())


# ---------------------------------------------------------------- room, noise and level


def test_room_response_has_the_stated_energies():
    for rt60, direct_db in ((0.1, 0.0), (0.3, 7.5), (0.6, 15.0)):
        response = corpus.room_response(np.random.default_rng(0), rt60, direct_db)
        assert response[0] == 1
        assert not response[1:96].any()
        assert -10 * np.log10(np.sum(response[1:] ** 2)) == pytest.approx(direct_db)


def test_room_tail_decays_by_60_db_in_rt60():
    squares = np.zeros(12_000)
    for seed in range(50):
        squares += corpus.room_response(np.random.default_rng(seed), 0.5, 3.0) ** 2
    early, late = squares[2_400:3_600].mean(), squares[9_600:10_800].mean()  # 0.3 s apart, no early reflections
    assert 10 * np.log10(early / late) == pytest.approx(36, abs=1.5)


def test_convolution_equals_the_sum():
    random = np.random.default_rng(0)
    x, h = random.standard_normal(5000), random.standard_normal(700)
    assert np.allclose(corpus.convolve(x, h, 5200), np.convolve(x, h)[:5200])
    x = random.standard_normal(4096 * 2 - 700)
    assert np.allclose(corpus.convolve(x, h, len(x)), np.convolve(x, h)[: len(x)])


def test_noise_has_the_stated_slope():
    noise = corpus.coloured_noise(np.random.default_rng(0), 240_000, 1.0)
    power = np.abs(np.fft.rfft(noise)) ** 2
    at = [power[int(hertz * 10) : int(hertz * 20)].mean() for hertz in (200, 400, 800, 1600, 3200)]
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1)
    assert 10 * np.log10(at[0] / at[4]) == pytest.approx(12.04, abs=1)


def test_augmentation_keeps_the_stated_level_and_the_peak_below_one():
    speech = np.random.default_rng(0).standard_normal(96_000).astype(np.float32) * 0.1
    rooms = noises = 0
    for seed in range(200):
        samples, done = corpus.augment(speech, np.random.default_rng(seed))
        assert np.abs(samples).max() < 1
        assert 10 * np.log10(np.mean(samples**2)) == pytest.approx(done["level_db"], abs=0.01)
        assert -35.1 < done["level_db"] < -11.9
        rooms, noises = rooms + (done["room"] is not None), noises + (done["noise"] is not None)
    assert 60 <= rooms <= 100  # 40 % of 200, three standard deviations
    assert 40 <= noises <= 80


# ---------------------------------------------------------------- clips


@needs_espeak
@pytest.mark.parametrize("index", [0, 9, 19])
def test_a_clip_is_a_function_of_settings_and_index(tmp_path, index):
    settings = CorpusSettings(3, SETTINGS.languages, {"espeak-ng": "1.51"})
    rows = [make_clip(tmp_path / name, settings, index) for name in ("a", "b")]
    assert rows[0] == rows[1]
    assert files(tmp_path / "a") == files(tmp_path / "b")
    info = soundfile.info(tmp_path / "a" / rows[0]["path"])
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 24_000, 1)


@needs_flite
def test_flite_follows_pitch_and_stretch():
    index = next(i for i in range(100) if plan_clip(SETTINGS, i).engine == "flite")
    plan = plan_clip(SETTINGS, index)
    seconds = {}
    for stretch in (0.8, 1.2):
        seconds[stretch] = len(corpus.speak(replace(plan, speed=stretch), "The river runs.")) / 24_000
    assert 1.2 < seconds[1.2] / seconds[0.8] < 1.7
    low, high = (corpus.speak(replace(plan, pitch=hertz), "The river runs.") for hertz in (90, 240))
    assert not np.array_equal(low, high[: len(low)])


@needs_festival
@pytest.mark.parametrize("voice", corpus.FESTIVAL_VOICES)
def test_festival_follows_speed_and_stretch(voice):
    plan = next(plan for plan in (plan_clip(WITH_FESTIVAL, i) for i in range(100)) if plan.engine == "festival")
    plan = replace(plan, voice=voice, speed=1.0, pitch=100)
    text = " ".join(corpus.word_list(corpus.FESTIVAL_VOICES[voice][0])[:8])
    plain = corpus.speak(plan, text)
    assert np.array_equal(plain, corpus.speak(plan, text))
    assert np.sqrt(np.mean(plain**2)) > 0.005
    assert 1.2 < len(plain) / 24_000 < 12
    assert len(corpus.speak(replace(plan, pitch=85), text)) == pytest.approx(len(plain) / 0.85, rel=0.001)
    if not voice.endswith(("clunits", "hts")):  # these have durations of their own
        assert 1.1 < len(corpus.speak(replace(plan, speed=1.2), text)) / len(plain) < 1.25


def test_letters_that_a_charset_lacks_lose_their_accents():
    assert corpus._in_charset("Città äöß", "ascii") == b"Citta ao"
    assert corpus._in_charset("Città äöß", "latin-1") == "Città äöß".encode("latin-1")


def test_an_engine_that_fails_is_named(monkeypatch):
    plan = plan_clip(SETTINGS, 0)
    monkeypatch.setattr(corpus, "_output", lambda command, text=b"": b"no sound")
    with pytest.raises(SilkAudioError, match="expected a WAV file"):
        corpus.speak(plan, "hello")
    monkeypatch.undo()
    with pytest.raises(SilkAudioError, match=r"false.* failed"):
        corpus._output(["false"])


# ---------------------------------------------------------------- the corpus


def test_a_corpus_holds_what_it_says(made):
    folder, summary = made
    rows = corpus.read_manifest(folder / "manifest.jsonl")
    assert json.loads((folder / "corpus.json").read_text()) == summary
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert summary["complete"]
    assert summary["clips"] == len(rows) == sum(split["clips"] for split in summary["splits"].values())
    assert HOURS <= summary["hours"] < HOURS + 15 / 3600
    assert set(files(folder)) == {"corpus.json", "manifest.jsonl", *(row["path"] for row in rows)}
    for row in rows:
        samples = load(folder / row["path"])
        assert len(samples) == round(row["seconds"] * 24_000)
        assert 4 <= row["seconds"] <= 15
        assert 10 * np.log10(np.mean(samples.astype(float) ** 2)) == pytest.approx(row["level_db"], abs=0.1)
    clips = find_clips(folder, split="train")
    assert len(clips) == summary["splits"]["train"]["clips"]
    assert clips[0].labels["voice"] == rows[0]["voice"]


def test_processes_change_nothing(made, tmp_path):
    make_corpus(tmp_path, HOURS, workers=2)
    assert files(tmp_path) == files(made[0])


def test_an_interrupted_corpus_is_continued(made, tmp_path, monkeypatch):
    def interrupt(done, wanted):
        if done > wanted / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_corpus(tmp_path, HOURS, progress=interrupt)
    assert not (tmp_path / "manifest.jsonl").exists()
    assert not json.loads((tmp_path / "corpus.json").read_text())["complete"]
    known = corpus.read_manifest(tmp_path / "manifest.partial.jsonl")
    assert len(known) >= 3
    with open(tmp_path / "manifest.partial.jsonl", "a") as file:
        file.write('{"path": "clips/000/0000')
    os.truncate(tmp_path / known[0]["path"], 1000)
    os.unlink(tmp_path / known[1]["path"])
    made_again = []
    monkeypatch.setattr(corpus, "make_clip", lambda *args: made_again.append(args[2]) or make_clip(*args))
    make_corpus(tmp_path, HOURS)
    assert {0, 1} <= set(made_again)
    assert not {row["index"] for row in known[2:]} & set(made_again)
    assert files(tmp_path) == files(made[0])


def test_a_longer_corpus_begins_with_the_shorter(made, tmp_path):
    make_corpus(tmp_path, HOURS / 2)
    short = files(tmp_path)
    make_corpus(tmp_path, HOURS)
    assert files(tmp_path) == files(made[0])
    make_corpus(tmp_path, HOURS / 2)
    assert files(tmp_path) == files(made[0])
    assert len(short) < len(files(made[0]))


def test_another_corpus_in_the_folder_is_refused(made):
    folder, before = made[0], files(made[0])
    with pytest.raises(SilkInputError, match="with seed 0, expected 1"):
        make_corpus(folder, HOURS, seed=1)
    with pytest.raises(SilkInputError, match="with languages"):
        make_corpus(folder, HOURS, languages=["en"])
    assert files(folder) == before


@needs_espeak
def test_a_file_that_is_no_summary_is_refused(tmp_path):
    (tmp_path / "corpus.json").write_text("[]")
    with pytest.raises(SilkInputError, match="does not describe a corpus"):
        make_corpus(tmp_path, HOURS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hours": 0}, "hours must be"),
        ({"hours": float("nan")}, "hours must be"),
        ({"seed": -1}, "seed must be"),
        ({"workers": 0}, "workers >= 1"),
        ({"languages": ["en", "xx"]}, "languages xx are unknown"),
        ({"languages": ["pl"]}, "leave none to train on"),
        ({"languages": []}, "leave none to train on"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, wrong, message):
    with pytest.raises(SilkInputError, match=message):
        make_corpus(tmp_path, **{"hours": HOURS, **wrong})
    assert not files(tmp_path)


def test_missing_programs(tmp_path, monkeypatch):
    which = shutil.which
    monkeypatch.setattr(corpus.shutil, "which", lambda name: None)
    with pytest.raises(SilkInputError, match="install Debian's espeak-ng"):
        make_corpus(tmp_path, HOURS)
    if not which("espeak-ng"):
        return
    notices = []
    monkeypatch.setattr(corpus.shutil, "which", lambda name: which(name) if name == "espeak-ng" else None)
    summary = make_corpus(tmp_path, 0.004, notice=notices.append)
    assert list(summary["engines"]) == ["espeak-ng"]
    assert len(notices) == 2
    assert "flite" in notices[0]
    assert "the program festival is missing" in notices[1]


@needs_festival
def test_festival_without_a_voice_does_not_speak(monkeypatch):
    monkeypatch.setitem(corpus.FESTIVAL_VOICES, "nobody", ("en", "ascii"))
    notices = []
    assert "festival" not in corpus.find_engines(notices.append)
    assert "the voices nobody are missing" in notices[-1]
    assert "festvox-ru" in notices[-1]


# ---------------------------------------------------------------- the command


def parse(*words):
    common = ArgumentParser(add_help=False)
    common.add_argument("-q", "--quiet", action="store_true")
    parser = ArgumentParser()
    add_corpus_command(parser.add_subparsers(required=True), SimpleNamespace(common=common))
    return parser.parse_args(["corpus", *words])


@needs_espeak
def test_the_command_makes_a_corpus(tmp_path):
    results, bars = [], []

    class Bar:
        total = n = 0

        def __enter__(self):
            bars.append(self)
            return self

        def __exit__(self, *exc_info):
            pass

        def update(self, n):
            self.n += n

    console = SimpleNamespace(
        notice=lambda text: None,
        progress=lambda label: Bar(),
        result=lambda values, lines: results.append((values, list(lines))),
    )
    arguments = parse(str(tmp_path), "--hours", "0.004", "--workers", "1", "--languages", "en", "de")
    assert arguments.run is run_corpus
    assert run_corpus(arguments, console) == 0
    values, lines = results[0]
    assert values["languages"] == ["de", "en"]
    assert f"{values['clips']} clips" in lines[0]
    assert bars[0].n == bars[0].total == pytest.approx(14.4)


@pytest.mark.parametrize("words", [["--hours", "0"], ["--hours", "x"], ["--seed", "-1"], ["--workers", "0"]])
def test_wrong_usage(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("folder", *words)
    assert "expected" in capsys.readouterr().err


def test_the_module_of_the_command_is_light():
    code = "import sys, silk_fast.cli.corpus; assert 'silk_fast.training.corpus' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
