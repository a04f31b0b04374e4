"""Codecs of other libraries in the benchmark: what is called, what it costs, and what the page says of it."""

from dataclasses import replace

import pytest
import torch

from bench import codecs
from bench.codecs import LibraryCase
from bench.summary import libraries_section
from silk_fast.benchmark.rows import OK
from silk_fast.benchmark.runner import Bench, run_job
from tests.bench.support import ON_CPU, timing
from tests.codecs.configurations import TINY

CPU = torch.device("cpu")
ENCODE = LibraryCase("dac", "encode", "eager")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(codecs, "CODECS", TINY)


@pytest.mark.parametrize("provider", ["eager", "ours"])
def test_calls_are_those_of_the_library(provider):
    codec = TINY["dac"]
    model, audio = codec.make(), codec.speech(codecs.SECONDS)
    with torch.no_grad():
        expected = codec.encode(model, audio)
        sound = codec.decode(model, expected)
    encode, decode = (replace(ENCODE, op=op, provider=provider).ready(CPU)[0] for op in ("encode", "decode"))
    for ours, theirs in zip(codec.results(encode()), codec.results(expected), strict=True):
        assert (ours != theirs).float().mean() < 0.01
    torch.testing.assert_close(decode(), sound, rtol=0, atol=1e-4 * sound.abs().max().item())


def test_a_row_has_time_and_the_products_of_the_untouched_model():
    row = run_job(ENCODE, Bench(CPU, seconds=0.0))
    assert (row.status, row.section, row.case, row.shape) == (OK, "libraries", "dac, 1 s, batch 1", "1x1x16000")
    convolutions = [m for m in TINY["dac"].make().encoder.modules() if isinstance(m, torch.nn.Conv1d)]
    first = convolutions[0]
    at_least = 2 * first.weight.numel() * 16_000
    assert row.flops > at_least
    assert row.flops == replace(ENCODE, provider="ours").costs[0].flops
    assert row.bytes > 4 * sum(m.weight.numel() for m in convolutions)


def test_what_is_not_installed_is_absent(monkeypatch):
    monkeypatch.setattr(codecs, "find_spec", lambda name: None)
    assert run_job(ENCODE, Bench(CPU)).status == "absent: transformers is not installed"


def test_the_page_holds_half_precision_against_eager_float32():
    def row(provider, milliseconds, dtype=torch.float32):
        return replace(replace(ENCODE, provider=provider, dtype=dtype).row(call=timing(milliseconds)), **ON_CPU)

    rows = [row("eager", 60.0), row("compile", 30.0), row("ours", 40.0), row("ours", 20.0, torch.bfloat16)]
    line = "\n".join(libraries_section(rows)).splitlines()[-1]
    assert line.split(" | ")[2:] == ["dac, 1 s, batch 1", "60", "30", "40", "20", "1.50x", "**0.75x**", "3.00x |"]
    assert libraries_section([]) == []
