"""``silk encode`` and ``silk decode``."""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from silk_fast.audio import FORMATS, SUFFIXES
from silk_fast.cli.console import Commands, Console, message_of
from silk_fast.cli.files import Plan, check_suffix, check_target, made_folder, plan_files
from silk_fast.errors import SilkError, SilkInputError
from silk_fast.files import is_stream, printable

if TYPE_CHECKING:
    from silk_fast.reference.codec import SilkCodec
    from silk_fast.runtime.transcode import Transcoded

SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "float": "FLOAT"}


def pick_device(arguments: argparse.Namespace) -> str:
    """Give the device that ``--device`` asks for, and set the number of CPU threads.

    Raises:
        SilkInputError: there is no such device.
    """
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or not (index == "" or index.isdecimal()):
        raise SilkInputError(f"device must be cpu, cuda, cuda:1 or auto, got {device!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise SilkInputError(f"device {device!r} is not there: PyTorch sees {torch.cuda.device_count()} CUDA GPUs")
    return device


def load_codec(arguments: argparse.Namespace) -> "tuple[SilkCodec, str]":
    """Load the codec that the arguments ask for, on its device and accelerated or not, and hash its weights."""
    from silk_fast.acceleration import accelerate_
    from silk_fast.reference.codec import SilkCodec

    codec = SilkCodec.from_pretrained(arguments.model, device=pick_device(arguments))
    sha256 = codec.weights_sha256
    wanted = arguments.accelerate
    if wanted is None:  # Triton's interpreter, where it is on, would run the kernels: it is there to debug
        wanted = codec.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1"
    if wanted:
        accelerate_(codec)
    return codec, sha256


def transcode_all(console: Console, plan: Plan, overwrite: bool, rate: int, job: Callable) -> int:
    """Run ``job(source, target, progress)`` on every pair of a plan; a failure does not stop the rest.

    Args:
        rate: samples per second of the results.

    Returns:
        The exit status: 1 if anything failed.
    """
    pairs, n_inputs = plan.pairs, len(plan.pairs) + len(plan.refused)
    done, failed = [], [{"input": source, "error": why} for source, why in plan.refused]
    for why in dict.fromkeys(why for _, why in plan.refused):
        console.error(why)
    for i, (source, target) in enumerate(pairs):
        label = printable(os.path.basename(source))
        label = label if len(pairs) == 1 else f"[{i + 1}/{len(pairs)}] {label}"
        start = time.perf_counter()
        try:
            check_target([source], target, overwrite)
            folder = "" if is_stream(target) else os.path.dirname(target)
            with console.progress(label) as bar, made_folder(folder):

                def progress(n_done: int, n_total: int | None, bar=bar) -> None:
                    bar.total = max(n_done, n_total or 0) / rate
                    bar.update(n_done / rate - bar.n)

                result = job(source, target, progress)
        except (SilkError, OSError) as error:
            message = message_of(error, source)
            console.error(message)
            failed.append({"input": source, "error": message})
            continue
        elapsed = time.perf_counter() - start
        seconds = result.n_samples / rate
        row = {"input": source, "output": target, "seconds": seconds, **asdict(result)}
        row |= {"elapsed_seconds": elapsed, "realtime_factor": seconds / elapsed}
        done.append(row)
        console.notice(
            f"{source} -> {target}: {seconds:.2f} s, {result.n_frames} frames, {result.n_tokens} tokens, "
            f"{seconds / elapsed:.1f}x real time"
        )
        if result.n_clipped:
            console.notice(f"{target}: {result.n_clipped} samples were beyond full scale and clipped")
        if result.n_lost:
            console.notice(f"{source}: {result.n_lost} of {result.n_frames} frames were lost")
    if n_inputs > 1:
        console.notice(f"{len(done)} done, {len(failed)} failed")
    if console.json:
        console.result({"done": done, "failed": failed}, [])
    return 1 if failed else 0


def run_encode(arguments: argparse.Namespace, console: Console) -> int:
    from silk_fast.runtime.transcode import Transcoder

    console.check_output("-" if arguments.output is None and "-" in arguments.inputs else arguments.output)
    plan = plan_files(arguments.inputs, arguments.output, SUFFIXES, ".silk")
    if not arguments.any_suffix:
        _check_names(plan, ".silk", "tokens")
    transcoder = Transcoder(*load_codec(arguments), console.notice)
    rate = transcoder.codec.config.sample_rate
    return transcode_all(console, plan, arguments.force, rate, transcoder.encode)


def _check_names(plan: Plan, suffix: str, what: str) -> None:
    """Raise SilkError unless every output's name tells of what will be in it, and none is its input."""
    for source, target in plan.pairs:
        check_target([source], target, True)
        check_suffix(target, (suffix,), what, "; --any-suffix allows it")


def _format_of(target: str, any_suffix: bool) -> str | None:
    """Choose the format of a file to decode into, by its suffix; None where that is for the writer.

    Raises:
        SilkInputError: its name tells of no format, and ``any_suffix`` does not say that this is meant.
    """
    suffix = os.path.splitext(target)[1].lower()
    if suffix in FORMATS or is_stream(target):
        return None
    if any_suffix:
        return ".wav"
    name = f"cannot write '{suffix}'" if suffix else "a name without a suffix does not say the format"
    raise SilkInputError(f"{target}: {name}, expected one of {' '.join(FORMATS)}; --format or --any-suffix allows it")


def run_decode(arguments: argparse.Namespace, console: Console) -> int:
    from silk_fast.runtime.transcode import Transcoder

    console.check_output("-" if arguments.output is None and "-" in arguments.inputs else arguments.output)
    suffix = f".{arguments.format}" if arguments.format else None
    plan = plan_files(arguments.inputs, arguments.output, (".silk",), suffix or ".wav")
    if suffix and not arguments.any_suffix:
        _check_names(plan, suffix, arguments.format)
    transcoder = Transcoder(*load_codec(arguments), console.notice)

    def decode(source: str, target: str, progress: Callable) -> "Transcoded":
        return transcoder.decode(
            source,
            target,
            progress,
            suffix=suffix or _format_of(target, arguments.any_suffix),
            subtype=SUBTYPES.get(arguments.bits),
            recover=arguments.recover,
            force_model=arguments.force_model,
        )

    return transcode_all(console, plan, arguments.force, transcoder.codec.config.sample_rate, decode)


def add_commands(commands: Commands) -> None:
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("inputs", nargs="+", metavar="INPUT", help="files or folders; - is standard input")
    files.add_argument("-o", "--output", help="file or folder; - is standard output (default: beside the input)")
    files.add_argument("-f", "--force", action="store_true", help="overwrite existing files")
    files.add_argument("--any-suffix", action="store_true", help="whatever the output's name says of its content")
    parents = [files, commands.runs, commands.common]
    commands.add("encode", run_encode, "Encode audio files into .silk files.", parents)
    decode = commands.add("decode", run_decode, "Decode .silk files into audio files.", parents)
    formats = [suffix[1:] for suffix in FORMATS]
    decode.add_argument("--format", choices=formats, help="of the output (default: that of its name, or wav)")
    decode.add_argument("--bits", choices=SUBTYPES, help="sample format (default: 16, or the format's own)")
    decode.add_argument("--recover", action="store_true", help="decode the intact blocks of a damaged file")
    decode.add_argument("--force-model", action="store_true", help="decode tokens that other weights have made")
