"""The ``silk`` command: arguments to calls, and results to lines a person or a machine reads.

Exit status: 0 when everything was done, 1 when something failed, 2 for wrong usage, 130 when
interrupted. Messages go to stderr, results to stdout where nothing else is written there.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from silk_fast import __version__
from silk_fast.audio import FORMATS, SUFFIXES, AudioReader, load
from silk_fast.errors import SilkError, SilkFileError, SilkInputError

MODEL = "silk-small-24khz"
SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "float": "FLOAT"}
DEMO_SPEECH = Path(__file__).parent / "assets" / "speech.flac"


class Console:
    """Where messages go: progress and notices to stderr unless quiet, results to stdout."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.quiet = arguments.quiet
        self.json = arguments.json

    def notice(self, text: str) -> None:
        if not self.quiet:
            self._stderr(text)

    def error(self, text: str) -> None:
        self._stderr(text)

    def _stderr(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(f"silk: {text}".replace("\n", " "), file=sys.stderr)

    def result(self, values: dict[str, Any], lines: Iterable[str]) -> None:
        """Print ``values`` as one JSON object, or ``lines``."""
        if self.json:
            print(json.dumps(values, indent=2, allow_nan=True))
        else:
            for line in lines:
                print(line)

    def progress(self, label: str):
        """A bar in seconds of audio with rate and remaining time, on a terminal only."""
        from tqdm import tqdm

        return tqdm(desc=label, unit=" s", unit_scale=True, leave=False, disable=True if self.quiet else None)


# ---------------------------------------------------------------- which files become which


def plan_files(inputs: list[str], output: str | None, from_suffixes: tuple[str, ...], to_suffix: str):
    """Pairs of input and output path; folders are searched, and mirrored below the output folder.

    Args:
        inputs: files, folders or ``"-"``.
        output: file, folder or ``"-"``; None puts each output beside its input.
        from_suffixes: which files of a folder are taken, in lower case.
        to_suffix: of the outputs.

    Raises:
        SilkInputError: a folder holds nothing to take, or several inputs would become one output.
    """
    many = len(inputs) > 1 or os.path.isdir(inputs[0])
    into_folder = output is not None and output != "-" and (many or os.path.isdir(output) or output.endswith(os.sep))
    if output == "-" and many:
        raise SilkInputError("standard output takes one file, got several inputs")
    pairs = []
    for source in inputs:
        if source == "-":
            if into_folder:
                raise SilkInputError("standard input has no name: give an output file, not a folder")
            pairs.append((source, "-" if output is None else output))
        elif os.path.isdir(source):
            found = sorted(_files_below(source, from_suffixes))
            if not found:
                raise SilkInputError(f"{source}: no {'/'.join(from_suffixes)} files in this folder")
            for path in found:
                base = os.path.relpath(path, source) if into_folder else path
                pairs.append((path, _renamed(base, output if into_folder else None, to_suffix)))
        elif into_folder:
            pairs.append((source, _renamed(os.path.basename(source), output, to_suffix)))
        else:
            pairs.append((source, _renamed(source, None, to_suffix) if output is None else output))
    _refuse_collisions(pairs)
    return pairs


def _files_below(folder: str, suffixes: tuple[str, ...]) -> Iterable[str]:
    for directory, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(directory, name) for name in names if name.lower().endswith(suffixes))


def _renamed(path: str, folder: str | None, suffix: str) -> str:
    return os.path.join(folder or "", os.path.splitext(path)[0] + suffix)


def _refuse_collisions(pairs: list[tuple[str, str]]) -> None:
    sources: dict[str, str] = {}
    for source, target in pairs:
        key = os.path.realpath(target)
        if target != "-" and key in sources:
            raise SilkInputError(f"{sources[key]} and {source} would both become {target}")
        sources[key] = source


def _check_target(source: str, target: str, overwrite: bool) -> None:
    if target == "-":
        return
    if os.path.exists(target):
        if source != "-" and os.path.exists(source) and os.path.samefile(source, target):
            raise SilkFileError(f"{target}: input and output are the same file")
        if not overwrite and os.path.isfile(target):
            raise SilkFileError(f"{target}: exists already, give -f to overwrite it")


# ---------------------------------------------------------------- encode and decode


