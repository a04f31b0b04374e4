"""Crops that depend on seed and index alone, batches that depend on nothing but the step."""

import itertools
import os

import numpy as np
import pytest
import soundfile
import torch

from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.training.data import CropDataset, StepSampler, make_loader
from silk_fast.training.recordings import Clip, find_clips
from tests.training.conftest import RATE, write

# ---------------------------------------------------------------- crops


def test_a_crop_is_a_function_of_seed_and_index(folder):
    clips = find_clips(folder)
    dataset, same, other = (CropDataset(clips, 24_000, seed=seed) for seed in (5, 5, 6))
    crops = [dataset[i]["audio"] for i in (3, 1, 10**12)]
    assert all(crop.shape == (1, 24_000) and crop.dtype == torch.float32 for crop in crops)
    assert all(
        torch.equal(crop, same[i]["audio"]) for crop, i in reversed(list(zip(crops, (3, 1, 10**12), strict=True)))
    )
    assert not torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], other[3]["audio"])


def test_files_are_drawn_by_their_duration(tmp_path):
    for name, seconds, level in (("short", 1.0, 0.1), ("long", 9.0, 0.5)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(int(seconds * RATE), level, np.float32), RATE)
    dataset = CropDataset(find_clips(tmp_path), 2_400, gain_db=None)
    share = np.mean([dataset[i]["audio"][0, 0].item() > 0.3 for i in range(400)])
    assert abs(share - 0.9) < 0.06  # four standard deviations


def test_gain_is_random_and_the_peak_stays_below_one(tmp_path):
    write(tmp_path / "x.wav")
    clips = find_clips(tmp_path)
    plain = CropDataset(clips, RATE, gain_db=None)
    for index in range(5):
        quiet, loud = (CropDataset(clips, RATE, gain_db=(db, db))[index]["audio"] for db in (-6.0, 40.0))
        assert torch.allclose(quiet, plain[index]["audio"] * 10**-0.3)
        assert loud.abs().max().item() == pytest.approx(0.99)
    varied = CropDataset(clips, RATE)
    gains = [(varied[i]["audio"].norm() / plain[i]["audio"].norm()).item() for i in range(20)]
    assert 0.5 <= min(gains) < 0.8
    assert 1.25 < max(gains) <= 2.0


def test_other_sample_rates(folder):
    crop = CropDataset(find_clips(folder), 16_000, sample_rate=16_000)[0]["audio"]
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
    joined = CropDataset(clips, 4 * 12_000, gain_db=None, pieces=4)[0]["audio"]
    assert joined.shape == (1, 48_000)
    pieces = joined.view(4, 12_000)
    assert torch.equal(pieces.amin(1), pieces.amax(1))  # each of one recording
    assert len(pieces[:, 0].unique()) > 1
    assert torch.equal(pieces[0], CropDataset(clips, 12_000, gain_db=None)[0]["audio"][0])
    gains = CropDataset(clips, 4 * 12_000, pieces=4)[0]["audio"].view(4, 12_000)[:, 0] / 0.05
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
    crops = [dataset[i]["audio"] for i in range(20)]
    assert sorted(text.split("/")[-1].split(":")[0] for text in notices) == ["bad.wav", "gone.wav", "nan.wav"]
    again = CropDataset(clips, RATE)
    assert all(torch.equal(crop, again[i]["audio"]) for i, crop in enumerate(crops))
    os.unlink(tmp_path / "good.wav")
    with pytest.raises(SilkAudioError, match="100 files in a row"):
        dataset[0]


def test_the_pieces_of_a_crop_are_of_one_bandwidth_which_goes_with_them(tmp_path):
    clips = []
    kinds = ("full", 0.1, {}), ("narrow", 0.2, {"bandwidth": 7000.0}), ("rich", 0.4, {"bandwidth": 20_000.0})
    for name, level, labels in kinds:
        soundfile.write(tmp_path / f"{name}.wav", np.full(RATE, level, np.float32), RATE)
        clips.append(Clip(str(tmp_path / f"{name}.wav"), RATE, labels))
    dataset, seen = CropDataset(clips, 2_400, gain_db=None, pieces=3), set()
    for index in range(40):
        item = dataset[index]
        levels = {round(level, 2) for level in item["audio"].unique().tolist()}
        assert levels == {0.2} if item["bandwidth"] == 7000 else levels <= {0.1, 0.4}
        seen |= {(frozenset(levels), item["bandwidth"].item())}
    assert {(frozenset({0.2}), 7000.0), (frozenset({0.1, 0.4}), 12_000.0)} <= seen
    assert set(CropDataset([clips[0], clips[2]], 2_400)[0]) == {"audio"}


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
    alone = [batch["audio"] for batch in make_loader(dataset, 3, 0, 4)]
    assert [tuple(batch.shape) for batch in alone] == [(3, 1, 12_000)] * 5
    resumed = [batch["audio"] for batch in make_loader(dataset, 3, 3, 4)]
    assert all(torch.equal(a, b) for a, b in zip(alone[3:], resumed, strict=True))
    forked = [batch["audio"] for batch in make_loader(dataset, 3, 0, 4, workers=2)]
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
