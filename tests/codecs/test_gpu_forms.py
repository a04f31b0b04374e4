"""The forms for a GPU; where there is none, their kernels run in Triton's interpreter, cuDNN's part by PyTorch."""

import copy

import pytest
import torch

from silk_fast import accelerate_
from tests.codecs.support import TINY, decoder_input
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
    assert {form[:3] for form in report.swapped.values()} <= {"Gpu", "Fol"}
    audio = codec.speech(1)[..., 2000 : 2000 + N_SAMPLES].to(DEVICE)
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=dtype != torch.float16):
        latents = model.encoder(audio)
        assert_close(twin.encoder(audio), latents, dtype)
        decoded = []
        for m in (model, twin):
            torch.manual_seed(1)
            decoded.append(m.decoder(decoder_input(codec, latents)))
        assert_close(decoded[1], decoded[0], dtype)


@pytest.mark.parametrize("name", TINY)
def test_a_unit_by_itself_keeps_the_dtype_of_its_input(name):
    model = TINY[name].make().to(DEVICE)
    twin = copy.deepcopy(model)
    accelerate_(twin, dtype=torch.float16)
    unit, accelerated = (
        next(module for module in m.modules() if type(module).__name__.endswith("ResidualUnit")) for m in (model, twin)
    )
    n_channels = next(unit.parameters()).shape[1]
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
