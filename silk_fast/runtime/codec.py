"""One interface to every codec: audio in batches of one length to rows of tokens, and back."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silk_fast import __version__
from silk_fast.arguments import shown, whole_number
from silk_fast.codecs import NAMES
from silk_fast.errors import SilkInputError
from silk_fast.reference import checks

if TYPE_CHECKING:
    from silk_fast.acceleration import Report
    from silk_fast.reference.codec import SilkCodec

BUNDLED = "silk-small-24khz"
DROP_THE_REST = ("dac", "oobleck")  # of the signal, where it does not fill a frame; the others pad it themselves


class Codec(Protocol):
    """Any codec. Tensors may be on any device; results are where the arguments are.

    Attributes:
        name: ``"silk"``, or one of ``silk_fast.codecs.NAMES``.
        sample_rate, n_channels: of the audio, Hz.
        frame_samples: of a row of tokens.
        tokens_per_frame: K, tokens of a row.
        weights_sha256: of the weights, before they were accelerated.
        output_delay: samples by which decoded audio is shorter than its rows; 0 but of some models of Silk.
        causal: whether no row depends on later samples, but where padding mirrors the start of a signal.
        versions: of what tokens depend on, by package.
        device: of the weights.
    """

    name: str
    sample_rate: int
    n_channels: int
    frame_samples: int
    tokens_per_frame: int
    output_delay: int
    weights_sha256: str
    causal: bool
    versions: dict[str, str]

    @property
    def device(self) -> torch.device: ...

    def n_frames(self, n_samples: int) -> int:
        """Count the rows of tokens of so many samples: ``ceil(n_samples / frame_samples)``.

        Of a SNAC with attention it is rounded up to its windows; ``output_delay`` is added first.
        """

    def check_audio(self, audio: Tensor) -> None:
        """Raise SilkInputError unless audio is what :meth:`encode` takes."""

    def check_tokens(self, tokens: Tensor) -> None:
        """Raise SilkInputError unless tokens are what :meth:`decode` takes."""

    def encode(self, audio: Tensor) -> Tensor:
        """Encode float ``[B, C, T]`` to int32 ``[B, F, K]``, F = ``n_frames(T)``, every signal as it is alone.

        Raises:
            SilkInputError: another shape or dtype, no samples, or some that are not finite.
        """

    def decode(self, tokens: Tensor) -> Tensor:
        """Decode int ``[B, F, K]`` to float32 ``[B, C, F * frame_samples]``, less ``output_delay`` samples.

        Raises:
            SilkInputError: another shape or dtype, or a token that there is not.
        """


@dataclass(frozen=True)
class Loaded:
    """A model on its device, the SHA-256 of its weights, and what was swapped; None where that was not asked for."""

    model: nn.Module
    weights_sha256: str
    report: "Report | None"


def load(
    name: str,
    weights: str | os.PathLike,
    *,
    device: str | torch.device = "cpu",
    accelerate: bool | None = None,
    deterministic: bool = False,
    local_only: bool = False,
) -> Loaded:
    """Load the model of any codec, ready for inference.

    Args:
        name: ``"silk"``, or one of ``silk_fast.codecs.NAMES``.
        weights: as of ``SilkCodec.from_pretrained``, or of :func:`silk_fast.codecs.pretrained.load_model`.
        device: where it is to run.
        accelerate: swap faster modules in; None for on a CPU, but not where Triton's interpreter is on: it is there to
            debug kernels, and would run them.
        deterministic: as of :func:`silk_fast.accelerate_`.
        local_only: take of a hub only what was downloaded earlier.

    Raises:
        SilkInputError: no codec of that name, or no such device.
        SilkModelError: no such weights, or no library to load them.
    """
    from silk_fast.acceleration import accelerate_
    from silk_fast.codecs.pretrained import load_model
    from silk_fast.reference.codec import SilkCodec
    from silk_fast.reference.pretrained import weights_sha256

    where = checks.checked_device(device)
    model: nn.Module
    if name == "silk":
        model = SilkCodec.from_pretrained(weights)
    else:
        model = load_model(name, os.fspath(weights), local_only=local_only)
    sha256 = weights_sha256(model)
    model = model.to(where)
    if accelerate is None:
        accelerate = where.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1"
    return Loaded(model, sha256, accelerate_(model, deterministic=deterministic) if accelerate else None)


def open_codec(
    name: str = "silk",
    weights: str | os.PathLike | None = None,
    *,
    device: str | torch.device = "cpu",
    accelerate: bool | None = None,
    deterministic: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Codec:
    """Load a codec by its name, ready to encode and decode.

    Args:
        name: ``"silk"``, or one of ``silk_fast.codecs.NAMES`` but Oobleck, which has no tokens.
        weights: as of :func:`load`; None for the bundled model of Silk.
        device, accelerate, deterministic: as of :func:`load`.
        options: of the library's ``encode``, as :func:`silk_fast.encode_long` has them.

    Raises:
        SilkInputError: no such codec, device or option, no weights, or a model whose codes are more than tokens.
        SilkModelError: no such weights, or no library to load them.
    """
    known = ("silk", *(other for other in NAMES if other != "oobleck"))
    if name not in known:
        why = " (it has latents, no tokens)" if name == "oobleck" else ""
        raise SilkInputError(f"codec must be one of {', '.join(known)}, got {shown(name)}{why}")
    if name == "silk" and options:
        raise SilkInputError(f"unknown option {min(options)!r} of Silk; it has none")
    if name != "silk" and weights is None:
        raise SilkInputError(f"{name} needs weights, a directory or a hub id")
    weights = BUNDLED if weights is None else weights
    loaded = load(name, weights, device=device, accelerate=accelerate, deterministic=deterministic)
    return Silk(loaded) if name == "silk" else OfLibrary(name, loaded, options or {})


class Silk:
    """Silk as a :class:`Codec`; ``model`` is the :class:`~silk_fast.SilkCodec`."""

    name, n_channels, causal = "silk", 1, True

    def __init__(self, loaded: Loaded) -> None:
        self.model: SilkCodec = loaded.model  # type: ignore[assignment]
        config = self.model.config
        self.sample_rate, self.frame_samples = config.sample_rate, config.frame_samples
        self.tokens_per_frame, self.output_delay = config.tokens_per_frame, config.output_delay
        self.weights_sha256 = loaded.weights_sha256
        self.versions = {"silk_fast": __version__, "torch": str(torch.__version__)}

    @property
    def device(self) -> torch.device:
        return self.model.device

    def n_frames(self, n_samples: int) -> int:
        return self.model.config.n_frames(n_samples)

    def check_audio(self, audio: Tensor) -> None:
        checks.check_audio(audio)
        if not audio.numel():
            raise SilkInputError(f"audio must be [B, 1, T] with at least one sample, got shape {tuple(audio.shape)}")
        self.model.check_level(audio)

    def check_tokens(self, tokens: Tensor) -> None:
        checks.check_tokens(tokens, self.model.quantizer.token_sizes)
        if not tokens.numel():
            raise SilkInputError(f"tokens must be [B, F, K] with at least one frame, got shape {tuple(tokens.shape)}")

    def encode(self, audio: Tensor) -> Tensor:
        """One signal after the other on a CPU, where batches do not pay."""
        self.check_audio(audio)
        some = audio.split(1 if self.device.type == "cpu" else len(audio))
        return torch.cat([self.model.encode(rows).tokens for rows in some]).to(audio.device)

    def decode(self, tokens: Tensor) -> Tensor:
        return self.model.decode(tokens).to(tokens.device)


class OfLibrary:
    """A codec of another library as a :class:`Codec`.

    Args:
        name: one of ``silk_fast.codecs.NAMES``.
        loaded: of it.
        options: of ``encode_long``.

    Raises:
        SilkInputError: an option that it has not, a model that has no exact cut, or whose codes are more than tokens.
    """

    def __init__(self, name: str, loaded: Loaded, options: Mapping[str, Any]) -> None:
        from silk_fast.codecs.cuts import Chained
        from silk_fast.codecs.long import cuts_of
        from silk_fast.codecs.pretrained import codec_module

        self.name, self.model, self.options = name, loaded.model, dict(options)
        self.weights_sha256, self.output_delay = loaded.weights_sha256, 0
        self.cuts = cuts_of(self.model, **self.options)
        if name == "encodec" and len(self.cuts.strides) > 1:
            raise SilkInputError(
                "an EnCodec that works in chunks has a scale for each, beside its tokens, and chunks that overlap; "
                "expected one without, such as that of 24 kHz; silk encode --codec encodec takes it"
            )
        library = codec_module(name).LIBRARY
        self.versions = {"silk_fast": __version__, "torch": str(torch.__version__)}
        self.versions[library.distribution] = library.installed()
        self.causal = isinstance(self.cuts, Chained)
        self.sample_rate, self.n_channels = self.cuts.sample_rate, self.cuts.n_channels
        group = max(self.cuts.strides)
        self.frame_samples, self._unit = self.cuts.hop * group, self.cuts.unit // group
        self._n_entries = codec_module(name).sizes(self.model)[1]
        self.tokens_per_frame = self.encode(torch.zeros(1, self.n_channels, 1)).shape[-1]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def n_frames(self, n_samples: int) -> int:
        return -(-whole_number("n_samples", n_samples, 0) // (self.frame_samples * self._unit)) * self._unit

    def check_audio(self, audio: Tensor) -> None:
        shape = f"[B, {self.n_channels}, T]"
        if not isinstance(audio, Tensor) or audio.dtype not in checks.AUDIO_DTYPES:
            raise SilkInputError(f"audio must be floating-point {shape}, got {checks.described(audio)}")
        checks.check_values("audio", audio)
        if audio.ndim != 3 or audio.shape[1] != self.n_channels or not audio.numel():
            raise SilkInputError(f"audio must be {shape} with at least one sample, got shape {tuple(audio.shape)}")
        checks.peak(audio)

    def encode(self, audio: Tensor) -> Tensor:
        """One signal after the other on a CPU, where what others do to the rounding of products is not exact."""
        from silk_fast.codecs.files import pack
        from silk_fast.codecs.long import encode_batch

        self.check_audio(audio)
        max_batch = 1 if self.device.type == "cpu" else len(audio)
        signals = list(padded(self.name, audio, self.cuts.hop))
        encoded = encode_batch(self.model, signals, max_batch=max_batch, **self.options)
        return torch.stack([pack(self.name, self.cuts, one)[0]["tokens"] for one in encoded])

    def decode(self, tokens: Tensor) -> Tensor:
        from silk_fast.codecs.files import arranged
        from silk_fast.codecs.long import decode_long

        self.check_tokens(tokens)
        results = arranged(self.name, self.cuts, tokens.long())
        audio = decode_long(self.model, self.cuts.join(results)).float()
        return F.pad(audio, (0, tokens.shape[1] * self.frame_samples - audio.shape[-1]))

    def check_tokens(self, tokens: Tensor) -> None:
        shape = f"[B, F, {self.tokens_per_frame}]"
        if not isinstance(tokens, Tensor) or tokens.dtype not in checks.TOKEN_DTYPES:
            raise SilkInputError(f"tokens must be int32 or int64 {shape}, got {checks.described(tokens)}")
        checks.check_values("tokens", tokens)
        if tokens.ndim != 3 or tokens.shape[-1] != self.tokens_per_frame or not tokens.numel():
            raise SilkInputError(f"tokens must be {shape} with at least one frame, got {tuple(tokens.shape)}")
        if tokens.shape[1] % self._unit:
            raise SilkInputError(f"tokens must be whole windows of {self._unit} frames, got {tokens.shape[1]} frames")
        lowest, highest = int(tokens.min()), int(tokens.max())
        if not 0 <= lowest <= highest < self._n_entries:
            raise SilkInputError(f"tokens must be in 0 .. {self._n_entries - 1}, got {lowest} .. {highest}")


def padded(name: str, audio: Tensor, hop: int) -> Tensor:
    """Audio with zeros behind it: to a frame, or to whole frames where the codec would lose the rest of the signal."""
    n_samples = audio.shape[-1]
    n_more = -n_samples % hop if name in DROP_THE_REST else max(0, hop - n_samples)
    return F.pad(audio, (0, n_more))
