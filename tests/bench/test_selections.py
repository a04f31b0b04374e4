"""Which jobs a run measures, and in which order."""

import re
from collections import Counter
from pathlib import Path

import torch

from bench.cases import FRAME
from bench.codecs import LibraryCase
from bench.jobs import OpJob, providers
from bench.ops import timing_cases
from bench.selections import cpu_codec_jobs, cpu_op_jobs, importance, selected_cases, selected_jobs
from silk_fast.benchmark.codec_cases import CodecCase
from silk_fast.benchmark.costs import FORMULAS
from tests.codecs.configurations import CODECS

PAGE = (Path(__file__).parents[2] / "bench" / "README.md").read_text()


def gpu_jobs(full: bool) -> list:
    return selected_jobs(torch.device("cuda"), full)


def test_the_telling_come_first():
    by_rank = {}
    for job in gpu_jobs(full=False):
        by_rank.setdefault(importance(job), []).append(job)
    assert list(by_rank) == sorted(by_rank) == list(range(9))
    assert {job.case.direction for job in by_rank[0]} == {"forward"}
    assert {job.case.direction for job in by_rank[2]} == {"backward"}
    for rank in (0, 2):
        names = {job.provider for job in by_rank[rank]}
        assert {"ours", "eager", "sdpa"} <= names
        assert not names & {"compile", "compile-max", "flex_attention"}
        assert all(job.case.is_telling for job in by_rank[rank])
    for rank, names in ((1, {"ours", "eager"}), (3, {"compile"}), (6, {"compile-max"})):
        assert {type(job) for job in by_rank[rank]} == ({CodecCase, LibraryCase} if rank == 1 else {CodecCase})
        assert {job.provider for job in by_rank[rank]} == names
    for rank, names in ((4, {"compile", "flex_attention"}), (5, {"compile-max"})):
        assert {job.provider for job in by_rank[rank]} == names
        assert {job.case.op for job in by_rank[rank]} == set(FORMULAS)


def test_every_job_is_measured_once():
    for full in (False, True):
        jobs = [job.row().case_key + (job.provider,) for job in gpu_jobs(full)]
        assert len(jobs) == len(set(jobs))
    n_ops = sum(isinstance(job, OpJob) for job in gpu_jobs(full=True))
    assert n_ops == sum(len(providers(case, with_compile=True)) for case in timing_cases())


def test_the_page_says_how_much_a_run_selects():
    n_cases, n_all, n_default, n_full = (
        int(number.replace(" ", ""))
        for number in re.search(
            r"([\d ]+) of ([\d ]+) cases.*?([\d ]+) figures.*?([\d ]+) figures", PAGE, re.S
        ).groups()
    )
    assert (n_cases, n_all) == (len(selected_cases(full=False)), len(timing_cases()))
    assert (n_default, n_full) == tuple(sum(isinstance(job, OpJob) for job in gpu_jobs(full)) for full in (False, True))


def test_the_page_says_what_is_measured_on_a_cpu():
    cases = cpu_codec_jobs()
    for compiled_or_half in ({"provider": "compile"}, {"dtype": "bfloat16"}):
        found = [case for case in cases if compiled_or_half.items() <= vars(case).items()]
        assert {(case.op, case.seconds, case.batch) for case in found} == {
            *((op, 10.0, 1) for op in ("encode", "decode")),
            *((f"{op}_frame", 0.4, 1) for op in ("encode", "decode")),
        }
        assert {case.threads for case in found} == {case.threads for case in cases}
    clips = [case for case in cases if not case.is_frame and case.provider == "ours"]
    for n_threads in {case.threads for case in clips}:
        mine = [case for case in clips if case.threads == n_threads]
        *shorter, longest = (f"{seconds:g}" for seconds in sorted({case.seconds for case in mine if case.batch == 1}))
        batches = " and ".join(str(n) for n in sorted({case.batch for case in mine if case.batch > 1}))
        sizes = f"one frame, {', '.join(shorter)} and {longest} s alone, and 10 s in batches of {batches}"
        assert sizes in " ".join(PAGE.split())


def test_every_codec_of_other_libraries_is_measured_both_ways_by_every_provider():
    jobs = [job for job in selected_jobs(torch.device("cpu")) if isinstance(job, LibraryCase)]
    providers = [
        ("eager", torch.float32),
        ("ours", torch.float32),
        ("ours", torch.bfloat16),
        ("compile", torch.float32),
    ]
    assert Counter((job.name, job.op, job.provider, job.dtype) for job in jobs) == {
        (name, op, *provider): 1 for name in CODECS for op in ("encode", "decode") for provider in providers
    }
    assert {job.threads for job in jobs} == {1}


def test_on_a_cpu_every_op_and_every_stream_is_measured_once():
    cases = list({id(job.case): job.case for job in cpu_op_jobs()}.values())
    assert {case.op for case in cases} == set(FORMULAS)
    assert Counter(case.point for case in cases) == {(1, 10): len(FORMULAS) - 1, (1, FRAME): 5}
    assert [case.is_stream for case in cases].count(True) == 5
    assert {job.provider for job in cpu_op_jobs()} == {"ours", "eager", "compile", "compile-max"}
