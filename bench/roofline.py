"""Floors: the least time that each op and a whole encode or decode can take. ``python -m bench.roofline``

The formulas are those of ``silk_fast/benchmark/costs.py``. What is printed here are predictions from published
specifications, not measurements: no program is faster than they allow, and none reaches them.
"""

import argparse
import sys
from dataclasses import dataclass

import torch

from silk_fast.benchmark.costs import (
    NO_GRADIENT,
    Ceilings,
    Cost,
    Layer,
    bound_by,
    codec_cost,
    codec_floor_seconds,
    codec_layers,
    floor_seconds,
    op_cost,
)
from silk_fast.benchmark.rows import dtype_name
from silk_fast.config import SilkConfig

__all__ = [
    "CARDS",
    "Card",
    "Ceilings",
    "Cost",
    "Layer",
    "Prediction",
    "bound_by",
    "codec_cost",
    "codec_floor_seconds",
    "codec_layers",
    "floor_seconds",
    "op_cost",
    "predict_codec",
    "predict_ops",
]

LABEL = "predicted from published specifications"


@dataclass(frozen=True)
class Card:
    """Published peaks of a graphics card at boost clock, dense (without structured sparsity).

    Args:
        bandwidth: of its memory, bytes per second.
        flop_rate: IEEE float32, operations per second; of matrix products too, without TF32.
        half_rate: matrix products of float16 or bfloat16 with float32 sums.
    """

    name: str
    bandwidth: float
    flop_rate: float
    half_rate: float

    def ceilings(self, dtype: torch.dtype) -> Ceilings:
        """Rates for tensors of ``dtype``."""
        matmul_rate = self.half_rate if dtype.itemsize == 2 else self.flop_rate
        return Ceilings(self.bandwidth, matmul_rate, self.flop_rate)


CARDS = (
    # NVIDIA, "Ampere GA102 GPU Architecture" (whitepaper, 2021), table of GeForce RTX 3090
    Card("RTX 3090", 936e9, 35.6e12, 71e12),
    # NVIDIA, "Ada GPU Architecture" (whitepaper, 2022), table of GeForce RTX 4090
    Card("RTX 4090", 1008e9, 82.6e12, 165.2e12),
    # NVIDIA, "A100 Tensor Core GPU" (data sheet, 2021), column A100 80GB SXM
    Card("A100 80 GB SXM", 2039e9, 19.5e12, 312e12),
    # NVIDIA, "H100 Tensor Core GPU" (data sheet, 2023), column H100 SXM; halves of the figures with sparsity
    Card("H100 SXM", 3350e9, 67e12, 989.5e12),
    # NVIDIA, "H200 Tensor Core GPU" (data sheet, 2024), column H200 SXM; halves of the figures with sparsity
    Card("H200", 4800e9, 67e12, 989.5e12),
)

OP_SHAPES = {  # Silk small, 10 s, batch 8
    "snake": {"B": 8, "C": 32, "T": 240_000},
    "residual_unit": {"B": 8, "C": 32, "T": 240_000},
    "fsq_pack": {"N": 200, "D": 128, "group_size": 7},
    "fsq_unpack": {"N": 200, "D": 128, "group_size": 7},
    "fsq_quantize": {"N": 200, "D": 128, "group_size": 7},
    "rel_attention": {"B": 8, "H": 8, "T": 25, "D": 16, "window": (63, 0)},
    "bias_silu": {"N": 200, "C": 512},
    "add_layer_norm": {"N": 200, "C": 128},
    "glu_conv_norm_silu": {"B": 8, "T": 25, "C": 128, "K": 15},
    "polar_istft": {"B": 8, "N": 750, "n_fft": 1280, "hop": 320},
}
CODEC_SHAPES = ((1, 1), (25, 1), (25, 8), (25, 64))  # frames, batch: one frame; 10 s
DTYPES = (torch.float32, torch.float16)


