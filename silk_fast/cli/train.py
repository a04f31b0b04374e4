"""``silk train stage1 | stage2 | corpus | recordings | card``."""

import argparse
import dataclasses
import os
from pathlib import Path

from silk_fast.cli.console import Commands, Console, positive
from silk_fast.cli.corpus import add_corpus_command, add_recordings_command
from silk_fast.cli.models import pick_device
from silk_fast.errors import SilkInputError
from silk_fast.training.config import Stage1Config, Stage2Config

STAGES: dict[str, tuple[type[Stage1Config | Stage2Config], str]] = {
    "stage1": (Stage1Config, "Latent space learning: masked prediction of latents."),
    "stage2": (Stage2Config, "The whole codec: reconstruction, discriminators, perceptual loss."),
}


def run_stage(arguments: argparse.Namespace, console: Console) -> int:
    """Train one stage; a run that was stopped goes on with ``--resume``."""
    from silk_fast.reference.pretrained import find_model, read_config
    from silk_fast.training.run import train

    config_type = STAGES[arguments.stage][0]
    names = [entry.name for entry in dataclasses.fields(config_type)]
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.init:
        given.setdefault("output_delay", read_config(find_model(arguments.init)).output_delay)
    options = {
        "folder": Path(arguments.output),
        "device": pick_device(arguments),
        "resume": arguments.resume,
        "max_minutes": arguments.max_minutes,
        "checkpoint_every": arguments.checkpoint_every,
        "log_every": arguments.log_every,
        "listen_every": arguments.listen_every,
        "workers": arguments.workers,
        "patience": arguments.patience,
        "compile": arguments.compile,
        "kernels": not arguments.no_kernels,
    }
    with console.progress(f"{arguments.stage} {os.path.basename(os.path.normpath(arguments.output))}") as bar:
        bar.unit, bar.unit_scale = " steps", False

        def progress(step: int, n_steps: int, values: dict[str, float]) -> None:
            if not bar.n:  # begin the clock after the first steps, which compile, and where a resumed run begins
                bar.reset(n_steps)
                bar.initial = bar.n = step
            bar.update(step - bar.n)
            bar.set_postfix_str(" ".join(f"{name} {value:.3g}" for name, value in values.items()))

        split = arguments.split or None
        result = train(config_type(**given), arguments.data, options, split, arguments.init, console.notice, progress)
    if result is not None:
        lines = [f"{result['steps']} of {result['all_steps']} steps in {arguments.output}"]
        lines.append(f"model in {result['model']}" if result["model"] else "go on with --resume")
        console.result(result, lines)
    return 0


def run_card(arguments: argparse.Namespace, console: Console) -> int:
    """Write the card of a trained model."""
    import json

    from silk_fast.training.card import write_card

    evaluation = None
    if arguments.evaluation:
        try:
            evaluation = json.loads(Path(arguments.evaluation).read_text(encoding="utf-8"))
        except ValueError as error:
            raise SilkInputError(f"{arguments.evaluation}: expected what silk eval --json prints: {error}") from error
    path = write_card(Path(arguments.folder), evaluation)
    console.result({"card": str(path)}, [str(path)])
    return 0


def _number(text: str) -> float:
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"expected a number >= 0, got {text!r}")
    return number


def _add_stage(subparsers: argparse._SubParsersAction, commands: Commands, name: str) -> None:
    config_type, description = STAGES[name]
    parents = [commands.device, commands.common]
    stage = subparsers.add_parser(name, help=description, description=description, parents=parents)
    stage.set_defaults(run=run_stage, stage=name)
    stage.add_argument("data", nargs="+", metavar="DATA", help="audio files, folders, or a corpus of silk train corpus")
    stage.add_argument("-o", "--output", required=True, help="folder of the run")
    stage.add_argument("--split", default="train", help="of a corpus with a manifest (default: %(default)s)")
    stage.add_argument("--init", help="model to start from: a directory or a bundled name (default: seeded weights)")
    stage.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the folder")
    stage.add_argument("--max-minutes", type=_number, help="stop with a checkpoint after so long")
    stage.add_argument("--checkpoint-every", type=positive, default=500, help="steps (default: %(default)s)")
    stage.add_argument("--log-every", type=positive, default=10, help="steps (default: %(default)s)")
    stage.add_argument("--listen-every", type=positive, default=500, help="steps (default: %(default)s)")
    stage.add_argument("--workers", type=int, default=1, help="processes that read audio (default: %(default)s)")
    patience = "collapsed steps on end that stop the run (default: %(default)s)"
    stage.add_argument("--patience", type=positive, default=100, help=patience)
    stage.add_argument("--compile", action="store_true", help="run the model through torch.compile")
    stage.add_argument("--no-kernels", action="store_true", help="train without the Triton kernels")
    numbers = stage.add_argument_group("configuration", "What the run computes; part of every checkpoint.")
    for entry in dataclasses.fields(config_type):
        numbers.add_argument(
            f"--{entry.name.replace('_', '-')}",
            type=type(entry.default),
            choices=entry.metadata["choices"],
            help=f"{entry.metadata['help']} (default: {entry.default!r})",
        )


def add_commands(commands: Commands) -> None:
    description = "Train a codec, or make a corpus to train on."
    train = commands.subparsers.add_parser("train", help=description, description=description)
    subparsers = train.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name in STAGES:
        _add_stage(subparsers, commands, name)
    add_corpus_command(subparsers, commands)
    add_recordings_command(subparsers, commands)
    description = "Write the model card of a trained model."
    card = subparsers.add_parser("card", help=description, description=description, parents=[commands.common])
    card.set_defaults(run=run_card)
    card.add_argument("folder", metavar="MODEL", help="folder of an exported model")
    card.add_argument("--evaluation", metavar="JSON", help="what silk eval --json printed")
