"""wgmma: descriptors, swizzles, both storage orders, operands in registers, and when results may be read.

A matrix is put into shared memory chunk by chunk as the PTX ISA draws its canonical layouts: core matrices of 8 rows of
16 bytes; with a swizzle of S bytes, rows of S bytes whose 16-byte chunks are exchanged by the row's number.
"""

import pytest
import torch

from tests.ptx.support import Run, bf16, f16, f32, run_ptx

THREADS = 128
ROW_BYTES = 8 * THREADS
SWIZZLES = {0: 0, 128: 1, 64: 2, 32: 3}  # bytes: mode in bits 62 and 63
ENCODERS = {"f16": (f16, 2), "bf16": (bf16, 2), "tf32": (f32, 4), "s8": (lambda x: int(x) & 255, 1)}
DEPTHS = {"f16": 16, "bf16": 16, "tf32": 8, "s8": 32}
A_AT, B_AT = 0, 32768  # offsets from the start of shared memory, multiples of 1024
BASE = 1024


def k_major(matrix: torch.Tensor, kind: str, swizzle: int) -> tuple[dict[int, int], int, int]:
    """Words of rows (of M or N) by K; leading and stride byte offsets."""
    encode, size = ENCODERS[kind]
    out, span = {}, swizzle or 16
    rows, depth = matrix.shape
    leading = 128 * (rows // 8) if not swizzle else 16  # not used with a swizzle, as K fits into one row
    for r in range(rows):
        for k in range(depth):
            byte = k * size
            if swizzle:
                chunk = (byte // 16) ^ (r % 8 * span // 128 % (span // 16))
                at = r // 8 * 8 * span + r % 8 * span + chunk * 16 + byte % 16
            else:
                at = byte // 16 * leading + r // 8 * 128 + r % 8 * 16 + byte % 16
            out[at] = encode(matrix[r, k].item())
    return out, leading, 8 * span


def mn_major(matrix: torch.Tensor, kind: str, swizzle: int) -> tuple[dict[int, int], int, int]:
    """The same matrix with M or N along the rows of the layout."""
    encode, size = ENCODERS[kind]
    out, span = {}, swizzle or 16
    rows, depth = matrix.shape
    atoms_along_k = depth // 8
    between_spans, between_k = 8 * span * atoms_along_k, 8 * span
    for r in range(rows):
        for k in range(depth):
            byte, line = r * size % span, k % 8
            chunk = (byte // 16) ^ (line * span // 128 % (span // 16)) if swizzle else byte // 16
            at = r * size // span * between_spans + k // 8 * between_k + line * span + chunk * 16 + byte % 16
            out[at] = encode(matrix[r, k].item())
    leading, stride = (between_spans, between_k) if swizzle else (between_k, between_spans)
    return out, leading, stride


def descriptor(at: int, leading: int, stride: int, swizzle: int) -> int:
    return (BASE + at) >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | SWIZZLES[swizzle] << 62


def image(*parts: tuple[int, dict[int, int], int]) -> list[int]:
    """64-bit words of shared memory that hold elements of a size at offsets."""
    memory = bytearray(65536)
    for at, elements, size in parts:
        for offset, word in elements.items():
            memory[at + offset : at + offset + size] = word.to_bytes(size, "little")
    return [int.from_bytes(memory[k : k + 8], "little") for k in range(0, len(memory), 8)]


FILL_SHARED = f"""mov.b32 %r270, 0;
    fill: mad.lo.u32 %r271, %r270, {ROW_BYTES}, 0; cvt.u64.u32 %d30, %r271; add.s64 %d31, %in, %d30;
    ld.global.b64 %d32, [%d31+{ROW_BYTES}]; mad.lo.u32 %r272, %i, 8, %r271; add.s32 %r272, %r272, %shared;
    st.shared.b64 [%r272], %d32; add.s32 %r270, %r270, 1; setp.lt.u32 %p9, %r270, 64; @%p9 bra fill; bar.sync 0;
    fence.proxy.async.shared::cta; wgmma.fence.sync.aligned;"""
FINISH = "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"


def wgmma(kind: str, n: int, a: str, flags: str, b: int, scale: str = "0") -> str:
    sums = ", ".join(f"%r{10 + k}" for k in range(n // 2))
    result, flags = "s32" if kind == "s8" else "f32", f", {flags}" if flags else ""
    opcode = f"wgmma.mma_async.sync.aligned.m64n{n}k{DEPTHS[kind]}.{result}.{kind}.{kind}"
    return f"{opcode} {{{sums}}}, {a}, {b}, {scale}{flags};"


def run(body: str, n: int, memory: list[int], *columns: list[int]) -> tuple[torch.Tensor, Run]:
    """D, from the registers %r10 and following of every thread."""
    results = "".join(
        f"mov.b64 %d20, {{%r{10 + 2 * k}, %r{11 + 2 * k}}}; st.global.b64 [%to+{ROW_BYTES * (k + 1)}], %d20;"
        for k in range(n // 4)
    )
    rows = [memory[k : k + THREADS] for k in range(0, len(memory), THREADS)]
    empty = [[0] * THREADS] * (3 - len(columns))
    out = run_ptx(body + results, *columns, *empty, *rows, threads=THREADS, shared_bytes=65536)
    d = torch.zeros(64, n)
    for thread in range(THREADS):
        warp, g, t = thread // 32, thread % 32 // 4, thread % 4
        for k in range(n // 4):
            low, high = torch.tensor([out.rows[k + 1][thread]], dtype=torch.uint64).view(torch.float32).tolist()
            d[16 * warp + g + 8 * (k % 2), 8 * (k // 2) + 2 * t : 8 * (k // 2) + 2 * t + 2] = torch.tensor([low, high])
    return d, out


def matrices(n: int, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return tuple(torch.randint(-9, 10, s, generator=generator).double() for s in ((64, depth), (n, depth)))


@pytest.mark.parametrize("swizzle", SWIZZLES)
@pytest.mark.parametrize(("kind", "a_order", "b_order"), [
    ("f16", k_major, k_major), ("bf16", k_major, mn_major), ("f16", mn_major, k_major), ("bf16", mn_major, mn_major),
    ("tf32", k_major, k_major), ("s8", k_major, k_major),
])  # fmt: skip
def test_layouts_in_shared_memory(kind, a_order, b_order, swizzle):
    n = 64
    a, b = matrices(n, DEPTHS[kind])
    (a_words, *a_offsets), (b_words, *b_offsets) = a_order(a, kind, swizzle), b_order(b, kind, swizzle)
    size = ENCODERS[kind][1]
    orders = f"1, 1, {int(a_order is mn_major)}, {int(b_order is mn_major)}"
    flags = {"tf32": "1, 1", "s8": ""}.get(kind, orders)
    first, second = descriptor(A_AT, *a_offsets, swizzle), descriptor(B_AT, *b_offsets, swizzle)
    body = FILL_SHARED + wgmma(kind, n, str(first), flags, second) + FINISH
    d, out = run(body, n, image((A_AT, a_words, size), (B_AT, b_words, size)))
    d = d.view(torch.int32) if kind == "s8" else d
    assert torch.equal(d.double(), a @ b.T)
    assert not out.findings


@pytest.mark.parametrize("n", [8, 24, 128])
def test_widths_signs_and_accumulation(n):
    a, b = matrices(n, 16)
    (a_words, *a_offsets), (b_words, *b_offsets) = k_major(a, "f16", 32), k_major(b, "f16", 32)
    first, second = str(descriptor(A_AT, *a_offsets, 32)), descriptor(B_AT, *b_offsets, 32)
    twice = wgmma("f16", n, first, "-1, 1, 0, 0", second) + wgmma("f16", n, first, "1, -1, 0, 0", second, "1")
    d, out = run(FILL_SHARED + twice + FINISH, n, image((A_AT, a_words, 2), (B_AT, b_words, 2)))
    assert torch.equal(d.double(), -2 * a @ b.T)
    assert not out.findings


def test_a_in_registers_and_a_predicate_that_says_whether_to_accumulate():
    a, b = matrices(16, 16)
    b_words, *offsets = k_major(b, "bf16", 128)
    columns = [[0] * THREADS, [0] * THREADS]
    for thread in range(THREADS):
        warp, g, t = thread // 32, thread % 32 // 4, thread % 4
        words = [
            bf16(a[16 * warp + g + 8 * (r % 2), 8 * (r // 2) + 2 * t + h].item()) << 16 * h
            for r in range(4)
            for h in (0, 1)
        ]
        registers = [words[2 * r] | words[2 * r + 1] for r in range(4)]
        columns[0][thread], columns[1][thread] = registers[1] << 32 | registers[0], registers[3] << 32 | registers[2]
    unpack = "mov.b64 {%r200, %r201}, %d1; mov.b64 {%r202, %r203}, %d2; setp.eq.b32 %p1, %r3, 1;"
    body = (
        FILL_SHARED
        + unpack
        + wgmma("bf16", 16, "{%r200, %r201, %r202, %r203}", "1, 1, 0", descriptor(B_AT, *offsets, 128), "%p1")
    )
    d, out = run(body + FINISH, 16, image((B_AT, b_words, 2)), *columns)
    assert torch.equal(d.double(), a @ b.T)
    assert not out.findings


def test_results_that_are_not_waited_for():
    a, b = matrices(8, 16)
    (a_words, *a_offsets), (b_words, *b_offsets) = k_major(a, "f16", 32), k_major(b, "f16", 32)
    one = wgmma("f16", 8, str(descriptor(A_AT, *a_offsets, 32)), "1, 1, 0, 0", descriptor(B_AT, *b_offsets, 32))
    memory = image((A_AT, a_words, 2), (B_AT, b_words, 2))
    for late in (
        "wgmma.commit_group.sync.aligned;",
        "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 1;",
    ):
        _, out = run(FILL_SHARED + one + late, 8, memory)
        assert out.whats() == {"use of an undefined value"}


@pytest.mark.parametrize("groups_that_stay", [0, 1])
def test_operands_that_are_overwritten_too_early(groups_that_stay):
    a, b = matrices(8, 16)
    (a_words, *a_offsets), (b_words, *b_offsets) = k_major(a, "f16", 32), k_major(b, "f16", 32)
    one = wgmma("f16", 8, str(descriptor(A_AT, *a_offsets, 32)), "1, 1, 0, 0", descriptor(B_AT, *b_offsets, 32))
    wait = f"wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned {groups_that_stay}; bar.sync 0;"
    write = "mad.lo.u32 %r271, %i, 4, %shared; st.shared.b32 [%r271], -1; wgmma.wait_group.sync.aligned 0;"
    d, out = run(FILL_SHARED + one + wait + write, 8, image((A_AT, a_words, 2), (B_AT, b_words, 2)))
    assert torch.equal(d.double(), a @ b.T)
    assert out.whats() == ({"write to bytes that a wgmma may still read"} if groups_that_stay else set())


def test_operands_that_were_never_written():
    one = wgmma("f16", 8, str(descriptor(A_AT, 16, 256, 32)), "1, 1, 0, 0", descriptor(B_AT, 16, 256, 32))
    _, out = run(one + FINISH, 8, image())
    assert out.whats() == {"use of an undefined value"}
