"""Memory grows neither with a recording, nor with what a header claims, nor with the number of inputs."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from silk_fast import SilkConfig
from silk_fast.cpu.library import why_not
from tests.runtime.corpora import clip_bytes, problems_in, rows_in
from tests.support import SILK, make_codec
from tests.test_memory import peak_bytes

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"what PyTorch takes alone is no matter here; {why_not()}")

MOST = 2**30
MINUTE = 24_000 * 60


@pytest.fixture(autouse=True)
def accelerated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes accelerate the model as they do for users, who have no interpreter of Triton on."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def peak_of(source: Path, out: Path, model: Path, workers: int = 1) -> int:
    """Peak of the process that has the highest."""
    return peak_bytes(SILK, "tokenize", source, out, "-m", model, "-q", "--workers", workers)


def flac_bomb(path: Path, n_blocks: int) -> None:
    """Write a FLAC file of blocks of silence, 65 535 samples of 8 channels at 192 kHz in 20 bytes or so each.

    The header does not tell how many samples there are.
    """
    file = io.BytesIO()
    soundfile.write(file, np.zeros((4096 * 3, 8), np.int16), 192_000, "PCM_16", format="FLAC")
    data = bytearray(file.getvalue())
    data[4] |= 128  # the first block of metadata is the last
    (word,) = struct.unpack(">Q", data[18:26])
    data[8:12] = struct.pack(">HH", 65_535, 65_535)  # smallest and largest block
    data[12:18] = bytes(6)  # bytes of frames: unknown
    data[18:26] = struct.pack(">Q", word >> 36 << 36)
    data[26:42] = bytes(16)
    frames = b"".join(_silent_frame(i) for i in range(n_blocks))
    path.write_bytes(bytes(data[:42]) + frames)


def _silent_frame(i: int) -> bytes:
    """Frame ``i`` of constant subframes: block of 65 535 samples, 192 kHz, 8 channels, 16 bits."""
    header = bytes([0xFF, 0xF8, 0x73, 0x78]) + _utf8(i) + struct.pack(">H", 65_534)
    header += bytes([_crc(header, 8, 0x07)])
    frame = header + bytes([0, 0, 0]) * 8
    return frame + struct.pack(">H", _crc(frame, 16, 0x8005))


def _utf8(i: int) -> bytes:
    return chr(i).encode() if i < 0xD800 else chr(i + 0x800).encode()


def _crc(data: bytes, n_bits: int, polynomial: int) -> int:
    crc, top = 0, 1 << (n_bits - 1)
    for byte in data:
        crc ^= byte << (n_bits - 8)
        for _ in range(8):
            crc = ((crc << 1) ^ (polynomial if crc & top else 0)) & ((1 << n_bits) - 1)
    return crc


@pytest.mark.parametrize("minutes", [3, pytest.param(120, marks=pytest.mark.slow)])
def test_a_long_recording(minutes, model, tmp_path):
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 24_000, 1, "PCM_16") as file:
        for _ in range(minutes):
            file.write(rng.standard_normal(MINUTE, dtype=np.float32) * 0.05)
    (tmp_path / "m.csv").write_text("path,id,start,end\nlong.flac,whole,,\nlong.flac,middle,100,170\n")
    peak = peak_of(tmp_path / "m.csv", tmp_path / "out", model)
    print(f"{peak / 2**20:.0f} MiB")
    assert 2**26 < peak < MOST
    assert [row["samples"] for row in rows_in(tmp_path / "out")] == [minutes * MINUTE, 70 * 24_000]


@pytest.mark.parametrize("n_blocks", [200, pytest.param(4_000, marks=pytest.mark.slow)])
def test_a_flac_bomb(n_blocks, model, tmp_path):
    (tmp_path / "in").mkdir()
    flac_bomb(tmp_path / "in" / "bomb.flac", n_blocks)
    (tmp_path / "in" / "good.flac").write_bytes(clip_bytes(9_600))
    n_bytes = (tmp_path / "in" / "bomb.flac").stat().st_size
    seconds = n_blocks * 65_535 / 192_000
    limit = seconds / 3600 / 2
    peak = peak_of_failing(tmp_path / "in", tmp_path / "out", model, limit)
    print(f"{peak / 2**20:.0f} MiB")
    assert seconds * 192_000 * 8 * 2 > 10_000 * n_bytes
    assert 2**26 < peak < MOST
    kind, reason = problems_in(tmp_path / "out")["bomb"]
    assert kind == "duration"
    assert "expected at most" in reason
    assert [row["id"] for row in rows_in(tmp_path / "out")] == ["good"]


def peak_of_failing(source: Path, out: Path, model: Path, limit: float) -> int:
    """Peak of a command that ends with status 1, behind a shell that passes over that."""
    arguments = " ".join(map(str, [SILK, "tokenize", source, out, "-m", model, "-q", "--workers", 1]))
    return peak_bytes("sh", "-c", f"{arguments} --max-hours {limit:.6f} || test $? = 1")


@pytest.mark.parametrize("n_files", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_many_small_files(n_files, tmp_path):
    """Through a codec still smaller than the others of these tests, which most of the time would go to."""
    model, data = tmp_path / "model", clip_bytes(1_200)
    make_codec(SilkConfig.preset("tiny", conformer_layers=1, dilations=(1,), decoder_dilations=(1,))).save_pretrained(
        model
    )
    for i in range(n_files):
        folder = tmp_path / "in" / f"{i // 1000:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:05d}.flac").write_bytes(data)
    peak = peak_of(tmp_path / "in", tmp_path / "out", model, workers=-(-n_files // 10_000))
    print(f"{peak / 2**20:.0f} MiB")
    assert 2**26 < peak < MOST
    rows = rows_in(tmp_path / "out")
    assert len(rows) == n_files
    assert len(list((tmp_path / "out").glob("part-*"))) == -(-n_files // 10_000)
