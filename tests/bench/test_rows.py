import json
from dataclasses import replace

import pytest

from silk_fast import __version__
from silk_fast.benchmark import provenance as origin
from silk_fast.benchmark.provenance import provenance, result_path
from silk_fast.benchmark.rows import ResultWriter, Row, Timing, read_results
from silk_fast.benchmark.runner import TimeLimit, failure
from silk_fast.errors import SilkFileError, SilkInputError

WHERE = {
    **{"commit": "abc1234567+dirty", "device": "NVIDIA GeForce RTX 3090", "driver": "570.1", "torch": "2.6"},
    **{"triton": None, "python": "3.10.1", "date": "2026-01-02T03:04:05"},
}
ROW = Row("ops", "snake", "Silk small 24 kHz, 10 s, batch 8", "8x32x240000", "float32", "forward", "ours")


def full_row(**changes) -> Row:
    timing = Timing(1.0, 1.5, 2.0, True)
    return replace(ROW, call=timing, kernel=timing, bytes=10, flops=5, share=0.8, ceiling="bandwidth", **changes)


def test_what_is_written_is_read(tmp_path):
    writer = ResultWriter(tmp_path / "new" / "r.json", WHERE)
    rows = [full_row(), replace(ROW, provider="compile", status="failed: OutOfMemoryError")]
    writer.add(*rows)
    assert read_results(writer.path) == writer.rows == [replace(row, **WHERE) for row in rows]


def test_the_file_is_whole_after_every_row(tmp_path):
    writer = ResultWriter(tmp_path / "r.json", WHERE)
    for i in range(3):
        writer.add(replace(ROW, shape=str(i)))
        assert [row.shape for row in read_results(writer.path)] == [str(k) for k in range(i + 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def edited(tmp_path, edit) -> str:
    ResultWriter(tmp_path / "r.json", WHERE).add(full_row())
    content = json.loads((tmp_path / "r.json").read_text())
    edit(content)
    (tmp_path / "r.json").write_text(json.dumps(content))
    return str(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(format=2), 'expected an object with "format": 1'),
        (lambda c: c.pop("rows"), "list"),
        (lambda c: c["rows"].append(3), "row 1: "),
        (lambda c: c["rows"][0].pop("dtype"), "row 0: .*'dtype'"),
        (lambda c: c["rows"][0].update(colour="red"), "row 0: .*'colour'"),
        (lambda c: c["rows"][0].update(call=1.0), "row 0: "),
    ],
)
def test_a_bad_file_names_row_and_field(tmp_path, edit, message):
    with pytest.raises(SilkInputError, match=f"r.json: .*{message}"):
        read_results(edited(tmp_path, edit))


def test_no_result_file(tmp_path):
    with pytest.raises(SilkInputError, match=r"none\.json: cannot be read: No such file"):
        read_results(tmp_path / "none.json")
    (tmp_path / "text").write_text("text")
    with pytest.raises(SilkInputError, match="expected a JSON result file"):
        read_results(tmp_path / "text")


def test_a_row_that_cannot_be_written_is_refused(tmp_path):
    writer = ResultWriter(tmp_path / "r.json", WHERE)
    writer.add(ROW)
    with pytest.raises(ValueError, match="JSON"):
        writer.add(full_row(seconds=float("nan")))
    assert len(read_results(writer.path)) == 1
    with pytest.raises(SilkFileError):
        ResultWriter(tmp_path, WHERE).add(ROW)


def test_file_names(tmp_path):
    first = result_path(tmp_path, WHERE)
    assert first.name == "nvidia-geforce-rtx-3090-2026-01-02-abc1234567-dirty.json"
    first.touch()
    assert result_path(tmp_path, WHERE).name == "nvidia-geforce-rtx-3090-2026-01-02-abc1234567-dirty-2.json"


def test_provenance_of_a_cpu():
    where = provenance("cpu")
    assert where["driver"] is None
    assert where["device"].endswith("cores)")
    assert where["date"].endswith("+00:00")
    assert all(where[name] for name in ("torch", "python", "commit"))


@pytest.mark.parametrize(("status", "commit"), [("", "0123456789"), (" M a.py", "0123456789+dirty")])
def test_commit(monkeypatch, status, commit):
    answers = {"--show-toplevel": str(origin.ROOT), "HEAD": "0123456789", "--untracked-files=no": status}
    monkeypatch.setattr(origin, "_output", lambda *command: answers[command[-1]])
    assert provenance("cpu")["commit"] == commit


def test_an_unrelated_repository_is_not_taken_for_ours(monkeypatch):
    monkeypatch.setattr(origin, "_output", lambda *command: "/somewhere/else")
    assert provenance("cpu")["commit"] == f"v{__version__}"


def test_without_a_repository_the_version_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(origin, "ROOT", tmp_path)
    monkeypatch.setattr(origin, "_output", lambda *command: None)
    assert provenance("cpu")["commit"] == f"v{__version__}"


def test_early_files_without_later_fields_are_read(tmp_path):
    def strip(content):
        for name in ("captured", "repeat"):
            del content["rows"][0][name]

    (row,) = read_results(edited(tmp_path, strip))
    assert (row.captured, row.repeat) == (None, None)


def test_what_took_too_long_was_skipped_and_has_not_failed():
    assert failure(TimeLimit("stopped after 3 s")) == "skipped: time budget, stopped after 3 s"
    assert failure(RuntimeError("no\nluck")) == "failed: RuntimeError: no luck"
