"""Small runs of both stages, and what they leave in their folders."""

import json
from pathlib import Path

import torch

from silk_fast.training.checkpoint import checkpoints, load_checkpoint
from silk_fast.training.config import Stage1Config, Stage2Config

SHARED = {"preset": "tiny", "precision": "fp32", "warmup_steps": 5}
SIX_STEPS = {**SHARED, "steps": 6, "batch_size": 2}
STAGE1 = Stage1Config(**SIX_STEPS, crop_seconds=1.6)
STAGE2 = Stage2Config(**SIX_STEPS, crop_seconds=0.8)
ADVERSARIAL = Stage2Config(**SIX_STEPS, crop_seconds=0.8, adversarial_from=3, discriminator_channels=2)
TWO_STEPS = {"preset": "tiny", "steps": 2, "batch_size": 1, "crop_seconds": 0.4, "precision": "fp32"}


def options(folder: Path, **changes) -> dict:
    return {"folder": folder, "device": "cpu", "workers": 0, "log_every": 1, **changes}


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(checkpoints(folder)[-1]).tensors
