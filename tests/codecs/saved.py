"""Small codecs of other libraries, saved as their libraries save them."""

import inspect
import json
from pathlib import Path

import torch
from torch import nn

from tests.codecs.configurations import TINY
from tests.codecs.support import Snac


def save_model(name: str, folder: Path, model: nn.Module | None = None) -> Path:
    """Save the codec ``TINY[name]``, or ``model`` in its place, into a folder, which is given back."""
    codec = TINY[name]
    model = codec.make() if model is None else model
    if isinstance(codec, Snac):  # which has no function for it
        folder.mkdir(parents=True)
        defaults = {key: value.default for key, value in inspect.signature(type(model)).parameters.items()}
        (folder / "config.json").write_text(json.dumps(defaults | codec.build.keywords))
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder)
    return folder
