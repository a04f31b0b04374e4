"""Features of frozen stages: those of the whole recording, computed once, and trained on as audio is."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.distributed as dist

from silk_fast import SilkCodec, SilkConfig
from silk_fast.errors import SilkAudioError, SilkConfigError, SilkInputError, SilkTrainingError
from silk_fast.training.config import Stage2Config
from silk_fast.training.data import batches, make_loader
from silk_fast.training.features import FeatureCropDataset, FeatureStore, TokenStore
from silk_fast.training.loop import RunOptions
from silk_fast.training.recordings import find_clips, read_excerpt
from silk_fast.training.run import make_stage, train
from tests.training.conftest import RATE, voiced
from tests.training.runs import log_of, options, tensors_of

CONFIG = Stage2Config(preset="tiny", precision="fp32", warmup_steps=5, steps=6, batch_size=2, crop_seconds=0.8)


@pytest.fixture(scope="module")
def codec() -> SilkCodec:
    return SilkCodec(SilkConfig.preset("tiny"), seed=0).eval()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """Longer than two blocks, a part of one, and a length that is no multiple of anything."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, seconds in (("long", 8.1), ("short", 1.3), ("odd", 3.2173)):
        soundfile.write(folder / f"{name}.wav", voiced(seconds, 120, 1), RATE)
    return folder


def store_of(codec: SilkCodec, folder: Path, n_stages: int = 2) -> FeatureStore:
    return FeatureStore(folder, codec.encoder, n_stages, RATE)


@pytest.mark.parametrize("n_stages", [1, 2, 3])
def test_features_are_those_of_the_whole_recording(codec, recordings, tmp_path, n_stages):
    store = store_of(codec, tmp_path, n_stages)
    clips = store.add(find_clips(str(recordings)))
    assert len(clips) == 3
    for clip in clips:
        audio = torch.from_numpy(read_excerpt(clip.path, 0, clip.n_samples))
        with torch.no_grad():
            expected = codec.encoder.features(audio[None, None], n_stages)[0].T
        assert store.n_frames(clip.path) == expected.shape[0] == clip.n_samples // store.hop
        got = torch.from_numpy(store.read(clip.path, 0, store.n_frames(clip.path))).float()
        scale = expected.abs().max().item()
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * scale)  # half a step of float16


