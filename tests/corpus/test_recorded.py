"""The corpus of recorded people: who is in which split, what a clip holds, what is left out."""

import json
import sys

import numpy as np
import pytest
import soundfile

from silk_fast.audio import load
from silk_fast.cli import main
from silk_fast.corpus import recorded
from silk_fast.corpus.manifest import read_manifest
from silk_fast.corpus.recorded import PACKAGES, make_recorded_corpus
from silk_fast.corpus.variation import equalised, vary
from silk_fast.errors import SilkInputError
from silk_fast.training.recordings import find_clips
from tests.support import speech

av = pytest.importorskip("av", reason="needs the package av")
SECONDS = 3.0


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(recorded, "VALIDATION_EVERY", 4)


def write_g722(path, samples: np.ndarray) -> None:
    """Write raw G.722, as a telephone exchange stores it, of 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="g722") as file:
        stream = file.add_stream("g722", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = 16_000
        file.mux([*stream.encode(frame), *stream.encode(None)])


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return speech(round(SECONDS * 24_000))[0, 0].numpy()


@pytest.fixture(scope="module")
def root(tmp_path_factory, samples):
    """Packages of English and Italian prompts, and of Czech dialogues of two fish and another animal."""
    sounds, prompt = (
        tmp_path_factory.mktemp("root"),
        np.interp(np.arange(0, SECONDS, 1 / 16_000), np.arange(len(samples)) / 24_000, samples),
    )
    for voice, n in (("en_US_f_Allison", 12), ("it_IT_m_Carlo", 7)):
        for i in range(n):
            write_g722(sounds / "asterisk/sounds" / voice / f"digits/{i:02d}.g722", prompt[: 16_000 * 3])
        write_g722(sounds / "asterisk/sounds" / voice / "silence/1.g722", np.zeros(16_000))
    (sounds / "asterisk/sounds/it_IT_m_Carlo/is.g722").touch()
    folder = sounds / "games/fillets-ng/sound/airplane/cs"
    folder.mkdir(parents=True)
    for who in ("m", "v", "x"):
        for i in range(3):
            soundfile.write(folder / f"let-{who}-{i}.ogg", samples, 24_000)
    return sounds


def test_people_are_joined_to_clips_and_held_out_by_speaker(root, tmp_path):
    notices = []
    folder = tmp_path / "corpus"
    summary = make_recorded_corpus(folder, root, notice=notices.append)
    rows = read_manifest(folder / "manifest.jsonl")
    assert json.loads((folder / "corpus.json").read_text()) == summary
    assert len(rows) == summary["clips"] == 4 + 2 + 2
    splits = {split: [row for row in rows if row["split"] == split] for split in recorded.SPLITS}
    assert {row["language"] for row in splits["heldout-speaker"]} == {"it"}
    assert {row["voice"] for row in splits["train"]} == {"Allison Smith", "small fish", "big fish"}
    assert [row["path"] for row in splits["validation"]] == ["clips/en/000003.flac"]
    for row in rows:
        clip = load(folder / row["path"])
        assert len(clip) == round(row["seconds"] * 24_000)
        assert row["seconds"] == pytest.approx(
            3 * SECONDS + 0.5 if row["voice"] != "Carlo Flora" else row["seconds"], abs=0.01
        )
        assert "1.g722" not in row["recordings"]  # says nothing
    assert summary["packages"]["asterisk-core-sounds-it-g722"] == "CC-BY-3.0"
    missing, empty = notices
    assert "3 packages are not installed; apt-get install asterisk-core-sounds-es-g722" in missing
    assert "is.g722" in empty
    clips = find_clips(folder, split="train")
    assert {clip.labels["bandwidth"] for clip in clips} == {7500.0, 10_000.0}


def test_g722_is_decoded_in_time_and_level(root, tmp_path, samples):
    make_recorded_corpus(tmp_path / "corpus", root)
    clip = load(tmp_path / "corpus" / "clips/en/000000.flac")[: len(samples)]
    lags = np.correlate(clip[2000:50_000], samples[2100:49_900], "valid")
    assert abs(int(lags.argmax()) - 100) <= 48  # the codec's delay, 2 ms at most
    assert np.std(clip) == pytest.approx(np.std(samples), rel=0.1)


def test_the_same_packages_make_the_same_bytes(root, tmp_path):
    for name in ("a", "b"):
        make_recorded_corpus(tmp_path / name, root)
    first, second = (
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second


def test_what_is_missing_is_named(root, tmp_path, monkeypatch):
    with pytest.raises(SilkInputError, match=f"apt-get install {PACKAGES[0].name} "):
        make_recorded_corpus(tmp_path / "corpus", tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SilkInputError, match=r"G\.722 needs the package av"):
        make_recorded_corpus(tmp_path / "corpus", root)
    assert not (tmp_path / "corpus" / "manifest.jsonl").exists()


def test_the_command_makes_it(root, tmp_path, capsys):
    assert main(["train", "recordings", str(tmp_path / "made"), "--root", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 8
    assert main(["train", "recordings", str(tmp_path / "none"), "--root", str(tmp_path)]) == 1
    assert "apt-get install" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_versions_are_other_speakers_of_the_same_words(root, tmp_path):
    make_recorded_corpus(tmp_path / "corpus", root, versions=2)
    rows = read_manifest(tmp_path / "corpus" / "manifest.jsonl")
    assert {row["split"] for row in rows if row["version"]} == {"train"}
    pairs = [(row, rows[i + 1]) for i, row in enumerate(rows) if row["split"] == "train" and not row["version"]]
    assert len(pairs) == sum(row["version"] for row in rows) == 5
    for first, second in pairs:
        assert second["recordings"] == first["recordings"]
        expected = first["seconds"] / second["speed"] + second["gap_seconds"] + second["lead_seconds"]
        expected += 0.2 if second["room"] else 0
        assert second["seconds"] == pytest.approx(expected, abs=0.01)
        assert second["bandwidth"] == min(first["bandwidth"] * second["speed"], 12_000)
    assert len({second["speed"] for _, second in pairs}) > 1
    with pytest.raises(SilkInputError, match="versions must be"):
        make_recorded_corpus(tmp_path / "corpus", root, versions=0)


def test_a_varied_tone_has_another_pitch_colour_and_a_gap():
    tone = (np.sin(2 * np.pi * 400 * np.arange(48_000) / 24_000) / 4).astype(np.float32)
    seen = []
    for seed in range(12):
        varied, done = vary(tone, np.random.default_rng(seed))
        assert len(varied) == pytest.approx(48_000 / done["speed"] + 24_000 * done["gap_seconds"], abs=2)
        spectrum = np.abs(np.fft.rfft(varied[:8192] * np.hanning(8192)))
        assert spectrum.argmax() * 24_000 / 8192 == pytest.approx(400 * done["speed"], abs=3)
        silent = np.convolve(varied == 0, np.ones(2400), "valid").max() >= 2400
        assert silent == (done["gap_seconds"] > 0)
        assert 0.8 <= done["speed"] <= 1.25
        seen.append(done["speed"])
    assert len(set(seen)) > 6


@pytest.mark.parametrize(("frequency", "gain"), [(100, -6.0), (800, 3.0), (4000, 0.0), (10_000, 6.0)])
def test_an_equaliser_does_what_it_says(frequency, gain):
    tone = np.sin(2 * np.pi * frequency * np.arange(24_000) / 24_000).astype(np.float32)
    after = equalised(tone, [-6.0, 0.0, 6.0, 0.0, 6.0])
    assert 20 * np.log10(np.std(after[4000:-4000]) / np.std(tone)) == pytest.approx(gain, abs=0.1)
