"""From an evaluation to the files in ``docs/``: pages, pictures, and a row per clip and codec."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from silk_fast.evaluation import plots
from silk_fast.evaluation.anchors import ANCHORS, run_anchor
from silk_fast.evaluation.clips import GROUPS, RATE, RECORDED
from silk_fast.evaluation.codebook import codebook_use
from silk_fast.evaluation.evaluate import ClipResult, Evaluation, code_with_silk
from silk_fast.evaluation.latent import study_pitch, study_timbre, study_volume
from silk_fast.evaluation.latent_report import Studies, latent_page
from silk_fast.evaluation.report import Setting, evaluation_page
from silk_fast.files import atomic_file
from silk_fast.plot import draw_comparison
from silk_fast.reference.codec import SilkCodec

COMPARED = {"heldout-voice": "compare-voice", "heldout-language": "compare-language", RECORDED: "compare-human"}
PICTURE_SECONDS = 7
PICTURE_COLOURS, PICTURE_SCALE = 32, 0.8
PICTURE_ANCHOR = "Codec2 1200"


def publish_evaluation(folder: Path, codec: SilkCodec, evaluation: Evaluation, setting: Setting) -> list[Path]:
    """Write ``evaluation.md`` and, below ``evaluation/``, its pictures and ``clips.jsonl``.

    Args:
        folder: made if absent; files of an earlier evaluation are replaced.

    Returns:
        The files written.

    Raises:
        SilkFileError: a file cannot be written.
    """
    beside = folder / "evaluation"
    beside.mkdir(parents=True, exist_ok=True)
    pictures = {"scores": beside / "scores.png", "codebook": beside / "codebook.png"}
    plots.draw_scores(pictures["scores"], evaluation)
    digits = np.concatenate([result.digits for result in evaluation.results])
    plots.draw_codebook(pictures["codebook"], codebook_use(digits, setting.levels, setting.frame_rate))
    for group, name in COMPARED.items():
        for result in evaluation.of(group)[:1]:
            pictures[f"{GROUPS[group]}, {result.clip.name}"] = beside / f"{name}.png"
            _draw_clip(beside / f"{name}.png", codec, evaluation, result, setting)
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in evaluation.rows())
    page = evaluation_page(evaluation, setting, {name: f"evaluation/{path.name}" for name, path in pictures.items()})
    texts = {folder / "evaluation.md": page, beside / "clips.jsonl": rows}
    _write(texts)
    return [*texts, *pictures.values()]


def _draw_clip(path: Path, codec: SilkCodec, evaluation: Evaluation, result: ClipResult, setting: Setting) -> None:
    """Draw the beginning of a clip: original, Silk, and the anchor if it was there."""
    original = result.clip.load()
    signals = {"original": original, f"Silk, {setting.bitrate:.0f} bit/s": code_with_silk(codec, original)[0].samples}
    for anchor in ANCHORS:
        if anchor.name == PICTURE_ANCHOR and anchor.name in evaluation.delays:
            coded = run_anchor(anchor, original, evaluation.delays[anchor.name])
            signals[f"{anchor.name} bit/s"] = coded.samples
    shown = {name: samples[: PICTURE_SECONDS * RATE] for name, samples in signals.items()}
    title = f"{GROUPS[result.clip.group]}: {result.clip.name}"
    draw_comparison(path, shown, RATE, title, n_colours=PICTURE_COLOURS, scale=PICTURE_SCALE)


def publish_latent(
    folder: Path, codec: SilkCodec, evaluation: Evaluation, setting: Setting, progress: Callable[[float], None]
) -> list[Path]:
    """Run the latent studies; write ``latent.md`` and its pictures below ``latent/``.

    Args:
        progress: called with the seconds of speech encoded.

    Returns:
        The files written.

    Raises:
        SilkInputError: espeak-ng is missing, or there are fewer than two clips of held-out voices to scale.
        SilkFileError: a file cannot be written.
    """
    clips = [result.clip for result in evaluation.of("heldout-voice")]
    volume = study_volume(codec, clips, progress)
    studies = Studies(volume, study_pitch(codec, progress), study_timbre(codec, progress))
    beside = folder / "latent"
    beside.mkdir(parents=True, exist_ok=True)
    pictures = {name: beside / f"{name}.png" for name in ("volume", "pitch", "timbre")}
    plots.draw_volume(pictures["volume"], studies.volume)
    plots.draw_pitch(pictures["pitch"], studies.pitch)
    plots.draw_timbre(pictures["timbre"], studies.timbre)
    links = {name: f"latent/{path.name}" for name, path in pictures.items()}
    page = folder / "latent.md"
    _write({page: latent_page(evaluation, studies, setting, links)})
    return [page, *pictures.values()]


def _write(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        with atomic_file(path) as file:
            file.write(text.encode())
