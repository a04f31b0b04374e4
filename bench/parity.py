"""Whether ours computes what the reference computes: asked before its speed is."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import TimeoutError

import torch
from torch import Tensor

from bench.bound import assert_matches
from bench.cases import FRAME, TimingCase, outputs_of
from bench.checkout import find_kernels
from bench.jobs import passes
from bench.ops import timing_cases
from silk_fast.benchmark.codec import build_codec, example_input
from silk_fast.benchmark.runner import failure, ieee_float32
from silk_fast.reference.ops import fsq_bound, unpack_digits

# A sentence, and less: a batch adds programs, not code. Gradients of attention to a single frame are rounding alone.
POINTS = {"forward": ((1, FRAME), (1, 10)), "backward": ((2, 2), (1, 10))}
CODEC_SECONDS, CODEC_BATCH = 4.0, 2
FROM_BOUNDARY = 1e-3  # of the step between two levels: what rounding errors of the whole encoder may amount to
AUDIO_ATOL = 1e-4

Family = tuple[str, str, str]
"""What a check speaks for: op, dtype and direction."""


def parity_cases() -> list[TimingCase]:
    """The layers that are measured first, what Silk serves before other dtypes, and those at the largest size only."""
    cases = [
        case
        for direction, points in POINTS.items()
        for case in timing_cases(points)
        if case.is_main and case.direction == direction
    ]
    largest = {(case.family, case.layer): case.point for case in cases}
    cases = [case for case in cases if case.is_served or case.point == largest[case.family, case.layer]]
    return sorted(cases, key=lambda case: (not case.is_served, case.direction == "backward"))


def checks() -> dict[str, tuple[Family, Callable[[torch.device], None]]]:
    """Every check by name: what it speaks for, and the function of a device that raises where ours is wrong."""
    found: dict[str, tuple[Family, Callable[[torch.device], None]]] = {
        direction: ((direction, "float32", "forward"), partial(check_codec, direction))
        for direction in ("encode", "decode")
    }
    for case in parity_cases():
        found["-".join((*case.family, case.name))] = case.family, partial(check, case)
    return found


def check(case: TimingCase, device: torch.device) -> None:
    """Hold every output, or gradient of a backward case, to the bound of the kernel tests; integers are equal.

    Results larger than 1 are scaled to 1, for the bound's absolute part means values of that order, and gradients of
    parameters are sums over all of the audio.

    Raises:
        AssertionError: ours differs; the message names the result, the error, the bound and the element.
    """
    inputs = case.inputs(device)
    wide = [_float64(value) for value in inputs]
    ours = case.layouts["ours"](*inputs) if "ours" in case.layouts else inputs
    exact = _results(case, case.calls["eager"], wide)
    eager = _results(case, case.calls["eager"], inputs)
    found = _results(case, case.calls["ours"], ours)
    for i, (o, e, x) in enumerate(zip(found, eager, exact, strict=True)):
        if x.is_floating_point():
            scale = x.abs().max().double().clamp(min=1)
            scaled = (t.double() / scale for t in (o, e, x))
            assert_matches(*scaled, case.dtype, f"{case.op} {case.direction} {case.name}: result {i}")
        else:
            assert torch.equal(o, x), f"{case.op} {case.name}: {int((o != x).sum())} of {x.numel()} integers differ"


@torch.no_grad()
def check_codec(direction: str, device: torch.device, preset: str = "small") -> None:
    """Hold the accelerated codec to the reference in float32, on noise and on tokens drawn at random.

    Tokens are equal, except for digits whose latent sits near a rounding boundary; audio agrees within 1e-4.

    Raises:
        AssertionError: they differ by more.
    """
    ours, eager = (build_codec(preset, torch.float32, provider, device) for provider in ("ours", "eager"))
    n_samples = round(CODEC_SECONDS * eager.config.sample_rate)
    source = example_input(eager.config, direction, CODEC_BATCH, n_samples).to(device)
    if direction == "decode":
        error = (ours.decode(source) - eager.decode(source)).abs().max().item()
        assert error <= AUDIO_ATOL, f"decoded audio differs by {error:.2e}"
        return
    quantizer = eager.quantizer
    found, expected = (
        unpack_digits(codec.encode(source).tokens, quantizer.levels, quantizer.group_size) for codec in (ours, eager)
    )
    bounded = fsq_bound(quantizer.norm(eager.latents(source)), quantizer.levels)
    from_boundary = (bounded - bounded.floor() - 0.5).abs()
    wrong = (found != expected) & (from_boundary > FROM_BOUNDARY)
    assert not wrong.any(), f"{int(wrong.sum())} of {wrong.numel()} digits differ away from a tie"


def _results(case: TimingCase, call: Callable, inputs: Sequence) -> list[Tensor]:
    if case.direction == "forward":
        with torch.no_grad():
            return outputs_of(call(*inputs))
    forward, backward = passes(call, inputs)
    return backward(forward())


def _float64(value: object) -> object:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_(value.requires_grad)
    return value


# ---------------------------------------------------------------- all checks, before anything is measured


def faults(device: torch.device, seconds: float) -> dict[Family, str]:
    """Make every check within ``seconds``: by family, the status of our rows that must not be measured.

    What a check found wrong has failed; what none was reached for in the time is skipped. The checks run in a process
    of their own, for a wrong kernel can spoil the device for all that follows in a process.
    """
    names, end = checks(), time.monotonic() + seconds
    outcomes: dict[str, str] = {}
    with multiprocessing.get_context("spawn").Pool(1) as pool, suppress(TimeoutError):
        results = pool.imap(partial(run_check, device), names)
        for name in names:
            outcomes[name] = results.next(max(0.0, end - time.monotonic()))
    found: dict[Family, str] = {}
    for name, (family, _) in names.items():
        if name not in outcomes:
            found.setdefault(family, f"skipped: parity not reached within {seconds:.0f} s")
        elif outcomes[name]:
            found[family] = f"failed: parity of {name}: {outcomes[name]}"
    return found


def run_check(device: torch.device, name: str) -> str:
    """Make a check; returns what is wrong, nothing if it passes."""
    find_kernels()
    _, check = checks()[name]
    try:
        if device.index is not None:
            torch.cuda.set_device(device)
        with ieee_float32():
            check(device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    except Exception as error:
        return failure(error).removeprefix("failed: ")
    return ""
