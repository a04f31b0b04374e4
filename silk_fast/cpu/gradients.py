"""Gradients of the fused operations by PyTorch's own: the formulas of the Triton kernels, for tensors on a CPU.

Each function takes and gives what the backward op of its name does in ``silk_fast.kernels``; float32 or float64.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast.reference import ops as reference
from silk_fast.reference.ops import LOG_MAGNITUDE_LIMIT, SNAKE_EPSILON


def snake(dy: Tensor, x: Tensor, alpha: Tensor, beta: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Give dx ``[B, C, T]`` and the gradients of alpha, beta and (if there is one) bias, ``[2 or 3, C]``."""
    v = x if bias is None else x + bias[:, None]
    scale = 1 / (beta[:, None] + SNAKE_EPSILON)
    angle = alpha[:, None] * v
    sine = angle.sin()
    dy_sine = dy * sine
    dy_sine_cosine = dy_sine * angle.cos()
    dx = dy + dy_sine_cosine * (2 * alpha[:, None] * scale)
    sums = [dy_sine_cosine * v * (2 * scale), dy_sine * sine * -scale.square(), dx]
    return dx, torch.stack([s.sum((0, 2)) for s in (sums if bias is not None else sums[:2])])


def elu(dy: Tensor, y: Tensor, with_bias: bool) -> tuple[Tensor, Tensor]:
    """Give dx ``[B, C, T]`` from the output ``y``, and the gradient of a bias ``[C]``, empty if there is none."""
    dx = dy * (1 + y.clamp(max=0))
    return dx, dx.sum((0, 2)) if with_bias else dx.new_empty(0)


def bias_silu(dy: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Give dx ``[..., C]`` and dbias ``[C]``."""
    dx = _silu(dy, x + bias)
    return dx, dx.flatten(0, -2).sum(0)


def _silu(dy: Tensor, v: Tensor) -> Tensor:
    sigmoid = v.sigmoid()
    return dy * (sigmoid * (1 + v * (1 - sigmoid)))


def _layer_norm(dy: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of a LayerNorm of ``x`` ``[..., C]``: of x, and of weight and bias a row."""
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    scale = (variance + eps).rsqrt()
    normed = (x - mean) * scale
    g = dy * weight
    dx = scale * (g - g.mean(-1, keepdim=True) - normed * (g * normed).mean(-1, keepdim=True))
    return dx, dy * normed, dy


def add_layer_norm(
    dsum: Tensor | None,
    dnormed: Tensor,
    total: Tensor,
    scale: float,
    weight: Tensor,
    eps: float,
    x_dtype: torch.dtype,
    residual_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of x, of residual (empty if it is that of x), and of weight and bias, ``[2, C]``."""
    dx, dweight, dbias = _layer_norm(dnormed, total, weight, eps)
    if dsum is not None:
        dx = dx + dsum
    shared = scale == 1 and x_dtype == residual_dtype
    sums = torch.stack([s.flatten(0, -2).sum(0) for s in (dweight, dbias)])
    return dx.to(x_dtype), dx.new_empty(0, dtype=residual_dtype) if shared else (scale * dx).to(residual_dtype), sums


def glu_conv_norm_silu(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    context: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of context and x ``[B, K - 1 + T, 2C]``, of weight, and ``[3, C]`` of the vectors."""
    reach = weight.shape[1] - 1
    extended = F.pad(x, (0, 0, reach, 0)) if context is None else torch.cat([context, x], dim=1)
    value, gate = extended.chunk(2, dim=-1)
    sigmoid = gate.sigmoid()
    gated, kernel, groups = (value * sigmoid).transpose(1, 2), weight[:, None], len(weight)
    convolved = F.conv1d(gated, kernel, bias, groups=groups).transpose(1, 2)
    dnormed = _silu(dy, F.layer_norm(convolved, convolved.shape[-1:], norm_weight, norm_bias, eps))
    dconvolved, *rows = _layer_norm(dnormed, convolved, norm_weight, eps)
    geometry = ([1], [0], [1], False, [0], groups)
    dgated, dweight, _ = torch.ops.aten.convolution_backward(
        dconvolved.transpose(1, 2), gated, kernel, None, *geometry, [True, True, False]
    )
    dgated = dgated.transpose(1, 2)
    dextended = torch.cat([dgated * sigmoid, dgated * value * sigmoid * (1 - sigmoid)], dim=-1)
    sums = torch.stack([s.sum((0, 1)) for s in (dconvolved, *rows)])
    return dextended[:, reach:] if context is None else dextended, dweight[:, 0], sums


def fsq_quantize(dcodes: Tensor, z: Tensor, levels: Sequence[int], dim: int) -> Tensor:
    """Give dz, that of the bound: the round passes the gradient through."""
    _, half, offset = reference.fsq_constants(levels, z)
    n_half = torch.tensor(levels, device=z.device) // 2
    shift, slope = torch.atanh(offset / half), half / n_half
    if dim == 1:
        shift, slope = shift[:, None], slope[:, None]
    return dcodes * slope * (1 - torch.tanh(z + shift).square())


def overlap_add(dy: Tensor, window: Tensor, n_frames: int, hop: int, first: int, normalization: str) -> Tensor:
    """Give the gradient of the frames ``[B, N, n_fft]``."""
    n_fft = len(window)
    if normalization == "constant":
        dy = dy / reference.constant_envelope(window, hop)
    if normalization == "window":
        dy = dy / reference.window_envelope(window, n_frames, hop)[first : first + dy.shape[1]]
    n_after = (n_frames - 1) * hop + n_fft - first - dy.shape[1]
    return F.pad(dy, (first, n_after)).unfold(1, n_fft, hop) * window


def polar_spectrum(dz: Tensor, log_magnitude: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """Give the gradients of log-magnitude and phase ``[B, N, h + 1]``: the packing's adjoint, then the polar form's."""
    half = log_magnitude.shape[2] - 1
    angles = (torch.arange(half, dtype=torch.float64, device=dz.device) * (torch.pi / half)).to(log_magnitude.dtype)
    dz = torch.view_as_complex(dz.contiguous())
    turned = dz * torch.complex(-angles.sin(), -angles.cos())  # by conj(i w^k)
    # Z_k takes X_k by 1 + i w^k and conj X_{h-k} by 1 - i w^k
    dx = F.pad(dz + turned, (0, 1)) + F.pad(dz - turned, (0, 1)).flip(-1).conj()
    magnitude = log_magnitude.clamp(max=LOG_MAGNITUDE_LIMIT).exp() / (2 * half)
    real, imaginary = dx.real, dx.imag.clone()
    imaginary[..., [0, -1]] = 0  # of DC and Nyquist they are ignored
    cosine, sine = magnitude * phase.cos(), magnitude * phase.sin()
    dlog = real * cosine + imaginary * sine
    return torch.where(log_magnitude <= LOG_MAGNITUDE_LIMIT, dlog, 0), imaginary * cosine - real * sine


def add_harmonics(
    dm: Tensor, dp: Tensor, spacing: Tensor, cutoff: Tensor, bin_width: float, width: float, deepest: float
) -> tuple[Tensor, Tensor]:
    """Give the gradients of phase and cutoff, ``[B, N, K]`` and float64 ``[B, N]``."""
    sizes = dm.shape[2], bin_width, width, deepest, torch.float32
    _, weight, valley = reference.harmonic_shape(spacing, cutoff, *sizes)
    dcutoff = (dm.float() * valley * weight * (1 - weight)).sum(2).double() / width
    return torch.where(weight > 0.5, 0, dp), dcutoff
