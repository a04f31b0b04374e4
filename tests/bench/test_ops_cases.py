import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import gpu, parity, providers
from bench.cases import DTYPES, FRAME, GRID, TELLING, TimingCase
from bench.gpu import Stage
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
    """The first layer of every op, both directions, and the first of every stream."""
    cases = [case for op in FORMULAS for case in timing_cases([TINY.get(op, (2, 0.01))], [torch.float32], op)]
    cases += streams(2, torch.float32)
    return list({(case.op, case.is_stream, case.direction): case for case in reversed(cases)}.values())


def streams(batch: int, dtype: torch.dtype) -> list[TimingCase]:
    return [case for case in timing_cases([(batch, FRAME)], [dtype]) if case.is_stream]


def tiny_case(op: str, direction: str) -> TimingCase:
    return next(case for case in tiny_cases() if (case.op, case.direction, case.is_stream) == (op, direction, False))


def case_id(case: TimingCase) -> str:
    return f"{case.op}-{'stream' if case.is_stream else case.direction}"


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
    selected = gpu.selected_cases(torch.device("cuda"), smoke=False, full=False)
    assert {case.point[0] for case in selected if case.is_stream and case.is_served} == {1, 8, 64}


def test_case_names_and_shapes():
    case = next(c for c in timing_cases([(8, 10)]) if c.op == "snake")
    assert (case.case, case.shape) == ("Silk small 24 kHz, 10 s, batch 8", "8x32x240000")
    row = providers.row_of(case, "ours", BENCH)
    assert (row.op, row.dtype, row.seconds, row.bytes) == ("snake", "float32", 80.0, case.cost.bytes)


@pytest.mark.parametrize("case", tiny_cases(), ids=case_id)
def test_ours_agrees_with_the_reference(case):
    """In the interpreter: the very check that ``bench.test_parity`` makes on a GPU before anything is measured."""
    parity.check(case, CPU)


def test_a_fused_residual_unit_agrees_in_a_stream():
    """In half precision, from packed weights and with the context as a stream remembers it."""
    case = next(case for case in streams(1, torch.float16) if case.layer == "Silk small 75 Hz stream")
    parity.check(case, CPU)
    forgetful = replace(case, layouts={"ours": lambda *inputs: [*case.layouts["ours"](*inputs)[:-1], None]})
    with pytest.raises(AssertionError, match=r"residual_unit .*error"):
        parity.check(forgetful, CPU)


def test_parity_is_asked_of_all_that_is_measured():
    from bench.test_parity import parity_cases

    assert {providers.family(case) for case in parity_cases()} == {providers.family(case) for case in timing_cases()}


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
    """Uncompiled, for speed, and with gradients, which it refuses on a CPU but has: window, lookup, scale are ours."""
    from torch.nn.attention import flex_attention

    from bench import attention

    monkeypatch.setattr(attention, "_compiled_flex", lambda: flex_attention.flex_attention)
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    checked = set()
    for case in timing_cases([(2, 32), (2, 0.5)], [torch.float32]):
        if "flex_attention" in case.calls and case.sizes["T"] < 100:
            torch.compiler.reset()
            parity.check(replace(case, calls={**case.calls, "ours": case.calls["flex_attention"]}), CPU)
            checked.add((case.layer, case.direction))
    layers = ("Silk", "Wav2Vec2-Conformer", "Wav2Vec2-BERT")
    assert checked == {(layer, direction) for layer in layers for direction in ("forward", "backward")}


def test_gradients_of_flex_attention_need_a_gpu_and_more_than_one_frame():
    forward, backward = timing_cases([(1, FRAME)], [torch.float32], "rel_key_attention")
    on_gpu = replace(BENCH, device=torch.device("cuda"))
    row = providers.measured_row(backward, "flex_attention", BENCH, {})
    assert (row.status, row.call) == ("absent: gradients of FlexAttention need a GPU", None)
    assert providers.absence(forward, "flex_attention", BENCH, {}) is None
    assert providers.absence(backward, "flex_attention", on_gpu, {}) is None
    single = {case.direction: case for case in timing_cases([(1, FRAME)], [torch.float32], "rel_attention")[:2]}
    assert ["flex_attention" in single[direction].calls for direction in ("forward", "backward")] == [True, False]


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
    assert providers.measured_row(broken, "eager", BENCH, {}).status == "failed: RuntimeError: no memory"
    small = replace(BENCH, bound_bytes=1000)
    assert providers.measured_row(case, "eager", small, {}).status.startswith("skipped: needs about 0.0 GiB")
    on_gpu = replace(BENCH, device=torch.device("cuda"))
    wrong = {providers.family(case): "failed: parity test of x: FAILED"}
    assert providers.absence(case, "ours", on_gpu, wrong) == "failed: parity test of x: FAILED"
    assert providers.absence(case, "eager", on_gpu, wrong) is None


