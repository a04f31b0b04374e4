"""No public call of the library ends in a raw exception, whatever its arguments are; and a refusal changes nothing."""

import copy
import gzip
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silk_fast import EncodedAudio, SilkCodec, SilkConfig, SilkError, SilkModelError, accelerate_, container, restore_
from silk_fast.audio import AudioReader, AudioWriter, load, resample_blocks, resampled_length, save
from silk_fast.codecs.files import Codes, read_codes, write_codes
from silk_fast.config import PRESETS
from silk_fast.reference import pretrained
from silk_fast.runtime.transcode import open_silk
from tests.audio.support import wav_bytes
from tests.support import FRAME, TINY, make_codec, speech

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int16, torch.int32]
DTYPES += [torch.int64, torch.uint8, torch.uint16, torch.bool, torch.complex64, torch.float8_e4m3fn]
SHAPES = [(), (0,), (1,), (2,), (1, 1), (2, 19), (1, 1, 0), (1, 1, 5), (2, 1, 5), (1, 2, 5), (1, 1, 19), (2, 3, 19)]
FILLS = [0, 1, 5, -1, 1e20, 2**31 - 1, float("nan"), float("inf")]


@st.composite
def tensors(draw: Any) -> torch.Tensor:
    """Tensors and arrays of every kind, few of which are right."""
    shape, dtype = draw(st.sampled_from([*SHAPES, (1, 1, 9700)])), draw(st.sampled_from(DTYPES))
    tensor = torch.full(shape, draw(st.sampled_from(FILLS)), dtype=torch.float64).to(dtype)
    kind = draw(st.sampled_from(["plain"] * 4 + ["meta", "sparse", "nested", "numpy", "list", "gradient"]))
    if kind == "meta":
        return tensor.to("meta")
    if kind == "sparse" and dtype not in (torch.float8_e4m3fn, torch.uint16) and shape:
        return tensor.to_sparse()
    if kind == "nested" and dtype not in (torch.float8_e4m3fn, torch.uint16) and shape:
        return torch.nested.nested_tensor([tensor, tensor], layout=draw(st.sampled_from([torch.strided, torch.jagged])))
    if kind == "numpy" and dtype not in (torch.float8_e4m3fn, torch.bfloat16):
        return tensor.numpy()
    if kind == "list":
        return tensor.flatten()[:4].tolist()
    return tensor.requires_grad_() if kind == "gradient" and tensor.is_floating_point() else tensor


WORDS = st.text(st.characters(exclude_characters="/."), max_size=12)
NUMBERS = st.integers(-3, 40) | st.sampled_from([10**6, 2**31, 2**40, 2**63, 10**30, 10**5000]) | st.floats()
PLAIN = st.none() | st.booleans() | NUMBERS | WORDS | st.binary(max_size=12) | st.complex_numbers()
ODD = st.sampled_from([object(), int, [], {}, (), set(), {"a": 1}, [[1], [2, 3]], range(2), np.int64(1), np.nan])
DEVICES = st.sampled_from(
    [torch.device("meta"), torch.device("cuda", 93), "cuda:93", "cpu:7", "xpu", "hpu", "cpu", "meta", ""]
)


