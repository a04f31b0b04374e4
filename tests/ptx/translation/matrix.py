"""ldmatrix, stmatrix, movmatrix, mma.sync, wgmma."""

import re

from tests.ptx.translation.parse import literal
from tests.ptx.translation.program import Call, Program, translates, vector

ELEMENTS = ["f16", "bf16", "tf32", "f64", "s8", "u8"]
SHAPES = {  # element: m, k
    "f16": {(16, 8), (16, 16)}, "bf16": {(16, 8), (16, 16)}, "tf32": {(16, 4), (16, 8)},
    "f64": {(8, 4), (16, 4), (16, 8), (16, 16)}, "s8": {(16, 16), (16, 32)}, "u8": {(16, 16), (16, 32)},
}  # fmt: skip
SUMS = {"f16": {"f16", "f32"}, "bf16": {"f32"}, "tf32": {"f32"}, "f64": {"f64"}, "s8": {"s32"}, "u8": {"s32"}}
WARPGROUP_DEPTH = {"f16": 16, "bf16": 16, "tf32": 8, "s8": 32, "u8": 32}
WARPGROUP_FLAGS = {"f16": 4, "bf16": 4, "tf32": 2, "s8": 0, "u8": 0}  # two signs, two storage orders


def tiles(c: Call) -> list[int]:
    """How many tiles there are, and whether they are transposed."""
    if c.parts[1:4] != ["sync", "aligned", "m8n8"] or c.parts[-1] != "b16":
        raise c.refuse()
    c.only("x1", "x2", "x4", "trans", "shared", "shared::cta", start=4, end=-1)
    return [next(int(x[1:]) for x in c.parts if re.fullmatch("x[124]", x)), "trans" in c.parts]


@translates("ldmatrix")
def load_matrix(p: Program, c: Call) -> None:
    slot, w, offset = p.address(c.operands[1])
    p.emit(c, "ldmatrix", p.results(vector(c.operands[0]), 4), [slot], [*tiles(c), offset, w])


@translates("stmatrix")
def store_matrix(p: Program, c: Call) -> None:
    slot, w, offset = p.address(c.operands[0])
    p.emit(c, "stmatrix", [], [slot, *p.sources(vector(c.operands[1]), 4)], [*tiles(c), offset, w])


@translates("movmatrix")
def transpose_matrix(p: Program, c: Call) -> None:
    if c.parts[1:] != ["sync", "aligned", "m8n8", "trans", "b16"]:
        raise c.refuse()
    p.emit(c, "movmatrix", [p.result(c.operands[0], 4)], [p.source(c.operands[1], 4)])


def dimensions(c: Call, text: str) -> tuple[int, int, int]:
    found = re.fullmatch(r"m(\d+)n(\d+)k(\d+)", text)
    if not found:
        raise c.refuse("shape")
    return int(found[1]), int(found[2]), int(found[3])


@translates("mma")
def multiply_add(p: Program, c: Call) -> None:
    """``mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 d, a, b, c``."""
    saturates = "satfinite" in c.parts
    parts = [part for part in c.parts if part != "satfinite"]
    if parts[1:3] + parts[4:6] != ["sync", "aligned", "row", "col"] or len(parts) != 10:
        raise c.refuse("form")
    m, n, k = dimensions(c, parts[3])
    d, a, b, sum_ = parts[6:]
    if (
        a != b
        or d != sum_
        or a not in ELEMENTS
        or n != 8
        or (m, k) not in SHAPES[a]
        or d not in SUMS[a]
        or (saturates and d != "s32")
    ):
        raise c.refuse("combination of types and shape")
    w = 8 if a == "f64" else 4
    results, *sources = (vector(o) for o in c.operands)
    names = [name for group in sources for name in group]
    p.emit(c, "mma", p.results(results, w), p.sources(names, w), [ELEMENTS.index(a), m, k, d == "f16", saturates])


@translates("wgmma")
def warpgroup(p: Program, c: Call) -> None:
    saturates = c.parts[-1] == "satfinite"
    match [part for part in c.parts[1:] if part != "satfinite"]:
        case ["fence" | "commit_group", "sync", "aligned"]:
            return p.emit(c, f"wgmma.{c.parts[1]}")
        case ["wait_group", "sync", "aligned"]:
            return p.emit(c, "wgmma.wait_group", immediates=[int(c.operands[0], 0)])
        case ["mma_async", "sync", "aligned", _, "f32", a, b] if (
            a == b and a in ("f16", "bf16", "tf32") and not saturates
        ):
            return warpgroup_multiply_add(p, c, a, False)
        case ["mma_async", "sync", "aligned", _, "s32", a, b] if a == b and a in ("s8", "u8"):
            return warpgroup_multiply_add(p, c, a, saturates)
    raise c.refuse()


def warpgroup_multiply_add(p: Program, c: Call, element: str, saturates: bool) -> None:
    """``d, a, b-descriptor, scale-d[, imm-scale-a, imm-scale-b][, imm-trans-a][, imm-trans-b]``; a may be registers."""
    m, n, k = dimensions(c, c.parts[4])
    d, a, b, scale, *flags = c.operands
    in_registers = a.startswith("{")
    expected = WARPGROUP_FLAGS[element] - (in_registers and WARPGROUP_FLAGS[element] == 4)
    if m != 64 or k != WARPGROUP_DEPTH[element] or n % 8 or not 8 <= n <= 256 or len(flags) != expected:
        raise c.refuse("shape or operands")
    numbers = [int(f, 0) for f in flags]
    signs, orders = numbers[:2] or [1, 1], [0] * (expected == 3) + numbers[2:] or [0, 0]
    results = p.results(vector(d), 4)
    sources = [*p.sources(vector(a), 4 if in_registers else 8), p.source(b, 8)]
    constant = -1
    if p.is_register(scale):
        sources.append(p.predicate(scale))
    else:
        constant = int(literal(scale, 4) != 0)
    immediates = [ELEMENTS.index(element), n, k, in_registers, constant, *signs, *orders, saturates]
    if len(results) != n // 2 or (in_registers and len(vector(a)) != 4):
        raise c.refuse("operands")
    p.emit(c, "wgmma", results, sources, immediates)
