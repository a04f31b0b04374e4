"""Inverse STFT: three-way bound, ``torch.istft`` and NumPy as peers, layouts, streams, limits, registration."""

import math

import numpy as np
import pytest
import torch
from silk_fast.kernels import polar_istft, polar_istft_stream, polar_overlap_add
from silk_fast.kernels.inverse_stft.overlap_add import overlap_add
from silk_fast.kernels.inverse_stft.polar_spectrum import polar_spectrum

from silk_fast.reference import ops
from tests.kernels.support import (
    DEVICE,
    DTYPES,
    SIZES,
    assert_matches,
    assert_op_matches,
    hann,
    in_turn,
    of_pytorch,
    run,
)

ALIGNMENTS = ["center", "same", "causal"]
SHAPES = [(1280, 320), (16, 4), (64, 16), (1024, 256), (20, 5)]
MATCHED = [shape for shape in SHAPES if shape != (1024, 256)]


def polar(n_batch: int, n_frames: int, n_fft: int, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-magnitudes of audio near 1, in some bins of large frames about log 100, and phases of many turns.

    Float32, exact in ``dtype``.
    """
    normal = torch.randn(2, n_batch, n_frames, n_fft // 2 + 1, generator=torch.Generator().manual_seed(0))
    log_magnitude = 0.5 * normal[0] + math.log(n_fft) / 2 - 1
    log_magnitude[..., 100::50] += 2
    return tuple(value.to(dtype).float().to(DEVICE) for value in (log_magnitude, 30 * normal[1]))


def at_least_float(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def assert_like_reference(name: str, shape: tuple[int, int, int, int], dtype: torch.dtype, *arguments) -> None:
    """The three-way bound on the audio, which is float32 whatever the input, and on both gradients."""
    n_batch, n_frames, n_fft, hop = shape
    inputs = polar(n_batch, n_frames, n_fft, dtype)
    kernel, reference = {
        "polar_istft": (polar_istft, ops.polar_istft),
        "polar_overlap_add": (polar_overlap_add, ops.polar_overlap_add),
    }[name]

    def ours(log_magnitude, phase):
        return kernel(log_magnitude, phase, hann(n_fft), hop, *arguments)

    def theirs(log_magnitude, phase):
        m, p = at_least_float(log_magnitude), at_least_float(phase)
        return reference(m, p, hann(n_fft).to(m.dtype), hop, *arguments)

    dy = torch.randn(theirs(*inputs).shape, generator=torch.Generator().manual_seed(1))
    exact, eager = run(theirs, inputs, [dy], torch.float64), run(theirs, inputs, [dy], dtype)
    mine = run(ours, inputs, [dy], dtype)
    assert mine[0].dtype == torch.float32
    for what, tested, o, e, x in zip(
        ("audio", "dm", "dp"), (torch.float32, dtype, dtype), mine, eager, exact, strict=True
    ):
        assert_matches(o, e, x, tested, f"{name} {arguments} {what}")


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize(("n_fft", "hop"), MATCHED)
def test_matches_reference(n_fft, hop, alignment):
    for n_frames in (3,) if n_fft > 1000 else (1, 2, 3, 7):
        assert_like_reference("polar_istft", (2, n_frames, n_fft, hop), torch.float32, alignment)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != torch.float32], ids=str)
@pytest.mark.parametrize(("shape", "alignment"), in_turn(MATCHED, ALIGNMENTS), ids=str)
def test_half_precision_matches_reference(shape, alignment, dtype):
    """Of two kernels the first alone sees the dtype, and the second alone the alignment."""
    n_fft, hop = shape
    assert_like_reference("polar_istft", (2, 3 if n_fft > 1000 else 7, n_fft, hop), dtype, alignment)


@pytest.mark.parametrize("n_frames", [1, 2, 7])
@pytest.mark.parametrize(("n_fft", "hop"), [(1280, 320), (20, 5)])
def test_sum_matches_reference(n_fft, hop, n_frames):
    assert_like_reference("polar_overlap_add", (1, n_frames, n_fft, hop), torch.float32)


@pytest.mark.parametrize("n_frames", SIZES)
def test_many_frames(n_frames):
    assert_like_reference("polar_istft", (1, n_frames, 16, 4), torch.float32, "causal")


@pytest.mark.parametrize(("n_fft", "hop"), [(2, 1), (2, 2), (6, 3), (130, 13), (64, 64), (66, 1)])
def test_unusual_frame_sizes(n_fft, hop):
    assert_like_reference("polar_istft", (3, 5, n_fft, hop), torch.float32, "causal")
    assert_like_reference("polar_overlap_add", (3, 5, n_fft, hop), torch.float32)


# ---------------------------------------------------------------- independent peers


def spectrum_of(log_magnitude: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
    return torch.polar(log_magnitude.double().clamp(max=math.log(100)).exp(), phase.double())


@pytest.mark.parametrize(("shape", "n_frames"), in_turn(SHAPES, [2, 3, 7]), ids=str)
def test_center_is_torch_istft(shape, n_frames):
    n_fft, hop = shape
    log_magnitude, phase = polar(2, n_frames, n_fft)
    expected = torch.istft(
        spectrum_of(log_magnitude, phase).transpose(1, 2), n_fft, hop, window=hann(n_fft).double(), center=True
    )
    audio = polar_istft(log_magnitude, phase, hann(n_fft), hop, "center")
    assert audio.shape == expected.shape
    assert (audio - expected).abs().max() <= 1e-5


@pytest.mark.parametrize(("shape", "n_frames"), in_turn(SHAPES, [1, 2, 3, 7]), ids=str)
def test_same_is_an_overlap_add_in_numpy(shape, n_frames):
    n_fft, hop = shape
    log_magnitude, phase = polar(1, n_frames, n_fft)
    frames = np.fft.irfft(spectrum_of(log_magnitude, phase)[0].cpu().numpy(), n_fft)
    window = hann(n_fft).double().cpu().numpy()
    total, envelope = np.zeros((2, (n_frames - 1) * hop + n_fft))
    for i, frame in enumerate(frames):
        total[i * hop : i * hop + n_fft] += frame * window
        envelope[i * hop : i * hop + n_fft] += window**2
    cut = (n_fft - hop) // 2
    expected = (total / np.where(envelope > 0, envelope, 1))[cut : len(total) - cut]
    audio = polar_istft(log_magnitude, phase, hann(n_fft), hop, "same")[0].cpu().numpy()
    assert audio.shape == expected.shape
    assert np.abs(audio - expected).max() <= 1e-5


# ---------------------------------------------------------------- layouts, streaming, limits


def layouts(log_magnitude: torch.Tensor, phase: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The same values laid out as in codecs, and worse."""
    n_bins = log_magnitude.shape[-1]
    both = torch.cat([log_magnitude, phase], dim=-1)  # a linear head
    transposed = both.transpose(1, 2).contiguous().transpose(1, 2)  # a convolutional head
    spaced = torch.stack([both, both.flip(-1)], dim=-1)[..., 0]
    views = {"linear": both, "convolution": transposed, "spaced": spaced}
    return {name: view.split(n_bins, dim=-1) for name, view in views.items()} | {
        "different": (log_magnitude, transposed[..., n_bins:])
    }


@pytest.mark.parametrize("layout", ["linear", "convolution", "spaced", "different"])
def test_any_strides_give_the_same_bits(layout):
    window = hann(64)
    log_magnitude, phase = polar(2, 35, 64)
    dy = torch.randn(2, 35 * 16, generator=torch.Generator().manual_seed(0)).to(DEVICE)

    def results(m, p):
        leaves = m.detach().requires_grad_(), p.detach().requires_grad_()
        audio = polar_istft(*leaves, window, 16)
        return [audio, *torch.autograd.grad(audio, leaves, dy)]

    views = layouts(log_magnitude, phase)[layout]
    assert not all(view.is_contiguous() for view in views)
    for ours, plain in zip(results(*views), results(log_magnitude, phase), strict=True):
        assert torch.equal(ours, plain)


def test_expanded_gradient_and_expanded_input():
    log_magnitude, phase = polar(1, 4, 16)
    log_magnitude = log_magnitude[:, :1].expand(2, 4, -1).detach().requires_grad_()
    phase = phase.expand(2, -1, -1)
    polar_istft(log_magnitude, phase, hann(16), 4).sum().backward()
    plain = log_magnitude.detach().contiguous().requires_grad_()
    ops.polar_istft(plain, phase, hann(16), 4).sum().backward()
    assert torch.allclose(log_magnitude.grad, plain.grad, atol=1e-5)


@pytest.mark.parametrize("chunks", [[1] * 6, [2, 1, 3], [6]], ids=str)
def test_stream_equals_whole(chunks):
    log_magnitude, phase = polar(2, 6, 64)
    window = hann(64)
    overlap, audio = torch.zeros(2, 48, device=DEVICE), []
    for m, p in zip(log_magnitude.split(chunks, dim=1), phase.split(chunks, dim=1), strict=True):
        given = overlap.clone()
        samples, new_overlap = polar_istft_stream(m, p, window, 16, overlap)
        assert torch.equal(overlap, given)
        audio.append(samples)
        overlap = new_overlap
    total = ops.polar_overlap_add(log_magnitude, phase, window, 16) / ops.constant_envelope(window, 16)
    assert torch.allclose(torch.cat(audio, dim=1), polar_istft(log_magnitude, phase, window, 16), rtol=0, atol=1e-5)
    assert torch.allclose(overlap, total[:, 6 * 16 :], rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_frames", [1, 2, 5])
def test_stream_matches_reference_with_every_gradient(n_frames):
    window, overlap = hann(64), torch.randn(2, 48, generator=torch.Generator().manual_seed(3))
    inputs = [*polar(2, n_frames, 64), overlap]
    grads = [torch.randn(2, n, generator=torch.Generator().manual_seed(n)) for n in (n_frames * 16, 48)]
    assert_op_matches(
        lambda m, p, o: polar_istft_stream(m, p, window, 16, o),
        lambda m, p, o: ops.polar_istft_stream(m, p, window.to(m.dtype), 16, o),
        inputs,
        grads,
        torch.float32,
    )


def test_limit_passes_the_gradient_at_equality_only():
    limit = torch.tensor(math.log(100.0))
    values = torch.stack([torch.nextafter(limit, -limit), limit, torch.nextafter(limit, 2 * limit), torch.tensor(50.0)])
    log_magnitude = values.repeat(9, 1).T[None].contiguous().to(DEVICE).requires_grad_()  # [1, 4, 9]
    phase = torch.full_like(log_magnitude, 0.3)
    audio = polar_overlap_add(log_magnitude, phase, hann(16), 4)
    (gradient,) = torch.autograd.grad(audio.square().sum(), log_magnitude)
    assert (gradient[0, :2].abs().amax(-1) > 0).all()
    assert (gradient[0, 2:] == 0).all()


def test_imaginary_parts_of_dc_and_nyquist_are_ignored():
    log_magnitude, phase = polar(1, 2, 16)
    phase[..., 0], phase[..., -1] = math.pi / 2, -math.pi / 2
    spectrum = spectrum_of(log_magnitude, phase)
    spectrum[..., 0], spectrum[..., -1] = 0, 0
    frames = torch.fft.irfft(spectrum, 16)
    ours = torch.fft.ifft(torch.view_as_complex(polar_spectrum(log_magnitude, phase)), norm="forward")
    assert torch.allclose(torch.view_as_real(ours).flatten(-2).double(), frames, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ends_of_the_range_are_finite(dtype):
    ends = torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).min, 0.0, 1.0], dtype=dtype, device=DEVICE)
    log_magnitude = ends.repeat(9)[:36].reshape(1, 4, 9).requires_grad_()
    phase = ends.repeat_interleave(9).reshape(1, 4, 9).requires_grad_()
    audio = polar_istft(log_magnitude, phase, hann(16), 4)
    gradients = torch.autograd.grad(audio.sum(), (log_magnitude, phase))
    assert all(result.isfinite().all() for result in (audio, *gradients))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("which", [0, 1])
