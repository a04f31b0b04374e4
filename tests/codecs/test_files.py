"""Files of codes: what is written comes back exactly, and what is damaged or foreign is refused by what is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save, save_file
from torch import Tensor

from silk_fast import SilkAudioError, SilkFileError, SilkFormatError, encode_long
from silk_fast.codecs import files
from silk_fast.codecs.files import Codes, holds_codes, pack, read_codes, unpack, write_codes
from silk_fast.codecs.long import cuts_of
from tests.codecs.configurations import TINY


def codec_of(name: str) -> str:
    return name.split()[0]


def codes_of(name: str = "dac", **changes: Any) -> Codes:
    fields = {
        "codec": codec_of(name),
        "library": "transformers 5.23.0",
        "sample_rate": 44_100 if codec_of(name) == "snac" else TINY[name].rate,  # what the tiny ones say of themselves
        "n_channels": TINY[name].n_channels,
        "n_samples": 40,
        "options": {"n_quantizers": 3},
        "weights": "models/dac",
        "weights_sha256": "0123456789abcdef" * 4,
        "tensors": {"tokens": torch.arange(12, dtype=torch.int32).view(4, 3)},
    }
    return Codes(**{**fields, **changes})


def assert_same(ours: Codes, expected: Codes) -> None:
    for name, value in vars(expected).items():
        if name != "tensors":
            assert getattr(ours, name) == value
    assert ours.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert ours.tensors[name].dtype == tensor.dtype
        assert torch.equal(ours.tensors[name], tensor)


@pytest.mark.parametrize("seconds", [0.13, 0.31])
@pytest.mark.parametrize("name", TINY)
def test_codes_come_back_exactly(name, seconds, tmp_path):
    model = TINY[name].make()
    cuts = cuts_of(model)
    encoded = encode_long(model, TINY[name].speech(seconds))
    tensors, n_last = pack(codec_of(name), cuts, encoded)
    codes = codes_of(name, tensors=tensors, last_chunk_frames=n_last, options={})
    write_codes(tmp_path / "a", codes)
    write_codes(tmp_path / "b", codes)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = read_codes(tmp_path / "a")
    assert_same(read, codes)
    ours, expected = cuts.split(unpack(cuts, read, model)), cuts.split(encoded)
    if name == "oobleck":  # the mean alone is kept
        expected = [parameters.chunk(2, 1)[0] for parameters in expected]
    for mine, theirs in zip(ours, expected, strict=True):
        assert torch.equal(mine, theirs)


def test_a_row_has_the_codes_of_a_group_the_coarsest_first():
    cuts = cuts_of(TINY["snac"].make())
    stages = [torch.tensor([[1, 2]]), torch.tensor([[3, 4, 5, 6]])]
    tensors, _ = pack("snac", cuts, stages)
    assert tensors["tokens"].tolist() == [[1, 3, 4], [2, 5, 6]]


def test_a_row_has_a_code_of_each_codebook_the_first_first():
    tensors, _ = pack("dac", cuts_of(TINY["dac"].make()), torch.tensor([[[1, 2], [3, 4], [5, 6]]]))
    assert tensors["tokens"].tolist() == [[1, 3, 5], [2, 4, 6]]


def test_a_file_is_known_by_its_content(tmp_path):
    write_codes(tmp_path / "a.wav", codes_of())
    save_file({"tokens": torch.zeros(2, 2)}, tmp_path / "b.safetensors")
    assert holds_codes(tmp_path / "a.wav")
    assert not holds_codes(tmp_path / "b.safetensors")
    assert not holds_codes(tmp_path / "missing")
    with open(tmp_path / "a.wav", "rb") as file:
        assert_same(read_codes(file), codes_of())


def test_no_bit_can_be_wrong_unnoticed(tmp_path):
    write_codes(tmp_path / "a", codes_of())
    data = (tmp_path / "a").read_bytes()
    for i in range(len(data)):
        for bit in (1, 128):
            (tmp_path / "b").write_bytes(data[:i] + bytes([data[i] ^ bit]) + data[i + 1 :])
            with pytest.raises(SilkFormatError, match="b: "):
                read_codes(tmp_path / "b")


def test_no_part_is_taken_for_the_whole(tmp_path):
    write_codes(tmp_path / "a", codes_of())
    data = (tmp_path / "a").read_bytes()
    for part in (*(data[:n] for n in range(len(data))), data + b"\0"):
        (tmp_path / "b").write_bytes(part)
        with pytest.raises(SilkFormatError, match=r"damaged or cut short|holds no codes"):
            read_codes(tmp_path / "b")


def changed(path: Path, metadata: dict[str, str | None], tensors: dict[str, Tensor] | None) -> bytes:
    """Bytes of a file of metadata and tensors that a codec would not write, with a right checksum if none is given."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    header = {key: value for key, value in (header | metadata).items() if value is not None}
    tensors = load(data) if tensors is None else tensors
    if "crc32" not in metadata:
        header["crc32"] = files._crc32(header, tensors)
    return save(tensors, header)


