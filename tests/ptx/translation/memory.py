"""Loads, stores, atomics, asynchronous copies, mbarriers."""

import re

from tests.ptx.translation.program import Call, Program, translates, vector, width

SPACES = ["global", "shared", "local", "generic"]
ATOMICS = ["add", "min", "max", "exch", "and", "or", "xor", "cas"]
ATOMIC_TYPES = {"u32", "u64", "s32", "s64", "f32", "f64"}
ATOMIC_HINTS = ["global", "shared", "shared::cta", "relaxed", "acquire", "release", "acq_rel", "gpu", "cta", "sys"]
HINTS = re.compile(r"volatile|relaxed|acquire|release|acq_rel|gpu|sys|cta|weak|nc|ca|cg|cs|lu|cv|wb|wt|L1::\w+|L2::\w+")
GENERIC_BASE = {"shared": 1 << 60, "local": 2 << 60, "global": 0, "const": 0, "param": 0}


def access(c: Call, kind: str) -> tuple[str, int, int]:
    """State space, number of elements and their size of ``ld`` or ``st``; hints have no effect here."""
    space, count = "generic", 1
    for part in c.parts[1:-1]:
        name = part.removesuffix("::cta")
        if name in ("global", "shared", "local", "param", "const"):
            space = name
        elif re.fullmatch(r"v[248]", part):
            count = int(part[1:])
        elif not HINTS.fullmatch(part):
            raise c.refuse(f"modifier {part}")
    bits = re.fullmatch(r"[busf](8|16|32|64)", kind)
    if not bits:
        raise c.refuse(f"type {kind}")
    return "global" if space == "const" else space, count, int(bits[1]) // 8


def check_operands(c: Call, names: list[str], count: int) -> None:
    has_policy = "L2::cache_hint" in c.parts
    if len(names) != count or len(c.operands) != 2 + has_policy:
        raise c.refuse("operands")


@translates("ld")
def load(p: Program, c: Call) -> None:
    kind, names = c.parts[-1], vector(c.operands[0])
    space, count, size = access(c, kind)
    check_operands(c, names, count)
    w = next((p.width_of(n, 0) for n in names if p.is_register(n)), max(size, 2))
    results = p.results(names, w)
    if space == "param":
        slot, offset = p.parameter(c.operands[1])
        if slot is None:
            p.emit(c, "ld.param", results, [], [offset, size, count, kind[0] == "s", w])
        else:
            p.emit(c, f"mov.{8 * w}", results, [slot])
        return
    slot, address_bytes, offset = p.address(c.operands[1])
    p.emit(c, "ld", results, [slot], [SPACES.index(space), offset, size, count, kind[0] == "s", w, address_bytes])


@translates("st")
def store(p: Program, c: Call) -> None:
    names = vector(c.operands[1])
    space, count, size = access(c, c.parts[-1])
    check_operands(c, names, count)
    w = next((p.width_of(n, 0) for n in names if p.is_register(n)), max(size, 2))
    if space == "param":
        slot, _ = p.parameter(c.operands[0])
        if slot is None:
            raise c.refuse("parameter")
        return p.emit(c, f"mov.{8 * w}", [slot], p.sources(names, w))
    slot, address_bytes, offset = p.address(c.operands[0])
    p.emit(c, "st", [], [slot, *p.sources(names, w)], [SPACES.index(space), offset, size, count, 0, w, address_bytes])


@translates("atom", "red")
def atomic(p: Program, c: Call) -> None:
    kind = c.parts[-1]
    operation = next((o for o in c.parts[1:-1] if o in ATOMICS), None)
    space = next((s.removesuffix("::cta") for s in c.parts if s.startswith(("global", "shared"))), "generic")
    c.only(*ATOMICS, *ATOMIC_HINTS, end=-1)
    operands = c.operands if c.parts[0] == "atom" else ["_", *c.operands]
    type_ = kind.replace("b", "u")
    if operation is None or type_ not in ATOMIC_TYPES or (kind[0] == "f" and operation not in ("add", "exch")):
        raise c.refuse("atomic operation")
    w = width(kind)
    slot, address_bytes, offset = p.address(operands[1])
    immediates = [SPACES.index(space), offset, w, 1, 0, w, address_bytes, ATOMICS.index(operation), operation == "cas"]
    p.emit(c, f"atom.{type_}", [p.result(operands[0], w)], [slot, *p.sources(operands[2:], w)], immediates)


