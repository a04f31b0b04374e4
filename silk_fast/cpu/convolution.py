"""Convolutions along time with packed weights, and residual units: ``convolution.c``."""

import ctypes
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast.cpu.checks import address, check_dtype, operand, parameters
from silk_fast.cpu.library import load, why_not
from silk_fast.reference.ops import SNAKE_EPSILON

ROWS = 4  # this and the next as in convolution.c
N_PRODUCTS = 7
SIDE = 16
PAIRS, MATRICES = 1, 2
SMALL = 2_000_000  # operations that one thread does sooner than two agree on who does what


@cache
def why_no_bfloat16() -> str:
    """Say why no convolution can be made with ``half``; empty if one can."""
    if reason := why_not():
        return reason
    return "" if load().silk_has_bfloat16() else "this processor does not multiply bfloat16 (AVX-512 BF16)"


@cache
def has_matrices() -> bool:
    """Say whether bfloat16 is multiplied by matrices (AMX); asks the system for room for them."""
    return not why_no_bfloat16() and bool(load().silk_has_amx())


class _Convolution(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "alpha", "scale")),
        *((name, ctypes.c_int64) for name in ("n_in", "n_out", "taps", "stride", "dilation")),
        *((name, ctypes.c_int64) for name in ("n_parts", "depthwise", "half", "elu")),
    ]


class PackedConvolution:
    """A convolution in the form that C reads, and the Snake or ELU before it, if any; copies of what it was made of.

    Args:
        weight: ``[C', C, K]``, or ``[C, 1, K]`` if ``depthwise``.
        bias: ``[C']``, or None.
        stride, dilation: one of them is 1.
        snake: alpha and beta ``[C]`` of a Snake that the input passes first; None for none.
        half: round weights and inputs to bfloat16; products are added up in float32. Not where
            :func:`why_no_bfloat16` says why, and not if ``depthwise``.
        depthwise: every channel is convolved by itself; for :func:`residual_unit`.
        fast: 7 taps with half the products, of sums (Toom and Cook's 4 outputs of 4 taps), whose rounding errors are
            up to four times PyTorch's; for :func:`residual_unit`, if C' is C.
        elu: the input passes an ELU of alpha 1 first.

    Raises:
        TypeError: an argument is not floating-point.
        ValueError: a shape or device does not match, stride and dilation are both above 1, ``half`` where this
            processor cannot, or with a stride that does not divide K, ``fast`` with ``half`` or other taps, or
            ``elu`` with a ``snake``.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int = 1,
        dilation: int = 1,
        snake: tuple[Tensor, Tensor] | None = None,
        half: bool = False,
        depthwise: bool = False,
        fast: bool = False,
        elu: bool = False,
    ) -> None:
        if weight.ndim != 3 or not weight.numel():
            raise ValueError(f"weight must be [C', C, K] and not empty, got {list(weight.shape)}")
        if min(stride, dilation) != 1:
            raise ValueError(f"stride or dilation must be 1, got {stride} and {dilation}")
        n_out, n_in, taps = weight.shape
        if depthwise and (n_in != 1 or stride != 1 or half or fast):
            raise ValueError("depthwise needs weight [C, 1, K], stride 1, float32 and not fast")
        if fast and (n_in != n_out or taps != 7 or stride != 1 or half):
            raise ValueError(f"fast needs weight [C, C, 7], stride 1 and float32, got {list(weight.shape)}")
        if half and taps % stride:
            raise ValueError(f"half needs a stride that divides the {taps} taps, got {stride}")
        weight = parameters("weight", weight, *weight.shape)
        if depthwise:
            packed, n_in = weight.clone(), n_out
        elif fast:
            packed, taps = torch.stack([_packed(part, 1) for part in _products(weight)]), 2
        else:
            packed = _packed_half(weight, stride) if half else _packed(weight, stride)
        self.taps = weight.shape[2]
        self.kind = "depthwise" if depthwise else "fast" if fast else "plain"
        self._keep(packed, bias, snake, (n_in, n_out, taps, stride, dilation), N_PRODUCTS if fast else 1, half, elu)

    def _keep(
        self,
        packed: Tensor,
        bias: Tensor | None,
        snake: tuple[Tensor, Tensor] | None,
        sizes: tuple[int, int, int, int, int],
        n_parts: int,
        half: bool,
        elu: bool,
    ) -> None:
        """Remember what C reads; ``sizes`` are channels in and out, taps of a part, stride and dilation."""
        if elu and snake is not None:
            raise ValueError("elu must be False where there is a snake")
        if half and (reason := why_no_bfloat16()):
            raise ValueError(f"half must be False: {reason}")
        self.n_in, self.n_out, _, self.stride, self.dilation = sizes
        self.half = half
        self._tensors = [packed, None, None, None]
        if bias is not None:
            self._tensors[1] = parameters("bias", bias, self.n_out).clone()
        if snake is not None:
            alpha, beta = (parameters(n, x, self.n_in) for n, x in zip(("alpha", "beta"), snake, strict=True))
            self._tensors[2:] = alpha.clone(), 1.0 / (beta + SNAKE_EPSILON)
        form = (MATRICES if has_matrices() else PAIRS) if half else 0
        self._struct = _Convolution(*map(address, self._tensors), *sizes, n_parts, self.kind == "depthwise", form, elu)
        self.address = ctypes.addressof(self._struct)

    @property
    def reach(self) -> int:
        """Samples before the first of an output's own ``stride`` that it reads."""
        return (self.taps - 1) * self.dilation + 1 - self.stride