def test_a_job_that_hangs_is_stopped():
    case = tiny_case("snake", "forward")
    hangs = replace(case, calls={**case.calls, "eager": lambda *_: time.sleep(10)})
    row = providers.measured_row(hangs, "eager", BENCH, {}, limit_seconds=0.1)
    assert row.status == "skipped: time budget, stopped after 0 s"


def test_gradients_do_not_need_the_default_generator(monkeypatch):
    """Which a capture that failed may have spoiled."""

    def spoiled(*_, **__):
        raise RuntimeError("Offset increment outside graph capture encountered unexpectedly")

    monkeypatch.setattr(torch, "randn_like", spoiled)
    before = torch.get_rng_state()
    assert providers.measured_row(tiny_case("bias_silu", "backward"), "eager", BENCH, {}).status == OK
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("provider", ["compile", "flex_attention"])
def test_compiled_backward_runs_forward_before_each_pass(monkeypatch, provider):
    """Without compiling: what matters is that buffers are used once."""
    case = tiny_case("add_layer_norm", "backward")
    n_forward = 0

    def counted(*inputs):
        nonlocal n_forward
        n_forward += 1
        return case.calls["eager"](*inputs)

    monkeypatch.setattr(providers, "provided", lambda case, provider: counted)
    assert providers.measure_case(case, provider, BENCH).call.p50 > 0
    assert n_forward > 5
    n_forward = 0
    assert providers.measured_row(case, "eager", BENCH, {}).status == OK
    assert n_forward == 2


# ---------------------------------------------------------------- the order, the time, the table


def stages_of(full: bool) -> dict[Stage, list[gpu.Job]]:
    return gpu.jobs_by_stage(gpu.selected_cases(torch.device("cuda"), smoke=False, full=full), full=full)


def n_jobs(stages: dict[Stage, list[gpu.Job]]) -> int:
    return sum(len(jobs) for stage, jobs in stages.items() if stage is not Stage.REPEAT)


def test_the_telling_come_first():
    stages, early = stages_of(full=False), list(Stage)[: Stage.REST]
    assert list(stages) == sorted(stages)
    assert all(case.is_telling for stage in early for case, _ in stages[stage])
    compiled = {"compile", "compile-max", "flex_attention"}
    for stage, directions in ((Stage.FORWARD, {"forward"}), (Stage.GRADIENTS, {"backward"})):
        assert {case.direction for case, _ in stages[stage]} == directions
        names = {provider for _, provider in stages[stage]}
        assert {"ours", "eager", "sdpa"} <= names
        assert not names & compiled
    assert {job[1] for job in stages[Stage.FLEX]} == {"flex_attention"}
    assert {job[1] for job in stages[Stage.COMPILE]} == {"compile"}
    assert {job[1] for job in stages[Stage.COMPILE_MAX]} == {"compile-max"}
    for stage in (Stage.FLEX, Stage.COMPILE):
        directions = [case.direction for case, _ in stages[stage]]
        assert set(directions) == {"forward", "backward"}
        assert directions == sorted(directions, reverse=True)  # forward first
    forward = [case for case, provider in stages[Stage.COMPILE_MAX] if case.direction == "forward"]
    first_layers = {case.op: case.layer for case in reversed(forward)}
    assert first_layers.keys() == set(FORMULAS)
    n_first = sum(first_layers[case.op] == case.layer for case in forward)
    assert all(first_layers[case.op] == case.layer for case in forward[:n_first])


