"""What no run can do is refused, and leaves nothing broken behind."""

import pytest

from silk_fast.cli import main
from silk_fast.errors import SilkConfigError, SilkInputError, SilkTrainingError
from silk_fast.training.checkpoint import checkpoints, load_checkpoint
from silk_fast.training.config import Stage2Config
from silk_fast.training.run import train
from tests.training.runs import STAGE2, options


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
