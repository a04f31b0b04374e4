"""Compile every kernel for real GPU targets without a GPU, and count what the machine code holds.

    python -m bench.static                 # all targets; writes bench/static/sm_86.csv and so on
    python -m bench.static --op snake --arch 86 --dry-run

Each launch of the cases in ``bench/ops`` is intercepted: Triton compiles it for the target, and
nothing runs. For sm_80, 86 and 89 Triton writes the same PTX, which is compiled once and assembled
for each. The gate fails on spilled registers, on more shared memory than a block of the card may
have, on memory-bound kernels that move most bytes by narrow accesses, and on matrix kernels without
matrix instructions.
"""

import argparse
import csv
import importlib
import os
import pkgutil
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend, sm_arch_from_capability
from triton.compiler import CompiledKernel
from triton.runtime.jit import JITFunction

from bench import ops
from bench.cases import StaticCase
from silk_fast.benchmark.rows import dtype_name

ARCHITECTURES = {80: 163, 86: 99, 89: 99, 90: 227, 120: 99}  # KiB of shared memory one block may have
FAMILIES = ((80, 86, 89), (90,), (120,))  # the PTX of a family differs in the name of the target alone
OUTPUT = Path(__file__).with_name("static")
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
COLUMNS = [
    *("op", "shape", "dtype", "kernel", "warps", "registers", "shared_bytes", "spill_bytes"),
    *("loads_16", "loads_narrow", "stores_16", "stores_narrow", "load_bytes_narrow", "store_bytes_narrow"),
    *("mma", "mufu", "instructions", "verdict"),
]
INSTRUCTION_BYTES = 16
OPCODE = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ +)?([A-Z][\w.]*)", re.MULTILINE)  # of a line of SASS
WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}  # bytes a thread, by suffix; without, 4

MOSTLY_NARROW = {
    r"snake, Silk 75 Hz, .*, _snake_fwd_kernel, loads": (
        "rows are shorter than a program, so each element gathers the constants of its channel"
    ),
    r"snake, Oobleck, .*, b?float16, _snake_bwd_kernel, stores": (
        "one thread of a program stores six sums, beside one vector of every thread"
    ),
    r"polar_istft, (same|center) .*, _overlap_add_bwd_kernel, loads": (
        "the window, for the envelope and for the frames, comes from L1; dy is one access"
    ),
    r"polar_istft, .* N=(30|50), .*, _polar_spectrum_bwd_kernel, loads": (
        "the head's rows, as for the forward kernel; the gradient of the spectrum is read 16 bytes at a time"
    ),
}
"""Memory-bound kernels of which most loads or stores, as written, are narrow, and why they may be; some are not."""

NARROW = {
    r"polar_istft, .* N=(30|50), .*, _polar_spectrum_(fwd_kernel, loads|bwd_kernel, stores)": (
        "time is contiguous in a convolution's output, and its rows of 30 or 50 frames start at no multiple of "
        "16 bytes; a warp takes 32 neighbouring frames at a time"
    ),
    r"add_harmonics, N=30, .*, _add_harmonics_fwd_kernel, .*": "as for polar_istft: a head's rows of 30 frames",
    r"glu_conv_norm_silu, .*, b?float16, _glu_conv_norm_silu_(fwd_kernel, .*|bwd_kernel, loads)": (
        "8 bytes: a thread has 4 channels, a warp 256 contiguous bytes; with 8 channels a thread the window of 31 taps "
        "alone would need 272 registers, and Silk's 128 channels would be half a warp"
    ),
    r"glu_conv_norm_silu, wav2vec2_bert, .*, _glu_conv_bwd_kernel, .*": (
        "8 bytes, 4 in half precision: a thread has 2 channels, a warp 128 contiguous bytes or more; with 4 channels "
        "window and sums of 31 taps would need 260 registers"
    ),
    r"fsq, .*, _fsq_pack_kernel, stores": (
        "the thread that adds up a group stores its int32; Silk's 19 are 76 bytes, beside 256 or 512 read in full "
        "width, and their rows start at no multiple of 16"
    ),
    r"fsq, .*, _fsq_unpack_kernel, loads": (
        "every dimension loads the int32 of its group, all but the first from L1; Silk's 19 are 76 bytes, beside 512 "
        "stored in full width"
    ),
    r"(snake, Silk|elu, EnCodec) 75 Hz, .*, _(snake|elu)_short_bwd_kernel, .*": (
        "its sums are those of whole rows, and rows of 150 elements start at no multiple of 16 bytes; a warp takes 32 "
        "neighbouring elements at a time"
    ),
    r"(snake|elu), 24 channels, .*": (
        "B * C * T is no multiple of 16, so the mask cuts the accesses of the last program; the others have none"
    ),
}
"""Memory-bound kernels whose loads or stores may all be narrow, and why."""