def load_codec(arguments: argparse.Namespace, console: Console):
    """The codec that the arguments ask for, on its device, and the hash of its weights."""
    import torch

    from silk_fast.reference.codec import SilkCodec

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SilkInputError(f"device {device!r} is not there: PyTorch sees no CUDA GPU, expected cpu")
    codec = SilkCodec.from_pretrained(arguments.model, device=device)
    if not codec.trained:
        console.notice(f"{arguments.model} is not trained yet (seeded random weights): decoded audio is noise")
    return codec, codec.weights_sha256


def transcode_all(console: Console, pairs: list[tuple[str, str]], overwrite: bool, rate: int, job: Callable) -> int:
    """Run ``job(source, target, progress)`` on every pair; a failure does not stop the rest.

    Args:
        rate: samples per second of the results.

    Returns:
        The exit status: 1 if anything failed.
    """
    done, failed = [], []
    for i, (source, target) in enumerate(pairs):
        label = os.path.basename(source) if len(pairs) == 1 else f"[{i + 1}/{len(pairs)}] {os.path.basename(source)}"
        start = time.perf_counter()
        try:
            _check_target(source, target, overwrite)
            with console.progress(label) as bar:

                def progress(n_done: int, n_total: int | None, bar=bar) -> None:
                    bar.total = max(n_done, n_total or 0) / rate
                    bar.update(n_done / rate - bar.n)

                if os.path.dirname(target) and target != "-":
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                result = job(source, target, progress)
        except (SilkError, OSError) as error:
            message = _message(error, source)
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
    if len(pairs) > 1:
        console.notice(f"{len(done)} done, {len(failed)} failed")
    if console.json:
        print(json.dumps({"done": done, "failed": failed}, indent=2))
    return 1 if failed else 0


def _message(error: BaseException, source: str) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or source}: {error.strerror or error}"
    text = str(error)
    return text if os.path.basename(source) in text else f"{source}: {text}"


def run_encode(arguments: argparse.Namespace, console: Console) -> int:
    from silk_fast.runtime.transcode import encode_file

    _refuse_json_to_stdout(arguments)
    pairs = plan_files(arguments.inputs, arguments.output, SUFFIXES, ".silk")
    codec, sha = load_codec(arguments, console)
    return transcode_all(
        console,
        pairs,
        arguments.force,
        codec.config.sample_rate,
        lambda source, target, progress: encode_file(codec, source, target, sha, progress, console.notice),
    )


def run_decode(arguments: argparse.Namespace, console: Console) -> int:
    from silk_fast.runtime.transcode import decode_file

    _refuse_json_to_stdout(arguments)
    pairs = plan_files(arguments.inputs, arguments.output, (".silk",), f".{arguments.format}")
    codec, sha = load_codec(arguments, console)
    options = {"recover": arguments.recover, "force_model": arguments.force_model}
    return transcode_all(
        console,
        pairs,
        arguments.force,
        codec.config.sample_rate,
        lambda source, target, progress: decode_file(
            codec, source, target, sha, progress, console.notice, subtype=SUBTYPES.get(arguments.bits), **options
        ),
    )


def _refuse_json_to_stdout(arguments: argparse.Namespace) -> None:
    to_stdout = arguments.output == "-" or (arguments.output is None and "-" in arguments.inputs)
    if arguments.json and to_stdout:
        raise SilkInputError("--json and the output file cannot both go to standard output")


# ---------------------------------------------------------------- info, compare, demo


def describe_file(path: str) -> dict[str, Any]:
    """What a ``.silk`` or an audio file holds, after reading it whole.

    Raises:
        SilkError: the file cannot be read; a damaged ``.silk`` file is described, damage included.
    """
    from silk_fast.container import MAGIC, VERSION
    from silk_fast.runtime.transcode import open_silk

    with ExitStack() as stack:
        if not path.lower().endswith(".silk") and not _starts_with(path, MAGIC):
            reader = stack.enter_context(AudioReader(path))
            n_samples = sum(len(block) for block in reader)
            return {
                "file": path,
                "kind": reader.description,
                "sample_rate": reader.source_rate,
                "channels": reader.source_channels,
                "seconds": n_samples / reader.sample_rate,
            }
        reader = stack.enter_context(open_silk(path, recover=True))
        n_lost = sum(block.n_frames for block in reader.blocks() if block.tokens is None)
        header = reader.header
        seconds = reader.n_samples / header.sample_rate
        return {
            "file": path,
            "kind": f"silk version {VERSION}",
            "sample_rate": header.sample_rate,
            "samples": reader.n_samples,
            "seconds": seconds,
            "frames": reader.n_frames,
            "tokens": reader.n_frames * header.tokens_per_frame,
            "dimensions": f"{header.dims} of {header.levels} levels, {header.group_size} to a token",
            "bytes": os.path.getsize(path),
            "bits_per_second": 8 * os.path.getsize(path) / seconds,
            "weights_sha256": header.weights_sha256,
            "intact": not reader.damage,
            "lost_frames": n_lost,
            "damage": [damage.reason for damage in reader.damage],
        }


