"""Run every kernel in the emulator, count what it does, and predict from that how long cards would take.

    python -m bench.counted                # sm_86, sm_90, sm_120; writes bench/counted/sm_86.csv and so on
    python -m bench.counted --op snake --arch 86

The cases are those of ``bench.static``, forward and backward, on random inputs. Of a launch of more than 64 blocks 32
run, or 252 where they do little, evenly spaced, the first and the last among them, and counts are scaled to all; what
those left out should have written is whatever memory held. sm_80, sm_86 and sm_89 have the same PTX but for its header,
so sm_86 is counted for all three. Times are predictions by ``bench/predicted.py``; nothing was measured on a GPU.
"""

import argparse
import csv
import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import static
from bench.cards import CARDS
from bench.cases import StaticCase, kernels
from bench.predicted import Work, predict
from silk_fast.benchmark.costs import op_cost
from silk_fast.benchmark.rows import dtype_name
from tests.ptx.counters import Counts, count
from tests.ptx.driver import install
from tests.ptx.emulator import Argument, Emulator, Kernel
from tests.ptx.plugin import accept_cpu_tensors

OUTPUT = Path(__file__).with_name("counted")
ARCHITECTURES = {arch: family for family in static.FAMILIES for arch in family if arch in (86, 90, 120)}
SMALL = 64  # blocks of a launch up to which all run
SAMPLE, LARGE_SAMPLE = 32, 252  # blocks that run of others; 31 and 251 steps meet every phase of what repeats
LITTLE = 1_000_000  # warp instructions of a sample, up to which the large one runs
CLASSES = (
    *("fp32", "fp16", "fp64", "integer", "special", "conversion", "widening", "move", "shuffle", "control", "barrier"),
    *("matrix", "matrix load", "matrix store", "load global", "store global", "load shared", "store shared", "copy"),
    *("atomic", "load parameter"),
)
COUNTED = (
    *("op", "shape", "dtype", "kernel", "launches", "blocks", "blocks_run", "warps", "shared_bytes", *CLASSES),
    *("load_bytes", "load_sectors", "store_bytes", "store_sectors", "shared_passes", "shared_passes_at_best"),
    *("matrix_flops", "matrix_type", "useful_flops", "tensor_bytes"),
)


@dataclass
class Launch:
    """One launch: blocks of the grid and how many of them ran, counts of those, bytes of all tensors, each once."""

    kernel: str
    blocks: int
    blocks_run: int
    warps: int
    shared_bytes: int
    counts: Counts
    tensor_bytes: int

    def whole(self, n: int) -> int:
        """A count of the blocks that ran, scaled to all."""
        return round(n * self.blocks / self.blocks_run)


class Counting(Emulator):
    """An emulator that keeps what each launch did."""

    def __init__(self, arch: int) -> None:
        super().__init__(arch, ["profile"])
        self.launches: list[Launch] = []

    def launch(self, kernel: Kernel, grid: Sequence[int], shared_bytes: int, arguments: list[Argument]) -> None:
        blocks = grid[0] * grid[1] * grid[2]
        for sample in (SAMPLE, LARGE_SAMPLE):
            for counters in (kernel.threads, kernel.warps, kernel.sectors, kernel.passes):
                counters[:] = 0
            self.most_blocks = sample if blocks > SMALL else 0
            super().launch(kernel, grid, shared_bytes, arguments)
            if blocks <= SMALL or kernel.warps.sum() > LITTLE:
                break
        warps, run = kernel.program.n_threads // 32, min(blocks, self.most_blocks or blocks)
        row = Launch(kernel.name, blocks, run, warps, shared_bytes, count(kernel), tensor_bytes(arguments))
        self.launches.append(row)


def tensor_bytes(arguments: Sequence[Argument]) -> int:
    """Bytes of all tensors; one that is passed twice, or that repeats itself along an axis, counts once."""
    sizes: dict[int, int] = {}
    for _, x in arguments:
        if isinstance(x, torch.Tensor):
            extents = [n for n, stride in zip(x.shape, x.stride(), strict=True) if stride]
            size = torch.Size(extents).numel() * x.element_size()
            sizes[x.data_ptr()] = max(sizes.get(x.data_ptr(), 0), size)
    return sum(sizes.values())


def useful_flops(launches: Sequence[Launch], case: StaticCase) -> list[int]:
    """Operations by formula, divided over the launches of a direction by the products that each computes."""
    if case.sizes is None:
        return [0] * len(launches)
    is_backward = ["_bwd" in launch.kernel for launch in launches]
    done = [
        launch.whole(sum(launch.counts.matrix_flops.values()) or launch.counts.threads["fp32"]) for launch in launches
    ]
    totals = Counter({False: 0, True: 0})
    for direction, n in zip(is_backward, done, strict=True):
        totals[direction] += n
    costs = {d: op_cost(case.op, "backward" if d else "forward", case.dtype, **case.sizes).flops for d in totals}
    return [round(costs[d] * n / totals[d]) if n else 0 for d, n in zip(is_backward, done, strict=True)]


