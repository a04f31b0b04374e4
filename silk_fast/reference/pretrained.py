"""Where models are, and how their configuration and weights are written, read, checked and named.

A model is a directory of two files, ``config.json`` and ``model.safetensors``, which holds plain weights.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from silk_fast.arguments import shown, shown_text
from silk_fast.config import SilkConfig
from silk_fast.errors import SilkConfigError, SilkFileError, SilkInputError, SilkModelError
from silk_fast.files import atomic_file
from silk_fast.history import TRAINING_FILE
from silk_fast.reference.weight_norm import plain_state_dict

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MODELS = Path(__file__).resolve().parents[1] / "models"
MAX_CONFIG_BYTES = 2**16
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}  # by safetensors


def find_model(name: str | os.PathLike) -> Path:
    """Find the directory of a bundled model, a local directory, or a hub repository, which is downloaded.

    Raises:
        SilkModelError: nothing by that name; the message lists the bundled models.
    """
    bundled = sorted(path.name for path in MODELS.iterdir())
    expected = f"expected one of {', '.join(bundled)}, a directory, or a hub id"
    if not isinstance(name, str | os.PathLike):
        raise SilkModelError(f"a model is named by text or a path, got {shown(name)}; {expected}")
    if str(name) == "":
        raise SilkModelError(f"a model cannot have an empty name; {expected}")
    if str(name) in bundled:
        return MODELS / str(name)
    try:
        if Path(name).is_dir():
            return Path(name)
    except Exception as error:  # too long a name, a NUL in it, no permission, a path of bytes, a broken __fspath__
        raise SilkModelError(f"cannot look for model {shown(name)}: {error}; {expected}") from error
    if isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/")):
        return _download(name)
    raise SilkModelError(f"unknown model {shown(str(name))}; {expected}")


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
        if path.exists() and not path.is_file():
            raise SilkModelError(f"cannot read {path}: not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise SilkModelError(f"cannot read {path}: expected at most {MAX_CONFIG_BYTES} bytes, got more")
        text = data.decode("utf-8")
    except OSError as error:
        raise SilkModelError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SilkModelError(f"cannot read {path}: it is not UTF-8, byte {error.start} is wrong") from error
    try:
        return SilkConfig.from_json(text)
    except SilkConfigError as error:
        raise SilkConfigError(f"{path}: {error}") from error


def check_weights(model: nn.Module, directory: Path) -> None:
    """Check names, shapes and dtypes of the weights in ``directory``, which are not read, against ``model``.

    Args:
        model: its own weights are plain; they may be on the meta device.

    Raises:
        SilkModelError: there are none, their file is damaged, or a name, a shape or a dtype does not fit.
    """
    path = directory / WEIGHTS_FILE
    with _open_weights(path) as file:
        entries = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  no mapping
        found = {name: tuple(entry.get_shape()) for name, entry in entries.items()}
        dtypes = {name: entry.get_dtype() for name, entry in entries.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted(expected.keys() | found.keys()):
        shape = found.get(name, "nothing")
        if shape != expected.get(name, "nothing"):
            raise SilkModelError(
                f"weights {path} do not fit the configuration: "
                f"{shown_text(name)} should be {expected.get(name, 'absent')}, found {shape}"
            )
        if dtypes[name] not in DTYPES:
            raise SilkModelError(f"weights {path}: {name} must be one of {', '.join(DTYPES)}, found {dtypes[name]}")


def load_weights_(model: nn.Module, directory: Path) -> None:
    """Load the weights in ``directory`` as float32 into ``model``, in place, whose own must be plain.

    Raises:
        SilkModelError: there are none, they cannot be read, a name, a shape or a dtype does not fit, or a value is
            none that a codec can have; nothing is changed.
    """
    check_weights(model, directory)
    path = directory / WEIGHTS_FILE
    with _open_weights(path) as file:
        weights = {name: file.get_tensor(name).float() for name in model.state_dict()}
    check_finite(weights, f"weights {path}")
    for name, tensor in weights.items():
        if name.endswith("norm.variance") and (tensor < 0).any():
            raise SilkModelError(f"weights {path}: {name} must be >= 0, found {tensor.min():.3g}")
        if name.endswith(("log_alpha", "log_beta")) and not tensor.exp().isfinite().all():
            raise SilkModelError(f"weights {path}: {name} must have finite exponentials, found {tensor.max():.3g}")
    model.load_state_dict(weights)


def check_finite(weights: Mapping[str, Tensor], what: str) -> None:
    """Raise SilkModelError, which says of what, if a weight is NaN or infinite."""
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise SilkModelError(f"{what}: {name} must be finite, found NaN or infinite values")


@contextmanager
def _open_weights(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        if path.exists() and not path.is_file():
            raise SilkModelError(f"cannot read weights {path}: not a regular file")
        path.open("rb").close()  # safetensors calls a file that must not be read one that is not there
        with safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError as error:
        raise SilkModelError(f"no {path.name} in {path.parent}, expected a model that was saved there") from error
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise SilkModelError(f"cannot read weights {path}: {error}") from error


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Make tensors as float32, on the CPU and fit for gradients, whatever is the default where this is called."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(default)


def save_model(
    model: nn.Module, config: SilkConfig, directory: str | os.PathLike, dtype: torch.dtype | None = None
) -> None:
    """Write the plain weights of ``model``, and ``config``, into ``directory``, which is made if absent.

    Args:
        dtype: of the stored weights; None keeps each as it is.

    Raises:
        SilkInputError: ``directory`` is no path, or ``dtype`` no floating-point dtype.
        SilkModelError: a weight is not finite in that dtype; nothing is written.
        SilkFileError: a file cannot be written; none is left unfinished.
    """
    from safetensors.torch import save

    if not any(dtype is known for known in (None, *DTYPES.values())):
        raise SilkInputError(f"dtype must be one of {', '.join(map(str, DTYPES.values()))}, got {shown(dtype)}")
    if not isinstance(directory, str | os.PathLike):
        raise SilkInputError(f"directory must be text or a path, got {shown(directory)}")
    weights = {name: tensor.to(dtype or tensor.dtype) for name, tensor in plain_state_dict(model).items()}
    check_finite(weights, f"weights to be saved{f' as {dtype}' if dtype else ''}")
    if not str(directory):
        raise SilkInputError("directory must have a name, got ''")
    try:
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
    except Exception as error:  # as of find_model
        reason = getattr(error, "strerror", None) or error
        raise SilkFileError(f"{shown_text(str(directory))}: cannot be made a directory: {reason}") from error
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
