"""Arguments are checked before anything is computed, and what is wrong with them is said; copies are complete."""

import copy
import pickle

import numpy as np
import pytest
import torch

from silk_fast import (
    EncodedAudio,
    SilkCodec,
    SilkConfig,
    SilkConfigError,
    SilkInputError,
    SilkModelError,
    accelerate_,
    restore_,
)
from silk_fast.errors import SilkFileError
from tests.support import FRAME, TINY, make_codec, speech


@pytest.fixture(scope="module")
def codec():
    """An untrained codec, not to be changed."""
    return make_codec()


@pytest.mark.parametrize("wrong", [-1, 0, 1.5, "2", True, [1], torch.tensor([1, 2])], ids=repr)
def test_chunk_frames_must_be_a_count(codec, wrong):
    encoded = codec.encode(speech(FRAME))
    for call, argument in ((codec.encode, speech(FRAME)), (codec.decode, encoded)):
        with pytest.raises(SilkInputError, match="chunk_frames must be an integer >= 1, got"):
            call(argument, chunk_frames=wrong)


@pytest.mark.parametrize("wrong", [0, -1, 1.0, None, "1", 10**12], ids=repr)
def test_batch_size_must_be_a_count(codec, wrong):
    with pytest.raises(SilkInputError, match=r"batch_size must be an integer in 1 \.\. 65536, got"):
        codec.streaming(wrong)


def test_what_encode_returns_is_what_decode_takes(codec):
    lengths = [30_000, 9_601]
    encoded = codec.encode(torch.cat([speech(30_000)] * 2), lengths)
    expected = codec.decode(encoded.tokens, encoded.lengths)
    assert torch.equal(codec.decode(encoded), expected)
    assert codec.decode(encoded, [100, 50]).shape[-1] == 100


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.zeros((1, 2, 19), np.int32), r"\[B, F, 19\] or what encode returned, got numpy.ndarray int32"),
        ([[[0] * 19]], r"got list \[\[\[0"),
        (None, "got NoneType None"),
        (torch.zeros(2, 19, dtype=torch.int32), r"got torch.int32 \(2, 19\)"),
        (torch.zeros(1, 2, 19, dtype=torch.int32, device="meta"), "must be a dense tensor with values"),
        (torch.zeros(1, 2, 19, dtype=torch.int32).to_sparse(), "must be a dense tensor with values"),
        (EncodedAudio(None, None, None), "got NoneType"),
    ],
    ids=["numpy", "list", "None", "rank", "meta", "sparse", "encoded"],
)
def test_what_are_no_tokens_is_named(codec, tokens, message):
    with pytest.raises(SilkInputError, match=message):
        codec.decode(tokens)
    if not isinstance(tokens, EncodedAudio):
        message = message.replace("B, F", "1, F").replace(" or what encode returned", "")
        with codec.streaming() as stream, pytest.raises(SilkInputError, match=message):
            stream.decode(tokens)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((1, 1, 5), np.float32), r"got numpy.ndarray float32 \(1, 1, 5\); torch.from_numpy\(\) makes"),
        ("speech.wav", "got str 'speech.wav'"),
        (None, "got NoneType None"),
        (torch.zeros(1, 1, 5, dtype=torch.complex64), "got torch.complex64"),
        (torch.zeros(1, 1, 5).to(torch.float8_e5m2), "got torch.float8_e5m2"),
        (torch.zeros(1, 1, 5, device="meta"), "must be a dense tensor with values"),
        (
            torch.full((1, 1, 5), 1e300, dtype=torch.float64),
            r"audio must be in \[-1, 1\], got samples of magnitude 1e\+300",
        ),
    ],
    ids=["numpy", "text", "None", "complex", "float8", "meta", "float64"],
)
def test_what_is_no_audio_is_named(codec, audio, message):
    with pytest.raises(SilkInputError, match=message):
        codec.encode(audio)
    with codec.streaming() as stream, pytest.raises(SilkInputError, match=message):
        stream.encode(audio)


@pytest.mark.parametrize(
    "lengths",
    [["a"], [None], [10**30], [[1], [2, 3]], "12", 5, [True], [1j], object(), torch.zeros(1, device="meta")],
    ids=["text", "None", "large", "ragged", "digits", "number", "truth", "complex", "object", "meta"],
)
def test_what_are_no_lengths_is_named(codec, lengths):
    encoded = codec.encode(speech(FRAME))
    for call in (lambda: codec.encode(speech(FRAME), lengths), lambda: codec.decode(encoded.tokens, lengths)):
        with pytest.raises(SilkInputError, match=r"lengths must be (1 integer, one a signal|a dense tensor)"):
            call()