def test_nothing_is_compiled_again_for_the_repeat():
    stages = stages_of(full=False)
    assert {"ours", "eager"} <= {provider for _, provider in stages[Stage.REPEAT]}
    assert not {provider for _, provider in stages[Stage.REPEAT]} & {"compile", "compile-max", "flex_attention"}


def test_every_job_has_one_stage():
    for full in (False, True):
        stages = stages_of(full)
        jobs = [
            (id(case), provider) for stage in stages if stage is not Stage.REPEAT for case, provider in stages[stage]
        ]
        assert len(jobs) == len(set(jobs))
    assert n_jobs(stages_of(True)) == sum(len(providers.providers(case, with_compile=True)) for case in timing_cases())


def test_the_page_says_how_much_a_run_selects():
    page = (gpu.ROOT / "bench" / "README.md").read_text()
    n_cases, n_all, n_default, n_full = (
        int(number.replace(" ", ""))
        for number in re.search(
            r"([\d ]+) of ([\d ]+) cases.*?([\d ]+) figures.*?([\d ]+) figures", page, re.S
        ).groups()
    )
    selected = gpu.selected_cases(torch.device("cuda"), smoke=False, full=False)
    assert (n_cases, n_all) == (len(selected), len(timing_cases()))
    assert (n_default, n_full) == (n_jobs(stages_of(False)), n_jobs(stages_of(True)))


def test_the_page_says_what_is_measured_on_a_cpu():
    from bench.test_codec import cases

    assert {case.threads for case in cases() if case.provider == "compile"} == {max(case.threads for case in cases())}
    clips = [case for case in cases() if not case.is_frame and case.provider == "ours"]
    for n_threads in {case.threads for case in clips}:
        mine = [case for case in clips if case.threads == n_threads]
        *shorter, longest = (f"{seconds:g}" for seconds in sorted({case.seconds for case in mine if case.batch == 1}))
        batches = " and ".join(str(n) for n in sorted({case.batch for case in mine if case.batch > 1}))
        sizes = f"one frame, {', '.join(shorter)} and {longest} s alone, and 10 s in batches of {batches}"
        assert sizes in " ".join((gpu.ROOT / "bench" / "README.md").read_text().split())


def test_repetitions_on_a_cpu_fit_into_the_time_but_are_never_few():
    from bench.conftest import n_rounds

    assert n_rounds(lambda: None, 0.1) == 100
    assert n_rounds(lambda: time.sleep(0.1), 0.2) == 3
    assert 3 <= n_rounds(lambda: time.sleep(0.02), 0.2) <= 10


def test_on_a_cpu_every_op_and_every_stream_is_measured_once():
    from bench.test_ops import cases

    assert {case.op for case in cases()} == set(FORMULAS)
    assert Counter(case.point for case in cases()) == {(1, 10): len(FORMULAS) - 1, (1, FRAME): 5}
    assert [case.is_stream for case in cases()].count(True) == 5


def test_a_run_has_a_limit_and_so_has_every_job():
    clock = gpu.Clock(100.0, start=time.monotonic() - 90.0)
    assert 9 < clock.left <= 10
    assert clock.limit("compile") <= 10
    assert 4.5 < clock.part(0.5).left <= 5
    assert gpu.Clock(math.inf).part(0.5).left == math.inf
    assert gpu.Clock(1000.0).limit("ours") == gpu.LIMIT
    assert gpu.Clock(math.inf).limit("compile") == math.inf


def test_what_there_is_no_time_for_is_a_row_that_says_so(writer, monkeypatch):
    parts = []
    monkeypatch.setattr(gpu, "measure_codec", lambda names, *_: parts.append(names))
    cases = [case for case in tiny_cases() if case.op == "snake"]
    stages = {stage: [] for stage in Stage}
    stages[Stage.FORWARD] = stages[Stage.REPEAT] = [(case, "eager") for case in cases]
    stages[Stage.COMPILE] = [(case, "compile") for case in cases]
    monkeypatch.setattr(gpu.Clock, "spent", 0.0)
    monkeypatch.setattr(gpu.Clock, "limit", lambda *_: math.inf)
    gpu.measure_all(stages, BENCH, writer, gpu.Clock(0.99 * gpu.NEEDED_SECONDS["compile"]), {}, smoke=True)
    found = {(row.direction, row.provider): (row.status, row.repeat is not None) for row in read_results(writer.path)}
    assert found == {
        ("forward", "eager"): (OK, True),
        ("backward", "eager"): (OK, True),
        ("forward", "compile"): ("skipped: time budget", False),
        ("backward", "compile"): ("skipped: time budget", False),
    }
    assert parts == [("ours", "eager", "cuda-graph"), ("compile",), ("compile-max",)]


