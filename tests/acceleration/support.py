"""A codec small enough for kernels in the interpreter."""

import torch

from silk_fast import SilkConfig

TINY = SilkConfig.preset("tiny", encoder_channels=(16, 8, 16, 16, 24), conformer_layers=1)
N_FRAMES = 2


def types(model: torch.nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.modules()]
