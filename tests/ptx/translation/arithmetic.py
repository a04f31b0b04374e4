"""Integers, bits, floating point, comparisons, moves. Most operations bear the name of the instruction."""

from tests.ptx.translation.parse import literal
from tests.ptx.translation.program import Call, Program, translates, vector, width

ROUNDINGS = {"rn", "rz", "rm", "rp"}
CONNECTIVES = ["and", "or", "xor"]
PLAIN = [
    "abs", "brev", "cnot", "copysign", "cos", "div", "ex2", "fma", "lg2", "max", "min", "neg", "prmt", "rcp", "rem",
    "rsqrt", "shf", "sin", "sqrt", "tanh",
]  # fmt: skip


@translates(*PLAIN)
def plain(p: Program, c: Call) -> None:
    """Result and sources all have the type at the end of the opcode."""
    base, *modifiers, kind = c.parts
    if modifiers and modifiers[-1] == "f32" and kind in ("f16", "bf16"):
        return mixed_precision(p, c)
    if base in ("min", "max") and len(c.operands) == 4 and kind == "f32" and "xorsign" not in modifiers:
        return three_way(p, c)
    if kind[0] in "fb" and base in ("add", "sub", "mul") and not ROUNDINGS & set(modifiers):
        modifiers = ["rn", *modifiers]
    w = width(kind)
    name = ".".join([base, *modifiers, kind])
    p.emit(c, name, [p.result(c.operands[0], w)], p.sources(c.operands[1:], w))


def mixed_precision(p: Program, c: Call) -> None:
    """``fma.rn.f32.f16 d, a, b, c``: the factors (or the first summand) are narrow."""
    base, *modifiers, _, kind = c.parts
    narrow = {"add": 1, "sub": 1, "fma": 2}[base]
    sources = []
    for k, token in enumerate(c.operands[1:]):
        if k < narrow:
            sources.append(p.allocate(4))
            p.emit(c, f"cvt.f32.{kind}", [sources[-1]], [p.source(token, 2)])
        else:
            sources.append(p.source(token, 4))
    if not ROUNDINGS & set(modifiers):
        modifiers = ["rn", *modifiers]
    p.emit(c, ".".join([base, *modifiers, "f32"]), [p.result(c.operands[0], 4)], sources)


def three_way(p: Program, c: Call) -> None:
    between = p.allocate(4)
    p.emit(c, c.opcode, [between], p.sources(c.operands[1:3], 4))
    p.emit(c, c.opcode, [p.result(c.operands[0], 4)], [between, p.source(c.operands[3], 4)])


@translates("add", "addc", "sub", "subc", "mad", "madc", "mul")
def sum_or_product(p: Program, c: Call) -> None:
    base, kind = c.parts[0], c.parts[-1]
    if "cc" in c.parts or base.endswith("c"):
        return with_carry(p, c)
    if "wide" not in c.parts:
        return plain(p, c)
    w = width(kind)
    sources = [*p.sources(c.operands[1:3], w), *p.sources(c.operands[3:], 2 * w)]
    p.emit(c, c.opcode, [p.result(c.operands[0], 2 * w)], sources)


def with_carry(p: Program, c: Call) -> None:
    base, kind = c.parts[0], c.parts[-1]
    c.only("cc", "lo", "hi", end=-1)
    if width(kind) != 4:
        raise c.refuse("extended precision of 32 bits only")
    operation = 2 + ("hi" in c.parts) if base.startswith("mad") else int(base.startswith("sub"))
    immediates = [operation, base.endswith("c"), "cc" in c.parts, kind[0] == "s"]
    p.emit(c, "carry", [p.result(c.operands[0], 4)], p.sources(c.operands[1:], 4), immediates)


@translates("shl", "shr")
def shift(p: Program, c: Call) -> None:
    w = width(c.parts[-1])
    p.emit(c, c.opcode, [p.result(c.operands[0], w)], [p.source(c.operands[1], w), p.source(c.operands[2], 4)])


@translates("and", "or", "xor", "not")
def logic(p: Program, c: Call) -> None:
    if c.parts[-1] != "pred":
        return plain(p, c)
    p.emit(c, c.opcode, [p.result(c.operands[0], 1)], [p.predicate(o) for o in c.operands[1:]])


@translates("popc", "clz", "bfind")
def count(p: Program, c: Call) -> None:
    p.emit(c, c.opcode, [p.result(c.operands[0], 4)], [p.source(c.operands[1], width(c.parts[-1]))])


@translates("bfe", "bfi")
def bit_field(p: Program, c: Call) -> None:
    """Values of the type, then position and length."""
    w = width(c.parts[-1])
    values, field = c.operands[1:-2], c.operands[-2:]
    p.emit(c, c.opcode, [p.result(c.operands[0], w)], [*p.sources(values, w), *p.sources(field, 4)])


@translates("lop3")
def logic_of_three(p: Program, c: Call) -> None:
    p.emit(c, c.opcode, p.results(c.operands[:1], 4), p.sources(c.operands[1:4], 4), [literal(c.operands[4], 4)])


@translates("selp")
def select(p: Program, c: Call) -> None:
    w = width(c.parts[-1])
    c.only(c.parts[-1])
    sources = [*p.sources(c.operands[1:3], w), p.predicate(c.operands[3])]
    p.emit(c, f"selp.{8 * w}", [p.result(c.operands[0], w)], sources)


@translates("setp")
def compare(p: Program, c: Call) -> None:
    _, comparison, *modifiers, kind = c.parts
    connective = next((m for m in modifiers if m in CONNECTIVES), None)
    name = ".".join(["setp", comparison, *(m for m in modifiers if m not in CONNECTIVES), kind])
    results = [p.result(r.strip(), 1) for r in c.operands[0].split("|")]
    sources, negated = p.sources(c.operands[1:3], width(kind)), False
    if connective:
        negated = c.operands[3].startswith("!")
        sources.append(p.predicate(c.operands[3].lstrip("!")))
    combination = 1 + CONNECTIVES.index(connective) if connective else 0
    p.emit(c, name, results, sources, [combination, negated, len(results) == 2])


@translates("mov")
def move(p: Program, c: Call) -> None:
    to, value = c.operands
    if c.parts[-1] == "pred":
        if p.is_register(value):
            p.emit(c, "mov.pred", [p.result(to, 1)], [p.predicate(value)])
        else:
            p.emit(c, "set.pred", [p.result(to, 1)], [], [literal(value, 4) != 0])
        return
    w = width(c.parts[-1])
    if value.startswith("{"):
        parts = vector(value)
        part = w // len(parts)
        p.emit(c, f"pack.{8 * part}.{8 * w}", [p.result(to, w)], p.sources(parts, part))
    elif to.startswith("{"):
        parts = vector(to)
        part = w // len(parts)
        p.emit(c, f"unpack.{8 * part}.{8 * w}", p.results(parts, part), [p.source(value, w)])
    else:
        p.emit(c, f"mov.{8 * w}", [p.result(to, w)], [p.source(value, w)])
