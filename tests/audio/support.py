"""Signals, and short ways to read and write them."""

import struct
import subprocess
import sys

import numpy as np

from silk_fast.audio import AudioReader, AudioWriter
from tests.support import ROOT

RATE = 24_000


def noise(n, level=0.2, seed=0):
    return (level * np.random.default_rng(seed).uniform(-1, 1, n)).astype(np.float32)


def sine(n, rate=RATE, hertz=1000, level=0.5):
    return (level * np.sin(2 * np.pi * hertz / rate * np.arange(n))).astype(np.float32)


def snr_db(signal, wanted):
    wanted = np.asarray(wanted, np.float64)
    return 10 * np.log10(np.sum(wanted**2) / np.sum((signal - wanted) ** 2))


def wav_bytes(data=bytes(200), size=None, rate=RATE, channels=1):
    """A 16-bit WAV file by hand; ``size`` is what its data chunk claims."""
    size = len(data) if size is None else size
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * rate * channels, 2 * channels or 1, 16)
    return (
        b"RIFF"
        + struct.pack("<I", min(36 + size, 2**32 - 1))
        + b"WAVEfmt "
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def read_in_blocks(path, block_samples, **kwargs):
    with AudioReader(path, block_samples=block_samples, **kwargs) as reader:
        return list(reader.blocks())


def write_blocks(path, *blocks):
    with AudioWriter(path) as writer:
        for block in blocks:
            writer.write(block)
    return writer


def python(code, *args, stdin=b""):
    """Run a snippet in a fresh interpreter: (exit status, standard output, standard error)."""
    done = subprocess.run([sys.executable, "-c", code, *args], input=stdin, capture_output=True, cwd=ROOT, timeout=60)
    return done.returncode, done.stdout, done.stderr.decode()
