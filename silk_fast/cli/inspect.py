"""``silk info``, ``silk compare`` and ``silk demo``."""

import argparse
import os
import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from silk_fast.audio import AudioReader, load
from silk_fast.cli.console import Commands, Console, message_of, model_of, rounded, sample_rate
from silk_fast.cli.files import check_suffix, check_target, made_folder
from silk_fast.cli.models import load_codec
from silk_fast.errors import SilkError, SilkInputError
from silk_fast.files import Source, cannot_read, input_name, open_seekable, repeatable, rewind

DEMO_SPEECH = Path(__file__).parents[1] / "assets" / "speech.flac"


def describe_file(path: str) -> dict[str, Any]:
    """Describe what a file of tokens, codes or audio holds, after reading it whole; ``"-"`` is standard input.

    Raises:
        SilkError: the file cannot be read; a damaged ``.silk`` file is described, damage included.
    """
    from silk_fast.codecs.files import holds_codes
    from silk_fast.container import MAGIC

    if os.path.isdir(path):
        raise SilkInputError(
            f"{path}: is a folder, expected a file; silk info -m {shlex.quote(path)} describes a model"
        )
    with ExitStack() as stack:
        try:
            source = stack.enter_context(repeatable(path))
            with open_seekable(source) as file:
                is_silk = path.lower().endswith(".silk") or file.read(len(MAGIC)) == MAGIC
                n_bytes = file.seek(0, os.SEEK_END)
            rewind(source)
            is_codes = holds_codes(source)
        except OSError as error:
            raise cannot_read(input_name(path), error, "audio or .silk") from error
        rewind(source)
        if is_silk:
            values = _describe_silk(source, n_bytes)
        elif is_codes:
            values = _describe_codes(source, n_bytes)
        else:
            values = _describe_audio(source)
        return {"file": path, **values}


def _describe_audio(source: Source) -> dict[str, Any]:
    with AudioReader(source) as reader:
        n_samples = sum(len(block) for block in reader)
        return {
            "kind": reader.description,
            "sample_rate": reader.source_rate,
            "channels": reader.source_channels,
            "seconds": n_samples / reader.sample_rate,
        }


def _describe_silk(source: Source, n_bytes: int) -> dict[str, Any]:
    from silk_fast.container import VERSION
    from silk_fast.runtime.transcode import open_silk

    with open_silk(source, recover=True) as reader:
        n_lost = sum(block.n_frames for block in reader.blocks() if block.tokens is None)
        header = reader.header
        seconds = reader.n_samples / header.sample_rate
        return {
            "kind": f"silk version {VERSION}",
            "sample_rate": header.sample_rate,
            "samples": reader.n_samples,
            "seconds": seconds,
            "frames": reader.n_frames,
            "tokens": reader.n_frames * header.tokens_per_frame,
            "dimensions": f"{header.dims} of {header.levels} levels, {header.group_size} to a token",
            "bytes": n_bytes,
            "bits_per_second": 8 * n_bytes / seconds,
            "weights_sha256": header.weights_sha256,
            "intact": not reader.damage,
            "lost_frames": n_lost,
            "damage": [damage.reason for damage in reader.damage],
        }


def _describe_codes(source: Source, n_bytes: int) -> dict[str, Any]:
    from silk_fast.codecs.files import VERSION, read_codes

    codes = read_codes(source)
    return {
        "kind": f"codes of {codes.codec}, version {VERSION}",
        "sample_rate": codes.sample_rate,
        "channels": codes.n_channels,
        "samples": codes.n_samples,
        "seconds": codes.n_samples / codes.sample_rate,
        "frames": len(codes.frames),
        "tokens": codes.n_tokens,
        "tensors": ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in codes.tensors.items()),
        "options": ", ".join(f"{name} {value}" for name, value in codes.options.items()) or "the library's own",
        "bytes": n_bytes,
        "library": codes.library,
        "weights": codes.weights,
        "weights_sha256": codes.weights_sha256,
        "intact": True,
    }


