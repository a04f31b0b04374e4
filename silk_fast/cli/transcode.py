"""``silk encode`` and ``silk decode``, of Silk and of the codecs of other libraries."""

import argparse
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from silk_fast.audio import FORMATS, SUFFIXES
from silk_fast.cli.console import Commands, Console, message_of, positive
from silk_fast.cli.files import Plan, check_suffix, check_target, made_folder, plan_files
from silk_fast.cli.models import load_codec, load_other_codec
from silk_fast.codecs import NAMES
from silk_fast.errors import SilkError, SilkInputError
from silk_fast.files import cannot_read, input_name, is_stream, printable, repeatable, rewind

if TYPE_CHECKING:
    from silk_fast.runtime.codecs import CodecTranscoder
    from silk_fast.runtime.transcode import Transcoded

SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "float": "FLOAT"}
CODES = ".safetensors"
OF_CODES = "of the codec: directory or hub id"
QUALITY = {  # option of the command: what it is called by the codecs that have it
    "bandwidth": {"encodec": "bandwidth"},
    "codebooks": {"dac": "n_quantizers", "mimi": "num_quantizers"},
}


def transcode_all(console: Console, plan: Plan, overwrite: bool, job: Callable) -> int:
    """Run ``job(source, target, progress)`` on every pair of a plan; a failure does not stop the rest.

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

                def progress(n_done: float, n_total: float | None, bar=bar) -> None:
                    bar.total = max(n_done, n_total or 0)
                    bar.update(n_done - bar.n)

                result = job(source, target, progress)
        except (SilkError, OSError) as error:
            message = message_of(error, source)
            console.error(message)
            failed.append({"input": source, "error": message})
            continue
        elapsed = time.perf_counter() - start
        seconds = result.n_samples / result.sample_rate
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


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    """Raise SilkInputError if one of these options was given."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value is not False:
            raise SilkInputError(f"--{name} {why}")


def options_of_codec(arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of ``encode_long`` that the arguments ask for.

    Raises:
        SilkInputError: an option that the codec has not, or no weights.
    """
    if not arguments.codec:
        _refuse(arguments, ("weights", *QUALITY), f"is for codecs of other libraries; give --codec {'|'.join(NAMES)}")
        return {}
    _refuse(arguments, ("model",), f"is for Silk; with --codec {arguments.codec} give --weights")
    if not arguments.weights:
        raise SilkInputError(f"--codec {arguments.codec} needs --weights, a directory or a hub id")
    options = {}
    for option, names in QUALITY.items():
        if arguments.codec in names and getattr(arguments, option) is not None:
            options[names[arguments.codec]] = getattr(arguments, option)
        elif arguments.codec not in names:
            _refuse(arguments, (option,), f"is for {' and '.join(names)}, not for {arguments.codec}")
    return options


def run_encode(arguments: argparse.Namespace, console: Console) -> int:
    from silk_fast.runtime.transcode import Transcoder

    options = options_of_codec(arguments)
    console.check_output("-" if arguments.output is None and "-" in arguments.inputs else arguments.output)
    suffix, what = (CODES, "codes") if arguments.codec else (".silk", "tokens")
    plan = plan_files(arguments.inputs, arguments.output, SUFFIXES, suffix)
    if not arguments.any_suffix:
        _check_names(plan, suffix, what)
    transcoder: Transcoder | CodecTranscoder
    if arguments.codec:
        transcoder = load_other_codec(arguments, arguments.codec, arguments.weights, console.notice, options)
    else:
        transcoder = Transcoder(*load_codec(arguments), console.notice)
    return transcode_all(console, plan, arguments.force, transcoder.encode)


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
    from silk_fast.codecs.files import holds_codes, read_codes
    from silk_fast.runtime.transcode import Transcoder

    if arguments.weights is not None:
        _refuse(arguments, ("model", "recover"), "is for .silk files; --weights for files of codes")
    console.check_output("-" if arguments.output is None and "-" in arguments.inputs else arguments.output)
    suffix = f".{arguments.format}" if arguments.format else None
    plan = plan_files(arguments.inputs, arguments.output, (".silk", CODES), suffix or ".wav")
    if suffix and not arguments.any_suffix:
        _check_names(plan, suffix, arguments.format)
    only_codes = all(os.path.isfile(source) and holds_codes(source) for source, _ in plan.pairs)
    silk = None if only_codes or arguments.weights is not None else Transcoder(*load_codec(arguments), console.notice)

    @cache
    def other(name: str, weights: str) -> "CodecTranscoder":
        return load_other_codec(arguments, name, weights, console.notice)

    def decode(source: str, target: str, progress: Callable) -> "Transcoded":
        options: dict[str, Any] = {
            "suffix": suffix or _format_of(target, arguments.any_suffix),
            "subtype": SUBTYPES.get(arguments.bits),
            "force_model": arguments.force_model,
        }
        with ExitStack() as stack:
            try:
                file = stack.enter_context(repeatable(source))
            except OSError as error:
                raise cannot_read(input_name(source), error, ".silk or .safetensors") from error
            if silk and not holds_codes(file):
                rewind(file)
                return silk.decode(file, target, progress, recover=arguments.recover, **options)
            _refuse(arguments, ("model", "recover"), "is for .silk files, but this one holds codes")
            rewind(file)
            codes = read_codes(file)
            weights = codes.weights if arguments.weights is None else arguments.weights
            return other(codes.codec, weights).decode(codes, target, progress, **options)

    return transcode_all(console, plan, arguments.force, decode)


def add_codec_arguments(command: argparse.ArgumentParser, what: str) -> None:
    """Add the arguments that choose a codec of another library, which is ``what``; for :func:`options_of_codec`."""
    command.add_argument("--codec", choices=NAMES, help=what)
    command.add_argument("--weights", metavar="MODEL", help=OF_CODES)
    command.add_argument("--bandwidth", type=float, metavar="KBIT", help="kbit/s of EnCodec (default: its lowest)")
    command.add_argument("--codebooks", type=positive, metavar="N", help="of DAC and Mimi (default: all)")


def add_commands(commands: Commands) -> None:
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("inputs", nargs="+", metavar="INPUT", help="files or folders; - is standard input")
    files.add_argument("-o", "--output", help="file or folder; - is standard output (default: beside the input)")
    files.add_argument("-f", "--force", action="store_true", help="overwrite existing files")
    files.add_argument("--any-suffix", action="store_true", help="whatever the output's name says of its content")
    parents = [files, commands.runs, commands.common]
    encode = commands.add("encode", run_encode, "Encode audio files into .silk files, or codes.", parents)
    add_codec_arguments(encode, "of another library; its codes go into .safetensors files")
    decode = commands.add("decode", run_decode, "Decode .silk files, and codes, into audio files.", parents)
    decode.add_argument("--weights", metavar="MODEL", help=f"{OF_CODES} (default: what the file names, if it is here)")
    formats = [suffix[1:] for suffix in FORMATS]
    decode.add_argument("--format", choices=formats, help="of the output (default: that of its name, or wav)")
    decode.add_argument("--bits", choices=SUBTYPES, help="sample format (default: 16, or the format's own)")
    decode.add_argument("--recover", action="store_true", help="decode the intact blocks of a damaged .silk file")
    decode.add_argument("--force-model", action="store_true", help="decode tokens that other weights have made")
