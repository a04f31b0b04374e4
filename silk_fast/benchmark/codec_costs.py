"""Bytes and arithmetic of a whole encode or decode, step by step: the floor of the kernels.

A residual unit, an attention, an inverse STFT is one read of its inputs and one write of its output, and what depends
on weights alone is computed already; see :mod:`silk_fast.benchmark.costs`.
"""

import torch

from silk_fast.benchmark.costs import TAPS, Cost, op_cost
from silk_fast.config import SilkConfig
from silk_fast.reference.harmonics import N_FRAMES as VOICE_FRAMES
from silk_fast.reference.harmonics import WIDTH as VOICE_WIDTH


def codec_cost(config: SilkConfig, n_frames: int, batch: int, dtype: torch.dtype, direction: str = "encode") -> Cost:
    """Traffic and matrix products of a whole encode or decode: the sums over :func:`codec_layers`."""
    costs = codec_layers(config, n_frames, batch, dtype, direction).values()
    return Cost(sum(cost.bytes for cost in costs), sum(cost.flops for cost in costs if cost.matmul), True)


def codec_layers(
    config: SilkConfig, n_frames: int, batch: int, dtype: torch.dtype, direction: str = "encode"
) -> dict[str, Cost]:
    """Cost of every step, by name, of an encode or a decode of whole signals at once.

    Args:
        n_frames: latent frames (400 ms) of each signal.
        batch: signals.
        dtype: of the convolutional signals; Conformer, FSQ and inverse STFT are float32, as ``accelerate_`` has them.
        direction: ``"encode"`` or ``"decode"``.
    """
    walk = _Walk(batch, dtype)
    {"encode": _encode, "decode": _decode}[direction](walk, config, n_frames)
    return walk.layers


class _Walk:
    """Collects the costs of steps by name."""

    def __init__(self, batch: int, dtype: torch.dtype) -> None:
        self.batch = batch
        self.dtype = dtype
        self.layers: dict[str, Cost] = {}

    def op(self, name: str, op: str, dtype: torch.dtype = torch.float32, **sizes) -> None:
        self.layers[name] = op_cost(op, "forward", dtype, **sizes)

    def snake(self, name: str, channels: int, n_time: int) -> None:
        self.op(name, "snake", self.dtype, B=self.batch, C=channels, T=n_time)

    def units(self, name: str, channels: int, n_time: int, dilations: tuple[int, ...]) -> None:
        for k in range(len(dilations)):
            self.op(f"{name}.{k}", "residual_unit", self.dtype, B=self.batch, C=channels, T=n_time)

    def convolution(self, name: str, c_in: int, c_out: int, kernel: int, n_out: int, stride: int = 1) -> None:
        traffic = self.batch * (c_out * n_out + c_in * n_out * stride) + c_out * (c_in * kernel + 1)
        flops = 2 * self.batch * n_out * c_in * c_out * kernel
        self.layers[name] = Cost(self.dtype.itemsize * traffic, flops, True)

    def linear(self, name: str, n_rows: int, n_in: int, n_out: int, bias: bool = True, size: int = 4) -> None:
        traffic = n_rows * (n_in + n_out) + n_out * (n_in + bias)
        self.layers[name] = Cost(size * traffic, 2 * n_rows * n_in * n_out, True)

    def plain(self, name: str, n_bytes: int, flops: int) -> None:
        self.layers[name] = Cost(n_bytes, flops, False)


