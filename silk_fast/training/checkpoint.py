"""Checkpoints: one safetensors file with every tensor of a run, its step and configuration, and a CRC-32.

A checkpoint appears under its name only when complete, and the one before it is kept.
"""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from silk_fast.errors import SilkTrainingError
from silk_fast.files import atomic_file

KEPT = 2
NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")


@dataclass
class Checkpoint:
    """The state of a run before step ``step``.

    Args:
        step: steps taken.
        config: the training configuration, as a dictionary.
        tensors: every tensor of the run, by a name unique in the run.
        pieces: of the run until here: steps, seconds, device, processes.
    """

    step: int
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    pieces: list[dict[str, Any]]


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*.safetensors") if NAME.fullmatch(path.name))


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and delete all but the last two.

    Raises:
        SilkFileError: it cannot be written; those before are as they were.
    """
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in sorted(checkpoint.tensors.items())}
    facts = {"step": checkpoint.step, "config": checkpoint.config, "pieces": checkpoint.pieces}
    metadata = {"silk": json.dumps(facts), "crc32": str(_crc(tensors))}
    path = folder / f"checkpoint-{checkpoint.step:08d}.safetensors"
    with atomic_file(path) as file:
        file.write(save(tensors, metadata))
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink()
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint whole.

    Raises:
        SilkTrainingError: it is missing, damaged, or not a checkpoint of silk_fast.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        facts = json.loads(metadata["silk"])
        crc = int(metadata["crc32"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise SilkTrainingError(f"{path}: not a whole checkpoint: {error}; remove it to go on from another") from error
    if crc != _crc(tensors):
        raise SilkTrainingError(
            f"{path}: damaged: its CRC-32 does not fit its tensors; remove it to go on from another"
        )
    return Checkpoint(facts["step"], facts["config"], tensors, facts["pieces"])


def _crc(tensors: dict[str, Tensor]) -> int:
    crc = 0
    for name, tensor in tensors.items():
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc


def flatten_optimizer(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Collect the tensors of an optimiser's state, named ``prefix.<parameter index>.<key>``."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}.{i}.{key}": torch.as_tensor(value) for i, s in state.items() for key, value in s.items()}


def restore_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`flatten_optimizer` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix + "."):
            index, key = name.removeprefix(prefix + ".").split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