def describe_model(name: str) -> dict[str, Any]:
    """Describe sizes and weights of a model."""
    from silk_fast.reference.codec import SilkCodec

    codec = SilkCodec.from_pretrained(name)
    config = codec.config
    return {
        "model": name,
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
        described.append(describe_model(model_of(arguments)))
    for path in arguments.inputs:
        try:
            described.append(describe_file(path))
        except SilkError as error:
            message = message_of(error, path)
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
    console.check_output(arguments.png)
    if arguments.reference == arguments.other:
        raise SilkInputError(f"{input_name(arguments.reference)}: compared with itself, expected two files")
    if arguments.png == "":
        raise SilkInputError("the picture has no name, expected a .png file to write")
    if arguments.png:
        check_suffix(arguments.png, (".png",), "a picture", "")
        check_target([arguments.reference, arguments.other], arguments.png, arguments.force)
    signals = {path: load(path, rate, console.notice) for path in (arguments.reference, arguments.other)}
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
    console.result(values, (f"{name:>26}  {rounded(value)}" for name, value in values.items()), arguments.png)
    return 0


def run_demo(arguments: argparse.Namespace, console: Console) -> int:
    import torch

    from silk_fast import metrics
    from silk_fast.plot import draw_comparison
    from silk_fast.reference import ops
    from silk_fast.runtime.transcode import Transcoder, open_silk

    source, folder = arguments.input or str(DEMO_SPEECH), Path(arguments.output)
    files = silk, wav, png = [str(folder / f"speech.{suffix}") for suffix in ("silk", "wav", "png")]
    for path in files:
        check_target([source], path, arguments.force)
    codec, sha = load_codec(arguments)
    transcoder = Transcoder(codec, sha, console.notice)
    rate = codec.config.sample_rate
    with made_folder(arguments.output), repeatable(source) as recording:
        start = time.perf_counter()
        encoded = transcoder.encode(recording, silk)
        encode_seconds = time.perf_counter() - start
        rewind(recording)
        original = load(recording, rate)
    start = time.perf_counter()
    transcoder.decode(silk, wav)
    decode_seconds = time.perf_counter() - start
    decoded = load(wav, rate)
    with open_silk(silk) as reader:
        tokens = torch.from_numpy(reader.read(0, reader.n_frames))
    digits = ops.unpack_digits(tokens, codec.quantizer.levels, codec.quantizer.group_size).numpy()
    title = f"{model_of(arguments)}: {codec.config.bitrate:.0f} bit/s, {len(digits)} frames of 19 tokens"
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
        "files": files,
    }
    shown = {**values, "files": " ".join(files)}
    console.result(values, (f"{name:>26}  {rounded(value)}" for name, value in shown.items()))
    return 0


def add_commands(commands: Commands) -> None:
    model, common = commands.model, commands.common
    info = commands.add("info", run_info, "Describe .silk files, codes, audio files, or the model.", [model, common])
    info.add_argument("inputs", nargs="*", metavar="FILE", help="none: describe the model")

    compare = commands.add("compare", run_compare, "Compare two recordings, in numbers and in a picture.", [common])
    compare.add_argument("reference")
    compare.add_argument("other")
    compare.add_argument("--png", help="draw waveforms and spectrograms")
    compare.add_argument("--rate", type=sample_rate, default=24_000, help="samples per second (default: %(default)s)")
    compare.add_argument("-f", "--force", action="store_true", help="overwrite an existing picture")

    description = "Encode and decode a bundled recording and draw what happened."
    demo = commands.add("demo", run_demo, description, [commands.runs, common])
    demo.add_argument("input", nargs="?", help="another recording")
    demo.add_argument("-o", "--output", default="demo", help="folder for the results (default: %(default)s)")
    demo.add_argument("-f", "--force", action="store_true", help="overwrite existing results")