def _starts_with(path: str, magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def describe_model(name: str) -> dict[str, Any]:
    """Sizes and weights of a model."""
    from silk_fast.reference.codec import SilkCodec

    codec = SilkCodec.from_pretrained(name)
    config = codec.config
    return {
        "model": name,
        "trained": codec.trained,
        "parameters": sum(p.numel() for p in codec.parameters()),
        "sample_rate": config.sample_rate,
        "frames_per_second": config.frame_rate,
        "tokens_per_frame": config.tokens_per_frame,
        "bits_per_second": config.bitrate,
        "weights_sha256": codec.weights_sha256,
    }


def run_info(arguments: argparse.Namespace, console: Console) -> int:
    described, failed = [], []
    if not arguments.inputs:
        described.append(describe_model(arguments.model))
    for path in arguments.inputs:
        try:
            described.append(describe_file(path))
        except SilkError as error:
            message = _message(error, path)
            console.error(message)
            failed.append({"input": path, "error": message})
    lines = [line for values in described for line in (*(f"{k:>18}  {v}" for k, v in values.items()), "")]
    console.result({"described": described, "failed": failed}, lines[:-1])
    damaged = any(not values.get("intact", True) for values in described)
    return 1 if failed or damaged else 0


def run_compare(arguments: argparse.Namespace, console: Console) -> int:
    import torch

    from silk_fast import metrics
    from silk_fast.plot import draw_comparison

    rate = arguments.rate
    if arguments.png:
        _check_target("-", arguments.png, arguments.force)
    signals = {path: load(path, rate, console.notice) for path in (arguments.reference, arguments.other)}
    if len(signals) == 1:
        raise SilkInputError(f"{arguments.reference}: compared with itself, expected two files")
    n_shared = min(len(samples) for samples in signals.values())
    first, second = (torch.from_numpy(samples) for samples in signals.values())
    if len(first) != len(second):
        console.notice(f"lengths differ by {abs(len(first) - len(second)) / rate:.3f} s; the shared part is compared")
    first_part, second_part = first[:n_shared], second[:n_shared]
    values = {
        "reference": arguments.reference,
        "other": arguments.other,
        "sample_rate": rate,
        "reference_seconds": len(first) / rate,
        "other_seconds": len(second) / rate,
        "reference_level_db": metrics.level(first),
        "other_level_db": metrics.level(second),
        "log_spectral_distance_db": metrics.log_spectral_distance(first_part, second_part),
        "log_mel_distance_db": metrics.log_mel_distance(first_part, second_part, rate),
        "si_sdr_db": metrics.si_sdr(first_part, second_part),
    }
    if arguments.png:
        names = {
            f"{label}: {path}": s for label, (path, s) in zip(("reference", "other"), signals.items(), strict=True)
        }
        draw_comparison(arguments.png, names, rate)
        values["png"] = arguments.png
    console.result(values, (f"{name:>26}  {_rounded(value)}" for name, value in values.items()))
    return 0


def _rounded(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value


def run_demo(arguments: argparse.Namespace, console: Console) -> int:
    import torch

    from silk_fast import metrics
    from silk_fast.plot import draw_comparison
    from silk_fast.reference import ops
    from silk_fast.runtime.transcode import decode_file, encode_file, open_silk

    source, folder = arguments.input or str(DEMO_SPEECH), Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    silk, wav, png = (str(folder / name) for name in ("speech.silk", "speech.wav", "speech.png"))
    codec, sha = load_codec(arguments, console)
    start = time.perf_counter()
    encoded = encode_file(codec, source, silk, sha, notice=console.notice)
    encode_seconds = time.perf_counter() - start
    start = time.perf_counter()
    decode_file(codec, silk, wav, sha)
    decode_seconds = time.perf_counter() - start
    rate = codec.config.sample_rate
    original, decoded = load(source, rate), load(wav, rate)
    with open_silk(silk) as reader:
        tokens = torch.from_numpy(reader.read(0, reader.n_frames))
    digits = ops.unpack_digits(tokens, codec.quantizer.levels, codec.quantizer.group_size).numpy()
    state = "" if codec.trained else " (untrained)"
    title = f"{arguments.model}{state}: {codec.config.bitrate:.0f} bit/s, {len(digits)} frames of 19 tokens"
    signals = {"original": original, "decoded": decoded}
    draw_comparison(png, signals, rate, title, digits, 1 / codec.config.frame_rate)
    seconds = encoded.n_samples / rate
    distance = metrics.log_spectral_distance(torch.from_numpy(original), torch.from_numpy(decoded))
    values = {
        "duration_seconds": seconds,
        "frames": encoded.n_frames,
        "tokens": encoded.n_tokens,
        "bits_per_second": encoded.n_frames * codec.config.bitrate / codec.config.frame_rate / seconds,
        "encode_seconds": encode_seconds,
        "encode_realtime_factor": seconds / encode_seconds,
        "decode_seconds": decode_seconds,
        "decode_realtime_factor": seconds / decode_seconds,
        "log_spectral_distance_db": distance,
        "files": [silk, wav, png],
    }
    shown = {**values, "files": " ".join(values["files"])}
    console.result(values, (f"{name:>26}  {_rounded(value)}" for name, value in shown.items()))
    return 0


# ---------------------------------------------------------------- arguments


def positive(text: str) -> int:
    """A whole number >= 1."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return number


def build_parser() -> argparse.ArgumentParser:
    """The parser of the ``silk`` command."""
    parser = argparse.ArgumentParser(prog="silk", description="Speech to 47.5 tokens a second, and back.")
    parser.add_argument("--version", action="version", version=f"silk {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    common.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("-m", "--model", default=MODEL, help="bundled name, directory or hub id (default: %(default)s)")
    runs = argparse.ArgumentParser(add_help=False, parents=[model])
    runs.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto (default: %(default)s)")
    runs.add_argument("--threads", type=positive, help="CPU threads (default: all cores)")
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("inputs", nargs="+", metavar="INPUT", help="files or folders; - is standard input")
    files.add_argument("-o", "--output", help="file or folder; - is standard output (default: beside the input)")
    files.add_argument("-f", "--force", action="store_true", help="overwrite existing files")

    def add(name: str, run: Callable, description: str, parents: list[argparse.ArgumentParser]):
        command = commands.add_parser(name, help=description, description=description, parents=parents)
        command.set_defaults(run=run)
        return command

    add("encode", run_encode, "Encode audio files into .silk files.", [files, runs, common])

    decode = add("decode", run_decode, "Decode .silk files into audio files.", [files, runs, common])
    formats = [suffix[1:] for suffix in FORMATS]
    decode.add_argument("--format", choices=formats, default="wav", help="where the output's name gives none")
    decode.add_argument("--bits", choices=SUBTYPES, help="sample format (default: 16, or the format's own)")
    decode.add_argument("--recover", action="store_true", help="decode the intact blocks of a damaged file")
    decode.add_argument("--force-model", action="store_true", help="decode tokens that other weights have made")

    info = add("info", run_info, "Describe .silk files, audio files, or the model.", [model, common])
    info.add_argument("inputs", nargs="*", metavar="FILE", help="none: describe the model")

    compare = add("compare", run_compare, "Compare two recordings, in numbers and in a picture.", [common])
    compare.add_argument("reference")
    compare.add_argument("other")
    compare.add_argument("--png", help="draw waveforms and spectrograms")
    compare.add_argument("--rate", type=positive, default=24_000, help="samples per second (default: %(default)s)")
    compare.add_argument("-f", "--force", action="store_true", help="overwrite an existing picture")

    demo = add("demo", run_demo, "Encode and decode a bundled recording and draw what happened.", [runs, common])
    demo.add_argument("input", nargs="?", help="another recording")
    demo.add_argument("-o", "--output", default="demo", help="folder for the results (default: %(default)s)")
    return parser


def _terminate(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    """Run the ``silk`` command; returns its exit status."""
    arguments = build_parser().parse_args(argv)
    console = Console(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return arguments.run(arguments, console)
    except SilkError as error:
        console.error(str(error))
    except KeyboardInterrupt:
        console.error("interrupted; unfinished files were removed")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        console.error(_message(error, "input/output"))
    return 1


if __name__ == "__main__":
    sys.exit(main())
