import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

from bench import gpu, parity, providers
from bench.cases import GRID, TELLING, TimingCase
from bench.ops import timing_cases
from bench.table import behind, table
from silk_fast.benchmark.costs import FORMULAS, Ceilings
from silk_fast.benchmark.rows import OK, Provenance, ResultWriter, Row, Timing, read_results

CPU = torch.device("cpu")
TINY = {"rel_attention": (2, 1.2), "rel_key_attention": (1, 0.06)}  # three frames; of the others, 10 ms
WHERE = Provenance("abc", "CPU", None, "2.6", None, "3.10.1", "2026-01-02T03:04:05")
BENCH = providers.Bench(CPU, {torch.float32: Ceilings(1e10, 1e11, 1e11)}, 2**30, seconds_budget=0.0)
TIMING = Timing(1.0, 2.0, 3.0, False)


def tiny_cases() -> list[TimingCase]:
    """The first layer of every op, both directions."""
    cases = [case for op in FORMULAS for case in timing_cases([TINY.get(op, (2, 0.01))], [torch.float32], op)]
    return list({(case.op, case.direction): case for case in reversed(cases)}.values())


def tiny_case(op: str, direction: str) -> TimingCase:
    return next(case for case in tiny_cases() if (case.op, case.direction) == (op, direction))


def case_id(case: TimingCase) -> str:
    return f"{case.op}-{case.direction}"


@pytest.fixture
def writer(tmp_path) -> ResultWriter:
    return ResultWriter(tmp_path / "r.json", WHERE)


# ---------------------------------------------------------------- cases


def test_cases_cover_every_op_point_and_dtype():
    cases = timing_cases()
    assert {case.op for case in cases} == set(FORMULAS)
    assert {case.point for case in cases} == set(GRID) == {(b, s) for b in (1, 8, 64) for s in (0.4, 10, 60)}
    assert len({(c.op, c.case, c.dtype, c.direction) for c in cases}) == len(cases)
    forward = Counter((c.op, c.dtype) for c in cases if c.direction == "forward" and c.op != "fsq_unpack")
    assert len(forward) == 3 * (len(FORMULAS) - 1)
    assert all({"ours", "eager"} <= set(case.calls) for case in cases)
    assert all(case.cost.bytes > 0 and case.cost.flops > 0 for case in cases)
    assert set(TELLING) <= set(GRID)


def test_case_names_and_shapes():
    case = next(c for c in timing_cases([(8, 10)]) if c.op == "snake")
    assert (case.case, case.shape) == ("Silk small 24 kHz, 10 s, batch 8", "8x32x240000")
    row = providers.row_of(case, "ours", BENCH)
    assert (row.op, row.dtype, row.seconds, row.bytes) == ("snake", "float32", 80.0, case.cost.bytes)


@pytest.mark.parametrize("case", tiny_cases(), ids=case_id)
def test_ours_agrees_with_the_reference(case):
    """In the interpreter: the very check that ``bench.test_parity`` makes on a GPU before anything is measured."""
    parity.check(case, CPU)


def test_parity_sees_a_wrong_kernel():
    snake, pack = (tiny_case(op, "forward") for op in ("snake", "fsq_pack"))
    wrong = replace(snake, calls={**snake.calls, "ours": lambda x, *rest: snake.calls["eager"](x, *rest) + 1e-3})
    with pytest.raises(AssertionError, match=r"snake .*error"):
        parity.check(wrong, CPU)
    wrong = replace(pack, calls={**pack.calls, "ours": lambda z: pack.calls["eager"](z) + 1})
    with pytest.raises(AssertionError, match="integers differ"):
        parity.check(wrong, CPU)


@pytest.mark.parametrize("case", tiny_cases(), ids=case_id)
def test_library_rivals_compute_the_same(case):
    rivals = [name for name in case.calls if name not in ("ours", "eager", "cudnn", "flex_attention")]
    for name in rivals:
        parity.check(replace(case, calls={**case.calls, "ours": case.calls[name]}), CPU)


def test_flex_attention_computes_the_same(monkeypatch):
    """Uncompiled, for speed: the window, the lookup and the scale are ours."""
    from torch.nn.attention import flex_attention

    from bench import attention

    monkeypatch.setattr(attention, "_compiled_flex", lambda: flex_attention.flex_attention)
    for case in timing_cases([(2, 32), (2, 0.5)], [torch.float32]):
        if "flex_attention" in case.calls and case.sizes["T"] < 100:
            parity.check(replace(case, calls={**case.calls, "ours": case.calls["flex_attention"]}), CPU)