def test_torch_compile_leaves_time_to_max_autotune_and_goes_on_after_it(writer, monkeypatch):
    monkeypatch.setattr(gpu, "measure_codec", lambda *_: None)
    case, order, spent = tiny_case("snake", "forward"), [], [0.0]
    monkeypatch.setattr(gpu.Clock, "spent", property(lambda clock: spent[0]))

    def takes_20_seconds(case, provider, bench, *_):
        order.append(provider)
        spent[0] += 20.0
        return providers.row_of(case, provider, bench)

    monkeypatch.setattr(gpu, "measured_row", takes_20_seconds)
    compiled, tuned = (case, "compile"), (case, "compile-max")
    stages = {Stage.COMPILE: [compiled] * 4, Stage.COMPILE_MAX: [tuned], Stage.REST: [(case, "eager")]}
    gpu.measure_all(stages, BENCH, writer, gpu.Clock(100.0), {}, smoke=True)
    assert order == ["compile"] * 3 + ["compile-max", "compile"]
    assert [row.status for row in writer.rows] == [OK, OK, "skipped: time budget"]


def test_a_repeat_without_time_leaves_the_first_figure(writer, monkeypatch):
    monkeypatch.setattr(gpu, "measure_codec", lambda *_: None)
    case = tiny_case("snake", "forward")
    stages = {Stage.FORWARD: [(case, "eager")], Stage.REPEAT: [(case, "eager")]}
    first = replace(providers.row_of(case, "eager", BENCH), call=TIMING)
    stopped = replace(first, call=None, status="skipped: time budget, stopped after 3 s")
    monkeypatch.setattr(gpu, "measured_row", lambda *_: stopped if writer.rows else first)
    gpu.measure_all(stages, BENCH, writer, gpu.Clock(100.0), {}, smoke=True)
    assert [(row.status, row.repeat) for row in writer.rows] == [(OK, None)]


def test_a_repeat_that_disagrees_marks_the_row():
    row = Row("ops", "snake", "c", "1", "float32", "forward", "ours", call=TIMING)
    assert row.confirmed_by(row) == replace(row, repeat="confirmed")
    assert row.confirmed_by(replace(row, call=Timing(1.0, 2.5, 3.0, False))).call == replace(TIMING, noisy=True)
    assert row.confirmed_by(replace(row, call=None, status="failed: x")) == row


class _Done:
    returncode = 1

    def __init__(self, text: str) -> None:
        self.stdout = text.encode()


def test_parity_results_decide_what_is_measured(monkeypatch):
    from bench.test_parity import case_id, codec_families, parity_cases

    cases, device = parity_cases(), torch.device("cuda:1")
    families = {case_id(case): providers.family(case) for case in cases} | codec_families()
    lines = [f"bench/test_parity.py::test_parity[{test}] PASSED [ 1%]" for test in families]
    commands = []

    def prints(text: str):
        monkeypatch.setattr(gpu.subprocess, "run", lambda command, **__: commands.append(command) or _Done(text))

    prints("\n".join(lines))
    assert gpu.parity_faults(1.0, device) == {}
    assert commands[0][-2:] == ["--device", "cuda:1"]
    bad = next(case for case in cases if case.op == "polar_istft")
    text = "\n".join(lines).replace(f"[{case_id(bad)}] PASSED", f"[{case_id(bad)}] FAILED")
    prints(text.replace("[encode] PASSED", "[encode] FAILED"))
    assert gpu.parity_faults(1.0, device) == {
        providers.family(bad): f"failed: parity test of {bad.case}: FAILED",
        ("encode", "float32", "forward"): "failed: parity test of encode: FAILED",
    }
    prints("ERROR collecting")
    assert set(gpu.parity_faults(1.0, device).values()) == {"failed: parity: pytest ended with 1"}


