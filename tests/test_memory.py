"""Coding a file takes memory that does not depend on its duration."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import SILK

MINUTE = 24_000 * 60
MINUTES = (2, 12)
MOST_GROWTH = (MINUTES[1] - MINUTES[0]) * MINUTE  # bytes: half of what the longer has more, as samples of 16 bits


@pytest.fixture(autouse=True)
def same_peak_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes accelerate models as for users, and return every large piece of memory that they free.

    Of itself glibc raises the size from which it does to that of what was freed, up to 32 MiB. What is smaller then
    lies in a heap with holes, and peaks of one command differ by 90 MiB.
    """
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**17))  # where glibc begins


# A process starts with the peak of the one that made it, so a small one stands between.
LAUNCHER = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def peak_bytes(*command: object) -> int:
    """Peak resident memory of a command that must succeed."""
    launcher = [sys.executable, "-S", "-c", LAUNCHER, *(str(part) for part in command)]
    done = subprocess.run(launcher, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1]) * (1 if sys.platform == "darwin" else 1024)


def coding_peaks(source: Path, *options: object, suffix: str = ".silk", decoding: tuple = ()) -> tuple[int, int]:
    """Peaks of encoding a file and of decoding what became of it, as long as it was."""
    codes, out = source.with_suffix(suffix), source.with_name("out.wav")
    peaks = peak_bytes(SILK, "encode", source, *options, "-q"), peak_bytes(SILK, "decode", codes, "-o", out, *decoding)
    assert soundfile.info(out).duration == pytest.approx(soundfile.info(source).duration)
    return peaks


def write_noise(path: Path, minutes: int) -> None:
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", 24_000, 1) as file:
        for _ in range(minutes):
            file.write(rng.standard_normal(MINUTE, dtype=np.float32) * 0.05)


def assert_constant(peaks: dict[int, tuple[int, int]]) -> None:
    """For both directions the peak of the longest is that of the shortest, and no model is missing from either."""
    for short, long in zip(*(peaks[minutes] for minutes in MINUTES), strict=True):
        assert short > 2**26
        assert abs(long - short) < MOST_GROWTH
        assert long < 2**30


@pytest.mark.slow
def test_peak_memory_at_twelve_minutes_is_that_at_two(model, tmp_path):
    peaks = {}
    for minutes in MINUTES:
        source = tmp_path / f"{minutes}.wav"
        write_noise(source, minutes)
        peaks[minutes] = coding_peaks(source, "-m", model, decoding=("-m", model, "-q", "-f"))
    assert_constant(peaks)


@pytest.mark.slow
def test_so_it_is_of_the_codecs_of_other_libraries(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")
    sizes = {"encoder_hidden_size": 8, "decoder_hidden_size": 64, "codebook_size": 64, "n_codebooks": 2}
    weights = tmp_path / "model"
    config = transformers.DacConfig(**sizes, downsampling_ratios=[8, 8, 5], sampling_rate=24_000)
    transformers.DacModel(config).save_pretrained(weights)
    peaks = {}
    for minutes in MINUTES:
        source = tmp_path / f"{minutes}.wav"
        write_noise(source, minutes)
        options = ("--codec", "dac", "--weights", weights)
        peaks[minutes] = coding_peaks(source, *options, suffix=".safetensors", decoding=("-q", "-f"))
    assert_constant(peaks)