def test_what_follows_a_signal_is_ignored_whatever_it_is(codec):
    audio = torch.full((2, 1, 3 * FRAME), torch.nan)
    audio[0, :, :5000], audio[1] = speech(5000)[0], speech(3 * FRAME)[0]
    tokens = codec.encode(audio, [5000, 3 * FRAME]).tokens
    assert torch.equal(tokens[:1, :1], codec.encode(speech(5000)).tokens[:, :1])
    with pytest.raises(SilkInputError, match="NaN or infinite samples in row 0"):
        codec.encode(audio, [5001, 3 * FRAME])


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps:7", "meta", None, 10**30, [], 1.5], ids=repr)
def test_a_device_that_cannot_be_used_is_named(model, device):
    with pytest.raises(SilkInputError, match=r"device .*; expected one"):
        SilkCodec.from_pretrained(model, device=device)


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="this machine has one")
@pytest.mark.parametrize("device", ["cuda", "mps", torch.device("cuda", 0)], ids=str)
def test_a_device_that_is_absent_is_named(model, device):
    with pytest.raises(SilkInputError, match=r"device .* cannot be used: .*; expected one of cpu"):
        SilkCodec.from_pretrained(model, device=device)


def test_weights_without_values_or_of_several_kinds_are_named():
    with torch.device("meta"):
        codec = SilkCodec(TINY)
    with pytest.raises(SilkInputError, match="on one device that computes, its weights are on meta"):
        codec.encode(speech(FRAME))
    codec = make_codec()
    codec.conformer.double()
    with pytest.raises(SilkInputError, match=r"weights of one dtype, they are torch.float32, torch.float64"):
        codec.encode(speech(FRAME))


@pytest.mark.parametrize("config", ["small", {}, 5], ids=repr)
def test_a_configuration_must_be_one(config):
    with pytest.raises(SilkInputError, match="config must be a SilkConfig, got"):
        SilkCodec(config)


@pytest.mark.parametrize("seed", ["1", 1.5, 2**64, True], ids=repr)
def test_a_seed_must_be_an_integer(seed):
    with pytest.raises(SilkInputError, match="seed must be an integer in"):
        SilkCodec(TINY, seed=seed)


@pytest.mark.parametrize("name", [None, 5, b"model", "a\0b", "x" * 5000, "\ud800", ["silk-small-24khz"]], ids=ascii)
def test_a_name_that_no_model_has_is_refused(name):
    with pytest.raises(SilkModelError, match="expected one of silk-small-24khz"):
        SilkCodec.from_pretrained(name)


def test_where_a_model_cannot_be_saved_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "model", "a\0b", "x" * 5000):
        with pytest.raises(SilkFileError, match="cannot be made a directory"):
            make_codec().save_pretrained(directory)
    for directory in (None, 5, b"model"):
        with pytest.raises(SilkInputError, match="directory must be text or a path"):
            make_codec().save_pretrained(directory)


def test_weights_are_not_saved_where_the_dtype_cannot_hold_them(tmp_path):
    codec = make_codec()
    for dtype in (torch.int8, "float16", torch.complex64, torch.bool):
        with pytest.raises(SilkInputError, match=r"dtype must be one of torch\.float32"):
            codec.save_pretrained(tmp_path / "model", dtype)
    with torch.no_grad():
        codec.conformer.blocks[0].attention.u[0, 0] = 1e6
    with pytest.raises(SilkModelError, match=r"saved as torch.float16: conformer.blocks.0.attention.u must be finite"):
        codec.save_pretrained(tmp_path / "model", torch.float16)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda codec: pickle.loads(pickle.dumps(codec))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("weight_norm", [False, True])
def test_copies_are_complete(weight_norm, twin, accelerated):
    codec = make_codec()
    if weight_norm:
        codec.apply_weight_norm_()
    codec.conformer.requires_grad_(False)
    if accelerated:
        accelerate_(codec)
    other = twin(codec)
    assert other.config == codec.config
    assert other.training == codec.training
    assert {n: p.requires_grad for n, p in other.named_parameters()} == {
        n: p.requires_grad for n, p in codec.named_parameters()
    }
    for name, tensor in codec.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    for each in (codec, other):
        restore_(each)  # kernels that are interpreted are slow
    assert torch.equal(other.encode(speech(FRAME)).tokens, codec.encode(speech(FRAME)).tokens)


def test_folding_a_copy_leaves_the_original_as_it_was():
    codec = make_codec().apply_weight_norm_()
    expected = codec.encode(speech(FRAME)).tokens
    folded = copy.deepcopy(codec).fold_weight_norm_()
    assert torch.equal(codec.encode(speech(FRAME)).tokens, expected)
    assert torch.equal(pickle.loads(pickle.dumps(folded)).encode(speech(FRAME)).tokens, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model",), "model must be a torch.nn.Module, got 'model'"),
        ((make_codec(), 5), "ops must be names of operations, got 5"),
        ((make_codec(), [None, "snake"]), "ops must be names of operations, got None"),
    ],
    ids=["model", "number", "None"],
)
def test_what_cannot_be_accelerated_is_named(arguments, message):
    with pytest.raises(SilkInputError, match=message):
        accelerate_(*arguments)


