"""accelerate_ and restore_: what is swapped, what stays the same, and that it can be undone exactly."""

import copy
import os
import pickle
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from silk_fast import SilkCodec, SilkConfig, SilkInputError, accelerate_, restore_
from silk_fast.accelerate import OPS
from silk_fast.reference.conformer import RelativeAttention
from silk_fast.reference.layers import CausalConv1d, Snake
from silk_fast.training.config import Stage1Config, Stage2Config
from silk_fast.training.loop import RunOptions
from silk_fast.training.run import make_stage
from tests.kernels.support import ATOL, DEVICE
from tests.test_codec import assert_same_tokens, make_codec
from tests.test_initialisation import voices

TINY = SilkConfig.preset("tiny", encoder_channels=(16, 8, 16, 16, 24), conformer_layers=1)
N_FRAMES = 2


@pytest.fixture
def codec() -> SilkCodec:
    return make_codec(TINY).to(DEVICE)


@pytest.fixture(scope="module")
def audio() -> torch.Tensor:
    return voices()[..., : N_FRAMES * 9600].to(DEVICE)


def types(model: torch.nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.modules()]


# ---------------------------------------------------------------- same results


def test_accelerated_codec_gives_the_same_tokens_and_audio(codec, audio):
    expected = codec.encode(audio)
    sound = codec.decode(expected.tokens)
    with torch.no_grad():
        latents = codec.quantizer.norm(codec.latents(audio))
    report = accelerate_(codec, deterministic=True)
    assert not report.refused
    assert_same_tokens(codec.encode(audio).tokens, expected.tokens, latents, TINY.levels)
    torch.testing.assert_close(codec.decode(expected.tokens), sound, rtol=0, atol=1e-5)


def training_gradients(audio: torch.Tensor, dtype: torch.dtype, accelerated: bool = False) -> dict[str, torch.Tensor]:
    model = make_codec(TINY).apply_weight_norm_().to(DEVICE, dtype)
    model.quantizer.norm.frozen = True
    if accelerated:
        accelerate_(model, deterministic=True)
    audio = audio.to(dtype)
    out = model.decoder(model.quantizer(model.latents(audio)).to(dtype))
    (out - audio).square().mean().backward()
    return {name: p.grad.double().cpu() for name, p in model.named_parameters()}


def test_gradients_of_a_training_loss_are_within_the_bound(audio):
    """Relative error of every gradient against twice the worst of the reference in the same part of the model.

    Gradients that vanish by symmetry, such as that of the keys' bias, are measured against a
    thousandth of the largest in their part.
    """
    exact, eager = training_gradients(audio, torch.float64), training_gradients(audio, torch.float32)
    ours = training_gradients(audio, torch.float32, accelerated=True)

    def errors(gradients: dict[str, torch.Tensor], part: str) -> dict[str, float]:
        norms = {name: g.norm() for name, g in exact.items() if name.startswith(part)}
        floor = 1e-3 * max(norms.values())
        return {n: ((gradients[n] - exact[n]).norm() / norm.clamp(min=floor)).item() for n, norm in norms.items()}

    for part in ("encoder", "conformer", "decoder"):
        bound = 2 * max(errors(eager, part).values()) + ATOL[torch.float32]
        worst, error = max(errors(ours, part).items(), key=lambda item: item[1])
        assert error <= bound, f"{worst}: relative error {error:.1e} > {bound:.1e}"
        assert bound < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else []), ids=str)
def test_half_precision_is_close_and_keeps_the_interfaces_in_float32(codec, audio, dtype):
    tokens = codec.encode(audio).tokens
    expected = codec.decode(tokens)
    with torch.no_grad():
        latents = codec.latents(audio)
    report = accelerate_(codec, dtype=dtype)
    assert {name.split(".units")[0] for name in report.refused} == {
        "encoder.stages.1"
    }  # its 8 channels are no multiple of 16
    with torch.no_grad():
        half = codec.latents(audio)
    assert half.dtype == torch.float32
    tolerance = 0.02 if dtype == torch.float16 else 0.15
    assert (half - latents).abs().mean() < tolerance * latents.abs().mean()
    decoded = codec.decode(tokens)
    assert decoded.dtype == torch.float32
    assert (decoded - expected).square().mean() < tolerance**2 * expected.square().mean()
    agree = (codec.encode(audio).tokens == tokens).float().mean()
    assert agree > 0.5 if dtype == torch.float16 else agree > 0