class Odd:
    """What has some of the methods of a path, a file or a number, none of which does what it should."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__ |= attributes

    def __fspath__(self) -> str:
        raise KeyError("no path")

    def __index__(self) -> int:
        raise KeyError("no number")


def _closed(file: Any) -> Any:
    file.close()
    return file


FILES = st.sampled_from(
    [
        lambda: _closed(open("a.wav", "rb")),  # noqa: SIM115
        lambda: _closed(io.BytesIO(WAV)),
        lambda: io.BytesIO(WAV),
        lambda: io.StringIO("text"),
        lambda: open("written", "wb"),  # noqa: SIM115
        lambda: Odd(read=None),
        lambda: Odd(read=lambda: WAV),
        lambda: Odd(read=lambda size: WAV if size < 0 else 5),
        lambda: Odd(read=lambda size: b"", name=7, closed="no"),
        lambda: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(WAV)[:50])),
        lambda: "/proc/version",
        lambda: "/proc/self/mem",
        lambda: "a\0b",
        lambda: "\udcff",
        lambda: "",
        lambda: ".",
    ]
).map(lambda make: make())
ANYTHING = (
    PLAIN | ODD | FILES | st.builds(Odd) | tensors() | st.sampled_from(DTYPES) | DEVICES | st.lists(PLAIN, max_size=3)
)


def good(*values: Any) -> st.SearchStrategy:
    """A right argument about half of the time."""
    return st.sampled_from([*values] * 2) | ANYTHING


CODEC, TWIN = make_codec(), make_codec()
SMALLEST = make_codec(SilkConfig.preset("tiny", conformer_layers=1, dilations=(1,), decoder_dilations=(1,)))
AUDIO = speech(FRAME)
ENCODED = CODEC.encode(AUDIO)
HEADER = container.SilkHeader(
    dims=128, levels=8, group_size=7, sample_rate=24_000, frame_samples=9600, weights_sha256="0" * 64
)
FILE = io.BytesIO()
with container.SilkWriter(FILE, HEADER) as writer:
    writer.write(ENCODED.tokens[0].numpy())
    writer.close(9600)
CODES = Codes(
    codec="dac",
    library="transformers 5.0",
    sample_rate=16_000,
    n_channels=1,
    n_samples=9,
    weights="model",
    weights_sha256="0" * 64,
    tensors={"tokens": torch.zeros(1, 3, dtype=torch.int32)},
)
BYTES, WAV = FILE.getvalue(), wav_bytes(bytes(2000))


def _stream(method: str, *arguments: Any) -> Any:
    with CODEC.streaming() as stream:
        stream.encode(AUDIO[..., :300])
        before = stream.state.tensors()
        try:
            return getattr(stream, method)(*arguments)
        except SilkError:
            after = stream.state.tensors()
            assert all(torch.equal(after[name], value) for name, value in before.items())
            raise


def _load_state(name: str, value: Any) -> None:
    with CODEC.streaming() as stream:
        stream.state.load({**stream.state.tensors(), name: value})


def _write(tokens: Any, n_samples: Any) -> None:
    writer = container.SilkWriter(io.BytesIO(), HEADER)
    writer.write(tokens)
    writer.close(n_samples)


def _read(data: bytes, recover: bool) -> None:
    for _ in container.SilkReader(io.BytesIO(data), recover=recover).blocks():
        pass


def _encode_moved(change: Callable[[SilkCodec], Any], weight_norm: bool, call: Callable[[SilkCodec], Any]) -> None:
    codec = copy.deepcopy(SMALLEST)
    if weight_norm:
        codec.apply_weight_norm_()
    change(codec)
    call(codec)


def _write_audio(suffix: Any, subtype: Any, expected_samples: Any, channels: Any, samples: Any, again: bool) -> None:
    audio_writer = AudioWriter("out.wav", 24_000, subtype, expected_samples, suffix, channels)
    for _ in range(2 if again else 1):
        with audio_writer:
            audio_writer.write(samples)


def _open_silk(source: Any, recover: bool) -> None:
    with open_silk(source, recover=recover) as reader:
        list(reader.blocks())


def _read_audio(source: Any, block_samples: Any, channels: Any, closed: bool) -> None:
    with AudioReader(source, block_samples=block_samples, channels=channels) as reader:
        blocks = reader.blocks()
        if not closed:
            list(blocks)
    list(blocks)


CALLS: dict[str, tuple[Callable, dict[str, st.SearchStrategy]]] = {
    "encode": (CODEC.encode, {"audio": good(AUDIO), "lengths": good(None, [5]), "chunk_frames": good(None, 1)}),
    "decode": (
        CODEC.decode,
        {"tokens": good(ENCODED, ENCODED.tokens), "lengths": good(None, [5]), "chunk_frames": good(None, 1)},
    ),
    "decode of parts": (
        lambda tokens, lengths, n_frames: CODEC.decode(EncodedAudio(tokens, lengths, n_frames)),
        {"tokens": good(ENCODED.tokens), "lengths": good(None, [5]), "n_frames": ANYTHING},
    ),
    "moved": (
        _encode_moved,
        {
            "change": st.sampled_from(
                [
                    *(lambda codec, dtype=dtype: codec.to(dtype) for dtype in DTYPES if dtype.is_floating_point),
                    lambda codec: codec.to(torch.complex64),
                    lambda codec: codec.to("meta"),
                    lambda codec: codec.encoder.double(),
                ]
            ),
            "weight_norm": st.booleans(),
            "call": st.sampled_from(
                [
                    lambda codec: codec.encode(AUDIO),
                    lambda codec: codec.decode(ENCODED),
                    lambda codec: codec.weights_sha256,
                    lambda codec: codec.save_pretrained("moved"),
                ]
            ),
        },
    ),
    "forward": (CODEC, {"audio": good(AUDIO, AUDIO.half(), AUDIO.double())}),
    "load": (load, {"source": good("a.wav") | FILES, "sample_rate": good(24_000)}),
    "AudioReader": (
        _read_audio,
        {"source": good("a.wav") | FILES, "block_samples": good(100), "channels": good(1, 2), "closed": st.booleans()},
    ),
    "save": (
        save,
        {
            "target": good("b.wav", "b.ogg") | FILES,
            "samples": good(np.zeros(9), [0.5], torch.zeros(3)),
            "sample_rate": good(24_000),
            "subtype": good(None, "PCM_16"),
        },
    ),
    "AudioWriter": (
        _write_audio,
        {
            "suffix": good(None, ".flac"),
            "subtype": good(None, "PCM_16"),
            "expected_samples": good(None, 5),
            "channels": good(1, 2),
            "samples": good(np.zeros(9), np.zeros((9, 2))),
            "again": st.booleans(),
        },
    ),
    "resample_blocks": (
        lambda block, **arguments: list(resample_blocks([block], **arguments)),
        {
            "block": good(np.zeros(9), np.zeros((9, 2))),
            "source_rate": good(8000),
            "target_rate": good(24_000),
            "channels": good(1, 2),
        },
    ),
    "resampled_length": (
        resampled_length,
        {"n_samples": good(5), "source_rate": good(8000), "target_rate": good(24_000)},
    ),
    "read_codes": (read_codes, {"source": good("a.safetensors") | FILES}),
    "open_silk": (_open_silk, {"source": good("a.silk") | FILES, "recover": st.booleans()}),
    "streaming": (CODEC.streaming, {"batch_size": good(1)}),
    "chunk_frames": (CODEC.chunk_frames, {"batch_size": good(1)}),
    "stream.encode": (lambda chunk: _stream("encode", chunk), {"chunk": good(AUDIO)}),
    "stream.decode": (lambda tokens: _stream("decode", tokens), {"tokens": good(ENCODED.tokens)}),
    "stream.reset": (lambda rows: _stream("reset", rows), {"rows": good(0, [0])}),
    "stream.state.load": (
        _load_state,
        {
            "name": st.sampled_from(["pending", "n_pending", "n_skip", "is_finished", "encoder.input.context", "x"]),
            "value": ANYTHING,
        },
    ),
    "state.load": (lambda tensors: CODEC.streaming().state.load(tensors), {"tensors": ANYTHING}),
    "from_pretrained": (
        SilkCodec.from_pretrained,
        {"name": good("model"), "device": good("cpu", torch.device("cpu")), "weight_norm": good(True, False)},
    ),
    "save_pretrained": (CODEC.save_pretrained, {"directory": good("saved"), "dtype": good(None, torch.float16)}),
    "SilkCodec": (SilkCodec, {"config": good(TINY), "weight_norm": good(True, False), "seed": good(0)}),
    "SilkConfig": (
        lambda name, value: SilkConfig(**{name: value}),
        {"name": st.sampled_from(sorted(vars(TINY))), "value": ANYTHING | st.lists(NUMBERS, max_size=20)},
    ),
    "SilkConfig.preset": (
        lambda name, field, value: SilkConfig.preset(name, **{field: value}),
        {"name": good(*PRESETS), "field": st.sampled_from([*sorted(vars(TINY)), "colour"]), "value": good(8)},
    ),
    "SilkConfig.from_json": (SilkConfig.from_json, {"text": good(TINY.to_json())}),
    "SilkConfig.n_frames": (TINY.n_frames, {"n_samples": good(5)}),
    "accelerate_": (
        accelerate_,
        {
            "model": st.sampled_from([TWIN]) | PLAIN,
            "ops": good(None, "snake", ["fsq"]),
            "dtype": good(torch.float32, torch.float16),
            "deterministic": good(False, True),
        },
    ),
    "restore_": (restore_, {"model": st.sampled_from([TWIN]) | ANYTHING}),
    "SilkHeader": (
        lambda name, value: container.SilkHeader(**{**vars(HEADER), name: value}),
        {"name": st.sampled_from(sorted(vars(HEADER))), "value": ANYTHING},
    ),
    "SilkHeader.from_bytes": (container.SilkHeader.from_bytes, {"data": st.binary(max_size=99)}),
    "tokens_to_bytes": (
        lambda tokens: container.tokens_to_bytes(tokens, HEADER),
        {"tokens": good(ENCODED.tokens[0].numpy())},
    ),
    "bytes_to_tokens": (lambda data: container.bytes_to_tokens(data, HEADER), {"data": st.binary(max_size=200)}),
    "SilkWriter": (_write, {"tokens": good(ENCODED.tokens[0].numpy()), "n_samples": good(9600)}),
    "SilkReader": (
        lambda start, part, recover: _read(BYTES[:start] + part + BYTES[start + len(part) :], recover),
        {"start": st.integers(0, len(BYTES)), "part": st.binary(max_size=9), "recover": st.booleans()},
    ),
}


@pytest.fixture
def folder(model, tmp_path, monkeypatch):
    """A folder to work in, where ``model`` is a model and no hub can be reached."""

    def unreachable(name):
        raise SilkModelError(f"no hub to look for {name!a}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, "_download", unreachable)
    (tmp_path / "model").symlink_to(model)
    (tmp_path / "a.wav").write_bytes(WAV)
    (tmp_path / "a.silk").write_bytes(BYTES)
    write_codes("a.safetensors", CODES)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", CALLS)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_every_call_returns_or_raises_a_typed_error(name, data):
    call, strategies = CALLS[name]
    arguments = {key: data.draw(strategy, label=key) for key, strategy in strategies.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call(**arguments)
        except SilkError as error:
            message = str(error)
        else:
            message = "returned"
    assert message
    assert len(message) < 2000
    message.encode()


@pytest.mark.parametrize("name", sorted(vars(HEADER)))
def test_a_number_too_long_to_print_is_refused_by_name(name):
    with pytest.raises(SilkError, match=f"{name} must be .*, got int that cannot be printed"):
        container.SilkHeader(**{**vars(HEADER), name: 10**5000})


def test_the_codec_is_the_same_after_all_that_was_refused():
    assert torch.equal(CODEC.encode(AUDIO).tokens, ENCODED.tokens)
    assert CODEC.weights_sha256 == make_codec().weights_sha256
