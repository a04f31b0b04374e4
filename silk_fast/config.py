"""The sizes of a Silk codec: one frozen dataclass, presets, JSON in and out."""

import dataclasses
import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from silk_fast.arguments import LARGEST_RATE, shown, shown_text, whole_number
from silk_fast.errors import SilkConfigError

PHASES = ("free", "harmonic")
MAX_ENTRIES = 16  # of a list
MAX_FRAME_SAMPLES = 2**20
MAX_PARAMETERS = 2**31
LARGEST = {
    "sample_rate": LARGEST_RATE,
    "encoder_channels": 2**14,
    "encoder_strides": 2**10,
    "subframes": 2**10,
    "dilations": 2**12,
    "latent_dim": 2**14,
    "conformer_layers": 2**7,
    "conformer_heads": 2**10,
    "conformer_expansion": 2**6,
    "conformer_kernel": 2**10,
    "attention_left": 2**16,
    "attention_right": 2**16,
    "levels": 2**16 - 1,
    "group_size": 2**16 - 1,
    "decoder_width": 2**16,
    "decoder_channels": 2**14,
    "decoder_dilations": 2**12,
    "n_fft": 2**16,
    "output_delay": MAX_FRAME_SAMPLES,
}
"""What a field may be at most, so that a damaged configuration is refused before memory is taken for it."""


