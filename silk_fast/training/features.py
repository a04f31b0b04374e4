"""What frozen layers make of whole recordings, computed once and kept on disk: steps then need not run them.

A recording's features, or its tokens, are one file of vectors ``[T / hop, C]``, in a folder named after the frozen
weights, so what other weights made is never taken for theirs. A file is complete or absent: work that was broken off
goes on.
"""

import copy
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from silk_fast.acceleration import accelerate_
from silk_fast.audio import AudioReader
from silk_fast.errors import SilkAudioError, SilkFileError, SilkInputError, SilkTrainingError
from silk_fast.files import atomic_file
from silk_fast.reference.codec import SilkCodec
from silk_fast.reference.encoder import Encoder, EncoderStage
from silk_fast.training.data import CropDataset, Excerpt, Item
from silk_fast.training.recordings import RATE, Clip, Notice

BLOCK_SECONDS = 3.2  # computed at once: activations that fit a processor's cache
ENCODED_AT_ONCE = 25  # frames
NOTICES = 10  # while features of a corpus are computed


class Store:
    """Vectors of recordings that frozen layers make. Sub-classes compute them.

    Args:
        folder: holds one folder for each set of frozen weights.
        frozen: what computes them.
        hop: samples of audio per vector.
        channels: C.
        dtype: of the values.
        sample_rate: Hz of the audio.
    """

    def __init__(
        self, folder: Path, frozen: nn.Module, hop: int, channels: int, dtype: type[np.generic], sample_rate: int
    ) -> None:
        self.folder = Path(folder) / _digest(frozen)
        self.hop, self.channels, self.dtype, self.sample_rate = hop, channels, np.dtype(dtype), sample_rate
        self._device = next(frozen.parameters()).device

    def vectors(self, recording: str) -> Iterator[np.ndarray]:
        """Compute the vectors of a recording, ``[n, C]`` at a time.

        Raises:
            SilkAudioError: it cannot be read.
        """
        raise NotImplementedError

    def add(self, clips: Sequence[Clip], notice: Notice = None) -> list[Clip]:
        """Compute what is missing; returns the clips that have features, each as long as they reach.

        Processes of a distributed run share the work.

        Args:
            clips: recordings.
            notice: called with one line of text on progress, and for each file that cannot be read, which is left out.

        Raises:
            SilkFileError: the folder cannot be written.
            SilkInputError: no recording could be read.
            SilkTrainingError: the layers make something that cannot be kept.
        """
        notice = notice or (lambda _: None)
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SilkFileError(f"{self.folder}: cannot be made: {error.strerror}") from error
        own = [clip for clip in clips[rank::world] if not self._has(clip.path)]
        every, reported = max(1, len(own) // NOTICES), set()
        for i, clip in enumerate(own):
            if i % every == 0:
                notice(f"frozen layers: {i} of {len(own)} recordings")
            try:
                self._keep(clip.path)
            except SilkAudioError as error:
                reported.add(clip.path)
                notice(f"left out: {error}")
        if world > 1:
            dist.barrier()
        for clip in clips:
            if clip.path not in reported and not self._has(clip.path):
                notice(f"left out: {clip.path}: another process could not read it")
        there = [
            Clip(clip.path, self.n_frames(clip.path) * self.hop * RATE // self.sample_rate, clip.labels)
            for clip in clips
            if self._has(clip.path)
        ]
        if not there:
            raise SilkInputError(f"none of {len(clips)} recordings has features, expected readable files")
        return there

    def _keep(self, recording: str) -> None:
        vectors = self.vectors(recording)
        first = list(islice(vectors, 1))  # a file that cannot be read is found out here
        with atomic_file(self.path(recording)) as file:
            for some in chain(first, vectors):
                file.write(some.astype(self.dtype).tobytes())

    def path(self, recording: str) -> Path:
        """Name the file of the features of a recording as it is now; a changed one has another."""
        status = os.stat(recording)
        key = f"{os.path.abspath(recording)} {status.st_size} {status.st_mtime_ns}"
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.{self.dtype.name}"

    def _has(self, recording: str) -> bool:
        try:
            return self.path(recording).exists()
        except OSError:  # the recording itself has vanished
            return False

    def n_frames(self, recording: str) -> int:
        """Count the vectors of a recording."""
        return self.path(recording).stat().st_size // self._size

    def read(self, recording: str, start: int, n: int) -> np.ndarray:
        """Read vectors ``start`` to ``start + n`` of a recording, ``[n, C]``.

        Raises:
            SilkAudioError: they are not there.
        """
        try:
            values = np.fromfile(self.path(recording), self.dtype, n * self.channels, offset=start * self._size)
        except OSError as error:
            raise SilkAudioError(f"{recording}: its features have vanished ({error})") from error
        if values.size < n * self.channels:
            raise SilkAudioError(f"{recording}: its features end before vector {start + n}")
        return values.reshape(n, self.channels)

    @property
    def _size(self) -> int:
        """Count the bytes of a vector."""
        return self.channels * self.dtype.itemsize


class FeatureStore(Store):
    """What the first stages of an encoder make of recordings, in float16.

    Args:
        folder: holds one folder for each set of frozen weights.
        encoder: its input and first stages are frozen.
        n_stages: how many stages, >= 1.
        sample_rate: Hz of the audio.
    """

    def __init__(self, folder: Path, encoder: Encoder, n_stages: int, sample_rate: int) -> None:
        frozen = nn.ModuleList([encoder.input, *encoder.stages[:n_stages]])
        hop, self._context = _hop_and_context(frozen)
        channels = cast(EncoderStage, encoder.stages[n_stages - 1]).down.out_channels
        super().__init__(folder, frozen, hop, channels, np.float16, sample_rate)
        self._encoder = copy.deepcopy(encoder)
        accelerate_(self._encoder)
        self._n_stages = n_stages

    def vectors(self, recording: str) -> Iterator[np.ndarray]:
        n_block = round(BLOCK_SECONDS * self.sample_rate / self.hop) * self.hop
        before = None
        with AudioReader(recording, self.sample_rate, n_block) as reader:
            for block in reader:
                n_frames = len(block) // self.hop  # what follows the last whole vector is dropped
                padded = np.pad(block, (0, n_block - len(block)))
                # The first block needs no context: zeros before it are not what the layers' own padding is.
                first = 0 if before is None else self._context // self.hop
                joined = np.pad(padded, (0, self._context)) if before is None else np.concatenate([before, padded])
                vectors = self._run(torch.from_numpy(joined)[None, None])[first : first + n_frames]
                if not vectors.isfinite().all():
                    raise SilkTrainingError(f"{recording}: features of frozen stages are not finite in float16")
                yield vectors.numpy()
                before = padded[n_block - self._context :]

    @torch.no_grad()
    def _run(self, audio: Tensor) -> Tensor:
        features = self._encoder.features(audio.to(self._device), n_stages=self._n_stages)
        return features[0].T.half().contiguous().cpu()


class TokenStore(Store):
    """The tokens of recordings, for a decoder that is trained alone.

    Args:
        folder: holds one folder for each set of frozen weights.
        codec: all of it but the decoder is frozen.
    """

    def __init__(self, folder: Path, codec: SilkCodec) -> None:
        sizes = codec.config
        frozen = nn.ModuleList([codec.encoder, codec.conformer, codec.quantizer])
        super().__init__(folder, frozen, sizes.frame_samples, sizes.tokens_per_frame, np.int32, sizes.sample_rate)
        self._codec = copy.deepcopy(codec).eval()
        accelerate_(self._codec)

    def vectors(self, recording: str) -> Iterator[np.ndarray]:
        """Compute the tokens of whole frames."""
        with (
            AudioReader(recording, self.sample_rate, ENCODED_AT_ONCE * self.hop) as reader,
            self._codec.streaming() as stream,
        ):
            for block in reader:
                yield stream.encode(torch.from_numpy(block)[None, None].to(self._device))[0].cpu().numpy()


def _digest(frozen: nn.Module) -> str:
    """Name what the stages compute, by a digest of their weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(frozen.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _hop_and_context(frozen: nn.Module) -> tuple[int, int]:
    """Count the samples per feature vector, and the samples before one on which it depends, in whole hops."""
    hop, context = 1, 0
    for module in frozen.modules():
        if isinstance(module, nn.Conv1d):
            context += (module.kernel_size[0] - 1) * module.dilation[0] * hop
            hop *= module.stride[0]
    return hop, -(-context // hop) * hop


class FeatureCropDataset(CropDataset):
    """Crops with the features, or tokens, of the same samples; item ``index`` is a function of (seed, index) alone.

    Crops begin at feature vectors, and levels are as recorded: features are not those of another gain.

    Args:
        clips: as :func:`~silk_fast.training.recordings.find_clips` gives them.
        crop_samples: length of a crop.
        store: whose vectors are computed now where they are missing.
        seed, notice, pieces, pitch_hop: as :class:`CropDataset` takes them.

    Raises:
        SilkInputError, SilkAudioError: as :class:`CropDataset` and :meth:`Store.add` raise them.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        crop_samples: int,
        store: Store,
        seed: int = 0,
        notice: Notice = None,
        pieces: int = 1,
        pitch_hop: int = 0,
    ) -> None:
        self.store = store
        arguments = crop_samples, store.sample_rate, seed, None, notice, pieces, store.hop, pitch_hop
        super().__init__(clips, *arguments)  # refuses what cannot be before hours of work
        super().__init__(store.add(self.clips, notice), *arguments)

    def item(self, excerpts: Sequence[Excerpt]) -> Item:
        """Join the pieces of a crop; with ``features`` ``[C, crop_samples / hop]``."""
        features = np.concatenate([excerpt.features for excerpt in excerpts])
        return {**super().item(excerpts), "features": torch.from_numpy(features).T.contiguous()}

    def read(self, path: str, start: int, bandwidth: float) -> Excerpt:
        hop = self.store.hop
        features = self.store.read(path, start // hop, self.piece_samples // hop)
        return replace(super().read(path, start, bandwidth), features=features)
