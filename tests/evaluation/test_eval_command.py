"""``silk eval`` from a corpus folder to its report, with a tiny model."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from silk_fast import SilkCodec
from silk_fast.audio import load
from silk_fast.cli import main
from silk_fast.evaluation import latent
from silk_fast.evaluation.anchors import ANCHORS
from silk_fast.evaluation.clips import GROUPS
from tests.programs import needs
from tests.support import TINY, VOICES

RATE = 24_000
OPUS = ANCHORS[-1]
SPEECH = load(VOICES)
HELD_OUT = (("validation", "en"), ("heldout-voice", "de"), ("heldout-voice", "fr"), ("heldout-language", "pl"))


def silk(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-model"
    SilkCodec(TINY, weight_norm=False, seed=0).save_pretrained(path)
    (path / "training.json").write_text('[{"stage": "Stage2", "steps": 12000}, {"stage": "Stage2", "steps": 345}]')
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for i, (split, language) in enumerate((*HELD_OUT, ("train", "en"), ("train", "de"))):
        soundfile.write(folder / f"{i}.flac", SPEECH[3 * i * RATE : 3 * (i + 1) * RATE], RATE)
        rows.append({"path": f"{i}.flac", "split": split, "language": language, "voice": f"v{i}"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "corpus.json").write_text('{"seed": 7, "hours": 0.005}')
    return folder


@pytest.fixture(scope="module")
def report(espeak, model, corpus, tmp_path_factory) -> Path:
    """A report made without Codec2, as on a machine that lacks it."""
    out = tmp_path_factory.mktemp("docs")
    recording = corpus.parent / "person.wav"
    soundfile.write(recording, SPEECH[-5 * RATE :], RATE)
    people = tmp_path_factory.mktemp("people")
    soundfile.write(people / "it.flac", SPEECH[RATE : 4 * RATE], RATE)
    rows = [
        {"path": "it.flac", "split": split, "language": "it", "voice": "p"} for split in ("train", "heldout-speaker")
    ]
    (people / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        which = shutil.which
        patch.setattr("shutil.which", lambda name: None if name.startswith("c2") else which(name))
        patch.setattr(latent, "SENTENCES", latent.SENTENCES[:2])
        patch.setattr(latent, "VOICES", latent.VOICES[:6])
        patch.setattr(latent, "speak", speak)
        arguments = ("--corpus", corpus, "--people", people, "--recordings", recording, "-o", out, "-m", model)
        assert silk("eval", *arguments, "--threads", 1, "--latent", "-q", "--json") == 0
    return out


def speak(text: str, voice: str, pitch: int = 50) -> np.ndarray:
    """Another second of speech for every text, voice and pitch."""
    start = (8 * len(text) + 40 * latent.VOICES.index(voice) + pitch) * 1000
    return SPEECH[start : start + RATE]


def test_report_has_every_group_and_what_was_measured(report):
    page = (report / "evaluation.md").read_text()
    for title in GROUPS.values():
        assert f"### {title}\n\n| codec |" in page
    assert "tiny-model" in page
    assert str(report.parent) not in page
    assert "- **training**: 12345 steps in 2 runs" in page
    assert "seed 7, hours 0.01" in page
    assert "| Held-out voices | 2 | 6 | 2 | de fr |" in page
    assert "## Codebook" in page


def test_absent_anchors_say_so_with_their_package(report):
    page = (report / "evaluation.md").read_text()
    for mode in ("1200", "2400", "3200"):
        row = f"| Codec2 {mode} (absent: no c2enc and c2dec; apt-get install codec2) |"
        assert page.count(row) == len(GROUPS)
    assert "| ahead of Codec2 1200 on every metric of every group | on 0 of 0 | unknown |" in page


@needs(*OPUS.programs)
def test_present_anchors_are_compared_with(report):
    page = (report / "evaluation.md").read_text()
    assert page.count(f"| {OPUS.name} | **behind** by ") + page.count(f"| {OPUS.name} | behind by ") == len(GROUPS)
    assert re.search(rf"\| Human recordings \| {OPUS.name} \| ESTOI, PESQ-wb,", page)
    assert re.search(rf"taken back: {OPUS.name} -?\d+ samples", page)


def test_every_picture_is_there_and_small(report):
    for page in (report / "evaluation.md", report / "latent.md"):
        pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())
        assert len(pictures) == {"evaluation.md": 5, "latent.md": 3}[page.name]
        for picture in pictures:
            data = (report / picture).read_bytes()
            assert data.startswith(b"\x89PNG")
            assert len(data) < 250_000


def test_rows_per_clip_agree_with_the_table(report):
    rows = [json.loads(line) for line in (report / "evaluation" / "clips.jsonl").read_text().splitlines()]
    silk_rows = [row for row in rows if row["system"] == "Silk" and row["group"] == "heldout-voice"]
    assert len(silk_rows) == 2
    mean = np.mean([row["log_mel_db"] for row in silk_rows])
    bits = np.mean([row["bits_per_second"] for row in silk_rows])
    assert bits == pytest.approx(8 * 384 / 3)  # 3 s are 7.5 frames
    section = (report / "evaluation.md").read_text().split("### Held-out voices")[1]
    assert f"| **Silk** | {bits:.0f} |" in section
    assert f"{mean:.2f} [" in section.split("**Silk**")[1].splitlines()[0]
    originals = [row for row in rows if row["system"] == "Original"]
    assert all(row["estoi"] == pytest.approx(1, abs=1e-3) for row in originals)


def test_latent_page_has_every_question_and_an_answer(report):
    page = (report / "latent.md").read_text()
    for question in ("Is volume magnitude?", "Is pitch direction?", "Is timbre neighbourhood?", "How are languages"):
        assert f"## {question}" in page
    for answer in (
        "Volume|magnitude (rises|falls)",
        "highest and the lowest pitch turn",
        "neighbourhoods",
        "nothing can",
    ):
        assert re.search(answer, page)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "nowhere"], "nowhere: no such folder, expected a corpus made by 'silk train corpus'"),
        (["--corpus", "empty"], "manifest.jsonl"),
        (["--corpus", "trained"], "no clips but those of training"),
        (["--corpus", "trained", "--recordings", "nobody.wav"], "nobody.wav: no such file or folder"),
    ],
)
def test_wrong_input_is_one_typed_line(arguments, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "manifest.jsonl").write_text('{"path": "a.flac", "split": "train"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("silk_fast.evaluation.clips.RECORDINGS", {"no-package": tmp_path / "no-sounds"})
    assert silk("eval", *arguments, "-o", "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]
    assert not (tmp_path / "out").exists()


def test_a_corpus_must_be_given(capsys):
    with pytest.raises(SystemExit, match="2"):
        silk("eval")
    assert "--corpus" in capsys.readouterr().err


def test_latent_needs_espeak(corpus, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    arguments = ("--corpus", corpus, "-m", model, "-o", tmp_path, "--recordings", "--latent")
    assert silk("eval", *arguments) == 1
    assert "install Debian's espeak-ng" in capsys.readouterr().err
