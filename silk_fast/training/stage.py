"""What the training loop knows of a stage: modules that learn, one step on a batch, how to listen to it."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from silk_fast.config import SilkConfig
from silk_fast.errors import SilkTrainingError
from silk_fast.reference.codec import SilkCodec
from silk_fast.reference.harmonics import HarmonicSource
from silk_fast.training.checkpoint import flatten_optimizer, restore_optimizer
from silk_fast.training.config import TrainingConfig
from silk_fast.training.data import CropDataset
from silk_fast.training.muon import Muon
from silk_fast.training.recordings import Clip, Notice


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Compute the factor of ``step``: linear warm-up to 1, then a cosine down to ``final_learning_rate``."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    floor = config.final_learning_rate
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def crop_samples(config: TrainingConfig, sizes: SilkConfig) -> int:
    """Count the samples of a crop: ``crop_seconds`` in whole latent frames."""
    return max(1, round(config.crop_seconds * sizes.sample_rate / sizes.frame_samples)) * sizes.frame_samples


class Learner:
    """A module and the optimiser that trains it. Biases, gains and Snake's parameters have no weight decay.

    What reads the voice from codes is trained by AdamW, whatever the other matrices are: its losses have few
    directions, and updates that are as large in all others are noise.
    """

    def __init__(self, module: nn.Module, config: TrainingConfig, learning_rate: float) -> None:
        self.module = module
        self.learning_rate = learning_rate
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        readers = {p for m in module.modules() if isinstance(m, HarmonicSource) for p in m.parameters()}
        matrices = [p for p in self.parameters if p.ndim > 1]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in matrices if p not in readers], "weight_decay": config.weight_decay},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
            {"params": [p for p in matrices if p in readers], "weight_decay": config.weight_decay, "by_adam": True},
        ]
        optimizer = {"adamw": torch.optim.AdamW, "muon": Muon}[config.optimizer]
        self.optimizer = optimizer(groups, learning_rate, (config.beta1, config.beta2))

    def state(self, name: str) -> dict[str, Tensor]:
        """Collect the tensors of module and optimiser, for a checkpoint, by names that begin with ``name``."""
        module = {f"{name}.module.{key}": tensor for key, tensor in self.module.state_dict().items()}
        return module | flatten_optimizer(f"{name}.optimizer", self.optimizer)

    def load(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Put back what :meth:`state` collected."""
        prefix = f"{name}.module."
        self.module.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
        restore_optimizer(f"{name}.optimizer", self.optimizer, tensors)


Config = TypeVar("Config", bound=TrainingConfig)


class Stage(Generic[Config]):
    """One stage of training. Sub-classes set the attributes and define :meth:`step`.

    Attributes:
        config: of the run.
        codec: what is averaged and exported.
        learners: what is trained, by name.
        networks: what runs faster with kernels.
    """

    config: Config
    codec: SilkCodec
    learners: dict[str, Learner]
    networks: list[nn.Module]

    def dataset(self, clips: Sequence[Clip], notice: Notice) -> CropDataset:
        """Make a dataset of crops as :meth:`step` takes them.

        Raises:
            SilkInputError: no clip is long enough.
        """
        config, codec = self.config, self.codec
        n_samples = crop_samples(config, codec.config)
        rate = codec.config.sample_rate
        return CropDataset(
            clips, n_samples, rate, config.seed, notice=notice, pieces=config.pieces, pitch_hop=self.pitch_hop
        )

    @property
    def pitch_hop(self) -> int:
        """Samples for each of which a crop's pitch is needed; 0 for no pitch."""
        return self.codec.config.hop_samples if self.codec.config.phases == "harmonic" else 0

    def step(self, audio: Tensor, step: int, bandwidth: Tensor | None = None) -> dict[str, Tensor]:
        """Learn from one batch ``[B, 1, 9600 F]``; returns scalars to log, ``loss`` among them.

        What else a dataset gives is passed by name: ``bandwidth`` ``[B]`` of the recordings in Hz, None for all of it.

        Raises:
            SilkTrainingError: a loss or gradient is not finite; no weight has changed in that update.
        """
        raise NotImplementedError

    @property
    def statistics_frozen_from(self) -> int | None:
        """Step before which the latent statistics are re-estimated and frozen; None for never, -1 for long ago."""
        return None

    def follow(self, average: dict[str, Tensor]) -> None:
        """Take note of the averaged weights of the codec, after every step."""

    def listen(self, audio: Tensor) -> Tensor | None:
        """Pass ``audio`` ``[B, 1, 9600 F]`` through the codec, for pictures and ears; None if it cannot decode yet."""

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """Enter the precision of the configuration."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def learn(self, name: str, loss: Tensor, step: int) -> dict[str, Tensor]:
        """Take one optimiser step with gradients averaged over processes and clipped; returns the norm before that."""
        learner = self.learners[name]
        for group in learner.optimizer.param_groups:
            group["lr"] = learner.learning_rate * learning_rate_factor(step, self.config)
        learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        loss = average_gradients(learner.parameters, loss.detach())
        norm = nn.utils.clip_grad_norm_(learner.parameters, self.config.clip_norm)
        if not torch.isfinite(norm) or not torch.isfinite(loss):
            raise SilkTrainingError(f"step {step}: {name} loss {loss.item():g}, gradient norm {norm.item():g}")
        learner.optimizer.step()
        return {"gradient": norm}

    @staticmethod
    def gradient_norm(module: nn.Module) -> Tensor:
        """Compute the norm of the (clipped) gradient of a part."""
        return torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm()


def average_gradients(parameters: list[nn.Parameter], loss: Tensor) -> Tensor:
    """Replace every gradient by its mean over all processes, in one exchange; returns the mean loss."""
    if not dist.is_initialized():
        return loss
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss.reshape(1)])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    *parts, loss = flat.split([*(gradient.numel() for gradient in gradients), 1])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return loss
