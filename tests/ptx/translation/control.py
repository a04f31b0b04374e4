"""Branches, calls, barriers, fences, and the exchange between lanes."""

import re

from tests.ptx.translation.parse import literal, split
from tests.ptx.translation.program import Call, Control, Program, translates, width

SHUFFLES = ["up", "down", "bfly", "idx"]
VOTES = ["all", "any", "uni", "ballot"]


@translates("bra")
def branch(p: Program, c: Call) -> None:
    c.only("uni")
    p.emit(c, "nop", control=Control.BRANCH, target=c.operands[0])


@translates("ret", "exit")
def leave(p: Program, c: Call) -> None:
    c.only("uni")
    if p.in_function and c.parts[0] == "ret":
        p.emit(c, "nop", control=Control.BRANCH, target="$end")
    else:
        p.emit(c, "nop", control=Control.EXIT)


@translates("trap")
def trap(p: Program, c: Call) -> None:
    p.emit(c, "nop", control=Control.TRAP)


@translates("call")
def call(p: Program, c: Call) -> None:
    """The body of the function, once more for every call."""
    found = re.fullmatch(r"(?:\(([^)]*)\)\s*,\s*)?([\w$]+)\s*(?:,\s*\(([^)]*)\))?", ", ".join(c.operands))
    if not found or found[2] not in p.module.functions or c.guard[0] >= 0:
        raise c.refuse("call")
    p.expand(c, found[2], split(found[1] or ""), split(found[3] or ""))


@translates("bar", "barrier")
def barrier(p: Program, c: Call) -> None:
    if c.parts == ["bar", "warp", "sync"]:
        if literal(c.operands[0], 4) != 0xFFFFFFFF:
            raise c.refuse("barrier of a part of the warp")
        return p.emit(c, "nop", control=Control.WARP_BARRIER)
    modifiers = c.only("cta", "sync", "aligned")
    if "sync" not in modifiers or len(c.operands) > 2:
        raise c.refuse()
    threads = int(c.operands[1], 0) if len(c.operands) > 1 else -1
    p.emit(c, "nop", immediates=[int(c.operands[0], 0), threads], control=Control.BARRIER)


@translates("fence", "membar", "nanosleep")
def nothing(p: Program, c: Call) -> None:
    """Memory is seen by all at once, so fences order nothing."""
    if "cluster" in c.parts or "alias" in c.parts or "tensormap::generic" in c.parts:
        raise c.refuse()
    p.emit(c, "nop")


@translates("shfl")
def shuffle(p: Program, c: Call) -> None:
    if c.parts[1] != "sync" or c.parts[3:] != ["b32"]:
        raise c.refuse()
    value, *pair = (r.strip() for r in c.operands[0].split("|"))
    results = [p.result(value, 4), *p.results(pair, 1)]
    p.emit(c, "shfl", results, p.sources(c.operands[1:], 4), [SHUFFLES.index(c.parts[2]), len(pair)])


@translates("vote")
def vote(p: Program, c: Call) -> None:
    if c.parts[1] != "sync" or len(c.operands) != 3:
        raise c.refuse()
    mode = VOTES.index(c.parts[2])
    result = p.result(c.operands[0], 4 if c.parts[2] == "ballot" else 1)
    sources = [p.predicate(c.operands[1].lstrip("!")), p.source(c.operands[2], 4)]
    p.emit(c, "vote", [result], sources, [mode, c.operands[1].startswith("!")])


@translates("match")
def match(p: Program, c: Call) -> None:
    _, mode, _, kind = c.parts
    value, *pair = (r.strip() for r in c.operands[0].split("|"))
    sources = [p.source(c.operands[1], width(kind)), p.source(c.operands[2], 4)]
    if mode not in ("any", "all"):
        raise c.refuse()
    p.emit(c, f"match.{kind}", [p.result(value, 4), *p.results(pair, 1)], sources, [mode == "all", len(pair)])


@translates("redux")
def reduce(p: Program, c: Call) -> None:
    _, _, operation, kind = c.parts
    p.emit(c, f"redux.{operation}.{kind}", [p.result(c.operands[0], 4)], p.sources(c.operands[1:], 4))


@translates("elect")
def elect(p: Program, c: Call) -> None:
    leader, elected = (r.strip() for r in c.operands[0].split("|"))
    p.emit(c, "elect", [p.result(leader, 4), p.result(elected, 1)], p.sources(c.operands[1:], 4))


@translates("activemask")
def active_mask(p: Program, c: Call) -> None:
    p.emit(c, "activemask", [p.result(c.operands[0], 4)])