# ---------------------------------------------------------------- one row


def test_measured_rows(writer):
    case = tiny_case("bias_silu", "forward")
    row = writer.add(providers.measured_row(case, "eager", BENCH, {}))
    assert row.status == OK
    assert row.threads == torch.get_num_threads()
    assert row.share == pytest.approx(case.cost.bytes / 1e10 * 1e3 / row.call.p50)
    assert row.ceiling == "bandwidth"
    assert providers.measured_row(tiny_case("bias_silu", "backward"), "eager", BENCH, {}).status == OK


def test_what_cannot_be_measured_is_a_row_that_says_so():
    case = tiny_case("snake", "forward")
    ours = providers.measured_row(case, "ours", BENCH, {})
    assert (ours.status, ours.call) == ("absent: Triton needs a GPU", None)
    assert providers.measured_row(case, "compile-max", BENCH, {}).status == "absent: CUDA graphs need a GPU"

    def fails(*_):
        raise RuntimeError("no\nmemory")

    broken = replace(case, calls={**case.calls, "eager": fails})
    assert providers.measured_row(broken, "eager", BENCH, {}).status == "failed: RuntimeError no memory"
    small = replace(BENCH, bound_bytes=1000)
    assert providers.measured_row(case, "eager", small, {}).status.startswith("skipped: needs about 0.0 GiB")
    on_gpu = replace(BENCH, device=torch.device("cuda"))
    wrong = {providers.family(case): "parity test of x: FAILED"}
    assert providers.absence(case, "ours", on_gpu, wrong) == "failed: parity test of x: FAILED"
    assert providers.absence(case, "eager", on_gpu, wrong) is None


def test_compiled_backward_runs_forward_before_each_pass(monkeypatch):
    """Without compiling: what matters is that buffers are used once."""
    case = tiny_case("add_layer_norm", "backward")
    n_forward = 0

    def counted(*inputs):
        nonlocal n_forward
        n_forward += 1
        return case.calls["eager"](*inputs)

    monkeypatch.setattr(providers, "provided", lambda case, provider: counted)
    assert providers.measured_row(case, "compile", BENCH, {}).status == OK
    assert n_forward > 5
    n_forward = 0
    assert providers.measured_row(case, "eager", BENCH, {}).status == OK
    assert n_forward == 2


# ---------------------------------------------------------------- the order, the time, the table


def test_the_telling_come_first():
    cases = gpu.selected_cases(torch.device("cuda"), smoke=False, full=False)
    stages = gpu.jobs_by_stage(cases, full=False)
    assert len(cases) < len(timing_cases())
    assert all(case.is_telling and case.direction == "forward" for stage in stages[:3] for case, _ in stage)
    assert {provider for _, provider in stages[1]} == {"compile"}
    assert {provider for _, provider in stages[2]} == {"compile-max"}
    n_ops = len(FORMULAS)
    first_layers = {case.op: case.layer for case, _ in reversed(stages[1])}
    assert len({case.op for case, _ in stages[1]}) == n_ops
    n_first = sum(first_layers[case.op] == case.layer for case, _ in stages[1])
    assert all(first_layers[case.op] == case.layer for case, _ in stages[1][:n_first])
    jobs = [(id(case), provider) for i, stage in enumerate(stages) if i != gpu.REPEAT for case, provider in stage]
    assert len(jobs) == len(set(jobs))
    everything = gpu.jobs_by_stage(gpu.selected_cases(torch.device("cuda"), smoke=False, full=True), full=True)
    n_full = sum(len(stage) for i, stage in enumerate(everything) if i != gpu.REPEAT)
    assert n_full == sum(len(providers.providers(case, with_compile=True)) for case in timing_cases())


def test_what_there_is_no_time_for_is_a_row_that_says_so(writer, monkeypatch):
    monkeypatch.setattr(gpu, "measure_codec", lambda *_: None)
    cases = [case for case in tiny_cases() if case.op == "snake"]
    stages = [[(case, "eager"), (case, "compile")] for case in cases]
    gpu.measure_all(stages, BENCH, writer, gpu.Clock(5.0), {}, smoke=True)
    found = {(row.direction, row.provider): row.status for row in read_results(writer.path)}
    assert found == {
        ("forward", "eager"): OK,
        ("backward", "eager"): OK,
        ("forward", "compile"): "skipped: time budget",
        ("backward", "compile"): "skipped: time budget",
    }


