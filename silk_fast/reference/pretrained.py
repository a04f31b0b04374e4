"""Where models are, and how their configuration and weights are written, read, checked and named.

A model is a directory of two files, ``config.json`` and ``model.safetensors``, which holds plain weights.
"""

import hashlib
import os
from pathlib import Path

import torch
from torch import nn

from silk_fast.config import SilkConfig
from silk_fast.errors import SilkModelError
from silk_fast.files import atomic_file
from silk_fast.history import TRAINING_FILE
from silk_fast.reference.weight_norm import plain_state_dict

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MODELS = Path(__file__).resolve().parents[1] / "models"


def find_model(name: str | os.PathLike) -> Path:
    """Find the directory of a bundled model, a local directory, or a hub repository, which is downloaded.

    Raises:
        SilkModelError: nothing by that name; the message lists the bundled models.
    """
    bundled = sorted(path.name for path in MODELS.iterdir())
    if str(name) in bundled:
        return MODELS / str(name)
    if Path(name).is_dir():
        return Path(name)
    if isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/")):
        return _download(name)
    raise SilkModelError(f"unknown model {str(name)!r}; expected one of {', '.join(bundled)}, a directory, or a hub id")


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise SilkModelError(
            f"{name!r} is no directory; to load it from a hub, install huggingface_hub: pip install silk_fast[hub]"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE, TRAINING_FILE]))
    except Exception as error:  # the hub client raises many kinds
        raise SilkModelError(
            f"cannot load {name!r}, neither a directory nor a reachable hub repository: {error}"
        ) from error


def read_config(directory: Path) -> SilkConfig:
    """Read the configuration of a model in a directory that :func:`find_model` gave; no weights are read.

    Raises:
        SilkModelError: the file cannot be read.
        SilkConfigError: it holds an impossible configuration.
    """
    path = directory / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SilkModelError(f"cannot read {path}: {error.strerror}") from error
    return SilkConfig.from_json(text)


def load_weights_(model: nn.Module, directory: Path) -> None:
    """Load the weights in ``directory`` as float32 into ``model``, in place, whose own must be plain.

    Raises:
        SilkModelError: there are none, they cannot be read, or a name or a shape does not fit; nothing is changed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = directory / WEIGHTS_FILE
    try:
        found = load_file(path)
    except FileNotFoundError as error:
        raise SilkModelError(f"no {path.name} in {path.parent}, expected a model that was saved there") from error
    except (SafetensorError, OSError) as error:
        raise SilkModelError(f"cannot read weights {path}: {error}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted(expected.keys() | found.keys()):
        shape = tuple(found[name].shape) if name in found else "nothing"
        if shape != expected.get(name, "nothing"):
            raise SilkModelError(
                f"weights {path} do not fit the configuration: "
                f"{name} should be {expected.get(name, 'absent')}, found {shape}"
            )
    model.load_state_dict({name: tensor.float() for name, tensor in found.items()})


def save_model(
    model: nn.Module, config: SilkConfig, directory: str | os.PathLike, dtype: torch.dtype | None = None
) -> None:
    """Write the plain weights of ``model``, and ``config``, into ``directory``, which is made if absent.

    Args:
        dtype: of the stored weights; None keeps each as it is.

    Raises:
        SilkFileError: a file cannot be written; none is left unfinished.
    """
    from safetensors.torch import save

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.to(dtype or tensor.dtype) for name, tensor in plain_state_dict(model).items()}
    for name, data in ((WEIGHTS_FILE, save(weights)), (CONFIG_FILE, config.to_json().encode())):
        with atomic_file(directory / name) as file:
            file.write(data)


def weights_sha256(model: nn.Module) -> str:
    """Hash the plain weights of ``model``: SHA-256, in hexadecimal, over name, shape and float32 values of each."""
    digest = hashlib.sha256()
    for name, tensor in plain_state_dict(model).items():
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.float().numpy().data)
    return digest.hexdigest()