class PackedTransposed(PackedConvolution):
    """A transposed convolution of ``2 * stride`` taps, for :func:`conv_transpose1d`, and what is before it.

    Args:
        weight: ``[C, C', 2 * s]``.
        bias, snake, half, elu: as there.

    Raises:
        TypeError, ValueError: as there, or the number of taps is odd.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        snake: tuple[Tensor, Tensor] | None = None,
        half: bool = False,
        elu: bool = False,
    ) -> None:
        if weight.ndim != 3 or not weight.numel() or weight.shape[2] % 2:
            raise ValueError(f"weight must be [C, C', 2 * stride] and not empty, got {list(weight.shape)}")
        n_in, n_out, self.taps = weight.shape
        weight = parameters("weight", weight, *weight.shape)
        parts = weight.permute(1, 0, 2).unflatten(2, (2, -1)).flip(2).unbind(3)  # [C', C, 2], the earlier input first
        packed = torch.stack([(_packed_half if half else _packed)(part, 1) for part in parts])
        self.kind = "transposed"
        self._keep(packed, bias, snake, (n_in, n_out, 2, 1, 1), len(parts), half, elu)

    @property
    def upsampling(self) -> int:
        """Outputs an input."""
        return self.taps // 2


def _products(weight: Tensor) -> list[Tensor]:
    """The weights ``[C', C, 2]`` of each of the products that make 4 outputs of 7 taps: convolution_parts.h."""
    weight = weight.double()
    points = weight.new_tensor([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    differences = points[:, None] - points
    scale = differences.masked_fill(differences == 0, 1.0).prod(1, keepdim=True)
    powers = weight.new_tensor([0.0, 1.0, 2.0, 3.0])
    rows = torch.cat([points[:, None] ** powers / scale, weight.new_tensor([[0.0, 0.0, 0.0, 1.0]])])
    fours = F.pad(weight, (0, 1)).unflatten(2, (2, 4))
    return [(fours @ row).to(torch.float32) for row in rows]


def _packed(weight: Tensor, stride: int) -> Tensor:
    """``[C' / ROWS, C, stride, K / stride, ROWS]``: taps by their position modulo the stride."""
    weight = F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[0] % ROWS))
    weight = torch.cat([weight[..., j::stride] for j in range(min(stride, weight.shape[2]))], -1)
    return weight.unflatten(0, (-1, ROWS)).permute(0, 2, 3, 1).contiguous()


def _packed_half(weight: Tensor, stride: int) -> Tensor:
    return _packed_matrices(weight, stride) if has_matrices() else _packed_pairs(weight, stride)


def _packed_matrices(weight: Tensor, stride: int) -> Tensor:
    """bfloat16 ``[C' / SIDE, C * stride / (2 * SIDE), K / stride, SIDE, 2 * SIDE]``, both quotients rounded up."""
    weight = weight.unflatten(2, (-1, stride)).transpose(2, 3).flatten(1, 2)  # [C', C * stride, K / stride]
    weight = F.pad(weight, (0, 0, 0, -weight.shape[1] % (2 * SIDE), 0, -weight.shape[0] % SIDE))
    weight = weight.unflatten(1, (-1, 2 * SIDE)).unflatten(0, (-1, SIDE)).permute(0, 2, 4, 1, 3)
    return weight.to(torch.bfloat16, memory_format=torch.contiguous_format).contiguous()


def _packed_pairs(weight: Tensor, stride: int) -> Tensor:
    """bfloat16 ``[C' / ROWS, ceil(C * stride / 2), K / stride, ROWS, 2]``: pairs of the rows of :func:`_packed`."""
    weight = F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[0] % ROWS)).unflatten(2, (-1, stride)).transpose(2, 3)
    weight = F.pad(weight.flatten(1, 2), (0, 0, 0, weight.shape[1] * stride % 2))  # [C', C * stride, K / stride]
    weight = weight.unflatten(1, (-1, 2)).unflatten(0, (-1, ROWS)).permute(0, 2, 4, 1, 3)
    return weight.to(torch.bfloat16, memory_format=torch.contiguous_format).contiguous()


