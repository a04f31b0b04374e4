"""The codec as its users call it: shapes, lengths, prefixes, batches, streams, saving and loading."""

import json
import shutil

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from silk_fast import SilkCodec, SilkConfig, SilkConfigError, SilkInputError, SilkModelError
from silk_fast.reference import ops
from silk_fast.reference.initialisation import calibrate_
from silk_fast.reference.pretrained import find_model
from tests.test_initialisation import voices

TINY = SilkConfig.preset("tiny")
FRAME = TINY.frame_samples


def make_codec(config: SilkConfig = TINY) -> SilkCodec:
    codec = SilkCodec(config, weight_norm=False, seed=0).eval()
    calibrate_(codec, voices())
    return codec


@pytest.fixture(scope="module", params=[0, 960], ids=["delay=0", "delay=960"])
def codec(request) -> SilkCodec:
    return make_codec(SilkConfig.preset("tiny", output_delay=request.param))


@pytest.fixture(scope="module")
def small() -> SilkCodec:
    return SilkCodec.from_pretrained("silk-small-24khz")


def speech(n_samples: int, start: int = 0) -> torch.Tensor:
    audio = voices()
    audio = audio.repeat(1, 1, -(-(start + n_samples) // audio.shape[-1]))
    return audio[..., start : start + n_samples]


def assert_same_tokens(ours: torch.Tensor, expected: torch.Tensor, latents: torch.Tensor, levels: int) -> None:
    """Equal, except for digits whose latent sits within 1e-4 of a rounding boundary."""
    assert ours.shape == expected.shape
    per_dim = [levels] * latents.shape[-1]
    mine, theirs = (ops.unpack_digits(t, per_dim, TINY.group_size) for t in (ours, expected))
    bounded = ops.fsq_bound(latents, per_dim)
    from_boundary = (bounded - bounded.floor() - 0.5).abs()
    assert not ((mine != theirs) & (from_boundary > 1e-4)).any()
    assert (mine != theirs).float().mean() < 1e-4


# ---------------------------------------------------------------- lengths


@pytest.mark.parametrize("n_samples", [1, 9599, 9600, 9601, 100_000, 24_000 * 61])
def test_frames_are_the_ceiling_and_decode_returns_exactly_the_samples(codec, n_samples):
    encoded = codec.encode(speech(n_samples))
    n_frames = -(-(n_samples + codec.config.output_delay) // 9600)
    assert encoded.tokens.shape == (1, n_frames, 19)
    assert encoded.tokens.dtype == torch.int32
    assert encoded.lengths.tolist() == [n_samples]
    assert encoded.n_frames.tolist() == [n_frames]
    audio = codec.decode(encoded.tokens, encoded.lengths)
    assert audio.shape == (1, 1, n_samples)
    assert audio.dtype == torch.float32
    assert audio.isfinite().all()


def test_decode_without_lengths_returns_all_that_the_frames_hold(codec):
    audio = codec.decode(codec.encode(speech(3 * FRAME)).tokens[:, :2])
    assert audio.shape[-1] == 2 * FRAME - codec.config.output_delay


# ---------------------------------------------------------------- causality


def test_tokens_and_audio_do_not_change_when_more_samples_follow(codec):
    audio = speech(8 * FRAME)
    encoded = codec.encode(audio)
    decoded = codec.decode(encoded.tokens)
    for n_frames in (1, 3, 7):
        prefix = codec.encode(audio[..., : n_frames * FRAME]).tokens[:, :n_frames]
        assert torch.equal(prefix, encoded.tokens[:, :n_frames])
        shorter = codec.decode(prefix)
        torch.testing.assert_close(shorter, decoded[..., : shorter.shape[-1]], rtol=0, atol=1e-5)


def test_latents_see_no_later_sample():
    codec = make_codec()
    audio = speech(6 * FRAME)
    changed = audio.clone()
    changed[..., 3 * FRAME :] = torch.rand(3 * FRAME)
    with torch.no_grad():
        first, second = codec.latents(audio), codec.latents(changed)
    torch.testing.assert_close(first[:, :3], second[:, :3], rtol=0, atol=1e-6)
    assert (first[:, 3:] - second[:, 3:]).abs().amax(-1).min() > 1e-3


def test_a_clip_gives_the_same_tokens_alone_and_padded_in_a_batch(codec):
    lengths = [30_000, 9_600, 70_001, 1]
    clips = [speech(n, start=i * 50_000) for i, n in enumerate(lengths)]
    batch = torch.full((4, 1, 70_001), 0.5)  # what follows a clip must not matter, so it is not zero
    for i, clip in enumerate(clips):
        batch[i, :, : lengths[i]] = clip[0]
    encoded = codec.encode(batch, torch.tensor(lengths))
    decoded = codec.decode(encoded.tokens, encoded.lengths)
    for i, clip in enumerate(clips):
        alone = codec.encode(clip)
        n_frames = encoded.n_frames[i]
        assert n_frames == alone.tokens.shape[1]
        assert torch.equal(encoded.tokens[i, :n_frames], alone.tokens[0])
        assert encoded.tokens[i, n_frames:].eq(0).all()
        expected = codec.decode(alone.tokens, alone.lengths)
        torch.testing.assert_close(decoded[i, :, : lengths[i]], expected[0], rtol=0, atol=1e-5)
        assert decoded[i, :, lengths[i] :].eq(0).all()


def test_batch_property_holds_for_the_small_preset(small):
    clip, longer = speech(30_000), speech(70_001, start=50_000)
    batch = torch.zeros(2, 1, 70_001)
    batch[0, :, :30_000], batch[1] = clip[0], longer[0]
    encoded = small.encode(batch, torch.tensor([30_000, 70_001]))
    assert torch.equal(encoded.tokens[:1, : encoded.n_frames[0]], small.encode(clip).tokens)


# ---------------------------------------------------------------- streaming


@pytest.mark.parametrize("sizes", [[1, 479, 9601, 20_000], [9600], [4800, 3], [31_000]])
def test_streamed_encoding_equals_offline(codec, sizes):
    audio = speech(10 * FRAME + 123)
    offline = codec.encode(audio, chunk_frames=1000).tokens
    streamed, start = [], 0
    with codec.streaming() as stream:
        while start < audio.shape[-1]:
            size = sizes[len(streamed) % len(sizes)]
            streamed.append(stream.encode(audio[..., start : start + size]))
            start += size
        streamed.append(stream.finish())
    padded = torch.nn.functional.pad(audio, (0, offline.shape[1] * FRAME - audio.shape[-1]))
    with torch.no_grad():
        latents = codec.quantizer.norm(codec.latents(padded))
    assert_same_tokens(torch.cat(streamed, 1), offline, latents, TINY.levels)


def test_a_sample_at_a_time_completes_a_frame_at_its_last_sample():
    codec = make_codec()
    audio = speech(FRAME + 5)
    with codec.streaming() as stream:
        for i in range(FRAME + 5):
            assert stream.encode(audio[..., i : i + 1]).shape[1] == (i == FRAME - 1)


@pytest.mark.parametrize("sizes", [[1], [2, 5], [0, 1, 3]])
def test_streamed_decoding_equals_offline(codec, sizes):
    tokens = codec.encode(speech(12 * FRAME)).tokens
    pieces, start = [], 0
    with codec.streaming() as stream:
        while start < tokens.shape[1]:
            size = min(sizes[len(pieces) % len(sizes)], tokens.shape[1] - start)
            pieces.append(stream.decode(tokens[:, start : start + size]))
            expected_size = size * FRAME - (codec.config.output_delay if size and start == 0 else 0)
            assert pieces[-1].shape == (1, 1, expected_size)
            start += size
    expected = codec.decode(tokens, chunk_frames=1000)
    torch.testing.assert_close(torch.cat(pieces, -1), expected, rtol=0, atol=1e-5)


def test_whole_signal_modules_equal_the_chunked_codec():
    codec = make_codec()
    audio = speech(70 * FRAME)  # longer than the attention window of 64 frames
    with torch.no_grad():
        latents = codec.latents(audio)
        tokens = codec.quantizer.encode(latents)
        whole = codec.decoder(codec.quantizer.decode(tokens))
    chunked = codec.encode(audio, chunk_frames=9).tokens
    assert_same_tokens(chunked, tokens, codec.quantizer.norm(latents), TINY.levels)
    torch.testing.assert_close(codec.decode(tokens, chunk_frames=9), whole, rtol=0, atol=1e-5)


def test_state_can_be_stored_and_restored(codec, tmp_path):
    audio = speech(6 * FRAME)
    with codec.streaming() as stream:
        stream.decode(stream.encode(audio[..., :25_000]))
        save_file(stream.state.tensors(), tmp_path / "state.safetensors")
        before = stream.state.clone()
        rest = stream.encode(audio[..., 25_000:])
        sound = stream.decode(rest)
        assert not torch.equal(before.encoder.input.context, stream.state.encoder.input.context)
    with codec.streaming() as other:
        other.state.load(load_file(tmp_path / "state.safetensors"))
        assert torch.equal(other.encode(audio[..., 25_000:]), rest)
        assert torch.equal(other.decode(rest), sound)


def test_state_of_another_size_is_refused():
    codec = make_codec()
    with codec.streaming(2) as two, codec.streaming(1) as one:
        with pytest.raises(SilkInputError, match=r"state conformer.blocks.0.attention.keys: expected \(1, 8, 63, 16\)"):
            one.state.load(two.state.tensors())
        tensors = one.state.tensors()
        del tensors["pending"]
        with pytest.raises(SilkInputError, match=r"state pending: expected .* got nothing"):
            one.state.load(tensors)


def test_attention_that_looks_ahead_cannot_be_streamed():
    with pytest.raises(SilkConfigError, match="streaming needs a bounded attention_left and attention_right 0"):
        SilkCodec(SilkConfig.preset("tiny", attention_right=3)).streaming()


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(1, 1, 0), "at least 1 sample"),
        (torch.zeros(0, 1, 5), "at least 1 sample"),
        (torch.zeros(1, 2, 5), r"audio must be \[B, 1, T\], got shape \(1, 2, 5\)"),
        (torch.zeros(5), r"audio must be \[B, 1, T\]"),
        (torch.zeros(1, 1, 5, dtype=torch.int16), "floating-point tensor, got torch.int16"),
        ([0.0], "floating-point tensor"),
        (torch.tensor([[[0.0, torch.nan]]]), "NaN or infinite"),
        (torch.tensor([[[0.0, -torch.inf]]]), "NaN or infinite"),
    ],
    ids=str,
)
def test_bad_audio_is_refused(codec, audio, message):
    with pytest.raises(SilkInputError, match=message):
        codec.encode(audio)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([10_001], r"lengths must be in 1 .. 10000, got \[10001\]"),
        ([0], "lengths must be in 1 .. 10000"),
        ([5, 5], r"lengths must be integers \[1\]"),
        ([5.0], "lengths must be integers"),
    ],
)
def test_bad_lengths_are_refused(codec, lengths, message):
    with pytest.raises(SilkInputError, match=message):
        codec.encode(speech(10_000), torch.tensor(lengths))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(1, 0, 19, dtype=torch.int32), "at least one frame"),
        (torch.zeros(1, 2, 18, dtype=torch.int32), r"tokens must be int32 or int64 \[B, F, 19\]"),
        (torch.zeros(1, 2, 19), "got torch.float32"),
        (torch.full((1, 2, 19), -1), "token 0 of frame 0, sample 0, must be in 0 .. 2097151, got -1"),
        (torch.full((1, 2, 19), 64), "token 18 of frame 0, sample 0, must be in 0 .. 63, got 64"),
    ],
    ids=["empty", "groups", "dtype", "negative", "too large"],
)
def test_bad_tokens_are_refused(codec, tokens, message):
    with pytest.raises(SilkInputError, match=message):
        codec.decode(tokens)


