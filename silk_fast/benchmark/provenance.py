"""Where, when and of what code a figure was measured."""

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from silk_fast import __version__

ROOT = Path(__file__).resolve().parents[2]


def provenance(device: torch.device | str) -> dict[str, Any]:
    """Describe the code, the machine and the moment: fields that all rows of a run share, see :class:`.rows.Row`."""
    device = torch.device(device)
    is_gpu = device.type == "cuda"
    return {
        "commit": _commit(),
        "device": torch.cuda.get_device_name(device) if is_gpu else cpu_name(),
        "driver": _driver() if is_gpu else None,
        "torch": torch.__version__,
        "triton": _triton_version(),
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def cpu_name() -> str:
    """Name the processor: ``"AMD EPYC 7B13 (2 cores)"``."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    name = found[1].strip() if found else platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"


def result_path(directory: Path, where: dict[str, Any]) -> Path:
    """Name ``<device>-<date>-<commit>.json`` in ``directory``, with a number behind it if that exists."""
    stem = "-".join(_slug(part) for part in (where["device"], where["date"][:10], where["commit"]))
    path, i_run = directory / f"{stem}.json", 1
    while path.exists():
        i_run += 1
        path = directory / f"{stem}-{i_run}.json"
    return path


def _slug(text: str) -> str:
    """``"nvidia-geforce-rtx-3090"`` for ``"NVIDIA GeForce RTX 3090"``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _output(*command: str | os.PathLike) -> str | None:
    """What a command prints; None if it is absent or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str | None:
    """What git says of the checkout, whoever owns its files."""
    return _output("git", "-C", ROOT, "-c", f"safe.directory={ROOT}", *arguments)


def _commit() -> str:
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT:  # installed, perhaps inside an unrelated repository
        return f"v{__version__}"
    commit = _git("rev-parse", "--short=10", "HEAD") or "unknown"
    return f"{commit}+dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit


def _driver() -> str:
    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return f"{driver.splitlines()[0] if driver else 'unknown'} (CUDA {torch.version.cuda})"


def _triton_version() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return str(triton.__version__)
