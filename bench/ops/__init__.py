"""One file per kernel: the cases at which it is compiled, checked and measured."""

import importlib
import pkgutil
from collections.abc import Sequence

import torch

from bench.cases import DTYPES, GRID, Point, TimingCase


def timing_cases(
    points: Sequence[Point] = GRID, dtypes: Sequence[torch.dtype] = DTYPES, op: str | None = None
) -> list[TimingCase]:
    """Every timing case of every file, or of one op."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    cases = [case for module in modules for case in module.timing_cases(points, dtypes)]
    return [case for case in cases if op in (None, case.op)]