TOKENS = torch.zeros(4, 3, dtype=torch.int32)
WRONG = [
    ({"version": "2"}, None, "version is '2', expected '1'"),
    ({"codec": "mp3"}, None, "codec is 'mp3', expected one of dac, encodec"),
    ({"codec": None}, None, "codec is missing from its metadata"),
    ({"crc32": None}, None, "crc32 is missing"),
    ({"sample_rate": "fast"}, None, "sample_rate must be a whole number >= 1, got 'fast'"),
    ({"sample_rate": "9" * 5000}, None, "sample_rate must be a whole number >= 1"),
    ({"n_samples": "0"}, None, "n_samples must be a whole number >= 1, got '0'"),
    ({"n_channels": "-1"}, None, "n_channels must be"),
    ({"weights_sha256": "abc"}, None, "weights_sha256 must be 64 hexadecimal digits, got 'abc'"),
    ({"options": "[1"}, None, "options must be a JSON object"),
    ({"options": "7"}, None, "options must be a JSON object, got '7'"),
    ({"options": "[" * 9000}, None, "options must be a JSON object"),
    ({}, {"words": TOKENS}, "holds words, expected tokens"),
    ({}, {"tokens": TOKENS, "latents": TOKENS.float()}, "holds latents and tokens, expected latents"),
    ({}, {"tokens": TOKENS.float()}, r"tokens must be \[frames, K\] of torch.int32, found \[4, 3\] of torch.float32"),
    ({}, {"tokens": TOKENS[0]}, r"tokens must be \[frames, K\] of torch.int32, found \[3\]"),
    ({}, {"tokens": TOKENS[:0]}, r"found \[0, 3\]"),
    ({}, {"latents": TOKENS}, r"latents must be \[frames, K\] of torch.float32"),
    ({"last_chunk_frames": "2"}, None, "holds tokens, expected scales and tokens"),
    ({"last_chunk_frames": "2"}, {"tokens": TOKENS, "scales": torch.ones(3)}, "4 frames do not make 3 chunks"),
    ({"last_chunk_frames": "3"}, {"tokens": TOKENS, "scales": torch.ones(2)}, "the last with 3 frames"),
]


@pytest.mark.parametrize(("metadata", "tensors", "message"), WRONG)
def test_what_no_codec_writes_is_refused_by_name(metadata, tensors, message, tmp_path):
    write_codes(tmp_path / "a", codes_of())
    (tmp_path / "a").write_bytes(changed(tmp_path / "a", metadata, tensors))
    with pytest.raises(SilkFormatError, match=message) as info:
        read_codes(tmp_path / "a")
    assert len(str(info.value)) < 500


@pytest.mark.parametrize("content", [b"", b"dear diary", bytes(100), save({"tokens": TOKENS}), b"\xff" * 20])
def test_a_foreign_file_is_refused(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(SilkFormatError, match="a: holds no codes, expected a file that silk encode --codec wrote"):
        read_codes(tmp_path / "a")


def test_files_that_cannot_be_opened_or_written_are_named(tmp_path):
    with pytest.raises(SilkAudioError, match="missing: No such file"):
        read_codes(tmp_path / "missing")
    with pytest.raises(SilkFileError, match="is a directory"):
        write_codes(tmp_path, codes_of())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("dac", {"sample_rate": 44_100}, "sample_rate is 44100, the model's is 16000"),
        ("dac", {"n_channels": 2}, "n_channels is 2, the model's is 1"),
        ("dac", {"tensors": {"tokens": TOKENS.repeat(1, 2)}}, "frames have 6 values, the model's 3"),
        ("dac", {"tensors": {"tokens": TOKENS + 64}}, r"codes are 64 .. 64, the model's 0 .. 63"),
        ("dac", {"tensors": {"tokens": TOKENS - 1}}, r"codes are -1 .. -1"),
        ("dac", {"tensors": {"latents": TOKENS.float()}}, "holds latents, which are none of dac"),
        ("snac", {"tensors": {"tokens": TOKENS[:, :2]}}, "frames have 2 values, the model's 3"),
        ("oobleck", {"tensors": {"tokens": TOKENS}}, "holds tokens, which are none of oobleck"),
        ("oobleck", {"tensors": {"latents": TOKENS.float()}}, "frames have 3 values, the model's 8"),
        ("encodec", {"tensors": {"tokens": TOKENS[:, :1], "scales": torch.ones(2)}, "last_chunk_frames": 1}, "chunks"),
        ("encodec in chunks", {"tensors": {"tokens": TOKENS[:, :1]}}, "only one of file and model is in chunks"),
    ],
)
def test_codes_of_another_model_are_refused(name, changes, message):
    model = TINY[name].make()
    with pytest.raises(SilkFormatError, match=message):
        unpack(cuts_of(model), replace(codes_of(name), **changes), model)
