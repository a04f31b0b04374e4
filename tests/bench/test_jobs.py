"""Cases of ops, and the rows that jobs make of them."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from bench.cases import DTYPES, FRAME, GRID, TELLING
from bench.jobs import ON_GPU_ALONE, OpJob
from bench.ops import timing_cases
from bench.selections import selected_cases
from silk_fast.benchmark.costs import FORMULAS
from silk_fast.benchmark.rows import OK
from silk_fast.benchmark.runner import run_job
from silk_fast.cpu.library import why_not
from tests.bench.support import BENCH, THREADS, streams, tiny_case, tiny_cases


def test_cases_cover_every_op_point_and_dtype():
    cases = timing_cases()
    assert {case.op for case in cases} == set(FORMULAS)
    assert {case.point for case in cases} == set(GRID) == {(b, s) for b in (1, 8, 64) for s in (0.4, 10, 60)}
    assert len({(c.op, c.name, c.dtype, c.direction) for c in cases}) == len(cases)
    one_dtype = {"fsq_unpack", "rvq_encode", "rvq_decode", "factorized_rvq_encode"}
    forward = Counter((c.op, c.dtype) for c in cases if c.direction == "forward" and c.op not in one_dtype)
    assert len(forward) == 3 * (len(FORMULAS) - len(one_dtype))
    assert {c.op for c in cases if c.dtype == torch.float32} == set(FORMULAS)
    assert all({"ours", "eager"} <= set(case.calls) for case in cases)
    assert all(case.cost.bytes > 0 and case.cost.flops > 0 for case in cases)
    assert set(TELLING) <= set(GRID)


def test_streams_are_of_one_frame_and_forward_and_go_on():
    found = [case for case in timing_cases() if case.is_stream]
    assert {case.op for case in found} == {"rel_attention", "glu_conv_norm_silu", "residual_unit", "polar_istft_stream"}
    assert {case.direction for case in found} == {"forward"}
    assert Counter(case.point for case in found) == {(batch, FRAME): 5 * len(DTYPES) for batch in (1, 8, 64)}
    assert all(case.is_telling == (case.point[0] == 1) for case in found)
    by_layer = {(case.op, case.layer): case.sizes for case in streams(1, torch.float32)}
    assert by_layer["rel_attention", "Silk stream"] | {"T": 1, "cached": 63} == by_layer["rel_attention", "Silk stream"]
    assert by_layer["glu_conv_norm_silu", "Silk stream"]["context"] == 14
    assert by_layer["residual_unit", "Silk small 75 Hz stream"]["context"] == 54
    selected = selected_cases(full=False)
    assert {case.point[0] for case in selected if case.is_stream and case.is_served} == {1, 8, 64}


def test_case_names_and_shapes():
    case = next(c for c in timing_cases([(8, 10)]) if c.op == "snake")
    row = OpJob(case, "ours").row()
    assert (row.case, row.shape) == ("Silk small 24 kHz, 10 s, batch 8", "8x32x240000")
    assert (row.op, row.dtype, row.seconds, row.bytes) == ("snake", "float32", 80.0, case.cost.bytes)


def test_a_single_frame_has_no_gradient_but_that_of_its_value():
    single = {case.direction: case for case in timing_cases([(1, FRAME)], [torch.float32], "rel_attention")[:2]}
    assert ["flex_attention" in single[direction].calls for direction in ("forward", "backward")] == [True, False]


def test_measured_rows():
    case = tiny_case("bias_silu", "forward")
    row = run_job(OpJob(case, "eager", THREADS), BENCH)
    assert row.status == OK
    assert row.threads == THREADS
    assert row.share == pytest.approx(case.cost.bytes / 1e10 * 1e3 / row.call.p50)
    assert row.ceiling == "bandwidth"
    assert run_job(OpJob(tiny_case("bias_silu", "backward"), "eager"), BENCH).status == OK


def test_what_cannot_be_measured_is_a_row_that_says_so(monkeypatch):
    case = tiny_case("snake", "forward")
    compiled = run_job(OpJob(case, "compile-max"), BENCH)
    assert (compiled.status, compiled.call) == ("absent: Triton and CUDA graphs need an NVIDIA GPU", None)
    assert run_job(OpJob(case, "ours"), BENCH).status == (f"absent: {why_not()}" if why_not() else OK)
    monkeypatch.setattr("bench.jobs.why_not", lambda: "no compiler")
    assert run_job(OpJob(case, "ours"), BENCH).status == "absent: no compiler"

    def fails(*_):
        raise RuntimeError("no\nmemory")

    broken = replace(case, calls={**case.calls, "eager": fails})
    assert run_job(OpJob(broken, "eager"), BENCH).status == "failed: RuntimeError: no memory"
    wrong = replace(BENCH, device=torch.device("cuda"), wrong={case.family: "failed: parity of x: differs"})
    assert OpJob(case, "ours").absence(wrong) == "failed: parity of x: differs"
    assert OpJob(case, "eager").absence(wrong) is None


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_what_the_page_of_a_cpu_calls_ours_is_what_serves_there():
    for case in tiny_cases():
        if case.direction == "forward":
            status = run_job(OpJob(case, "ours"), BENCH).status
            assert status == ("absent: the op is served on a GPU alone" if case.op in ON_GPU_ALONE else OK), case.op


@pytest.mark.parametrize("provider", ["compile", "flex_attention"])
def test_compiled_backward_runs_forward_before_each_pass(monkeypatch, provider):
    """Without compiling: what matters is that buffers are used once."""
    case = tiny_case("add_layer_norm", "backward")
    n_forward = 0

    def counted(*inputs):
        nonlocal n_forward
        n_forward += 1
        return case.calls["eager"](*inputs)

    monkeypatch.setattr(OpJob, "call", lambda job: counted)
    assert run_job(OpJob(case, provider), BENCH).status == OK
    assert n_forward > 3
    n_forward = 0
    assert run_job(OpJob(case, "eager"), BENCH).status == OK
    assert n_forward == 2
