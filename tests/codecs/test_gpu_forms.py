"""The forms for a GPU; where there is none, their kernels run in Triton's interpreter, cuDNN's part by PyTorch."""

import copy

import pytest
import torch

from silk_fast import accelerate_
from silk_fast.acceleration.forms import own_class
from tests.codecs.configurations import TINY
from tests.kernels.support import DEVICE, DTYPES

N_SAMPLES = 144  # of what an encoder gets


def assert_close(ours: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    """Root mean square of the error against that of the signal."""
    assert ours.dtype == expected.dtype == torch.float32
    error = (ours - expected).square().mean().sqrt() / expected.std()
    bound = {torch.float32: 1e-5, torch.float16: 0.01, torch.bfloat16: 0.05}[dtype]
    assert error < bound


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_codec(name, dtype):
    codec = TINY[name]
    model = codec.make().to(DEVICE)
    twin = copy.deepcopy(model)
    report = accelerate_(twin, dtype=dtype)
    assert not report.refused
    assert {form[:3] for form in report.swapped.values()} <= {"Gpu", "Fol", "Mim"}
    audio = codec.speech(1)[..., 2000 : 2000 + N_SAMPLES].to(DEVICE)
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=dtype != torch.float16):
        latents = codec.latents(model, audio)
        assert_close(codec.latents(twin, audio), latents, dtype)
        assert_close(codec.synthesise(twin, latents), codec.synthesise(model, latents), dtype)


@pytest.mark.parametrize("name", TINY)
def test_a_unit_by_itself_keeps_the_dtype_of_its_input(name):
    model = TINY[name].make().to(DEVICE)
    twin = copy.deepcopy(model)
    accelerate_(twin, dtype=torch.float16)
    names = ("ResidualUnit", "ResnetBlock")
    unit = next(module for module in model.modules() if type(module).__name__.endswith(names))
    accelerated = next(module for module in twin.modules() if own_class(module) is type(unit))
    first = accelerated._first()
    n_channels = first.in_channels if isinstance(first, torch.nn.Conv1d) else first.alpha.shape[1]
    x = torch.randn(1, n_channels, 70, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        assert_close(accelerated(x), unit(x), torch.float16)


def test_gradients_and_deterministic_convolutions_are_left_to_the_library():
    model = TINY["dac"].make().to(DEVICE)
    twin = copy.deepcopy(model)
    reason = "deterministic convolutions are those of Silk's modules"
    assert set(accelerate_(twin, deterministic=True).refused.values()) == {reason}
    accelerate_(twin)
    x = TINY["dac"].speech(0.02).to(DEVICE)
    assert torch.equal(twin.encoder(x), model.encoder(x))  # with gradients
    with torch.no_grad():
        assert not torch.equal(twin.encoder(x), model.encoder(x))