@dataclass(frozen=True)
class SilkConfig:
    """Every size of a Silk codec. Times are in samples, channel counts in channels.

    The signal is analysed by strided convolutions down to one sub-frame per ``hop_samples``
    (320 samples, 75 Hz) and then to one latent frame per ``frame_samples`` (9600 samples, 2.5 Hz).

    Args:
        sample_rate: samples per second.
        encoder_channels: channels after the first convolution, after each stride, and at 2.5 Hz.
        encoder_strides: strides of the convolutions from audio rate to sub-frame rate.
        subframes: sub-frames per latent frame.
        dilations: dilations of the residual units at each rate.
        latent_dim: dimensions of a latent frame.
        conformer_layers: Conformer blocks on the latent frames.
        conformer_heads: attention heads; divides ``latent_dim``.
        conformer_expansion: width of the feed-forward layers over ``latent_dim``.
        conformer_kernel: taps of the causal depthwise convolution.
        attention_left: past latent frames that a frame attends to; None for all.
        attention_right: future latent frames that a frame attends to; None for all. Only 0 can be streamed.
        levels: FSQ levels of every latent dimension.
        group_size: latent dimensions packed into one token.
        decoder_width: channels of the decoder at 2.5 Hz.
        decoder_channels: channels of the decoder at 75 Hz.
        decoder_dilations: dilations of the decoder's residual units.
        n_fft: length of the synthesis window.
        output_delay: lag of the decoder's output; buys look-ahead for the windows at frame edges.
        phases: of the decoder's spectra: ``"free"``, as its convolutions make them, or ``"harmonic"``, where those of
            voices are counted up from a pitch.

    Raises:
        SilkConfigError: a value that no codec can have; the message names it.
    """

    sample_rate: int = 24_000
    encoder_channels: tuple[int, ...] = (32, 64, 96, 192, 256)
    encoder_strides: tuple[int, ...] = (8, 8, 5)
    subframes: int = 30
    dilations: tuple[int, ...] = (1, 3, 9)
    latent_dim: int = 128
    conformer_layers: int = 8
    conformer_heads: int = 8
    conformer_expansion: int = 4
    conformer_kernel: int = 15
    attention_left: int | None = 63
    attention_right: int | None = 0
    levels: int = 8
    group_size: int = 7
    decoder_width: int = 256
    decoder_channels: int = 192
    decoder_dilations: tuple[int, ...] = (1, 3, 9, 1, 3, 9)
    n_fft: int = 1280
    output_delay: int = 0
    phases: str = "free"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name != "phases":
                self._check_field(field.name, getattr(self, field.name))
        if self.phases not in PHASES:
            raise SilkConfigError(f"phases must be one of {', '.join(PHASES)}, got {shown(self.phases)}")
        if len(self.encoder_channels) != len(self.encoder_strides) + 2:
            raise SilkConfigError(
                f"encoder_channels must have two more entries than encoder_strides, "
                f"got {self.encoder_channels} and {self.encoder_strides}"
            )
        if self.latent_dim % self.conformer_heads:
            raise SilkConfigError(
                f"conformer_heads must divide latent_dim, got {self.conformer_heads} and {self.latent_dim}"
            )
        if self.latent_dim % 2:
            raise SilkConfigError(f"latent_dim must be even (sinusoidal positions), got {self.latent_dim}")
        if self.levels < 2:
            raise SilkConfigError(f"levels must be at least 2, got {self.levels}")
        if self.levels ** min(self.group_size, self.latent_dim) > 2**31:
            raise SilkConfigError(
                f"a token of group_size {self.group_size} digits of {self.levels} levels does not fit an int32"
            )
        if self.n_fft % self.hop_samples or self.n_fft < 3 * self.hop_samples:
            raise SilkConfigError(
                f"n_fft must be a multiple, at least 3, of the product of encoder_strides ({self.hop_samples}) "
                f"so that squared Hann windows add up to a constant, got {self.n_fft}"
            )
        if self.frame_samples > MAX_FRAME_SAMPLES:
            raise SilkConfigError(
                f"subframes must make frames of at most {MAX_FRAME_SAMPLES} samples, "
                f"got {self.subframes} of {self.hop_samples} samples"
            )
        if self.output_delay >= self.frame_samples:
            raise SilkConfigError(
                f"output_delay must be shorter than a frame of {self.frame_samples} samples, got {self.output_delay}"
            )
        n_weights = self._n_weights()
        if sum(n_weights.values()) > MAX_PARAMETERS:
            largest = max(n_weights, key=n_weights.__getitem__)
            raise SilkConfigError(
                f"{largest} must make a codec of at most {MAX_PARAMETERS} parameters, "
                f"got {shown(getattr(self, largest))}, which makes {n_weights[largest]}"
            )

    def _n_weights(self) -> dict[str, int]:
        """Count the weights of convolutions and linear layers, by the field that they grow with most."""
        dim, kernel = self.latent_dim, self.conformer_kernel
        stages = zip(pairwise(self.encoder_channels), (*self.encoder_strides, self.subframes), strict=True)
        expanded = self.subframes * self.decoder_channels
        return {
            "encoder_channels": 3 * self.encoder_channels[-1] * dim
            + sum(8 * len(self.dilations) * c * c + 2 * stride * c * c_next for (c, c_next), stride in stages),
            "latent_dim": self.conformer_layers * dim * ((4 * self.conformer_expansion + 8) * dim + kernel),
            "decoder_width": 7 * dim * self.decoder_width + (dim + self.decoder_width) * expanded,
            "decoder_channels": self.decoder_channels
            * (8 * len(self.decoder_dilations) * self.decoder_channels + 3 * (self.n_fft + 2)),
        }

    def _check_field(self, name: str, value: Any) -> None:
        if isinstance(value, list):  # as JSON gives it
            value = tuple(value)
            object.__setattr__(self, name, value)
        optional = name in ("attention_left", "attention_right")
        smallest = 0 if optional or name == "output_delay" else 1
        sequence = name in ("encoder_channels", "encoder_strides", "dilations", "decoder_dilations")
        entries = value if sequence else (value,)
        if optional and value is None:
            return
        whole = isinstance(entries, tuple) and all(
            isinstance(v, int) and not isinstance(v, bool) and v >= smallest for v in entries
        )
        if not whole or not entries:
            kind = "a list of integers" if sequence else "an integer"
            raise SilkConfigError(f"{name} must be {kind} >= {smallest}{' or null' * optional}, got {shown(value)}")
        if len(entries) > MAX_ENTRIES:
            raise SilkConfigError(f"{name} must have at most {MAX_ENTRIES} entries, got {len(entries)}")
        if max(entries) > LARGEST[name]:
            raise SilkConfigError(f"{name} must be at most {LARGEST[name]}, got {shown(value)}")

    @property
    def hop_samples(self) -> int:
        """Samples per sub-frame (320)."""
        return math.prod(self.encoder_strides)

    @property
    def frame_samples(self) -> int:
        """Samples per latent frame (9600)."""
        return self.hop_samples * self.subframes

    @property
    def frame_rate(self) -> float:
        """Latent frames per second (2.5)."""
        return self.sample_rate / self.frame_samples

    @property
    def tokens_per_frame(self) -> int:
        """Tokens per latent frame (19)."""
        return math.ceil(self.latent_dim / self.group_size)

    @property
    def bitrate(self) -> float:
        """Bits per second at log2(levels) bits per latent dimension (960)."""
        return self.frame_rate * self.latent_dim * math.log2(self.levels)

    def n_frames(self, n_samples: int) -> int:
        """Count the latent frames that hold ``n_samples`` samples and the decoder's delay.

        Raises:
            SilkInputError: not an integer >= 0.
        """
        return -(-(whole_number("n_samples", n_samples, 0) + self.output_delay) // self.frame_samples)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "SilkConfig":
        """Make the configuration of a named size, with ``changes`` applied.

        Args:
            name: ``"small"``, ``"base"`` or ``"tiny"`` (for tests).

        Raises:
            SilkConfigError: no preset has that name, or a change is impossible.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise SilkConfigError(f"unknown preset {shown(name)}; expected one of {', '.join(sorted(PRESETS))}")
        return cls._from_fields({**PRESETS[name], **changes})

    def to_json(self) -> str:
        """Write the configuration as a JSON object, one field a line."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "SilkConfig":
        """Read what :meth:`to_json` wrote; absent fields take their defaults.

        Raises:
            SilkConfigError: not a JSON object, an unknown field, or an impossible value.
        """
        if not isinstance(text, str):
            raise SilkConfigError(f"configuration must be text, got {shown(text)}")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
            raise SilkConfigError(f"configuration is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise SilkConfigError(f"configuration must be a JSON object, got {type(values).__name__}")
        return cls._from_fields(values)

    @classmethod
    def _from_fields(cls, values: dict[str, Any]) -> "SilkConfig":
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise SilkConfigError(f"configuration has unknown fields: {', '.join(map(shown_text, unknown))}")
        return cls(**values)


PRESETS: dict[str, dict[str, Any]] = {
    "small": {},
    "base": {"encoder_channels": (64, 128, 256, 512, 768), "decoder_width": 768, "decoder_channels": 512},
    "tiny": {
        "encoder_channels": (8, 8, 12, 16, 24),
        "conformer_layers": 2,
        "decoder_width": 24,
        "decoder_channels": 16,
    },
}
