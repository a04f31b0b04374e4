"""``silk encode`` and ``silk decode`` on files, folders and damaged files."""

import json

import numpy as np
import pytest
import soundfile
import torch

from silk_fast import SilkConfig
from silk_fast.audio import load
from tests.cli.support import files_in, silk
from tests.support import make_codec, voices


def test_encode_then_decode_gives_what_the_library_gives(speech, model, capsys):
    codec = make_codec()
    assert silk("encode", speech, "-m", model) == 0
    assert (
        silk("decode", speech.with_suffix(".silk"), "-o", speech.with_name("out.wav"), "-m", model, "--bits", "float")
        == 0
    )
    assert files_in(speech.parent) == ["out.wav", "speech.silk", "speech.wav"]
    encoded = codec.encode(torch.from_numpy(load(speech))[None, None])
    expected = codec.decode(encoded.tokens, encoded.lengths)[0, 0].numpy()
    np.testing.assert_allclose(load(speech.with_name("out.wav")), expected, atol=1e-5)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2.08 s, 6 frames, 114 tokens" in captured.err


def test_folders_are_mirrored_and_one_bad_file_does_not_stop_the_rest(speech, model, tmp_path, capsys):
    tree = tmp_path / "in"
    (tree / "deep" / "er").mkdir(parents=True)
    for name in ("a.wav", "deep/b.flac", "deep/er/c.ogg"):
        samples, rate = soundfile.read(speech)
        soundfile.write(tree / name, samples, rate)
    (tree / "deep" / "broken.wav").write_text("this is text")
    (tree / "notes.txt").write_text("not audio")
    assert silk("encode", tree, "-o", tmp_path / "tokens", "-m", model) == 1
    assert files_in(tmp_path / "tokens") == ["a.silk", "deep/b.silk", "deep/er/c.silk"]
    err = capsys.readouterr().err
    assert "broken.wav" in err
    assert "3 done, 1 failed" in err
    assert silk("decode", tmp_path / "tokens", "-o", tmp_path / "out", "-m", model, "--format", "flac") == 0
    assert files_in(tmp_path / "out") == ["a.flac", "deep/b.flac", "deep/er/c.flac"]
    assert soundfile.info(tmp_path / "out" / "a.flac").frames == 50_000


def test_existing_output_is_kept_unless_forced(speech, model, capsys):
    target = speech.with_suffix(".silk")
    target.write_text("precious")
    assert silk("encode", speech, "-m", model) == 1
    assert "exists already, give -f to overwrite" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert silk("encode", speech, "-m", model, "-f") == 0
    assert target.read_bytes().startswith(b"\x89SILK")


def test_json_describes_every_file(speech, model, capsys):
    assert silk("encode", speech, "missing.wav", "-o", speech.parent / "out", "-m", model, "--json", "-q") == 1
    report = json.loads(capsys.readouterr().out)
    assert [row["n_frames"] for row in report["done"]] == [6]
    assert report["done"][0]["seconds"] == pytest.approx(50_000 / 24_000)
    assert report["failed"][0]["input"] == "missing.wav"
    assert "No such file" in report["failed"][0]["error"]


def test_other_rates_and_stereo_are_converted_with_a_notice(model, tmp_path, capsys):
    stereo = np.random.default_rng(0).uniform(-0.1, 0.1, (44_100, 2))
    soundfile.write(tmp_path / "stereo.wav", stereo, 44_100)
    assert silk("encode", tmp_path / "stereo.wav", "-m", model) == 0
    assert "stereo.wav: 2 channels mixed down to mono" in capsys.readouterr().err
    assert silk("info", tmp_path / "stereo.silk", "--json") == 0
    assert json.loads(capsys.readouterr().out)["described"][0]["samples"] == 24_000


def test_clipped_samples_are_counted(model, tmp_path, capsys):
    loud = make_codec()
    loud.decoder.head.bias.data[: loud.decoder.n_bins] += 6
    loud.save_pretrained(tmp_path / "loud")
    soundfile.write(tmp_path / "a.wav", voices()[0, 0, :9600].numpy(), 24_000)
    assert silk("encode", tmp_path / "a.wav", "-m", tmp_path / "loud") == 0
    capsys.readouterr()
    assert silk("decode", tmp_path / "a.silk", "-o", tmp_path / "b.wav", "-m", tmp_path / "loud") == 0
    assert "samples were beyond full scale and clipped" in capsys.readouterr().err


def test_tokens_of_another_model_need_force(tokens, tmp_path, capsys):
    other = make_codec()
    other.decoder.head.bias.data += 1e-3
    other.save_pretrained(tmp_path / "other")
    target = tokens.with_name("out.wav")
    assert silk("decode", tokens, "-o", target, "-m", tmp_path / "other") == 1
    assert "made by a model with weights" in capsys.readouterr().err
    assert not target.exists()
    assert silk("decode", tokens, "-o", target, "-m", tmp_path / "other", "--force-model") == 0
    assert target.exists()


def test_tokens_of_another_geometry_are_refused_even_with_force(tokens, tmp_path, capsys):
    make_codec(SilkConfig.preset("tiny", output_delay=960)).save_pretrained(tmp_path / "late")
    assert silk("decode", tokens, "-o", tmp_path / "o.wav", "-m", tmp_path / "late", "--force-model") == 1
    assert "not a file for this model: output_delay is 0, the model's is 960" in capsys.readouterr().err


def test_recover_fills_gaps_with_silence_and_says_what_was_lost(model, tmp_path, capsys):
    audio = voices()[0, 0].repeat(2)[: 9600 * 200].numpy()  # 200 frames: blocks of 64, 64, 64 and 8
    soundfile.write(tmp_path / "long.wav", audio, 24_000)
    assert silk("encode", tmp_path / "long.wav", "-q", "-m", model) == 0
    path = tmp_path / "long.silk"
    whole = tmp_path / "whole.wav"
    assert silk("decode", path, "-o", whole, "-q", "-m", model) == 0
    data = bytearray(path.read_bytes())
    data[80 + 3088 + 500] ^= 1  # in the second block
    path.write_bytes(data)
    capsys.readouterr()
    assert silk("info", path) == 1
    assert "intact  False" in capsys.readouterr().out
    assert silk("decode", path, "-o", tmp_path / "out.wav", "-m", model) == 1
    assert not (tmp_path / "out.wav").exists()
    assert silk("decode", path, "-o", tmp_path / "out.wav", "-m", model, "--recover") == 0
    assert "lost 64 frames from frame 64" in capsys.readouterr().err
    expected, found = load(whole), load(tmp_path / "out.wav")
    assert len(found) == len(expected) == len(audio)
    gap = slice(64 * 9600, 128 * 9600)
    assert (found[gap] == 0).all()
    np.testing.assert_allclose(found[: 64 * 9600], expected[: 64 * 9600], atol=1e-4)
    np.testing.assert_allclose(found[140 * 9600 :], expected[140 * 9600 :], atol=1e-4)  # past the decoder's memory


def test_recover_ends_with_the_last_intact_block(model, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", voices()[0, 0, : 9600 * 100].numpy(), 24_000)
    assert silk("encode", tmp_path / "a.wav", "-q", "-m", model) == 0
    path = tmp_path / "a.silk"
    path.write_bytes(path.read_bytes()[: 80 + 3088 + 100])
    assert silk("decode", path, "-o", tmp_path / "b.wav", "-m", model, "--recover") == 0
    assert "36 of 100 frames were lost" in capsys.readouterr().err
    assert soundfile.info(tmp_path / "b.wav").frames == 64 * 9600
