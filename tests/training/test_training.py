"""Both stages on the tiny preset: they learn, go on as if never stopped, and leave nothing broken behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import soundfile
import torch
import torch.nn.functional as F

from silk_fast import SilkCodec, SilkConfig, accelerate_
from silk_fast.cli import main
from silk_fast.errors import SilkConfigError, SilkFileError, SilkInputError, SilkTrainingError
from silk_fast.training import loop
from silk_fast.training.checkpoint import Checkpoint, checkpoints, load_checkpoint, save_checkpoint
from silk_fast.training.config import Stage1Config, Stage2Config
from silk_fast.training.delay import set_output_delay_
from silk_fast.training.logs import Logs
from silk_fast.training.loop import RunOptions
from silk_fast.training.monitors import LIMITS, CollapseMonitor, effective_rank, fsq_entropy, latent_deviation
from silk_fast.training.run import make_stage, train
from silk_fast.training.stage import learning_rate_factor
from silk_fast.training.stage1 import Stage1, span_mask
from silk_fast.training.stage2 import fix_last_affine_
from tests.training.conftest import RATE, voiced

SHARED = {"preset": "tiny", "precision": "fp32", "warmup_steps": 5}
SIX_STEPS = {**SHARED, "steps": 6, "batch_size": 2}
STAGE1 = Stage1Config(**SIX_STEPS, crop_seconds=1.6)
STAGE2 = Stage2Config(**SIX_STEPS, crop_seconds=0.8)
ADVERSARIAL = Stage2Config(**SIX_STEPS, crop_seconds=0.8, adversarial_from=3, discriminator_channels=2)


def options(folder: Path, **changes) -> dict:
    return {"folder": folder, "device": "cpu", "workers": 0, "log_every": 1, **changes}


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(checkpoints(folder)[-1]).tensors


# ---------------------------------------------------------------- learning


@pytest.fixture(scope="module")
def one_clip(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("one") / "clip.wav"
    soundfile.write(path, voiced(2.0, 120, 0), RATE)
    return str(path)


def test_stage2_overfits_one_clip_and_exports_a_loadable_codec(one_clip, tmp_path):
    """The loss of a two-second clip falls from above 2 to below 1.3, and the exported codec has learned it too."""
    config = Stage2Config(
        **{**SHARED, "warmup_steps": 20}, steps=100, batch_size=2, crop_seconds=2.0, learning_rate=3e-3
    )
    result = train(config, [one_clip], options(tmp_path / "run", log_every=10, listen_every=100))
    losses = [row["loss"] for row in log_of(tmp_path / "run")]
    assert losses[0] > 2
    assert losses[-1] < 1.3
    codec = SilkCodec.from_pretrained(result["model"])
    assert codec.config == SilkConfig.preset("tiny")
    audio = torch.from_numpy(voiced(2.0, 120, 0))[None, None]
    decoded = codec.decode(codec.encode(audio).tokens, torch.tensor([audio.shape[-1]]))
    untrained = SilkCodec(SilkConfig.preset("tiny"), seed=0).eval()
    distance = make_stage(config, torch.device("cpu"), RunOptions(tmp_path)).reconstruction
    assert distance(decoded, audio)["mel"] < 0.6 * distance(untrained(audio[..., :48000]), audio)["mel"]


def test_stage1_predicts_masked_latents_without_collapse_and_stage2_goes_on_from_it(one_clip, speech_folder, tmp_path):
    config = Stage1Config(**{**SHARED, "warmup_steps": 20}, steps=50, batch_size=2, crop_seconds=2.0)
    result = train(config, [speech_folder], options(tmp_path / "run"))
    rows = log_of(tmp_path / "run")
    first, last = (sum(row["loss"] for row in part) / 10 for part in (rows[:10], rows[-10:]))
    assert last < 0.5 * first
    assert rows[-1]["effective_rank"] > 4
    assert rows[-1]["latent_variance_smallest"] > 1e-3
    stage = make_stage(STAGE2, torch.device("cpu"), RunOptions(tmp_path), init=result["model"])
    exported = SilkCodec.from_pretrained(result["model"], weight_norm=True)
    torch.testing.assert_close(stage.codec.encoder.input.weight, exported.encoder.input.weight)


def test_another_output_delay_begins_where_the_model_was(speech_folder, tmp_path):
    """The encoder looks as much further back as the decoder lags, so the codes mean what they meant."""
    codec = SilkCodec(SilkConfig.preset("tiny"), seed=0, weight_norm=False).eval()
    gather = codec.encoder.stages[-1].down
    with torch.no_grad():
        gather.weight[..., :3] = 0  # the taps that fall away
    codec.save_pretrained(tmp_path / "model")
    x = torch.randn(1, gather.in_channels, 3 * gather.stride[0], generator=torch.Generator().manual_seed(0))
    before = gather(F.pad(x[..., :-3], (3, 0)))
    start = ["train", "stage2", speech_folder, "--preset", "tiny", "--steps", "1", "--batch-size", "1"]
    start += ["--crop-seconds", "0.8", "--init", str(tmp_path / "model"), "-o"]
    arguments = torch.device("cpu"), RunOptions(tmp_path), str(tmp_path / "model")
    stage = make_stage(replace(STAGE2, output_delay=960), *arguments)
    assert stage.codec.config == replace(codec.config, output_delay=960)
    torch.testing.assert_close(stage.codec.encoder.stages[-1].down(x), before)
    stage.codec.fold_weight_norm_()
    back = set_output_delay_(stage.codec, 0)
    torch.testing.assert_close(back.plain_state_dict(), codec.plain_state_dict())
    with pytest.raises(SilkConfigError, match="multiple of 320 samples, got 500"):
        make_stage(replace(STAGE2, output_delay=500), *arguments)
    assert main([*start, str(tmp_path / "lagging"), "--output-delay", "960"]) == 0
    start[-2] = str(tmp_path / "lagging" / "model")
    assert main([*start, str(tmp_path / "again")]) == 0
    assert SilkCodec.from_pretrained(tmp_path / "again" / "model").config.output_delay == 960


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


def test_stage2_listens_with_wavlm_and_logs_pictures_and_sound(speech_folder, tiny_wavlm, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = Stage2Config(**{**SIX_STEPS, "steps": 1}, crop_seconds=0.8, wavlm=tiny_wavlm)
    train(config, [speech_folder], options(tmp_path, listen_every=1))
    assert log_of(tmp_path)[-1]["wavlm"] > 0
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"original", "decoded"} <= set(tags["audio"])
    assert {"original/spectrogram", "decoded/spectrogram"} <= set(tags["images"])
    assert events.Scalars("loss")[0].step == 1


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize(
    "config",
    [STAGE1, STAGE2, replace(STAGE2, optimizer="muon"), ADVERSARIAL],
    ids=["stage1", "stage2", "muon", "adversarial"],
)
def test_a_resumed_run_is_bit_identical(config, speech_folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config, [speech_folder], options(whole))
    result = train(config, [speech_folder], options(parts, checkpoint_every=2, max_minutes=0.0))
    assert result == {"steps": 1, "all_steps": 6, "model": None}
    for max_minutes in (0.0, 0.0, None):  # steps 2 and 3, then the rest
        train(config, [speech_folder], options(parts, resume=True, max_minutes=max_minutes))
    expected, got = tensors_of(whole), tensors_of(parts)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    models = [(folder / "model" / "model.safetensors").read_bytes() for folder in (whole, parts)]
    assert models[0] == models[1]
    assert [piece["to"] for piece in load_checkpoint(checkpoints(parts)[-1]).pieces] == [1, 2, 3, 6]


def test_a_killed_run_goes_on_from_its_last_checkpoint(speech_folder, tmp_path):
    arguments = ["train", "stage2", speech_folder, "-o", str(tmp_path / "run"), "--preset", "tiny", "--steps", "400"]
    arguments += ["--batch-size", "1", "--crop-seconds", "0.4", "--checkpoint-every", "2", "--threads", "1"]
    process = subprocess.Popen([sys.executable, "-m", "silk_fast.cli", *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run").is_dir() or len(checkpoints(tmp_path / "run")) < 2:
        assert time.monotonic() < deadline, "no checkpoint appeared"
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = load_checkpoint(checkpoints(tmp_path / "run")[-1]).step
    assert main([*arguments, "--resume", "--max-minutes", "0"]) == 0
    assert load_checkpoint(checkpoints(tmp_path / "run")[-1]).step == last + 1


def test_two_processes_share_the_work(speech_folder, tmp_path):
    script = Path(__file__).with_name("two_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = [*command, str(script), speech_folder, str(tmp_path / "run")]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2
    assert [row["step"] for row in log_of(tmp_path / "run")] == [1, 2, 3, 4, 5]
    assert SilkCodec.from_pretrained(tmp_path / "run" / "model").config == SilkConfig.preset("tiny")


def test_a_run_resumed_after_its_last_step_exports_the_same_model(speech_folder, tmp_path):
    """Its statistics were frozen when the adversary entered, and are not estimated again."""
    folder = tmp_path / "run"
    train(ADVERSARIAL, [speech_folder], options(folder))
    weights = (folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(folder / "model")
    train(ADVERSARIAL, [speech_folder], options(folder, resume=True))
    assert (folder / "model" / "model.safetensors").read_bytes() == weights


def test_a_resumed_run_needs_no_init_keeps_its_history_and_refuses_other_data(speech_folder, tmp_path):
    first = train(replace(STAGE2, steps=1), [speech_folder], options(tmp_path / "first"))
    train(STAGE2, [speech_folder], options(tmp_path / "run", max_minutes=0), init=first["model"])
    shutil.rmtree(first["model"])
    fewer = sorted(Path(speech_folder).iterdir())[:3]
    with pytest.raises(SilkConfigError, match="expected the same"):
        train(STAGE2, [str(path) for path in fewer], options(tmp_path / "run", resume=True))
    done = train(STAGE2, [speech_folder], options(tmp_path / "run", resume=True))
    runs = json.loads((Path(done["model"]) / "training.json").read_text())
    assert [run["steps"] for run in runs] == [1, 6]
    assert "earlier" not in runs[1]
    assert [row["step"] for row in log_of(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def test_what_a_killed_run_logged_after_its_checkpoint_is_dropped(tmp_path):
    lines = [json.dumps({"step": step}) + "\n" for step in range(1, 6)]
    (tmp_path / "log.jsonl").write_text("".join(lines) + '{"step": 6, "los')
    with Logs(tmp_path, True, RATE, first_step=3) as logs:
        logs.scalars(4, {"loss": 1.0}, 0.0)
    assert [row["step"] for row in log_of(tmp_path)] == [1, 2, 3, 4]


# ---------------------------------------------------------------- what goes wrong


def test_a_loss_that_is_not_finite_stops_and_saves_the_batch(speech_folder, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from silk_fast.training.losses import ReconstructionLoss

    good = ReconstructionLoss.forward
    calls = []

    def turns_bad(self, audio, target):
        calls.append(1)
        losses = good(self, audio, target)
        return {**losses, "mel": losses["mel"] * float("nan")} if len(calls) == 3 else losses

    monkeypatch.setattr(ReconstructionLoss, "forward", turns_bad)
    with pytest.raises(SilkTrainingError, match=r"step 2.*nan.*bad-batch-00000002-0"):
        train(STAGE2, [speech_folder], options(tmp_path, checkpoint_every=1))
    assert load_file(tmp_path / "bad-batch-00000002-0.safetensors")["audio"].shape == (2, 1, 19_200)
    assert load_checkpoint(checkpoints(tmp_path)[-1]).step == 2


def test_collapse_stops_the_run_after_patience():
    monitor = CollapseMonitor(patience=2, grace=10)
    for step in range(10):
        monitor.check(step, {"fsq_entropy": 0.0})
    monitor.check(10, {"fsq_entropy": 1.0})
    monitor.check(11, {"fsq_entropy": 1.0})
    monitor.check(12, {"fsq_entropy": 2.5})
    monitor.check(13, {"fsq_entropy": 1.0})
    monitor.check(14, {"fsq_entropy": 1.0})
    with pytest.raises(SilkTrainingError, match="fsq_entropy is 1"):
        monitor.check(15, {"fsq_entropy": 1.0})


def test_a_collapsed_run_stops_and_keeps_its_checkpoint(speech_folder, tmp_path, monkeypatch):
    """Steps count, logged or not: patience 4 ends with the second logged step after the grace."""
    monkeypatch.setitem(LIMITS, "fsq_entropy", 9.0)
    monkeypatch.setattr(loop, "GRACE", 0)
    config = replace(STAGE2, steps=40, warmup_steps=0)
    with pytest.raises(SilkTrainingError, match=r"collapsed at step 6: fsq_entropy .* for 6 steps"):
        train(config, [speech_folder], options(tmp_path, log_every=3, patience=4, checkpoint_every=2))
    assert load_checkpoint(checkpoints(tmp_path)[-1]).step == 4


def test_monitors_on_known_latents():
    uniform = (torch.arange(8.0)[None, :, None].expand(2, 8, 3) - 4) / 4
    assert fsq_entropy(uniform, 8) == pytest.approx(3.0)
    assert fsq_entropy(torch.zeros(2, 8, 3), 8) == 0
    assert latent_deviation(torch.ones(2, 8, 3)) == 0
    assert latent_deviation(torch.tensor([[[1.0], [-1.0]]])) == pytest.approx(1.0)
    orthogonal = torch.cat([torch.eye(4), -torch.eye(4)])[None]
    assert effective_rank(orthogonal) == pytest.approx(4.0, rel=1e-4)
    assert effective_rank(torch.linspace(0, 1, 9)[None, :, None] * torch.ones(5)) == pytest.approx(1.0, rel=1e-3)


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


@pytest.fixture
def finished(speech_folder, tmp_path) -> Path:
    config = Stage2Config(preset="tiny", steps=2, batch_size=1, crop_seconds=0.4, precision="fp32")
    train(config, [speech_folder], options(tmp_path / "run", checkpoint_every=1))
    return tmp_path / "run"


def resume(folder: Path, data: str, **changes) -> None:
    values = {"preset": "tiny", "steps": 2, "batch_size": 1, "crop_seconds": 0.4, "precision": "fp32", **changes}
    train(Stage2Config(**values), [data], options(folder, resume=True))


def test_resume_with_another_configuration_is_refused(finished, speech_folder):
    before = {path.name: path.read_bytes() for path in checkpoints(finished)}
    with pytest.raises(SilkConfigError, match="batch_size: 1, 3"):
        resume(finished, speech_folder, batch_size=3)
    assert {path.name: path.read_bytes() for path in checkpoints(finished)} == before


def test_corrupt_and_cut_checkpoints_are_refused_and_the_one_before_is_whole(finished, speech_folder):
    previous, last = checkpoints(finished)
    whole = last.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    for data, message in (
        (flipped, "CRC-32"),
        (whole[: len(whole) // 2], "not a whole checkpoint"),
        (b"", "not a whole"),
    ):
        last.write_bytes(data)
        with pytest.raises(SilkTrainingError, match=message):
            resume(finished, speech_folder)
    assert load_checkpoint(previous).step == 1
    last.unlink()
    resume(finished, speech_folder)
    assert checkpoints(finished)[-1].read_bytes()[-1000:] == whole[-1000:]


def test_a_folder_with_a_run_and_one_without(finished, speech_folder, tmp_path):
    config = Stage2Config(preset="tiny", steps=2, batch_size=1, crop_seconds=0.4)
    with pytest.raises(SilkTrainingError, match="holds a run already"):
        train(config, [speech_folder], options(finished))
    with pytest.raises(SilkTrainingError, match="no checkpoint to go on from"):
        train(config, [speech_folder], options(tmp_path / "empty", resume=True))


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    good = Checkpoint(1, {}, {"x": torch.ones(3)}, [])
    save_checkpoint(tmp_path, good)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SilkFileError, match="No space left"):
        save_checkpoint(tmp_path, Checkpoint(2, {}, {"x": torch.zeros(3)}, []))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.safetensors"]
    assert torch.equal(load_checkpoint(checkpoints(tmp_path)[-1]).tensors["x"], torch.ones(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"precision": "fp8"}, "precision must be one of bf16, fp32"),
        ({"preset": "huge"}, "preset must be one of"),
        ({"batch_size": 1.5}, "batch_size must be int"),
    ],
)
def test_impossible_configurations(changes, message):
    with pytest.raises(SilkConfigError, match=message):
        Stage2Config(**changes)


def test_command_line_errors_are_one_line(speech_folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    start = ["train", "stage2", "--preset", "tiny", "-o", str(tmp_path / "run")]
    for arguments, expected in (
        ([str(tmp_path / "empty")], "empty"),
        ([speech_folder, "--crop-seconds", "30"], "2.0"),
        ([speech_folder, "--init", "nothing"], "unknown model 'nothing'"),
        ([speech_folder, "--init", "silk-small-24khz"], "has other sizes than preset 'tiny'"),
        ([speech_folder, "--steps", "0"], "steps must be at least 1"),
    ):
        assert main([*start, *arguments]) == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if "clips" not in line or "expected" in line]
        assert expected in lines[-1]
        assert not any("Traceback" in line for line in lines)
        assert not (tmp_path / "run").exists()


def test_no_clip_as_long_as_a_crop_is_a_typed_error(speech_folder, tmp_path):
    with pytest.raises(SilkInputError, match="crop"):
        train(Stage2Config(preset="tiny", crop_seconds=30.0), [speech_folder], options(tmp_path / "run"))


def test_the_card_tells_how_the_model_came_about(finished, speech_folder, tmp_path):
    again = Stage2Config(preset="tiny", steps=1, batch_size=1, crop_seconds=0.4, precision="fp32")
    train(again, [speech_folder], options(tmp_path / "again"), init=str(finished / "model"))
    model = tmp_path / "again" / "model"
    assert main(["train", "card", str(model)]) == 0
    card = (model / "README.md").read_text()
    rows = [line for line in card.splitlines() if "Stage2" in line]
    assert [row.split("|")[4].strip() for row in rows] == ["2", "1"]
    assert "Not evaluated yet" in card
    evaluation = tmp_path / "evaluation.json"
    sha = SilkCodec.from_pretrained(model).weights_sha256
    scores = {"weights_sha256": sha, "groups": {"held-out voices": {"Silk": {"ESTOI": 0.5, "PESQ": None}}}, "clips": []}
    evaluation.write_text(json.dumps(scores))
    assert main(["train", "card", str(model), "--evaluation", str(evaluation)]) == 0
    assert "| Silk | 0.5 | — |" in (model / "README.md").read_text()
    kept = (model / "evaluation.json").read_bytes()
    for wrong in ({**scores, "weights_sha256": "0" * 64}, {"a": 1}, [1, 2]):
        evaluation.write_text(json.dumps(wrong))
        assert main(["train", "card", str(model), "--evaluation", str(evaluation)]) == 1
        assert (model / "evaluation.json").read_bytes() == kept
    card = (model / "README.md").read_text()
    assert "whoever trained the model" in card  # the licence of a folder of recordings is not ours to state
    assert "eSpeak" not in card
    training = json.loads((model / "training.json").read_text())
    (model / "training.json").write_text(json.dumps([{**run, "synthetic": True, "hours": 0.0} for run in training]))
    assert main(["train", "card", str(model)]) == 0
    assert "eSpeak NG is under the GPL" in (model / "README.md").read_text()


def test_the_card_of_a_model_that_was_not_trained_here(finished, tmp_path, capsys):
    (finished / "model" / "training.json").unlink()
    assert main(["train", "card", str(finished / "model")]) == 1
    assert "no training.json" in capsys.readouterr().err
