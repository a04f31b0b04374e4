"""The specification: every operation of the codec that has a kernel, as a plain PyTorch function.

A kernel is right when it agrees with the function of the same name here. These functions favour
reading over speed; they are differentiable, run on any device, and keep no state.

Layouts: convolutional signals are ``[B, C, T]`` (batch, channels, time), latent frames and the
Conformer are ``[B, T, D]``, attention heads ``[B, H, T, D]``. An argument ``context`` is the
operation's own input just before the first sample it is given, so that a signal cut into chunks
gives the result of the whole; None means the start of the signal, which is the same as zeros.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast.errors import SilkInputError

SNAKE_EPSILON = 1e-9
FSQ_EPSILON = 1e-3
LOG_MAGNITUDE_LIMIT = math.log(100.0)

Alignment = Literal["center", "same", "causal"]

# ---------------------------------------------------------------- Snake, ELU and the residual unit


def snake(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Apply the Snake activation ``x + sin(alpha * x)^2 / (beta + 1e-9)`` (Ziyin et al., 2020; BigVGAN's beta).

    Args:
        x: ``[B, C, T]``.
        alpha: ``[C]``, frequency, > 0.
        beta: ``[C]``, inverse magnitude, > 0. DAC uses ``beta = alpha``.

    Returns:
        ``[B, C, T]``.
    """
    return x + torch.sin(alpha[:, None] * x).square() / (beta[:, None] + SNAKE_EPSILON)


