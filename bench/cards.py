"""Published rates of the GPUs for which times are predicted. Nothing here was measured by this project.

Sources, by field:

- ``n_sm, clock, matrix_clock, bandwidth`` and peak rates: NVIDIA's architecture whitepapers of GA100 (A100,
  table 4), GA102 (RTX 3090, appendix A), AD102 (RTX 4090, appendix A) and GH100 (H100 SXM5, table 3), and the product
  pages of A100 80 GB, H100 SXM and H200 SXM for memory bandwidth. Clocks are boost clocks; GH100 has a lower one for
  its matrix units.
- ``lanes``: results a cycle and multiprocessor of 32-bit operations, table "Throughput of Native Arithmetic
  Instructions" of the CUDA C++ Programming Guide and Best Practices Guide. Packed halves are two results a lane.
  Conversions: 16 as the table has it ("all other type conversions"), 64 for widening halves.
- ``matrix``: dense floating-point operations a cycle and multiprocessor, the peak rates of the whitepapers over
  clock and number of multiprocessors; float32 sums.
- ``l2_bytes_a_cycle``: GA100's whitepaper, 5120. NVIDIA publishes none for the others: GH100's is what Luo et al.
  (arXiv 2402.13499, table 5) measured on an H800; for GA102 and AD102 only the ports bind, 64 bytes a multiprocessor.
- ``warps, blocks, shared_bytes, registers``: technical specifications per compute capability, same guide.

Checked against secondary sources, reviews and vendors' data sheets, which agree: number of multiprocessors, boost
clock, bandwidth and the peak rates of float32 and of halves with float32 sums that follow, 35.6 and 71 TFLOP/s (RTX
3090), 82.6 and 165 (RTX 4090), 19.5 and 312 (A100), 66.9 and 989 (H100, H200; its two clocks too). Halves with float32
sums run at half the rate of those with half sums on GeForce. The table of native throughputs was not at hand again in
its source.
"""

from dataclasses import dataclass

WARP = 32
SCHEDULERS = 4  # of a multiprocessor; each issues one warp instruction a cycle
SHARED_BYTES_A_CYCLE = 128  # of a multiprocessor, shared memory and L1 together: 32 banks of 4 bytes
L2_PORT_BYTES_A_CYCLE = 64  # of a multiprocessor
RESERVED_SHARED_BYTES = 1024  # of a block, by the driver
REGISTERS = 65536  # of a multiprocessor, given to warps in units of 8 a thread

LAUNCH = 0.9e-6
"""Seconds between the ends of two short kernels that a stream keeps queued, less the kernel's own: 3.8 - 2.9 us, in
"Getting Started with CUDA Graphs", NVIDIA Technical Blog, on a V100."""

FIRST_ACCESS = 0.33e-6
"""Seconds from a load to its value from DRAM, of which every kernel waits for one: 466 cycles of an A100, 479 of an
H800 (Luo et al., table 4)."""


@dataclass(frozen=True)
class Card:
    """What a GPU can do.

    Attributes:
        arch: whose code it runs; clock: Hz; bandwidth: bytes a second of DRAM.
        lanes: by class of instruction, threads served a cycle and multiprocessor.
        matrix: by type of the factors, floating-point operations a cycle and multiprocessor.
        warps, blocks, shared_bytes: most of a multiprocessor.
    """

    name: str
    arch: int
    n_sm: int
    clock: float
    bandwidth: float
    l2_bytes_a_cycle: int
    lanes: dict[str, int]
    matrix: dict[str, int]
    warps: int
    blocks: int
    shared_bytes: int
    matrix_clock: float

    @property
    def slug(self) -> str:
        return self.name.lower().replace(" ", "_")

    @property
    def float32_rate(self) -> float:
        """Operations a second, two a fused multiply-add."""
        return 2 * self.lanes["fp32"] * self.n_sm * self.clock

    @property
    def half_rate(self) -> float:
        """Operations a second of matrix units on halves, with float32 sums."""
        return self.matrix["f16"] * self.n_sm * self.matrix_clock


def lanes(fp32: int, fp16: int, fp64: int) -> dict[str, int]:
    """What differs between compute capabilities, and what does not."""
    common = {"integer": 64, "special": 16, "conversion": 16, "widening": 64, "shuffle": 32}
    return {"fp32": fp32, "fp16": fp16, "fp64": fp64, **common}


def matrix(half: int) -> dict[str, int]:
    """Halves, and TF32 at half of their rate."""
    return {"f16": half, "bf16": half, "tf32": half // 2}


GEFORCE = {"matrix": matrix(512), "warps": 48, "shared_bytes": 100 << 10}
DATA_CENTER = {"warps": 64, "blocks": 32}
HOPPER = {
    "arch": 90, "n_sm": 132, "clock": 1.98e9, "matrix_clock": 1.83e9, "l2_bytes_a_cycle": 4472,
    "lanes": lanes(128, 128, 64), "matrix": matrix(4096), "shared_bytes": 228 << 10, **DATA_CENTER,
}  # fmt: skip

CARDS = (
    Card("RTX 3090", arch=86, n_sm=82, clock=1.695e9, matrix_clock=1.695e9, bandwidth=936e9,
         l2_bytes_a_cycle=82 * L2_PORT_BYTES_A_CYCLE, lanes=lanes(128, 64, 2), blocks=16, **GEFORCE),
    Card("RTX 4090", arch=89, n_sm=128, clock=2.52e9, matrix_clock=2.52e9, bandwidth=1008e9,
         l2_bytes_a_cycle=128 * L2_PORT_BYTES_A_CYCLE, lanes=lanes(128, 64, 2), blocks=24, **GEFORCE),
    Card("A100", arch=80, n_sm=108, clock=1.41e9, matrix_clock=1.41e9, bandwidth=2039e9,
         l2_bytes_a_cycle=5120, lanes=lanes(64, 128, 32), matrix=matrix(2048), shared_bytes=164 << 10,
         **DATA_CENTER),
    Card("H100", bandwidth=3350e9, **HOPPER),
    Card("H200", bandwidth=4800e9, **HOPPER),
)  # fmt: skip
"""RTX 3090, RTX 4090, A100 SXM 80 GB, H100 SXM, H200 SXM."""
