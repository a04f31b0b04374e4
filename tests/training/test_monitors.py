"""Collapse is seen, and stops a run."""

from dataclasses import replace

import pytest
import torch

from silk_fast.errors import SilkTrainingError
from silk_fast.training import loop
from silk_fast.training.checkpoint import checkpoints, load_checkpoint
from silk_fast.training.monitors import LIMITS, CollapseMonitor, effective_rank, fsq_entropy, latent_deviation
from silk_fast.training.run import train
from tests.training.runs import STAGE2, options


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
