"""Run a codec and its anchors over clips: who scored what, and which tokens were used."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from silk_fast import metrics
from silk_fast.evaluation.anchors import ANCHORS, Anchor, Coded, measure_delay, run_anchor
from silk_fast.evaluation.clips import RATE, Clip, corpus_clips, corpus_rows
from silk_fast.evaluation.scores import METRICS, Mean, Metric, difference_of, mean_of, mel_distances, score
from silk_fast.reference import ops
from silk_fast.reference.codec import SilkCodec

ORIGINAL = "Original"
SILK = "Silk"
CORPUS_MEAN = "Mean spectrum of the training split"
CLIP_MEAN = "Mean spectrum of the clip itself"
BITS = "bits_per_second"
N_MEAN_CLIPS = 64
N_DELAY_CLIPS = 8


@dataclass(frozen=True)
class ClipResult:
    """What one clip scored.

    Args:
        clip: which.
        seconds: of it.
        scores: system to metric (and bits per second) to value; NaN where there is none.
        digits: int ``[F, D]``, FSQ digits of Silk's tokens.
    """

    clip: Clip
    seconds: float
    scores: dict[str, dict[str, float]]
    digits: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """What all clips scored.

    Args:
        results: one per clip.
        delays: anchor to its delay in samples at 24 kHz.
        absences: anchor to why it was not run.
    """

    results: list[ClipResult]
    delays: dict[str, int]
    absences: dict[str, str]

    @property
    def systems(self) -> list[str]:
        """Rows of a table, absent ones too."""
        return [ORIGINAL, SILK, *(anchor.name for anchor in ANCHORS), CORPUS_MEAN, CLIP_MEAN]

    def of(self, group: str, language: str | None = None) -> list[ClipResult]:
        """Select the results of one group, or of one language in it."""
        return [r for r in self.results if r.clip.group == group and language in (None, r.clip.language)]

    def values(self, group: str, system: str, key: str, language: str | None = None) -> list[float]:
        """List one metric of one system on the clips of a group; NaN where unknown."""
        return [r.scores.get(system, {}).get(key, math.nan) for r in self.of(group, language)]

    def mean(self, group: str, system: str, key: str, language: str | None = None) -> Mean:
        """Average :meth:`values`."""
        return mean_of(self.values(group, system, key, language))

    def lead(self, group: str, system: str, metric: Metric) -> Mean:
        """Measure how far Silk is ahead of another system, positive for better, clip by clip."""
        first, second = (self.values(group, name, metric.key) for name in (SILK, system))
        return difference_of(*((first, second) if metric.sign > 0 else (second, first)))

    def rows(self) -> list[dict[str, object]]:
        """Make one row per clip and system, NaN and infinities as None: for JSON."""
        return [
            {
                "clip": result.clip.name,
                "group": result.clip.group,
                "language": result.clip.language,
                "voice": result.clip.voice,
                "seconds": round(result.seconds, 4),
                "system": system,
                **{key: round(value, 4) if math.isfinite(value) else None for key, value in scores.items()},
            }
            for result in self.results
            for system, scores in result.scores.items()
        ]


@torch.no_grad()
def code_with_silk(codec: SilkCodec, samples: np.ndarray) -> tuple[Coded, np.ndarray]:
    """Pass a clip float32 ``[T]`` through the codec; returns it, and its FSQ digits int ``[F, D]``.

    The bits counted are those of all frames, the last and incomplete one included.
    """
    audio = torch.from_numpy(samples)[None, None].to(codec.decoder.head.weight.device)
    encoded = codec.encode(audio)
    decoded = codec.decode(encoded.tokens, encoded.lengths)[0, 0].cpu().numpy()
    digits = ops.unpack_digits(encoded.tokens[0].cpu(), codec.quantizer.levels, codec.quantizer.group_size).numpy()
    n_bits = len(digits) * codec.config.bitrate / codec.config.frame_rate
    return Coded(decoded, n_bits * RATE / len(samples)), digits


def mean_log_mel(folder: str | os.PathLike, n_clips: int = N_MEAN_CLIPS) -> Tensor | None:
    """Compute the mean log-mel spectrum ``[80, 1]`` in dB of the training split; None if there is none."""
    clips = corpus_clips(folder, corpus_rows(folder), "train", n_clips)
    if not clips:
        return None
    spectrograms = [metrics.log_mel_spectrogram(torch.from_numpy(clip.load()), RATE) for clip in clips]
    return torch.cat(spectrograms, dim=1).mean(1, keepdim=True)


def evaluate(
    codec: SilkCodec, clips: Sequence[Clip], training_mean: Tensor | None, progress: Callable[[float], None]
) -> Evaluation:
    """Score the codec, the anchors that can run, and what needs no codec, on every clip.

    Args:
        clips: what to score.
        training_mean: log-mel spectrum ``[80, 1]`` that the first mean predicts; None leaves its row out.
        progress: called with the seconds of each clip done.

    Raises:
        SilkAudioError: a clip cannot be read, or a program of an anchor failed.
    """
    absences = {anchor.name: anchor.absence for anchor in ANCHORS if anchor.absence}
    present = [anchor for anchor in ANCHORS if anchor.name not in absences]
    delays = {anchor.name: _delay_of(anchor, clips) for anchor in present}
    results = []
    for clip in clips:
        original = clip.load()
        coded, digits = code_with_silk(codec, original)
        scores = {ORIGINAL: _scores(original, Coded(original, 16.0 * RATE)), SILK: _scores(original, coded)}
        for anchor in present:
            scores[anchor.name] = _scores(original, run_anchor(anchor, original, delays[anchor.name]))
        spectrogram = metrics.log_mel_spectrogram(torch.from_numpy(original), RATE)
        if training_mean is not None:
            scores[CORPUS_MEAN] = mel_distances(spectrogram, training_mean)
        scores[CLIP_MEAN] = mel_distances(spectrogram, spectrogram.mean(1, keepdim=True))
        results.append(ClipResult(clip, len(original) / RATE, scores, digits))
        progress(len(original) / RATE)
    return Evaluation(results, delays, absences)


def _scores(original: np.ndarray, coded: Coded) -> dict[str, float]:
    return {BITS: coded.bits_per_second, **score(original, coded.samples)}


def _delay_of(anchor: Anchor, clips: Sequence[Clip]) -> int:
    """Measure the delay in samples on a few clips spread over all."""
    originals = [clip.load() for clip in clips[:: max(1, len(clips) // N_DELAY_CLIPS)][:N_DELAY_CLIPS]]
    return measure_delay([(original, run_anchor(anchor, original).samples) for original in originals])


def missing_packages() -> dict[str, str]:
    """Find the packages that metrics need and that cannot be imported, with the metric's title."""
    from importlib.util import find_spec

    missing: dict[str, list[str]] = {}
    for metric in METRICS:
        if metric.package and find_spec(metric.module or metric.package) is None:
            missing.setdefault(metric.package, []).append(metric.title)
    return {package: " and ".join(titles) for package, titles in missing.items()}
