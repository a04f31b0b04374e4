"""Which jobs a run measures, and in which order."""

import re
from collections import Counter
from pathlib import Path

import torch

from bench.cases import FRAME
from bench.jobs import OpJob, providers
from bench.ops import timing_cases
from bench.selections import Stage, cpu_codec_jobs, cpu_op_jobs, selected_cases, stages
from silk_fast.benchmark.costs import FORMULAS

GPU = torch.device("cuda")
PAGE = (Path(__file__).parents[2] / "bench" / "README.md").read_text()
OP_STAGES = (Stage.FORWARD, Stage.GRADIENTS, Stage.FLEX, Stage.COMPILE, Stage.COMPILE_MAX)


def op_jobs(full: bool) -> dict[Stage, list[OpJob]]:
    """The ops of a run on a GPU."""
    return {stage: [j for j in jobs if isinstance(j, OpJob)] for stage, jobs in stages(GPU, full=full).items()}


def n_jobs(found: dict[Stage, list[OpJob]]) -> int:
    return sum(len(jobs) for stage, jobs in found.items() if stage is not Stage.REPEAT)


def test_the_telling_come_first():
    found = op_jobs(full=False)
    assert list(found) == sorted(found)
    assert all(job.case.is_telling for stage in OP_STAGES for job in found[stage])
    compiled = {"compile", "compile-max", "flex_attention"}
    for stage, direction in ((Stage.FORWARD, "forward"), (Stage.GRADIENTS, "backward")):
        assert {job.case.direction for job in found[stage]} == {direction}
        names = {job.provider for job in found[stage]}
        assert {"ours", "eager", "sdpa"} <= names
        assert not names & compiled
    for stage, provider in zip(OP_STAGES[2:], ("flex_attention", "compile", "compile-max"), strict=True):
        assert {job.provider for job in found[stage]} == {provider}
    for stage in (Stage.FLEX, Stage.COMPILE):
        directions = [job.case.direction for job in found[stage]]
        assert set(directions) == {"forward", "backward"}
        assert directions == sorted(directions, reverse=True)  # forward first
    forward = [job.case for job in found[Stage.COMPILE_MAX] if job.case.direction == "forward"]
    first_layers = {case.op: case.layer for case in reversed(forward)}
    assert first_layers.keys() == set(FORMULAS)
    n_first = sum(first_layers[case.op] == case.layer for case in forward)
    assert all(first_layers[case.op] == case.layer for case in forward[:n_first])


def test_the_codec_is_measured_end_to_end_in_stages_of_its_own():
    found = stages(GPU)
    for stage, names in (
        (Stage.CODEC, {"ours", "eager", "cuda-graph"}),
        (Stage.CODEC_COMPILE, {"compile"}),
        (Stage.CODEC_COMPILE_MAX, {"compile-max"}),
    ):
        assert {job.provider for job in found[stage]} == names
        assert not any(isinstance(job, OpJob) for job in found[stage])


def test_nothing_is_compiled_again_for_the_repeat():
    names = {job.provider for job in op_jobs(full=False)[Stage.REPEAT]}
    assert {"ours", "eager"} <= names
    assert not names & {"compile", "compile-max", "flex_attention"}


def test_every_job_has_one_stage():
    for full in (False, True):
        found = op_jobs(full)
        jobs = [(id(job.case), job.provider) for stage in found if stage is not Stage.REPEAT for job in found[stage]]
        assert len(jobs) == len(set(jobs))
    assert n_jobs(op_jobs(True)) == sum(len(providers(case, with_compile=True)) for case in timing_cases())


def test_the_page_says_how_much_a_run_selects():
    n_cases, n_all, n_default, n_full = (
        int(number.replace(" ", ""))
        for number in re.search(
            r"([\d ]+) of ([\d ]+) cases.*?([\d ]+) figures.*?([\d ]+) figures", PAGE, re.S
        ).groups()
    )
    assert (n_cases, n_all) == (len(selected_cases(full=False)), len(timing_cases()))
    assert (n_default, n_full) == (n_jobs(op_jobs(False)), n_jobs(op_jobs(True)))


def test_the_page_says_what_is_measured_on_a_cpu():
    cases = cpu_codec_jobs()
    assert {case.threads for case in cases if case.provider == "compile"} == {max(case.threads for case in cases)}
    clips = [case for case in cases if not case.is_frame and case.provider == "ours"]
    for n_threads in {case.threads for case in clips}:
        mine = [case for case in clips if case.threads == n_threads]
        *shorter, longest = (f"{seconds:g}" for seconds in sorted({case.seconds for case in mine if case.batch == 1}))
        batches = " and ".join(str(n) for n in sorted({case.batch for case in mine if case.batch > 1}))
        sizes = f"one frame, {', '.join(shorter)} and {longest} s alone, and 10 s in batches of {batches}"
        assert sizes in " ".join(PAGE.split())


def test_on_a_cpu_every_op_and_every_stream_is_measured_once():
    cases = list({id(job.case): job.case for job in cpu_op_jobs()}.values())
    assert {case.op for case in cases} == set(FORMULAS)
    assert Counter(case.point for case in cases) == {(1, 10): len(FORMULAS) - 1, (1, FRAME): 5}
    assert [case.is_stream for case in cases].count(True) == 5
    assert {job.provider for job in cpu_op_jobs()} == {"ours", "eager", "compile", "compile-max"}
