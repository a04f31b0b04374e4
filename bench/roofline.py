"""Floors: the least time that each op and a whole encode or decode can take. ``python -m bench.roofline``

The formulas are those of ``silk_fast/benchmark``. What is printed here are predictions from published specifications,
not measurements: no program is faster than they allow, and none reaches them.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from bench.ops import timing_cases
from silk_fast.benchmark.codec_costs import codec_layers
from silk_fast.benchmark.costs import Ceilings, Cost
from silk_fast.benchmark.rows import dtype_name
from silk_fast.config import SilkConfig
from silk_fast.markdown import significant, table

LABEL = "predicted from published specifications"
POINT = (8, 10)  # batch and seconds of the ops
CODEC_SHAPES = ((1, 1), (25, 1), (25, 8), (25, 64))  # frames, batch: one frame; 10 s
DTYPES = (torch.float32, torch.float16)


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


@dataclass(frozen=True)
class Prediction:
    """Floors of one computation.

    Args:
        name: what is computed: ``"snake backward"``, ``"encode, small, 10 s, batch 1"``.
        dtype: ``"float32"``.
        cost: traffic and arithmetic, of all steps.
        seconds: floor by name of the card, each step at the card's peaks, one after another.
    """

    name: str
    dtype: str
    cost: Cost
    seconds: dict[str, float]


def _prediction(name: str, dtype: torch.dtype, costs: list[Cost]) -> Prediction:
    n_bytes, flops = sum(cost.bytes for cost in costs), sum(cost.flops for cost in costs)
    seconds = {card.name: card.ceilings(dtype).floor(costs)[0] for card in CARDS}
    return Prediction(name, dtype_name(dtype), Cost(n_bytes, flops, any(cost.matmul for cost in costs)), seconds)


def predict_ops() -> list[Prediction]:
    """Floors of every op in its first layer, forward and, where it has a gradient, backward."""
    cases = [case for case in timing_cases([POINT], DTYPES) if not case.is_stream]
    first = {(case.op, case.direction, case.dtype): case for case in reversed(cases)}
    return [_prediction(f"{c.op} {c.direction}", c.dtype, [c.cost]) for c in cases if c in first.values()]


def predict_codec(
    presets: Iterable[str] = ("small", "base"), shapes: Iterable[tuple[int, int]] = CODEC_SHAPES
) -> list[Prediction]:
    """Floors of whole encodes and decodes; ``shapes``: latent frames and batch."""
    predictions = []
    for preset in presets:
        config = SilkConfig.preset(preset)
        for direction in ("encode", "decode"):
            for dtype in DTYPES:
                for n_frames, batch in shapes:
                    name = f"{direction}, {preset}, {n_frames / config.frame_rate:g} s, batch {batch}"
                    layers = codec_layers(config, n_frames, batch, dtype, direction)
                    predictions.append(_prediction(name, dtype, list(layers.values())))
    return predictions


def prediction_table(predictions: Iterable[Prediction]) -> str:
    """Microseconds by card, as Markdown."""
    head = ("what", "dtype", "MB", "GFLOP", *(f"{card.name}, predicted" for card in CARDS))

    def cells(row: Prediction) -> list[str]:
        figures = (row.cost.bytes / 1e6, row.cost.flops / 1e9, *(1e6 * seconds for seconds in row.seconds.values()))
        return [row.name, row.dtype, *(significant(figure, thousands=",") for figure in figures)]

    return table(head, map(cells, predictions))


def main(argv: list[str] | None = None) -> int:
    """Print the floors; returns the exit status."""
    argparse.ArgumentParser(description="Least time of every op and of the codec, by formula.").parse_args(argv)
    for title, predictions in (
        (f"ops of first layers, batch {POINT[0]} of {POINT[1]} s", predict_ops()),
        ("whole codec", predict_codec()),
    ):
        print(f"{title}: microseconds, {LABEL}\n\n{prediction_table(predictions)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
