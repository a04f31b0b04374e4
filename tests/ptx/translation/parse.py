"""PTX text to a :class:`Module`: parameters, variables, functions and the items of their bodies."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field


class UnsupportedPTX(NotImplementedError):
    """PTX that the emulator does not implement; the message names the instruction and its line."""


@dataclass(frozen=True)
class Label:
    name: str


@dataclass(frozen=True)
class Brace:
    opens: bool


@dataclass(frozen=True)
class Statement:
    """What stands before a semicolon, in single spaces; where it stands, and which line of the source it is of."""

    text: str
    line: int
    source: tuple[int, int] | None  # number of the file, line in it


Item = Label | Brace | Statement


@dataclass(frozen=True)
class Parameter:
    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Variable:
    """``.global``, ``.const`` or ``.shared``; the data are those of all elements, empty for shared memory."""

    space: str
    name: str
    data: bytes


@dataclass(frozen=True)
class Function:
    results: list[str]
    parameters: list[str]
    body: list[Item]


@dataclass
class Module:
    name: str
    parameters: list[Parameter]
    parameter_bytes: int
    n_threads: int | None  # by .reqntid
    body: list[Item]
    files: dict[int, str] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)
    functions: dict[str, Function] = field(default_factory=dict)


ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{;]*)\{")
FUNCTION = re.compile(r"\.func\s*(?:\.noinline\s*)?(?:\(([^)]*)\))?\s*([\w$]+)\s*\(([^)]*)\)\s*(?:\.\w+\s*)*\{")
VARIABLE = re.compile(
    r"\.(global|const|shared)\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?(?:\s*=\s*(\{[^}]*\}|[^;]*))?;"
)
LABEL = re.compile(r"([\w$%]+):(?!:)")


def parse(ptx: str) -> Module:
    """Parse the one entry of a PTX file.

    Raises:
        UnsupportedPTX: no entry, several, or a variable that is not understood.
    """
    text = _without_comments(re.sub(r"^[ \t]*\.loc\s+(\d+)\s+(\d+)\s+\d+.*$", r".loc \1 \2;", ptx, flags=re.MULTILINE))
    entries = list(ENTRY.finditer(text))
    if len(entries) != 1:
        raise UnsupportedPTX(f"{len(entries)} entries with parameters; the emulator runs files of one")
    entry = entries[0]
    parameters, size = _parameters(entry[2])
    threads = re.search(r"\.reqntid\s+(\d+)", entry[3])
    newlines = [m.start() for m in re.finditer("\n", text)]
    body = list(_items(text, entry.end(), newlines))
    module = Module(entry[1], parameters, size, int(threads[1]) if threads else None, body)
    module.files = {int(n): name for n, name in re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', text, re.MULTILINE)}
    module.variables = [_variable(*found) for found in VARIABLE.findall(text[: entry.start()])]
    for found in FUNCTION.finditer(text):
        names = [[p.split()[-1] for p in (group or "").split(",") if p.strip()] for group in (found[1], found[3])]
        module.functions[found[2]] = Function(*names, list(_items(text, found.end(), newlines)))
    return module


def literal(token: str, width: int) -> int:
    """Bits of a constant as a register of ``width`` bytes holds it.

    Raises:
        ValueError: the token is none.
    """
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", token) and width == 4:
        return int(token[2:], 16)
    if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", token) and width == 8:
        return int(token[2:], 16)
    if token in ("true", "false"):
        return int(token == "true")
    return int(token.rstrip("U"), 0) & ((1 << 8 * width) - 1)


def split(text: str) -> list[str]:
    """Split operands at the commas outside of braces, brackets and parentheses."""
    out, depth, current = [], 0, ""
    for c in text:
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(c, 0)
        if c == "," and not depth:
            out.append(current.strip())
            current = ""
        else:
            current += c
    return [*out, current.strip()] if current.strip() else out


def _without_comments(text: str) -> str:
    """The same lines, without what is said in them."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.DOTALL)
    return re.sub(r"//[^\n]*", "", text)


def _parameters(text: str) -> tuple[list[Parameter], int]:
    out: list[Parameter] = []
    offset = 0
    for words in (line.split() for line in text.split(",") if line.strip()):
        array = re.match(r"(.*)\[(\d+)\]$", words[-1])
        bits = re.search(r"\d+", words[1])
        if words[0] != ".param" or not bits:
            raise UnsupportedPTX(f"parameter {' '.join(words)}")
        size = int(array[2]) if array else int(bits[0]) // 8
        alignment = 64 if array else size
        offset = -(-offset // alignment) * alignment
        out.append(Parameter(array[1] if array else words[-1], offset, size))
        offset += size
    return out, offset


def _variable(space: str, kind: str, name: str, count: str, values: str) -> Variable:
    if space == "shared":
        if count:
            raise UnsupportedPTX(f"static shared memory {name}[{count}]; only that of the launch is there")
        return Variable(space, name, b"")
    size = int(kind[1:]) // 8
    numbers = [literal(v.strip(), size) for v in values.strip("{} \n").split(",") if v.strip()]
    data = b"".join(number.to_bytes(size, "little") for number in numbers)
    return Variable(space, name, data.ljust(size * int(count or 1), b"\0"))


def _items(text: str, start: int, newlines: list[int]) -> Iterator[Item]:
    """What stands between the brace that ends at ``start`` and its partner."""
    at, depth, source = start, 1, None
    while True:
        while text[at].isspace():
            at += 1
        if text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if not depth:
                return
            yield Brace(text[at] == "{")
            at += 1
        elif label := LABEL.match(text, at):
            yield Label(label[1])
            at = label.end()
        else:
            end = text.index(";", at)
            statement = " ".join(text[at:end].split())
            if statement.startswith(".loc "):
                _, file, line = statement.split()
                source = int(file), int(line)
            elif statement:
                yield Statement(statement, bisect_right(newlines, at) + 1, source)
            at = end + 1
