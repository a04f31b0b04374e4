"""Which clips are taken, and what is a voice."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from silk_fast import SilkInputError
from silk_fast.audio import load
from silk_fast.evaluation import clips
from tests.support import VOICES

RATE = 24_000
SPEECH = load(VOICES)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    soundfile.write(path, samples, rate)


def rows(languages: str, voices: str, n: int) -> list[dict]:
    return [
        {"path": f"{language}/{voice}{i}.flac", "split": "heldout-voice", "language": language, "voice": voice}
        for language in languages
        for voice in voices
        for i in range(n)
    ]


def test_few_clips_spread_over_languages_and_voices():
    chosen = clips.spread(rows("abcd", "wxyz", 5), 4)
    assert {row["language"] for row in chosen} == set("abcd")
    assert {row["voice"] for row in chosen} == set("wxyz")
    assert chosen == clips.spread(rows("abcd", "wxyz", 5)[::-1], 4)
    assert len(clips.spread(rows("ab", "x", 2), 100)) == 4


def test_corpus_clips_are_those_of_the_split(tmp_path):
    lines = [*rows("ab", "x", 2), {"path": "t.flac", "split": "train", "language": "a", "voice": "x"}]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = clips.corpus_clips(tmp_path, clips.corpus_rows(tmp_path), "heldout-voice", 3)
    assert len(found) == 3
    assert {clip.group for clip in found} == {"heldout-voice"}
    assert found[0].paths[0].parent.parent == tmp_path


def test_a_folder_that_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(SilkInputError, match=r"nowhere: no such folder, expected a corpus made by 'silk train corpus'"):
        clips.corpus_rows(tmp_path / "nowhere")
    with pytest.raises(SilkInputError, match=r"manifest\.jsonl"):
        clips.corpus_rows(tmp_path)
    (tmp_path / "manifest.jsonl").write_text('{"path": 1}\n{"path": "a", "split": "train"}\n')
    with pytest.raises(SilkInputError, match="line 1"):
        clips.corpus_rows(tmp_path)


def test_corpus_facts_are_empty_where_there_are_none(tmp_path):
    assert clips.corpus_facts(tmp_path) == {}
    (tmp_path / "corpus.json").write_text('{"seed": 3}')
    assert clips.corpus_facts(tmp_path) == {"seed": 3}


def test_speech_is_a_voice_and_noise_is_not():
    generator = np.random.default_rng(0)
    noise = generator.standard_normal(RATE).astype(np.float32) * 0.1
    for start in range(0, len(SPEECH) - 4 * RATE, 4 * RATE):
        assert clips.voiced_share(SPEECH[start : start + 4 * RATE]) > 2 * clips.VOICED_SHARE
    for sound in (noise, noise.cumsum(), np.convolve(noise, np.ones(20))):
        assert clips.voiced_share(sound.astype(np.float32)) < 0.05
    assert clips.voiced_share(np.zeros(RATE, np.float32)) == clips.voiced_share(SPEECH[:10]) == 0


def test_short_recordings_are_joined_and_noise_is_left_out(tmp_path):
    for i in range(7):
        write(tmp_path / f"word{i}.wav", SPEECH[2 * i * RATE : (2 * i + 2) * RATE])
    write(tmp_path / "noise.wav", np.random.default_rng(0).standard_normal(RATE) * 0.1)
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")
    write(tmp_path / "whole.flac", np.repeat(SPEECH[: 5 * RATE], 2), 2 * RATE)
    notices: list[str] = []
    found = clips.recorded_clips([tmp_path], 20, notices.append)
    names = [f"{tmp_path.parent.name}/{tmp_path.name}/{name}" for name in ("whole.flac", "word0.wav and 6 more")]
    assert [clip.name for clip in found] == names
    assert {clip.group for clip in found} == {clips.RECORDED}
    assert len(found[0].load()) == 5 * RATE
    samples = found[1].load()
    assert len(samples) == 7 * 2 * RATE + 6 * RATE // 4
    assert not samples[2 * RATE : 2 * RATE + RATE // 4].any()
    assert any("noise.wav: does not sound like a voice" in notice for notice in notices)
    assert any(notice.startswith("left out: ") and "broken.wav" in notice for notice in notices)
    assert any("7 short recordings joined to one clip: word0.wav word1.wav" in notice for notice in notices)


def test_many_short_recordings_become_several_clips(tmp_path):
    for i in range(9):
        write(tmp_path / f"word{i}.wav", SPEECH[i * RATE : (i + 2) * RATE])
    found = clips.recorded_clips([tmp_path], 20, lambda text: None)
    assert [len(clip.paths) for clip in found] == [4, 5]


def test_recordings_are_taken_from_all_folders_in_turn_and_joined_within_one(tmp_path):
    for folder, n in {"a": 9, "b/letters": 3, "b/words": 2, "c": 1}.items():
        (tmp_path / folder).mkdir(parents=True)
        for i in range(n):
            write(tmp_path / folder / f"word{i}.wav", SPEECH[i * RATE : (i + 2) * RATE])
    notices: list[str] = []
    found = clips.recorded_clips([tmp_path / "c", tmp_path], 3, notices.append)
    assert [[str(path.relative_to(tmp_path).parent) for path in clip.paths] for clip in found] == [
        ["c"],
        ["a"] * 4,
        ["b/letters"] * 3 + ["b/words"] * 2,
    ]
    assert len(notices) == 2, "of what is not taken nothing is said"
    assert len(clips.recorded_clips([tmp_path], 20, print)) == 4


def test_recordings_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(SilkInputError, match=r"nowhere: no such file or folder"):
        clips.recorded_clips([tmp_path / "nowhere"], 20, print)
    with pytest.raises(SilkInputError, match="no recording of a voice"):
        clips.recorded_clips([tmp_path], 20, print)
    assert clips.recorded_clips([], 20, print) == []