def test_infinite_latents_are_refused(codec):
    latents = torch.zeros(1, 2, 128)
    latents[0, 1, 5] = torch.inf
    with pytest.raises(SilkInputError, match="latents must be finite"):
        codec.quantizer.encode(latents)


def test_a_refused_chunk_leaves_the_stream_as_it_was(codec):
    audio = speech(2 * FRAME)
    with codec.streaming() as stream:
        stream.encode(audio[..., :5000])
        with pytest.raises(SilkInputError, match="NaN"):
            stream.encode(torch.full((1, 1, 20_000), torch.nan))
        with pytest.raises(SilkInputError, match="must be \\[1, 1, T\\]"):
            stream.encode(torch.zeros(2, 1, 5))
        tokens = torch.cat([stream.encode(audio[..., 5000:]), stream.finish()], dim=1)
    assert torch.equal(tokens, codec.encode(audio).tokens)


# ---------------------------------------------------------------- weights


def test_weight_norm_folds_to_the_same_function():
    codec = SilkCodec(TINY, seed=0).eval()
    audio = speech(3 * FRAME)
    assert any(".parametrizations." in name for name in codec.state_dict())
    with torch.no_grad():
        expected, sha = codec(audio), codec.weights_sha256
        codec.fold_weight_norm_()
        assert not any(".parametrizations." in name for name in codec.state_dict())
        torch.testing.assert_close(codec(audio), expected, rtol=1e-5, atol=1e-6)
    assert codec.weights_sha256 == sha


