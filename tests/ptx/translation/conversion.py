"""cvt."""

from tests.ptx.translation.program import Call, Program, translates, width

TYPES = ["u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f16", "bf16", "f32", "f64"]
ROUNDINGS = ["rn", "rz", "rm", "rp"]
FLAGS = {"ftz": 1, "sat": 2, "relu": 4}
TO_INTEGER = 8
DIRECT = {
    "cvt.f32.f16", "cvt.f32.bf16", "cvt.rn.f16.f32", "cvt.rn.bf16.f32", "cvt.rn.f32.s32", "cvt.rn.f32.u32",
    "cvt.f64.f32", "cvt.rn.f32.f64", "cvt.s64.s32", "cvt.u64.u32", "cvt.u32.u64", "cvt.u32.u16", "cvt.u16.u32",
}  # fmt: skip


@translates("cvt")
def convert(p: Program, c: Call) -> None:
    *modifiers, to, source = c.parts[1:]
    if to in ("f16x2", "bf16x2"):
        return convert_pair(p, c)
    if to == "tf32":
        c.only("rna", "rn", "rz", end=-2)
        return p.emit(c, c.opcode, [p.result(c.operands[0], 4)], [p.source(c.operands[1], 4)])
    if to not in TYPES or source not in TYPES:
        raise c.refuse("type")
    to_bytes, source_bytes = (p.width_of(o, width(t)) for o, t in zip(c.operands, (to, source), strict=True))
    for kind, n in ((to, to_bytes), (source, source_bytes)):
        if n < width(kind) or (kind[0] in "fb" and n != width(kind)):
            raise c.refuse(f"{kind} in a register of {n} bytes")
    results, sources = [p.result(c.operands[0], to_bytes)], [p.source(c.operands[1], source_bytes)]
    if c.opcode in DIRECT and (to_bytes, source_bytes) == (width(to), width(source)):
        return p.emit(c, c.opcode, results, sources)
    rounding, flags = rounding_and_flags(c, modifiers)
    p.emit(c, "cvt", results, sources, [TYPES.index(to), TYPES.index(source), rounding, flags, to_bytes, source_bytes])


def rounding_and_flags(c: Call, modifiers: list[str]) -> tuple[int, int]:
    rounding, flags = 0, 0
    for modifier in modifiers:
        if modifier in FLAGS:
            flags |= FLAGS[modifier]
        elif modifier in ROUNDINGS:
            rounding = ROUNDINGS.index(modifier)
        elif modifier.endswith("i") and modifier[:-1] in ROUNDINGS:
            rounding, flags = ROUNDINGS.index(modifier[:-1]), flags | TO_INTEGER
        else:
            raise c.refuse(f"modifier {modifier}")
    return rounding, flags


def convert_pair(p: Program, c: Call) -> None:
    modifiers = c.only("rn", "rz", "relu", end=-2)
    if c.parts[-1] != "f32" or len(c.operands) != 3:
        raise c.refuse()
    mode = "rz" if "rz" in modifiers else "rn"
    sources = p.sources(c.operands[1:], 4)
    p.emit(c, f"cvt.{mode}.{c.parts[-2]}.f32", [p.result(c.operands[0], 4)], sources, ["relu" in modifiers])
