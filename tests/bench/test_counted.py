"""What is said about launches that were counted; the committed predictions follow from the committed counts."""

import csv
from collections import Counter

import pytest
import torch

from bench import counted
from bench.cases import StaticCase
from bench.counted import ARCHITECTURES, CLASSES, OUTPUT, Launch, add_predictions, read, tensor_bytes, useful_flops
from bench.forecast import forecast_section, read_counted
from tests.ptx.counters import Counts

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the emulator runs on CPU tensors")


def launch(kernel: str, flops: int = 0, blocks: int = 4, run: int = 4, **counts) -> Launch:
    return Launch(kernel, blocks, run, 4, 0, Counts(matrix_flops=Counter({"f16": flops}), **counts), 100)


def test_tensors_count_once():
    x = torch.zeros(8, 4)
    arguments = [
        ("*fp32", x),
        ("*fp32", x),
        ("*fp16", torch.zeros(3).half()),
        ("*fp32", x[:1, :1].expand(9, 1)),
        ("i32", 7),
    ]
    assert tensor_bytes(arguments) == 8 * 4 * 4 + 6
    assert tensor_bytes([("*fp32", torch.zeros(5, 1).expand(5, 6)), ("*fp32", x.transpose(0, 1))]) == 20 + 128


def test_operations_of_a_direction_are_divided_by_what_each_launch_computes():
    sizes = {"B": 1, "H": 2, "T": 8, "D": 16, "left": 3, "right": 1}
    case = StaticCase("rel_key_attention", "", torch.float16, list, print, sizes=sizes)
    found = useful_flops([launch("_fwd", 5), launch("_bwd_dq", 300), launch("_bwd_dkv", 100), launch("_bwd_sum")], case)
    pairs, rows = 64, sum(min(i, 3) + 1 + min(7 - i, 1) for i in range(8))
    assert found[0] == 2 * 2 * 16 * (2 * pairs + rows)
    assert found[1:] == [2 * 2 * 16 * (5 * pairs + 3 * rows) * n // 400 for n in (300, 100, 0)]
    assert useful_flops([launch("_fwd", 5)], StaticCase("snake", "", torch.float16, list, print)) == [0]


def test_counts_are_scaled_to_all_blocks():
    row = counted.counted(launch("k", 6, blocks=100, run=32, warps=Counter(fp32=64), load_bytes=320, store_bytes=32))
    assert (row["blocks"], row["blocks_run"], row["fp32"], row["load_bytes"], row["integer"]) == (100, 32, 200, 1000, 0)
    assert (row["matrix_flops"], row["matrix_type"], row["tensor_bytes"]) == (19, "f16", 100)


def test_an_instruction_without_a_column_is_not_left_out():
    with pytest.raises(RuntimeError, match="k: no column for instructions of class frobnication"):
        counted.counted(launch("k", warps=Counter(frobnication=1)))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_committed_predictions_follow_from_committed_counts(arch):
    rows = read(OUTPUT / f"sm_{arch}.csv")
    with (OUTPUT / f"sm_{arch}.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    add_predictions(rows, arch)
    assert [{name: str(value) for name, value in row.items()} for row in rows] == written
    assert {"snake", "rel_attention", "residual_unit"} <= {row["op"] for row in rows}
    assert all(row["blocks_run"] <= row["blocks"] and sum(row[name] for name in CLASSES) for row in rows)


def test_the_table_has_the_worst_launch_of_each_kernel_first():
    rows = read_counted()
    text = "\n".join(forecast_section(rows, 9))
    assert "## Predicted" in text
    assert "Nothing here was measured on a GPU" in text
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(lines) == 9
    cells = [line.split("|") for line in lines]
    assert len({(kernel, case.endswith(", float32 ")) for _, kernel, case, *_ in cells}) == 9
    assert not forecast_section([], 9)