def test_weight_norm_keeps_a_channel_of_zeros_and_can_train_it():
    codec = SilkCodec(TINY, weight_norm=False, seed=0)
    conv = codec.decoder.units[0].conv2
    with torch.no_grad():
        conv.weight[3] = 0
    plain = conv.weight.detach().clone()
    codec.apply_weight_norm_()
    torch.testing.assert_close(conv.weight, plain)
    codec(speech(3 * FRAME)).square().sum().backward()
    gradient = conv.parametrizations.weight.original0.grad
    assert torch.isfinite(gradient).all()
    assert gradient[3] != 0


@pytest.mark.parametrize("weight_norm", [False, True])
def test_saved_and_loaded_codec_is_the_same(tmp_path, weight_norm):
    codec = make_codec()
    if weight_norm:
        codec.apply_weight_norm_()
    codec.save_pretrained(tmp_path / "model")
    loaded = SilkCodec.from_pretrained(tmp_path / "model")
    assert loaded.config == codec.config
    assert loaded.weights_sha256 == codec.weights_sha256
    assert not loaded.training
    audio = speech(3 * FRAME)
    assert torch.equal(loaded.encode(audio).tokens, codec.encode(audio).tokens)


def test_half_precision_checkpoint_keeps_its_hash_through_a_round_trip(tmp_path):
    make_codec().save_pretrained(tmp_path / "half", dtype=torch.float16)
    loaded = SilkCodec.from_pretrained(tmp_path / "half")
    loaded.save_pretrained(tmp_path / "again")
    assert SilkCodec.from_pretrained(tmp_path / "again").weights_sha256 == loaded.weights_sha256
    assert next(loaded.parameters()).dtype == torch.float32