def conv1d(
    x: Tensor,
    convolution: PackedConvolution,
    context: Tensor | None = None,
    residual: Tensor | None = None,
    padding: tuple[int, int] | None = None,
) -> Tensor:
    """Convolve along time; an output is the same bits wherever its input lies in ``x``.

    Args:
        x: float32 ``[B, C, T]``.
        convolution: made of the weight.
        context: float32 ``[B, C, left]``, what comes before ``x``; None for zeros.
        residual: float32 ``[B, C', T']``, added to the result, or None.
        padding: samples before and after ``x``, the latter zeros; None for causal: the convolution's reach, and none.

    Returns:
        float32 ``[B, C', T']`` with ``T' = (left + T + right - (K - 1) * dilation - 1) // stride + 1``.
    """
    c = convolution
    n_batch, _, n_time = _check(x, c, "plain")
    left, right = padding or (c.reach, 0)
    n_columns = max(0, (left + n_time + right - (c.taps - 1) * c.dilation - 1) // c.stride + 1)
    y = x.new_empty((n_batch, c.n_out, n_columns))
    if context is not None:
        context = operand("context", context, (n_batch, c.n_in, left), x)
    if residual is not None:
        residual = operand("residual", residual, y.shape, x)
    x = x.contiguous()
    if y.numel():
        threads = _threads(y.numel() * c.n_in * c.taps)
        addresses = (c.address, x.data_ptr(), address(context), address(residual), y.data_ptr())
        _done(load().silk_conv1d(*addresses, n_batch, n_time, left, n_columns, threads))
    return y


def conv_transpose1d(x: Tensor, convolution: PackedTransposed, crop: tuple[int, int] = (0, 0)) -> Tensor:
    """Convolve along time, transposed; an output is the same bits wherever its input lies in ``x``.

    Args:
        x: float32 ``[B, C, T]``.
        convolution: made of the weight.
        crop: outputs that are left out at the start and at the end: PyTorch's ``padding``, and ``output_padding`` less
            than that.

    Returns:
        float32 ``[B, C', (T + 1) * s - sum(crop)]``.
    """
    c = convolution
    n_batch, _, n_time = _check(x, c, "transposed")
    if min(crop) < 0:
        raise ValueError(f"crop must be two numbers of outputs, got {crop}")
    n_outputs = max(0, (n_time + 1) * c.upsampling - sum(crop))
    x = x.contiguous()
    y = x.new_empty((n_batch, c.n_out, n_outputs))
    if y.numel():
        threads = _threads(2 * y.numel() * c.n_in)
        addresses = (c.address, x.data_ptr(), y.data_ptr())
        _done(load().silk_conv_transpose1d(*addresses, n_batch, n_time, n_outputs, crop[0], threads))
    return y


def residual_unit(
    x: Tensor,
    dilated: PackedConvolution,
    pointwise: PackedConvolution,
    context: Tensor | None = None,
    padding: str = "causal",
) -> Tensor:
    """Compute ``x + pointwise(act(dilated(act(x))))``; the intermediate results never leave the cache.

    A pointwise convolution of more channels has for the last of them ``x`` itself, which then is not added: the sum of
    what a unit computes and of a convolution beside it is one convolution.

    Args:
        x: float32 ``[B, C, T]``.
        dilated: of C to C' channels, with its Snake or ELU. It may be ``depthwise`` if C' is C, or ``fast`` if
            ``pointwise`` reads no more channels than C'.
        pointwise: of one tap, with its Snake or ELU, of C' to C channels; or of C' + C channels to any number.
        context: float32 ``[B, C, (K - 1) * dilation]``, what comes before ``x``; None for zeros.
        padding: ``"causal"``, or ``"symmetric"``: half of the context before ``x``, as many zeros after.

    Returns:
        float32 ``[B, C, T]``, or of the channels that the pointwise convolution gives.

    Raises:
        TypeError, ValueError: a convolution, a signal or ``padding`` is none of these.
    """
    n_batch, n_channels, n_time = _check(x, dilated, "plain", "depthwise", "fast")
    if dilated.half != pointwise.half and dilated.kind != "depthwise":
        raise ValueError("both convolutions must be half or neither, unless the dilated one is depthwise")
    if padding not in ("causal", "symmetric"):
        raise ValueError(f"padding must be 'causal' or 'symmetric', got {padding!r}")
    if dilated.stride != 1:
        raise ValueError(f"dilated must have stride 1, got {dilated.stride}")
    n_beside = pointwise.n_in - dilated.n_out
    if n_beside not in (0, n_channels) or (not n_beside and pointwise.n_out != n_channels):
        expected = f"from {dilated.n_out} to {n_channels} channels, or from {dilated.n_out + n_channels}"
        raise ValueError(f"pointwise must be {expected}, got from {pointwise.n_in} to {pointwise.n_out}")
    if pointwise.kind != "plain" or pointwise.taps != 1:
        raise ValueError(f"pointwise must be plain and of one tap, got {pointwise.kind} and {pointwise.taps}")
    if n_beside and dilated.kind == "fast":
        raise ValueError("dilated must not be fast where pointwise reads the channels of x too")
    left = dilated.reach if padding == "causal" else dilated.reach // 2
    if context is not None:
        context = operand("context", context, (n_batch, n_channels, left), x)
    x = x.contiguous()
    y = x.new_empty((n_batch, pointwise.n_out, n_time))
    if y.numel():
        threads = _threads(
            n_batch * n_time * (dilated.n_out * n_channels * dilated.taps + pointwise.n_out * pointwise.n_in)
        )
        addresses = (dilated.address, pointwise.address, x.data_ptr(), address(context), y.data_ptr())
        _done(load().silk_residual_unit(*addresses, n_batch, n_time, left, threads))
    return y


def _check(x: Tensor, convolution: PackedConvolution, *kinds: str) -> torch.Size:
    if convolution.kind not in kinds:
        raise ValueError(f"convolution must be {' or '.join(kinds)}, got one that is {convolution.kind}")
    check_dtype("x", x, (torch.float32,))
    if x.ndim != 3 or x.shape[1] != convolution.n_in:
        raise ValueError(f"x must be [B, {convolution.n_in}, T], got {list(x.shape)}")
    return x.shape


def _threads(n_operations: int) -> int:
    return torch.get_num_threads() if n_operations >= SMALL else 1


def _done(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for the tiles of a convolution")
