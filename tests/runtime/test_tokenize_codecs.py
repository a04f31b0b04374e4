"""Corpora through the codecs of other libraries, in as many channels as they have."""

import json

import pytest
import torch

from silk_fast.audio import AudioReader
from silk_fast.runtime.codec import open_codec
from tests.cli.support import silk
from tests.codecs.saved import save_model
from tests.runtime.corpora import parts_in, rows_in

pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize(
    ("name", "options"), [("dac", {"n_quantizers": 2}), ("mimi", {"num_quantizers": 3}), ("encodec", {}), ("snac", {})]
)
def test_tokens_are_those_of_each_recording_alone(name, options, corpus, tmp_path):
    model, out = save_model(name, tmp_path / "model"), tmp_path / "out"
    more = ["--codebooks", *options.values()] if options else []
    command = ("tokenize", corpus, out, "--codec", name, "--weights", model, "-q", "--unit-hours", 0.0005)
    assert silk(*command, "--workers", 1, *more) == 0
    codec = open_codec(name, str(model), options=options)
    for row in rows_in(out):
        with AudioReader(corpus / f"{row['id']}.flac", codec.sample_rate, channels=codec.n_channels) as reader:
            audio = torch.cat([torch.from_numpy(block) for block in reader])
        assert row["samples"] == len(audio)
        tokens = codec.encode(audio.view(len(audio), codec.n_channels).T[None])[0]
        assert row["tokens"] == tokens.tolist()
    settings = json.loads(pq.read_schema(parts_in(out)[0]).metadata[b"silk_fast"])
    assert settings["options"] == options
    assert settings["codec"] == name
    assert settings["sample_rate"] == codec.sample_rate
