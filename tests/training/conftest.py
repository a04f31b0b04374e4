"""Recordings, runs and models that tests of training share."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

RATE = 24_000


def voiced(seconds: float, pitch: float, seed: int) -> np.ndarray:
    """Something like speech: a pulse train through moving resonances, in syllables, with a little noise."""
    random = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * 1.3 * times))) / RATE
    formant = 700 + 400 * np.sin(2 * np.pi * 0.9 * times + seed)
    harmonics = sum(np.exp(-(((k * pitch - formant) / 500) ** 2)) * np.sin(k * phase) for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 2.1 * times + seed), 0, 1)
    return (0.2 * harmonics * syllables + 0.003 * random.standard_normal(len(times))).astype(np.float32)


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


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory) -> str:
    """Six clips of 2 s."""
    folder = tmp_path_factory.mktemp("speech")
    for i, pitch in enumerate((90, 110, 130, 160, 190, 220)):
        soundfile.write(folder / f"{i}.wav", voiced(2.0, pitch, i), RATE)
    return str(folder)


@pytest.fixture(scope="session")
def finished_run(speech_folder, tmp_path_factory) -> Path:
    """A run of two steps with a checkpoint after each; :func:`finished` is a copy to change."""
    from silk_fast.training.config import Stage2Config
    from silk_fast.training.run import train
    from tests.training.runs import TWO_STEPS, options

    folder = tmp_path_factory.mktemp("finished") / "run"
    train(Stage2Config(**TWO_STEPS), [speech_folder], options(folder, checkpoint_every=1))
    return folder


@pytest.fixture
def finished(finished_run, tmp_path) -> Path:
    """The folder of a run of two steps with a checkpoint after each."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def tiny_wavlm(tmp_path_factory) -> str:
    from transformers import WavLMConfig, WavLMModel

    folder = tmp_path_factory.mktemp("wavlm")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    convolutions = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    torch.manual_seed(0)
    WavLMModel(WavLMConfig(**sizes, **convolutions)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def accelerated_as_for_users(monkeypatch) -> None:
    """Frozen layers are computed by the C library, or the reference, and not by interpreted kernels."""
    monkeypatch.setattr("silk_fast.kernels._launch.DEVICES", {"cuda"})
