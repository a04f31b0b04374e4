import json
from dataclasses import asdict, fields, replace

import pytest

from silk_fast import __version__
from silk_fast.benchmark import provenance as origin
from silk_fast.benchmark import rows
from silk_fast.benchmark.provenance import Provenance, provenance, result_path, slug
from silk_fast.benchmark.rows import ResultWriter, Row, Timing, read_results
from silk_fast.benchmark.runner import TimeLimit, failure
from silk_fast.errors import SilkFileError, SilkInputError

WHERE = Provenance("abc1234567+dirty", "NVIDIA GeForce RTX 3090", "570.1", "2.6", None, "3.10.1", "2026-01-02T03:04:05")
ROW = Row("ops", "snake", "Silk small 24 kHz, 10 s, batch 8", "8x32x240000", "float32", "forward", "ours")


def full_row(**changes) -> Row:
    timing = Timing(1.0, 1.5, 2.0, True)
    return replace(ROW, call=timing, kernel=timing, bytes=10, flops=5, share=0.8, ceiling="bandwidth", **changes)


def test_what_is_written_is_read(tmp_path):
    writer = ResultWriter(tmp_path / "new" / "r.json", WHERE)
    written = [writer.add(full_row()), writer.add(replace(ROW, provider="compile", status="failed: OutOfMemoryError"))]
    assert read_results(writer.path) == written == writer.rows
    assert all(getattr(row, name) == value for row in written for name, value in asdict(WHERE).items())


