"""Measure what it takes to read recordings: to decode them, mix them down and resample them to Silk's 24 kHz.

``python -m bench.reading`` writes a file to ``bench/results/``. One thread; the figures are processor time, which other
work on a shared machine changes less than it does the clock on the wall.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from bench.__main__ import RESULTS
from silk_fast.audio import load
from silk_fast.benchmark.provenance import provenance, result_path
from silk_fast.benchmark.rows import ResultWriter, Row, Timing
from silk_fast.cli.inspect import DEMO_SPEECH

SECONDS, ROUNDS = 60, 9
FORMATS = {  # rate, channels, and what libsndfile calls it
    "FLAC, 24 kHz, mono": (24_000, 1, "FLAC", "PCM_16"),
    "FLAC, 48 kHz, stereo": (48_000, 2, "FLAC", "PCM_16"),
    "WAV, 16 kHz, mono": (16_000, 1, "WAV", "PCM_16"),
    "MP3, 44.1 kHz, stereo": (44_100, 2, "MP3", "MPEG_LAYER_III"),
    "Ogg Opus, 48 kHz, mono": (48_000, 1, "OGG", "OPUS"),
}


def write_recording(path: Path, seconds: int, rate: int, n_channels: int, kind: str, subtype: str) -> None:
    """Write the bundled recording, over and over; every further channel lags by 10 ms."""
    speech = load(DEMO_SPEECH, rate)
    sound = np.resize(speech, seconds * rate)
    channels = [np.roll(sound, channel * rate // 100) for channel in range(n_channels)]
    with soundfile.SoundFile(path, "w", rate, n_channels, subtype, format=kind) as file:
        for block in np.array_split(np.stack(channels, 1), seconds):  # libsndfile's Opus cannot take much at once
            file.write(block)


def measure(path: Path, case: str, seconds: int, rounds: int = ROUNDS) -> Row:
    """Read a file so many times."""
    load(path)
    times = []
    for _ in range(rounds):
        start = time.process_time()
        load(path)
        times.append(1e3 * (time.process_time() - start))
    p20, _, _, p80 = statistics.quantiles(times, n=5)
    p50 = statistics.median(times)
    timing = Timing(p20, p50, p80, noisy=p80 - p20 > 0.1 * p50)
    n_bytes = path.stat().st_size
    return Row(
        *("reading", "read", case, str(24_000 * seconds), "float32", "forward", "ours"),
        threads=1, call=timing, bytes=n_bytes, seconds=float(seconds),
    )  # fmt: skip


def main() -> None:
    where = provenance("cpu")
    writer = ResultWriter(result_path(RESULTS, where), where)
    with tempfile.TemporaryDirectory() as folder:
        for case, form in FORMATS.items():
            path = Path(folder, "recording")
            write_recording(path, SECONDS, *form)
            writer.add(measure(path, case, SECONDS))
            print(f"{case}: {writer.rows[-1].realtime:.0f} times real time")
    print(f"{writer.path} written")


if __name__ == "__main__":
    main()