def _encode(walk: _Walk, config: SilkConfig, n_frames: int) -> None:
    channels, dim = config.encoder_channels, config.latent_dim
    n_rows, n_time = walk.batch * n_frames, n_frames * config.frame_samples
    walk.convolution("encoder.input", 1, channels[0], TAPS, n_time)
    for i, stride in enumerate((*config.encoder_strides, config.subframes)):
        stage = f"encoder.stages.{i}"
        walk.units(f"{stage}.units", channels[i], n_time, config.dilations)
        walk.snake(f"{stage}.snake", channels[i], n_time)
        n_time //= stride
        walk.convolution(f"{stage}.down", channels[i], channels[i + 1], 2 * stride, n_time, stride)
    walk.snake("encoder.snake", channels[-1], n_time)
    walk.convolution("encoder.output", channels[-1], dim, 3, n_time)
    for i in range(config.conformer_layers):
        _conformer_block(walk, config, n_frames, f"conformer.blocks.{i}")
    walk.plain("quantizer.norm", 4 * (2 * n_rows * dim + 2 * dim), 2 * n_rows * dim)
    walk.plain("quantizer.check", 4 * n_rows * dim, n_rows * dim)
    walk.op("quantizer", "fsq_pack", N=n_rows, D=dim, group_size=config.group_size)


def _conformer_block(walk: _Walk, config: SilkConfig, n_frames: int, name: str) -> None:
    dim, heads, n_rows = config.latent_dim, config.conformer_heads, walk.batch * n_frames
    wide, window = config.conformer_expansion * dim, (config.attention_left, config.attention_right)

    def feed_forward(part: str) -> None:
        walk.linear(f"{part}.up", n_rows, dim, wide, bias=False)
        walk.op(f"{part}.silu", "bias_silu", N=n_rows, C=wide)
        walk.linear(f"{part}.down", n_rows, wide, dim)

    def add_norm(i: int) -> None:
        walk.op(f"{name}.norm{i}", "add_layer_norm", N=n_rows, C=dim)

    walk.plain(f"{name}.norm1", 4 * (2 * n_rows * dim + 2 * dim), 7 * n_rows * dim)
    feed_forward(f"{name}.feed_forward1")
    add_norm(2)
    for part in ("query", "key", "value", "output"):
        walk.linear(f"{name}.attention.{part}", n_rows, dim, dim)
    walk.op(f"{name}.attention", "rel_attention", B=walk.batch, H=heads, T=n_frames, D=dim // heads, window=window)
    add_norm(3)
    walk.linear(f"{name}.conv.up", n_rows, dim, 2 * dim)
    walk.op(f"{name}.conv", "glu_conv_norm_silu", B=walk.batch, T=n_frames, C=dim, K=config.conformer_kernel)
    walk.linear(f"{name}.conv.down", n_rows, dim, dim)
    add_norm(4)
    feed_forward(f"{name}.feed_forward2")
    add_norm(5)


def _decode(walk: _Walk, config: SilkConfig, n_frames: int) -> None:
    dim, width, channels = config.latent_dim, config.decoder_width, config.decoder_channels
    n_rows, n_time, size = walk.batch * n_frames, n_frames * config.subframes, walk.dtype.itemsize
    n_out = config.subframes * channels
    walk.op("quantizer", "fsq_unpack", N=n_rows, D=dim, group_size=config.group_size)
    walk.convolution("decoder.input.conv", dim, width, TAPS, n_frames)
    walk.snake("decoder.input.snake", width, n_frames)
    walk.linear("decoder.input.expand", n_rows, width, n_out, size=size)
    walk.linear("decoder.input.skip", n_rows, dim, n_out, bias=False, size=size)
    walk.plain("decoder.input.add", size * 3 * n_rows * n_out, n_rows * n_out)
    walk.units("decoder.units", channels, n_time, config.decoder_dilations)
    walk.snake("decoder.snake", channels, n_time)
    walk.convolution("decoder.head", channels, config.n_fft + 2, 3, n_time)
    if config.phases == "harmonic":
        walk.linear("decoder.source.hidden", n_rows, VOICE_FRAMES * dim, VOICE_WIDTH, size=8)
        walk.linear("decoder.source.contour", n_rows, VOICE_WIDTH, 3 * config.subframes, size=8)
        walk.op("decoder.source", "add_harmonics", B=walk.batch, N=n_time, K=config.n_fft // 2 + 1)
    walk.op("decoder.istft", "polar_istft", B=walk.batch, N=n_time, n_fft=config.n_fft, hop=config.hop_samples)