def test_bundled_model_streams_as_it_codes_whole_signals(small):
    audio = speech(5 * FRAME + 1234, start=7000)
    whole = small.encode(audio)
    with small.streaming() as stream:
        tokens = [stream.encode(chunk) for chunk in audio.split(3333, dim=-1)]
        tokens.append(stream.finish())
    assert torch.equal(torch.cat(tokens, dim=1), whole.tokens)
    with small.streaming() as stream:
        decoded = torch.cat([stream.decode(frame) for frame in whole.tokens.split(1, dim=1)], dim=-1)
    expected = small.decode(whole.tokens, whole.lengths)
    torch.testing.assert_close(decoded[..., : audio.shape[-1]], expected, rtol=0, atol=1e-5)


def test_bundled_model_fits_in_32_megabytes_and_tells_how_it_was_trained(small):
    assert small.config == SilkConfig(output_delay=960)
    folder = find_model("silk-small-24khz")
    assert (folder / "model.safetensors").stat().st_size <= 32e6
    assert json.loads((folder / "training.json").read_text())[-1]["weights_sha256"] == small.weights_sha256
    assert small.weights_sha256 in (folder / "README.md").read_text()


def test_unknown_model_lists_the_bundled_ones():
    with pytest.raises(SilkModelError, match="unknown model 'silk-huge'; expected one of silk-small-24khz"):
        SilkCodec.from_pretrained("silk-huge")


def test_hub_id_is_downloaded(monkeypatch, tmp_path):
    make_codec().save_pretrained(tmp_path)
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, sorted(allow_patterns)))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert SilkCodec.from_pretrained("someone/silk").config == TINY
    assert asked == [("someone/silk", ["config.json", "model.safetensors", "training.json"])]


def test_unreachable_hub_is_explained(monkeypatch):
    def snapshot_download(name, allow_patterns):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(SilkModelError, match=r"cannot load 'someone/silk', neither a directory .*: no route to host"):
        SilkCodec.from_pretrained("someone/silk")


@pytest.fixture
def saved(tmp_path):
    make_codec().save_pretrained(tmp_path)
    return tmp_path


def test_weights_that_do_not_fit_are_refused(saved):
    (saved / "config.json").write_text(SilkConfig.preset("tiny", decoder_channels=32).to_json())
    with pytest.raises(SilkModelError, match=r"do not fit the configuration: decoder.* should be \(.*\), found \(.*\)"):
        SilkCodec.from_pretrained(saved)


def test_missing_weight_is_refused(saved):
    weights = load_file(saved / "model.safetensors")
    del weights["conformer.blocks.0.attention.u"]
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(SilkModelError, match=r"attention.u should be \(8, 16\), found nothing"):
        SilkCodec.from_pretrained(saved)


def test_damaged_weights_are_refused(saved):
    (saved / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(SilkModelError, match="cannot read weights"):
        SilkCodec.from_pretrained(saved)


def test_impossible_config_is_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "levels": 1}))
    with pytest.raises(SilkConfigError, match="levels must be at least 2"):
        SilkCodec.from_pretrained(saved)


def test_directory_without_a_model_is_refused(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(SilkModelError, match=r"no model\.safetensors in"):
        SilkCodec.from_pretrained(saved)
    shutil.rmtree(saved)
    saved.mkdir()
    with pytest.raises(SilkModelError, match=r"cannot read .*config.json: No such file"):
        SilkCodec.from_pretrained(saved)