def test_what_parity_did_not_reach_is_skipped_and_has_not_failed(monkeypatch):
    from bench.test_parity import case_id, parity_cases

    cases = parity_cases()
    forward = [case for case in cases if case.op == "snake" and case.direction == "forward"]
    first, second, *_ = (case for case in forward if case.dtype == torch.float16)
    output = f"::test_parity[{case_id(first)}] FAILED [ 1%]\n::test_parity[{case_id(second)}] ".encode()

    def too_slow(*_, **__):
        raise subprocess.TimeoutExpired("pytest", 1.0, output=output)

    monkeypatch.setattr(gpu.subprocess, "run", too_slow)
    faults = gpu.parity_faults(1.0, torch.device("cuda"))
    assert faults.pop(providers.family(first)) == f"failed: parity test of {first.case}: FAILED"
    assert set(faults.values()) == {"skipped: parity not reached within 1 s"}
    assert ("decode", "float32", "forward") in faults


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_the_codec_is_checked_before_it_is_measured(direction, monkeypatch):
    monkeypatch.setattr(parity, "CODEC_SECONDS", 0.4)
    monkeypatch.setattr(parity, "CODEC_BATCH", 1)
    parity.check_codec(direction, CPU, "tiny")
    build = parity.build_codec

    def wrong(preset, dtype, provider, device):
        codec = build(preset, dtype, provider, device)
        if provider == "ours":
            for weight in (codec.encoder.parameters if direction == "encode" else codec.decoder.parameters)():
                weight.data.mul_(1.1)
        return codec

    monkeypatch.setattr(parity, "build_codec", wrong)
    with pytest.raises(AssertionError, match="away from a tie" if direction == "encode" else "audio differs by"):
        parity.check_codec(direction, CPU, "tiny")


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


def test_a_cuda_graph_of_ours_is_no_rival():
    row = Row("codec", "decode_frame", "c", "1", "float32", "forward", "ours", call=TIMING)
    graph = replace(row, provider="cuda-graph", call=Timing(0.1, 0.1, 0.1, False))
    assert behind([row, graph]) == []
    assert "cuda-graph" in table([row, graph]).splitlines()[0]


def test_times_on_the_device_are_compared_with_their_like():
    """The rival's graph against our graph, and calls where one of the two was not captured."""
    times = {"call": Timing(9.0, 9.0, 9.0, False), "kernel": Timing(1.0, 1.0, 1.0, False)}
    row = Row("ops", "snake", "c", "1", "float32", "forward", "ours", captured=True, **times)
    rival = replace(row, provider="sdpa", kernel=Timing(0.5, 0.5, 0.5, False))
    assert behind([row, rival]) == ["behind: snake c float32 forward: sdpa is 2.00x as fast"]
    assert behind([row, replace(rival, captured=False)]) == []


def test_the_table_shows_ops_although_none_was_compiled():
    op = Row("ops", "snake", "of an op", "1", "float32", "forward", "eager", call=TIMING)
    codec = replace(op, section="codec", op="encode", case="of a codec", provider="compile")
    assert "of an op" in table([op, codec])
    compiled = replace(op, case="compiled", provider="compile")
    text = table([op, compiled, codec])
    assert "of an op" not in text
    assert "compiled" in text
    assert "of a codec" in text


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
status = main(["--device", "cpu", "--smoke", "--seconds", "150", "-o", sys.argv[1]])
import silk_fast.kernels
assert "/kernels/" in silk_fast.kernels.__file__
sys.exit(status)
"""


def smoke(path: Path) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", BARE, path], cwd=gpu.ROOT, env=environment, text=True, **pipes)


def test_a_run_that_is_told_to_stop_prints_its_table(tmp_path):
    path = tmp_path / "stopped.json"
    process = smoke(path)
    for line in process.stderr:
        if "matmul" in line or "snake" in line:
            process.send_signal(signal.SIGTERM)
            break
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors[-2000:]
    assert "interrupted" in errors
    assert "Milliseconds" in output.splitlines()[-1]
    assert read_results(path)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_smoke_with_torch_and_triton_alone(tmp_path):
    """The whole path on a CPU, uninstalled, with nothing else that silk_fast depends on."""
    path = tmp_path / "smoke.json"
    process = smoke(path)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]
    assert "Milliseconds" in output.splitlines()[-1]
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