def test_accelerated_stream_equals_accelerated_whole(codec, audio):
    accelerate_(codec, deterministic=True)
    tokens = codec.encode(audio).tokens
    with codec.streaming() as stream:
        streamed = torch.cat([stream.encode(audio[..., :9700]), stream.encode(audio[..., 9700:])], dim=1)
        sound = torch.cat([stream.decode(tokens[:, i : i + 1]) for i in range(N_FRAMES)], dim=-1)
    assert torch.equal(streamed, tokens)
    torch.testing.assert_close(sound, codec.decode(tokens), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- nothing else changes


def test_state_dict_and_parameters_stay_the_same_objects(codec):
    parameters = {name: id(p) for name, p in codec.named_parameters()}
    state = {name: t.clone() for name, t in codec.state_dict().items()}
    accelerate_(codec)
    assert {name: id(p) for name, p in codec.named_parameters()} == parameters
    assert codec.state_dict().keys() == state.keys()
    assert all(torch.equal(t, state[name]) for name, t in codec.state_dict().items())


def test_restore_is_bit_identical(codec, audio):
    tokens, names = codec.encode(audio).tokens, types(codec)
    expected = codec.decode(tokens)
    accelerate_(codec, dtype=torch.float16)
    codec.decode(tokens)
    assert types(codec) != names
    restore_(codec)
    assert types(codec) == names
    assert torch.equal(codec.decode(tokens), expected)
    assert not any("policy" in vars(m) or "_folds" in vars(m) for m in codec.modules())


def test_other_instances_are_untouched(codec):
    other = make_codec(TINY)
    names = types(other)
    accelerate_(codec)
    assert types(other) == names
    assert type(Snake(3)) is Snake


def test_print_shows_the_swap(codec):
    assert "FusedSnake" not in repr(codec)
    accelerate_(codec)
    for name in ("FusedSnake", "FusedResidualUnit", "FusedQuantizer", "FusedRelativeAttention", "PolicyCausalConv1d"):
        assert name in repr(codec)


def test_accelerating_twice_is_accelerating_once(codec):
    accelerate_(codec, dtype=torch.float16)
    report = accelerate_(codec, ops=["snake"])
    assert set(report.swapped.values()) == {"FusedSnake"}
    assert "FusedResidualUnit" not in repr(codec)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_accelerated_and_independent(codec, copier):
    tokens = torch.zeros(1, 1, 19, dtype=torch.int32, device=DEVICE)
    accelerate_(codec)
    expected = codec.decode(tokens)
    twin = copier(codec)
    assert types(twin) == types(codec)
    with torch.no_grad():
        twin.decoder.snake.log_alpha += 1
    assert torch.equal(codec.decode(tokens), expected)
    assert not torch.equal(twin.decode(tokens), expected)


def test_changed_weights_are_seen(codec):
    """What was folded is computed again after an optimiser step, a load or a move."""
    tokens = torch.zeros(1, 1, 19, dtype=torch.int32, device=DEVICE)
    accelerate_(codec)
    before = codec.decode(tokens)
    state = {name: t * 1.1 if "log_alpha" in name else t for name, t in codec.state_dict().items()}
    state = {name: t + 0.1 if "log_alpha" in name else t for name, t in state.items()}
    codec.load_state_dict(state)
    after = codec.decode(tokens)
    restore_(codec)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, codec.decode(tokens), rtol=0, atol=1e-5)


def test_accelerating_again_renews_what_data_changed_behind_the_folds(codec):
    """``.data`` hides its changes from PyTorch's count of versions."""
    tokens = torch.zeros(1, 1, 19, dtype=torch.int32, device=DEVICE)
    accelerate_(codec)
    codec.decode(tokens)
    for snake in (module for module in codec.modules() if isinstance(module, Snake)):
        snake.log_alpha.data.add_(0.1)
    accelerate_(codec)
    renewed = codec.decode(tokens)
    restore_(codec)
    torch.testing.assert_close(renewed, codec.decode(tokens), rtol=0, atol=1e-5)