@translates("cvta")
def convert_address(p: Program, c: Call) -> None:
    space = next(s for s in c.parts if s.removesuffix("::cta") in GENERIC_BASE).removesuffix("::cta")
    base = -GENERIC_BASE[space] if "to" in c.parts else GENERIC_BASE[space]
    to_bytes, source_bytes = (p.width_of(o, 8) for o in c.operands)
    results, sources = [p.result(c.operands[0], to_bytes)], [p.source(c.operands[1], source_bytes)]
    p.emit(c, "cvta", results, sources, [base, to_bytes, source_bytes])


@translates("createpolicy")
def create_policy(p: Program, c: Call) -> None:
    """A cache policy is a number that nothing here looks at."""
    p.emit(c, "mov.64", [p.result(c.operands[0], 8)], [p.constant(8, 0)])


@translates("cp")
def copy(p: Program, c: Call) -> None:
    match c.parts[1:]:
        case ["async", "commit_group"]:
            return p.emit(c, "cp.async.commit_group")
        case ["async", "wait_group"]:
            return p.emit(c, "cp.async.wait_group", immediates=[int(c.operands[0])])
        case ["async", "wait_all"]:
            return p.emit(c, "cp.async.wait_group", immediates=[-1])
        case ["async", "mbarrier", "arrive", *_]:
            c.only("noinc", "shared", "shared::cta", start=4, end=-1)
            slot, w, offset = p.address(c.operands[0])
            return p.emit(c, "cp.async.mbarrier.arrive", [], [slot], [offset, w, "noinc" in c.parts])
        case ["async", "ca" | "cg", "shared" | "shared::cta", "global", *_]:
            return asynchronous(p, c)
    raise c.refuse()


def asynchronous(p: Program, c: Call) -> None:
    if not all(hint.startswith("L2::") for hint in c.parts[5:]):
        raise c.refuse()
    operands = c.operands[:-1] if "L2::cache_hint" in c.parts else c.operands
    to, to_bytes, to_offset = p.address(operands[0])
    source, source_bytes, source_offset = p.address(operands[1])
    sources = [to, source, *p.sources(operands[3:], 4)]
    immediates = [int(operands[2], 0), to_offset, to_bytes, source_offset, source_bytes, len(operands) == 4]
    p.emit(c, "cp.async", [], sources, immediates)


@translates("mbarrier")
def barrier_object(p: Program, c: Call) -> None:
    known = ("shared", "shared::cta", "cta", "release", "acquire", "relaxed", "expect_tx", "complete_tx", "parity")
    c.only(*known, start=2, end=-1)
    operation, operands = c.parts[1], c.operands
    if operation in ("init", "inval"):
        slot, w, offset = p.address(operands[0])
        return p.emit(c, f"mbarrier.{operation}", [], [slot, *p.sources(operands[1:], 4)], [offset, w])
    if operation in ("expect_tx", "complete_tx"):
        slot, w, offset = p.address(operands[0])
        sign = 1 if operation == "expect_tx" else -1
        return p.emit(c, "mbarrier.bytes", [], [slot, p.source(operands[1], 4)], [offset, w, sign])
    if operation == "arrive":
        expects = "expect_tx" in c.parts
        slot, w, offset = p.address(operands[1])
        number = p.source(operands[2], 4) if len(operands) > 2 else p.constant(4, 1)
        return p.emit(c, "mbarrier.arrive", [p.result(operands[0], 8)], [slot, number], [offset, w, expects])
    if operation in ("test_wait", "try_wait"):
        by_parity = "parity" in c.parts
        slot, w, offset = p.address(operands[1])
        phase = p.source(operands[2], 4 if by_parity else 8)
        return p.emit(c, "mbarrier.wait", [p.result(operands[0], 1)], [slot, phase], [offset, w, by_parity])
    raise c.refuse()
