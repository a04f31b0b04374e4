"""Launches that were recorded, here in the emulator itself, and are run again."""

import sys

import pytest
import torch

from tests.ptx import compare
from tests.ptx.emulator import Emulator

EXACT, OPEN = "fsq_unpack", "rel_attention"  # kernels of defined bits alone; matrix products, approximations


@pytest.fixture
def launches(machine):
    """Recorded with new memory filled, or it might hold the results of an earlier call already."""
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    try:
        return compare.record([EXACT, OPEN], [torch.float16])
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_same_machine_gives_the_same_bits(machine, launches, tmp_path):
    torch.save(launches, tmp_path / "launches.pt")
    read = torch.load(tmp_path / "launches.pt", weights_only=False)
    assert len(read) == 5
    assert len({launch.kernel for launch in read}) == 5
    assert not compare.replay(read, machine)


@pytest.mark.parametrize("call", [EXACT, OPEN])
def test_another_result_is_found_where_bits_are_defined_and_where_it_is_far_off(machine, launches, call):
    launch = next(launch for launch in launches if launch.call.startswith(call))
    changed = [
        (i, x)
        for i, (before, x) in enumerate(zip(launch.before, launch.after, strict=True))
        if isinstance(x, torch.Tensor) and x.is_floating_point() and not torch.equal(before, x)
    ]
    i, x = changed[0]
    worst = tuple((x.abs() == x.abs().max()).nonzero()[0])
    x[worst] *= 1 + 2**-10
    (found,) = compare.replay([launch], machine)
    assert (found.index, found.n_different, found.is_allowed) == (i, 1, call == OPEN)
    x[worst] *= 1.25
    (found,) = compare.replay([launch], machine)
    assert not found.is_allowed
    assert "DIFFERS" in str(found)


def test_hardware_that_errs_differs_within_the_bound_and_where_bits_are_open_alone(machine, launches):
    found = compare.replay(launches, Emulator(machine.arch, hardware_errors=not machine.hardware_errors))
    assert found
    assert all(d.is_allowed for d in found), "\n".join(map(str, found))
    assert {d.launch.call.split(", torch")[0] for d in found} == {OPEN}


def test_to_record_needs_a_gpu(monkeypatch, capsys, machine):
    monkeypatch.setattr(sys, "argv", ["compare", "record", "launches.pt"])
    with pytest.raises(SystemExit):
        compare.main()
    assert "needs a GPU" in capsys.readouterr().err
