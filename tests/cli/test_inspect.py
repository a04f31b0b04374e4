"""``silk info``, ``silk compare`` and ``silk demo``."""

import json

import pytest
import soundfile

from tests.cli.support import files_in, silk


def test_info_describes_silk_audio_and_model(speech, model, capsys):
    assert silk("encode", speech, "-m", model) == 0
    assert silk("info", speech.with_suffix(".silk"), speech) == 0
    out = capsys.readouterr().out
    for text in ("silk version 1", "128 of 8 levels, 7 to a token", "WAV PCM_16", "intact  True"):
        assert text in out
    assert silk("info", "-m", model, "--json") == 0
    described = json.loads(capsys.readouterr().out)["described"][0]
    assert (described["tokens_per_frame"], described["bits_per_second"]) == (19, 960.0)


def test_compare_measures_and_draws(speech, tmp_path, capsys):
    samples, rate = soundfile.read(speech, dtype="float32")
    soundfile.write(tmp_path / "half.wav", samples / 2 * 1.0001, rate, "FLOAT")
    assert silk("compare", speech, tmp_path / "half.wav", "--png", tmp_path / "out.png", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["reference_level_db"] - values["other_level_db"] == pytest.approx(6.02, abs=0.01)
    assert values["si_sdr_db"] > 100
    assert 3 < values["log_spectral_distance_db"] < 6.1
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert silk("compare", speech, tmp_path / "half.wav", "--png", tmp_path / "out.png") == 1
    assert "exists already" in capsys.readouterr().err


def test_demo_writes_a_table_and_a_picture(model, tmp_path, capsys):
    assert silk("demo", "-m", model, "-o", tmp_path / "demo") == 0
    out = capsys.readouterr().out
    for name in ("duration_seconds", "frames", "tokens", "bits_per_second", "encode_realtime_factor", "log_spectral"):
        assert name in out
    assert files_in(tmp_path / "demo") == ["speech.png", "speech.silk", "speech.wav"]
