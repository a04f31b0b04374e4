"""Kernels loaded into the machine, launches on host memory, and what the checks find."""

import ctypes
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.ptx.library import library
from tests.ptx.translation.parse import UnsupportedPTX
from tests.ptx.translation.program import PREDICATE, SPECIAL_REGISTERS, Program

CHECKS = {"race": 1, "init": 2, "grace": 4, "profile": 8}
MOST_FINDINGS = 4096


class EmulationError(RuntimeError):
    """An access or a state at which a GPU would fault or hang."""


class _Record(ctypes.Structure):
    """``Finding`` of findings.h."""

    _names = ("kind", "at", "other", "thread", "other_thread", "block", "other_block")
    _fields_ = [*((n, ctypes.c_int32) for n in _names), ("count", ctypes.c_uint32), ("address", ctypes.c_uint64)]


class _Launch(ctypes.Structure):
    """``Launch`` of interface.cpp."""

    _pointers = ("parameters", "grid", "regions", "blocks", "threads", "warps", "sectors", "passes", "findings")
    _sizes = ("n_threads", "shared_bytes", "local_bytes", "checks", "n_regions", "n_blocks")
    _numbers = (*_sizes, "hardware_errors", "most_findings")
    _fields_ = [
        *((n, ctypes.c_void_p) for n in _pointers),
        ("budget", ctypes.c_uint64),
        *((n, ctypes.c_uint32) for n in _numbers),
    ]


@dataclass
class Finding:
    """What a check found at one instruction, with the first time that it did.

    Attributes:
        where, other: the instruction, and the one that it conflicts with, if any.
        block: linear index; thread: inside the block; -1 for one that is not known.
        count: bytes, lanes or accesses in which it was found.
    """

    what: str
    fatal: bool
    kernel: str
    arch: int
    where: str
    other: str
    thread: int
    other_thread: int
    block: int
    other_block: int
    address: int
    count: int

    def __str__(self) -> str:
        text = f"{self.what}: {self.kernel} (sm_{self.arch}) {self.where}, block {self.block} thread {self.thread}"
        if self.other_thread >= 0 or self.other_block >= 0 or self.other:
            block = self.block if self.other_block < 0 else self.other_block
            text += f", against block {block} thread {self.other_thread} {self.other}"
        return f"{text}, address {self.address:#x}, {self.count} times"


