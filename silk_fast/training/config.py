"""What a training run is made of: one frozen dataclass per stage, saved with every checkpoint."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from silk_fast.config import PHASES, PRESETS
from silk_fast.errors import SilkConfigError


def option(
    default: Any,
    text: str,
    smallest: float = 0,
    choices: tuple | None = None,
    largest: float = math.inf,
    is_path: bool = False,
) -> Any:
    """Make a field with what the command line says about it, and the values it takes.

    Of a path it matters only whether there is one: the same files may be elsewhere when a run goes on.
    """
    limits = {"smallest": smallest, "largest": largest, "choices": choices, "is_path": is_path}
    return field(default=default, metadata={"help": text, **limits})


def _check_range(name: str, value: float, smallest: float, largest: float) -> None:
    if not (smallest <= value <= largest and value < math.inf):
        limit = f"at least {smallest}" if largest == math.inf else f"in {smallest} .. {largest}"
        raise SilkConfigError(f"{name} must be {limit}, got {value!r}")


@dataclass(frozen=True)
class TrainingConfig:
    """What both stages share. The same configuration and seed give the same run on the same device.

    Raises:
        SilkConfigError: a value that no run can have; the message names it.
    """

    preset: str = option("small", "sizes of the model", choices=tuple(PRESETS))
    output_delay: int = option(0, "lag of the decoder's output in samples; with --init that of its model")
    phases: str = option("free", "of the decoder; harmonic ones follow a pitch", choices=PHASES)
    steps: int = option(100_000, "optimiser steps", 1)
    batch_size: int = option(32, "crops per step and process", 1)
    crop_seconds: float = option(3.2, "duration of a crop, rounded to whole latent frames", 0.4)
    pieces: int = option(1, "recordings that a crop is joined of, in equal parts", 1)
    optimizer: str = option("adamw", "of the updates; muon learns more per step", choices=("adamw", "muon"))
    learning_rate: float = option(1e-3, "peak learning rate")
    final_learning_rate: float = option(0.05, "share of the peak that the cosine ends with", largest=1)
    warmup_steps: int = option(1000, "steps of linear warm-up")
    weight_decay: float = option(0.01, "decoupled weight decay")
    beta1: float = option(0.8, "AdamW's first decay, also of what is no matrix with muon", largest=0.9999)
    beta2: float = option(0.99, "AdamW's second decay, likewise", largest=0.99999)
    clip_norm: float = option(2.0, "gradient norm that is clipped to", 1e-6)
    ema_decay: float = option(0.999, "decay of the averaged weights, which are what is exported", largest=1)
    precision: str = option("bf16", "of convolutions and matrix products", choices=("bf16", "fp32"))
    seed: int = option(0, "of weights, crops and masks", largest=2**63 - 1)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            limits = entry.metadata
            value: Any = getattr(self, entry.name)
            kind: type = type(entry.default)
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
                object.__setattr__(self, entry.name, value)
            if type(value) is not kind:
                raise SilkConfigError(f"{entry.name} must be {kind.__name__}, got {value!r}")
            if limits["choices"] and value not in limits["choices"]:
                raise SilkConfigError(f"{entry.name} must be one of {', '.join(limits['choices'])}, got {value!r}")
            if kind in (int, float):
                _check_range(entry.name, getattr(self, entry.name), limits["smallest"], limits["largest"])

    def to_dict(self) -> dict[str, Any]:
        """Collect all fields by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingConfig":
        """Read what :meth:`to_dict` gave.

        Raises:
            SilkConfigError: unknown fields, or an impossible value.
        """
        unknown = sorted(set(values) - {entry.name for entry in dataclasses.fields(cls)})
        if unknown:
            raise SilkConfigError(f"training configuration has unknown fields: {', '.join(unknown)}")
        return cls(**values)

    def differences(self, other: "TrainingConfig") -> str:
        """Say ``name: mine, theirs`` of every field that differs; empty when none does."""
        paths = {entry.name for entry in dataclasses.fields(self) if entry.metadata["is_path"]}
        mine, theirs = (
            {name: bool(value) if name in paths else value for name, value in config.to_dict().items()}
            for config in (self, other)
        )
        return "; ".join(
            f"{name}: {json.dumps(mine.get(name))}, {json.dumps(theirs.get(name))}"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        )


@dataclass(frozen=True)
class Stage1Config(TrainingConfig):
    """Latent space learning: masked prediction of the latents of an averaged copy."""

    crop_seconds: float = option(12.8, "duration of a crop, rounded to whole latent frames", 0.8)
    batch_size: int = option(16, "crops per step and process", 1)
    ema_decay: float = option(0.996, "decay of the target's weights, which are what is exported", largest=1)
    mask_ratio: float = option(0.5, "share of latent frames that are masked", 0.01, largest=0.99)
    mask_span: int = option(2, "latent frames of a masked span", 1)
    predictor_layers: int = option(2, "Conformer blocks of the predictor", 1)


@dataclass(frozen=True)
class Stage2Config(TrainingConfig):
    """The whole codec: reconstruction, and from ``adversarial_from`` on also discriminators."""

    waveform_weight: float = option(1.0, "of the L1 distance of waveforms")
    stft_weight: float = option(1.0, "of the multi-resolution STFT loss")
    mel_weight: float = option(1.0, "of the log-mel L1 distance")
    phase_weight: float = option(0.0, "of the distance of phase steps, over time and frequency")
    pitch_weight: float = option(4.0, "of the error of the pitch in octaves, where phases are harmonic")
    voicing_weight: float = option(1.0, "of the cross entropy of there being a voice, likewise")
    centre_weight: float = option(0.1, "of the squared mean of the latents, which standardisation leaves free")
    adversarial_from: int = option(-1, "step from which discriminators take part; -1 for never", -1)
    adversarial_weight: float = option(0.2, "of the least-squares adversarial loss")
    feature_weight: float = option(0.4, "of feature matching")
    trained: str = option("all", "parts; with decoder the tokens of --init stay", choices=("all", "decoder"))
    frozen_encoder_stages: int = option(0, "encoder stages, from the audio on, that keep the weights of --init")
    features: str = option(
        "", "folder that keeps what frozen layers make of the recordings; empty for none", is_path=True
    )
    discriminator_channels: int = option(32, "width of the discriminators", 1)
    discriminator_learning_rate: float = option(2e-4, "peak learning rate of the discriminators")
    wavlm: str = option(
        "", "directory or hub id of a WavLM model for the perceptual loss; empty for none", is_path=True
    )
    wavlm_weight: float = option(1.0, "of the WavLM loss")