def test_a_crop_holds_the_samples_and_their_features(codec, recordings, tmp_path, monkeypatch):
    store = store_of(codec, tmp_path)
    dataset = FeatureCropDataset(find_clips(str(recordings)), 19_200, store, seed=3, pieces=2)
    pieces = []
    read = dataset.read
    monkeypatch.setattr(dataset, "read", lambda *where: pieces.append(where[:2]) or read(*where))
    item = dataset[5]
    audio, features = item["audio"], item["features"]
    assert audio.shape == (1, 19_200)
    assert features.shape == (store.channels, 19_200 // store.hop)
    (path, start), (last_path, last_start) = pieces
    assert start % store.hop == last_start % store.hop == 0
    np.testing.assert_array_equal(audio[0, :9600], read_excerpt(path, start, 9600))
    np.testing.assert_array_equal(features[:, -150:].T, store.read(last_path, last_start // store.hop, 150))


def test_features_that_float16_cannot_hold_are_refused(codec, recordings, tmp_path):
    loud = copy.deepcopy(codec)
    with torch.no_grad():
        loud.encoder.stages[1].down.bias[0] = 1e5
    with pytest.raises(SilkTrainingError, match=r"\.wav: features of frozen stages are not finite in float16"):
        store_of(loud, tmp_path).add(find_clips(str(recordings)))
    assert not list(tmp_path.rglob("*.float16"))


def test_features_are_computed_once_for_each_recording_and_weights(codec, recordings, tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", voiced(1.0, 120, 1), RATE)
    store = store_of(codec, tmp_path / "features")
    lines = []
    clips = store.add(find_clips(str(folder)), lines.append)
    assert any("0 of 2" in line for line in lines)
    made = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    store.add(clips, lines.append)
    soundfile.write(folder / "b.wav", voiced(1.2, 140, 2), RATE)
    store.add(find_clips(str(folder)))
    assert store.n_frames(str(folder / "b.wav")) == int(1.2 * RATE) // store.hop
    assert {path: path.stat().st_mtime_ns for path in made} == made
    other = SilkCodec(SilkConfig.preset("tiny"), seed=1)
    assert len({store_of(c, tmp_path, n).folder for c, n in ((codec, 1), (codec, 2), (other, 2))}) == 3


def test_training_on_features_keeps_frozen_weights_and_resumes_identically(codec, recordings, tmp_path):
    codec.save_pretrained(tmp_path / "init")
    config = replace(CONFIG, frozen_encoder_stages=2, features=str(tmp_path / "features"))
    data, init = [str(recordings)], str(tmp_path / "init")
    train(config, data, options(tmp_path / "whole"), init=init)
    losses = [row["loss"] for row in log_of(tmp_path / "whole")]
    assert losses[-1] < losses[0]
    trained, start = (SilkCodec.from_pretrained(folder) for folder in (tmp_path / "whole" / "model", init))
    # Exported in half precision.
    for name in ("input.weight", "stages.1.down.weight"):
        torch.testing.assert_close(
            trained.encoder.get_parameter(name), start.encoder.get_parameter(name), rtol=1e-3, atol=1e-6
        )
    moved = trained.encoder.stages[2].down.weight - start.encoder.stages[2].down.weight
    assert moved.abs().max() > 1e-4
    train(config, data, options(tmp_path / "cut", checkpoint_every=4, max_minutes=0), init=init)
    train(config, data, options(tmp_path / "cut", resume=True), init=init)
    whole, cut = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_features_and_audio_reach_the_conformer_in_the_same_precision(codec, recordings, tmp_path):
    config = replace(CONFIG, precision="bf16", frozen_encoder_stages=2, features=str(tmp_path))
    codec.save_pretrained(tmp_path / "init")
    stage = make_stage(config, torch.device("cpu"), RunOptions(tmp_path), init=str(tmp_path / "init"))
    inputs = []
    stage.codec.conformer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    audio = torch.from_numpy(voiced(1.6, 120, 1)[: 4 * 9600])[None, None]
    with torch.no_grad(), stage.autocast(audio.device):
        stage.autoencoder(audio)
        stage.autoencoder(stage.codec.encoder.features(audio, 2).float(), 2)
    assert inputs[0].dtype == inputs[1].dtype == torch.float32
    torch.testing.assert_close(*inputs, rtol=0, atol=0.02 * inputs[0].abs().max().item())


def test_tokens_are_those_of_the_whole_recording(codec, recordings, tmp_path):
    store = TokenStore(tmp_path, codec)
    for clip in store.add(find_clips(str(recordings))):
        audio = torch.from_numpy(read_excerpt(clip.path, 0, clip.n_samples))
        expected = codec.encode(audio[None, None]).tokens[0]
        assert store.n_frames(clip.path) == len(expected) == clip.n_samples // 9600
        assert np.array_equal(store.read(clip.path, 0, len(expected)), expected)
    item = FeatureCropDataset(find_clips(str(recordings)), 19_200, store, seed=3, pieces=2)[5]
    assert item["features"].dtype == torch.int32
    assert item["features"].shape == (codec.config.tokens_per_frame, 2)


def test_a_decoder_trained_alone_keeps_all_tokens(codec, recordings, tmp_path):
    """From stored tokens as from audio; statistics and weights of all other parts stay to the last bit."""
    codec.save_pretrained(tmp_path / "init", torch.float16)
    config = replace(CONFIG, trained="decoder", phases="harmonic")
    data, init = [str(recordings)], str(tmp_path / "init")
    train(config, data, options(tmp_path / "audio"), init=init)
    train(replace(config, features=str(tmp_path / "tokens")), data, options(tmp_path / "run"), init=init)
    losses = [row["loss"] for row in log_of(tmp_path / "run")]
    assert losses[-1] < losses[0]
    start = SilkCodec.from_pretrained(init).state_dict()
    for run in ("audio", "run"):
        trained = SilkCodec.from_pretrained(tmp_path / run / "model").state_dict()
        kept = {name for name, tensor in start.items() if torch.equal(tensor, trained[name])}
        assert kept >= {name for name in start if not name.startswith("decoder.")}
        assert "decoder.head.conv.weight" not in kept or "decoder.head.weight" not in kept
    assert "decoder.source.hidden.weight" in trained


def test_what_cannot_be_is_refused_before_anything_is_computed(codec, recordings, tmp_path):
    features = str(tmp_path / "features")
    with pytest.raises(SilkConfigError, match="frozen_encoder_stages is 0 and all is trained"):
        train(replace(CONFIG, features=features), [str(recordings)], options(tmp_path / "run"))
    with pytest.raises(SilkConfigError, match="init names none"):
        train(replace(CONFIG, frozen_encoder_stages=1), [str(recordings)], options(tmp_path / "run"))
    with pytest.raises(SilkConfigError, match=r"trained 'decoder' keeps the tokens .* init names none"):
        train(replace(CONFIG, trained="decoder"), [str(recordings)], options(tmp_path / "run"))
    assert not list(tmp_path.iterdir())
    store = store_of(codec, tmp_path)
    soundfile.write(tmp_path / "a.wav", voiced(1.0, 120, 1), RATE)
    clips = find_clips(str(tmp_path / "a.wav"))
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    lines = []
    with pytest.raises(SilkInputError, match="none of 1 recordings has features"):
        store.add(clips, lines.append)
    assert any("a.wav" in line for line in lines)
    assert not list(store.folder.iterdir())
    with pytest.raises(SilkAudioError, match="features have vanished"):
        store.read(str(recordings / "long.wav"), 0, 1)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(SilkInputError, match="none of 1 recordings has features"):
        store.add(clips)
    with pytest.raises(SilkInputError, match="pieces must divide a crop of 19200 samples into multiples of 64, got 7"):
        FeatureCropDataset(find_clips(str(recordings)), 19_200, store, pieces=7)
    assert not list(store.folder.iterdir())


def test_processes_share_the_recordings_and_none_is_lost(codec, recordings, tmp_path, monkeypatch):
    """The second process comes when the first has done its share; what a process leaves over is said."""
    clips, lines = find_clips(str(recordings)), []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "barrier", lambda: None)
    for rank, n_there in ((0, 2), (1, 3)):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        assert len(store_of(codec, tmp_path).add(clips, lines.append)) == n_there
    assert len([line for line in lines if "another process could not read it" in line]) == 1


def test_a_recording_that_changes_while_it_is_trained_on_is_reported_and_not_used(codec, tmp_path):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", voiced(2.0, 120, 1), RATE)
    store, lines = store_of(codec, tmp_path / "features"), []
    dataset = FeatureCropDataset(find_clips(str(tmp_path)), 9600, store, notice=lines.append)
    soundfile.write(tmp_path / "a.wav", voiced(2.1, 120, 1), RATE)
    for index in range(20):
        assert dataset[index]["features"].shape == (store.channels, 150)
    assert len([line for line in lines if "not used" in line and "a.wav" in line]) == 1
    (tmp_path / "b.wav").unlink()
    with pytest.raises(SilkAudioError, match=r"^100 files in a row could not be read") as caught:
        list(batches(make_loader(dataset, 1, 0, 0, workers=1)))
    assert "Traceback" not in str(caught.value)