def test_nan_reaches_the_output(which):
    inputs = polar(1, 5, 16)
    inputs[which][0, 4, 3] = math.nan
    audio = polar_istft(*inputs, hann(16), 4)
    assert audio[0, :16].isfinite().all()
    assert audio[0, 17:].isnan().all()


def test_nothing_is_written_and_results_repeat():
    inputs = [*polar(2, 5, 64), hann(64)]
    kept = [x.clone() for x in inputs]
    leaves = [x.requires_grad_() for x in inputs[:2]]
    dy = torch.randn(2, 80, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    dy_kept = dy.clone()
    first, second = (
        [y, *torch.autograd.grad(y, leaves, dy)]
        for y in (polar_istft(*leaves, inputs[2], 16), polar_istft(*leaves, inputs[2], 16))
    )
    assert all(torch.equal(a, b) for a, b in zip([*inputs, dy], [*kept, dy_kept], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ---------------------------------------------------------------- registration


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_gradcheck(alignment):
    log_magnitude, phase = (x.double().requires_grad_() for x in polar(1, 2, 8))
    window = hann(8).double()
    torch.autograd.gradcheck(lambda m, p: polar_istft(m, p, window, 2, alignment), (log_magnitude, phase))


def test_gradcheck_of_the_stream_and_of_the_plain_sum():
    log_magnitude, phase = (x.double().requires_grad_() for x in polar(1, 2, 8))
    window, overlap = hann(8).double(), torch.randn(1, 6, dtype=torch.float64, device=DEVICE, requires_grad=True)
    stream = (log_magnitude, phase, overlap)
    torch.autograd.gradcheck(lambda m, p, o: polar_istft_stream(m, p, window, 2, o), stream)
    torch.autograd.gradcheck(lambda m, p: polar_overlap_add(m, p, window, 2), stream[:2])


@of_pytorch
def test_registration_is_sound():
    log_magnitude, phase = (x.requires_grad_() for x in polar(2, 3, 16))
    torch.library.opcheck(polar_spectrum, (log_magnitude, phase))
    transposed = [
        x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in (log_magnitude, phase)
    ]
    torch.library.opcheck(polar_spectrum, transposed)
    frames = torch.randn(2, 3, 16, device=DEVICE, requires_grad=True)
    torch.library.opcheck(overlap_add, (frames, hann(16), 4, 6, 12, "window"))
    torch.library.opcheck(overlap_add, (frames, hann(16), 4, 0, 24, "constant", torch.zeros(2, 12, device=DEVICE)))
    dz = torch.randn(*log_magnitude.shape[:2], log_magnitude.shape[2] - 1, 2, device=DEVICE)
    backward = torch.ops.silk_fast.polar_spectrum_backward.default
    torch.library.opcheck(backward, (dz, log_magnitude.detach(), phase.detach()))
    torch.library.opcheck(backward, (dz, *(x.detach() for x in transposed)))
    backward = torch.ops.silk_fast.overlap_add_backward.default
    for normalization in ("none", "constant", "window"):
        torch.library.opcheck(backward, (torch.randn(2, 12, device=DEVICE), hann(16), 3, 4, 6, normalization))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_compiles_into_one_graph(alignment):
    window = hann(16)

    def loss(m, p):
        return polar_istft(m, p, window, 4, alignment).square().sum()

    inputs = polar(2, 3, 16)
    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaves = [x.clone().requires_grad_() for x in inputs]
        results.append([function(*leaves), *torch.autograd.grad(function(*leaves), leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# ---------------------------------------------------------------- refusals


BAD = {
    "odd n_fft": ({"window": (15,)}, ValueError, r"window must be \[n_fft\], n_fft even"),
    "two windows": ({"window": (1, 16)}, ValueError, r"window must be \[n_fft\]"),
    "hop does not divide": ({"hop": 5}, ValueError, "hop must divide n_fft = 16, got 5"),
    "hop 0": ({"hop": 0}, ValueError, "hop must divide"),
    "bins": ({"log_magnitude": (2, 3, 8)}, ValueError, r"log_magnitude must be \[B, N, 9\], got \[2, 3, 8\]"),
    "dimensions": ({"log_magnitude": (3, 9)}, ValueError, r"log_magnitude must be \[B, N, 9\]"),
    "no frames": ({"log_magnitude": (2, 0, 9), "phase": (2, 0, 9)}, ValueError, "not empty"),
    "no batch": ({"log_magnitude": (0, 3, 9), "phase": (0, 3, 9)}, ValueError, "not empty"),
    "phase shape": ({"phase": (2, 4, 9)}, ValueError, r"phase must be \[2, 3, 9\]"),
    "phase dtype": ({"phase": torch.zeros(2, 3, 9, dtype=torch.float16)}, TypeError, "phase must be torch.float32 as"),
    "integers": ({"log_magnitude": torch.zeros(2, 3, 9, dtype=torch.int32)}, TypeError, "log_magnitude must be float"),
    "integer window": ({"window": torch.ones(16, dtype=torch.int64)}, TypeError, "window must be float32"),
    "window to learn": ({"window": torch.ones(16, requires_grad=True)}, ValueError, "window must not require"),
    "overlap shape": ({"overlap": (2, 16)}, ValueError, r"overlap must be \[2, 12\], got \[2, 16\]"),
    "integer overlap": ({"overlap": torch.zeros(2, 12).long()}, TypeError, "overlap must be float32"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_any_launch(case, monkeypatch):
    changes, error, message = BAD[case]
    arguments = {"log_magnitude": (2, 3, 9), "phase": (2, 3, 9), "window": (16,), "hop": 4, "overlap": None} | changes
    for name, value in arguments.items():
        value = torch.zeros(value) if isinstance(value, tuple) else value
        if torch.is_tensor(value):
            value = value.detach().to(DEVICE).requires_grad_(value.requires_grad)
        arguments[name] = value
    monkeypatch.setattr("silk_fast.kernels.inverse_stft.polar_spectrum._launch", None)
    with pytest.raises(error, match=message):
        polar_istft_stream(**arguments)


def test_unknown_alignment_is_refused():
    with pytest.raises(ValueError, match="alignment must be center, same or causal, got 'left'"):
        polar_istft(*polar(1, 2, 16), hann(16), 4, "left")
