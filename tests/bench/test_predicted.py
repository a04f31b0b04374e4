"""Predicted times of work that is worked out by hand, and published peaks."""

import pytest

from bench.cards import CARDS, FIRST_ACCESS, LAUNCH
from bench.predicted import Work, predict, resident_blocks, terms

BY_NAME = {card.name: card for card in CARDS}
RTX_3090, A100, H100 = (BY_NAME[name] for name in ("RTX 3090", "A100", "H100"))


def work(**changes) -> Work:
    """A launch that does nothing: 82 * 12 blocks, as many as an RTX 3090 holds at once."""
    nothing = {"blocks": 984, "warps": 4, "shared_bytes": 0, "instructions": {}, "sectors": 0}
    return Work(**{**nothing, "shared_passes": 0, "tensor_bytes": 1, **changes})


@pytest.mark.parametrize(
    ("name", "float32", "half"),
    [
        ("RTX 3090", 35.6, 71),
        ("RTX 4090", 82.6, 165.2),
        ("A100", 19.5, 312),
        ("H100", 66.9, 989.4),
        ("H200", 66.9, 989.4),
    ],
)
def test_rates_are_the_published_peaks(name, float32, half):
    """TFLOP/s: NVIDIA's whitepapers, dense, half precision with float32 sums."""
    assert BY_NAME[name].float32_rate / 1e12 == pytest.approx(float32, rel=0.005)
    assert BY_NAME[name].half_rate / 1e12 == pytest.approx(half, rel=0.005)


def test_a_copy_takes_its_bytes_at_the_bandwidth():
    n = 93_600_000
    copy = work(sectors=n // 32, tensor_bytes=n)
    found = predict(copy, RTX_3090)
    assert found.seconds == pytest.approx(100e-6 + LAUNCH + FIRST_ACCESS)
    assert (found.bound, found.share) == ("memory", 1)


@pytest.mark.parametrize(
    ("changes", "bound", "cycles"),
    [
        ({"instructions": {"fp32": 984 * 64}}, "issue slots", 12 * 64 / 4),
        ({"instructions": {"control": 984 * 64}}, "issue slots", 12 * 64 / 4),
        ({"instructions": {"integer": 984 * 64}}, "integer", 12 * 64 * 32 / 64),
        ({"instructions": {"special": 984 * 64}}, "special functions", 12 * 64 * 2),
        ({"instructions": {"conversion": 984 * 64, "widening": 984 * 64}}, "conversions", 12 * 64 * 2.5),
        ({"instructions": {"shuffle": 984 * 64}}, "shuffles", 12 * 64),
        ({"shared_passes": 984 * 64}, "shared memory", 12 * 64),
        ({"sectors": 984 * 64}, "L2", 12 * 64 * 32 / 64),
        ({"matrix_flops": 984 * 5120}, "matrix unit", 12 * 5120 / 512),
        ({"matrix_flops": 984 * 5120, "matrix_type": "tf32"}, "matrix unit", 12 * 5120 / 256),
    ],
)
def test_every_part_of_a_multiprocessor_binds_at_its_rate(changes, bound, cycles):
    found = terms(work(**changes), RTX_3090)
    assert max(found, key=found.get) == bound
    assert found[bound] == pytest.approx(cycles / 1.695e9)


def test_moves_and_parameters_cost_nothing():
    assert not any(list(terms(work(instructions={"move": 999, "load parameter": 999}), RTX_3090).values())[1:])


def test_a_block_more_than_there_are_multiprocessors_takes_twice_as_long():
    full, one_more = (work(blocks=n, shared_passes=n * 1000) for n in (82, 83))
    assert terms(full, RTX_3090)["shared memory"] == pytest.approx(1000 / 1.695e9)
    assert terms(one_more, RTX_3090)["shared memory"] == pytest.approx(2000 / 1.695e9)


def test_one_warp_issues_one_instruction_a_cycle():
    found = predict(work(blocks=1, warps=1, instructions={"control": 100_000}), RTX_3090)
    assert found.bound == "few warps"
    assert found.seconds == pytest.approx(100_000 / 1.695e9 + LAUNCH + FIRST_ACCESS)


@pytest.mark.parametrize(
    ("changes", "registers", "blocks"),
    [
        ({}, 0, 12),  # 48 warps
        ({"warps": 1}, 0, 16),  # of 16 blocks at most
        ({}, 128, 4),  # 65536 / (128 * 128)
        ({}, 121, 4),  # registers are given in eights
        ({"shared_bytes": 32 << 10}, 0, 3),  # of 100 KiB, one of each block for the driver
        ({"warps": 32}, 255, 1),
    ],
)
def test_blocks_that_a_multiprocessor_holds(changes, registers, blocks):
    assert resident_blocks(work(**changes), RTX_3090, registers) == blocks


def test_short_launches_are_bound_by_their_start():
    assert predict(work(tensor_bytes=936), RTX_3090).bound == "launch > memory"


@pytest.mark.parametrize(("is_half", "share"), [(True, 0.5), (False, 989.4 / 66.9 / 2)])
def test_the_share_is_of_the_arithmetic_that_the_op_needs(is_half, share):
    flops = 132 * 4096 * 1000
    product = work(blocks=132, matrix_flops=flops, useful_flops=flops // 2, is_half=is_half)
    assert predict(product, H100).share == pytest.approx(share, rel=0.005)
