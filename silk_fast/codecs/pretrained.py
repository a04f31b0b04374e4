"""Loading the codecs of other libraries: from a directory or a hub, by the library's own code."""

import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import nn

from silk_fast.arguments import SHOWN, shown
from silk_fast.codecs import NAMES
from silk_fast.errors import SilkInputError, SilkModelError
from silk_fast.reference.pretrained import check_finite

HUB_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:/(\w[\w./-]*))?")


def codec_module(name: str) -> ModuleType:
    """Give the module of this package that knows a codec.

    Raises:
        SilkInputError: no codec of that name.
    """
    if name not in NAMES:
        raise SilkInputError(f"codec must be one of {', '.join(NAMES)}, got {shown(name)}")
    return import_module(f"silk_fast.codecs.{name}")


def load_model(name: str, weights: str, *, local_only: bool = False) -> nn.Module:
    """Load a codec in float32 on the CPU, in evaluation mode.

    Args:
        name: one of ``NAMES``.
        weights: directory that the library's ``save_pretrained`` made, of SNAC one with ``config.json`` and
            ``pytorch_model.bin``; or a hub id ``owner/name``, with ``/folder`` where the model is not at its top.
        local_only: take of a hub only what was downloaded earlier.

    Raises:
        SilkInputError: no codec of that name.
        SilkModelError: its library is not installed, there are no such weights, or they are not those of this codec.
    """
    codec = codec_module(name)
    library = codec.LIBRARY.distribution
    expected = "expected a directory with its config.json and weights, or a hub id owner/name"
    where = weights
    options: dict[str, Any] = {}
    if not os.path.isdir(weights):
        match = HUB_ID.fullmatch(weights)
        if not match:
            raise SilkModelError(f"no directory {shown(weights)} to load {codec.MODEL} from; {expected}")
        where, options = match[1], {"local_files_only": local_only}
        if match[2]:
            options["subfolder"] = match[2]
    try:
        kind = getattr(import_module(codec.LIBRARY.package), codec.MODEL)
    except ImportError as error:
        raise SilkModelError(
            f"{name} needs the package {library}: pip install {library}, or silk_fast[codecs] ({error})"
        ) from error
    try:
        with _silence(bars=os.path.isdir(weights)):
            model = _load(kind, where, options)
    except SilkModelError as error:
        raise SilkModelError(f"{weights}: {error}") from error
    except Exception as error:  # the libraries and the hub client raise many kinds
        why = " ".join(str(error).split()) or type(error).__name__
        why = why if len(why) <= 4 * SHOWN else f"{why[: 4 * SHOWN]}..."
        raise SilkModelError(f"{weights}: cannot be loaded as {codec.MODEL} of {library}: {why}; {expected}") from error
    check_finite(model.state_dict(), f"weights {weights}")
    return model.float().eval()


def _load(kind: Any, where: str, options: dict[str, Any]) -> nn.Module:
    if kind.__name__ == "SNAC":
        return kind.from_pretrained(where, **options)
    model, report = kind.from_pretrained(where, output_loading_info=True, **options)
    if missing := sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])):
        raise SilkModelError(
            f"not weights of {kind.__name__}: {len(missing)} of its tensors are missing, such as {missing[0]}"
        )
    return model


@contextmanager
def _silence(bars: bool) -> Iterator[None]:
    """Keep what the libraries log and warn off stderr; their ``bars`` of progress too, which a download may show."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()) if bars else nullcontext():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
