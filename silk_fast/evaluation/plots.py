"""Pictures of the evaluation, in few colours for a page that is read on the web."""

import os
from collections.abc import Sequence

import numpy as np

from silk_fast.evaluation.clips import GROUPS
from silk_fast.evaluation.codebook import CodebookUse
from silk_fast.evaluation.evaluate import CLIP_MEAN, CORPUS_MEAN, ORIGINAL, Evaluation
from silk_fast.evaluation.latent import GAINS_DB, PITCHES, REFERENCE_PITCH, STAGES, PitchStudy, TimbreStudy, VolumeStudy
from silk_fast.evaluation.scores import METRICS
from silk_fast.plot import new_figure, save_figure

COLOURS = 128
BARS = ("estoi", "pesq_wb", "log_mel_db", "log_mel_4khz_db")


def draw_scores(target: str | os.PathLike, evaluation: Evaluation) -> None:
    """Draw bars with their 95 % intervals: metrics below each other, groups side by side, a colour per system."""
    figure = new_figure(11, 9)
    groups = [group for group in GROUPS if evaluation.of(group)]
    metrics = {metric.key: metric for metric in METRICS}
    for axes, key in zip(figure.subplots(len(BARS), 1, sharex=True), BARS, strict=True):
        systems = [s for s in evaluation.systems if s != ORIGINAL and s not in evaluation.absences]
        if not key.startswith("log_mel"):
            systems = [s for s in systems if s not in (CORPUS_MEAN, CLIP_MEAN)]
        for i, system in enumerate(systems):
            means = [evaluation.mean(group, system, key) for group in groups]
            values = np.asarray([mean.value for mean in means])
            errors = np.abs(np.asarray([(mean.value - mean.low, mean.high - mean.value) for mean in means])).T
            places = np.arange(len(groups)) + (i - (len(systems) - 1) / 2) * 0.11
            axes.bar(places, values, 0.1, yerr=errors, capsize=2, label=system, color=f"C{i}")
        arrow = "higher is better" if metrics[key].sign > 0 else "lower is better"
        axes.set(ylabel=metrics[key].title, title=arrow)
        axes.set_xticks(np.arange(len(groups)), [GROUPS[group] for group in groups])
    axes.legend(ncols=4, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12))
    save_figure(figure, target, COLOURS)


def draw_codebook(target: str | os.PathLike, use: CodebookUse) -> None:
    """Draw the entropy of every dimension, and how often each level occurs."""
    figure = new_figure(11, 5)
    top, bottom = figure.subplots(2, 1, sharex=True)
    n_dims, n_levels = use.shares.shape
    top.bar(np.arange(n_dims), use.entropy, 1.0, color="tab:blue")
    top.axhline(np.log2(n_levels), color="black", linewidth=0.8, linestyle="--")
    top.set(ylabel="entropy, bits", title=f"{use.n_frames} frames; the dashed line is the most there can be")
    image = bottom.imshow(use.shares.T, origin="lower", aspect="auto", interpolation="nearest", vmin=0, cmap="viridis")
    bottom.set(xlabel="latent dimension", ylabel="level")
    figure.colorbar(image, ax=[top, bottom], label="share of frames", pad=0.01)
    save_figure(figure, target, COLOURS)


def draw_volume(target: str | os.PathLike, study: VolumeStudy) -> None:
    """Draw the magnitude relative to 0 dB at every stage, and how far the direction turns."""
    figure = new_figure(13, 3.4)
    axes = figure.subplots(1, len(STAGES) + 1)
    for panel, stage in zip(axes, STAGES, strict=False):
        relative = study.magnitudes[stage] / study.magnitudes[stage][:, [GAINS_DB.index(0)]]
        _curves(panel, GAINS_DB, relative)
        panel.set_title(stage, fontsize="medium")
        panel.set(xlabel="gain, dB", ylabel="magnitude over that at 0 dB")
        panel.set_ylim(bottom=0)
    _curves(axes[-1], GAINS_DB, study.turned)
    axes[-1].axhline(study.unrelated, color="black", linestyle="--", linewidth=0.8)
    axes[-1].set(title="direction", xlabel="gain, dB", ylabel="degrees; dashed: other utterances")
    save_figure(figure, target, COLOURS)


def _curves(panel, x: Sequence[float], rows: np.ndarray) -> None:
    panel.plot(x, rows.T, color="tab:blue", alpha=0.3, linewidth=0.8)
    panel.plot(x, rows.mean(0), color="tab:red", linewidth=2)


def draw_pitch(target: str | os.PathLike, study: PitchStudy) -> None:
    """Draw the angle to the same utterance at the reference pitch, beside that between different utterances."""
    figure = new_figure(8, 3.6)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    _curves(left, PITCHES, study.turned)
    left.set(
        xlabel="pitch given to espeak-ng", ylabel="degrees", title=f"same utterance, against pitch {REFERENCE_PITCH}"
    )
    right.hist(study.unrelated, bins=15, orientation="horizontal", color="tab:grey")
    right.set(xlabel="pairs", title="other text")
    save_figure(figure, target, COLOURS)


def draw_timbre(target: str | os.PathLike, study: TimbreStudy) -> None:
    """Draw utterances in the plane of their first two principal components, a colour per voice."""
    figure = new_figure(6.5, 4.5)
    axes = figure.subplots()
    for i, voice in enumerate(dict.fromkeys(study.voices)):
        points = study.plane[[v == voice for v in study.voices]]
        axes.scatter(points[:, 0], points[:, 1], s=18, color=f"C{i}", label=voice)
    axes.set(xlabel="first principal component", ylabel="second", title="mean latents of utterances")
    figure.legend(fontsize="small", loc="outside right center")
    save_figure(figure, target, COLOURS)
