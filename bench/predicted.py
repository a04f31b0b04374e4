"""How long launches should take, from what they did in the emulator and the published rates of cards.

A launch takes as long as what it asks most of, after a start that no kernel avoids::

    time = LAUNCH + FIRST_ACCESS + max(memory, L2, shared memory, issue slots, matrix unit, special functions, ...)

- DRAM moves every byte of a launch's tensors once: what several blocks ask for is found in L2, as blocks that share it
  run close together in all of our kernels. L2 moves every sector that was asked for, as if L1 kept nothing, through a
  port of each multiprocessor.
- Blocks are dealt evenly, so the busiest of n multiprocessors has ceil(blocks / n) of them: the last wave is in it.
- Moves between registers and loads of parameters issue nothing, as ptxas removes them; all else issues once.
- Blocks that fit on a multiprocessor follow from registers, shared memory and warps; a warp issues one instruction a
  cycle at most. Latencies beyond the first are not modelled, nor clocks below boost, nor DRAM below its peak: what is
  predicted is nearer to the best case than to the usual one.

The roofline allows the longer of tensor bytes over bandwidth, and useful operations of matrix products over the peak
rate of the dtype. The share is that over the longest term, without the start: what the kernel itself loses.
"""

import math
from dataclasses import dataclass

from bench.cards import (
    FIRST_ACCESS,
    L2_PORT_BYTES_A_CYCLE,
    LAUNCH,
    REGISTERS,
    RESERVED_SHARED_BYTES,
    SCHEDULERS,
    SHARED_BYTES_A_CYCLE,
    WARP,
    Card,
)

SECTOR = 32
FREE = ("move", "load parameter")
PIPES = {  # bound by class of instruction; the others bind by issue slots, or as memory
    "fp32": "float32", "fp16": "float16", "fp64": "float64", "integer": "integer", "special": "special functions",
    "conversion": "conversions", "widening": "conversions", "shuffle": "shuffles",
}  # fmt: skip


@dataclass(frozen=True)
class Work:
    """What all blocks of a launch do together.

    Attributes:
        warps: of a block; shared_bytes: of a block.
        instructions: warp instructions by class, as :func:`tests.ptx.counters.instruction_class` names them.
        sectors: of global memory, 32 bytes each.
        tensor_bytes: of all tensors, each once.
        matrix_flops: done by matrix instructions on factors of ``matrix_type``.
        useful_flops: of them or of float32 arithmetic, what the op needs; 0 where memory alone counts.
    """

    blocks: int
    warps: int
    shared_bytes: int
    instructions: dict[str, int]
    sectors: int
    shared_passes: int
    tensor_bytes: int
    matrix_flops: int = 0
    matrix_type: str = "f16"
    useful_flops: int = 0
    is_half: bool = False

    @property
    def issued(self) -> int:
        """Warp instructions that take an issue slot."""
        return sum(n for name, n in self.instructions.items() if name not in FREE)


@dataclass(frozen=True)
class Prediction:
    """Seconds of a launch, the start included; what bounds it; share of the roofline, without the start."""

    seconds: float
    bound: str
    share: float


def resident_blocks(work: Work, card: Card, registers: int = 0) -> int:
    """Blocks that a multiprocessor holds at once.

    Args:
        registers: of a thread; 0 if they are not known, and do not limit.
    """
    limits = [card.blocks, card.warps // work.warps, card.shared_bytes // (work.shared_bytes + RESERVED_SHARED_BYTES)]
    if registers:
        limits.append(REGISTERS // (-(-registers // 8) * 8 * WARP * work.warps))
    return max(1, min(limits))


def terms(work: Work, card: Card, registers: int = 0) -> dict[str, float]:
    """Seconds that each part of a card needs for a launch, by name."""
    together = card.n_sm * resident_blocks(work, card, registers)
    busiest = math.ceil(work.blocks / card.n_sm) / work.blocks  # part of the work that one multiprocessor does
    moved = SECTOR * work.sectors
    cycles = {
        "L2": max(moved / card.l2_bytes_a_cycle, moved * busiest / L2_PORT_BYTES_A_CYCLE),
        "shared memory": (work.shared_passes + moved / SHARED_BYTES_A_CYCLE) * busiest,
        "issue slots": work.issued * busiest / SCHEDULERS,
        "few warps": math.ceil(work.blocks / together) * work.issued / (work.blocks * work.warps),
    }
    for name, n in work.instructions.items():
        if name in PIPES:
            bound = PIPES[name]
            cycles[bound] = cycles.get(bound, 0) + n * WARP / card.lanes[name] * busiest
    out = {name: n / card.clock for name, n in cycles.items()}
    if work.matrix_flops:
        out["matrix unit"] = work.matrix_flops * busiest / card.matrix[work.matrix_type] / card.matrix_clock
    return {"memory": work.tensor_bytes / card.bandwidth, **out}


def predict(work: Work, card: Card, registers: int = 0) -> Prediction:
    """Predict the time of a launch; ``"launch > memory"`` says that the start takes longer than the rest."""
    by_bound = terms(work, card, registers)
    bound = max(by_bound, key=lambda name: by_bound[name])
    start, busy = LAUNCH + FIRST_ACCESS, by_bound[bound]
    rate = card.half_rate if work.is_half else card.float32_rate
    floor = max(work.tensor_bytes / card.bandwidth, work.useful_flops / rate)
    return Prediction(start + busy, f"launch > {bound}" if start > busy else bound, floor / busy)
