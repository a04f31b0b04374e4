"""accelerate_ and restore_: what is swapped, what stays the same, and that it can be undone exactly."""

import copy
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from silk_fast import SilkInputError, accelerate_, restore_
from silk_fast.acceleration import known_ops, silk
from silk_fast.reference.layers import CausalConv1d, Snake
from tests.acceleration.support import TINY, types
from tests.kernels.support import DEVICE
from tests.support import make_codec

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


@pytest.mark.parametrize(
    "copier", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "deepcopy", "pickle"]
)
def test_a_parametrised_codec_that_was_used_can_be_copied(copier, monkeypatch):
    monkeypatch.setattr("silk_fast.acceleration.swap._why_no_kernels", lambda model: "no GPU")  # or it takes minutes
    codec = make_codec(TINY).apply_weight_norm_()
    accelerate_(codec)
    audio = torch.zeros(1, 1, 9600)
    expected = codec.encode(audio).tokens
    twin = copier(codec)
    assert not any(vars(module).get("_folds") for module in twin.modules())
    assert torch.equal(twin.encode(audio).tokens, expected)


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
    report = accelerate_(make_codec(replace(TINY, phases="harmonic")).apply_weight_norm_().to(DEVICE))
    assert {swap.op for swap in report.swaps} == {entry.op for entry in silk.replacements()} <= set(known_ops())
    assert set(report.refused.values()) == {"its weight is parametrised; fold_weight_norm_() first"}


PLAIN_CPU = """
import torch
from silk_fast import SilkCodec, SilkConfig, accelerate_
from silk_fast.cpu import library
codec = SilkCodec(SilkConfig.preset("tiny"), seed=0).eval()
tokens = torch.zeros(1, 2, 19, dtype=torch.int32)
expected = codec.decode(tokens)
report = accelerate_(codec)
names = "CausalConv1d Snake ResidualUnit FeedForward RelativeAttention ConvModule ConformerBlock Quantizer InverseSTFT"
in_c = {f"Cpu{name}" for name in names.split()}
attention = "CpuRelativeAttention" if library.available() else "FoldedRelativeAttention"
ours = {"FoldedWeight", *(in_c if library.available() else {attention})}
assert set(report.swapped.values()) == ours, report
reason = "Triton kernels need a CUDA GPU, the model is on cpu"
reason += library.why_not() and f"; {library.why_not()}"
assert set(report.refused.values()) == {reason}, report
assert f"{attention}: {reason}" in str(report)
torch.testing.assert_close(codec.decode(tokens), expected, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests what happens without a GPU")
def test_on_a_cpu_it_folds_and_says_that_kernels_need_a_gpu():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", PLAIN_CPU], env=environment, check=True)


WITHOUT_TRITON = """
import sys
from dataclasses import replace
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
