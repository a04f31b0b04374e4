"""Finding recordings, exact crops of every format, bad files, batches that depend on nothing but the step."""

import itertools
import json
import os

import numpy as np
import pytest
import soundfile
import torch

from silk_fast.audio import load
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.training.data import Clip, CropDataset, StepSampler, find_clips, make_loader, read_excerpt, whole_clips

RATE = 24_000


def speechlike(n, rate, seed=0):
    """Smooth noise below 3 kHz, float32 ``[n]``, so that lossy formats keep it."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    spectrum[np.fft.rfftfreq(n, 1 / rate) > 3000] = 0
    samples = np.fft.irfft(spectrum, n)
    return (0.3 * samples / np.abs(samples).max()).astype(np.float32)


def write(path, seconds=3.0, rate=RATE, channels=1, seed=0):
    columns = [speechlike(int(seconds * rate), rate, seed + i) for i in range(channels)]
    soundfile.write(path, np.stack(columns, axis=1), rate)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write(tmp_path / "a.wav")
    write(tmp_path / "deep" / "b.FLAC", rate=44_100, channels=2, seed=1)
    write(tmp_path / "deep" / "er" / "c.ogg", rate=16_000, seed=3)
    write(tmp_path / "deep" / "er" / "d.mp3", rate=44_100, seed=4)
    (tmp_path / "notes.txt").write_text("not audio")
    return tmp_path


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


# ---------------------------------------------------------------- crops


def test_a_crop_is_a_function_of_seed_and_index(folder):
    clips = find_clips(folder)
    dataset, same, other = (CropDataset(clips, 24_000, seed=seed) for seed in (5, 5, 6))
    crops = [dataset[i] for i in (3, 1, 10**12)]
    assert all(crop.shape == (1, 24_000) and crop.dtype == torch.float32 for crop in crops)
    assert all(torch.equal(crop, same[i]) for crop, i in reversed(list(zip(crops, (3, 1, 10**12), strict=True))))
    assert not torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], other[3])


def test_files_are_drawn_by_their_duration(tmp_path):
    for name, seconds, level in (("short", 1.0, 0.1), ("long", 9.0, 0.5)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(int(seconds * RATE), level, np.float32), RATE)
    dataset = CropDataset(find_clips(tmp_path), 2_400, gain_db=None)
    share = np.mean([dataset[i][0, 0].item() > 0.3 for i in range(400)])
    assert abs(share - 0.9) < 0.06  # four standard deviations


def test_gain_is_random_and_the_peak_stays_below_one(tmp_path):
    write(tmp_path / "x.wav")
    clips = find_clips(tmp_path)
    plain = CropDataset(clips, RATE, gain_db=None)
    for index in range(5):
        quiet, loud = (CropDataset(clips, RATE, gain_db=(db, db))[index] for db in (-6.0, 40.0))
        assert torch.allclose(quiet, plain[index] * 10**-0.3)
        assert loud.abs().max().item() == pytest.approx(0.99)
    varied = CropDataset(clips, RATE)
    gains = [(varied[i].norm() / plain[i].norm()).item() for i in range(20)]
    assert 0.5 <= min(gains) < 0.8
    assert 1.25 < max(gains) <= 2.0


def test_other_sample_rates(folder):
    crop = CropDataset(find_clips(folder), 16_000, sample_rate=16_000)[0]
    assert crop.shape == (1, 16_000)


def test_short_clips_are_reported_and_left_out(tmp_path):
    write(tmp_path / "long.wav", 2.0)
    write(tmp_path / "short.wav", 0.5)
    notices = []
    dataset = CropDataset(find_clips(tmp_path), RATE, notice=notices.append)
    assert [os.path.basename(clip.path) for clip in dataset.clips] == ["long.wav"]
    assert dataset.seconds == 2.0
    assert len(notices) == 1
    assert "short.wav" in notices[0]
    with pytest.raises(SilkInputError, match=r"crop of 5\.000 s .* has 2\.000 s"):
        CropDataset(find_clips(tmp_path), 5 * RATE)


def test_a_crop_may_be_joined_of_pieces(tmp_path):
    """Recordings shorter than the crop serve, each piece has a gain of its own, and the first is what it was alone."""
    for i in range(8):
        soundfile.write(tmp_path / f"{i}.wav", np.full(RATE, 0.05 * (i + 1), np.float32), RATE, subtype="FLOAT")
    clips = find_clips(tmp_path)
    joined = CropDataset(clips, 4 * 12_000, gain_db=None, pieces=4)[0]
    assert joined.shape == (1, 48_000)
    pieces = joined.view(4, 12_000)
    assert torch.equal(pieces.amin(1), pieces.amax(1))  # each of one recording
    assert len(pieces[:, 0].unique()) > 1
    assert torch.equal(pieces[0], CropDataset(clips, 12_000, gain_db=None)[0][0])
    gains = CropDataset(clips, 4 * 12_000, pieces=4)[0].view(4, 12_000)[:, 0] / 0.05
    assert (gains - gains.round()).abs().max() > 0.01
    with pytest.raises(SilkInputError, match=r"as long as a piece of 1\.500 s .* has 1\.000 s"):
        CropDataset(clips, 3 * RATE, pieces=2)
    with pytest.raises(SilkInputError, match="pieces must divide a crop of 48000 samples, got 7"):
        CropDataset(clips, 48_000, pieces=7)


def test_a_file_that_fails_is_reported_once_and_replaced(tmp_path):
    for name in ("good", "bad", "gone", "nan"):
        write(tmp_path / f"{name}.wav")
    clips = find_clips(tmp_path)
    whole = (tmp_path / "bad.wav").read_bytes()
    (tmp_path / "bad.wav").write_bytes(whole[:1000])
    os.unlink(tmp_path / "gone.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(72_000, np.nan, np.float32), RATE, subtype="FLOAT")
    notices = []
    dataset = CropDataset(clips, RATE, notice=notices.append)
    crops = [dataset[i] for i in range(20)]
    assert sorted(text.split("/")[-1].split(":")[0] for text in notices) == ["bad.wav", "gone.wav", "nan.wav"]
    again = CropDataset(clips, RATE)
    assert all(torch.equal(crop, again[i]) for i, crop in enumerate(crops))
    os.unlink(tmp_path / "good.wav")
    with pytest.raises(SilkAudioError, match="100 files in a row"):
        dataset[0]


@pytest.mark.parametrize("wrong", [{"crop_samples": 0}, {"sample_rate": 0}, {"seed": -1}, {"gain_db": (3.0, -3.0)}])
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(SilkInputError, match="must be"):
        CropDataset([Clip("x.wav", RATE)], **{"crop_samples": 100, **wrong})


def test_no_clips_are_refused():
    with pytest.raises(SilkInputError, match="clips are empty"):
        CropDataset([], 100)


# ---------------------------------------------------------------- batches


def test_steps_and_ranks_share_no_index():
    parts = [list(StepSampler(4, 2, 5, rank, 3)) for rank in range(3)]
    assert sorted(itertools.chain(*parts)) == list(range(2 * 12, 6 * 12))
    assert parts[1][:4] == [28, 29, 30, 31]
    assert list(StepSampler(4, 4, 5, 1, 3)) == parts[1][8:]
    assert len(StepSampler(4, 2, 5, 1, 3)) == len(parts[1])


def test_batches_depend_on_the_step_alone(folder):
    dataset = CropDataset(find_clips(folder), 12_000, seed=2)
    alone = list(make_loader(dataset, 3, 0, 4))
    assert [tuple(batch.shape) for batch in alone] == [(3, 1, 12_000)] * 5
    resumed = list(make_loader(dataset, 3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(alone[3:], resumed, strict=True))
    forked = list(make_loader(dataset, 3, 0, 4, workers=2))
    assert all(torch.equal(a, b) for a, b in zip(alone, forked, strict=True))


def test_a_loader_leaves_the_global_random_state_alone(folder):
    dataset = CropDataset(find_clips(folder), 12_000)
    before = torch.get_rng_state()
    next(iter(make_loader(dataset, 2, 0, 1)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"first_step": -1}, {"rank": 1}, {"rank": -1}, {"world_size": 0}, {"workers": -1}]
)
def test_impossible_batches_are_refused(folder, wrong):
    dataset = CropDataset(find_clips(folder), 12_000)
    with pytest.raises(SilkInputError, match="must be"):
        make_loader(dataset, **{"batch_size": 2, "first_step": 0, "last_step": 1, **wrong})


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
