"""``silk eval``: how good a model is, beside other codecs, and what its latent space means."""

import argparse
import math
from pathlib import Path
from typing import Any

from silk_fast.cli.console import Commands, Console, model_of, positive
from silk_fast.cli.models import load_codec
from silk_fast.errors import SilkInputError


def run_eval(arguments: argparse.Namespace, console: Console) -> int:
    from silk_fast.corpus.engines import check_espeak
    from silk_fast.evaluation import clips, evaluate, publish, report

    rows = clips.corpus_rows(arguments.corpus)
    chosen = [
        clip
        for group in clips.GROUPS
        if group not in (clips.PEOPLE, clips.RECORDED)
        for clip in clips.corpus_clips(arguments.corpus, rows, group, arguments.clips)
    ]
    if arguments.people is not None:
        people = clips.corpus_rows(arguments.people)
        chosen += clips.corpus_clips(arguments.people, people, clips.PEOPLE, arguments.clips)
    recordings = arguments.recordings
    if recordings is None:
        recordings = _default_recordings(clips.RECORDINGS, console)
    chosen += clips.recorded_clips(recordings, arguments.clips, console.notice)
    if not chosen:
        raise SilkInputError(f"{arguments.corpus}: no clips but those of training, expected some that it has not seen")
    if arguments.latent:
        check_espeak()
    codec, sha256 = load_codec(arguments)
    setting = report.setting_of(codec, model_of(arguments), sha256, clips.corpus_facts(arguments.corpus))
    for package, title in evaluate.missing_packages().items():
        console.notice(f"{title} will be absent: pip install {package}")
    training_mean = evaluate.mean_log_mel(arguments.corpus)
    with console.progress("clips") as bar:
        evaluation = evaluate.evaluate(codec, chosen, training_mean, bar.update)
    for name, absence in evaluation.absences.items():
        console.notice(f"{name} is {absence}")
    folder = Path(arguments.output)
    files = publish.publish_evaluation(folder, codec, evaluation, setting)
    if arguments.latent:
        with console.progress("latents") as bar:
            files += publish.publish_latent(folder, codec, evaluation, setting, bar.update)
    use = report.overall_use(evaluation, setting).summary()
    values: dict[str, Any] = {"weights_sha256": sha256, **setting.facts, "codebook": use}
    values["groups"] = _means(evaluation)
    values["clips"] = evaluation.rows()
    values["files"] = list(map(str, files))
    console.result(values, _lines(values))
    return 0


def _default_recordings(folders: dict[str, Path], console: Console) -> list[Path]:
    for package, folder in folders.items():
        if not folder.is_dir():
            console.notice(f"{folder} is absent, so its human recordings are (Debian's {package} has them)")
    return [folder for folder in folders.values() if folder.is_dir()]


def _means(evaluation: Any) -> dict[str, dict[str, dict[str, float | None]]]:
    """Average by group, system and metric; None for one that is not known or not finite."""
    from silk_fast.evaluation.clips import GROUPS
    from silk_fast.evaluation.evaluate import BITS
    from silk_fast.evaluation.scores import METRICS

    keys = (BITS, *(metric.key for metric in METRICS))
    means = {
        group: {name: {key: evaluation.mean(group, name, key).value for key in keys} for name in evaluation.systems}
        for group in GROUPS
        if evaluation.of(group)
    }
    return {
        group: {
            name: {key: value if math.isfinite(value) else None for key, value in row.items()}
            for name, row in systems.items()
        }
        for group, systems in means.items()
    }


def _lines(values: dict[str, Any]) -> list[str]:
    lines = []
    for group, systems in values["groups"].items():
        lines.append(group)
        for name, means in systems.items():
            shown = (f"{key} {'–' if value is None else f'{value:.3f}'}" for key, value in means.items())
            lines.append(f"  {name:>34}  {'  '.join(shown)}")
    lines.append("  ".join(f"{name} {value:.4g}" for name, value in values["codebook"].items()))
    return [*lines, *values["files"]]


def add_commands(commands: Commands) -> None:
    description = "Score a model on speech it has not seen, beside Codec2 and Opus, and write a report."
    command = commands.add("eval", run_eval, description, [commands.runs, commands.common])
    command.add_argument("--corpus", required=True, metavar="FOLDER", help="made by 'silk train corpus'")
    command.add_argument("--people", metavar="FOLDER", help="made by 'silk train recordings'; its held-out speakers")
    command.add_argument(
        "--recordings",
        nargs="*",
        metavar="PATH",
        help="recorded speech that training has not heard, files or folders (default: of Debian's alsa-utils and "
        "klettres-data)",
    )
    command.add_argument("-n", "--clips", type=positive, default=20, help="of each group (default: %(default)s)")
    command.add_argument("-o", "--output", default="docs", help="folder of the report (default: %(default)s)")
    command.add_argument("--latent", action="store_true", help="also study the latent space (needs espeak-ng)")
