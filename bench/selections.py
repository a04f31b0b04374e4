"""Which jobs a run measures, and in which order."""

import os
from collections.abc import Iterable
from enum import IntEnum

import torch

from bench.cases import DTYPES, FRAME, GRID, TimingCase
from bench.jobs import COMPILE, OpJob, providers
from bench.ops import timing_cases
from silk_fast.benchmark.codec_cases import CodecCase, full_cases, quick_cases
from silk_fast.benchmark.runner import Job

THREADS = sorted({1, min(2, os.cpu_count() or 1)})
LONGEST = 60.0  # seconds of audio on a CPU; longer: silk bench --full
SMOKE_LAYERS = {
    "bias_silu": "Silk",
    "fsq_pack": "Silk",
    "polar_istft": "Silk's sizes, centred",
    "snake": "Silk small 75 Hz",
}
FIRST_DTYPES = (torch.float32, torch.float16)


class Stage(IntEnum):
    """What is measured when: the most telling first, what is slow to compile late.

    ``FORWARD`` and ``GRADIENTS`` are of our kernels, eager and libraries. ``REPEAT`` is the first stage again, so that
    drift over minutes is seen. The ``REST`` is what earlier stages left out, then other sizes and dtypes.
    """

    FORWARD = 0
    CODEC = 1
    GRADIENTS = 2
    REPEAT = 3
    FLEX = 4
    CODEC_COMPILE = 5
    COMPILE = 6
    CODEC_COMPILE_MAX = 7
    COMPILE_MAX = 8
    REST = 9


SHARES = {Stage.CODEC: 0.5, Stage.CODEC_COMPILE: 0.3, Stage.COMPILE: 0.43, Stage.CODEC_COMPILE_MAX: 0.5}
"""Of the time that is left, for a stage at most; others may take it all."""


def stages(device: torch.device, smoke: bool = False, full: bool = False) -> dict[Stage, list[Job]]:
    """The jobs of a run by stage; in a stage the first layer of every op comes first.

    Args:
        smoke: tiny cases, to test the path itself.
        full: every shape and dtype by every provider.
    """
    on_gpu = device.type == "cuda"
    threads: list[int | None] = [None] if on_gpu else [torch.get_num_threads()] if smoke or full else [*THREADS]
    if smoke:
        return by_stage([*quick_cases(device, threads)[:4], *smoke_jobs(threads[0])], True)
    if on_gpu or full:
        jobs = [
            OpJob(case, provider, threads[0])
            for case in selected_cases(full, DTYPES if on_gpu else DTYPES[:1])
            for provider in providers(case, with_compile=full or case.is_telling)
        ]
        return by_stage([*full_cases(device, threads), *jobs], not on_gpu)
    return by_stage([*cpu_codec_jobs(), *cpu_op_jobs()], True)


def selected_cases(full: bool, dtypes: tuple[torch.dtype, ...] = DTYPES) -> list[TimingCase]:
    """All telling cases, and of the others what Silk serves; with ``full`` all. First layers first."""
    cases = timing_cases(GRID, dtypes)
    if not full:
        cases = [case for case in cases if case.is_telling or (case.direction == "forward" and case.is_served)]
    ranks: dict[tuple[str, str], int] = {}  # of each layer among those of its op
    for case in cases:
        ranks.setdefault((case.op, case.layer), sum(op == case.op for op, _ in ranks))
    return sorted(cases, key=lambda case: ranks[case.op, case.layer])


def smoke_jobs(threads: int | None) -> list[OpJob]:
    """One frame through a few layers; one of them compiled."""
    cases = [c for c in timing_cases([(1, FRAME)], DTYPES[:1]) if SMOKE_LAYERS.get(c.op) == c.layer]
    compiled = next(case for case in cases if case.op == "bias_silu" and case.direction == "forward")
    return [OpJob(case, name, threads) for case in cases for name in providers(case, case is compiled)]


def cpu_op_jobs() -> list[OpJob]:
    """A sentence at batch 1 through the first layer of every op, and one frame of every stream, on 1 and 2 threads."""
    points = [(1, FRAME), (1, 10)]
    forward = [case for case in timing_cases(points, DTYPES[:1]) if case.direction == "forward"]
    first = {case.op: case for case in reversed(forward) if case.point == points[1]}
    cases = sorted([*first.values(), *(case for case in forward if case.is_stream)], key=lambda case: case.op)
    return [OpJob(case, name, n) for case in cases for name in ("ours", "eager", *COMPILE) for n in THREADS]


def cpu_codec_jobs() -> list[CodecCase]:
    """One frame, 10 s by every provider, larger batches, and durations up to a minute.

    Compiling takes a minute, so what is compiled is measured on all threads only.
    """
    return [
        case
        for case in full_cases("cpu", THREADS)
        if case.seconds <= LONGEST and (case.provider not in COMPILE or case.threads == THREADS[-1])
    ]


def by_stage(jobs: Iterable[Job], all_tell: bool) -> dict[Stage, list[Job]]:
    """Jobs in their stages, in the order given; what is told first comes first in the rest.

    Args:
        all_tell: whether every case counts as telling.
    """
    found: dict[Stage, list[Job]] = {stage: [] for stage in Stage}
    for job in jobs:
        found[stage_of(job, all_tell)].append(job)
    for stage in (Stage.FLEX, Stage.COMPILE):
        found[stage].sort(key=lambda job: job.row().direction == "backward")
    found[Stage.REST].sort(key=lambda job: isinstance(job, OpJob) and not job.case.is_telling)
    found[Stage.REPEAT] = [job for job in found[Stage.FORWARD] if isinstance(job, OpJob) and job.case.is_served]
    return found


def stage_of(job: Job, all_tell: bool = False) -> Stage:
    """When a job has its turn; what is compiled only in the dtype in which Silk serves has an early one."""
    provider = job.provider
    if not isinstance(job, OpJob):
        return {"compile": Stage.CODEC_COMPILE, "compile-max": Stage.CODEC_COMPILE_MAX}.get(provider, Stage.CODEC)
    case, is_compiled = job.case, provider in (*COMPILE, "flex_attention")
    is_first = all_tell or case.is_served or (case.dtype in FIRST_DTYPES and not is_compiled)
    if not (is_first and (all_tell or case.is_telling)):
        return Stage.REST
    if provider == "flex_attention":
        return Stage.FLEX
    if case.direction == "forward":
        return {"compile": Stage.COMPILE, "compile-max": Stage.COMPILE_MAX}.get(provider, Stage.FORWARD)
    if not case.is_served or provider == "compile-max":
        return Stage.REST
    return Stage.COMPILE if provider == "compile" else Stage.GRADIENTS