def test_a_repeat_that_disagrees_marks_the_row():
    row = Row("ops", "snake", "c", "1", "float32", "forward", "ours", call=TIMING)
    assert row.confirmed_by(row) == row
    assert row.confirmed_by(replace(row, call=Timing(1.0, 2.5, 3.0, False))).call == replace(TIMING, noisy=True)
    assert row.confirmed_by(replace(row, call=None, status="failed: x")) == row


class _Done:
    returncode = 1

    def __init__(self, text: str) -> None:
        self.stdout = text.encode()


def test_parity_results_decide_what_is_measured(monkeypatch):
    from bench.test_parity import case_id, parity_cases

    cases = parity_cases()
    lines = [f"bench/test_parity.py::test_parity[{case_id(case)}] PASSED [ 1%]" for case in cases]
    monkeypatch.setattr(gpu.subprocess, "run", lambda *_, **__: _Done("\n".join(lines)))
    assert gpu.failed_parity(1.0) == {}
    bad = next(case for case in cases if case.op == "polar_istft")
    text = "\n".join(lines).replace(f"[{case_id(bad)}] PASSED", f"[{case_id(bad)}] FAILED")
    monkeypatch.setattr(gpu.subprocess, "run", lambda *_, **__: _Done(text))
    assert gpu.failed_parity(1.0) == {providers.family(bad): f"parity test of {bad.case}: FAILED"}

    def too_slow(*_, **__):
        raise subprocess.TimeoutExpired("pytest", 1.0, output=lines[0].encode())

    monkeypatch.setattr(gpu.subprocess, "run", too_slow)
    reasons = gpu.failed_parity(1.0)
    assert set(reasons) == {providers.family(case) for case in cases}
    assert reasons[providers.family(bad)].endswith("no result within 1 s")


def test_table_and_what_is_behind():
    row = Row("ops", "snake", "c", "1", "float32", "forward", "ours", call=TIMING, share=0.5, ceiling="bandwidth")
    fast = replace(row, provider="torch.istft", call=Timing(0.5, 1.0, 1.5, True))
    slow = replace(row, provider="compile", call=Timing(4.0, 4.0, 4.0, False))
    failed = replace(row, provider="eager", status="failed: x", call=None)
    text = table([row, slow, failed, fast])
    assert "1~ torch.istft" in text
    assert "50% bandwidth" in text
    assert "1 of 4 rows have no figure" in text
    expected = "behind: snake c float32 forward: torch.istft is 2.00x as fast, 50% of its bandwidth ceiling"
    assert behind([row, slow, failed, fast]) == [expected]
    assert behind([replace(row, share=0.9), slow, failed]) == []


def test_a_gpu_is_asked_for_and_no_interpreter(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "no NVIDIA GPU" in capsys.readouterr().err
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cpu", "--smoke"])
    assert "unset TRITON_INTERPRET" in capsys.readouterr().err


BARE = """
import sys
sys.meta_path = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "") + str(f)]
BLOCKED = {"safetensors", "soundfile", "soxr", "matplotlib", "tqdm", "transformers", "diffusers", "snac", "scipy",
           "hypothesis", "huggingface_hub", "vector_quantize_pytorch"}
sys.modules.update(dict.fromkeys(BLOCKED))
from bench.gpu import main
status = main(["--device", "cpu", "--smoke", "-o", sys.argv[1]])
import silk_fast.kernels.all
assert "/kernels/" in silk_fast.kernels.all.__file__
sys.exit(status)
"""


def test_smoke_with_torch_and_triton_alone(tmp_path):
    """The whole path on a CPU, uninstalled, with nothing else that silk_fast depends on."""
    path = tmp_path / "smoke.json"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", BARE, path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=gpu.ROOT, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Milliseconds" in done.stdout.splitlines()[-1]
    rows = read_results(path)
    assert {row.section for row in rows} == {"card", "ops", "codec"}
    measured = Counter(row.provider for row in rows if row.status == OK and row.section == "ops")
    assert measured["eager"] >= 6
    assert measured["compile"] >= 1
    assert measured["torch.istft"] >= 1
    assert all(
        row.status == "absent: Triton needs a GPU" for row in rows if row.section == "ops" and row.provider == "ours"
    )
    assert not [row for row in rows if row.status.startswith("failed")]
