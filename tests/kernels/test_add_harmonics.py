"""Harmonics: three-way bound, the codec's own shapes, ties, no voice, layouts, NaN, refusals."""

import math

import pytest
import torch
from silk_fast.kernels import add_harmonics

from silk_fast.reference import ops
from tests.kernels.support import DEVICE, DTYPES, assert_matches

BIN = 18.75  # Hz, at 24 kHz and frames of 1280


def make_inputs(n_batch, n_frames, n_bins, dtype=torch.float32):
    """Spectra as ``dtype`` holds them; pitches of 56 to 560 Hz, cutoffs inside and outside of them, some no voice."""
    generator = torch.Generator().manual_seed(0)
    log_magnitude, phase, dm, dp = torch.randn(4, n_batch, n_frames, n_bins, generator=generator).to(dtype)
    contours = torch.rand(2, n_batch, n_frames, generator=generator, dtype=torch.float64)
    spacing, cutoff = 3 + 27 * contours[0], (1.2 * contours[1] - 0.1) * n_bins * BIN
    cutoff[:, 5:8] = -math.inf
    turns = torch.randint(0, 2**32, (n_batch, n_frames), generator=generator)
    return [log_magnitude, phase, spacing, cutoff, turns], [dm, dp]


def run(function, inputs, grads, dtype, device):
    """Results, and gradients to log-magnitude, phase and cutoff."""
    spectra = [x.to(device, dtype).requires_grad_() for x in inputs[:2]]
    spacing, cutoff, turns = (x.to(device) for x in inputs[2:])
    leaves = [*spectra, cutoff.clone().requires_grad_()]
    results = function(*spectra, spacing, leaves[2], turns, BIN)
    gradients = torch.autograd.grad(results, leaves, [g.to(results[0]) for g in grads])
    return [t.detach().cpu() for t in (*results, *gradients)]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 9, 33), (1, 33, 64), (2, 40, 641)], ids=str)
def test_matches_reference_forward_and_backward(shape, dtype):
    inputs, grads = make_inputs(*shape, dtype)
    exact = run(ops.add_harmonics, inputs, grads, torch.float64, "cpu")
    eager = run(ops.add_harmonics, inputs, grads, torch.float32 if dtype != torch.float64 else dtype, "cpu")
    ours = run(add_harmonics, inputs, grads, dtype, DEVICE)
    for i, (o, e, x) in enumerate(zip(ours, eager, exact, strict=True)):
        rounded = e.to(o.dtype).to(e.dtype) if i < 4 else e
        assert_matches(o, rounded, x, dtype, f"result {i}")


@pytest.mark.parametrize("spacing", [8.0, 20 / 3, 16.5], ids=str)
def test_bins_half_way_between_two_harmonics_belong_to_the_even_one(spacing):
    (log_magnitude, phase, *_), _ = make_inputs(1, 4, 641)
    contours = torch.full((1, 4), spacing, dtype=torch.float64), torch.full((1, 4), 1e5, dtype=torch.float64)
    turns = torch.arange(1, 5)[None] * 2**26
    expected = ops.add_harmonics(log_magnitude, phase, *contours, turns, BIN)
    ours = add_harmonics(*(x.to(DEVICE) for x in (log_magnitude, phase, *contours, turns)), BIN)
    torch.testing.assert_close(ours[1].cpu(), expected[1], rtol=0, atol=2e-6)
    torch.testing.assert_close(ours[0].cpu(), expected[0], rtol=0, atol=2e-3)  # float32 of the reference, near a zero


def test_without_a_voice_no_bit_changes():
    (log_magnitude, phase, spacing, cutoff, turns), _ = make_inputs(2, 9, 65)
    silent = torch.full_like(cutoff, -math.inf)
    ours = add_harmonics(*(x.to(DEVICE) for x in (log_magnitude, phase, spacing, silent, turns)), BIN)
    assert torch.equal(ours[0].cpu(), log_magnitude)
    assert torch.equal(ours[1].cpu(), phase)


def test_a_convolutions_transposed_output_gives_the_same_bits_transposed():
    inputs, _ = make_inputs(2, 40, 65)
    inputs = [x.to(DEVICE) for x in inputs]
    head = torch.cat([x.mT for x in inputs[:2]], 1)  # [B, 2 K, N]
    transposed = head.mT.split(65, dim=-1)
    assert transposed[0].stride(1) == 1
    for ours, expected in zip(add_harmonics(*transposed, *inputs[2:], BIN), add_harmonics(*inputs, BIN), strict=True):
        assert torch.equal(ours, expected)
        assert ours.stride(1) == 1


def test_nan_stays_where_it_is():
    inputs, _ = make_inputs(1, 9, 33)
    for i in range(4):
        broken = [x.to(DEVICE).clone() for x in inputs]
        broken[i].view(-1)[8] = math.nan
        ours = add_harmonics(*broken, BIN)
        expected = ops.add_harmonics(*(x.cpu() for x in broken), BIN)
        for o, e in zip(ours, expected, strict=True):
            assert torch.equal(o.isnan().cpu(), e.isnan())


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5), (2, 3, 0)], ids=str)
def test_empty_gives_empty_and_zero_gradients(shape):
    inputs, grads = make_inputs(*shape)
    *results, _, _, dcutoff = run(add_harmonics, inputs, grads, torch.float32, DEVICE)
    assert all(result.shape == shape for result in results)
    assert torch.equal(dcutoff, torch.zeros(shape[:2], dtype=torch.float64))


BAD = [
    (ValueError, r"log_magnitude must be \[B, N, K\], got \[9, 33\]", {0: lambda x: x[0]}),
    (TypeError, "log_magnitude must be float32, float16, bfloat16 or float64", {0: lambda x: x.int()}),
    (TypeError, "phase must be torch.float32 as log_magnitude, got torch.float16", {1: lambda x: x.half()}),
    (ValueError, r"phase must be \[1, 9, 33\]", {1: lambda x: x[..., 1:]}),
    (TypeError, "spacing must be float64, got torch.float32", {2: lambda x: x.float()}),
    (ValueError, r"cutoff must be \[1, 9\], got \[1, 8\]", {3: lambda x: x[:, 1:]}),
    (TypeError, "turns must be int64, got torch.int32", {4: lambda x: x.int()}),
]


@pytest.mark.parametrize(("error", "message", "changes"), BAD, ids=[message for _, message, _ in BAD])
def test_bad_input_is_refused_by_name(error, message, changes):
    inputs, _ = make_inputs(1, 9, 33)
    inputs = [changes.get(i, lambda x: x)(x.to(DEVICE)) for i, x in enumerate(inputs)]
    with pytest.raises(error, match=message):
        add_harmonics(*inputs, BIN)
