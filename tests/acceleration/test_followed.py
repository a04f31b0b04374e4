"""Who follows or replaces PyTorch's operations, and what changes without being counted: forms step aside, or renew."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize, prune
from torch.utils.flop_counter import FlopCounterMode

from silk_fast import accelerate_
from silk_fast.cpu.library import why_not
from tests.support import FRAME, make_codec, speech

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """Have accelerate_ swap the CPU forms in, also where Triton's interpreter would serve."""
    monkeypatch.setattr("silk_fast.acceleration.swap._why_no_kernels", lambda model: "no card")


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module]:
    codec = make_codec()
    return codec, accelerate(copy.deepcopy(codec))


def accelerate(codec: nn.Module) -> nn.Module:
    report = accelerate_(codec)
    assert any(form.startswith("Cpu") for form in report.swapped.values())
    return codec


def test_a_trace_computes_what_the_reference_does(pair):
    codec, fast = pair
    x, other = speech(FRAME), speech(2 * FRAME)[..., FRAME:]
    with torch.no_grad():
        traced = torch.jit.trace(fast.encoder, x, check_trace=False)
        torch.testing.assert_close(traced(other), codec.encoder(other), rtol=1e-4, atol=1e-4)


def test_modes_see_the_operations(pair):
    codec, fast = pair
    counts = []
    for model in (codec, fast):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.encoder(speech(FRAME))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_vmap_and_forward_gradients_are_the_references(pair):
    codec, fast = pair
    x = torch.stack([speech(FRAME), speech(2 * FRAME)[..., FRAME:]])
    with torch.no_grad():
        mapped = torch.func.vmap(fast.encoder)(x)
        torch.testing.assert_close(mapped, torch.stack([codec.encoder(one) for one in x]), rtol=1e-4, atol=1e-4)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x[0], torch.ones_like(x[0]))
            tangents = [forward_ad.unpack_dual(model.encoder(dual)).tangent for model in (codec, fast)]
    torch.testing.assert_close(tangents[1], tangents[0])


def test_a_view_of_a_negative_is_read_as_it_is(pair):
    codec, fast = pair
    x = speech(FRAME)
    with torch.no_grad():
        torch.testing.assert_close(fast.encoder(torch._neg_view(x)), codec.encoder(-x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_steps_of_fused_optimisers_are_noticed(kind):
    fast = accelerate(make_codec())
    x = speech(FRAME)
    with torch.no_grad():
        before = fast.encoder(x)
    optimizer = kind(fast.encoder.parameters(), lr=1e-2, fused=True)
    loss = fast.encoder(x).square().mean()
    with torch.no_grad():
        fast.encoder(x)  # packs between the two
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        after = fast.encoder(x)
        accelerate_(fast)
        assert torch.equal(after, fast.encoder(x))
    assert not torch.equal(after, before)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.scale


def test_masks_and_other_buffers_of_weights_are_noticed(pair):
    codec, fast = pair
    x = speech(FRAME)

    def assert_equal() -> None:
        with torch.no_grad():
            torch.testing.assert_close(fast.encoder(x), codec.encoder(x), rtol=1e-4, atol=1e-4)

    for amount in (0.3, 0.6):
        for model in pair:
            prune.l1_unstructured(model.encoder.input, "weight", amount)
        assert_equal()
    for model in pair:
        parametrize.register_parametrization(model.encoder.output, "weight", Scaled())
    assert_equal()
    for model in pair:
        model.encoder.output.parametrizations.weight[0].scale.mul_(2)
    assert_equal()