def test_positions_of_many_lengths_are_not_all_kept():
    attention = RelativeAttention(16, 2, (None, None)).to(DEVICE)
    accelerate_(attention)
    with torch.no_grad():
        rows = [attention.projected_positions(n).shape[1] for n in (3, 5, 3)]
        assert attention.projected_positions(3) is attention.projected_positions(3)
    assert rows == [5, 9, 5]
    assert list(vars(attention)["_folds"]) == ["positions"]


# ---------------------------------------------------------------- weight norm


def test_what_was_parametrised_after_acceleration_is_restored_too(audio):
    codec, twin = (make_codec(TINY).to(DEVICE) for _ in range(2))
    twin.apply_weight_norm_()
    accelerate_(codec, deterministic=True)
    codec.apply_weight_norm_()
    assert any(type(m).__name__ == "ParametrizedPolicyCausalConv1d" for m in codec.modules())
    restore_(codec)
    assert types(codec) == types(twin)
    assert isinstance(codec.encoder.input, CausalConv1d)
    assert not any("policy" in vars(m) or "_folds" in vars(m) for m in codec.modules())
    tokens = twin.encode(audio).tokens
    assert torch.equal(codec.encode(audio).tokens, tokens)
    assert torch.equal(codec.decode(tokens), twin.decode(tokens))
    codec.fold_weight_norm_()  # the parametrisation is whole
    assert type(codec.encoder.input) is CausalConv1d


def test_weight_norm_is_folded_without_changing_the_state_dict(audio):
    codec = make_codec(TINY).apply_weight_norm_().to(DEVICE)
    names = list(codec.state_dict())
    report = accelerate_(codec, ops=["weight_norm"])
    assert set(report.swapped.values()) == {"FoldedWeight"}
    assert list(codec.state_dict()) == names
    conv = codec.encoder.input
    with torch.no_grad():
        assert conv.weight is conv.weight  # computed once
        first = conv.weight
        conv.parametrizations.weight.original0.mul_(2)
        torch.testing.assert_close(conv.weight, 2 * first)
    conv.weight.sum().backward()  # with gradients it is computed as ever
    assert conv.parametrizations.weight.original0.grad is not None


# ---------------------------------------------------------------- torch.compile, export, autocast


