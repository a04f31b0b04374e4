"""Which jobs a run measures, the most telling first."""

import os
from importlib.util import find_spec

import torch

from bench.cases import DTYPES, FRAME, TELLING, TimingCase
from bench.jobs import OpJob, providers
from bench.ops import timing_cases
from silk_fast.benchmark.codec import COMPILE_MODES
from silk_fast.benchmark.codec_cases import CodecCase, full_cases
from silk_fast.benchmark.runner import COMPILED, Job

THREADS = sorted({1, min(2, os.cpu_count() or 1)})
LONGEST = 60.0  # seconds of audio on a CPU; longer: silk bench --full


def selected_jobs(device: torch.device, full: bool = False) -> list[Job]:
    """The jobs of a run, in order.

    Args:
        full: on a GPU, every shape and dtype by every provider.
    """
    if device.type == "cpu":
        ops, libraries = cpu_op_jobs(), library_jobs(device)
        plain, compiled = (
            [job for job in (*ops, *libraries) if (job.provider in COMPILED) is c] for c in (False, True)
        )
        return [*plain, *cpu_codec_jobs(), *compiled]
    ops = [
        OpJob(case, provider)
        for case in selected_cases(full)
        for provider in providers(case, with_compile=full or case.is_telling)
    ]
    return sorted([*full_cases(device, [None]), *library_jobs(device), *ops], key=importance)


def importance(job: Job) -> int:
    """Rank on a GPU.

    First kernels, codecs, gradients; then what must be compiled: Silk, one call of each op by torch.compile
    and FlexAttention, and the same by max-autotune; then all else.
    """
    n_compilers = {"flex_attention": 1, "compile": 1, "compile-max": 2}.get(job.provider, 0)
    if isinstance(job, CodecCase):
        return (1, 3, 6)[n_compilers] if not n_compilers or job.dtype == "float16" else 7
    if not isinstance(job, OpJob):
        return 7 if n_compilers else 1
    case = job.case
    is_forward, is_half_or_single = case.direction == "forward", case.dtype != torch.bfloat16
    if not case.is_telling or not (case.is_served or (is_half_or_single and is_forward and not n_compilers)):
        return 8
    if not n_compilers:
        return 0 if is_forward else 2
    is_example = is_forward and case.is_first and (case.is_stream or case.point == TELLING[-1])
    return (4, 5)[n_compilers - 1] if is_example else 7


def selected_cases(full: bool) -> list[TimingCase]:
    """All telling cases, and of the others what Silk serves; with ``full`` all. First layers first."""
    cases = timing_cases()
    if not full:
        cases = [case for case in cases if case.is_telling or (case.direction == "forward" and case.is_served)]
    return sorted(cases, key=lambda case: not case.is_first)


def cpu_op_jobs() -> list[OpJob]:
    """A sentence at batch 1 through the first layer of every op, and one frame of every stream, on 1 and 2 threads."""
    forward = [case for case in timing_cases([(1, FRAME), (1, 10)], DTYPES[:1]) if case.direction == "forward"]
    cases = [case for case in forward if case.is_stream or (case.is_first and case.point[1] == 10)]
    return [OpJob(case, name, n) for case in cases for name in ("ours", "eager", *COMPILE_MODES) for n in THREADS]


def cpu_codec_jobs() -> list[CodecCase]:
    """One frame and 10 s by every provider, larger batches, and durations up to a minute."""
    return [case for case in full_cases("cpu", THREADS) if case.seconds <= LONGEST]


def library_jobs(device: torch.device) -> list[Job]:
    """Codecs of other libraries, on one thread of a CPU; none where pytest is absent, with which they are made."""
    if find_spec("pytest") is None:
        return []
    from bench.codecs import library_cases

    return list(library_cases(device, None if device.type == "cuda" else 1))