def count_case(case: StaticCase, machine: Counting) -> list[dict]:
    """One row per launch of the case; launches that did the same are one."""
    machine.launches.clear()
    case.run()
    if not machine.launches:
        raise RuntimeError(f"{case.op} {case.shape} launched no kernel")
    rows: dict[tuple, dict] = {}
    for launch, useful in zip(machine.launches, useful_flops(machine.launches, case), strict=True):
        row = {"op": case.op, "shape": case.shape, "dtype": dtype_name(case.dtype), **counted(launch)}
        row["useful_flops"] = useful
        known = rows.setdefault(tuple(row.values()), {**row, "launches": 0})
        known["launches"] += 1
    return [{name: row[name] for name in COUNTED} for row in rows.values()]


def counted(launch: Launch) -> dict:
    """The columns of a launch, scaled to all of its blocks."""
    counts = launch.counts
    if unknown := set(counts.warps) - set(CLASSES):
        raise RuntimeError(f"{launch.kernel}: no column for instructions of class {', '.join(sorted(unknown))}")
    names = ("load_bytes", "load_sectors", "store_bytes", "store_sectors", "shared_passes", "shared_passes_at_best")
    sums = {name: launch.whole(getattr(counts, name)) for name in names}
    if len(counts.matrix_flops) > 1:
        raise RuntimeError(f"{launch.kernel}: matrix instructions of several types: {', '.join(counts.matrix_flops)}")
    ((factor, flops),) = counts.matrix_flops.items() or {"": 0}.items()
    return {
        **{name: getattr(launch, name) for name in ("kernel", "blocks", "blocks_run", "warps", "shared_bytes")},
        **{name: launch.whole(counts.warps[name]) for name in CLASSES},
        **sums,
        "matrix_flops": launch.whole(flops),
        "matrix_type": factor,
        "tensor_bytes": min(launch.tensor_bytes, sums["load_bytes"] + sums["store_bytes"]),
    }


def work(row: dict) -> Work:
    """What the model needs of a row."""
    names = ("blocks", "warps", "shared_bytes", "shared_passes", "tensor_bytes")
    return Work(
        **{name: row[name] for name in (*names, "matrix_flops", "matrix_type", "useful_flops")},
        instructions={name: row[name] for name in CLASSES},
        sectors=row["load_sectors"] + row["store_sectors"],
        is_half=row["dtype"] != "float32",
    )


def registers(arch: int) -> dict[tuple, int]:
    """Registers of a thread, by op, shape, dtype and kernel, as ``bench.static`` found them."""
    path = static.OUTPUT / f"sm_{arch}.csv"
    found: dict[tuple, int] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            key = row["op"], row["shape"], row["dtype"], row["kernel"]
            found[key] = max(found.get(key, 0), int(row["registers"]))
    return found


def add_predictions(rows: Sequence[dict], arch: int) -> None:
    """Add time, bound and share for every card that runs the code; unknown registers do not limit."""
    for card in [card for card in CARDS if card.arch in ARCHITECTURES[arch]]:
        known = registers(card.arch)
        for row in rows:
            key = row["op"], row["shape"], row["dtype"], row["kernel"]
            found = predict(work(row), card, known.get(key, 0))
            row[f"predicted_{card.slug}_us"] = f"{found.seconds * 1e6:.3g}"
            row[f"predicted_{card.slug}_bound"] = found.bound
            row[f"predicted_{card.slug}_share"] = f"{found.share:.3f}"


def read(path: Path) -> list[dict]:
    """The counted columns of a file."""
    texts = ("op", "shape", "dtype", "kernel", "matrix_type")
    with path.open(newline="") as file:
        return [{k: row[k] if k in texts else int(row[k]) for k in COUNTED} for row in csv.DictReader(file)]


def write(rows: Sequence[dict], arch: int) -> None:
    """Write ``bench/counted/sm_<arch>.csv``: the rows, with predictions."""
    OUTPUT.mkdir(exist_ok=True)
    add_predictions(rows, arch)
    with (OUTPUT / f"sm_{arch}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def count_architecture(arch: int, op: str | None) -> list[dict]:
    """Count all cases, or those of one op, on one target."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kernels()
    machine = Counting(arch)
    install(machine)
    accept_cpu_tensors()
    cases = [case for name in ([op] if op else static.OPS) for case in static.static_cases(name)]
    return [row for case in cases for row in count_case(case, machine)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Count what every kernel does, and predict how long it takes.")
    parser.add_argument("--arch", type=int, choices=ARCHITECTURES, nargs="*", default=list(ARCHITECTURES))
    parser.add_argument(
        "--op", choices=static.OPS, help="one file of bench/ops: its launches are printed, and no file is written"
    )
    parser.add_argument("--predict", action="store_true", help="run nothing: predict from the counts that there are")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time (default: 1)")
    arguments = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("unset TRITON_INTERPRET: interpreted kernels cannot be compiled")
    if arguments.predict:
        for arch in arguments.arch:
            write(read(OUTPUT / f"sm_{arch}.csv"), arch)
        return 0
    with ProcessPoolExecutor(arguments.jobs, max_tasks_per_child=1) as pool:
        jobs = {arch: pool.submit(count_architecture, arch, arguments.op) for arch in arguments.arch}
        for arch, job in jobs.items():
            rows = job.result()
            if arguments.op is None:
                write(rows, arch)
            else:
                add_predictions(rows, arch)
                for row in rows:
                    print(f"sm_{arch} " + " ".join(f"{name}={value}" for name, value in row.items()))
            print(f"sm_{arch}: {len(rows)} launches")
    return 0


if __name__ == "__main__":
    sys.exit(main())
