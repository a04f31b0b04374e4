"""Hand-written PTX run by the emulator, and numbers worked out exactly, in fractions."""

import math
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from tests.ptx import gpu
from tests.ptx.emulator import Emulator, Finding, Kernel

CHECKS = ("race", "init", "grace", "profile")
THREADS = 32
UNSPECIFIED = re.compile(
    r"approx|\.full\.|atom\.\w+\.exch|atom\.\w+\.add|elect"
)  # errors, the order of lanes, a choice
OUTPUT_ROWS = 40

# Thread i of all reads its words of the first three rows of inputs, the third of which %in points to, and writes %out
# to the first row of outputs, which %to points to; rows are %offset bytes apart. %shared is where shared memory begins.
HEAD = """.version 8.7
.target {target}
.address_size 64
.extern .shared .align 1024 .b8 shared_memory[];
{variables}
.visible .entry kernel(.param .u64 inputs, .param .u64 outputs, .param .u32 n)
.reqntid {threads}
{{
.reg .pred %p<20>; .reg .b16 %h<20>; .reg .b32 %r<300>; .reg .b64 %d<40>;
.reg .b32 %i, %n, %block, %shared; .reg .b64 %in, %to, %out, %offset;
ld.param.b64 %in, [inputs]; ld.param.b64 %to, [outputs]; ld.param.b32 %n, [n];
mov.u32 %i, %tid.x; mov.u32 %block, %ctaid.x; mad.lo.u32 %i, %block, {threads}, %i;
mul.wide.u32 %offset, %i, 8; add.s64 %in, %in, %offset; add.s64 %to, %to, %offset;
mul.wide.u32 %offset, %n, 8; mov.b32 %shared, shared_memory;
ld.global.b64 %d1, [%in]; add.s64 %in, %in, %offset;
ld.global.b64 %d2, [%in]; add.s64 %in, %in, %offset;
ld.global.b64 %d3, [%in];
cvt.u32.u64 %r1, %d1; cvt.u32.u64 %r2, %d2; cvt.u32.u64 %r3, %d3;
cvt.u16.u32 %h1, %r1; cvt.u16.u32 %h2, %r2; cvt.u16.u32 %h3, %r3;
mov.b64 %out, 0;
"""
TAIL = "\nst.global.b64 [%to], %out;\nret;\n}\n"


@dataclass
class Run:
    """What came of a launch: 64-bit words, a row of one for each thread; findings; the kernel with its counters."""

    rows: list[list[int]]
    findings: list[Finding]
    kernel: Kernel

    @property
    def out(self) -> list[int]:
        return self.rows[0]

    def whats(self) -> set[str]:
        return {f.what for f in self.findings}


