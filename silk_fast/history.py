"""How a model came about: ``training.json`` beside its weights, one object for each training run, the oldest first."""

import json
from pathlib import Path
from typing import Any

from silk_fast.errors import SilkModelError
from silk_fast.files import atomic_file

TRAINING_FILE = "training.json"


def read_history(model: Path) -> list[dict[str, Any]]:
    """Read the runs that made the model in a folder; empty where nothing tells.

    Raises:
        SilkModelError: the file is not JSON.
    """
    path = model / TRAINING_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except ValueError as error:
        raise SilkModelError(f"{path}: not JSON: {error}") from error


def write_history(model: Path, runs: list[dict[str, Any]]) -> None:
    """Write the runs that made a model into its folder.

    Raises:
        SilkFileError: the file cannot be written.
    """
    with atomic_file(model / TRAINING_FILE) as file:
        file.write((json.dumps(runs, indent=2) + "\n").encode())
