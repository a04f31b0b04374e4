"""Steps of both stages: what is masked, frozen and taken out, and at which learning rate."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from silk_fast import SilkCodec, SilkConfig, accelerate_
from silk_fast.errors import SilkConfigError
from silk_fast.training.config import Stage2Config
from silk_fast.training.loop import RunOptions
from silk_fast.training.run import make_stage
from silk_fast.training.stage import learning_rate_factor
from silk_fast.training.stage1 import Stage1, span_mask
from silk_fast.training.stage2 import fix_last_affine_
from tests.training.conftest import voiced
from tests.training.runs import STAGE1, STAGE2


def test_kernels_train_the_predictor_as_the_reference_does():
    """Loss and gradient of one step of stage 1, which looks ahead; on a CPU kernels run in Triton's interpreter."""
    audio = torch.from_numpy(voiced(1.6, 120, 0))[None, None]
    plain, fast = (make_stage(STAGE1, torch.device("cpu"), RunOptions(Path())) for _ in range(2))
    for network in fast.networks:
        accelerate_(network, ["rel_attention", "bias_silu", "add_layer_norm", "glu_conv_norm_silu"])
    expected, got = plain.step(audio, 0), fast.step(audio, 0)
    assert got["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-4)
    assert got["gradient"].item() == pytest.approx(expected["gradient"].item(), rel=1e-3)


def test_frozen_encoder_stages_keep_their_weights(speech_folder, tmp_path):
    config = replace(STAGE2, frozen_encoder_stages=1)
    stage = make_stage(config, torch.device("cpu"), RunOptions(tmp_path))
    before = {name: t.clone() for name, t in stage.codec.encoder.state_dict().items()}
    audio = torch.from_numpy(voiced(0.8, 120, 0))[None, None]
    stage.step(audio, 0)
    moved = {name for name, t in stage.codec.encoder.state_dict().items() if not torch.equal(t, before[name])}
    frozen = {name for name in before if name.startswith(("input.", "stages.0."))}
    assert moved == before.keys() - frozen
    too_many = replace(STAGE2, frozen_encoder_stages=9)
    with pytest.raises(SilkConfigError, match="frozen_encoder_stages must be at most 4, got 9"):
        make_stage(too_many, torch.device("cpu"), RunOptions(tmp_path))


def test_the_last_gain_and_bias_which_standardisation_undoes_are_taken_out():
    """Codes stay, neither is trained again, and the latents' mean is the one that the centre loss has to see."""
    codec = SilkCodec(SilkConfig.preset("tiny"), seed=0).eval()
    last = codec.conformer.blocks[-1].norm5
    audio = torch.from_numpy(voiced(4.0, 120, 0)[:96000])[None, None]
    with torch.no_grad():
        last.weight.copy_(torch.linspace(0.5, 2, last.weight.numel())).mul_(-1)
        last.bias.fill_(3.0)
        codec.quantizer.norm.set_statistics(codec.latents(audio))
        tokens = codec.encode(audio).tokens
        fix_last_affine_(codec)
        assert (codec.encode(audio).tokens != tokens).float().mean() < 0.01  # ties
        assert codec.latents(audio).square().mean() == pytest.approx(1, abs=1e-3)
    assert not last.weight.requires_grad
    assert not last.bias.requires_grad


@pytest.mark.parametrize("n_frames", [1, 2, 5, 32])
@pytest.mark.parametrize("span", [1, 2, 5])
def test_masks_keep_their_ratio(n_frames, span):
    for seed in range(20):
        mask = span_mask(n_frames, 0.5, span, torch.Generator().manual_seed(seed))
        assert int(mask.sum()) == max(1, round(0.5 * n_frames))


def test_prediction_sees_nothing_of_masked_frames():
    stage = Stage1(STAGE1, SilkCodec(SilkConfig.preset("tiny"), seed=0), torch.device("cpu"))
    encoded = torch.randn(1, 4, 128, requires_grad=True)
    stage.student.encoder = torch.nn.Identity()
    predicted = stage.student(encoded, torch.tensor([[False, True, True, False]]))
    predicted.square().sum().backward()
    assert (encoded.grad[0].abs().sum(-1) > 0).tolist() == [True, False, False, True]


def test_learning_rate_warms_up_and_falls():
    config = Stage2Config(steps=100, warmup_steps=10, final_learning_rate=0.1)
    factors = [learning_rate_factor(step, config) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:11] == [1.0, 1.0]
    assert all(a >= b for a, b in pairwise(factors[10:]))
    assert factors[-1] == pytest.approx(0.1, abs=0.01)
