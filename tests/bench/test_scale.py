"""docs/scale.md is arithmetic on rows, and says what is assumed."""

from dataclasses import replace

import pytest

from bench import reading, scale
from bench.scale import write_scale
from silk_fast.benchmark.rows import Row
from tests.bench.support import ON_CPU, ON_GPU, row, write
from tests.support import ROOT

RESULTS = sorted((ROOT / "bench" / "results").glob("*.json"))
ENCODE = Row(
    "codec", "encode", "tiny, 10 s, batch 1", "1x1x240000", "float32", "forward", "ours", threads=1, seconds=10.0
)
OTHER = replace(ENCODE, section="libraries", case="other, 1 s, batch 1", seconds=1.0)
READ = Row("reading", "read", "FLAC", "240000", "float32", "forward", "ours", threads=1, seconds=10.0)


def rows() -> list[Row]:
    return [
        row("ours", 100.0, ENCODE, ON_CPU),
        row("eager", 200.0, ENCODE, ON_CPU),
        row("ours", 50.0, ENCODE, ON_CPU, dtype="bfloat16"),
        row("ours", 1.0, ENCODE, ON_CPU, threads=2),
        row("ours", 1.0, ENCODE, ON_CPU, case="tiny, 10 s, batch 8", seconds=80.0),
        row("ours", 100.0, OTHER, ON_CPU),
        row("ours", 20.0, READ, ON_CPU, bytes=500_000),
    ]


def page_of(tmp_path, found: list[Row], **options) -> str:
    write_scale([write(tmp_path / f"{i}.json", [one]) for i, one in enumerate(found)], tmp_path / "page.md", **options)
    return (tmp_path / "page.md").read_text()


def test_the_page_of_this_repository_is_made_of_its_files(tmp_path):
    write_scale(RESULTS, tmp_path / "scale.md")
    assert (tmp_path / "scale.md").read_text() == (ROOT / "docs" / "scale.md").read_text()


def test_rates_of_one_thread_become_hours_days_and_money(tmp_path):
    text = page_of(tmp_path, rows(), cores=10, price=0.5)
    assert "| tiny, 10 s, batch 1 | 100 | 50 | - | 200 |" in text
    assert "| other, 1 s, batch 1 | 10 | - | - | - |" in text
    assert "| tiny, 10 s, batch 1 | 1,000 | 4.17 | 500 | 100,000 | 417 | 50,000 |" in text
    assert "**Assumed: 10 cores, each as fast as one alone, and a price of 0.5 for an hour of one**" in text
    assert "batch 8" not in text


def test_what_feeds_a_card_follows_from_reading_and_no_rate_of_one_is_made_up(tmp_path):
    text = page_of(tmp_path, rows())
    assert "| Some CPU (2 cores) | FLAC | 500 | 2 | 50 |" in text
    assert "**No rate of a GPU has been measured.**" in text
    text = page_of(tmp_path, [*rows(), row("ours", 1.0, ENCODE, ON_GPU, threads=None)])
    assert "The highest R measured is 10,000: Some GPU, tiny, 10 s, batch 1, float32." in text


def test_the_machine_that_was_measured_last_counts(tmp_path):
    later = {**ON_CPU, "device": "Other CPU", "date": "2026-02-01T00:00:00+00:00", "commit": "decade"}
    text = page_of(tmp_path, [row("ours", 1000.0, ENCODE, later), *rows()])
    assert "| Some CPU (2 cores) | FLAC |" in text
    assert "one thread of Other CPU" in text
    assert "(2026-02-01 decade)" in text
    assert "| tiny, 10 s, batch 1 | 10 | - | - | - |" in text


def test_without_rates_nothing_is_written(tmp_path, capsys):
    path = write(tmp_path / "gpu.json", [row("ours", 1.0, ENCODE, ON_GPU)])
    for arguments, words in (([str(path)], "found none in 1 files"), (["--cores", "0"], "whole number >= 1, got '0'")):
        with pytest.raises(SystemExit, match="2"):
            scale.main([*arguments, "-o", str(tmp_path / "page.md")])
        assert words in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize("form", reading.FORMATS)
def test_reading_is_measured_of_files_of_every_form(form, tmp_path):
    reading.write_recording(tmp_path / "recording", 2, *reading.FORMATS[form])
    found = reading.measure(tmp_path / "recording", form, 2, rounds=3)
    assert found.case == form
    assert 1000 < found.bytes < 2 * 4 * 48_000
    assert found.call.p20 <= found.call.p50 <= found.call.p80
    assert found.realtime > 1