def test_what_cannot_be_restored_is_named():
    with pytest.raises(SilkInputError, match=r"model must be a torch\.nn\.Module, got None"):
        restore_(None)


@pytest.mark.parametrize("n_samples", [-1, 1.5, "5", None], ids=repr)
def test_samples_are_a_count(n_samples):
    with pytest.raises(SilkInputError, match="n_samples must be an integer >= 0, got"):
        TINY.n_frames(n_samples)


def test_a_change_of_a_preset_must_be_one():
    with pytest.raises(SilkConfigError, match="unknown fields: colour"):
        SilkConfig.preset("tiny", colour=3)
    with pytest.raises(SilkConfigError, match="unknown preset"):
        SilkConfig.preset(["tiny"])


@pytest.mark.parametrize("chunk_frames", [2**63, 10**30])
def test_more_frames_at_once_than_there_are_is_all_of_them(codec, chunk_frames):
    audio = speech(2 * FRAME)
    encoded = codec.encode(audio, chunk_frames=chunk_frames)
    assert torch.equal(encoded.tokens, codec.encode(audio, chunk_frames=2).tokens)
    assert torch.equal(codec.decode(encoded, chunk_frames=chunk_frames), codec.decode(encoded, chunk_frames=3))


def test_what_encode_returned_can_be_compared(codec):
    first, second = codec.encode(speech(FRAME)), codec.encode(speech(FRAME))
    assert first == first
    assert first != second
    assert len({first, second}) == 2


def test_nested_tensors_are_refused(codec):
    audio = torch.nested.nested_tensor([speech(FRAME)[0]] * 2, layout=torch.jagged)
    tokens = torch.nested.nested_tensor([torch.zeros(1, 19).int()] * 2, layout=torch.jagged)
    stream = codec.streaming()
    for call in (codec.encode, stream.encode):
        with pytest.raises(SilkInputError, match="audio must be a dense tensor with values, got one that is nested"):
            call(audio)
    for call in (codec.decode, stream.decode):
        with pytest.raises(SilkInputError, match="tokens must be a dense tensor"):
            call(tokens)
    with pytest.raises(SilkInputError, match="state pending must be a dense tensor"):
        stream.state.load({**stream.state.tensors(), "pending": audio})


@pytest.mark.parametrize(
    ("dtype", "weight_norm"), [(torch.complex64, True), (torch.float8_e4m3fn, True), (torch.complex64, False)]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_that_nothing_is_computed_in_are_named(tmp_path, dtype, weight_norm):
    codec = make_codec()
    codec = codec.apply_weight_norm_() if weight_norm else codec
    codec.to(dtype)
    for call in (
        lambda: codec.encode(speech(FRAME)),
        lambda: codec.weights_sha256,
        lambda: codec.save_pretrained(tmp_path),
    ):
        with pytest.raises(SilkInputError, match=f"weights (of|are) .*{dtype}"):
            call()


def test_weights_without_values_are_neither_hashed_nor_saved(tmp_path):
    codec = make_codec().to("meta")
    for call in (lambda: codec.weights_sha256, lambda: codec.save_pretrained(tmp_path / "m")):
        with pytest.raises(SilkInputError, match="on meta"):
            call()
    assert not (tmp_path / "m").exists()


def test_empty_names_are_refused(codec):
    with pytest.raises(SilkInputError, match="directory must have a name"):
        codec.save_pretrained("")
    with pytest.raises(SilkModelError, match="cannot have an empty name"):
        SilkCodec.from_pretrained("")


@pytest.mark.parametrize("name", ["is_finished", "n_skip", "conformer.blocks.0.attention.n_valid"])
def test_a_state_beyond_its_range_is_refused(codec, name):
    state = codec.streaming().state
    tensors = state.tensors()
    tensors[name] = torch.full_like(tensors[name], 5000)
    with pytest.raises(SilkInputError, match=f"state {name}: expected at most"):
        state.load(tensors)


class NoPath:
    def __fspath__(self):
        raise KeyError("no path")


def test_what_cannot_say_its_path_is_refused(codec):
    with pytest.raises(SilkModelError, match="cannot look for model"):
        SilkCodec.from_pretrained(NoPath())
    with pytest.raises(SilkFileError, match="cannot be made a directory"):
        codec.save_pretrained(NoPath())
