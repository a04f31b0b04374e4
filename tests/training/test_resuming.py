"""Runs go on as if never stopped, from whole checkpoints only, and share their work."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from silk_fast import SilkCodec, SilkConfig
from silk_fast.cli import main
from silk_fast.errors import SilkConfigError, SilkFileError, SilkTrainingError
from silk_fast.training.checkpoint import Checkpoint, checkpoints, load_checkpoint, save_checkpoint
from silk_fast.training.config import Stage2Config
from silk_fast.training.logs import Logs
from silk_fast.training.run import train
from tests.training.conftest import RATE
from tests.training.runs import ADVERSARIAL, STAGE1, STAGE2, TWO_STEPS, log_of, options, tensors_of


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


def resume(folder: Path, data: str, **changes) -> None:
    train(Stage2Config(**{**TWO_STEPS, **changes}), [data], options(folder, resume=True))


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
