"""Codecs of other libraries behind a server: DAC, which looks ahead, and Mimi, which can be streamed."""

import io
import json

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("transformers", reason="no transformers: pip install 'silk_fast[codecs]'")

from silk_fast.runtime.codec import open_codec
from tests.codecs.saved import save_model
from tests.runtime.serving import serving, wav, websockets
from tests.support import speech


@pytest.fixture(scope="module", params=["dac", "mimi"])
def server(request, tmp_path_factory):
    path = save_model(request.param, tmp_path_factory.mktemp("codec") / request.param)
    with serving(open_codec(request.param, path)) as running:
        yield running
        running.wait_for((0, 0, 0))


def pcm_and_tokens(codec) -> tuple[torch.Tensor, torch.Tensor]:
    pcm = (speech(20_001)[0] * 2**15).round().short()
    return pcm, codec.encode(pcm[None].float() / 2**15)[0]


def test_serve_tokens_and_sound_are_those_of_the_codec(server):
    codec = server.service.codec
    pcm, tokens = pcm_and_tokens(codec)
    answer = server.ask("/v1/codec/encode", wav(pcm[0].numpy(), codec.sample_rate))
    assert answer.json["tokens"] == tokens.tolist()
    decoded = server.ask("/v1/codec/decode", answer.body).body
    samples, rate = soundfile.read(io.BytesIO(decoded))
    expected = codec.decode(tokens[None])[0, 0, :20_001].clamp(-1, 1 - 2**-15)
    assert (len(samples), rate) == (20_001, codec.sample_rate)
    assert np.abs(samples - expected.numpy()).max() < 2**-15
    assert server.ask("/v1/codec/encode?format=silk", b"x").error == (422, "SilkInputError")
    assert server.ask("/v1/codec/decode", b"\x89SILK\r\n\x1a").error == (422, "SilkFormatError")
    [model] = server.ask("/v1/models").json["data"]
    assert (model["codec"], model["bits_per_frame"], model["causal"]) == (codec.name, None, codec.causal)


def test_serve_a_causal_codec_is_streamed_and_another_refused(server):
    codec = server.service.codec
    pcm, tokens = pcm_and_tokens(codec)
    with websockets.connect(server.stream_url) as stream:
        stream.send('{"direction": "encode"}')
        first = json.loads(stream.recv())
        if not codec.causal:
            assert "cannot be streamed" in first["error"]["message"]
            return
        for piece in pcm[0].split(7000):
            stream.send(piece.numpy().tobytes())
        stream.send('{"type": "end"}')
        *data, done = stream
    frames = np.frombuffer(b"".join(data), "<i4").reshape(-1, codec.tokens_per_frame)
    assert np.array_equal(frames, tokens.numpy())
    assert json.loads(done)["n_frames"] == len(tokens)
