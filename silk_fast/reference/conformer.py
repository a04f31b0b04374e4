"""Conformer over latent frames ``[B, F, D]`` (Gulati et al., 2020), causal and streamable by default."""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from silk_fast.config import SilkConfig
from silk_fast.errors import SilkConfigError
from silk_fast.reference.module import OpsModule
from silk_fast.reference.state import ContextState, State


@dataclass
class AttentionState(State):
    """The last ``left`` keys and values ``[B, H, left, D / H]``; ``n_valid`` int64 ``[B]`` of them are real."""

    keys: Tensor
    values: Tensor
    n_valid: Tensor

    def push(self, keys: Tensor, values: Tensor, n_new: int) -> None:
        """Keep the last of ``keys`` and ``values``, the cache followed by ``n_new`` frames."""
        left = self.keys.shape[2]
        self.keys.copy_(keys[:, :, keys.shape[2] - left :])
        self.values.copy_(values[:, :, values.shape[2] - left :])
        self.n_valid.copy_((self.n_valid + n_new).clamp(max=left))


@dataclass
class ConformerBlockState(State):
    attention: AttentionState
    conv: ContextState


@dataclass
class ConformerState(State):
    blocks: list[ConformerBlockState]


class FeedForward(OpsModule):
    """Linear to ``expansion * D``, SiLU, linear back."""

    def __init__(self, dim: int, expansion: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, expansion * dim)
        self.down = nn.Linear(expansion * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.ops.bias_silu(x @ self.up.weight.T, self.up.bias))


def sinusoidal_positions(distances: Tensor, dim: int) -> Tensor:
    """Sinusoids of ``distances`` ``[R]``, sine and cosine interleaved (Vaswani et al., 2017); ``[R, dim]``."""
    rates = torch.exp(
        torch.arange(0, dim, 2, device=distances.device, dtype=distances.dtype) * (-math.log(10_000.0) / dim)
    )
    angles = distances[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class RelativeAttention(OpsModule):
    """Multi-head self-attention with Transformer-XL relative positions.

    Args:
        dim: D.
        heads: H; divides D.
        window: past and future frames that a frame sees; None for all.
    """

    def __init__(self, dim: int, heads: int, window: tuple[int | None, int | None]) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.position = nn.Linear(dim, dim, bias=False)
        self.u = nn.Parameter(torch.zeros(heads, dim // heads))
        self.v_bias = nn.Parameter(torch.zeros(heads, dim // heads))
        self.output = nn.Linear(dim, dim)

    def initial_state(self, batch_size: int) -> AttentionState:
        left, right = self.window
        if left is None or right != 0:
            raise SilkConfigError(
                f"streaming needs a bounded attention_left and attention_right 0, got {left} and {right}"
            )
        cache = self.query.weight.new_zeros(batch_size, self.heads, left, self.query.out_features // self.heads)
        n_valid = torch.zeros(batch_size, dtype=torch.int64, device=cache.device)
        return AttentionState(cache, cache.clone(), n_valid)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)  # [..., T, D] -> [..., H, T, D / H]

    def projected_positions(self, n_keys: int) -> Tensor:
        """``[H, R, D / H]``: the projected sinusoid of each distance in the window, nearest future first."""
        left, right = (n_keys - 1 if extent is None else extent for extent in self.window)
        weight = self.position.weight
        distances = torch.arange(-right, left + 1, device=weight.device, dtype=torch.float32)
        return self._split(self.position(sinusoidal_positions(distances, weight.shape[1]).to(weight.dtype)))

    def forward(self, x: Tensor, lengths: Tensor | None = None, state: AttentionState | None = None) -> Tensor:
        q, k, v = self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))
        starts = None
        if state is not None:
            starts = state.keys.shape[2] - state.n_valid
            k, v = torch.cat([state.keys, k], dim=2), torch.cat([state.values, v], dim=2)
            state.push(k, v, x.shape[1])
        pos = self.projected_positions(k.shape[2])
        y = self.ops.rel_attention(q, k, v, pos, self.u, self.v_bias, self.window, lengths, starts)
        return self.output(y.transpose(1, 2).flatten(2))


class ConvModule(OpsModule):
    """Pointwise, GLU, causal depthwise convolution, LayerNorm, SiLU, pointwise."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, dim)

    def initial_state(self, batch_size: int) -> ContextState:
        reach = self.depthwise.kernel_size[0] - 1
        return ContextState(self.up.weight.new_zeros(batch_size, reach, self.up.out_features))

    def forward(self, x: Tensor, state: ContextState | None = None) -> Tensor:
        x = self.up(x)
        y = self.ops.glu_conv_norm_silu(
            x,
            self.depthwise.weight[:, 0],
            self.depthwise.bias,
            self.norm.weight,
            self.norm.bias,
            self.norm.eps,
            context=None if state is None else state.context,
        )
        if state is not None:
            state.push(x, dim=1)
        return self.down(y)


class ConformerBlock(OpsModule):
    """Half feed-forward, attention, convolution, half feed-forward, LayerNorm; each on a normalised residual."""

    def __init__(self, config: SilkConfig) -> None:
        super().__init__()
        dim, expansion = config.latent_dim, config.conformer_expansion
        window = (config.attention_left, config.attention_right)
        self.norm1, self.feed_forward1 = nn.LayerNorm(dim), FeedForward(dim, expansion)
        self.norm2, self.attention = nn.LayerNorm(dim), RelativeAttention(dim, config.conformer_heads, window)
        self.norm3, self.conv = nn.LayerNorm(dim), ConvModule(dim, config.conformer_kernel)
        self.norm4, self.feed_forward2 = nn.LayerNorm(dim), FeedForward(dim, expansion)
        self.norm5 = nn.LayerNorm(dim)

    def initial_state(self, batch_size: int) -> ConformerBlockState:
        return ConformerBlockState(self.attention.initial_state(batch_size), self.conv.initial_state(batch_size))

    def forward(self, x: Tensor, lengths: Tensor | None = None, state: ConformerBlockState | None = None) -> Tensor:
        def add_norm(x: Tensor, y: Tensor, scale: float, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
            return self.ops.add_layer_norm(x, y, scale, norm.weight, norm.bias, norm.eps)

        x, h = add_norm(x, self.feed_forward1(self.norm1(x)), 0.5, self.norm2)
        x, h = add_norm(x, self.attention(h, lengths, state and state.attention), 1.0, self.norm3)
        x, h = add_norm(x, self.conv(h, state and state.conv), 1.0, self.norm4)
        return add_norm(x, self.feed_forward2(h), 0.5, self.norm5)[1]


class Conformer(nn.Module):
    """A stack of Conformer blocks: ``[B, F, D]`` to ``[B, F, D]``."""

    def __init__(self, config: SilkConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.conformer_layers))

    def initial_state(self, batch_size: int) -> ConformerState:
        return ConformerState([cast(ConformerBlock, block).initial_state(batch_size) for block in self.blocks])

    def forward(self, x: Tensor, lengths: Tensor | None = None, state: ConformerState | None = None) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x, lengths, state and state.blocks[i])
        return x