def elu(x: Tensor, bias: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
    """Apply ELU to ``residual + (x + bias)``: ``v``, or ``e^v - 1`` where it is negative (Clevert et al., 2016).

    Args:
        x, residual: ``[B, C, T]``.
        bias: ``[C]``.

    Returns:
        ``[B, C, T]``.
    """
    v = x if bias is None else x + bias[:, None]
    return F.elu(v if residual is None else residual + v)


def extend(
    x: Tensor, reach: int, context: Tensor | None = None, padding: Literal["causal", "symmetric"] = "causal"
) -> Tensor:
    """Give ``x`` ``[B, C, T]`` ``reach`` more samples: context or zeros on the left, or half of the zeros each side."""
    if padding == "symmetric":
        return F.pad(x, (reach // 2, reach // 2))
    return F.pad(x, (reach, 0)) if context is None else torch.cat([context, x], dim=-1)


def residual_unit(
    x: Tensor,
    alpha1: Tensor,
    beta1: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    alpha2: Tensor,
    beta2: Tensor,
    weight2: Tensor,
    bias2: Tensor | None,
    dilation: int,
    context: Tensor | None = None,
    padding: Literal["causal", "symmetric"] = "causal",
) -> Tensor:
    """Apply the residual unit ``x + conv1(snake(conv_d(snake(x))))`` (DAC, Kumar et al., 2023).

    Args:
        x: ``[B, C, T]``.
        alpha1, beta1: ``[C]``, Snake before the dilated convolution.
        weight1: ``[C, C, K]``, K odd; ``bias1``: ``[C]`` or None.
        alpha2, beta2: ``[C]``, Snake before the pointwise convolution.
        weight2: ``[C, C, 1]``; ``bias2``: ``[C]`` or None.
        dilation: distance between taps.
        context: ``[B, C, (K - 1) * dilation]`` or None; only with causal padding.
        padding: ``"causal"`` pads ``(K - 1) * dilation`` on the left, ``"symmetric"`` half of it on each side (DAC).

    Returns:
        ``[B, C, T]``.
    """
    extended = extend(x, (weight1.shape[-1] - 1) * dilation, context, padding)
    hidden = F.conv1d(snake(extended, alpha1, beta1), weight1, bias1, dilation=dilation)
    return x + F.conv1d(snake(hidden, alpha2, beta2), weight2, bias2)


# ---------------------------------------------------------------- finite scalar quantisation


def fsq_constants(levels: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give (levels, half, offset) of the bound, each float32 ``[D]``."""
    n_levels = torch.tensor(levels, dtype=torch.float32, device=like.device)
    half = (n_levels - 1) * (1 + FSQ_EPSILON) / 2
    offset = (1 - n_levels % 2) / 2
    return n_levels, half, offset


def fsq_bound(z: Tensor, levels: Sequence[int]) -> Tensor:
    """Squash each dimension into the open range whose rounding gives its levels (Mentzer et al., 2023).

    ``tanh(z + atanh(offset / half)) * half - offset`` with ``half = (L - 1) * (1 + 1e-3) / 2`` and
    ``offset`` 0.5 for an even number of levels, else 0; in float32 whatever the dtype of ``z``.

    Args:
        z: ``[..., D]``.
        levels: D level counts, each >= 2.

    Returns:
        float32 ``[..., D]`` in ``(-L/2 - eps, L/2 - 1 + eps)`` for even L.
    """
    _, half, offset = fsq_constants(levels, z)
    return torch.tanh(z.float() + torch.atanh(offset / half)) * half - offset


def fsq_digits(z: Tensor, levels: Sequence[int]) -> Tensor:
    """Round to the digit ``round(bound(z)) + L // 2`` in ``0 .. L - 1`` of each dimension; int32 ``[..., D]``."""
    half_width = torch.tensor(levels, dtype=torch.int32, device=z.device) // 2
    return torch.round(fsq_bound(z, levels)).to(torch.int32) + half_width


def fsq_quantize(z: Tensor, levels: Sequence[int]) -> Tensor:
    """Quantise to codes ``(digit - L // 2) / (L // 2)``; the gradient of the bound passes straight through the round.

    Args:
        z: ``[..., D]``.
        levels: D level counts, each >= 2.

    Returns:
        float32 ``[..., D]``; for L = 8 in ``[-1, 0.75]``.
    """
    bounded = fsq_bound(z, levels)
    rounded = bounded + (torch.round(bounded) - bounded).detach()
    return rounded / (torch.tensor(levels, dtype=torch.int32, device=z.device) // 2)


def group_levels(levels: Sequence[int], group_size: int) -> list[list[int]]:
    """Cut ``levels`` into contiguous groups of ``group_size`` dimensions; the last may be shorter."""
    return [list(levels[i : i + group_size]) for i in range(0, len(levels), group_size)]


def _place_values(levels: Sequence[int], group_size: int, like: Tensor) -> Tensor:
    """Give the weight of each digit in its token, the product of the earlier levels in its group; int64 ``[D]``."""
    values = [math.prod(group[:i]) for group in group_levels(levels, group_size) for i in range(len(group))]
    return torch.tensor(values, dtype=torch.int64, device=like.device)


def pack_digits(digits: Tensor, levels: Sequence[int], group_size: int) -> Tensor:
    """Pack digits, mixed-radix and little-endian: ``token_g = sum_i digit_{g, i} * prod_{j < i} L_j``.

    Args:
        digits: integer ``[..., D]``, each in ``0 .. L - 1``.
        levels: D level counts.
        group_size: digits per token; the last token holds what is left.

    Returns:
        int32 ``[..., ceil(D / group_size)]``.
    """
    weighted = digits.to(torch.int64) * _place_values(levels, group_size, digits)
    padded = F.pad(weighted, (0, -len(levels) % group_size))
    return padded.unflatten(-1, (-1, group_size)).sum(-1).to(torch.int32)


def unpack_digits(tokens: Tensor, levels: Sequence[int], group_size: int) -> Tensor:
    """Undo :func:`pack_digits`; int32 ``[..., D]``."""
    n_levels = torch.tensor(levels, dtype=torch.int64, device=tokens.device)
    per_digit = tokens.to(torch.int64).repeat_interleave(group_size, dim=-1)[..., : len(levels)]
    return (per_digit // _place_values(levels, group_size, tokens) % n_levels).to(torch.int32)


def fsq_pack(z: Tensor, levels: Sequence[int], group_size: int) -> Tensor:
    """Turn latents ``[..., D]`` into tokens: bound, round and pack; int32 ``[..., ceil(D / group_size)]``."""
    return pack_digits(fsq_digits(z, levels), levels, group_size)


def fsq_unpack(tokens: Tensor, levels: Sequence[int], group_size: int) -> Tensor:
    """Turn tokens ``[..., G]`` into codes float32 ``[..., D]``, the values of :func:`fsq_quantize`."""
    half_width = torch.tensor(levels, dtype=torch.int32, device=tokens.device) // 2
    return (unpack_digits(tokens, levels, group_size) - half_width) / half_width


# ---------------------------------------------------------------- Conformer


def attention_mask(
    n_queries: int,
    n_keys: int,
    window: tuple[int | None, int | None],
    lengths: Tensor | None = None,
    starts: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Mark where query i may attend to key j: inside the window and inside ``starts <= j < lengths``.

    The last query stands at the last key, so query i has the position ``i + n_keys - n_queries``.

    Args:
        window: keys to the left and to the right of the query; None for all.
        lengths: int ``[B]``, number of keys; starts: int ``[B]``, first key.

    Returns:
        bool ``[1 or B, 1, n_queries, n_keys]``.
    """
    left, right = window
    i_key = torch.arange(n_keys, device=device)
    distance = (torch.arange(n_queries, device=device) + n_keys - n_queries)[:, None] - i_key
    mask = torch.ones_like(distance, dtype=torch.bool)
    if left is not None:
        mask &= distance <= left
    if right is not None:
        mask &= distance >= -right
    mask = mask[None, None]
    if lengths is not None:
        mask = mask & (i_key < lengths[:, None, None, None])
    if starts is not None:
        mask = mask & (i_key >= starts[:, None, None, None])
    return mask


def _attend(scores: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Take the softmax over the keys that the mask allows, then the value product; a query without keys gives zeros."""
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
    return torch.nan_to_num(weights, nan=0.0) @ v if scores.numel() else scores @ v


def rel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos: Tensor,
    u: Tensor,
    v_bias: Tensor,
    window: tuple[int | None, int | None] = (None, None),
    lengths: Tensor | None = None,
    starts: Tensor | None = None,
) -> Tensor:
    """Attend with the relative positions of Transformer-XL (Dai et al., 2019), as the Conformer (Gulati et al., 2020).

    ``score_ij = ((q_i + u) . k_j + (q_i + v_bias) . pos_{i - j}) / sqrt(D)``

    Args:
        q: ``[B, H, Tq, D]``; the last query stands at the last key.
        k, v: ``[B, H, Tk, D]``.
        pos: ``[H, R, D]``, projected position of each distance ``i - j``: row r holds distance
            ``r - right``, so ``R = left + right + 1``. An extent of None in ``window`` counts as ``Tk - 1``.
        u, v_bias: ``[H, D]``, content and position biases.
        window: keys to the left and to the right that a query sees; None for all.
        lengths: int ``[B]``, keys per sample; None for all.
        starts: int ``[B]``, first key per sample; None for 0.

    Returns:
        ``[B, H, Tq, D]``; zeros for a query that sees no key.

    Raises:
        SilkInputError: ``pos`` does not have one row per distance in the window.
    """
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    left, right = (n_keys - 1 if extent is None else extent for extent in window)
    if pos.shape[-2] != left + right + 1:
        raise SilkInputError(f"pos must have left + right + 1 = {left + right + 1} rows, got {pos.shape[-2]}")
    i_query = torch.arange(n_queries, device=q.device) + n_keys - n_queries
    distance = i_query[:, None] - torch.arange(n_keys, device=q.device)
    row = (distance + right).clamp(0, left + right).expand(q.shape[0], q.shape[1], -1, -1)
    content = (q + u[:, None]) @ k.transpose(-1, -2)
    position = ((q + v_bias[:, None]) @ pos.transpose(-1, -2)).gather(-1, row)
    mask = attention_mask(n_queries, n_keys, window, lengths, starts, q.device)
    return _attend((content + position) / math.sqrt(q.shape[-1]), v, mask)


def rel_key_attention(
    q: Tensor, k: Tensor, v: Tensor, distance_embedding: Tensor, left: int, right: int, lengths: Tensor | None = None
) -> Tensor:
    """Attend with clipped relative keys (Shaw et al., 2018), as in Wav2Vec2-BERT.

    ``score_ij = (q_i . k_j + q_i . E[clip(j - i, -left, right) + left]) / sqrt(D)``

    Args:
        q, k, v: ``[B, H, T, D]``.
        distance_embedding: ``[left + right + 1, D]``, shared by the heads.
        left, right: distances beyond which keys share an embedding.
        lengths: int ``[B]``, keys per sample; None for all.

    Returns:
        ``[B, H, T, D]``.
    """
    i_frame = torch.arange(q.shape[-2], device=q.device)
    row = (i_frame - i_frame[:, None]).clamp(-left, right) + left
    position = (q @ distance_embedding.T).gather(-1, row.expand(q.shape[0], q.shape[1], -1, -1))
    mask = attention_mask(q.shape[-2], k.shape[-2], (None, None), lengths, device=q.device)
    return _attend((q @ k.transpose(-1, -2) + position) / math.sqrt(q.shape[-1]), v, mask)


def bias_silu(x: Tensor, bias: Tensor) -> Tensor:
    """Compute ``silu(x + bias)`` for ``x`` ``[..., C]`` and ``bias`` ``[C]``."""
    return F.silu(x + bias)


def add_layer_norm(
    x: Tensor, residual: Tensor, scale: float, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Compute the sum ``x + scale * residual`` and its LayerNorm.

    Args:
        x, residual: ``[..., C]``.
        scale: factor on ``residual``.
        weight, bias: ``[C]``, affine of the norm.

    Returns:
        (sum, normalised sum), each ``[..., C]``.
    """
    total = x + scale * residual
    return total, F.layer_norm(total, total.shape[-1:], weight, bias, eps)


def glu_conv_norm_silu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float = 1e-5,
    context: Tensor | None = None,
) -> Tensor:
    """Compute ``silu(layer_norm(depthwise_conv(glu(x))))``, the middle of a Conformer convolution module; causal.

    Args:
        x: ``[B, T, 2C]``; GLU multiplies the first half by the sigmoid of the second.
        weight: ``[C, K]``, depthwise taps, the last at the current frame; ``bias``: ``[C]``.
        norm_weight, norm_bias: ``[C]``.
        context: ``[B, K - 1, 2C]`` or None.

    Returns:
        ``[B, T, C]``.
    """
    reach = weight.shape[-1] - 1
    extended = F.pad(x, (0, 0, reach, 0)) if context is None else torch.cat([context, x], dim=1)
    gated = F.glu(extended, dim=-1).transpose(1, 2)
    convolved = F.conv1d(gated, weight[:, None], bias, groups=weight.shape[0]).transpose(1, 2)
    return F.silu(F.layer_norm(convolved, convolved.shape[-1:], norm_weight, norm_bias, eps))


# ---------------------------------------------------------------- inverse STFT


def polar_overlap_add(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int) -> Tensor:
    """Take the inverse DFT of ``exp(min(m, log 100)) * exp(i p)``, windowed and overlap-added; not yet normalised.

    The imaginary parts of DC and Nyquist are ignored. Frame f adds at samples ``f * hop ..``.

    Args:
        log_magnitude, phase: ``[B, N, n_fft // 2 + 1]``, natural logarithm and radians.
        window: ``[n_fft]``, n_fft even.
        hop: samples between frames; divides n_fft.

    Returns:
        ``[B, (N - 1) * hop + n_fft]``.
    """
    magnitude = torch.exp(log_magnitude.clamp(max=LOG_MAGNITUDE_LIMIT))
    imaginary = magnitude * torch.sin(phase)
    imaginary = F.pad(imaginary[..., 1:-1], (1, 1))
    spectrum = torch.complex(magnitude * torch.cos(phase), imaginary)
    frames = torch.fft.irfft(spectrum, n=window.shape[0]) * window
    return overlap_add_by_shifts(frames, hop) if frames.device.type == "mps" else overlap_add(frames, hop)


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Add frames ``[B, N, n_fft]`` at samples ``f * hop ..``; ``[B, (N - 1) * hop + n_fft]``."""
    n_total, n_fft = (frames.shape[1] - 1) * hop + frames.shape[2], frames.shape[2]
    return F.fold(frames.transpose(1, 2), (1, n_total), (1, n_fft), stride=(1, hop))[:, 0, 0]


def overlap_add_by_shifts(frames: Tensor, hop: int) -> Tensor:
    """:func:`overlap_add` where ``hop`` divides n_fft, without ``fold``: PyTorch 2.6 has none on Metal."""
    n_batch, n_frames, n_fft = frames.shape
    n_parts = n_fft // hop
    parts = frames.unflatten(-1, (n_parts, hop))
    total = frames.new_zeros(n_batch, n_frames + n_parts - 1, hop)
    for i in range(n_parts):
        total[:, i : i + n_frames] += parts[:, :, i]
    return total.flatten(1)


def window_envelope(window: Tensor, n_frames: int, hop: int) -> Tensor:
    """Overlap-add the squared window of ``n_frames`` frames; ``[(n_frames - 1) * hop + n_fft]``."""
    squared = window.square().expand(1, n_frames, -1).transpose(1, 2)
    n_total = (n_frames - 1) * hop + window.shape[0]
    return F.fold(squared, (1, n_total), (1, window.shape[0]), stride=(1, hop))[0, 0, 0]


def constant_envelope(window: Tensor, hop: int) -> Tensor:
    """Give the envelope far from both ends, ``sum(window^2) / hop``; exact for a Hann window and hop <= n_fft / 3."""
    return window.square().sum() / hop


def polar_istft(
    log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int, alignment: Alignment = "causal"
) -> Tensor:
    """Take the inverse STFT of log-magnitude and phase, in one of three alignments.

    ``center`` is ``torch.istft``: ``n_fft / 2`` samples are cut at each end. ``same`` cuts
    ``(n_fft - hop) / 2`` at each end (Vocos, Siuzdak, 2023). Both divide by the window envelope.
    ``causal`` returns the first ``N * hop`` samples and divides by the constant envelope, so that
    nothing depends on later frames.

    Args:
        log_magnitude, phase: ``[B, N, n_fft // 2 + 1]``.
        window: ``[n_fft]``.
        hop: samples between frames; divides n_fft.
        alignment: ``"center"``, ``"same"`` or ``"causal"``.

    Returns:
        ``[B, (N - 1) * hop]`` for ``center``, else ``[B, N * hop]``; with ``same`` one more if n_fft - hop is odd.

    Raises:
        SilkInputError: unknown alignment.
    """
    if alignment not in ("center", "same", "causal"):
        raise SilkInputError(f"alignment must be center, same or causal, got {alignment!r}")
    total = polar_overlap_add(log_magnitude, phase, window, hop)
    n_frames, n_fft = log_magnitude.shape[1], window.shape[0]
    if alignment == "causal":
        return total[:, : n_frames * hop] / constant_envelope(window, hop)
    cut = n_fft // 2 if alignment == "center" else (n_fft - hop) // 2
    kept = slice(cut, total.shape[1] - cut)
    return total[:, kept] / window_envelope(window, n_frames, hop)[kept]


def polar_istft_stream(
    log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int, overlap: Tensor
) -> tuple[Tensor, Tensor]:
    """Take the ``causal`` inverse STFT of frames that continue a signal.

    Args:
        log_magnitude, phase: ``[B, N, n_fft // 2 + 1]``.
        window: ``[n_fft]``.
        hop: samples between frames; divides n_fft.
        overlap: ``[B, n_fft - hop]``, what earlier frames add to the next samples; zeros at the start.

    Returns:
        (audio ``[B, N * hop]``, the overlap for the next call ``[B, n_fft - hop]``).
    """
    total = polar_overlap_add(log_magnitude, phase, window, hop) / constant_envelope(window, hop)
    total = total + F.pad(overlap, (0, total.shape[1] - overlap.shape[1]))
    n_out = log_magnitude.shape[1] * hop
    return total[:, :n_out], total[:, n_out:]


# ---------------------------------------------------------------- harmonics


def hann_response(offset: Tensor) -> Tensor:
    """Give the magnitude of a Hann window's transform, 1 at its peak, so many bins beside it."""
    distance = (1 - offset) * (1 + offset)
    near_one = distance.abs() < 1e-4  # where it is 0 / 0, and its limit 1 / 2
    return torch.where(near_one, 0.5, torch.sinc(offset).abs() / torch.where(near_one, 1.0, distance.abs()))


def count_turns(pitch: Tensor, before: Tensor, hop: int, rate: int) -> tuple[Tensor, Tensor]:
    """Count the periods of a pitch, by the trapezoidal rule, in integers: nothing is lost however long it goes on.

    Args:
        pitch: float64 ``[B, N]``, Hz.
        before: int64 ``[B, 2]``, the phase before the first frame and half of the step to it, in 2^-32 turns; zeros at
            the start.
        hop: samples from frame to frame.
        rate: samples per second.

    Returns:
        (phases int64 ``[B, N]``, 0 to 2^32 - 1, and ``before`` for the next call).
    """
    half_steps = torch.cat([before[:, 1:], (pitch * (2**31 * hop / rate)).round().long()], 1)
    turns = torch.cat([before[:, :1], half_steps[:, 1:] + half_steps[:, :-1]], 1).cumsum(1) & (2**32 - 1)
    return turns[:, 1:], torch.stack([turns[:, -1], half_steps[:, -1]], 1)


def harmonic_shape(
    spacing: Tensor, cutoff: Tensor, n_bins: int, bin_width: float, width: float, deepest: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Give for every bin its harmonic, how much it is shaped, 0 to 1, and the logarithm of its shape, ``[B, N, K]``."""
    bins, spacing = torch.arange(n_bins, device=spacing.device), spacing[..., None]
    harmonic = (bins / spacing).round().clamp(min=1)
    offset = (bins - harmonic * spacing).to(dtype)
    weight = torch.sigmoid((cutoff[..., None] - bins * bin_width).to(dtype) / width)
    return harmonic, weight, hann_response(offset).clamp(min=deepest).log()


def add_harmonics(
    log_magnitude: Tensor,
    phase: Tensor,
    spacing: Tensor,
    cutoff: Tensor,
    turns: Tensor,
    bin_width: float,
    width: float = 500.0,
    deepest: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """Shape spectra like the harmonics of a pitch, up to a cutoff.

    Bin k belongs to the harmonic h nearest to it. Its magnitude is multiplied by the response of a Hann window at their
    distance, to a power that falls from 1 below the cutoff to 0 above it as ``sigmoid((cutoff - f) / width)``; where
    that is above 1/2, its phase is h times that of the pitch, from the middle of the frame: ``pi (k mod 2)`` more.

    Args:
        log_magnitude, phase: ``[B, N, K]``.
        spacing: float64 ``[B, N]``, of the harmonics, in bins.
        cutoff: float64 ``[B, N]``, Hz; minus infinity where there is no voice.
        turns: int64 ``[B, N]``, the phase of the pitch in 2^-32 turns, as :func:`count_turns` gives it.
        bin_width: Hz from bin to bin.
        width: Hz in which harmonics fade at the cutoff.
        deepest: of the valleys between harmonics, as a share of their magnitude.

    Returns:
        (log-magnitudes, phases), ``[B, N, K]``.
    """
    sizes = log_magnitude.shape[2], bin_width, width, deepest, log_magnitude.dtype
    harmonic, weight, valley = harmonic_shape(spacing, cutoff, *sizes)
    halves = torch.arange(log_magnitude.shape[2], device=turns.device) << 31  # every other bin half a turn on
    counted = (harmonic.long() * turns[..., None] + halves) & (2**32 - 1)
    turned = counted.to(phase.dtype) * (2 * math.pi / 2**32)
    return log_magnitude + weight * valley, torch.where(weight > 0.5, turned, phase)


# ---------------------------------------------------------------- vector quantisation


def nearest_code(x: Tensor, codebook: Tensor, euclidean: bool = False) -> Tensor:
    """Find the index of the nearest entry; the first of equals.

    Args:
        x: ``[B, T, D]``.
        codebook: ``[K, D]``.
        euclidean: compare distances (``torch.cdist``), of which more are equal than of their squares.

    Returns:
        int64 ``[B, T]``.
    """
    if euclidean:
        return torch.cdist(x, codebook).argmin(-1)
    return (-(x.square().sum(-1, keepdim=True) - 2 * x @ codebook.T + codebook.square().sum(-1))).max(-1).indices


def rvq_encode(x: Tensor, codebooks: Tensor, euclidean: bool = False) -> Tensor:
    """Quantise by residual vectors (Zeghidour et al., 2021): each stage codes what the earlier ones left.

    Args:
        x: ``[B, T, D]``.
        codebooks: ``[Q, K, D]``.
        euclidean: as in :func:`nearest_code`; EnCodec compares squares, Mimi distances.

    Returns:
        int64 ``[B, Q, T]``.
    """
    indices = x.new_empty(x.shape[0], len(codebooks), x.shape[1], dtype=torch.int64)
    for i, codebook in enumerate(codebooks):
        indices[:, i] = nearest_code(x, codebook, euclidean)
        x = x - F.embedding(indices[:, i], codebook)
    return indices


def rvq_decode(indices: Tensor, codebooks: Tensor) -> Tensor:
    """Add up the entries of ``codebooks`` ``[Q or more, K, D]`` that ``indices`` ``[B, Q, T]`` name; ``[B, T, D]``."""
    stages = zip(indices.unbind(1), codebooks, strict=False)
    zero = codebooks.new_zeros(indices.shape[0], indices.shape[2], codebooks.shape[2])
    return sum((F.embedding(index, codebook) for index, codebook in stages), start=zero)


def factorized_tables(in_weights: Tensor, codebooks: Tensor, out_weights: Tensor, out_biases: Tensor) -> Tensor:
    """By how much each entry changes the projections of later stages: ``W_j (V_k c + a_k)``.

    Args:
        in_weights: ``[Q, D, C]``, W.
        codebooks: ``[Q, K, D]``.
        out_weights: ``[Q, C, D]``, V; out_biases: ``[Q, C]``, a.

    Returns:
        ``[Q, K, Q * D]``: row c of stage k holds that of every stage j.
    """
    entries = codebooks @ out_weights.transpose(1, 2) + out_biases[:, None]
    return entries @ in_weights.flatten(0, 1).T


def factorized_rvq_encode(
    projections: Tensor,
    codebooks: Tensor,
    tables: Tensor,
    strides: Sequence[int] | None = None,
    score: Literal["dac", "snac"] = "dac",
) -> tuple[Tensor, Tensor]:
    """Find the nearest direction in every stage, from projections of the input (DAC, Kumar et al., 2023; SNAC).

    Args:
        projections: ``[B, T, Q * D]``, ``W_j x + b_j`` of stage after stage.
        codebooks: ``[Q, K, D]``.
        tables: ``[Q, K, Q * D]``, of :func:`factorized_tables`.
        strides: frames that share an index, in each stage; None for 1 everywhere.
        score: whether squared lengths of entries are added or, as a distance has it, subtracted. They are 1.

    Returns:
        (indices int64 ``[B, Q, T]``, latents ``[B, T, Q * D]``: the projections as each stage met them).
    """
    n_stages, _, n_dims = codebooks.shape
    rest, indices, latents = projections, [], []
    for i, stride in enumerate(strides or [1] * n_stages):
        latent = rest[..., i * n_dims : (i + 1) * n_dims]
        latent = latent.unflatten(1, (-1, stride)).mean(2)
        x, codes = F.normalize(latent, dim=-1), F.normalize(codebooks[i], dim=-1)
        distance = x.square().sum(-1, keepdim=True) - 2 * x @ codes.T
        squares = codes.square().sum(-1)
        index = (-distance + squares if score == "dac" else -(distance + squares)).max(-1).indices
        index, latent = (held.repeat_interleave(stride, dim=1) for held in (index, latent))
        rest = rest - F.embedding(index, tables[i])
        indices.append(index)
        latents.append(latent)
    return torch.stack(indices, dim=1), torch.cat(latents, dim=-1)
