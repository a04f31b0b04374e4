"""Whatever form a corpus has, its shards have the same ids and tokens, and others can read them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from silk_fast import SilkCodec
from silk_fast.audio import load
from tests.cli.support import silk
from tests.runtime.corpora import (
    LENGTHS,
    TEXTS,
    parts_in,
    rows_in,
    samples_of,
    tokenize,
    tokens_in,
    write_csv,
    write_folder,
    write_jsonl,
    write_parquet,
    write_tar,
)
from tests.support import voices

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FORMS = {
    "folder": write_folder,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "tar": lambda folder, clips: write_tar(folder / "a.tar", clips),
    "tar.gz": lambda folder, clips: write_tar(folder / "a.tar.gz", clips, "w:gz"),
    "parquet": lambda folder, clips: write_parquet(folder / "a.parquet", clips),
}


@pytest.fixture(scope="module")
def expected(clips, model) -> dict[str, list[list[int]]]:
    """Tokens of every clip, encoded alone."""
    codec = SilkCodec.from_pretrained(model)
    audio = {id: torch.from_numpy(samples_of(data))[None, None] for id, data in clips.items()}
    return {id: codec.encode(samples).tokens[0].tolist() for id, samples in audio.items()}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_ids_and_tokens_of_each_clip_alone(form, clips, expected, model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    source = FORMS[form](tmp_path / "in", clips)
    assert tokenize(source, tmp_path / "out", model, "--unit-hours", 0.0005) == 0
    assert tokens_in(tmp_path / "out") == expected
    rows = {row["id"]: row for row in rows_in(tmp_path / "out")}
    assert {id: row["samples"] for id, row in rows.items()} == LENGTHS
    if form != "folder":
        column = "txt" if form.startswith("tar") else "text"
        assert {id: row[column] for id, row in rows.items()} == TEXTS
    if form == "jsonl":
        assert [rows[id]["weight"] for id in clips] == [i / 4 for i in range(len(clips))]
    assert len(parts_in(tmp_path / "out")) > 1
    assert "5 done, 0 failed" in capsys.readouterr().out


def test_folders_of_archives_and_of_parquet_files_are_sources(clips, expected, model, tmp_path):
    ids = list(clips)
    for name, write in (("tars", write_tar), ("tables", write_parquet)):
        (tmp_path / name / "sub").mkdir(parents=True)
        suffix = "tar" if name == "tars" else "parquet"
        write(tmp_path / name / f"b.{suffix}", {id: clips[id] for id in ids[:2]})
        write(tmp_path / name / "sub" / f"a.{suffix}", {id: clips[id] for id in ids[2:]})
        assert tokenize(tmp_path / name, tmp_path / f"{name}-out", model) == 0
        assert tokens_in(tmp_path / f"{name}-out") == expected


def test_shards_say_which_model_and_versions_made_them(corpus, model, tmp_path):
    assert tokenize(corpus, tmp_path / "out", model) == 0
    schema = pq.read_schema(parts_in(tmp_path / "out")[0])
    settings = json.loads(schema.metadata[b"silk_fast"])
    assert settings["weights_sha256"] == SilkCodec.from_pretrained(model).weights_sha256
    assert settings["versions"]["torch"] == str(torch.__version__)
    assert settings["versions"]["pyarrow"] == pa.__version__
    assert schema.field("tokens").type == pa.list_(pa.list_(pa.int32()))
    plan = pq.read_table(tmp_path / "out" / "plan.parquet")
    assert plan["path"].to_pylist() == ["zoe.flac", *(f"{id}.flac" for id in sorted(LENGTHS) if "/" in id)]


def test_parts_of_recordings_are_as_they_are_alone(model, tmp_path):
    """Of a file at another rate, out of order, and one over another."""
    audio = voices()[0, 0].numpy()
    soundfile.write(tmp_path / "long.wav", audio, 16_000)
    spans = [(2.0, 5.5), (None, 1.0), (4.0, None), (0.5, 0.5001), (2.0, 2.3)]
    lines = [{"path": "long.wav", "start": start, "end": end} for start, end in spans]
    lines[4]["id"] = 7
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert tokenize(tmp_path / "m.jsonl", tmp_path / "out", model) == 0
    whole, codec = load(tmp_path / "long.wav"), SilkCodec.from_pretrained(model)
    rows = rows_in(tmp_path / "out")
    assert [row["id"] for row in rows] == ["long@2-5.5", "long@0-1", "long@4-", "long@0.5-0.5001", "7"]
    for row, (start, end) in zip(rows, spans, strict=True):
        piece = whole[round(24_000 * (start or 0)) : None if end is None else round(24_000 * end)]
        assert row["samples"] == len(piece)
        assert row["tokens"] == codec.encode(torch.from_numpy(piece.copy())[None, None]).tokens[0].tolist()


def test_columns_are_passed_through_with_their_types(clips, model, tmp_path):
    write_folder(tmp_path, dict(list(clips.items())[:3]))
    odd = [{"n": 1, "x": 1, "ok": True, "tags": ["a"]}, {"n": 2, "x": 1.5, "ok": None, "tags": {"b": "ü"}}, {}]
    lines = [{"path": f"{id}.flac", **row} for id, row in zip(clips, odd, strict=False)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert tokenize(tmp_path / "m.jsonl", tmp_path / "out", model) == 0
    found = [{name: row[name] for name in ("n", "x", "ok", "tags")} for row in rows_in(tmp_path / "out")]
    assert found == [
        {"n": 1, "x": 1.0, "ok": True, "tags": '["a"]'},
        {"n": 2, "x": 1.5, "ok": None, "tags": '{"b": "ü"}'},
        {"n": None, "x": None, "ok": None, "tags": None},
    ]


def test_webdataset_shards_hold_the_same(clips, expected, model, tmp_path):
    source = write_jsonl(tmp_path / "in", clips)
    out = tmp_path / "out"
    assert tokenize(source, out, model, "--to", "webdataset") == 0
    assert tokenize(source, out, model, "--to", "webdataset", "--merge") == 1
    found = {}
    with tarfile.open(out / "part-00000.tar") as tar:
        names = tar.getnames()
        for name in names:
            id = name.removesuffix(".tokens.npy").removesuffix(".json")
            data = tar.extractfile(name).read()
            if name.endswith(".npy"):
                found[id] = np.load(io.BytesIO(data))
            else:
                assert json.loads(data)["text"] == TEXTS[id]
        assert all(member.mtime == 0 for member in tar.getmembers())
    assert {id: array.tolist() for id, array in found.items()} == expected
    assert all(array.dtype == np.int32 for array in found.values())


def test_merged_shards_are_one_table(corpus, expected, model, tmp_path):
    out = tmp_path / "out"
    assert tokenize(corpus, out, model, "--merge", "--unit-hours", 0.0005) == 0
    table = pq.read_table(out / "tokens.parquet")
    assert dict(zip(table["id"].to_pylist(), table["tokens"].to_pylist(), strict=True)) == expected
    assert table.schema.metadata == pq.read_schema(parts_in(out)[0]).metadata


def test_links_to_folders_are_followed_once_and_after_all_else(clips, expected, model, tmp_path):
    write_folder(tmp_path / "in", {id: data for id, data in clips.items() if not id.startswith("ben")})
    write_folder(tmp_path / "elsewhere", {"one": clips["ben/one"], "three": clips["ben/three"]})
    (tmp_path / "in" / "ben").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    assert tokenize(tmp_path / "in", tmp_path / "out", model) == 0
    assert tokens_in(tmp_path / "out") == expected
    assert [row["id"] for row in rows_in(tmp_path / "out")][-2:] == ["ben/one", "ben/three"]


def test_json_tells_of_the_run(corpus, model, tmp_path, capsys):
    (corpus / "bad.wav").write_bytes(b"RIFF")
    assert tokenize(corpus, tmp_path / "out", model, "--json", "--unit-hours", 0.0005) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["n_done"], report["n_failed"], report["n_units"], report["n_resumed"]) == (5, 1, 3, 0)
    assert report["problems"][0]["id"] == "bad"
    assert report["seconds"] == pytest.approx(sum(LENGTHS.values()) / 24_000)
    assert report["n_frames"] == sum(len(tokens) for tokens in tokens_in(tmp_path / "out").values())


def test_what_is_hardly_meant_is_told_of_once(model, tmp_path, capsys):
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.full(9_600, 900.0, np.float32), 24_000, "FLOAT")
    assert silk("tokenize", tmp_path, tmp_path / "out", "-m", model, "--workers", 1) == 0
    assert capsys.readouterr().err.count("part 0: audio has samples of magnitude 900") == 1


def shards(corpus: Path, model: Path, out: Path) -> str:
    assert tokenize(corpus, out, model, "--unit-hours", 0.0005) == 0
    return str(out / "part-*.parquet")


def test_pandas_reads_the_shards(corpus, expected, model, tmp_path):
    pandas = pytest.importorskip("pandas")
    shards(corpus, model, tmp_path / "out")
    frame = pandas.concat([pandas.read_parquet(path) for path in parts_in(tmp_path / "out")])
    assert {id: [list(row) for row in tokens] for id, tokens in zip(frame.id, frame.tokens, strict=True)} == expected


def test_duckdb_reads_the_shards(corpus, expected, model, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    pattern = shards(corpus, model, tmp_path / "out")
    assert dict(duckdb.sql(f"SELECT id, tokens FROM '{pattern}'").fetchall()) == expected
    assert duckdb.sql(f"SELECT sum(samples) FROM '{pattern}'").fetchall() == [(sum(LENGTHS.values()),)]


def test_datasets_reads_the_shards(corpus, expected, model, tmp_path):
    datasets = pytest.importorskip("datasets")
    pattern = shards(corpus, model, tmp_path / "out")
    found = datasets.load_dataset("parquet", data_files=pattern, split="train", cache_dir=str(tmp_path / "cache"))
    assert {row["id"]: row["tokens"] for row in found} == expected