@dataclass(frozen=True)
class Prediction:
    """Floors of one computation.

    Args:
        name: what is computed: ``"snake backward"``, ``"encode, small, 10 s, batch 1"``.
        dtype: ``"float32"``.
        cost: traffic and arithmetic.
        seconds: floor by name of the card.
    """

    name: str
    dtype: str
    cost: Cost
    seconds: dict[str, float]


def predict_ops() -> list[Prediction]:
    """Floors of every op, forward and, where it has a gradient, backward, at the shapes of ``OP_SHAPES``."""
    predictions = []
    for direction, without in (("forward", ()), ("backward", NO_GRADIENT)):
        for dtype in DTYPES:
            for op, sizes in OP_SHAPES.items():
                if op not in without:
                    cost = op_cost(op, direction, dtype, **sizes)
                    seconds = {card.name: floor_seconds(cost, *_rates(card, dtype)) for card in CARDS}
                    predictions.append(Prediction(f"{op} {direction}", dtype_name(dtype), cost, seconds))
    return predictions


def predict_codec(presets: tuple[str, ...] = ("small", "base")) -> list[Prediction]:
    """Floors of whole encodes and decodes: each layer at the card's peaks, one layer after another."""
    predictions = []
    for preset in presets:
        config = SilkConfig.preset(preset)
        for direction in ("encode", "decode"):
            for dtype in DTYPES:
                for n_frames, batch in CODEC_SHAPES:
                    name = f"{direction}, {preset}, {n_frames / config.frame_rate:g} s, batch {batch}"
                    layers = codec_layers(config, n_frames, batch, dtype, direction)
                    cost = codec_cost(config, n_frames, batch, dtype, direction)
                    seconds = {card.name: codec_floor_seconds(layers, *_rates(card, dtype)) for card in CARDS}
                    predictions.append(Prediction(name, dtype_name(dtype), cost, seconds))
    return predictions


def _rates(card: Card, dtype: torch.dtype) -> tuple[float, float, float]:
    ceilings = card.ceilings(dtype)
    return ceilings.bandwidth, ceilings.matmul_rate, ceilings.flop_rate


def _print_table(title: str, predictions: list[Prediction]) -> None:
    print(f"{title}: microseconds, {LABEL}")
    print(f"{'':<34}{'dtype':>9}{'MB':>10}{'GFLOP':>10}" + "".join(f"{card.name:>16}" for card in CARDS))
    for row in predictions:
        floors = "".join(f"{1e6 * row.seconds[card.name]:>16.2f}" for card in CARDS)
        print(f"{row.name:<34}{row.dtype:>9}{row.cost.bytes / 1e6:>10.3f}{row.cost.flops / 1e9:>10.3f}{floors}")


def _print_layers(preset: str, direction: str) -> None:
    config = SilkConfig.preset(preset)
    fused, eager = (codec_layers(config, 25, 1, torch.float32, direction, fused) for fused in (True, False))
    print(
        f"{direction} of {preset}, 10 s, batch 1, float32, by formula: MB as kernels move them, MB run eagerly, GFLOP"
    )
    moved = {layer.name: layer.cost.bytes / 1e6 for layer in eager}
    for layer in fused:
        megabytes, billions = layer.cost.bytes / 1e6, layer.cost.flops / 1e9
        print(f"{layer.name:<40}{megabytes:>10.3f}{moved[layer.name]:>10.3f}{billions:>10.4f}")


def main(argv: list[str] | None = None) -> int:
    """Print the floors; returns the exit status."""
    parser = argparse.ArgumentParser(description="Least time of every op and of the codec, by formula.")
    parser.add_argument("--layers", metavar="PRESET", help="print every layer of this preset instead")
    arguments = parser.parse_args(argv)
    if arguments.layers:
        for direction in ("encode", "decode"):
            _print_layers(arguments.layers, direction)
    else:
        _print_table("ops of Silk small, 8 x 10 s", predict_ops())
        _print_table("whole codec", predict_codec())
    return 0


if __name__ == "__main__":
    sys.exit(main())