class StaticDriver:
    """Stands in for a GPU driver: names a target, owns no device."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.arch  # Triton caches compiled kernels per device

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling(arch: int, front_end: int | None = None) -> Iterator[list]:
    """Compile launches for ``arch`` instead of running them; yields the list of ``(name, compiled kernel)``.

    Args:
        front_end: the target that Triton compiles for, if another than the launcher is told.
    """
    from silk_fast.kernels import _launch  # not at the top: bench.checkout may have to find it first

    compiled, run, driver = [], JITFunction.run, StaticDriver(arch)

    def compile_only(self, *args, grid, warmup, **options):
        driver.arch = front_end or arch
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        driver.arch = arch
        compiled.append((self.__name__, kernel))
        return kernel

    JITFunction.run = compile_only
    _launch.DEVICES.add("cpu")
    triton.runtime.driver.set_active(driver)
    try:
        yield compiled
    finally:
        JITFunction.run = run
        _launch.DEVICES.discard("cpu")


@cache  # cases share kernels
def assemble(kernel: CompiledKernel, arch: int) -> bytes:
    """Machine code for ``arch`` of a kernel that may be compiled for another target of its family."""
    if kernel.metadata.target.arch == arch:
        return kernel.asm["cubin"]
    ptx = re.sub(r"^\.target sm_\d+", f".target sm_{arch}", kernel.asm["ptx"], flags=re.MULTILINE)
    return CUDABackend(GPUTarget("cuda", arch, 32)).make_cubin(ptx, None, kernel.metadata, arch)


def width(opcode: str) -> int:
    """Bytes that a thread moves by an access to global memory."""
    return next((WIDTHS[part] for part in opcode.split(".") if part in WIDTHS), 4)


def run_tool(name: str, option: str, content: bytes) -> str:
    """Print what one of the tools that come with Triton says about a file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        command = [TOOLS / name, *option.split(), file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def instructions(cubin: bytes) -> bytes:
    """The section of an ELF file of one kernel that holds its code."""
    (headers,) = struct.unpack_from("<Q", cubin, 0x28)
    size, n_sections, i_names = struct.unpack_from("<3H", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, headers + i * size) for i in range(n_sections)]
    names = sections[i_names][4]
    (code,) = [(start, n) for name, *_, start, n in sections if cubin.startswith(b".text.", names + name)]
    return cubin[code[0] : sum(code)]