def test_the_file_is_whole_after_every_row(tmp_path):
    writer = ResultWriter(tmp_path / "r.json", WHERE)
    for i in range(3):
        writer.add(replace(ROW, shape=str(i)))
        assert [row.shape for row in read_results(writer.path)] == [str(k) for k in range(i + 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_a_row_measured_again_replaces_the_first(tmp_path):
    writer = ResultWriter(tmp_path / "r.json", WHERE)
    writer.extend([ROW, replace(ROW, provider="eager")])
    again = writer.add(full_row())
    assert read_results(writer.path)[0] == again
    assert len(writer.rows) == 2


def edited(tmp_path, edit) -> str:
    ResultWriter(tmp_path / "r.json", WHERE).add(full_row())
    content = json.loads((tmp_path / "r.json").read_text())
    edit(content)
    (tmp_path / "r.json").write_text(json.dumps(content))
    return str(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(format=2), "format: expected 1, got 2"),
        (lambda c: c.pop("rows"), "list"),
        (lambda c: c["rows"].append(3), "row 1: expected an object, got 3"),
        (lambda c: c["rows"][0].pop("dtype"), "row 0: dtype: missing"),
        (lambda c: c["rows"][0].update(colour="red"), "row 0: colour: unknown field"),
        (lambda c: c["rows"][0].update(bytes=1.5), "row 0: bytes: expected int or null, got 1.5"),
        (lambda c: c["rows"][0].update(threads=True), "row 0: threads: expected int or null, got True"),
        (lambda c: c["rows"][0].update(op=None), "row 0: op: expected str, got None"),
        (lambda c: c["rows"][0].update(share=float("inf")), "row 0: share"),
        (lambda c: c["rows"][0].update(direction="sideways"), "row 0: direction: expected one of .*sideways"),
        (lambda c: c["rows"][0].update(call=1.0), "row 0: call: expected Timing or null, got 1.0"),
        (lambda c: c["rows"][0]["call"].update(noisy=1), "row 0: call: noisy: expected bool, got 1"),
        (lambda c: c["rows"][0]["kernel"].update(p20=9.0), "row 0: kernel: expected 0 <= p20 <= p50 <= p80"),
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


def test_a_bad_row_is_refused_before_it_is_written(tmp_path):
    writer = ResultWriter(tmp_path / "r.json", WHERE)
    writer.add(ROW)
    for bad in (replace(ROW, section="other"), full_row(seconds=float("nan")), replace(ROW, bytes=1.0)):
        with pytest.raises(SilkInputError):
            writer.add(bad)
    assert len(read_results(writer.path)) == 1
    with pytest.raises(SilkFileError):
        ResultWriter(tmp_path, WHERE).add(ROW)


def test_file_names(tmp_path):
    assert slug("NVIDIA GeForce RTX 3090") == "nvidia-geforce-rtx-3090"
    first = result_path(tmp_path, WHERE)
    assert first.name == "nvidia-geforce-rtx-3090-2026-01-02-abc1234567-dirty.json"
    first.touch()
    assert result_path(tmp_path, WHERE).name == "nvidia-geforce-rtx-3090-2026-01-02-abc1234567-dirty-2.json"


def test_provenance_of_a_cpu():
    where = provenance("cpu")
    assert where.driver is None
    assert where.device.endswith("cores)")
    assert where.date.endswith("+00:00")
    assert all(where.torch and where.python and where.commit for _ in fields(where))


@pytest.mark.parametrize(("status", "commit"), [("", "0123456789"), (" M a.py", "0123456789+dirty")])
def test_commit(monkeypatch, status, commit):
    answers = {"--show-toplevel": str(origin.ROOT), "HEAD": "0123456789", "--untracked-files=no": status}
    monkeypatch.setattr(origin, "_output", lambda *command: answers[command[-1]])
    assert provenance("cpu").commit == commit


def test_an_unrelated_repository_is_not_taken_for_ours(monkeypatch):
    monkeypatch.setattr(origin, "_output", lambda *command: "/somewhere/else")
    assert provenance("cpu").commit == f"v{__version__}"


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("where", ["detached", "loose", "packed", "worktree"])
def test_the_commit_is_read_from_disk_where_git_refuses(monkeypatch, tmp_path, where):
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{COMMIT}\n" if where == "detached" else "ref: refs/heads/main\n")
    if where == "packed":
        (git / "packed-refs").write_text(
            f"# pack-refs with: peeled\n{'f' * 40} refs/heads/x\n{COMMIT} refs/heads/main\n"
        )
    else:
        (git / "refs" / "heads" / "main").write_text(f"{COMMIT}\n")
    root = tmp_path
    if where == "worktree":
        (git / "worktrees" / "w").mkdir(parents=True)
        (git / "worktrees" / "w" / "HEAD").write_text("ref: refs/heads/main\n")
        (git / "worktrees" / "w" / "commondir").write_text("../..\n")
        root = tmp_path / "w"
        root.mkdir()
        (root / ".git").write_text(f"gitdir: {git}/worktrees/w\n")
    monkeypatch.setattr(origin, "ROOT", root)
    monkeypatch.setattr(origin, "_output", lambda *command: None)
    assert provenance("cpu").commit == "0123456789+unchecked"


def test_without_a_repository_the_version_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(origin, "ROOT", tmp_path)
    monkeypatch.setattr(origin, "_output", lambda *command: None)
    assert provenance("cpu").commit == f"v{__version__}"


def test_early_files_without_later_fields_are_read(tmp_path):
    def strip(content):
        for name in rows.LATER_FIELDS:
            del content["rows"][0][name]

    (row,) = read_results(edited(tmp_path, strip))
    assert (row.captured, row.repeat) == (None, None)


def test_a_row_says_whether_a_repeat_confirmed_it():
    row = full_row(captured=True)
    assert row.repeat is None
    assert row.confirmed_by(row).repeat == "confirmed"
    slower = replace(row, call=Timing(3.0, 3.0, 3.0, False))
    contradicted = row.confirmed_by(slower)
    assert contradicted.repeat == "contradicted"
    assert contradicted.confirmed_by(row).repeat == "contradicted"
    launches = replace(row, captured=False, kernel=Timing(9.0, 9.0, 9.0, False))
    assert row.confirmed_by(launches).repeat == "confirmed"  # device times of another kind say nothing
    assert row.confirmed_by(replace(ROW, status="failed: x")) == row


def test_a_first_run_confirms_nothing(tmp_path):
    assert ResultWriter(tmp_path / "r.json", WHERE).add(full_row()).repeat is None


def test_what_took_too_long_was_skipped_and_has_not_failed():
    assert failure(TimeLimit("stopped after 3 s")) == "skipped: time budget, stopped after 3 s"
    assert failure(RuntimeError("no\nluck")) == "failed: RuntimeError: no luck"
    assert replace(ROW, status="skipped: x").is_left_out
    assert not replace(ROW, status="failed: x").is_left_out


@pytest.mark.parametrize(("change", "noisy"), [(1.05, False), (1.2, True), (1 / 1.2, True)])
def test_a_second_run_marks_what_it_does_not_confirm(tmp_path, change, noisy):
    row = full_row()
    ResultWriter(tmp_path / "r.json", WHERE).add(replace(row, call=Timing(0.9, 1.0, 1.1, False), kernel=None))
    again = replace(row, call=Timing(*(p * change for p in (0.9, 1.0, 1.1)), False), kernel=None)
    assert ResultWriter(tmp_path / "r.json", WHERE).add(again).call.noisy is noisy
