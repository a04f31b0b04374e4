"""Programs of the machine: registers laid out, instructions resolved to slots, functions expanded where called."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from tests.ptx.translation.parse import Brace, Item, Label, Module, Statement, UnsupportedPTX, literal, parse, split

SHARED_BASE = 1024
SPECIAL_REGISTERS = (
    "%tid.x", "%ctaid.x", "%ctaid.y", "%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid",
)  # fmt: skip
FIXED_REGISTERS = {"%tid.y": 0, "%tid.z": 0, "%ntid.y": 1, "%ntid.z": 1}
PREDICATE = 1  # the "width" of predicates, which are masks of lanes


class Control(IntEnum):
    """How control passes on from an instruction; as in machine.h."""

    NEXT, BRANCH, EXIT, BARRIER, WARP_BARRIER, TRAP = range(6)


@dataclass
class Instruction:
    """One instruction of the machine: the operation's name in its table, slots of registers, immediates."""

    statement: Statement
    opcode: str
    operation: str
    results: list[int]
    sources: list[int]
    immediates: list[int]
    control: Control = Control.NEXT
    guard: int = -1
    negated: bool = False
    target: str | None = None
    labelled: bool = False


@dataclass
class Call:
    """One PTX instruction while it is translated."""

    statement: Statement
    opcode: str
    parts: list[str]
    operands: list[str]
    guard: tuple[int, bool]

    def refuse(self, reason: str = "") -> UnsupportedPTX:
        where = f"line {self.statement.line}: `{self.statement.text}`"
        return UnsupportedPTX(f"{where}: {reason}" if reason else where)

    def only(self, *allowed: str, start: int = 1, end: int | None = None) -> set[str]:
        """The modifiers between two places of the opcode, all of which must be among those ``allowed``."""
        modifiers = set(self.parts[start:end])
        if unknown := modifiers - set(allowed):
            raise self.refuse(f"modifier {', '.join(sorted(unknown))}")
        return modifiers


Translation = Callable[["Program", Call], None]
TRANSLATIONS: dict[str, Translation] = {}


def translates(*names: str) -> Callable[[Translation], Translation]:
    """Enter a function as the translation of instructions by the first part of their opcode."""

    def enter(function: Translation) -> Translation:
        TRANSLATIONS.update(dict.fromkeys(names, function))
        return function

    return enter


