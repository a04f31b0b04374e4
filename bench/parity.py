"""Whether our call of a case computes what the reference computes: asked before its speed is."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.cases import TimingCase
from bench.providers import outputs_of
from silk_fast.benchmark.codec import CodecCase, build_codec, example_input
from silk_fast.reference.ops import fsq_bound, unpack_digits
from tests.kernels.support import assert_matches

CODEC_SECONDS, CODEC_BATCH = 4.0, 2
FROM_BOUNDARY = 1e-3  # of the step between two levels: what rounding errors of the whole encoder may amount to
AUDIO_ATOL = 1e-4


def check(case: TimingCase, device: torch.device | str) -> None:
    """The three-way bound of the kernel tests on every output, or gradient of a backward case; integers are equal.

    Results larger than 1 are scaled to 1, for the bound's absolute part means values of that order, and gradients of
    parameters are sums over all of the audio.

    Raises:
        AssertionError: ours differs; the message names the result, the error, the bound and the element.
    """
    device = torch.device(device)
    inputs = case.make(device)
    wide = [_float64(value) for value in inputs]
    ours = case.layouts["ours"](*inputs) if "ours" in case.layouts else inputs
    exact = _results(case, case.calls["eager"], wide)
    eager = _results(case, case.calls["eager"], inputs)
    found = _results(case, case.calls["ours"], ours)
    for i, (o, e, x) in enumerate(zip(found, eager, exact, strict=True)):
        if x.is_floating_point():
            scale = x.abs().max().double().clamp(min=1)
            scaled = (t.double() / scale for t in (o, e, x))
            assert_matches(*scaled, case.dtype, f"{case.op} {case.direction} {case.case}: result {i}")
        else:
            assert torch.equal(o, x), f"{case.op} {case.case}: {int((o != x).sum())} of {x.numel()} integers differ"


@torch.no_grad()
def check_codec(direction: str, device: torch.device | str, preset: str = "small") -> None:
    """The accelerated codec against the reference in float32, on noise and on tokens drawn at random.

    Tokens are equal, except for digits whose latent sits near a rounding boundary; audio agrees within 1e-4.

    Raises:
        AssertionError: they differ by more.
    """
    case = CodecCase(direction, CODEC_SECONDS, CODEC_BATCH, "float32", "ours", None, preset)
    ours, eager = (build_codec(preset, torch.float32, provider, device) for provider in ("ours", "eager"))
    source = example_input(case, device)
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
    outputs = outputs_of(call(*inputs))
    leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    generator = torch.Generator(outputs[0].device).manual_seed(1)
    gradients = [torch.randn(y.shape, generator=generator, device=y.device).to(y.dtype) for y in outputs]
    return list(torch.autograd.grad(outputs, leaves, gradients))


def _float64(value: object) -> object:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_(value.requires_grad)
    return value
