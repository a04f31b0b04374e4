"""The corpus of synthetic speech: reproducible, resumable, and described as it is."""

import json
import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from silk_fast.audio import load
from silk_fast.cli.corpus import add_corpus_command, run_corpus
from silk_fast.corpus import make
from silk_fast.corpus.clips import make_clip
from silk_fast.corpus.make import make_corpus
from silk_fast.corpus.manifest import read_manifest
from silk_fast.corpus.plan import CorpusSettings
from silk_fast.errors import SilkInputError
from silk_fast.training.recordings import find_clips
from tests.corpus.test_plan import SETTINGS

HOURS = 0.02


def files(folder):
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(espeak, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return folder, make_corpus(folder, HOURS)


@pytest.mark.parametrize("index", [0, 9, 19])
def test_a_clip_is_a_function_of_settings_and_index(espeak, tmp_path, index):
    settings = CorpusSettings(3, SETTINGS.languages, {"espeak-ng": "1.51"})
    rows = [make_clip(tmp_path / name, settings, index) for name in ("a", "b")]
    assert rows[0] == rows[1]
    assert files(tmp_path / "a") == files(tmp_path / "b")
    info = soundfile.info(tmp_path / "a" / rows[0]["path"])
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 24_000, 1)


def test_a_corpus_holds_what_it_says(made):
    folder, summary = made
    rows = read_manifest(folder / "manifest.jsonl")
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
    known = read_manifest(tmp_path / "manifest.partial.jsonl")
    assert len(known) >= 3
    with open(tmp_path / "manifest.partial.jsonl", "a") as file:
        file.write('{"path": "clips/000/0000')
    os.truncate(tmp_path / known[0]["path"], 1000)
    os.unlink(tmp_path / known[1]["path"])
    made_again = []
    monkeypatch.setattr(make, "make_clip", lambda *args: made_again.append(args[2]) or make_clip(*args))
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


def test_a_file_that_is_no_summary_is_refused(espeak, tmp_path):
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


def test_missing_programs(espeak, tmp_path, monkeypatch):
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SilkInputError, match="install Debian's espeak-ng"):
        make_corpus(tmp_path, HOURS)
    notices = []
    monkeypatch.setattr(shutil, "which", lambda name: which(name) if name == "espeak-ng" else None)
    summary = make_corpus(tmp_path, 0.004, notice=notices.append)
    assert list(summary["engines"]) == ["espeak-ng"]
    assert len(notices) == 2
    assert "flite" in notices[0]
    assert "the program festival is missing" in notices[1]


# ---------------------------------------------------------------- the command


def parse(*words):
    common = ArgumentParser(add_help=False)
    common.add_argument("-q", "--quiet", action="store_true")
    parser = ArgumentParser()
    add_corpus_command(parser.add_subparsers(required=True), SimpleNamespace(common=common))
    return parser.parse_args(["corpus", *words])


def test_the_command_makes_a_corpus(espeak, tmp_path):
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
    code = "import sys, silk_fast.cli.corpus; assert 'silk_fast.corpus' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
