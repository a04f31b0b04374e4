"""Running from a checkout that is not installed, with torch and triton alone."""

import importlib.util
import sys
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[1] / "kernels"


def find_kernels() -> None:
    """Let ``silk_fast.kernels`` be the folder ``kernels/`` of the checkout, as installing would."""
    import silk_fast

    name = "silk_fast.kernels"
    if importlib.util.find_spec(name) is not None:
        return
    spec = importlib.util.spec_from_file_location(
        name, KERNELS / "__init__.py", submodule_search_locations=[str(KERNELS)]
    )
    sys.modules[name] = silk_fast.kernels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(silk_fast.kernels)
