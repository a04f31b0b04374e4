"""Measure what a corpus costs beyond reading and encoding: processor time of the bundled model on FLAC of 24 kHz.

Model and modules are loaded before. ``python -m tests.runtime.pipeline FOLDER`` prints a share for every round.
"""

import sys
import time
from pathlib import Path

import torch

from silk_fast.audio import load
from silk_fast.runtime.codec import open_codec
from silk_fast.runtime.tokenize import run
from tests.runtime.corpora import clip_bytes, tokens_in

SECONDS = (3, 11, 7, 5, 15, 4, 9, 6)  # of the clips
ROUNDS = 7


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    (folder / "in").mkdir()
    paths = [folder / "in" / f"{i}.flac" for i in range(len(SECONDS))]
    for i, (path, seconds) in enumerate(zip(paths, SECONDS, strict=True)):
        path.write_bytes(clip_bytes(seconds * 24_000, 50_000 * i))
    codec = open_codec("silk", accelerate=True)
    run.open_codec = lambda *_, **__: codec

    def alone() -> dict[str, list[list[int]]]:
        audio = {path.stem: torch.from_numpy(load(path))[None, None] for path in paths}
        return {name: codec.model.encode(samples).tokens[0].tolist() for name, samples in audio.items()}

    def pipeline(out: Path) -> Path:
        run.tokenize(folder / "in", out, accelerate=True, workers=1, unit_hours=0.005)
        return out

    assert tokens_in(pipeline(folder / "out")) == alone()  # also warms up
    for i in range(ROUNDS):
        start = time.process_time()
        alone()
        middle = time.process_time()
        pipeline(folder / f"out{i}")
        end = time.process_time()
        print(f"{(end - middle) / (middle - start):.4f} {middle - start:.3f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