class Kernel:
    """A translated kernel in the machine, and how often each of its instructions ran.

    Attributes:
        threads, warps: active lanes and issued warp instructions, per instruction of ``program``.
        sectors: of global accesses moved, or wavefronts of shared accesses at best; ``passes``: over the banks, as ran;
            of cp.async, bytes read. Both are counted with the check "profile" only.
    """

    def __init__(self, name: str, ptx: str, n_threads: int) -> None:
        """Load a kernel.

        Raises:
            UnsupportedPTX: it uses what the machine does not implement.
        """
        self.name, self.ptx = name, ptx
        self.variables: list[np.ndarray] = []
        self.program = program = Program(ptx, n_threads, self._place)
        self._lib = library()
        self._handle = ctypes.c_void_p(self._load(program))
        self.threads, self.warps, self.sectors, self.passes = np.zeros((4, len(program.instructions)), np.uint64)
        self.launches, self.seconds = 0, 0.0

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._lib.ptx_free(self._handle)

    def _place(self, data: bytes) -> int:
        buffer = np.zeros(len(data) + 64, np.uint8)
        shift = -buffer.ctypes.data % 32
        buffer[shift : shift + len(data)] = np.frombuffer(data, np.uint8)
        self.variables.append(buffer)
        return buffer.ctypes.data + shift

    def _load(self, program: Program) -> int:
        rows, operands, immediates = [], [], []
        for i in program.instructions:
            n_sources = ctypes.c_int()
            entry = self._lib.ptx_entry(i.operation.encode(), ctypes.byref(n_sources))
            if not entry or n_sources.value not in (-1, len(i.sources)):
                reason = f"{n_sources.value} sources are known" if entry else f"no operation {i.operation}"
                raise UnsupportedPTX(f"{self.name}: line {i.statement.line}: `{i.statement.text}`: {reason}")
            sizes = len(i.results), len(i.results) + len(i.sources)
            places = len(operands), len(immediates)
            rows.append((entry, i.control, i.negated, i.labelled, i.guard, *sizes, *places))
            operands += [*i.results, *i.sources]
            immediates += i.immediates
        registers = np.full(program.register_bytes + 64, 0xFF, np.uint8)
        defined = np.zeros(len(registers) // 4, np.uint32)
        for (w, value), slot in program.constants.items():
            if w != PREDICATE:
                registers[slot : slot + 32 * w] = np.frombuffer(value.to_bytes(w, "little") * 32, np.uint8)
        for slot in (*program.constants.values(), *program.specials.values()):
            defined[slot // 4 : slot // 4 + 2] = 0xFFFFFFFF
        special = np.array([program.specials.get(name, -1) for name in SPECIAL_REGISTERS], np.int32)
        table, slots = np.array(rows, np.int64), np.array(operands or [0], np.int32)
        numbers = np.array(immediates or [0], np.int64)
        return self._lib.ptx_program(
            _pointer(table), len(rows), _pointer(slots), len(operands), _pointer(numbers), len(immediates),
            _pointer(registers), _pointer(defined), len(registers), _pointer(special),
        )  # fmt: skip

    def where(self, index: int) -> str:
        """Source line, line of the PTX, and text of an instruction."""
        if not 0 <= index < len(self.program.instructions):
            return ""
        statement = self.program.instructions[index].statement
        file, line = statement.source or (0, 0)
        name = Path(self.program.module.files.get(file, "?")).name
        return f"{name}:{line} (PTX line {statement.line}: `{statement.text}`)"


Argument = tuple[str, object]  # Triton's name of the type, and the value: a tensor or an address for pointers


class Emulator:
    """A machine for one target: the kernels that it has run and what its checks have found."""

    def __init__(
        self,
        arch: int,
        checks: Iterable[str] = (),
        hardware_errors: bool = False,
        budget: int = 2_000_000_000,
        most_blocks: int = 0,
    ) -> None:
        """Describe a machine.

        Args:
            arch: compute capability as Triton names it, 86 for 8.6.
            checks: some of "race" (shared memory), "grace" (global memory), "init" (undefined values), "profile"
                (sectors and bank passes are counted). Bounds and alignment are always checked.
            hardware_errors: approximate and matrix instructions err as hardware may, instead of rounding correctly.
            budget: branches that one launch may take.
            most_blocks: of a larger grid run only so many blocks, evenly spaced; results are then not complete.
        """
        self.arch, self.hardware_errors, self.budget, self.most_blocks = arch, hardware_errors, budget, most_blocks
        self.checks = sum(CHECKS[c] for c in checks)
        self.kernels: dict[tuple[str, int], Kernel] = {}
        self.findings: dict[tuple, Finding] = {}
        self.before_launch: Callable[[Kernel, Sequence[int], int, list[Argument]], None] | None = None

    def kernel(self, name: str, ptx: str, n_threads: int) -> Kernel:
        """Load a kernel, once."""
        key = ptx, n_threads
        if key not in self.kernels:
            self.kernels[key] = Kernel(name, ptx, n_threads)
        return self.kernels[key]

    def launch(self, kernel: Kernel, grid: Sequence[int], shared_bytes: int, arguments: list[Argument]) -> None:
        """Run a kernel.

        Args:
            grid: blocks along x, y and z.
            shared_bytes: of dynamic shared memory of a block.

        Raises:
            EmulationError: it did what a GPU faults on or hangs in.
        """
        if self.before_launch:
            self.before_launch(kernel, grid, shared_bytes, arguments)
        parameters, regions, kept = _pack(kernel, arguments)
        total, blocks = grid[0] * grid[1] * grid[2], np.zeros(0, np.int32)
        if 0 < self.most_blocks < total:
            blocks = np.unique(np.linspace(0, total - 1, self.most_blocks).astype(np.int32))
        grid_, records = np.array(grid, np.uint32), (_Record * MOST_FINDINGS)()
        counters = (_pointer(x) for x in (kernel.threads, kernel.warps, kernel.sectors, kernel.passes))
        program = kernel.program
        launch = _Launch(
            _pointer(parameters), _pointer(grid_), _pointer(regions), _pointer(blocks), *counters,
            ctypes.addressof(records), self.budget, program.n_threads, shared_bytes, program.local_bytes, self.checks,
            len(regions), len(blocks), self.hardware_errors, MOST_FINDINGS,
        )  # fmt: skip
        started = time.perf_counter()
        n = kernel._lib.ptx_launch(kernel._handle, ctypes.byref(launch))
        kernel.seconds += time.perf_counter() - started
        kernel.launches += 1
        del kept
        found = [self._finding(kernel, record) for record in records[:n]]
        if fatal := [str(f) for f in found if f.fatal]:
            raise EmulationError("; ".join(fatal[:3]))

    def _finding(self, kernel: Kernel, record: _Record) -> Finding:
        lib, places = kernel._lib, (kernel.where(record.at), kernel.where(record.other))
        what, fatal = lib.ptx_finding_text(record.kind).decode(), bool(lib.ptx_finding_is_fatal(record.kind))
        names = ("thread", "other_thread", "block", "other_block", "address", "count")
        finding = Finding(what, fatal, kernel.name, self.arch, *places, *(getattr(record, name) for name in names))
        known = self.findings.setdefault((finding.what, kernel.name, *places), finding)
        if known is not finding:
            known.count += finding.count
        return finding

    def take_findings(self) -> list[Finding]:
        """What has been found since this was last asked."""
        found, self.findings = list(self.findings.values()), {}
        return found


def _pointer(array: np.ndarray) -> int:
    return array.ctypes.data_as(ctypes.c_void_p)


FORMATS = {"fp32": "<f", "f32": "<f", "fp64": "<d", "f64": "<d", "fp16": "<e", "f16": "<e"}


def _pack(kernel: Kernel, arguments: list[Argument]) -> tuple[np.ndarray, np.ndarray, list]:
    """The bytes of the parameters; the storages that they point into; what must live as long as the launch."""
    parameters = kernel.program.module.parameters
    if len(arguments) != len(parameters):
        raise EmulationError(f"{kernel.name}: {len(arguments)} arguments for {len(parameters)} parameters")
    packed, kept = bytearray(kernel.program.module.parameter_bytes + 8), []
    regions: dict[int, list[int]] = {}

    def add(base: int, size: int, low: int, high: int) -> None:
        known = regions.setdefault(base, [base, size, low, high])
        known[2], known[3] = min(known[2], low), max(known[3], high)

    for (kind, value), parameter in zip(arguments, parameters, strict=True):
        if kind[0] == "*":
            if isinstance(value, torch.Tensor):
                if value.device.type != "cpu":
                    raise EmulationError(f"{kernel.name}: {parameter.name} is a tensor on {value.device}")
                storage, low = value.untyped_storage(), value.data_ptr()
                kept.append(storage)
                if value.numel():
                    last = sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
                    add(storage.data_ptr(), storage.nbytes(), low, low + (last + 1) * value.element_size())
                value = low
            data = struct.pack("<Q", value or 0)
        elif kind in FORMATS:
            data = struct.pack(FORMATS[kind], value)
        elif kind == "bf16":
            data = torch.tensor(value, dtype=torch.bfloat16).view(torch.int16).numpy().tobytes()
        elif kind[0] in "iu" and kind[1:].isdigit():
            size = max(1, int(kind[1:]) // 8)
            data = (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        else:
            raise UnsupportedPTX(f"{kernel.name}: argument of type {kind}")
        if len(data) != parameter.size:
            raise EmulationError(f"{kernel.name}: {kind} for {parameter.name} of {parameter.size} bytes")
        packed[parameter.offset : parameter.offset + len(data)] = data
    for buffer in kernel.variables:
        add(buffer.ctypes.data, buffer.nbytes, buffer.ctypes.data, buffer.ctypes.data + buffer.nbytes)
    rows = np.array(list(regions.values()), np.uint64).reshape(-1, 4)
    return np.frombuffer(bytes(packed), np.uint8), rows, kept
