"""The codec that most tests accelerate, and audio for it."""

import copy

import pytest
import torch

from silk_fast import SilkCodec
from tests.acceleration.support import N_FRAMES, TINY
from tests.kernels.support import DEVICE
from tests.support import make_codec, voices


@pytest.fixture(scope="session")
def calibrated() -> SilkCodec:
    return make_codec(TINY).to(DEVICE)


@pytest.fixture
def codec(calibrated) -> SilkCodec:
    return copy.deepcopy(calibrated)


@pytest.fixture(scope="module")
def audio() -> torch.Tensor:
    return voices()[..., : N_FRAMES * 9600].to(DEVICE)
