"""The Silk codec: encoder, Conformer, quantizer, decoder, and how it is saved and loaded."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from silk_fast.config import SilkConfig
from silk_fast.errors import SilkInputError, SilkModelError
from silk_fast.files import atomic_file
from silk_fast.reference.conformer import Conformer, ConformerState
from silk_fast.reference.decoder import Decoder, DecoderState
from silk_fast.reference.encoder import Encoder, EncoderState
from silk_fast.reference.initialisation import initialise_
from silk_fast.reference.quantizer import FiniteScalarQuantizer
from silk_fast.reference.streaming import Stream

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CPU_CHUNK_FRAMES = 4  # 1.6 s, whose activations fit the cache
CPU_ENCODE_FRAMES = 16  # of all signals together, for the encoder, whose activations are larger
GPU_CHUNK_FRAMES = 64


@dataclass(frozen=True)
class EncodedAudio:
    """Tokens of a batch. Frames past a sample's own end hold zeros.

    Args:
        tokens: int32 ``[B, F, 19]``.
        lengths: int64 ``[B]`` on the CPU, samples of each signal.
        n_frames: int64 ``[B]`` on the CPU, frames of each signal.
    """

    tokens: Tensor
    lengths: Tensor
    n_frames: Tensor


class SilkCodec(nn.Module):
    """The whole codec: 24 kHz speech to 47.5 tokens a second and back.

    Args:
        config: the sizes; None for the small preset.
        weight_norm: parametrise the convolutions of encoder and decoder by direction and
            magnitude, as in training; :meth:`fold_weight_norm_` removes it for inference.
        seed: of the initial weights; None draws them from PyTorch's global generator.
    """

    def __init__(self, config: SilkConfig | None = None, *, weight_norm: bool = True, seed: int | None = None) -> None:
        super().__init__()
        self.config = config or SilkConfig()
        self.encoder = Encoder(self.config)
        self.conformer = Conformer(self.config)
        self.quantizer = FiniteScalarQuantizer([self.config.levels] * self.config.latent_dim, self.config.group_size)
        self.decoder = Decoder(self.config)
        initialise_(self, seed)
        if weight_norm:
            self.apply_weight_norm_()

    # ------------------------------------------------------------ whole signals

    def latents(self, audio: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """Latent frames ``[B, F, 128]`` before standardisation, of audio ``[B, 1, 9600 F]``; differentiable.

        Args:
            n_frames: int ``[B]``, frames of each signal, for attention that looks ahead.
        """
        return self.conformer(self.encoder(audio), n_frames)

    def forward(self, audio: Tensor) -> Tensor:
        """Encode, quantise and decode ``[B, 1, 9600 F]``, differentiably; the same shape, ``output_delay`` late."""
        return self.decoder(self.quantizer(self.latents(audio)))

    @torch.no_grad()
    def encode(self, audio: Tensor, lengths: Tensor | None = None, *, chunk_frames: int | None = None) -> EncodedAudio:
        """Turn audio into tokens, in memory that does not grow with duration.

        Args:
            audio: float ``[B, 1, T]``, 24 kHz, nominal range [-1, 1]; T >= 1.
            lengths: int ``[B]``, samples of each signal, 1 .. T; None for T. What follows a signal is ignored.
            chunk_frames: frames computed at once; changes memory and speed, not the tokens. None suits the device.

        Returns:
            tokens int32 ``[B, F, 19]`` with ``F = ceil((T + output_delay) / 9600)``, and the lengths.

        Raises:
            SilkInputError: wrong shape, dtype or lengths, or samples that are not finite.
        """
        self.check_audio(audio)
        batch_size, _, n_samples = audio.shape
        if batch_size == 0 or n_samples == 0:
            raise SilkInputError(f"audio must hold at least 1 sample, got shape {tuple(audio.shape)}")
        lengths = self._check_lengths(lengths, batch_size, n_samples)
        device_lengths = lengths.to(audio.device, non_blocking=True)[:, None, None]
        ragged = bool((lengths < n_samples).any())
        n_chunk = (chunk_frames or self.chunk_frames(batch_size)) * self.config.frame_samples
        tokens = []
        with self.streaming(batch_size) as stream:
            for start in range(0, n_samples, n_chunk):
                chunk = audio[..., start : start + n_chunk]
                if ragged:
                    position = torch.arange(start, start + chunk.shape[-1], device=audio.device)
                    chunk = chunk.masked_fill(position >= device_lengths, 0.0)
                tokens.append(stream.encode_checked(chunk))
            tokens.append(stream.finish())
        n_frames = torch.tensor([self.config.n_frames(n) for n in lengths.tolist()])
        tokens = torch.cat(tokens, dim=1)
        if ragged:
            i_frame = torch.arange(tokens.shape[1], device=tokens.device)[:, None]
            tokens = tokens.masked_fill(i_frame >= n_frames.to(tokens.device)[:, None, None], 0)
        return EncodedAudio(tokens, lengths, n_frames)

    @torch.no_grad()
    def decode(self, tokens: Tensor, lengths: Tensor | None = None, *, chunk_frames: int | None = None) -> Tensor:
        """Turn tokens back into audio.

        Args:
            tokens: int32 ``[B, F, 19]``, F >= 1.
            lengths: int ``[B]``, samples of each signal; None for all that the frames hold.
            chunk_frames: frames computed at once; None suits the device.

        Returns:
            float32 ``[B, 1, max(lengths)]``; zeros past each signal's end.

        Raises:
            SilkInputError: wrong shape or dtype, a token out of range, or a length that needs other frames.
        """
        if tokens.ndim != 3 or tokens.shape[0] == 0 or tokens.shape[1] == 0:
            raise SilkInputError(f"tokens must be [B, F, G] with at least one frame, got {tuple(tokens.shape)}")
        n_available = tokens.shape[1] * self.config.frame_samples - self.config.output_delay
        lengths = self._check_lengths(lengths, tokens.shape[0], n_available)
        n_samples, done = int(lengths.max()), 0
        audio = torch.empty(tokens.shape[0], 1, n_samples, dtype=torch.float32, device=self.decoder.head.weight.device)
        with self.streaming(tokens.shape[0]) as stream:
            for chunk in tokens.split(chunk_frames or self.chunk_frames(), dim=1):
                decoded = stream.decode(chunk)[..., : n_samples - done]
                audio[..., done : done + decoded.shape[-1]] = decoded
                done += decoded.shape[-1]
        for signal, length in zip(audio, lengths.tolist(), strict=True):
            signal[:, length:] = 0.0
        return audio

    def chunk_frames(self, batch_size: int = 1) -> int:
        """Frames of ``batch_size`` signals that are best encoded at once on the device of the weights."""
        if self.decoder.head.weight.device.type != "cpu":
            return GPU_CHUNK_FRAMES
        return max(1, min(CPU_CHUNK_FRAMES, CPU_ENCODE_FRAMES // batch_size))

    def streaming(self, batch_size: int = 1) -> Stream:
        """A :class:`Stream` over ``batch_size`` signals, to encode chunks of any length and decode frame by frame."""
        return Stream(self, batch_size)

    # ------------------------------------------------------------ whole frames

    def encode_frames(self, audio: Tensor, encoder: EncoderState, conformer: ConformerState) -> Tensor:
        """Tokens int32 ``[B, F, 19]`` of whole frames ``[B, 1, 9600 F]``, after what the states have seen."""
        if audio.shape[-1] == 0:
            return torch.zeros(audio.shape[0], 0, self.config.tokens_per_frame, dtype=torch.int32, device=audio.device)
        latents = self.conformer(self.encoder(audio, encoder), state=conformer)
        return self.quantizer.encode(latents)

    def decode_frames(self, tokens: Tensor, decoder: DecoderState) -> Tensor:
        """Audio ``[B, 1, 9600 F]`` of tokens ``[B, F, 19]``, after what the state has seen."""
        codes = self.quantizer.decode(tokens)
        if tokens.shape[1] == 0:
            return codes.new_zeros(tokens.shape[0], 1, 0)
        return self.decoder(codes.to(self.decoder.head.weight.dtype), decoder)

    def check_audio(self, audio: Tensor, batch_size: int | None = None) -> None:
        """Raise SilkInputError unless ``audio`` is finite floating-point ``[B, 1, T]``."""
        expected = "B" if batch_size is None else str(batch_size)
        if not isinstance(audio, Tensor) or not audio.is_floating_point():
            raise SilkInputError(f"audio must be a floating-point tensor, got {getattr(audio, 'dtype', type(audio))}")
        if audio.ndim != 3 or audio.shape[1] != 1 or batch_size not in (None, audio.shape[0]):
            raise SilkInputError(f"audio must be [{expected}, 1, T], got shape {tuple(audio.shape)}")
        if audio.numel() and not torch.isfinite(torch.stack(torch.aminmax(audio))).all():  # isfinite copies its input
            raise SilkInputError("audio must be finite, got NaN or infinite samples")

    def _check_lengths(self, lengths: Tensor | None, batch_size: int, n_samples: int) -> Tensor:
        if lengths is None:
            return torch.full((batch_size,), n_samples, dtype=torch.int64)
        lengths = torch.as_tensor(lengths).cpu()
        if lengths.shape != (batch_size,) or lengths.is_floating_point():
            raise SilkInputError(f"lengths must be integers [{batch_size}], got {lengths.dtype} {tuple(lengths.shape)}")
        if lengths.min() < 1 or lengths.max() > n_samples:
            raise SilkInputError(f"lengths must be in 1 .. {n_samples}, got {lengths.tolist()}")
        return lengths.to(torch.int64)

    # ------------------------------------------------------------ weights

    def _convolutions(self) -> list[nn.Conv1d]:
        halves = (self.encoder, self.decoder)
        return [module for half in halves for module in half.modules() if isinstance(module, nn.Conv1d)]

    def apply_weight_norm_(self) -> "SilkCodec":
        """Parametrise the convolutions of encoder and decoder by direction and magnitude, for training."""
        for conv in self._convolutions():
            if not parametrize.is_parametrized(conv):
                parametrizations.weight_norm(conv)
                magnitude, direction = conv.parametrizations.weight.parameters()
                with torch.no_grad():  # a channel of zeros has no direction, which would make it NaN
                    direction.masked_fill_(magnitude == 0, 1.0)
        return self

    def fold_weight_norm_(self) -> "SilkCodec":
        """Turn every parametrised weight into a plain one, on the device where it lives."""
        for conv in self._convolutions():
            if parametrize.is_parametrized(conv):
                parametrize.remove_parametrizations(conv, "weight")
        return self

    @torch.no_grad()
    def plain_state_dict(self) -> dict[str, Tensor]:
        """The state dict as it is after :meth:`fold_weight_norm_`: what checkpoints hold; on the CPU."""
        plain = {}
        for name, tensor in self.state_dict().items():
            if ".parametrizations." not in name:
                plain[name] = tensor
            elif name.endswith("original0"):
                owner = name.split(".parametrizations.")[0]
                plain[f"{owner}.weight"] = self.get_submodule(owner).weight
        return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(plain.items())}

    @property
    def weights_sha256(self) -> str:
        """SHA-256, in hexadecimal, of the plain weights as float32, independent of how they are stored."""
        digest = hashlib.sha256()
        for name, tensor in self.plain_state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.float().numpy().data)
        return digest.hexdigest()

    def save_pretrained(self, directory: str | os.PathLike, dtype: torch.dtype | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors`` (plain weights) into ``directory``.

        Args:
            directory: made if absent.
            dtype: of the stored weights; None keeps each as it is.

        Raises:
            SilkFileError: a file cannot be written; none is left unfinished.
        """
        from safetensors.torch import save

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.to(dtype or tensor.dtype) for name, tensor in self.plain_state_dict().items()}
        for name, data in ((WEIGHTS_FILE, save(weights)), (CONFIG_FILE, self.config.to_json().encode())):
            with atomic_file(directory / name) as file:
                file.write(data)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, *, device: str | torch.device = "cpu", weight_norm: bool = False
    ) -> "SilkCodec":
        """Load a codec, ready for inference: plain weights, evaluation mode.

        Args:
            name: a bundled model (``"silk-small-24khz"``), a directory made by
                :meth:`save_pretrained`, or a hub id ``owner/name`` (needs ``huggingface_hub``).
            device: where to put it.
            weight_norm: parametrise the convolutions again, to train on.

        Raises:
            SilkModelError: no such model, unreadable weights, or weights that do not fit the configuration.
            SilkConfigError: an impossible configuration.
        """
        directory = find_model(name)
        codec = cls(read_config(directory), weight_norm=False)
        codec._load_weights(directory / WEIGHTS_FILE)
        codec = codec.to(device).eval()
        return codec.apply_weight_norm_() if weight_norm else codec

    def _load_weights(self, path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(path)
        except FileNotFoundError as error:
            raise SilkModelError(f"no {path.name} in {path.parent}, expected a model that was saved there") from error
        except (SafetensorError, OSError) as error:
            raise SilkModelError(f"cannot read weights {path}: {error}") from error
        expected = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        for name in sorted(expected.keys() | found.keys()):
            shape = tuple(found[name].shape) if name in found else "nothing"
            if shape != expected.get(name, "nothing"):
                raise SilkModelError(
                    f"weights {path} do not fit the configuration: "
                    f"{name} should be {expected.get(name, 'absent')}, found {shape}"
                )
        self.load_state_dict({name: tensor.float() for name, tensor in found.items()})


MODELS = Path(__file__).resolve().parents[1] / "models"


def read_config(directory: Path) -> SilkConfig:
    """Configuration of a model in a directory that :func:`find_model` gave; no weights are read.

    Raises:
        SilkModelError, SilkConfigError: as :meth:`SilkCodec.from_pretrained` says.
    """
    return SilkConfig.from_json(_read_text(directory / CONFIG_FILE))


def find_model(name: str | os.PathLike) -> Path:
    """Directory of a bundled model, a local directory, or a downloaded hub repository.

    Raises:
        SilkModelError: nothing by that name; the message lists the bundled models.
    """
    bundled = sorted(path.name for path in MODELS.iterdir())
    if str(name) in bundled:
        return MODELS / str(name)
    if Path(name).is_dir():
        return Path(name)
    if isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/")):
        try:
            from huggingface_hub import snapshot_download
        except ImportError as error:
            raise SilkModelError(
                f"{name!r} is no directory; to load it from a hub, install huggingface_hub: pip install silk_fast[hub]"
            ) from error
        try:
            return Path(snapshot_download(name, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE, "training.json"]))
        except Exception as error:  # the hub client raises many kinds
            raise SilkModelError(
                f"cannot load {name!r}, neither a directory nor a reachable hub repository: {error}"
            ) from error
    raise SilkModelError(f"unknown model {str(name)!r}; expected one of {', '.join(bundled)}, a directory, or a hub id")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SilkModelError(f"cannot read {path}: {error.strerror}") from error
