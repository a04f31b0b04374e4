"""What the latent space means: volume, pitch and timbre against magnitude, direction and neighbourhood.

The measures are functions of numbers; the studies speak or scale the speech, encode it and measure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from silk_fast import metrics
from silk_fast.corpus.engines import check_espeak, speak_with_espeak
from silk_fast.corpus.voices import HELDOUT_VARIANTS
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.evaluation.clips import RATE, Clip
from silk_fast.reference.codec import SilkCodec

GAINS_DB = (-24, -18, -12, -6, 0, 6)
PITCHES = (20, 35, 50, 65, 80)
REFERENCE_PITCH = 50
VOICES = tuple(f"en-us+{variant}" for variant in HELDOUT_VARIANTS)
PITCH_VOICES = ("en-us+m6", "en-us+f4")
SENTENCES = (
    "The train to the harbour leaves from platform seven at a quarter past nine.",
    "Nobody had expected so much rain in the middle of the summer.",
    "She put the letters into a wooden box and closed the window.",
    "Three children were playing football behind the old school building.",
    "Please turn left after the bridge and follow the river for two miles.",
    "A good cup of coffee costs less here than anywhere else in town.",
    "His brother repairs clocks, radios and sometimes even a piano.",
    "We should measure the distance again before we cut the second board.",
)
SPEECH_LEVEL_DB = -18.0
SPEED = 160
NEIGHBOURS = 5
N_PERMUTATIONS = 500
STAGES = ("encoder output", "latent before standardisation", "latent after standardisation")


# ---------------------------------------------------------------- measures


def correlations(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Compute Pearson's correlation ``[N]`` of ``x`` ``[K]`` with each row of ``[N, K]``; 0 where constant to 1e-5."""
    x, centred = x - x.mean(), rows - rows.mean(1, keepdims=True)
    scale = np.linalg.norm(x) * np.linalg.norm(centred, axis=1)
    varies = np.linalg.norm(centred, axis=1) > 1e-5 * np.linalg.norm(rows, axis=1)
    return np.divide(centred @ x, scale, out=np.zeros(len(rows)), where=varies)


def angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the degrees between vectors ``[..., D]``, 0 to 180; 90 where one is zero."""
    return np.degrees(np.arccos(_cosines(first, second).clip(-1, 1)))


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    scale = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    dots = (first * second).sum(-1)
    return np.divide(dots, scale, out=np.zeros_like(dots), where=scale > 1e-12)


def mean_pairwise_cosine(vectors: np.ndarray) -> float:
    """Average the cosine between different vectors of ``[N, D]``, N >= 2: 1 for one direction, about 0 for none."""
    i, j = np.triu_indices(len(vectors), 1)
    return float(_cosines(vectors[i], vectors[j]).mean())


def direction_by_chance(vectors: np.ndarray) -> float:
    """Find what :func:`mean_pairwise_cosine` stays below in 97.5 % of random flips of the vectors' signs."""
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (N_PERMUTATIONS, len(vectors), 1))
    return float(np.quantile([mean_pairwise_cosine(vectors * sign) for sign in signs], 0.975))


@dataclass(frozen=True)
class Purity:
    """Share of the nearest neighbours that have the same label.

    Args:
        value: mean over all points.
        chance: the same for neighbours drawn at random from those allowed.
        limit: what 97.5 % of random permutations of the labels stay below.
    """

    value: float
    chance: float
    limit: float


def neighbour_purity(vectors: np.ndarray, labels: Sequence, apart: Sequence, k: int = NEIGHBOURS) -> Purity:
    """Measure how often the k nearest neighbours by angle have a point's label.

    Args:
        vectors: ``[N, D]``.
        labels: ``[N]``.
        apart: ``[N]``; points with the same value, the point itself among them, are no neighbours of each other.
        k: neighbours, fewer than are allowed to any point.
    """
    label, group = (np.unique(np.asarray(values), return_inverse=True)[1] for values in (labels, apart))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    allowed = group[:, None] != group
    nearest = np.argsort(np.where(allowed, unit @ unit.T, -np.inf), axis=1)[:, ::-1][:, :k]
    chance = ((label[:, None] == label) & allowed).sum(1) / allowed.sum(1)
    generator = np.random.default_rng(0)
    shuffled = [_shared(generator.permutation(label), nearest) for _ in range(N_PERMUTATIONS)]
    return Purity(_shared(label, nearest), float(chance.mean()), float(np.quantile(shuffled, 0.975)))


