"""The CPU forms of a whole codec: the reference's tokens and audio, bits that no cut changes, weights that change."""

import pytest
import torch
from torch import Tensor

from silk_fast import SilkCodec, SilkInputError, accelerate_, restore_
from silk_fast.acceleration import cpu_forms
from silk_fast.acceleration.forms import Form, Policy, replaced_class, set_class
from silk_fast.cpu import fsq, inverse_stft, library
from silk_fast.cpu.ops import why_no_bfloat16
from tests.reference.test_surroundings import CONFIG, SURROUNDINGS
from tests.support import FRAME, make_codec, speech

pytestmark = pytest.mark.skipif(not library.available(), reason=library.why_not())

FORMS = {
    replaced_class(form): form for name, form in vars(cpu_forms).items() if name.startswith("Cpu") and name != "CpuOps"
}


def on_cpu(codec: SilkCodec, dtype: torch.dtype = torch.float32) -> SilkCodec:
    """Swap the CPU forms in, also where Triton's interpreter would serve."""
    for module in codec.modules():
        if type(module) in FORMS:
            set_class(module, FORMS[type(module)])
            module.policy = Policy(dtype)
    return codec


@pytest.fixture(scope="module")
def codecs() -> tuple[SilkCodec, SilkCodec]:
    reference = make_codec()
    twin = on_cpu(make_codec())
    assert sum(isinstance(module, Form) for module in twin.modules()) > 20
    return reference, twin


@pytest.fixture(scope="module")
def audio() -> Tensor:
    return torch.randn(2, 1, 5 * 9600 + 77, generator=torch.Generator().manual_seed(0)) * 0.1


def test_tokens_and_audio_are_those_of_the_reference(codecs, audio):
    reference, twin = codecs
    encoded = reference.encode(audio)
    assert torch.equal(twin.encode(audio).tokens, encoded.tokens)
    torch.testing.assert_close(twin.decode(encoded), reference.decode(encoded), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SURROUNDINGS if name not in ("autocast", "gradients")])
def test_no_default_changes_a_bit(name):
    for cached in (fsq._levels, inverse_stft._twiddles):
        cached.cache_clear()  # which the first call fills
    audio, codec, other = speech(FRAME), *(on_cpu(make_codec(CONFIG)) for _ in range(2))
    with SURROUNDINGS[name]():
        encoded = codec.encode(audio)
        decoded = codec.decode(encoded)
    assert torch.equal(encoded.tokens, other.encode(audio).tokens)
    assert torch.equal(decoded, other.decode(encoded))


def test_no_cut_and_no_batch_changes_a_bit_of_what_the_convolutions_give(codecs, audio):
    encoder = codecs[1].encoder
    with torch.no_grad():
        audio = audio[..., : 4 * 9600]
        whole = encoder(audio)
        state = encoder.initial_state(2)
        cut = torch.cat([encoder(chunk, state) for chunk in audio.split([9600, 2 * 9600, 9600], -1)], 1)
        alone = torch.cat([encoder(signal[None]) for signal in audio])
    assert torch.equal(cut, whole)
    assert torch.equal(alone, whole)


def test_packed_weights_follow_the_weights(codecs, audio):
    reference, twin = make_codec(), on_cpu(make_codec())
    twin.encode(audio)
    with torch.no_grad():
        for codec in (reference, twin):
            for parameter in codec.parameters():
                parameter.mul_(1.01)
    assert torch.equal(twin.encode(audio).tokens, reference.encode(audio).tokens)


def test_weight_norm_is_followed(audio):
    reference, twin = make_codec().apply_weight_norm_(), on_cpu(make_codec().apply_weight_norm_())
    with torch.no_grad():
        for codec in (reference, twin):
            for parameter in codec.encoder.parameters():
                parameter.mul_(1.01)
    assert torch.equal(twin.encode(audio).tokens, reference.encode(audio).tokens)


def test_gradients_and_autocast_are_left_to_the_reference(codecs, audio):
    audio = audio[..., :9600]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        latents = [codec.latents(audio) for codec in codecs]
    assert torch.equal(*latents)
    gradients = []
    for codec in codecs:
        x = audio.clone().requires_grad_()
        codec(x).square().sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests what happens without a GPU")
def test_a_half_precision_codec_is_left_to_the_reference(audio):
    halves = [make_codec().to(torch.bfloat16), on_cpu(make_codec().to(torch.bfloat16))]
    with torch.no_grad():
        encoded = [half.encoder(audio[..., :9600].bfloat16()) for half in halves]
    assert torch.equal(*encoded)


def test_restore_drops_packed_weights(audio):
    codec = on_cpu(make_codec())
    codec.encode(audio)
    restore_(codec)
    assert not any(isinstance(module, Form) or "_folds" in vars(module) for module in codec.modules())


def test_no_token_of_the_bundled_model_changes():
    codec = SilkCodec.from_pretrained("silk-small-24khz")
    tokens = codec.encode(speech(72_000)).tokens
    assert torch.equal(on_cpu(codec).encode(speech(72_000)).tokens, tokens)


@pytest.mark.skipif(bool(why_no_bfloat16()), reason=why_no_bfloat16())
def test_products_of_bfloat16_err_as_bfloat16_does():
    reference, half = (SilkCodec.from_pretrained("silk-small-24khz") for _ in range(2))
    on_cpu(half, torch.bfloat16)
    audio = speech(10 * 9600)
    with torch.no_grad():
        latents = [codec.quantizer.norm.standardise(codec.latents(audio)) for codec in (reference, half)]
    errors = (latents[1] - latents[0]).abs()
    assert 1e-4 < errors.mean() < 0.03
    encoded = reference.encode(audio)
    decoded = [codec.decode(encoded) for codec in (reference, half)]
    error = (decoded[1] - decoded[0]).square().mean() / decoded[0].square().mean()
    assert 1e-8 < error < 1e-3


def test_bfloat16_is_refused_where_a_processor_does_not_multiply_it(monkeypatch):
    monkeypatch.setattr("silk_fast.acceleration.swap.why_no_bfloat16", lambda: "this processor does not")
    monkeypatch.setattr("silk_fast.acceleration.swap._why_no_kernels", lambda model: "the model is on a CPU")
    codec = make_codec()
    with pytest.raises(SilkInputError, match="this processor does not"):
        accelerate_(codec, dtype=torch.bfloat16)
    assert not any(isinstance(module, Form) for module in codec.modules())


def test_what_a_processor_lacks_does_not_matter_where_the_model_is_elsewhere(monkeypatch):
    monkeypatch.setattr("silk_fast.acceleration.swap.why_no_bfloat16", lambda: "this processor does not")
    monkeypatch.setattr("silk_fast.acceleration.swap._why_no_kernels", lambda model: "there is no Triton")
    report = accelerate_(make_codec().to("meta"), dtype=torch.bfloat16)
    assert set(report.refused.values()) == {"there is no Triton"}
