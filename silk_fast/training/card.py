"""The card of a trained model: how it came about and what it can do, from its files."""

import json
from pathlib import Path
from typing import Any

from silk_fast.errors import SilkModelError
from silk_fast.files import atomic_file
from silk_fast.history import TRAINING_FILE, read_history
from silk_fast.markdown import BARE, significant, table
from silk_fast.reference.codec import SilkCodec

CARD_FILE = "README.md"
EVALUATION_FILE = "evaluation.json"
RUN_HEAD = ("run", "stage", "data", "steps", "audio per step", "passes over the data", "hardware", "hours")
SYNTHETIC_LIMITS = [
    "- It has heard synthetic speech only, one speaker at a time. Music, noise and several speakers are untried."
]
SYNTHETIC_LICENCE = [
    "The weights are under the MIT licence of silk_fast. The training speech was made by `silk train corpus` from",
    "the project's own word lists. eSpeak NG is under the GPL, version 3 or later, which covers the output of a",
    "program only where that output is itself a work based on the program; Flite is under a BSD-like licence. Its",
    "voices and those of Festival, which a corpus may use, were built from recordings of speakers; the data of some of",
    "Festival's are under the GNU GPL or LGPL, as the corpus says. No other recording of a person was trained on.",
    "These are facts for whoever decides, not legal advice.",
]
RECORDED_LICENCE = [
    "The weights are under the MIT licence of silk_fast. Beside synthetic speech, about which `corpus.json` of each",
    "corpus says more, the model was trained on recordings of people in packages of Debian, each under its licence:",
    "{sources}. These are facts for whoever decides, not legal advice.",
]
UNKNOWN_LICENCE = [
    "Not all of the data above was made by `silk train`. What its licence permits, and under which licence the",
    "weights may be passed on, is for whoever trained the model to state here.",
]


def write_card(folder: Path, evaluation: dict[str, Any] | None = None) -> Path:
    """Write ``README.md`` of a model from its ``training.json`` and its evaluation.

    Args:
        folder: of the model.
        evaluation: what ``silk eval --json`` printed, kept as ``evaluation.json``; None takes what is kept.

    Raises:
        SilkModelError: the folder holds no model that tells how it was trained, or the evaluation is of another one.
        SilkFileError: the card cannot be written.
    """
    codec = SilkCodec.from_pretrained(folder)
    training = read_history(folder)
    if not training:
        raise SilkModelError(f"{folder}: no {TRAINING_FILE}, expected a model that silk train has exported")
    found = _kept_evaluation(folder) if evaluation is None else evaluation
    checked = None if found is None else _checked(found, codec.weights_sha256)
    card = card_text(codec, codec.weights_sha256, training, checked)
    if evaluation is not None:
        _write(folder / EVALUATION_FILE, json.dumps(checked, indent=2) + "\n")
    _write(folder / CARD_FILE, card)
    return folder / CARD_FILE


def _kept_evaluation(folder: Path) -> Any:
    path = folder / EVALUATION_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError as error:
        raise SilkModelError(f"{path}: not JSON: {error}") from error


def _checked(evaluation: Any, sha: str) -> dict[str, Any]:
    """Check an evaluation, and select what the card needs of it.

    Raises:
        SilkModelError: it is no evaluation, or one of other weights.
    """
    if not isinstance(evaluation, dict) or not {"weights_sha256", "groups"} <= evaluation.keys():
        raise SilkModelError("the evaluation has no weights_sha256 and groups, expected what silk eval --json prints")
    if evaluation["weights_sha256"] != sha:
        raise SilkModelError(f"the evaluation is of weights {evaluation['weights_sha256']}, expected {sha}")
    return {name: value for name, value in evaluation.items() if name not in ("clips", "files")}


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())


def card_text(codec: SilkCodec, sha: str, training: list[dict[str, Any]], evaluation: dict[str, Any] | None) -> str:
    """Write the card in Markdown."""
    config = codec.config
    n_parameters = sum(p.numel() for p in codec.parameters())
    last, is_synthetic = training[-1]["last"], all(run.get("synthetic", False) for run in training)
    losses = ", ".join(f"{name} {value:.3g}" for name, value in last.items() if name not in ("step", "seconds"))
    lines = [
        "# Model card",
        "",
        f"Silk speech codec, {config.sample_rate / 1000:g} kHz, {config.bitrate:.0f} bit/s, "
        f"{config.tokens_per_frame} tokens in each frame of {1000 / config.frame_rate:.0f} ms; "
        f"{n_parameters / 1e6:.1f} million parameters, stored as float16. Weights SHA-256 `{sha}`.",
        "",
        "## How it was trained",
        "",
        f"{sum(run['steps'] for run in training)} steps in {len(training)} run{'s' * (len(training) > 1)}.",
        "",
        table(RUN_HEAD, [_run_cells(i, run) for i, run in enumerate(training, 1)], BARE),
        f"Last values of the last run, on training crops: {losses}.",
        "",
        "Each run's configuration is in `training.json`. A run that starts from another model continues its table.",
        "",
        "## What it can do",
        "",
        _scores(evaluation) if evaluation else "Not evaluated yet.",
        "",
        "## Limits",
        "",
        *(SYNTHETIC_LIMITS if is_synthetic else ["- What it has heard is in the data above; all else is untried."]),
        f"- It sends what was said and who said it in {config.bitrate:.0f} bits a second: expect artefacts, and do not",
        "  use it where a wrong word matters.",
        "",
        "## Licence",
        "",
        *_licence(training),
        "",
    ]
    return "\n".join(lines)


def _licence(training: list[dict[str, Any]]) -> list[str]:
    if all(run.get("synthetic") for run in training):
        return SYNTHETIC_LICENCE
    if not all(run.get("synthetic") or run.get("described") for run in training):
        return UNKNOWN_LICENCE
    sources = {package: licence for run in training for package, licence in run.get("sources", {}).items()}
    listed = ", ".join(f"{package} ({licence})" for package, licence in sorted(sources.items()))
    return [line.format(sources=listed) for line in RECORDED_LICENCE]


def _run_cells(number: int, run: dict[str, Any]) -> tuple[object, ...]:
    """Describe a run in the table, cells as in :data:`RUN_HEAD`."""
    seconds_per_step = run["config"]["batch_size"] * run["config"]["crop_seconds"] * run["processes"]
    hours = sum(piece["seconds"] for piece in run["pieces"]) / 3600
    n_passes = f"{run['steps'] * seconds_per_step / 3600 / run['hours']:.1f}" if run["hours"] else "many"
    devices = "; ".join(sorted({f"{piece['processes']} x {piece['device']}" for piece in run["pieces"]}))
    data = f"{', '.join(run['data'])} ({run['hours']:g} h)"
    return number, run["stage"], data, run["steps"], f"{seconds_per_step:.0f} s", n_passes, devices, f"{hours:.2f}"


def _scores(evaluation: dict[str, Any]) -> str:
    """Write a table for each group of clips, one row a codec, and the use of the codebook."""
    parts = []
    for group, systems in evaluation["groups"].items():
        metrics = list(next(iter(systems.values())))
        rows = [[name, *(_figure(values[metric]) for metric in metrics)] for name, values in systems.items()]
        parts.append(f"**{group}**\n\n{table(['codec', *metrics], rows, BARE)}")
    if use := evaluation.get("codebook"):
        parts.append(f"Codebook: {', '.join(f'{name} {_figure(value)}' for name, value in use.items())}.")
    return "\n".join(parts).rstrip("\n")


def _figure(value: float | None) -> str:
    return significant(value, unknown="—")
