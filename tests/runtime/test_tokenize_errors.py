"""What cannot be encoded has one row that says why, and costs nobody else anything."""

import errno
import json
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.support import wav_bytes
from tests.cli.support import silk
from tests.runtime.corpora import (
    LENGTHS,
    clip_bytes,
    problems_in,
    tokenize,
    tokens_in,
    write_csv,
    write_folder,
    write_parquet,
    write_tar,
)

pa = pytest.importorskip("pyarrow")


def flac_that_announces(n_samples: int) -> bytes:
    """A FLAC file whose header tells of so many samples."""
    data = bytearray(clip_bytes(9_600))
    (word,) = struct.unpack(">Q", data[18:26])
    data[18:26] = struct.pack(">Q", word >> 36 << 36 | n_samples)
    return bytes(data)


def bad_files(folder: Path) -> dict[str, tuple[str, str]]:
    """Write bad files among the good; returns the kind and a part of the reason of each."""
    good = clip_bytes(30_000, suffix="WAV")
    (folder / "empty.wav").touch()
    (folder / "cut.wav").write_bytes(good[:-9_999])
    (folder / "cut2.flac").write_bytes(clip_bytes(30_000)[:-5_000])
    soundfile.write(folder / "nan.wav", np.array([0, np.nan, 0], np.float32), 24_000, "FLOAT")
    soundfile.write(folder / "loud.wav", np.full(9_600, 1e30, np.float32), 24_000, "FLOAT")
    (folder / "hostile.flac").write_bytes(flac_that_announces(2**36 - 1))
    (folder / "hostile2.flac").write_bytes(flac_that_announces(20_000))
    (folder / "hostile3.wav").write_bytes(wav_bytes(size=2**30))
    (folder / "hostile4.wav").write_bytes(wav_bytes(channels=0))
    (folder / "hostile5.wav").write_bytes(wav_bytes(rate=2**32 // 4))
    (folder / "text.wav").write_text("no audio at all")
    (folder / "gone.wav").symlink_to(folder / "nowhere")
    (folder / "round").symlink_to(folder)
    (folder / "above").symlink_to(folder.parent.parent)
    (folder / "zoe.wav").write_bytes(good)  # beside zoe.flac
    (folder / os.fsdecode(b"caf\xe9.wav")).write_bytes(good)
    return {
        "empty": ("audio", "is empty (0 bytes)"),
        "cut": ("audio", "cut short"),
        "cut2": ("audio", "cut short"),
        "nan": ("audio", "sample 1 (0.000042 s) is nan"),
        "loud": ("input", "magnitude 1e+30"),
        "hostile": ("duration", "lasts 795.36 h or more, expected at most 24 h"),
        "hostile2": ("audio", "cut short, 9600 samples per channel where the header announces 20000"),
        "hostile3": ("audio", "cut short"),
        "hostile4": ("audio", "not audio that libsndfile reads"),
        "hostile5": ("audio", "source_rate must be"),
        "text": ("audio", "not audio that libsndfile reads"),
        "gone": ("missing", "No such file or directory"),
        "round": ("folder", "leads to a folder that is read already"),
        "above": ("folder", "leads to a folder that is read already, or that holds the source"),
        "zoe": ("duplicate", "an earlier input has this id"),
        "caf\\udce9.wav": ("name", "is not UTF-8"),
    }


@pytest.mark.parametrize("unit_hours", [1.0, 0.0001])
def test_every_bad_input_has_one_row_and_all_others_are_complete(unit_hours, corpus, clips, model, tmp_path, capsys):
    expected = bad_files(corpus)
    write_folder(tmp_path / "good", clips)
    assert tokenize(tmp_path / "good", tmp_path / "alone", model) == 0
    assert tokenize(corpus, tmp_path / "out", model, "--unit-hours", unit_hours) == 1
    found = problems_in(tmp_path / "out")
    assert found.keys() == expected.keys()
    for id, (kind, reason) in expected.items():
        assert (id, found[id][0]) == (id, kind)
        assert reason in found[id][1]
        assert str(tmp_path) not in found[id][1]
    assert tokens_in(tmp_path / "out") == tokens_in(tmp_path / "alone")
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 11  # ten and how many more there are
    assert f"{len(expected) - 10} more without tokens" in captured.err
    assert f"{len(LENGTHS)} done, {len(expected)} failed" in captured.out
    assert "Traceback" not in captured.err
    assert tokenize(corpus, tmp_path / "out", model, "--unit-hours", unit_hours) == 1


def test_lines_of_manifests_are_refused_one_by_one(clips, model, tmp_path):
    write_folder(tmp_path, clips)
    os.mkfifo(tmp_path / "fifo.wav")
    lines: list[str | bytes] = [
        json.dumps({"path": "zoe.flac", "id": "whole"}),
        "{",
        "[1]",
        json.dumps({"id": "no path"}),
        json.dumps({"path": "", "id": "empty path"}),
        json.dumps({"path": "fifo.wav"}),
        json.dumps({"path": "nowhere/x.wav"}),
        json.dumps({"path": "a\0b", "id": "NUL"}),
        json.dumps({"path": "zoe.flac", "id": "whole"}),
        json.dumps({"path": "zoe.flac", "id": [1]}),
        json.dumps({"path": "zoe.flac", "id": "start", "start": -1}),
        json.dumps({"path": "zoe.flac", "id": "text", "start": "soon"}),
        json.dumps({"path": "zoe.flac", "id": "order", "start": 0.5, "end": 0.5}),
        json.dumps({"path": "zoe.flac", "id": "behind", "start": 5}),
        json.dumps({"path": "zoe.flac", "id": "beyond", "start": 0.5, "end": 5}),
        json.dumps({"path": "zoe.flac", "id": "rounded", "start": 0.5, "end": 0.85}),
        json.dumps({"path": "zoe.flac", "id": "surrogate", "text": "\ud800"}),
        b'{"path": "caf\xe9.wav"}',
    ]
    data = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    (tmp_path / "m.jsonl").write_bytes(data)
    assert tokenize(tmp_path / "m.jsonl", tmp_path / "out", model) == 1
    assert tokens_in(tmp_path / "out").keys() == {"whole", "rounded"}
    kinds = {id: kind for id, (kind, _) in problems_in(tmp_path / "out").items()}
    manifest = ("line 2", "line 3", "no path", "empty path", "NUL", "[1]", "start", "text", "order")
    expected = dict.fromkeys((*manifest, "line 17", "line 18"), "manifest")
    expected |= {
        "fifo": "audio",
        "nowhere/x": "missing",
        "behind": "segment",
        "beyond": "segment",
        "whole": "duplicate",
    }
    assert kinds == expected


def test_a_recording_damaged_late_has_the_parts_before(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.r_[np.zeros(200_000), np.nan], 24_000, "FLOAT")
    rows = [{"path": "a.wav", "id": "early", "end": 1}, {"path": "a.wav", "id": "late", "start": 8}, {"path": "a.wav"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert tokenize(tmp_path / "m.jsonl", tmp_path / "out", model) == 1
    assert tokens_in(tmp_path / "out").keys() == {"early"}
    found = problems_in(tmp_path / "out")
    assert {id: kind for id, (kind, _) in found.items()} == {"late": "audio", "a": "audio"}
    assert all("sample 200000 (8.333333 s) is nan" in reason for _, reason in found.values())


def test_damage_of_archives_and_tables(clips, model, tmp_path):
    clips = {**clips, "bad": b"RIFF", "none": b""}
    (tmp_path / "tar").mkdir()
    path = write_tar(tmp_path / "tar" / "a.tar", {id: data for id, data in clips.items() if id in ("anna/one", "bad")})
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    cut = write_tar(tmp_path / "tar" / "b.tar", {id: clips[id] for id in ("ben/one", "zoe")})
    cut.write_bytes(cut.read_bytes()[:-12_000])
    (tmp_path / "tar" / "c.tar").write_bytes(b"no archive")
    assert tokenize(tmp_path / "tar", tmp_path / "out", model) == 1
    kinds = {id: kind for id, (kind, _) in problems_in(tmp_path / "out").items()}
    assert tokens_in(tmp_path / "out").keys() == {"anna/one", "ben/one"}
    assert kinds == {"bad": "audio", "link": "archive", "b.tar": "archive", "c.tar": "archive", "zoe": "audio"}

    table = write_parquet(tmp_path / "a.parquet", clips)
    assert tokenize(table, tmp_path / "out2", model) == 1
    assert tokens_in(tmp_path / "out2").keys() == LENGTHS.keys()
    assert {id: kind for id, (kind, _) in problems_in(tmp_path / "out2").items()} == {"bad": "audio", "none": "audio"}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("nothing", None, "is not there, expected a folder, a manifest"),
        ("a.zip", b"PK", "is none of the kinds that are known"),
        ("folder", "folder", "holds no audio"),
        ("a.csv", b"", "one of them path"),
        ("a.csv", b"path,path\n", "none twice"),
        ("a.csv", b'path,x\n"a', "expected CSV"),
        ("a.jsonl", b"", "holds no audio"),
        ("a.jsonl", b'{"path": "a.wav", "tokens": 1}', "column 'tokens' would be passed through"),
        ("a.parquet", b"PAR1PAR1", "cannot be read as Parquet"),
    ],
)
def test_a_source_that_is_none_is_refused_in_one_line(name, data, message, model, tmp_path, capsys):
    if data == "folder":
        (tmp_path / name).mkdir()
    elif data is not None:
        (tmp_path / name).write_bytes(data)
    assert silk("tokenize", tmp_path / name, tmp_path / "out", "-m", model) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_options_that_are_impossible(corpus, model, tmp_path, capsys):
    for options, message in (
        (["--unit-hours", 1000], "unit_hours must be a number > 0 and <= 100"),
        (["--max-hours", 1e6], "max_hours must be"),
        (["--weights", "x"], "--weights is for codecs of other libraries"),
        (["--codec", "dac"], "--model is for Silk"),
        (["--merge", "--to", "webdataset"], "can be merged"),
        (["--device", "cuda:93"], "is not there"),
    ):
        assert silk("tokenize", corpus, tmp_path / "out", "-m", model, *options) == 1
        assert message in capsys.readouterr().err
    assert silk("tokenize", corpus, tmp_path / "out", "--codec", "oobleck", "--weights", model) == 1
    assert "latents, no tokens" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_run_and_is_no_fault_of_an_input(corpus, model, tmp_path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    from silk_fast.runtime.tokenize import encoding

    monkeypatch.setattr(encoding._Chunks, "push", full)
    assert tokenize(corpus, tmp_path / "out", model) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("part-*"))


def test_an_exception_of_any_kind_is_the_fault_of_its_input(corpus, model, tmp_path, monkeypatch):
    from silk_fast.runtime.tokenize import encoding

    push = encoding._Chunks.push

    def odd(self, samples):
        if len(samples) == 20_001:
            raise RuntimeError("odd")
        push(self, samples)

    monkeypatch.setattr(encoding._Chunks, "push", odd)
    assert tokenize(corpus, tmp_path / "out", model) == 1
    assert problems_in(tmp_path / "out") == {"zoe": ("unexpected", "RuntimeError: odd")}
    assert len(tokens_in(tmp_path / "out")) == len(LENGTHS) - 1


def test_csv_with_lines_of_another_length(clips, model, tmp_path):
    path = write_csv(tmp_path / "in", clips)
    with path.open("ab") as file:
        file.write(b"x,y.wav\nx,zoe.flac,\xff\nlast,zoe.flac,text\n")
    assert tokenize(path, tmp_path / "out", model) == 1
    assert tokens_in(tmp_path / "out").keys() == {*LENGTHS, "last"}
    assert problems_in(tmp_path / "out") == {
        "line 7": ("manifest", "expected 3 values, as many as columns"),
        "line 8": ("manifest", "expected UTF-8"),
    }


def test_without_pyarrow_the_command_names_the_extra(corpus, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert silk("tokenize", corpus, tmp_path / "out", "-m", model) == 1
    assert "silk tokenize needs the package pyarrow: pip install silk_fast[tokenize]" in capsys.readouterr().err