def test_compiles_in_one_graph_before_and_after(audio):
    unit = make_codec(TINY).decoder.units[0].to(DEVICE)
    x = torch.randn(1, TINY.decoder_channels, 20, device=DEVICE)
    expected = unit(x)
    compiled = torch.compile(unit, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    accelerate_(unit, ops=["residual_unit"])
    torch.testing.assert_close(compiled(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        torch.compile(unit, backend="aot_eager", fullgraph=True)(x), expected, rtol=1e-5, atol=1e-5
    )


def test_exports(codec):
    block = codec.conformer.blocks[0]
    accelerate_(block)
    x = torch.randn(1, 5, 128, device=DEVICE)
    with torch.no_grad():
        program = torch.export.export(block, (x,))
        torch.testing.assert_close(program.module()(x), block(x), rtol=1e-5, atol=1e-5)
    targets = {str(node.target) for node in program.graph.nodes}
    assert any("silk_fast.rel_attention" in target for target in targets)


@pytest.mark.parametrize("strict", [True, False])
def test_deterministic_convolutions_survive_compilation_and_export(codec, strict):
    """They are an operation: nothing is lost where settings of cuDNN cannot be recorded."""
    unit = codec.decoder.units[0]
    x = torch.randn(1, TINY.decoder_channels, 20, device=DEVICE)
    model = torch.nn.Sequential(unit, codec.decoder.snake, codec.decoder.head)
    expected = model(x)
    accelerate_(model, deterministic=True)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled, expected, rtol=1e-5, atol=1e-5)
    compiled.sum().backward()
    with torch.no_grad():
        program = torch.export.export(model, (x,), strict=strict)
    torch.testing.assert_close(program.module()(x), expected, rtol=1e-5, atol=1e-5)
    operations = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert [name for name in operations if "conv" in name] == ["silk_fast.conv1d_ieee.default"] * 3


def test_deterministic_means_every_convolution_of_the_model(codec, audio, monkeypatch):
    accelerate_(codec, deterministic=True)
    flags = []
    convolve = F.conv1d

    def recording(*arguments, **options):
        flags.append(torch.backends.cudnn.deterministic)
        return convolve(*arguments, **options)

    monkeypatch.setattr(F, "conv1d", recording)
    monkeypatch.setattr(torch, "conv1d", recording)
    codec.decoder(codec.quantizer(codec.latents(audio[..., :9600])))
    assert len(flags) == sum(isinstance(m, torch.nn.Conv1d) and m.groups == 1 for m in codec.modules())
    assert all(flags)


# ---------------------------------------------------------------- autocast


def autocast() -> torch.autocast:
    """Float16, for the interpreter is wrong for bfloat16."""
    return torch.autocast(DEVICE, torch.float16)


def run_codec(codec: SilkCodec, audio: torch.Tensor, precision: AbstractContextManager) -> tuple[torch.Tensor, ...]:
    """Latents, decoded audio, and gradients of a loss, by part of the model.

    The decoder hears latents and not codes, of which some would flip; the loss has both.
    """
    codec.zero_grad()
    with precision:
        latents = codec.latents(audio)
        decoded = codec.decoder(latents)
        codes = codec.quantizer(latents)
    ((decoded.float() - audio).square().mean() + 0.1 * codes.square().mean()).backward()
    parts = codec.encoder, codec.conformer, codec.decoder
    gradients = (torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None]) for part in parts)
    return latents.detach(), decoded.detach(), *gradients


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def assert_near(ours: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert ours.dtype == expected.dtype
    error = relative_error(ours, expected)
    assert error <= tolerance, f"relative error {error:.1e} > {tolerance:.0e}"


def test_under_autocast_a_whole_codec_is_as_close_as_the_reference_forward_and_backward(codec, audio):
    """Every operation at once, where float32 signals meet half-precision residuals, weights and positions."""
    codec.quantizer.norm.frozen = True
    exact, eager = (run_codec(codec, audio, precision) for precision in (nullcontext(), autocast()))
    assert not accelerate_(codec).refused
    for ours, theirs, truth in zip(run_codec(codec, audio, autocast()), eager, exact, strict=True):
        assert ours.dtype == theirs.dtype
        assert_near(ours, truth, 1.5 * relative_error(theirs, truth))
        assert_near(ours, truth, 0.2)


def test_under_autocast_a_stream_follows_the_reference(codec, audio):
    tokens, frames = codec.encode(audio).tokens, torch.randn(1, 3, 128, device=DEVICE)
    results = []
    for _ in range(2):
        with autocast(), torch.no_grad(), codec.streaming() as stream:
            decoded = torch.cat([stream.decode(tokens[:, i : i + 1]) for i in range(N_FRAMES)], dim=-1)
            state = codec.conformer.initial_state(1)
            latents = [codec.conformer(frame, state=state) for frame in frames.split(1, dim=1)]
        results.append([decoded, torch.cat(latents, dim=1)])
        accelerate_(codec)
    for ours, theirs in zip(*reversed(results), strict=True):
        assert_near(ours, theirs, 0.01)


@pytest.mark.parametrize("half_first", [True, False])
def test_folds_are_of_the_autocast_they_are_used_in(codec, half_first):
    attention = codec.conformer.blocks[0].attention
    x = torch.randn(1, 5, 128, device=DEVICE)

    def outputs() -> list[torch.Tensor]:
        results = []
        for half in (half_first, not half_first):
            with torch.autocast(DEVICE, torch.float16, enabled=half), torch.no_grad():
                results.append((attention(x), attention.projected_positions(5)))
        return [tensor for pair in results for tensor in pair]

    expected = outputs()
    accelerate_(codec)
    for ours, theirs in zip(outputs(), expected, strict=True):
        assert_near(ours, theirs, 1e-2)


STEP = {"preset": "tiny", "batch_size": 2, "steps": 6, "warmup_steps": 5}
STAGES = {
    "stage1": Stage1Config(**STEP, crop_seconds=1.6, predictor_layers=1),
    "stage2": Stage2Config(**STEP, crop_seconds=0.4, adversarial_from=0, discriminator_channels=2),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_training_step_under_autocast_learns_the_same(name):
    config = STAGES[name]
    n_samples = round(config.crop_seconds * 24_000)
    audio = voices()[..., : 2 * n_samples].reshape(2, 1, n_samples).to(DEVICE)
    results = []
    for accelerated in (False, True):
        stage = make_stage(config, torch.device(DEVICE), RunOptions(Path()))
        stage.autocast = lambda device: autocast()
        for network in stage.networks if accelerated else []:
            accelerate_(network)
        results.append(stage.step(audio, 0))
    expected, ours = results
    torch.testing.assert_close(ours["loss"], expected["loss"], rtol=0.01, atol=0)
    torch.testing.assert_close(ours["gradient"], expected["gradient"], rtol=0.03, atol=0)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ops": ["warp_drive"]}, "unknown op 'warp_drive'; expected some of weight_norm, conv, snake"),
        ({"ops": ["weight_norm"]}, "op 'weight_norm' matches no module of SilkCodec"),
        ({"dtype": torch.float64}, "dtype must be torch.float32, torch.float16 or torch.bfloat16, got torch.float64"),
        ({"dtype": torch.float16, "deterministic": True}, "deterministic means IEEE float32"),
    ],
)
def test_impossible_requests_change_nothing(codec, options, message):
    names = types(codec)
    with pytest.raises(SilkInputError, match=message):
        accelerate_(codec, **options)
    assert types(codec) == names
    accelerate_(codec)
    names = types(codec)
    with pytest.raises(SilkInputError, match=message):
        accelerate_(codec, **options)
    assert types(codec) == names


