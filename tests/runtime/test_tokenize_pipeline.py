"""A corpus costs what reading and encoding cost, and hardly more."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from silk_fast import SilkCodec
from silk_fast.audio import load
from silk_fast.runtime.codec import open_codec
from tests.runtime.corpora import clip_bytes, tokens_in

pytest.importorskip("pyarrow")

SECONDS = (3, 11, 7, 5, 15, 4, 9, 6)  # of the clips


@pytest.fixture
def single_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_pipeline_takes_five_percent_more_than_reading_and_encoding_at_most(single_thread, tmp_path, monkeypatch):
    """The bundled model, accelerated, on FLAC of 24 kHz; processor time without loading model and modules."""
    from silk_fast.runtime.tokenize import run

    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / f"{i}.flac" for i in range(len(SECONDS))]
    for i, (path, seconds) in enumerate(zip(paths, SECONDS, strict=True)):
        path.write_bytes(clip_bytes(seconds * 24_000, 50_000 * i))
    codec = open_codec("silk", accelerate=True)
    monkeypatch.setattr(run, "open_codec", lambda *_, **__: codec)

    def alone() -> dict[str, list[list[int]]]:
        return {path.stem: encode(codec.model, path) for path in paths}

    def pipeline(out: Path) -> dict[str, list[list[int]]]:
        run.tokenize(tmp_path / "in", out, accelerate=True, workers=1, unit_hours=0.005)
        return out

    expected = alone()  # also warms up
    assert tokens_in(pipeline(tmp_path / "out")) == {name: tokens.tolist() for name, tokens in expected.items()}
    shares = []
    for i in range(5):
        start = time.process_time()
        alone()
        middle = time.process_time()
        pipeline(tmp_path / f"out{i}")
        shares.append((time.process_time() - middle) / (middle - start))
    print(f"pipeline / alone: {np.round(shares, 3)}")
    assert np.median(shares) <= 1.05


def encode(codec: SilkCodec, path: Path) -> torch.Tensor:
    return codec.encode(torch.from_numpy(load(path))[None, None]).tokens[0]