def width(kind: str) -> int:
    """Bytes of the registers that hold a value of a PTX type; 8-bit values live in 16-bit registers."""
    if kind == "pred":
        return PREDICATE
    found = re.fullmatch(r"(?:[busf]|bf|tf)(8|16|32|64)(x2)?", kind)
    if not found:
        raise ValueError(f"type {kind}")
    return max(int(found[1]) // 8, 2) * (2 if found[2] else 1)


@dataclass
class Scope:
    """Names of registers inside braces: declared one by one, or as a range of numbers after a prefix."""

    names: dict[str, tuple[int, int]] = field(default_factory=dict)  # width and slot
    ranges: list[tuple[str, int, int]] = field(default_factory=list)  # prefix, count, width


class Program:
    """A translated kernel.

    Attributes:
        instructions: of the machine, with functions expanded; ``constants``, ``specials`` and the rest lie in slots,
            which are byte offsets into the registers of a warp.
        data: contents of ``.global`` and ``.const`` variables, whose addresses ``place`` gave.
    """

    def __init__(self, ptx: str, n_threads: int, place: Callable[[bytes], int]) -> None:
        """Translate the one kernel in ``ptx``.

        Args:
            n_threads: of a block, where the kernel does not say it by ``.reqntid``.
            place: puts the contents of a variable into memory that lasts and returns its address.

        Raises:
            UnsupportedPTX: something in it is not implemented.
        """
        self.module: Module = parse(ptx)
        self.n_threads = self.module.n_threads or n_threads
        self.instructions: list[Instruction] = []
        self.constants: dict[tuple[int, int], int] = {}
        self.specials: dict[str, int] = {}
        self.register_bytes = self.local_bytes = 0
        self._sinks: dict[int, int] = {}
        self._symbols = {p.name: p.offset for p in self.module.parameters}
        for variable in self.module.variables:
            self._symbols[variable.name] = SHARED_BASE if variable.space == "shared" else place(variable.data)
        self._labels: dict[str, int] = {}
        self._scopes = [Scope()]
        self._prefix, self._calls = "", 0  # labels of an expanded function are its own
        try:
            self._translate(self.module.body)
        except UnsupportedPTX as error:
            raise UnsupportedPTX(f"{self.module.name}: {error}") from None
        for instruction in self.instructions:
            if instruction.target is not None:
                instruction.immediates = [self._labels[instruction.target]]
        for index in self._labels.values():
            if index < len(self.instructions):
                self.instructions[index].labelled = True

    # ------------------------------------------------------------ statements
    def _translate(self, body: list[Item]) -> None:
        for item in body:
            if isinstance(item, Label):
                self._labels[self._prefix + item.name] = len(self.instructions)
            elif isinstance(item, Brace):
                self._scopes.append(Scope()) if item.opens else self._scopes.pop()
            elif item.text.startswith("."):
                self._directive(item)
            else:
                self._instruction(item)

    def _directive(self, statement: Statement) -> None:
        name, _, rest = statement.text.partition(" ")
        if name == ".reg":
            kind, _, names = rest.partition(" ")
            w = width(kind[1:])
            for each in split(names):
                if found := re.fullmatch(r"(.+)<(\d+)>", each):
                    self._scopes[-1].ranges.append((found[1], int(found[2]), w))
                else:
                    self._scopes[-1].names[each] = w, self.allocate(w)
        elif name == ".local" and (found := re.fullmatch(r"(?:\.align \d+ )?\.b8 ([\w$]+)\[(\d+)\]", rest)):
            self._symbols[found[1]] = self.local_bytes
            self.local_bytes += -(-int(found[2]) // 16) * 16
        elif name == ".param" and (found := re.fullmatch(r"\.([bfus]\d+) ([\w$]+)", rest)):
            w = width(found[1])
            self._scopes[-1].names[found[2]] = w, self.allocate(w)
        elif name != ".pragma":
            raise UnsupportedPTX(f"line {statement.line}: `{statement.text}`")

    def _instruction(self, statement: Statement) -> None:
        text, guard = statement.text, (-1, False)
        if found := re.match(r"@(!?)([%\w]+)\s+(.*)", text):
            text = found[3]
        opcode, _, rest = text.partition(" ")
        call = Call(statement, opcode, opcode.split("."), split(rest), guard)
        try:
            if found:
                call.guard = self.predicate(found[2]), found[1] == "!"
            if call.parts[0] not in TRANSLATIONS:
                raise call.refuse("unknown instruction")
            TRANSLATIONS[call.parts[0]](self, call)
        except (ValueError, KeyError, IndexError) as error:
            raise call.refuse(str(error)) from error

    def emit(
        self,
        call: Call,
        operation: str,
        results: list[int] | None = None,
        sources: list[int] | None = None,
        immediates: list[int] | None = None,
        control: Control = Control.NEXT,
        target: str | None = None,
    ) -> None:
        """Append an instruction of the machine, guarded as the PTX instruction is."""
        goal = None if target is None else self._prefix + target
        slots = results or [], sources or [], [int(x) for x in immediates or []]
        self.instructions.append(
            Instruction(call.statement, call.opcode, operation, *slots, control, *call.guard, goal)
        )

    def expand(self, call: Call, name: str, results: list[str], arguments: list[str]) -> None:
        """Append the body of a function, with its parameters bound to the caller's."""
        function = self.module.functions[name]
        formal, actual = [*function.results, *function.parameters], [*results, *arguments]
        bound = {f: self._find(a) for f, a in zip(formal, actual, strict=True)}
        if None in bound.values():
            raise call.refuse("argument")
        saved = self._scopes, self._prefix
        self._calls += 1
        self._scopes, self._prefix = [Scope(dict(bound))], f"{self._prefix}{self._calls}:"
        self._translate(function.body)
        self._labels[self._prefix + "$end"] = len(self.instructions)
        self._scopes, self._prefix = saved
        self.emit(call, "nop")

    @property
    def in_function(self) -> bool:
        return bool(self._prefix)

    # ------------------------------------------------------------ operands
    def allocate(self, w: int) -> int:
        slot = self.register_bytes
        self.register_bytes += 64 if w == PREDICATE else 32 * w
        return slot

    def _find(self, name: str) -> tuple[int, int] | None:
        number = re.fullmatch(r"(%[a-zA-Z]+)(\d+)", name)
        for scope in reversed(self._scopes):
            if name in scope.names:
                return scope.names[name]
            for prefix, count, w in scope.ranges:
                if number and prefix == number[1] and int(number[2]) < count:
                    scope.names[name] = w, self.allocate(w)
                    return scope.names[name]
        return None

    def is_register(self, name: str) -> bool:
        return self._find(name) is not None

    def width_of(self, name: str, default: int) -> int:
        found = self._find(name)
        return found[0] if found else default

    def constant(self, w: int, value: int) -> int:
        key = w, value & ((1 << 8 * w) - 1)
        if key not in self.constants:
            self.constants[key] = self.allocate(w)
        return self.constants[key]

    def source(self, token: str, w: int) -> int:
        """Slot of a register, special register, address of a symbol, or constant of ``w`` bytes."""
        if found := self._find(token):
            if found[0] != w:
                raise ValueError(f"{token} has {found[0]} bytes, {w} are read")
            return found[1]
        if token.startswith("%"):
            return self._special(token, w)
        symbol = re.fullmatch(r"([\w$]+)\s*(?:\+\s*(\d+))?", token)
        if symbol and symbol[1] in self._symbols:
            return self.constant(w, self._symbols[symbol[1]] + int(symbol[2] or 0))
        return self.constant(w, literal(token, w))

    def _special(self, token: str, w: int) -> int:
        if token == "%ntid.x":
            return self.constant(w, self.n_threads)
        if token in FIXED_REGISTERS:
            return self.constant(w, FIXED_REGISTERS[token])
        if token not in SPECIAL_REGISTERS or w != 4:
            raise ValueError(f"special register {token} read as {w} bytes")
        if token not in self.specials:
            self.specials[token] = self.allocate(4)
        return self.specials[token]

    def sources(self, tokens: list[str], w: int) -> list[int]:
        return [self.source(token, w) for token in tokens]

    def predicate(self, token: str) -> int:
        found = self._find(token)
        if not found or found[0] != PREDICATE:
            raise ValueError(f"{token} is no predicate")
        return found[1]

    def result(self, token: str, w: int) -> int:
        """Slot of a register to write; ``_`` is written and forgotten."""
        if token == "_":
            if w not in self._sinks:
                self._sinks[w] = self.allocate(w)
            return self._sinks[w]
        found = self._find(token)
        if not found or found[0] != w:
            raise ValueError(f"{token} is no register of {w} bytes")
        return found[1]

    def results(self, tokens: list[str], w: int) -> list[int]:
        return [self.result(token, w) for token in tokens]

    def address(self, token: str) -> tuple[int, int, int]:
        """Slot, width and constant offset of ``[base + offset]``."""
        found = re.fullmatch(r"\[\s*([^+\s]+)\s*(?:\+\s*(-?\w+)\s*)?\]", token)
        if not found:
            raise ValueError(f"address {token}")
        base, offset = found[1], int(found[2] or "0", 0)
        if register := self._find(base):
            return register[1], register[0], offset
        value = self._symbols[base] if base in self._symbols else int(base, 0)
        return self.constant(8, value), 8, offset

    def parameter(self, token: str) -> tuple[int | None, int]:
        """Slot of a function's parameter, or None and the offset of the kernel's."""
        name, _, offset = token.strip("[] ").partition("+")
        if found := self._find(name.strip()):
            return found[1], 0
        return None, self._symbols[name.strip()] + int(offset or "0", 0)


def vector(token: str) -> list[str]:
    """The names in ``{a, b}``, or the one that stands alone."""
    return [t.strip() for t in token.strip("{} ").split(",")]
