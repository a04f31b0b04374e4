"""Bytes and arithmetic by formula: of every operation that has a kernel, and of a whole encode and decode.

Bytes are the least traffic with memory: each input read once, each output written once. Where a cost is of matrix
products (``matmul``), flops are those of the products and convolutions alone, 2 per multiply-add, as
``torch.utils.flop_counter`` counts them; else one for each addition, multiplication, division, comparison or
elementary function of an element, as ``silk_fast/reference/ops.py`` writes them, and 2.5 n log2 n for a real Fourier
transform of n points. Both are lower bounds, so the time that they allow is one: a floor, whatever the program.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from silk_fast.config import SilkConfig
from silk_fast.errors import SilkInputError

FLOAT32 = torch.float32
TAPS = 7  # of the dilated convolution of a residual unit


@dataclass(frozen=True)
class Cost:
    """What a computation costs on any machine.

    Args:
        bytes: traffic with memory.
        flops: arithmetic operations; see the head of this file.
        matmul: whether the arithmetic is that of matrix products, which have units of their own.
    """

    bytes: int
    flops: int
    matmul: bool


@dataclass(frozen=True)
class Layer:
    """One step of an encode or a decode."""

    name: str
    cost: Cost


@dataclass(frozen=True)
class Ceilings:
    """What a machine reaches: bytes per second, and operations per second in matrix products and elsewhere."""

    bandwidth: float
    matmul_rate: float
    flop_rate: float


def floor_seconds(cost: Cost, bandwidth: float, matmul_rate: float, flop_rate: float) -> float:
    """Seconds that ``cost`` takes at least: the longer of its traffic and its arithmetic (Williams et al., 2009).

    Args:
        bandwidth: bytes per second.
        matmul_rate: operations per second in matrix products of the dtype of the cost.
        flop_rate: operations per second elsewhere.
    """
    return max(cost.bytes / bandwidth, cost.flops / (matmul_rate if cost.matmul else flop_rate))


def bound_by(cost: Cost, bandwidth: float, matmul_rate: float, flop_rate: float) -> str:
    """``"bandwidth"`` or ``"compute"``, whichever sets :func:`floor_seconds`."""
    traffic = cost.bytes / bandwidth
    return "bandwidth" if traffic == floor_seconds(cost, bandwidth, matmul_rate, flop_rate) else "compute"


# ---------------------------------------------------------------- one operation


def op_cost(op: str, direction: str, dtype: torch.dtype, **sizes) -> Cost:
    """Least traffic and arithmetic of one call.

    A backward pass reads the incoming gradient and the inputs it needs, and writes every gradient; it is not given
    what the forward pass may have kept, but its arithmetic includes recomputing only where keeping would cost more.

    In a stream an op also reads what earlier calls left: ``context`` samples or frames of its input, ``cached`` keys
    and values of each signal, or the overlap of the inverse STFT.

    Args:
        op: ``"snake"`` (B, C, T, bias, residual); ``"fsq_pack"``, ``"fsq_unpack"``, ``"fsq_quantize"`` (N, D,
            group_size); ``"rel_attention"`` (B, H, T, D, window, cached); ``"rel_key_attention"`` (B, H, T, D, left,
            right); ``"bias_silu"``, ``"add_layer_norm"`` (N, C); ``"glu_conv_norm_silu"`` (B, T, C, K, context);
            ``"polar_istft"``, ``"polar_istft_stream"`` (B, N, n_fft, hop); ``"residual_unit"`` (B, C, T, context).
        direction: ``"forward"`` or ``"backward"``.
        dtype: of the main input. Codes, tokens, windows and decoded audio have 4 bytes whatever it is.
        sizes: those in brackets, by name.

    Raises:
        SilkInputError: an unknown op or direction, sizes that are not those of the op, or a backward pass of an op
            that has no gradient.
    """
    if op not in FORMULAS:
        raise SilkInputError(f"unknown op {op!r}; expected one of {', '.join(FORMULAS)}")
    if direction not in ("forward", "backward"):
        raise SilkInputError(f"direction must be forward or backward, got {direction!r}")
    if direction == "backward" and op in NO_GRADIENT:
        raise SilkInputError(f"{op} has no backward pass: tokens have no gradient")
    try:
        return FORMULAS[op](direction == "backward", dtype.itemsize, **sizes)
    except TypeError as error:
        raise SilkInputError(f"sizes of {op}: {error}") from error


def _snake(backward: bool, size: int, *, B: int, C: int, T: int, bias: bool = False, residual: bool = False) -> Cost:
    n, parameters = B * C * T, C * (2 + bias)
    if backward:  # the gradient of the residual is the incoming one, nothing to write
        return Cost(size * (3 * n + 2 * parameters), (13 + 2 * bias) * n, False)
    return Cost(size * ((2 + residual) * n + parameters), (5 + bias + residual) * n, False)


def _fsq_quantize(backward: bool, size: int, *, N: int, D: int, group_size: int = 1) -> Cost:
    return Cost((4 + (1 + backward) * size) * N * D, 6 * N * D, False)


def _fsq_pack(backward: bool, size: int, *, N: int, D: int, group_size: int) -> Cost:
    return Cost(size * N * D + 4 * N * math.ceil(D / group_size), 8 * N * D, False)


def _fsq_unpack(backward: bool, size: int, *, N: int, D: int, group_size: int) -> Cost:
    return Cost(4 * N * math.ceil(D / group_size) + 4 * N * D, 4 * N * D, False)


def visible_pairs(n_queries: int, left: int | None, right: int | None, n_cached: int = 0) -> int:
    """Pairs of a query and a key at most ``left`` before and ``right`` after it; None for all.

    Args:
        n_cached: keys before the first query.
    """
    n_keys = n_cached + n_queries
    left, right = (n_keys if extent is None else extent for extent in (left, right))
    return sum(1 + min(i_query, left) + min(n_keys - 1 - i_query, right) for i_query in range(n_cached, n_keys))


def _attention(
    backward: bool, size: int, n_heads: int, T: int, D: int, pairs: int, rows: int, parameters: int, cached: int = 0
) -> Cost:
    """``n_heads`` over all samples; ``rows``: pairs of a query and a distinct row of positions it meets."""
    flops = n_heads * 2 * D * ((5 if backward else 2) * pairs + (3 if backward else 1) * rows)
    # Queries and outputs, keys and values; backward a gradient of each, and no output.
    vectors = (3 if backward else 2) * T + (4 if backward else 2) * (T + cached)
    return Cost(size * (n_heads * D * vectors + (1 + backward) * parameters), flops, True)


def _rel_attention(
    backward: bool,
    size: int,
    *,
    B: int,
    H: int,
    T: int,
    D: int,
    window: tuple[int | None, int | None] = (None, None),
    cached: int = 0,
) -> Cost:
    pairs = visible_pairs(T, *window, cached)
    left, right = (T + cached - 1 if extent is None else extent for extent in window)
    cost = _attention(backward, size, B * H, T, D, pairs, pairs, H * D * (left + right + 1 + 2), cached)
    return replace(cost, bytes=cost.bytes + (8 * B if cached else 0))  # a cache comes with its first valid keys, int64


def _rel_key_attention(backward: bool, size: int, *, B: int, H: int, T: int, D: int, left: int, right: int) -> Cost:
    return _attention(backward, size, B * H, T, D, T * T, visible_pairs(T, left, right), D * (left + right + 1))


def _bias_silu(backward: bool, size: int, *, N: int, C: int) -> Cost:
    if backward:
        return Cost(size * (3 * N * C + 2 * C), 8 * N * C, False)
    return Cost(size * (2 * N * C + C), 3 * N * C, False)


def _add_layer_norm(backward: bool, size: int, *, N: int, C: int) -> Cost:
    if backward:  # from the sum, which both outputs share: it stands for x and residual
        return Cost(size * (5 * N * C + 3 * C), 18 * N * C, False)
    return Cost(size * (4 * N * C + 2 * C), 9 * N * C, False)


def _glu_conv_norm_silu(backward: bool, size: int, *, B: int, T: int, C: int, K: int, context: int = 0) -> Cost:
    n, n_before, parameters = B * T * C, B * context * C, C * (K + 3)
    if backward:
        return Cost(size * (5 * n + 4 * n_before + 2 * parameters), (6 * K + 33) * n + 8 * n_before, False)
    return Cost(size * (3 * n + 2 * n_before + parameters), (2 * K + 11) * n + 2 * n_before, False)


def _polar_istft(backward: bool, size: int, *, B: int, N: int, n_fft: int, hop: int) -> Cost:
    bins = n_fft // 2 + 1
    frame = (12 if backward else 6) * bins + 2.5 * n_fft * math.log2(n_fft) + (1 if backward else 2) * n_fft + hop
    spectra = (4 if backward else 2) * B * N * bins
    return Cost(size * spectra + 4 * (B * N * hop + n_fft), round(B * N * frame), False)


def _polar_istft_stream(backward: bool, size: int, *, B: int, N: int, n_fft: int, hop: int) -> Cost:
    """As the whole one; the overlap of earlier frames is read and added, a new one divided and written."""
    whole, n_overlap = _polar_istft(backward, size, B=B, N=N, n_fft=n_fft, hop=hop), B * (n_fft - hop)
    return Cost(whole.bytes + 2 * 4 * n_overlap, whole.flops + (1 if backward else 2) * n_overlap, False)


def _residual_unit(backward: bool, size: int, *, B: int, C: int, T: int, context: int = 0) -> Cost:
    n, n_before, flops = B * C * T, B * C * context, 2 * (TAPS + 1) * C * C * B * T
    parameters = (TAPS + 1) * C * C + 6 * C
    if backward:
        return Cost(size * (3 * n + 2 * n_before + 2 * parameters), 2 * flops, True)
    return Cost(size * (2 * n + n_before + parameters), flops, True)


FORMULAS: dict[str, Callable[..., Cost]] = {
    "snake": _snake,
    "fsq_pack": _fsq_pack,
    "fsq_unpack": _fsq_unpack,
    "fsq_quantize": _fsq_quantize,
    "rel_attention": _rel_attention,
    "rel_key_attention": _rel_key_attention,
    "bias_silu": _bias_silu,
    "add_layer_norm": _add_layer_norm,
    "glu_conv_norm_silu": _glu_conv_norm_silu,
    "polar_istft": _polar_istft,
    "polar_istft_stream": _polar_istft_stream,
    "residual_unit": _residual_unit,
}
"""What :func:`op_cost` knows."""

NO_GRADIENT = ("fsq_pack", "fsq_unpack")
"""Of those, what has no backward pass: tokens are integers."""


# ---------------------------------------------------------------- a whole encode or decode


def codec_cost(
    config: SilkConfig, n_frames: int, batch: int, dtype: torch.dtype, direction: str = "encode", fused: bool = True
) -> Cost:
    """Traffic and matrix products of a whole encode or decode: the sums over :func:`codec_layers`."""
    costs = [layer.cost for layer in codec_layers(config, n_frames, batch, dtype, direction, fused)]
    return Cost(sum(cost.bytes for cost in costs), sum(cost.flops for cost in costs if cost.matmul), True)


def codec_floor_seconds(layers: list[Layer], bandwidth: float, matmul_rate: float, flop_rate: float) -> float:
    """Seconds that layers take at least one after another, each bound by its own traffic or arithmetic."""
    return sum(floor_seconds(layer.cost, bandwidth, matmul_rate, flop_rate) for layer in layers)


def codec_layers(
    config: SilkConfig, n_frames: int, batch: int, dtype: torch.dtype, direction: str = "encode", fused: bool = True
) -> list[Layer]:
    """Cost of every step of an encode or a decode of whole signals at once.

    Args:
        n_frames: latent frames (400 ms) of each signal.
        batch: signals.
        dtype: of the convolutional signals; Conformer, FSQ and inverse STFT are float32, as ``accelerate_`` has them.
        direction: ``"encode"`` or ``"decode"``.
        fused: True for the floor of the kernels: a residual unit, an attention, an inverse STFT is one read of its
            inputs and one write of its output, and what depends on weights alone is computed already. False for the
            traffic of the reference run eagerly, where every operation reads and writes memory, and attention
            multiplies all pairs of frames; operations on parameters or frame numbers alone are left out.

    Raises:
        SilkInputError: an unknown direction.
    """
    walks = {"encode": _encode_layers, "decode": _decode_layers}
    if direction not in walks:
        raise SilkInputError(f"direction must be encode or decode, got {direction!r}")
    return walks[direction](_Walk(batch, dtype.itemsize, fused), config, n_frames)


class _Walk:
    """Costs of the steps of a codec, fused or eager. Eager bytes add up reads and writes, operation by operation."""

    def __init__(self, batch: int, size: int, fused: bool) -> None:
        self.batch = batch
        self.size = size
        self.fused = fused

    def convolution(self, name: str, c_in: int, c_out: int, kernel: int, n_out: int, stride: int = 1) -> Layer:
        n_in, reach = n_out * stride, kernel - stride
        signals = c_out * n_out + c_in * (n_in if self.fused else n_in + 2 * (n_in + reach))  # eager pads first
        parameters = c_out * (c_in * kernel + 1)
        flops = 2 * self.batch * n_out * c_in * c_out * kernel
        return Layer(name, Cost(self.size * (self.batch * signals + parameters), flops, True))

    def snake(self, name: str, channels: int, n_time: int) -> Layer:
        cost = _snake(False, self.size, B=self.batch, C=channels, T=n_time)
        if self.fused:
            return Layer(name, cost)
        return Layer(name, Cost(self.size * (11 * self.batch * channels * n_time + 8 * channels), cost.flops, False))

    def unit(self, name: str, channels: int, n_time: int, dilation: int) -> Layer:
        cost = _residual_unit(False, self.size, B=self.batch, C=channels, T=n_time)
        if self.fused:
            return Layer(name, cost)
        n, n_extended = n_time, n_time + (TAPS - 1) * dilation
        pad, snakes, convolutions, add = n + n_extended, 11 * (n_extended + n), n_extended + 3 * n, 3 * n
        signals = self.batch * channels * (pad + snakes + convolutions + add)
        parameters = (TAPS + 1) * channels * channels + 18 * channels
        return Layer(name, Cost(self.size * (signals + parameters), cost.flops, True))

    def linear(self, name: str, n_rows: int, n_in: int, n_out: int, bias: bool = True, size: int = 4) -> Layer:
        traffic = n_rows * (n_in + n_out) + n_out * (n_in + bias)
        return Layer(name, Cost(size * traffic, 2 * n_rows * n_in * n_out, True))

    def plain(self, name: str, n_bytes: int, flops: int = 0) -> Layer:
        return Layer(name, Cost(n_bytes, flops, False))

    def kernel(self, name: str, op: str, eager_bytes: int, **sizes) -> Layer:
        """A float32 operation that has a kernel; without it, ``eager_bytes`` are moved."""
        cost = op_cost(op, "forward", FLOAT32, **sizes)
        return Layer(name, cost if self.fused else Cost(eager_bytes, cost.flops, cost.matmul))


def _encode_layers(walk: _Walk, config: SilkConfig, n_frames: int) -> list[Layer]:
    channels = config.encoder_channels
    n_time = n_frames * config.frame_samples
    layers = [walk.convolution("encoder.input", 1, channels[0], TAPS, n_time)]
    for i, stride in enumerate((*config.encoder_strides, config.subframes)):
        stage = f"encoder.stages.{i}"
        layers += [
            walk.unit(f"{stage}.units.{k}", channels[i], n_time, dilation)
            for k, dilation in enumerate(config.dilations)
        ]
        layers.append(walk.snake(f"{stage}.snake", channels[i], n_time))
        n_time //= stride
        layers.append(walk.convolution(f"{stage}.down", channels[i], channels[i + 1], 2 * stride, n_time, stride))
    layers.append(walk.snake("encoder.snake", channels[-1], n_time))
    layers.append(walk.convolution("encoder.output", channels[-1], config.latent_dim, 3, n_time))
    for i in range(config.conformer_layers):
        layers += _conformer_layers(walk, config, n_frames, f"conformer.blocks.{i}")
    return layers + _quantizer_layers(walk, config, n_frames)


def _conformer_layers(walk: _Walk, config: SilkConfig, n_frames: int, name: str) -> list[Layer]:
    dim, n_rows = config.latent_dim, walk.batch * n_frames

    def feed_forward(part: str) -> list[Layer]:
        wide = config.conformer_expansion * dim
        return [
            walk.linear(f"{part}.up", n_rows, dim, wide, bias=False),
            walk.kernel(f"{part}.silu", "bias_silu", 4 * (4 * n_rows * wide + wide), N=n_rows, C=wide),
            walk.linear(f"{part}.down", n_rows, wide, dim),
        ]

    def add_norm(part: str) -> Layer:
        eager = 4 * (7 * n_rows * dim + 2 * n_rows + 2 * dim)
        return walk.kernel(part, "add_layer_norm", eager, N=n_rows, C=dim)

    return [
        walk.plain(f"{name}.norm1", 4 * (2 * n_rows * dim + 2 * dim), 7 * n_rows * dim),
        *feed_forward(f"{name}.feed_forward1"),
        add_norm(f"{name}.norm2"),
        *_attention_layers(walk, config, n_frames, f"{name}.attention"),
        add_norm(f"{name}.norm3"),
        *_conv_module_layers(walk, config, n_frames, f"{name}.conv"),
        add_norm(f"{name}.norm4"),
        *feed_forward(f"{name}.feed_forward2"),
        add_norm(f"{name}.norm5"),
    ]


def _attention_layers(walk: _Walk, config: SilkConfig, n_frames: int, name: str) -> list[Layer]:
    dim, heads, batch = config.latent_dim, config.conformer_heads, walk.batch
    window = (config.attention_left, config.attention_right)
    n_rows = batch * n_frames
    n_positions = 1 + sum(n_frames - 1 if extent is None else extent for extent in window)
    layers = [walk.linear(f"{name}.{part}", n_rows, dim, dim) for part in ("query", "key", "value")]
    if walk.fused:
        cost = _rel_attention(False, 4, B=batch, H=heads, T=n_frames, D=dim // heads, window=window)
        return [*layers, Layer(name, cost), walk.linear(f"{name}.output", n_rows, dim, dim)]
    pairs, scores = batch * heads * n_frames**2, batch * heads * n_frames * n_positions
    # Two biased queries, three products of copies that bmm asks for, and between them gather (with its int64 rows),
    # sum, scale, mask, softmax, and the guard against queries without keys.
    elements = 19 * n_rows * dim + 3 * batch * n_positions * dim + 2 * scores + 14 * pairs
    flops = 2 * (dim // heads) * (2 * pairs + scores)
    return [
        *layers,
        walk.linear(f"{name}.position", n_positions, dim, dim, bias=False),
        Layer(name, Cost(4 * elements + 8 * pairs, flops, True)),
        walk.linear(f"{name}.output", n_rows, dim, dim),
    ]


def _conv_module_layers(walk: _Walk, config: SilkConfig, n_frames: int, name: str) -> list[Layer]:
    dim, kernel, batch = config.latent_dim, config.conformer_kernel, walk.batch
    n_rows, n_extended = batch * n_frames, batch * (n_frames + kernel - 1)
    layers = [walk.linear(f"{name}.up", n_rows, dim, 2 * dim), walk.linear(f"{name}.down", n_rows, dim, dim)]
    if walk.fused:
        cost = _glu_conv_norm_silu(False, 4, B=batch, T=n_frames, C=dim, K=kernel)
        return [layers[0], Layer(name, cost), layers[1]]
    pad, gate, convolution, norm, silu = 2 * (n_rows + n_extended), 3 * n_extended, n_extended + n_rows, 2, 2
    elements = dim * (pad + gate + convolution + (norm + silu) * n_rows + kernel + 3)
    return [layers[0], Layer(name, Cost(4 * elements, 2 * n_rows * dim * kernel, True)), layers[1]]


def _quantizer_layers(walk: _Walk, config: SilkConfig, n_frames: int) -> list[Layer]:
    dim, n_rows = config.latent_dim, walk.batch * n_frames
    sizes = {"N": n_rows, "D": dim, "group_size": config.group_size}
    n_padded = n_rows * config.tokens_per_frame * config.group_size
    # bound and round: 5 float32 passes; digits: 2 of 8 bytes, 1 of 12 and 1 of 16; int64 padding, sum and cast
    eager = n_rows * dim * (5 * 8 + 2 * 8 + 12 + 16 + 8) + 16 * n_padded + 20 * n_rows * config.tokens_per_frame
    return [
        walk.plain("quantizer.norm", 4 * ((2 if walk.fused else 4) * n_rows * dim + 2 * dim), 2 * n_rows * dim),
        walk.plain("quantizer.check", (4 if walk.fused else 25) * n_rows * dim, n_rows * dim),
        walk.kernel("quantizer", "fsq_pack", eager, **sizes),
    ]


def _decode_layers(walk: _Walk, config: SilkConfig, n_frames: int) -> list[Layer]:
    dim, width, channels = config.latent_dim, config.decoder_width, config.decoder_channels
    n_rows, n_time = walk.batch * n_frames, n_frames * config.subframes
    n_out = config.subframes * channels
    sizes = {"N": n_rows, "D": dim, "group_size": config.group_size}
    n_tokens = n_rows * config.tokens_per_frame
    unpack = 60 * n_rows * dim + 16 * n_tokens * config.group_size + 26 * n_tokens  # int64 digits; checks of tokens
    join = 3 * n_rows * n_out if walk.fused else 5 * n_rows * n_out + 2 * n_rows * width  # bias apart, a transposition
    layers = [
        walk.kernel("quantizer", "fsq_unpack", unpack, **sizes),
        walk.convolution("decoder.input.conv", dim, width, TAPS, n_frames),
        walk.snake("decoder.input.snake", width, n_frames),
        walk.linear("decoder.input.expand", n_rows, width, n_out, size=walk.size),
        walk.linear("decoder.input.skip", n_rows, dim, n_out, bias=False, size=walk.size),
        walk.plain("decoder.input.add", walk.size * join, n_rows * n_out),
    ]
    layers += [
        walk.unit(f"decoder.units.{k}", channels, n_time, dilation)
        for k, dilation in enumerate(config.decoder_dilations)
    ]
    layers.append(walk.snake("decoder.snake", channels, n_time))
    layers.append(walk.convolution("decoder.head", channels, config.n_fft + 2, 3, n_time))
    return [*layers, _istft_layer(walk, config, n_time)]


def _istft_layer(walk: _Walk, config: SilkConfig, n_time: int) -> Layer:
    n_fft, hop, n_rows = config.n_fft, config.hop_samples, walk.batch * n_time
    bins = n_fft // 2 + 1
    # clamp, exp, two sines, two products, padding, complex: 20 accesses to a bin; the transform reads complex
    # numbers; window, overlap-add; then the division of the samples kept
    eager = 4 * (n_rows * (22 * bins + 4 * n_fft + 3 * hop) + 2 * n_fft)
    sizes = {"B": walk.batch, "N": n_time, "n_fft": n_fft, "hop": hop}
    return walk.kernel("decoder.istft", "polar_istft", eager, **sizes)
