"""Accelerated codecs compute what the untouched ones do: codes, audio, gradients; on a CPU."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from silk_fast import accelerate_, restore_
from silk_fast.acceleration import Form
from silk_fast.cpu.ops import why_no_bfloat16
from tests.codecs.support import CODECS, TINY, Codec, decoder_input, latents_of, margins

pytestmark = pytest.mark.usefixtures("on_cpu")

MARGIN = 1e-5
"""Codes may differ where the two nearest entries differ by less, in squared distance on the unit sphere."""

every_tiny = pytest.mark.parametrize("codec", TINY.values(), ids=TINY)
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def count_ties(codec: Codec, model: nn.Module, audio: Tensor, ours: list[Tensor], theirs: list[Tensor]) -> int:
    """How many codes differ at near ties; others must not, but for those of later stages of the same frames."""
    base = max(code.shape[-1] for code in theirs)
    changed = torch.zeros(audio.shape[0], base, dtype=torch.bool)
    n_ties = 0
    for mine, code, margin in zip(ours, theirs, margins(codec, model, audio, ours), strict=True):
        stride = base // code.shape[-1]
        differs = (mine != code) & ~changed.unfold(-1, stride, stride).any(-1)
        assert (margin[differs] < MARGIN).all()
        n_ties += int(differs.sum())
        changed |= differs.repeat_interleave(stride, -1)
    return n_ties


def assert_same_results(codec: Codec, seconds: float) -> int:
    model, audio = codec.make(), codec.speech(seconds)
    twin = copy.deepcopy(model)
    accelerate_(twin)
    n_ties = 0
    with torch.no_grad():
        theirs, ours = (codec.encode(m, audio) for m in (model, twin))
        if codec.has_codes:
            n_ties = count_ties(codec, model, audio, ours, theirs)
        else:
            torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-5)
        expected = codec.decode(model, theirs)
        peak = expected.abs().max().item()
        assert 0.05 < peak < 2
        torch.testing.assert_close(codec.decode(twin, theirs), expected, rtol=0, atol=1e-4 * peak)
    return n_ties


@every_tiny
def test_codes_are_equal_and_audio_is_within_a_ten_thousandth_of_its_peak(codec):
    assert assert_same_results(codec, 0.3) <= 1


@pytest.mark.slow
@every_codec
def test_of_real_size_too(codec):
    assert assert_same_results(codec, 3) <= 1


@pytest.mark.skipif(bool(why_no_bfloat16()), reason=why_no_bfloat16())
@pytest.mark.parametrize("codec", [TINY[name] for name in ("dac", "snac", "oobleck")], ids=lambda codec: codec.library)
def test_the_error_of_bfloat16_is_at_most_twice_the_librarys_own(codec):
    model, audio = codec.make(), codec.speech(0.2)
    for name, parameter in model.named_parameters():
        if ".linear." in name and name.endswith("original0"):  # SNAC's noise, of other numbers in bfloat16
            nn.init.zeros_(parameter)
    half, theirs = copy.deepcopy(model), copy.deepcopy(model).to(torch.bfloat16)
    accelerate_(half, dtype=torch.bfloat16)

    def error(ours: Tensor, exact: Tensor) -> float:
        assert ours.shape == exact.shape
        return (ours.float() - exact).square().mean().sqrt().item()

    with torch.no_grad():
        exact = latents_of(codec, model, audio)
        ours = latents_of(codec, half, audio)
        assert ours.dtype == torch.float32
        assert 0 < error(ours, exact) <= 2 * error(latents_of(codec, theirs, audio.bfloat16()), exact)
        z = decoder_input(codec, exact)
        decoded = [m.decoder(x) for m, x in ((half, z), (theirs, z.bfloat16()), (model, z))]
        assert 0 < error(decoded[0], decoded[2]) <= 2 * error(decoded[1], decoded[2])


@every_tiny
def test_a_clip_of_a_batch_has_the_bits_that_it_has_alone(codec):
    model, audio = codec.make(), codec.speech(0.3)
    clips = torch.cat([audio[..., :4000], audio[..., -4000:]])
    accelerate_(model)
    with torch.no_grad():
        together = model.encoder(clips if codec.library != "snac" else model.preprocess(clips))
        alone = [latents_of(codec, model, clip[None]) for clip in clips]
    assert torch.equal(together, torch.cat(alone))


@every_tiny
def test_training_is_the_librarys_own(codec):
    gradients = []
    for accelerated in (False, True):
        model = codec.make().train()
        if accelerated:
            accelerate_(model)
        torch.manual_seed(2)
        out = model(codec.speech(0.1)) if codec.library != "transformers" else model(codec.speech(0.1)).audio_values
        out = out[0] if isinstance(out, tuple) else getattr(out, "sample", out)
        out.square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert any(gradient is not None for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        assert gradient is gradients[1][name] is None or torch.equal(gradient, gradients[1][name]), name


@every_tiny
def test_autocast_and_what_is_compiled_are_the_librarys_own(codec):
    model, audio = codec.make(), codec.speech(0.1)
    twin = copy.deepcopy(model)
    accelerate_(twin)
    with torch.no_grad():
        z = latents_of(codec, model, audio)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = []
            for m in (model, twin):
                torch.manual_seed(1)
                decoded.append(m.decoder(decoder_input(codec, z)))
            assert torch.equal(*decoded)
            assert torch.equal(latents_of(codec, twin, audio), latents_of(codec, model, audio))
        compiled = torch.compile(twin.encoder, backend="eager")
        assert torch.equal(compiled(audio if codec.library != "snac" else twin.preprocess(audio)), z)


@every_tiny
def test_results_follow_the_weights(codec):
    model, audio = codec.make(), codec.speech(0.1)
    accelerate_(model)
    with torch.no_grad():
        before = latents_of(codec, model, audio)
        for parameter in model.encoder.parameters():
            parameter.mul_(1.1)
        assert_follows(codec, model, audio, before)
        before = latents_of(codec, model, audio)
        model.load_state_dict(codec.make().state_dict())
        assert_follows(codec, model, audio, before)


def assert_follows(codec: Codec, model: nn.Module, audio: Tensor, before: Tensor) -> None:
    """The latents are not those ``before``, but those of the library with the weights as they are."""
    ours = latents_of(codec, model, audio)
    assert not torch.allclose(ours, before, rtol=1e-3)
    twin = copy.deepcopy(model)
    restore_(twin)
    torch.testing.assert_close(ours, latents_of(codec, twin, audio), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("apply", [parametrizations.weight_norm, weight_norm], ids=["parametrised", "hooks"])
@pytest.mark.parametrize("first", ["weight norm", "acceleration"])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_weight_norm_of_either_kind_is_folded(apply, first):
    codec = TINY["dac"]
    model, audio = codec.make(), codec.speech(0.1)
    if first == "acceleration":
        accelerate_(model)
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            with torch.no_grad():  # or what hooks of weight norm leave cannot be copied
                apply(module)
    if first == "weight norm":
        accelerate_(model)
    with torch.no_grad():
        before = latents_of(codec, model, audio)
        for name, parameter in model.encoder.named_parameters():
            if name.endswith(("original0", "weight_g")):
                parameter.mul_(1.2)
        assert_follows(codec, model, audio, before)


@every_tiny
@pytest.mark.parametrize("shape", [(1, 3, 900), (1, 900), (1, 1, 1, 900), (1, 1, 0), (1, 1, 1)], ids=str)
def test_what_the_library_refuses_is_refused_as_it_does(codec, shape):
    model = codec.make()
    twin = copy.deepcopy(model)
    accelerate_(twin)

    def outcome(m: nn.Module) -> tuple[type, str] | torch.Size:
        try:
            return m.encoder(torch.zeros(shape)).shape
        except Exception as error:
            return type(error), str(error)

    with torch.no_grad():
        assert outcome(twin) == outcome(model)


@every_tiny
def test_a_model_in_another_dtype_is_left_to_the_library(codec):
    model = codec.make().double()
    twin = copy.deepcopy(model)
    accelerate_(twin)
    audio = codec.speech(0.1).double()
    with torch.no_grad():
        assert torch.equal(latents_of(codec, twin, audio), latents_of(codec, model, audio))
        with pytest.raises(RuntimeError):
            latents_of(codec, twin, audio.float())


def test_a_snake_by_itself():
    model = TINY["oobleck"].make()
    expected = model.decoder.snake1(x := torch.randn(2, 16, 99, generator=torch.Generator().manual_seed(0)))
    accelerate_(model, ["snake"])
    with torch.no_grad():
        assert isinstance(model.decoder.snake1, Form)
        torch.testing.assert_close(model.decoder.snake1(x), expected.detach(), rtol=1e-6, atol=1e-6)


def test_the_encoder_of_stable_audio_gives_43_means_and_variances_of_two_seconds():
    from diffusers import AutoencoderOobleck

    torch.manual_seed(0)
    model = AutoencoderOobleck(
        encoder_hidden_size=128,
        channel_multiples=[1, 2, 4, 8, 16],
        downsampling_ratios=[2, 4, 4, 8, 8],
        decoder_channels=2,
    ).eval()
    accelerate_(model)
    with torch.no_grad():
        distribution = model.encode(CODECS["oobleck stereo"].speech(2)).latent_dist
    assert distribution.mean.shape == distribution.logvar.shape == (1, 64, 43)
    assert distribution.mean.isfinite().all()
