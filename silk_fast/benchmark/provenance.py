"""Where, when and of what code a figure was measured."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch

from silk_fast import __version__

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Provenance:
    """What all rows of a run share.

    Args:
        commit: of this repository, with ``+dirty`` if tracked files differ from it, ``+unchecked`` where git cannot
            say; the version if there is no repository.
        device: what the vendor calls it; for a CPU with the number of its logical cores.
        driver: of the GPU; None on a CPU.
        torch, triton, python: versions; triton None where it is absent.
        date: UTC, ISO 8601, to the second.
    """

    commit: str
    device: str
    driver: str | None
    torch: str
    triton: str | None
    python: str
    date: str


def provenance(device: torch.device | str) -> Provenance:
    """Describe the code, the machine and the moment."""
    device = torch.device(device)
    is_gpu = device.type == "cuda"
    return Provenance(
        commit=_commit(),
        device=torch.cuda.get_device_name(device) if is_gpu else cpu_name(),
        driver=_driver() if is_gpu else None,
        torch=torch.__version__,
        triton=_triton_version(),
        python=platform.python_version(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def cpu_name() -> str:
    """Name the processor: ``"AMD EPYC 7B13 (2 cores)"``."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    name = found[1].strip() if found else platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"


def slug(text: str) -> str:
    """Make ``"NVIDIA GeForce RTX 3090"`` part of a file name: ``"nvidia-geforce-rtx-3090"``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def result_path(directory: str | os.PathLike, where: Provenance) -> Path:
    """Name ``<device>-<date>-<commit>.json`` in ``directory``, with a number behind it if that exists."""
    stem = f"{slug(where.device)}-{where.date[:10]}-{slug(where.commit)}"
    path, i_run = Path(directory) / f"{stem}.json", 1
    while path.exists():
        i_run += 1
        path = path.with_name(f"{stem}-{i_run}.json")
    return path


def _output(*command: str | os.PathLike) -> str | None:
    """What a command prints; None if it is absent or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _commit() -> str:
    # A package installed in a virtual environment may lie inside an unrelated repository.
    top = _output("git", "-C", ROOT, "rev-parse", "--show-toplevel")
    if top is None and (commit := _commit_on_disk(ROOT / ".git")):
        return f"{commit[:10]}+unchecked"
    if top is None or Path(top).resolve() != ROOT:
        return f"v{__version__}"
    commit = _output("git", "-C", ROOT, "rev-parse", "--short=10", "HEAD") or "unknown"
    changed = _output("git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+dirty" if changed else commit


def _commit_on_disk(git: Path) -> str | None:
    """The commit that ``.git`` names, read without git, which may be absent or refuse another user's files."""
    try:
        if git.is_file():  # of a worktree: "gitdir: <path>"
            git = git.parent / git.read_text().strip().removeprefix("gitdir: ")
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
        if (common / ref).is_file():
            return (common / ref).read_text().strip()
        packed = (line.split() for line in (common / "packed-refs").read_text().splitlines())
        return next((words[0] for words in packed if words[1:] == [ref]), None)
    except OSError:
        return None


def _driver() -> str:
    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return f"{driver.splitlines()[0] if driver else 'unknown'} (CUDA {torch.version.cuda})"


def _triton_version() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return str(triton.__version__)