def run_ptx(
    body: str,
    *columns: Sequence[int],
    threads: int = THREADS,
    n: int | None = None,
    shared_bytes: int = 16384,
    variables: str = "",
    checks: Iterable[str] = CHECKS,
    blocks: int | None = None,
    hardware_errors: bool = False,
    target: str = "sm_90a",
    on_gpu: bool = True,
) -> Run:
    """Run a body between HEAD and TAIL; thread i finds element i of column k in %dk, %rk and %hk, if k is 1, 2 or 3.

    Args:
        columns: 64-bit words; missing ones are 0.
        threads: of a block; n: of all together, by default as many as there are words.
        shared_bytes: of dynamic shared memory; variables: PTX in front of the kernel.
        blocks: how many run, if not all.
        on_gpu: whether PTX defines every bit of what comes out.

    Where a GPU of sm_90 is at hand, nothing was found and PTX defines the result, it must compute the same bits.

    Raises:
        EmulationError: a finding was fatal.
    """
    n = n or max([threads, *map(len, columns)])
    n = -(-n // threads) * threads
    inputs = torch.zeros(max(3, len(columns)), n, dtype=torch.int64)
    for row, column in zip(inputs, columns, strict=False):
        row[: len(column)] = torch.tensor([signed(x) for x in column])
    outputs = torch.zeros(OUTPUT_ROWS, n, dtype=torch.int64)
    emulator = Emulator(90, checks, hardware_errors)
    ptx = HEAD.format(threads=threads, variables=variables, target=target) + body + TAIL
    kernel, grid = emulator.kernel("kernel", ptx, threads), (blocks or n // threads, 1, 1)
    before = inputs.clone(), outputs.clone()
    emulator.launch(kernel, grid, shared_bytes, [("*i64", inputs), ("*i64", outputs), ("i32", n)])
    findings = emulator.take_findings()
    if on_gpu and not findings and {"race", "init"} <= set(checks) and not UNSPECIFIED.search(body):
        compare_with_gpu(ptx, grid, threads, shared_bytes, [x.clone() for x in before], n, outputs)
    return Run([[x & (1 << 64) - 1 for x in row] for row in outputs.tolist()], findings, kernel)


def compare_with_gpu(
    ptx: str, grid: tuple, threads: int, shared_bytes: int, tensors: list[torch.Tensor], n: int, expected: torch.Tensor
) -> None:
    """Where a GPU of sm_90 is at hand: its outputs are those expected, but for payloads of NaN in double precision."""
    if not gpu.is_there((9, 0)) or ".target sm_90a" not in ptx:
        return
    inputs, outputs = (tensor.cuda() for tensor in tensors)
    gpu.launch(ptx, grid, threads, shared_bytes, [inputs, outputs, n])
    ours, theirs = expected, outputs.cpu()
    both_nan = (
        ours.view(torch.float64).isnan() & theirs.view(torch.float64).isnan() if ".f64" in ptx else ours == theirs
    )
    different = (ours != theirs) & ~both_nan
    assert not different.any(), f"{int(different.sum())} words differ from the GPU's:\n{ptx}"


def evaluate(instruction: str, *columns: Sequence[int], **options) -> list[int]:
    """Results of one instruction of registers %h1, %r1, %d1, ... into %h0, %r0, %d0 or %p0, without any finding."""
    destination = re.search(r"%([hrdp])0", instruction)[1]
    store = {"h": "cvt.u64.u16 %out, %h0;", "r": "cvt.u64.u32 %out, %r0;", "d": "mov.b64 %out, %d0;"}
    store["p"] = "selp.b64 %out, 1, 0, %p0;"
    run = run_ptx(instruction + store[destination], *columns, **options)
    assert not run.findings, "\n".join(map(str, run.findings))
    return run.out[: len(columns[0])]


def signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 & 1 else word


def lanes(value) -> list[int]:
    """One value for each lane of a warp."""
    return [value(lane) for lane in range(THREADS)]


# ---------------------------------------------------------------- formats
@dataclass(frozen=True)
class Format:
    """A binary floating-point format."""

    bits: int
    fraction: int

    @property
    def bias(self) -> int:
        return (1 << self.bits - self.fraction - 2) - 1

    @property
    def infinity(self) -> int:
        return ((1 << self.bits - self.fraction - 1) - 1) << self.fraction

    @property
    def sign(self) -> int:
        return 1 << self.bits - 1

    def value(self, word: int) -> Fraction | float:
        """The number that a word stands for; infinities and NaN as floats, -0 as float too."""
        magnitude = word & (self.sign - 1)
        factor = -1 if word & self.sign else 1
        if magnitude > self.infinity:
            return math.nan
        if magnitude == self.infinity:
            return factor * math.inf
        if magnitude == 0:
            return math.copysign(0.0, factor)
        exponent = max(magnitude >> self.fraction, 1)
        digits = magnitude - (((exponent - 1) << self.fraction) if magnitude >> self.fraction else 0)
        return factor * Fraction(digits) * Fraction(2) ** (exponent - self.bias - self.fraction)

    def round(self, x: Fraction, mode: str = "rn", zero: int = 0) -> int:
        """The word that a number rounds to; ``zero`` is the word for 0."""
        if x == 0:
            return zero
        sign, x = (self.sign, -x) if x < 0 else (0, x)
        exponent = max(x.numerator.bit_length() - x.denominator.bit_length() - 1, -self.bias)
        while x >= Fraction(2) ** (exponent + 1):
            exponent += 1
        exponent = max(exponent, 1 - self.bias)
        scaled = x / Fraction(2) ** (exponent - self.fraction)
        whole = scaled.numerator // scaled.denominator
        rest = scaled - whole
        up = {"rz": False, "rm": bool(sign) and rest > 0, "rp": not sign and rest > 0}
        up["rn"] = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1)
        word = ((exponent + self.bias - 1) << self.fraction) + whole + up[mode]
        if word >= self.infinity:
            stays = mode == "rz" or (mode == "rm" and not sign) or (mode == "rp" and bool(sign))
            word = self.infinity - stays
        return sign | word

    def samples(self, n: int, seed: int) -> list[int]:
        """Random words: of all kinds, of like exponents, and special ones."""
        generator = torch.Generator().manual_seed(seed)
        any_word = torch.randint(0, 1 << 62, (n,), generator=generator).tolist()
        unit = 1 << self.fraction
        near = [(self.bias + x % 9 - 4) * unit | (x >> 8) % unit | (x >> 61 & 1) * self.sign for x in any_word]
        special = [
            0,
            1,
            2,
            unit - 1,
            unit,
            self.bias * unit,
            self.infinity - 1,
            self.infinity,
            self.infinity + unit // 2,
        ]
        words = [x % (1 << self.bits) for x in any_word[: n // 3]] + near[: n // 2]
        words += special + [s | self.sign for s in special]
        order = torch.randperm(len(words), generator=generator).tolist()
        return [words[k] for k in order][:n]


F16, BF16, F32, F64 = Format(16, 10), Format(16, 7), Format(32, 23), Format(64, 52)


def f32(x: float) -> int:
    return struct.unpack("<I", struct.pack("<f", x))[0]


def f64(x: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def f16(x: float) -> int:
    return struct.unpack("<H", struct.pack("<e", x))[0]


def bf16(x: float) -> int:
    return BF16.round(Fraction(x)) if math.isfinite(x) else f32(x) >> 16
