"""accelerate_ and restore_ of other libraries' codecs: what stays the same, and what is refused."""

import copy
import functools
import pickle
from collections.abc import Callable
from importlib import metadata

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from silk_fast import SilkInputError, accelerate_, restore_
from silk_fast.acceleration import Form, table
from tests.acceleration.support import types
from tests.codecs.configurations import TINY
from tests.codecs.support import Codec

pytestmark = pytest.mark.usefixtures("on_cpu")

every_codec = pytest.mark.parametrize("codec", TINY.values(), ids=TINY)


def outputs(codec: Codec, model: nn.Module) -> list[torch.Tensor]:
    with torch.no_grad():
        encoded = codec.encode(model, codec.speech(0.1))
        return [*codec.results(encoded), codec.decode(model, encoded)]


@every_codec
def test_restore_is_bit_identical_and_parameters_stay_the_same_objects(codec):
    model = codec.make()
    names, parameters = types(model), {name: id(p) for name, p in model.named_parameters()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = outputs(codec, model)
    report = accelerate_(model)
    assert set(report.refused.values()) == {"no card"}
    assert any(isinstance(module, Form) for module in model.modules())
    outputs(codec, model)
    assert {name: id(p) for name, p in model.named_parameters()} == parameters
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    restore_(model)
    assert types(model) == names
    assert not any(vars(module).keys() & {"policy", "_folds"} for module in model.modules())
    assert all(map(torch.equal, outputs(codec, model), expected))


@every_codec
def test_every_module_of_the_table_is_swapped_and_outputs_keep_their_classes(codec):
    model, audio = codec.make(), codec.speech(0.1)
    with torch.no_grad():
        before = type(model(audio)), type(model.encode(audio))
        report = accelerate_(model)
        assert (type(model(audio)), type(model.encode(audio))) == before
    swapped = {type(module) for module in model.modules() if isinstance(module, Form)}
    expected = {entry.fallback for entry in codec.registration.replacements() if entry.fallback}
    assert expected <= swapped
    assert {swap.op for swap in report.swaps if not swap.replacement} <= {"rvq"}  # the library's own serves on a CPU


@every_codec
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_accelerated_and_independent(codec, copier):
    model = codec.make()
    if copier is not copy.deepcopy and any(map(is_parametrized, model.modules())):
        for _ in range(2):  # before acceleration, and after
            with pytest.raises(RuntimeError, match="only supported through state_dict"):
                copier(model)
            accelerate_(model)
        return
    accelerate_(model)
    expected = outputs(codec, model)
    twin = copier(model)
    assert types(twin) == types(model)
    assert all(map(torch.equal, outputs(codec, twin), expected))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    assert not torch.allclose(outputs(codec, twin)[-1], expected[-1])
    assert all(map(torch.equal, outputs(codec, model), expected))


# ---------------------------------------------------------------- what is refused


def hooked(model: nn.Module) -> None:
    """As ``accelerate.hooks.add_hook_to_module`` leaves a module."""
    part = next(module for module in model.decoder.modules() if isinstance(module, nn.ConvTranspose1d))
    part.forward = functools.update_wrapper(functools.partial(lambda module, x: x, part), part.forward)


def wrapped(model: nn.Module) -> None:
    """As quantisation and adapters leave a model."""
    parent = next(m for m in model.decoder.modules() if any(isinstance(child, nn.Conv1d) for child in m.children()))
    name, conv = next((n, child) for n, child in parent.named_children() if isinstance(child, nn.Conv1d))
    setattr(parent, name, type("QuantisedConv1d", (nn.Conv1d,), {})(conv.in_channels, conv.out_channels, 1))


def on_two_devices(model: nn.Module) -> None:
    model.decoder.to("meta")


def of_two_dtypes(model: nn.Module) -> None:
    model.decoder.double()


REFUSED: dict[Callable, str] = {
    hooked: r"decoder.* cannot be accelerated: forward of a ConvTranspose1d was replaced on the instance",
    wrapped: r"decoder.* cannot be accelerated: it has a QuantisedConv1d for a part, expected the library's own",
    on_two_devices: r"one dtype and be on one device, got torch.float32 on cpu .*, torch.float32 on meta \(decoder",
    of_two_dtypes: r"one dtype and be on one device, got torch.float32 on cpu .*, torch.float64 on cpu \(decoder",
}


@every_codec
@pytest.mark.parametrize("damage", REFUSED, ids=lambda damage: damage.__name__)
def test_a_model_that_is_not_whole_is_refused_and_untouched(codec, damage):
    for accelerated in (False, True):
        model = codec.make()
        if accelerated:
            accelerate_(model)
        damage(model)
        names = types(model)
        with pytest.raises(SilkInputError, match=REFUSED[damage]):
            accelerate_(model)
        assert types(model) == names


VERSIONS = {
    "transformers": ("4.57.6", "5.0 to 5.24"),
    "snac": ("1.3.0", "1.2 to 1.2.1"),
    "diffusers": ("0.43.0", "0.35 to 0.42"),
}


@every_codec
def test_a_version_that_was_not_tested_is_left_alone_whole(codec, monkeypatch):
    registration = codec.registration
    distribution = registration.LIBRARY.distribution
    version, tested = VERSIONS[distribution]
    model = codec.make()
    names = types(model)
    monkeypatch.setattr(metadata, "version", lambda distribution: version)
    monkeypatch.setattr(table, "_entered", {})
    monkeypatch.setattr(table, "_waiting", [(registration.LIBRARY, registration.replacements)])
    report = accelerate_(model)
    reason = f"{distribution} {version} is not a tested version; tested are {tested}"
    assert set(report.refused.values()) == {reason}
    assert types(model) == names