def test_every_op_matches_a_module_of_the_training_form():
    report = accelerate_(make_codec(TINY).apply_weight_norm_().to(DEVICE))
    assert {swap.op for swap in report.swaps} == set(OPS.values())
    assert set(report.refused.values()) == {"its weight is parametrised; fold_weight_norm_() first"}


PLAIN_CPU = """
import torch
from silk_fast import SilkCodec, SilkConfig, accelerate_
codec = SilkCodec(SilkConfig.preset("tiny"), seed=0).eval()
tokens = torch.zeros(1, 2, 19, dtype=torch.int32)
expected = codec.decode(tokens)
report = accelerate_(codec)
ours = {"FoldedWeight", "InPlaceSnake", "InPlaceResidualUnit", "FoldedRelativeAttention"}
assert set(report.swapped.values()) == ours, report
reason = "Triton kernels need a CUDA GPU, the model is on cpu"
assert set(report.refused.values()) == {reason}, report
assert "InPlaceSnake: " + reason in str(report)
assert torch.equal(codec.decode(tokens), expected)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests what happens without a GPU")
def test_on_a_cpu_it_folds_and_says_that_kernels_need_a_gpu():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", PLAIN_CPU], env=environment, check=True)


WITHOUT_TRITON = """
import sys
import torch
sys.modules["triton"] = {triton}
from silk_fast import SilkCodec, SilkConfig, accelerate_
codec = SilkCodec(SilkConfig.preset("tiny"), seed=0).eval()
report = accelerate_(codec)
assert set(report.refused.values()) == {{"{reason}"}}, report
assert codec.decode(torch.zeros(1, 1, 19, dtype=torch.int32)).shape == (1, 1, 9600)
"""


@pytest.mark.parametrize(
    ("triton", "reason"),
    [
        ("None", "triton is not installed; kernels need Linux with an NVIDIA GPU"),  # importing it fails
        (
            'type(sys)("triton"); sys.modules["triton"].__version__ = "3.2.0"',
            "triton 3.2.0 is too old; kernels need 3.3 or later, which torch 2.7 brings",
        ),
    ],
    ids=["absent", "old"],
)
def test_without_a_triton_that_serves_the_reference_works_and_the_report_says_why(triton, reason):
    subprocess.run([sys.executable, "-c", WITHOUT_TRITON.format(triton=triton, reason=reason)], check=True)
