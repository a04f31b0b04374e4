"""Accelerated codecs compute what the untouched ones do: codes, audio, gradients; on a CPU."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from silk_fast import accelerate_, restore_
from silk_fast.acceleration import Form
from silk_fast.codecs import places
from silk_fast.cpu.ops import why_no_bfloat16
from tests.codecs.configurations import CODECS, TINY
from tests.codecs.support import Codec, Encodec, Mimi

pytestmark = pytest.mark.usefixtures("on_cpu")

every_tiny = pytest.mark.parametrize("codec", TINY.values(), ids=TINY)
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def share_of_ties(codec: Codec, model: nn.Module, audio: Tensor, ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The share of codes that differ at near ties; others must not, but for later stages of the same frames."""
    base = max(code.shape[-1] for code in theirs)
    changed = torch.zeros(audio.shape[0], base, dtype=torch.bool)
    n_ties = 0
    for mine, code, margin in zip(ours, theirs, codec.margins(model, audio, ours), strict=True):
        stride = base // code.shape[-1]
        differs = (mine != code) & ~changed.unfold(-1, stride, stride).any(-1)
        assert (margin[differs] < codec.margin).all()
        n_ties += int(differs.sum())
        changed |= differs.repeat_interleave(stride, -1)
    return n_ties / sum(code.numel() for code in theirs)


def assert_same_results(codec: Codec, seconds: float) -> None:
    model, audio = codec.make(), codec.speech(seconds)
    twin = copy.deepcopy(model)
    accelerate_(twin)
    with torch.no_grad():
        theirs, ours = (codec.encode(m, audio) for m in (model, twin))
        results = codec.results(ours), codec.results(theirs)
        if results[0][0].is_floating_point():
            torch.testing.assert_close(*results, rtol=0, atol=1e-5)
        else:
            assert share_of_ties(codec, model, audio, *results) <= 0.002
        expected = codec.decode(model, theirs)
        peak = expected.abs().max().item()
        assert 0.05 < peak < 10
        torch.testing.assert_close(codec.decode(twin, theirs), expected, rtol=0, atol=1e-4 * peak)


@every_tiny
def test_codes_are_equal_and_audio_is_within_a_ten_thousandth_of_its_peak(codec):
    assert_same_results(codec, 0.3)


@pytest.mark.slow
@every_codec
def test_of_real_size_too(codec):
    assert_same_results(codec, 3)


@pytest.mark.skipif(bool(why_no_bfloat16()), reason=why_no_bfloat16())
@pytest.mark.parametrize("name", ["dac", "snac", "oobleck", "encodec", "encodec in chunks", "mimi"])
def test_the_error_of_bfloat16_is_at_most_twice_the_librarys_own(name):
    codec = TINY[name]
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
        exact = codec.latents(model, audio)
        ours = codec.latents(half, audio)
        assert ours.dtype == torch.float32
        assert 0 < error(ours, exact) <= 2 * error(codec.latents(theirs, audio.bfloat16()), exact)
        decoded = [codec.synthesise(m, x) for m, x in ((half, exact), (theirs, exact.bfloat16()), (model, exact))]
        assert 0 < error(decoded[0], decoded[2]) <= 2 * error(decoded[1], decoded[2])


@every_tiny
def test_a_clip_of_a_batch_has_the_bits_that_it_has_alone(codec):
    model, audio = codec.make(), codec.speech(0.3)
    clips = torch.cat([audio[..., :4000], audio[..., -4000:]])
    accelerate_(model)
    with torch.no_grad():
        together = codec.latents(model, clips)
        alone = [codec.latents(model, clip[None]) for clip in clips]
    if isinstance(codec, Encodec):  # PyTorch's LSTM has other bits in a batch
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(together, torch.cat(alone))


@every_tiny
def test_training_is_the_librarys_own(codec):
    gradients = []
    for accelerated in (False, True):
        model = codec.make().train()
        if accelerated:
            accelerate_(model)
        torch.manual_seed(2)
        out = model(codec.speech(0.1))
        out = (
            out[0]
            if isinstance(out, tuple)
            else getattr(out, "sample", None)
            if codec is TINY["oobleck"]
            else out.audio_values
        )
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
        z = codec.latents(model, audio)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = []
            for m in (model, twin):
                torch.manual_seed(1)
                decoded.append(codec.synthesise(m, z))
            assert torch.equal(*decoded)
            assert torch.equal(codec.latents(twin, audio), codec.latents(model, audio))
        torch.compiler.reset()  # or what other tests compiled counts towards the limit of recompilations
        twin.encoder = torch.compile(twin.encoder, backend="eager")
        if isinstance(codec, Encodec | Mimi):  # whose graphs break: what lies between is not compiled
            torch.testing.assert_close(codec.latents(twin, audio), z, rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(codec.latents(twin, audio), z)


@every_tiny
def test_results_follow_the_weights(codec):
    model, audio = codec.make(), codec.speech(0.1)
    accelerate_(model)
    with torch.no_grad():
        before = codec.latents(model, audio)
        for parameter in model.encoder.parameters():
            parameter.mul_(1.1)
        assert_follows(codec, model, audio, before)
        before = codec.latents(model, audio)
        model.load_state_dict(codec.make().state_dict())
        assert_follows(codec, model, audio, before)


def assert_follows(codec: Codec, model: nn.Module, audio: Tensor, before: Tensor) -> None:
    """The latents are not those ``before``, but those of the library with the weights as they are."""
    ours = codec.latents(model, audio)
    assert not torch.allclose(ours, before, rtol=1e-3)
    twin = copy.deepcopy(model)
    restore_(twin)
    torch.testing.assert_close(ours, codec.latents(twin, audio), rtol=1e-4, atol=1e-5)


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
        before = codec.latents(model, audio)
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
        assert torch.equal(codec.latents(twin, audio), codec.latents(model, audio))
        with pytest.raises(RuntimeError):
            codec.latents(twin, audio.float())


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


def test_a_stream_of_mimi_is_the_librarys(monkeypatch):
    """Convolutions with the cache of a stream run in C; what the cache holds is the library's own."""
    codec = TINY["mimi"]
    model, audio = codec.make(), codec.speech(0.2)
    twin = copy.deepcopy(model)
    accelerate_(twin)
    conv1d, calls = places.cpu.conv1d, []
    monkeypatch.setattr(places.cpu, "conv1d", lambda *a, **k: calls.append(a[2]) or conv1d(*a, **k))
    caches: list[dict] = [{}, {}]
    with torch.no_grad():
        for chunk in audio.split(1200, dim=-1):  # whole frames
            outputs = []
            for m, cache in zip((model, twin), caches, strict=True):
                out = m.encode(chunk, use_streaming=True, **cache)
                cache["padding_cache"] = out.padding_cache
                cache["encoder_past_key_values"] = out.encoder_past_key_values
                outputs.append(out.audio_codes)
            assert (outputs[0] != outputs[1]).float().mean() <= 0.01
            held = [cache["padding_cache"].padding_cache for cache in caches]
            for ours, theirs in zip(*held, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert any(context is not None for context in calls)
