"""Finding recordings, exact excerpts of every format, bad files."""

import json
import os

import numpy as np
import pytest
import soundfile
import torch

from silk_fast.audio import load
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.training.recordings import find_clips, read_excerpt, whole_clips
from tests.training.conftest import RATE, speechlike, write


def corpus(folder, rows):
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---------------------------------------------------------------- finding


def test_folders_are_searched_to_any_depth(folder):
    clips = find_clips(folder)
    assert [os.path.basename(clip.path) for clip in clips] == ["a.wav", "b.FLAC", "c.ogg", "d.mp3"]
    assert [clip.n_samples for clip in clips[:3]] == [72_000] * 3
    assert abs(clips[3].n_samples - 72_000) < 2400  # MP3 pads


def test_files_and_folders_may_be_mixed(folder):
    names = [os.path.basename(clip.path) for clip in find_clips([folder / "deep" / "er", folder / "a.wav"])]
    assert names == ["c.ogg", "d.mp3", "a.wav"]


def test_bad_files_are_reported_and_left_out(folder):
    (folder / "broken.wav").write_bytes(b"RIFF but no more")
    (folder / "empty.flac").write_bytes(b"")
    whole = (folder / "a.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    notices = []
    clips = find_clips(folder, notice=notices.append)
    assert len(clips) == 4
    assert len(notices) == 3
    for name in ("broken.wav", "empty.flac", "cut.wav"):
        assert sum(name in text for text in notices) == 1


def test_manifest_selects_and_nothing_else_is_taken(folder):
    rows = [{"path": "a.wav", "split": "train", "seconds": 3.0, "voice": "m1"}]
    rows += [{"path": "deep/b.FLAC", "split": "validation", "seconds": 3.0, "voice": "f1"}]
    rows += [{"path": "gone.wav", "split": "train", "seconds": 3.0, "voice": "m2"}]
    corpus(folder, rows)
    notices = []
    (clip,) = find_clips([folder], split="train", notice=notices.append)
    assert clip.path.endswith("a.wav")
    assert (clip.n_samples, clip.labels["voice"]) == (72_000, "m1")
    assert len(notices) == 1
    assert "gone.wav" in notices[0]
    assert len(find_clips(folder)) == 2


def test_nothing_found_names_what_was_expected(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SilkInputError, match=r"empty: no usable audio, expected \.wav"):
        find_clips(empty)
    with pytest.raises(SilkInputError, match="no usable audio"):
        find_clips(tmp_path / "absent.wav")
    corpus(folder, [{"path": "a.wav", "split": "train", "seconds": 3.0}])
    with pytest.raises(SilkInputError, match=r"split 'test' \(there are: train\)"):
        find_clips(folder, split="test")


def test_damaged_manifest_is_refused(folder):
    (folder / "manifest.jsonl").write_text('{"split": "train"}\n{"path": "a.wav", "split": "train"}\n')
    with pytest.raises(SilkInputError, match="line 1"):
        find_clips(folder)


# ---------------------------------------------------------------- excerpts


@pytest.mark.parametrize(
    ("suffix", "rate"),
    [(suffix, rate) for suffix in ("wav", "flac", "ogg", "mp3") for rate in (RATE, 16_000, 44_100)]
    + [("opus", RATE), ("opus", 16_000)],
)
def test_an_excerpt_is_that_part_of_the_whole_file(tmp_path, suffix, rate):
    path = tmp_path / f"x.{suffix}"
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    soundfile.write(path, speechlike(4 * rate, rate)[:, None].repeat(2, 1), rate, **options)
    whole = load(path)
    bound = 1e-5 if suffix != "opus" else 1e-3  # Opus decodes from 80 ms before the seek, with another state
    for start in (0, 1, 7_777, 50_001, len(whole) - 20_000):
        excerpt = read_excerpt(str(path), start, 20_000)
        assert excerpt.shape == (20_000,)
        assert np.abs(excerpt - whole[start : start + 20_000]).max() < bound


def test_an_excerpt_beyond_the_end_is_the_end(tmp_path):
    for suffix in ("wav", "mp3"):
        path = write(tmp_path / f"x.{suffix}", rate=44_100)
        whole = load(path)
        assert np.abs(read_excerpt(path, len(whole) - 900, 1_000) - whole[-1_000:]).max() < 1e-5
        with pytest.raises(SilkAudioError, match="expected at least 90000"):
            read_excerpt(path, 0, 90_000)


def test_only_the_excerpt_is_decoded(tmp_path, monkeypatch):
    path, n_read, read = write(tmp_path / "x.flac", seconds=60), [], soundfile.SoundFile.read

    def counted(self, frames=-1, **options):
        n_read.append(frames)
        return read(self, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    read_excerpt(path, 1_000_000, 24_000)
    assert sum(n_read) < 30_000


# ---------------------------------------------------------------- whole utterances


def test_whole_utterances_are_spread_and_bounded(folder):
    clips = find_clips(folder)
    signals = list(whole_clips(clips, 2, 100.0))
    assert torch.equal(signals[0][0], torch.from_numpy(load(clips[0].path)))
    assert torch.equal(signals[1][0], torch.from_numpy(load(clips[2].path)))
    assert [tuple(signal.shape) for signal in whole_clips(clips, 99, 0.5)] == [(1, 12_000)] * 4


def test_unreadable_utterances_are_reported(folder):
    clips = find_clips(folder)
    os.unlink(clips[0].path)
    notices = []
    assert len(list(whole_clips(clips, 4, 1.0, notice=notices.append))) == 3
    assert len(notices) == 1
    with pytest.raises(SilkAudioError, match="none of 1 files"):
        list(whole_clips(clips[:1], 4, 1.0))
    with pytest.raises(SilkInputError, match="expected n >= 1"):
        whole_clips(clips, 0, 1.0)
