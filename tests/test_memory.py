"""Coding a file takes memory that does not depend on its duration."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import SILK

MINUTE = 24_000 * 60


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


def write_noise(path: Path, minutes: int) -> None:
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", 24_000, 1) as file:
        for _ in range(minutes):
            file.write(rng.standard_normal(MINUTE, dtype=np.float32) * 0.05)


@pytest.mark.slow
def test_peak_memory_at_twelve_minutes_is_that_at_two(model, tmp_path):
    peaks = {}
    for minutes in (2, 12):
        source = tmp_path / f"{minutes}.wav"
        write_noise(source, minutes)
        encode = peak_bytes(SILK, "encode", source, "-m", model, "-q")
        decode = peak_bytes(
            SILK, "decode", source.with_suffix(".silk"), "-o", tmp_path / "out.wav", "-m", model, "-q", "-f"
        )
        peaks[minutes] = (encode, decode)
        assert soundfile.info(tmp_path / "out.wav").frames == minutes * MINUTE
    for short, long in zip(peaks[2], peaks[12], strict=True):
        assert 2**26 < short < long * 1.1
        assert long < 1.1 * short
        assert long < 2**30
