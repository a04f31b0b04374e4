"""Carry a trained codec over to another output delay, or to harmonic phases, without loss."""

from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F

from silk_fast.errors import SilkConfigError
from silk_fast.reference.codec import SilkCodec
from silk_fast.reference.encoder import EncoderStage


@torch.no_grad()
def set_output_delay_(codec: SilkCodec, output_delay: int) -> SilkCodec:
    """Change ``output_delay`` and move the encoder's last taps by the difference, so that codes mean what they meant.

    A decoder that lags by d samples is to make of a frame what it made of the frame d samples earlier. The
    encoder's last strided convolution, which gathers a frame's sub-frames, therefore looks d samples further back: its
    oldest taps fall away, and taps of zero, which training fills, see the d samples that are new.

    Args:
        codec: with plain weights, as :meth:`SilkCodec.from_pretrained` loads them; changed in place.
        output_delay: samples, less than a frame.

    Returns:
        The codec.

    Raises:
        SilkConfigError: an impossible delay, or one that differs by no whole number of sub-frames.
    """
    config = replace(codec.config, output_delay=output_delay)
    n_taps, remainder = divmod(output_delay - codec.config.output_delay, config.hop_samples)
    if remainder:
        raise SilkConfigError(
            f"output_delay must differ from the initial model's {codec.config.output_delay} by a multiple of "
            f"{config.hop_samples} samples, got {output_delay}"
        )
    gather = cast(EncoderStage, codec.encoder.stages[-1]).down
    gather.weight.copy_(F.pad(gather.weight, (-n_taps, n_taps)))
    codec.config = config
    return codec


@torch.no_grad()
def set_phases(codec: SilkCodec, phases: str) -> SilkCodec:
    """Make a codec with the weights of another and other phases; harmonics begin with no voice, so nothing changes."""
    if codec.config.phases == phases:
        return codec
    changed = SilkCodec(replace(codec.config, phases=phases), weight_norm=False, seed=0)
    wanted, found = changed.state_dict(), codec.state_dict()
    changed.load_state_dict({name: found.get(name, tensor) for name, tensor in wanted.items()})
    return changed.to(codec.device)
