"""Shapes of the modules of codecs that descend from SEANet, EnCodec and Mimi: padded convolutions, blocks with ELUs.

The libraries pad by numbers that they keep in buffers, which costs a wait for the GPU at every convolution; here they
are integers. An ELU goes with the convolution after it.
"""

import math
from typing import Any

from torch import Tensor, nn

from silk_fast.codecs.places import OnCpu, Place


def _name(elu: nn.ELU | None) -> str:
    """By which a module remembers its packed weight: with the ELU before it or without."""
    return "conv" if elu is None else "elu, conv"


class ConvShape(Place):
    """A convolution that pads its input, with or without a normalisation after it."""

    conv: Any
    causal: bool
    pad_mode: str
    _pad1d: Any

    @property
    def plain(self) -> Any:
        """The convolution itself."""
        return self.conv

    @property
    def normalisation(self: Any) -> nn.Module | None:
        """What follows the convolution, if anything."""
        return getattr(self, "norm", None)

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return (self.conv, self.norm) if hasattr(self, "norm") else (self.conv,)

    def _first(self) -> nn.Module:
        return self.plain

    def _serves(self, x: Tensor) -> bool:
        return self.total >= 0 and super()._serves(x)

    @property
    def total(self) -> int:
        """Samples of padding, beside those that complete the last stride."""
        return (self.plain.kernel_size[0] - 1) * self.plain.dilation[0] + 1 - self.plain.stride[0]

    def _run(self, x: Tensor) -> Tensor:
        return self.convolve(x)

    def convolve(self: Any, x: Tensor, elu: nn.ELU | None = None) -> Tensor:
        """The module's result for ``x``, or for the ELU of ``x``."""
        n_right = 0 if self.causal else self.total // 2
        n_left, n_right = self.total - n_right, n_right + -x.shape[-1] % self.plain.stride[0]
        context = None
        if self.pad_mode == "reflect" and n_left < x.shape[-1] and not n_right:
            context = self._context(x, n_left)
        elif self.pad_mode != "constant" and n_left + n_right:
            x = self._pad1d(x, (n_left, n_right), self.pad_mode)
            n_left = n_right = 0
        y = self._convolve(_name(elu), x, self.plain, elu, (n_left, n_right), context)
        return self.normalisation(y) if self.normalisation else y

    def _context(self, x: Tensor, n_left: int) -> Tensor | None:
        """What comes before ``x``, longer than that, where nothing is padded after it; None for zeros."""
        return x[..., 1 : n_left + 1].flip(-1) if self.pad_mode == "reflect" else None


class TransposeShape(ConvShape):
    """A transposed convolution whose output is cut, with or without a normalisation before that."""

    def _serves(self, x: Tensor) -> bool:
        return Place._serves(self, x)

    def convolve(self: Any, x: Tensor, elu: nn.ELU | None = None) -> Tensor:
        """The module's result for ``x``, or for the ELU of ``x``."""
        total = self.plain.kernel_size[0] - self.plain.stride[0]
        n_right = math.ceil(total * self.trim_right_ratio) if self.causal else total // 2
        crop = total - n_right, n_right
        if not self.normalisation:
            return self._transpose(_name(elu), x, self.plain, elu, crop)
        y = self.normalisation(self._transpose(_name(elu), x, self.plain, elu, (0, 0)))
        return y[..., crop[0] : y.shape[-1] - crop[1]]


class BlockShape(Place):
    """A residual block, of an ELU, a convolution, an ELU and one of one tap; with or without one beside them."""

    block: Any
    shortcut: Any

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return *self.block, self.shortcut

    def _first(self) -> nn.Conv1d:
        return self.block[1].plain

    def _run(self, x: Tensor) -> Tensor:
        elu1, conv1, elu2, conv2 = self.block
        if not self._is_one_loop(x):
            y = conv2.convolve(conv1.convolve(x, elu1), elu2)
            return self.shortcut(x) + y
        shortcut = self.shortcut.plain if isinstance(self.shortcut, ConvShape) else None
        context = conv1._context(x, conv1.total)
        parts = elu1, conv1.plain, elu2, conv2.plain
        return self._residual_unit(x, *parts, shortcut=shortcut, context=context, padding="causal")

    def _is_one_loop(self, x: Tensor) -> bool:
        """Whether C computes the block tile by tile."""
        conv1, *others = (part for part in (*self.block, self.shortcut) if isinstance(part, ConvShape))
        return (
            isinstance(self, OnCpu)
            and (conv1.pad_mode == "constant" or (conv1.pad_mode == "reflect" and conv1.total < x.shape[-1]))
            and all(conv.causal and not conv.normalisation for conv in (conv1, *others))
            and all(conv.plain.kernel_size == conv.plain.stride == (1,) for conv in others)
            and all(conv.plain.bias is not None and conv.plain.groups == 1 for conv in (conv1, *others))
            and conv1.plain.stride == (1,)
        )


class CoderShape(Place):
    """An encoder or a decoder: convolutions, blocks, ELUs, and an LSTM of EnCodec's."""

    layers: Any

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return tuple(self.layers)

    @property
    def steps(self) -> Any:
        """Its modules, in their order."""
        return self.layers

    def _first(self) -> nn.Conv1d:
        return self.steps[0].plain

    def _run(self, x: Tensor) -> Tensor:
        elu = None
        for layer in self.steps:
            if isinstance(layer, nn.ELU):
                elu = layer
            elif isinstance(layer, ConvShape):
                x, elu = layer.convolve(x, elu), None
            elif isinstance(layer, BlockShape):
                x = layer(x)
            else:
                x = layer(x.to(next(layer.parameters()).dtype)).to(x.dtype)
        return x