def _shared(labels: np.ndarray, nearest: np.ndarray) -> float:
    return float((labels[nearest] == labels[:, None]).mean())


def two_dimensions(vectors: np.ndarray) -> np.ndarray:
    """Project ``[N, D]`` on its first two principal components, ``[N, 2]``."""
    centred = vectors - vectors.mean(0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


# ---------------------------------------------------------------- speech to latents


@torch.no_grad()
def latent_frames(codec: SilkCodec, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the latents of the frames that hold speech, float64 ``[F, 128]`` at each of :data:`STAGES`.

    Args:
        samples: float32 ``[T]`` at 24 kHz. Frames more than 30 dB below the loudest, and the last if it is not
            whole, are left out.
    """
    n_frame = codec.config.frame_samples
    n_frames = max(1, len(samples) // n_frame)
    frames = np.pad(samples, (0, max(0, n_frame - len(samples))))[: n_frames * n_frame]
    energy = np.square(frames.reshape(n_frames, n_frame), dtype=np.float64).sum(1)
    audio = torch.from_numpy(frames)[None, None].to(codec.decoder.head.weight.device)
    encoded = codec.encoder(audio)
    latents = codec.conformer(encoded)
    speech = energy >= 1e-3 * energy.max()
    tensors = (encoded, latents, codec.quantizer.norm(latents))
    return {stage: x[0].double().cpu().numpy()[speech] for stage, x in zip(STAGES, tensors, strict=True)}


def mean_latent(codec: SilkCodec, samples: np.ndarray) -> np.ndarray:
    """Average the standardised latents over the speech frames, ``[128]``."""
    return latent_frames(codec, samples)[STAGES[2]].mean(0)


def at_level(samples: np.ndarray, level_db: float = SPEECH_LEVEL_DB) -> np.ndarray:
    """Scale a signal ``[T]`` to an rms level in dB re full scale; silence stays as it is."""
    level = metrics.level(torch.from_numpy(samples))
    return samples if np.isinf(level) else (samples * 10 ** ((level_db - level) / 20)).astype(np.float32)


def speak(text: str, voice: str, pitch: int = REFERENCE_PITCH) -> np.ndarray:
    """Speak an English text with eSpeak NG: float32 ``[T]`` at 24 kHz, rms -18 dB re full scale.

    Args:
        text: what to say.
        voice: such as ``"en-us+m3"``.
        pitch: 0 to 99.

    Raises:
        SilkInputError: espeak-ng is not installed, or does not speak.
    """
    check_espeak()
    try:
        return at_level(speak_with_espeak(text, voice, SPEED, pitch))
    except SilkAudioError as error:
        raise SilkInputError(f"espeak-ng does not speak with voice {voice!r}: {error}") from error


# ---------------------------------------------------------------- studies


@dataclass(frozen=True)
class VolumeStudy:
    """Utterances at several gains.

    Args:
        magnitudes: stage to ``[U, gains]``, mean over frames of the Euclidean norm.
        turned: degrees ``[U, gains]``, mean over frames of the angle to the same frame at 0 dB, standardised.
        unrelated: degrees, mean angle between frames of different utterances at 0 dB.
    """

    magnitudes: dict[str, np.ndarray]
    turned: np.ndarray
    unrelated: float

    def correlations(self, stage: str) -> np.ndarray:
        """Correlate gain in dB and magnitude, for each utterance ``[U]``."""
        return correlations(np.asarray(GAINS_DB, np.float64), self.magnitudes[stage])

    def growth(self, stage: str) -> float:
        """Average the ratio of the magnitude at the highest gain to that at the lowest."""
        return float((self.magnitudes[stage][:, -1] / self.magnitudes[stage][:, 0]).mean())


@dataclass(frozen=True)
class PitchStudy:
    """Utterances at several pitches; latents are means over frames, standardised.

    Args:
        turned: degrees ``[U, pitches]`` to the same utterance at the reference pitch.
        unrelated: degrees ``[pairs]`` between different texts of one voice at the reference pitch.
        direction: mean cosine between utterances of the way from the lowest pitch to the highest.
        direction_chance: what chance would give at most, 97.5 %.
    """

    turned: np.ndarray
    unrelated: np.ndarray
    direction: float
    direction_chance: float


@dataclass(frozen=True)
class TimbreStudy:
    """The same texts by several voices; latents are means over frames, standardised.

    Args:
        voices: label ``[U]`` of each utterance.
        plane: ``[U, 2]``, principal components.
        by_voice: purity of voices among neighbours with another text.
        by_text: purity of texts among neighbours with another voice.
    """

    voices: list[str]
    plane: np.ndarray
    by_voice: Purity
    by_text: Purity


def study_volume(codec: SilkCodec, clips: Sequence[Clip], progress: Callable[[float], None]) -> VolumeStudy:
    """Scale clips by the gains; 0 dB is an rms level of -18 dB re full scale.

    Raises:
        SilkInputError: fewer than two clips.
    """
    if len(clips) < 2:
        raise SilkInputError(f"the latent study scales at least 2 clips of held-out voices, got {len(clips)}")
    magnitudes: dict[str, list] = {stage: [] for stage in STAGES}
    turned, at_zero = [], []
    for clip in clips:
        samples = at_level(clip.load())
        sweep = [latent_frames(codec, (samples * 10 ** (gain / 20)).astype(np.float32)) for gain in GAINS_DB]
        for stage in STAGES:
            magnitudes[stage].append([np.linalg.norm(frames[stage], axis=1).mean() for frames in sweep])
        standardised = [frames[STAGES[2]] for frames in sweep]
        reference = standardised[GAINS_DB.index(0)]
        turned.append([angles(frames, reference).mean() for frames in standardised])
        at_zero.append(reference)
        progress(len(samples) / RATE * len(GAINS_DB))
    pairs = [angles(a[:, None], b[None]).mean() for i, a in enumerate(at_zero) for b in at_zero[i + 1 :]]
    arrays = {stage: np.asarray(rows) for stage, rows in magnitudes.items()}
    return VolumeStudy(arrays, np.asarray(turned), float(np.mean(pairs)))


def study_pitch(codec: SilkCodec, progress: Callable[[float], None]) -> PitchStudy:
    """Speak every sentence with every pitch."""
    turned, unrelated, ways = [], [], []
    for voice in PITCH_VOICES:
        spoken = [[speak(text, voice, pitch) for pitch in PITCHES] for text in SENTENCES]
        latents = np.asarray([[mean_latent(codec, samples) for samples in row] for row in spoken])
        reference = latents[:, PITCHES.index(REFERENCE_PITCH)]
        turned.append(angles(latents, reference[:, None]))
        i, j = np.triu_indices(len(SENTENCES), 1)
        unrelated.append(angles(reference[i], reference[j]))
        ways.append(latents[:, -1] - latents[:, 0])
        progress(sum(len(samples) for row in spoken for samples in row) / RATE)
    way = np.concatenate(ways)
    direction, chance = mean_pairwise_cosine(way), direction_by_chance(way)
    return PitchStudy(np.concatenate(turned), np.concatenate(unrelated), direction, chance)


def study_timbre(codec: SilkCodec, progress: Callable[[float], None]) -> TimbreStudy:
    """Speak every sentence with every voice."""
    latents, voices, texts = [], [], []
    for voice in VOICES:
        for i_text, text in enumerate(SENTENCES):
            samples = speak(text, voice)
            latents.append(mean_latent(codec, samples))
            voices.append(voice)
            texts.append(i_text)
            progress(len(samples) / RATE)
    vectors = np.asarray(latents)
    by_voice, by_text = neighbour_purity(vectors, voices, texts), neighbour_purity(vectors, texts, voices)
    return TimbreStudy(voices, two_dimensions(vectors), by_voice, by_text)
