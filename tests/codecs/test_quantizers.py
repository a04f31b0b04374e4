"""Quantisers of DAC and SNAC by one kernel; where there is no card, in Triton's interpreter."""

import copy

import pytest
import torch
from torch import Tensor, nn

from silk_fast import accelerate_, restore_
from silk_fast.codecs import factorized
from tests.codecs.support import TINY, Codec, latents_of
from tests.kernels.support import DEVICE

pytestmark = pytest.mark.parametrize("name", [name for name, codec in TINY.items() if codec.has_codes])


def pair(name: str) -> tuple[Codec, nn.Module, nn.Module, Tensor]:
    """A codec, its quantiser, the same accelerated, and 48 latents of speech ``[2, C, 48]``."""
    codec = TINY[name]
    model = codec.make().to(DEVICE)
    twin = copy.deepcopy(model)
    report = accelerate_(twin, ops="rvq")
    assert list(report.swapped) == ["quantizer"], report
    with torch.no_grad():
        latents = latents_of(codec, model, codec.speech(0.1).to(DEVICE))
    return codec, model.quantizer, twin.quantizer, torch.stack([latents[0, :, :48], latents[0, :, 20:68]])


def flat(results) -> list[Tensor]:
    return [t for result in results for t in (result if isinstance(result, list | tuple) else [result])]


def assert_alike(ours, expected) -> None:
    """Indices are equal, the rest is but for rounding."""
    for mine, theirs in zip(flat(ours), flat(expected), strict=True):
        assert mine.shape == theirs.shape
        if mine.is_floating_point():
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())
        else:
            assert torch.equal(mine, theirs)


def test_results_are_those_of_the_library(name, monkeypatch):
    codec, quantizer, twin, latents = pair(name)
    calls = []
    search = factorized.kernels().factorized_rvq_encode
    monkeypatch.setattr(factorized.kernels(), "factorized_rvq_encode", lambda *a: calls.append(a) or search(*a))
    with torch.inference_mode():
        expected = quantizer(latents)
        assert_alike(twin(latents), expected)
        codes = expected[1]
        decoded = twin.from_codes(codes), quantizer.from_codes(codes)
        assert_alike(*(d if isinstance(d, tuple) else [d] for d in decoded))
        if codec.library == "transformers":
            for n_stages in (1, 2, 9):
                assert_alike(twin(latents, n_stages), quantizer(latents, n_stages))
                assert_alike(twin.from_codes(codes[:, :n_stages]), quantizer.from_codes(codes[:, :n_stages]))
    assert calls


def test_it_follows_the_weights_and_is_restored(name):
    _, quantizer, twin, latents = pair(name)
    with torch.no_grad():
        twin(latents)
        for m in (quantizer, twin):
            m.quantizers[0].codebook.weight.copy_(m.quantizers[0].codebook.weight.flip(0))
        assert_alike(twin(latents), quantizer(latents))
        restore_(twin)
        assert type(twin) is type(quantizer)
        assert all(torch.equal(a, b) for a, b in zip(flat(twin(latents)), flat(quantizer(latents)), strict=True))


def test_gradients_and_training_are_left_to_the_library(name):
    _, quantizer, twin, latents = pair(name)
    gradients = []
    for m in (quantizer, twin):
        x = latents.clone().requires_grad_()
        m(x)[0].square().sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)
    results = []
    for m in (quantizer.train(), twin.train()):
        torch.manual_seed(0)
        with torch.no_grad():
            results.append(flat(m(latents)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
