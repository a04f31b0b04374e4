"""End to end on this machine: seconds of audio coded per second. ``make bench``"""

import pytest
import torch

from silk_fast import SilkCodec

SECONDS = 32


@pytest.fixture(scope="module")
def codec() -> SilkCodec:
    return SilkCodec.from_pretrained("silk-small-24khz")


@pytest.fixture(scope="module")
def audio() -> torch.Tensor:
    return torch.randn(1, 1, SECONDS * 24_000, generator=torch.Generator().manual_seed(0)) * 0.08


def record_realtime(benchmark, seconds: float) -> None:
    if benchmark.stats:
        benchmark.extra_info["realtime_factor"] = round(seconds / benchmark.stats.stats.median, 1)
        benchmark.extra_info["threads"] = torch.get_num_threads()


def test_encode(benchmark, codec, audio):
    encoded = benchmark(codec.encode, audio)
    assert encoded.tokens.shape == (1, 80, 19)
    record_realtime(benchmark, SECONDS)


def test_decode(benchmark, codec, audio):
    tokens = codec.encode(audio).tokens
    decoded = benchmark(codec.decode, tokens)
    assert decoded.shape == audio.shape
    record_realtime(benchmark, SECONDS)


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_one_frame_streamed(benchmark, codec, audio, direction):
    """Latency of one 400 ms frame at batch 1."""
    with codec.streaming() as stream:
        frame = audio[..., :9600]
        tokens = stream.encode(frame)
        benchmark(stream.encode, frame) if direction == "encode" else benchmark(stream.decode, tokens)
    record_realtime(benchmark, 0.4)
