"""The formulas of a whole encode and decode, against arithmetic that is counted and the modules of the codec."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from silk_fast.benchmark.codec_costs import codec_cost, codec_layers
from silk_fast.benchmark.costs import Ceilings, visible_pairs
from silk_fast.config import SilkConfig
from silk_fast.reference.codec import SilkCodec

HALF, SINGLE = torch.float16, torch.float32


def run(codec: SilkCodec, direction: str, n_frames: int, batch: int):
    """A call that encodes or decodes whole signals at once."""
    audio = 0.1 * torch.randn(batch, 1, n_frames * codec.config.frame_samples)
    tokens = torch.ones(batch, n_frames, codec.config.tokens_per_frame, dtype=torch.int32)
    if direction == "encode":
        return lambda: codec.quantizer.encode(codec.latents(audio))
    return lambda: codec.decoder(codec.quantizer.decode(tokens))


def only_eager(config: SilkConfig, n_frames: int, batch: int) -> int:
    """Arithmetic of an eager encode that kernels spare, or that the formulas count among other operations.

    Pairs of frames outside the window, positions of no pair and their projection; the depthwise convolution.
    """
    dim, n_positions = config.latent_dim, 1 + config.attention_left + config.attention_right
    pairs = visible_pairs(n_frames, config.attention_left, config.attention_right)
    attention = 2 * batch * dim * (2 * (n_frames**2 - pairs) + n_frames * n_positions - pairs)
    projection, depthwise = 2 * n_positions * dim * dim, 2 * batch * n_frames * dim * config.conformer_kernel
    return config.conformer_layers * (attention + projection + depthwise)


@pytest.mark.parametrize("direction", ["encode", "decode"])
@pytest.mark.parametrize(("preset", "n_frames", "batch"), [("tiny", 4, 2), ("tiny", 20, 1), ("small", 2, 1)])
def test_eager_codec_computes_what_the_formula_says(preset, n_frames, batch, direction):
    """Exactly, but for what kernels need not compute."""
    config = SilkConfig.preset(preset)
    call = run(SilkCodec(config, weight_norm=False, seed=0).eval(), direction, n_frames, batch)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        call()
    spared = only_eager(config, n_frames, batch) if direction == "encode" else 0
    assert codec_cost(config, n_frames, batch, SINGLE, direction).flops + spared == flops.get_total_flops()


def test_chunks_decode_what_the_whole_does():
    config = SilkConfig.preset("tiny")
    codec = SilkCodec(config, weight_norm=False, seed=0).eval()
    tokens = torch.ones(1, 8, config.tokens_per_frame, dtype=torch.int32)
    with FlopCounterMode(display=False) as counter:
        codec.decode(tokens)
    assert codec_cost(config, 8, 1, SINGLE, "decode").flops == counter.get_total_flops()


def test_half_precision_moves_fewer_bytes_and_computes_the_same():
    config = SilkConfig.preset("small")
    half, single = (codec_cost(config, 25, 8, dtype) for dtype in (HALF, SINGLE))
    assert half.flops == single.flops
    assert 0.5 * single.bytes < half.bytes < 0.52 * single.bytes


def test_codec_layers_name_modules_of_the_codec():
    config = SilkConfig.preset("tiny")
    modules = dict(SilkCodec(config, weight_norm=False, seed=0).named_modules())
    for direction in ("encode", "decode"):
        names = codec_layers(config, 1, 1, SINGLE, direction).keys()
        known = {name for name in names if name in modules}
        assert names - known <= {
            *("quantizer.check", "decoder.input.add"),
            *(f"conformer.blocks.{i}.feed_forward{k}.silu" for i in range(2) for k in (1, 2)),
        }


def test_codec_floor_is_the_sum_of_those_of_its_layers():
    config = SilkConfig.preset("tiny")
    layers = codec_layers(config, 5, 2, SINGLE, "decode").values()
    machine = Ceilings(1e9, 1e12, 1e11)
    floor, _ = machine.floor(layers)
    assert math.isclose(floor, math.fsum(machine.floor([layer])[0] for layer in layers))
    assert floor >= machine.floor([codec_cost(config, 5, 2, SINGLE, "decode")])[0]