def disassemble(cubins: Sequence[bytes], arch: int) -> list[list[str]]:
    """Opcodes of every kernel. One call serves all: to start takes the disassembler as long as ten kernels do."""
    codes = [instructions(cubin) for cubin in cubins]
    target = sm_arch_from_capability(arch).replace("sm_", "SM")
    sass = run_tool("nvdisasm", f"--binary {target}", b"".join(codes))
    opcodes = iter(OPCODE.findall(sass))
    kernels = [list(islice(opcodes, len(code) // INSTRUCTION_BYTES)) for code in codes]
    if sum(map(len, kernels)) * INSTRUCTION_BYTES != sum(map(len, codes)) or next(opcodes, None):
        raise RuntimeError(f"nvdisasm for {target} printed another number of instructions than there are")
    return kernels


def count(cubin: bytes, opcodes: Sequence[str]) -> dict[str, int]:
    """Registers, spills and instruction counts of one kernel."""
    usage = run_tool("cuobjdump", "--dump-resource-usage", cubin)
    counts = {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    loads = [width(o) for o in opcodes if re.match(r"(LDG|LDGSTS)\b", o)]
    stores = [width(o) for o in opcodes if re.match(r"STG\b", o)]
    bulk_copies = [o for o in opcodes if re.match(r"UTMALDG|UTMASTG|UBLKCP", o)]
    return {
        "registers": counts["REG"],
        "spill_bytes": counts["STACK"] + counts["LOCAL"],
        "loads_16": loads.count(16) + len(bulk_copies),
        "loads_narrow": len(loads) - loads.count(16),
        "stores_16": stores.count(16),
        "stores_narrow": len(stores) - stores.count(16),
        "load_bytes_narrow": sum(n for n in loads if n < 16),
        "store_bytes_narrow": sum(n for n in stores if n < 16),
        "mma": sum(bool(re.match(r"(HMMA|HGMMA|QMMA|IMMA|UTCHMMA)\b", o)) for o in opcodes),
        "mufu": sum(o.startswith("MUFU") for o in opcodes),
        "instructions": len(opcodes),
    }


def judge(row: dict, case: StaticCase, arch: int) -> str:
    """``ok``, or what is wrong with the kernel."""
    faults = []
    if row["spill_bytes"]:
        faults.append(f"spills {row['spill_bytes']} bytes")
    if row["shared_bytes"] > ARCHITECTURES[arch] * 1024:
        faults.append(f"needs {row['shared_bytes']} bytes of shared memory, sm_{arch} has {ARCHITECTURES[arch]} KiB")
    if row["kernel"] in case.wide:
        faults += narrow_accesses(row, row["kernel"] in case.tensor_cores)
    if row["kernel"] in case.tensor_cores and not row["mma"]:
        faults.append("no matrix instructions")
    return "; ".join(faults) or "ok"


def narrow_accesses(row: dict, is_matrix_kernel: bool) -> list[str]:
    """Faults of a memory-bound kernel: half of the bytes, of loads and of stores, must move 16 at a time.

    Of a matrix kernel, whose operands are few instructions beside those for vectors of parameters, and of those
    in ``MOSTLY_NARROW``, some suffice.
    """
    faults = []
    for kind in ("loads", "stores"):
        wide, narrow = 16 * row[f"{kind}_16"], row[f"{kind[:-1]}_bytes_narrow"]
        some_suffice = is_matrix_kernel or is_excused(row, kind, MOSTLY_NARROW)
        if (not wide or (wide < narrow and not some_suffice)) and not is_excused(row, kind, NARROW):
            faults.append(f"{wide} bytes of {kind} 16 at a time, {narrow} narrower")
    return faults


def is_excused(row: dict, kind: str, excuses: dict[str, str]) -> bool:
    """Whether a pattern of ``excuses`` names the ``kind`` of accesses, loads or stores, of a kernel."""
    name = ", ".join([row["op"], row["shape"], row["dtype"], row["kernel"], kind])
    return any(re.fullmatch(pattern, name) for pattern in excuses)


def kernels_of(case: StaticCase, arch: int, front_end: int) -> list[tuple[str, CompiledKernel]]:
    """Name and kernel of each distinct kernel that the case launches."""
    with compiling(arch, front_end) as compiled:
        case.run()
    if not compiled:
        raise RuntimeError(f"{case.op} {case.shape} launched no kernel")
    return list({kernel.hash: (name, kernel) for name, kernel in compiled}.values())


def inspect_cases(cases: Sequence[StaticCase], arch: int, front_end: int) -> list[dict]:
    """One row per distinct kernel of every case."""
    launched = [(case, *each) for case in cases for each in kernels_of(case, arch, front_end)]
    cubins = [assemble(kernel, arch) for _, _, kernel in launched]
    rows = []
    for (case, name, kernel), cubin, opcodes in zip(launched, cubins, disassemble(cubins, arch), strict=True):
        row = {"op": case.op, "shape": case.shape, "dtype": dtype_name(case.dtype), "kernel": name}
        row |= {"warps": kernel.metadata.num_warps, "shared_bytes": kernel.metadata.shared}
        row |= count(cubin, opcodes)
        rows.append({**row, "verdict": judge(row, case, arch)})
    return rows


OPS = sorted(module.name for module in pkgutil.iter_modules(ops.__path__))


def static_cases(op: str) -> list[StaticCase]:
    """Every case of one file in ``bench/ops``."""
    return importlib.import_module(f"bench.ops.{op}").static_cases()


def inspect(op: str, architectures: Sequence[int]) -> dict[int, list[dict]]:
    """Rows of all cases of one op, by target; the targets are of one family."""
    torch.set_num_threads(1)
    front_end, cases = architectures[0], static_cases(op)
    return {arch: inspect_cases(cases, arch, front_end) for arch in architectures}


def write(arch: int, rows: list[dict]) -> None:
    """Write ``bench/static/sm_<arch>.csv``."""
    with (OUTPUT / f"sm_{arch}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compile every kernel for GPU targets and count what it costs.")
    parser.add_argument("--arch", type=int, choices=ARCHITECTURES, nargs="*", default=list(ARCHITECTURES))
    parser.add_argument("--op", choices=OPS, help="one file of bench/ops")
    parser.add_argument("--dry-run", action="store_true", help="write no CSV")
    arguments = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("unset TRITON_INTERPRET: interpreted kernels cannot be compiled")
    families = [f for family in FAMILIES if (f := [arch for arch in family if arch in arguments.arch])]
    wanted = [arguments.op] if arguments.op else OPS
    results: dict[int, list[dict]] = {arch: [] for arch in sorted(arguments.arch)}
    with ProcessPoolExecutor() as pool:
        jobs = [pool.submit(inspect, op, family) for op in wanted for family in families]
        for job in jobs:
            for arch, rows in job.result().items():
                results[arch] += rows
    for arch, rows in results.items():
        if not arguments.dry_run and not arguments.op:
            write(arch, rows)
        bad = [row for row in rows if row["verdict"] != "ok"]
        for row in rows if arguments.op else bad:
            print(f"sm_{arch} " + " ".join(f"{name}={row[name]}" for name in COLUMNS))
        print(f"sm_{arch}: {len(rows)} kernels, {len(bad)} bad")
    return int(any(row["verdict"] != "ok" for rows in results.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
