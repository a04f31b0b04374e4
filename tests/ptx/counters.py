"""What the launches of a kernel did: instructions by class, bytes asked for and moved, passes over shared memory."""

import re
from collections import Counter
from dataclasses import dataclass, field, fields

from tests.ptx.emulator import Kernel
from tests.ptx.translation.memory import SPACES
from tests.ptx.translation.program import Instruction

CLASSES = {  # by the first part of the opcode
    "ldmatrix": "matrix load", "stmatrix": "matrix store", "movmatrix": "shuffle", "mma": "matrix", "wgmma": "matrix",
    "shfl": "shuffle", "vote": "shuffle", "match": "shuffle", "redux": "shuffle", "elect": "shuffle",
    "activemask": "shuffle", "cp": "copy", "atom": "atomic", "red": "atomic", "bar": "barrier", "barrier": "barrier",
    "mbarrier": "barrier", "fence": "barrier", "membar": "barrier", "bra": "control", "ret": "control",
    "exit": "control", "call": "control", "trap": "control", "mov": "move", "cvta": "move", "createpolicy": "move",
    "cvt": "conversion",
}  # fmt: skip


@dataclass
class Counts:
    """Sums over launches.

    Attributes:
        warps: issued warp instructions by class; threads: active lanes by class.
        load_bytes, store_bytes: that lanes asked of global memory; load_sectors, store_sectors: of 32 bytes, moved.
        shared_passes: over the banks of shared memory; shared_passes_at_best: without conflicts.
        matrix_flops: of matrix instructions, by the type of their first factor.
    """

    warps: Counter[str] = field(default_factory=Counter)
    threads: Counter[str] = field(default_factory=Counter)
    load_bytes: int = 0
    store_bytes: int = 0
    load_sectors: int = 0
    store_sectors: int = 0
    shared_passes: int = 0
    shared_passes_at_best: int = 0
    matrix_flops: Counter[str] = field(default_factory=Counter)

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


def instruction_class(i: Instruction) -> str:
    """The pipe that an instruction is for: "fp32", "integer", "special", "load global", "matrix", ...

    Conversions from halves to float32 are "widening", between integers "integer", others "conversion".
    """
    base, kind = i.opcode.split(".")[0], i.opcode.split(".")[-1]
    if i.operation in ("ld", "st"):
        return f"{'load' if i.operation == 'ld' else 'store'} {SPACES[i.immediates[0]]}"
    if i.operation == "ld.param":
        return "load parameter"
    if re.match(r"cvt\.(ftz\.)?f32\.b?f16$", i.opcode):
        return "widening"
    if re.search(r"^cvt\..*\.?[su]\d+\.[su]\d+$", i.opcode):
        return "integer"
    if base in CLASSES:
        return CLASSES[base]
    if "approx" in i.opcode or "full" in i.opcode:
        return "special"
    if kind in ("f32", "f64", "f32x2"):
        return f"fp{kind[1:3]}"
    return "fp16" if kind.startswith(("f16", "bf16")) else "integer"


def matrix_flops(opcode: str) -> tuple[str, int]:
    """Type of the first factor, and operations that a warp does by a matrix instruction; a wgmma is of four warps."""
    shape = re.search(r"\.m(\d+)n(\d+)k(\d+)\.", opcode)
    if shape is None:  # it waits for others
        return "", 0
    m, n, k = map(int, shape.groups())
    types = re.findall(r"\.(f16|bf16|tf32|f32|f64|[su]8|[su]4|b1|s32|e4m3|e5m2)(?=\.|$)", opcode)
    return types[1], 2 * m * n * k // (4 if opcode.startswith("wgmma") else 1)


def count(kernel: Kernel) -> Counts:
    """Count what all launches of a kernel did; sectors and passes need the check "profile"."""
    out = Counts()
    columns = (kernel.threads, kernel.warps, kernel.sectors, kernel.passes)
    for i, *numbers in zip(kernel.program.instructions, *(x.tolist() for x in columns), strict=True):
        threads, warps, sectors, passes = numbers
        if not warps:
            continue
        name = instruction_class(i)
        out.warps[name] += warps
        out.threads[name] += threads
        if name == "matrix":
            factor, flops = matrix_flops(i.opcode)
            out.matrix_flops += Counter({factor: warps * flops} if flops else {})
        if name == "load global":
            out.load_bytes += threads * i.immediates[2] * i.immediates[3]
            out.load_sectors += sectors
        elif i.operation == "cp.async":
            out.load_bytes += passes
            out.load_sectors += sectors
        elif name == "store global":
            out.store_bytes += threads * i.immediates[2] * i.immediates[3]
            out.store_sectors += sectors
        elif passes:
            out.shared_passes += passes
            out.shared_passes_at_best += sectors
    return out
