"""Quantisers by one kernel; where there is no card, in Triton's interpreter."""

import copy

import pytest
import torch
from torch import Tensor, nn

from silk_fast import accelerate_, restore_
from silk_fast.codecs import places
from tests.codecs.configurations import TINY
from tests.codecs.support import Codec, Dac, Encodec, Factorized, Mimi
from tests.kernels.support import DEVICE


def of(kind: type[Codec] | tuple[type[Codec], ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [name for name, codec in TINY.items() if isinstance(codec, kind)])


def pair(name: str) -> tuple[Codec, nn.Module, nn.Module, Tensor]:
    """A codec, its quantiser, the same accelerated, and 48 latents of speech ``[2, C, 48]``."""
    codec = TINY[name]
    model = codec.make().to(DEVICE)
    twin = copy.deepcopy(model)
    report = accelerate_(twin, ops="rvq")
    assert {part.split(".")[0] for part in report.swapped} == {"quantizer"}, report
    with torch.no_grad():
        latents = codec.latents(model, codec.speech(0.1).to(DEVICE))
    return codec, model.quantizer, twin.quantizer, torch.stack([latents[0, :, :48], latents[0, :, 20:68]])


def count_calls(monkeypatch, name: str) -> list:
    """A list that gets an item for every launch of a kernel."""
    calls, kernel = [], getattr(places.kernels(), name)
    monkeypatch.setattr(places.kernels(), name, lambda *a: calls.append(name) or kernel(*a))
    return calls


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


@of(Factorized)
def test_results_are_those_of_the_library(name, monkeypatch):
    codec, quantizer, twin, latents = pair(name)
    calls = count_calls(monkeypatch, "factorized_rvq_encode")
    with torch.inference_mode():
        expected = quantizer(latents)
        assert_alike(twin(latents), expected)
        codes = expected[1]
        decoded = twin.from_codes(codes), quantizer.from_codes(codes)
        assert_alike(*(d if isinstance(d, tuple) else [d] for d in decoded))
        if isinstance(codec, Dac):
            for n_stages in (1, 2, 9):
                assert_alike(twin(latents, n_stages), quantizer(latents, n_stages))
                assert_alike(twin.from_codes(codes[:, :n_stages]), quantizer.from_codes(codes[:, :n_stages]))
    assert calls


@of(Factorized)
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


@of(Factorized)
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


@of((Encodec, Mimi))
def test_codes_of_nearest_entries_are_those_of_the_library(name, monkeypatch):
    codec, quantizer, twin, latents = pair(name)
    calls = count_calls(monkeypatch, "rvq_encode"), count_calls(monkeypatch, "rvq_decode")
    n_stages = (2, 4) if isinstance(codec, Mimi) else codec.make().config.target_bandwidths
    with torch.inference_mode():
        for n in (None, *n_stages):
            codes = quantizer.encode(latents, n)
            assert torch.equal(twin.encode(latents, n), codes)
            codes = codes.transpose(0, 1) if isinstance(codec, Mimi) else codes
            torch.testing.assert_close(twin.decode(codes), quantizer.decode(codes), rtol=1e-5, atol=1e-5)
    assert all(calls)


@of((Encodec, Mimi))
def test_what_has_gradients_is_encoded_by_the_library(name, monkeypatch):
    _, quantizer, twin, latents = pair(name)
    calls = count_calls(monkeypatch, "rvq_encode")
    assert torch.equal(twin.encode(latents), quantizer.encode(latents))
    assert not calls


@of((Encodec, Mimi))
def test_codes_follow_the_entries(name):
    """Also where the library would keep those of its first call."""
    codec, _, twin, latents = pair(name)
    other = codec.make().to(DEVICE)
    with torch.no_grad():
        before = twin.encode(latents)
        for key, buffer in other.quantizer.named_buffers():
            if key.endswith((".embed", ".embed_sum")):
                buffer.copy_(buffer.flip(0))
        twin.load_state_dict(other.quantizer.state_dict())
        for stage in other.modules():
            if hasattr(stage, "_embed"):
                stage._embed = None
        after = twin.encode(latents)
        assert torch.equal(after, other.quantizer.encode(latents))
    assert not torch.equal(after, before)
