"""The end-to-end benchmark: what it calls is the codec, and whatever happens is a row."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from silk_fast.acceleration import Report, Swap, restore_
from silk_fast.acceleration.folding import Folding
from silk_fast.benchmark import codec as calls
from silk_fast.benchmark.codec import build_codec
from silk_fast.benchmark.codec_cases import DURATIONS, CodecCase, full_cases, quick_cases
from silk_fast.benchmark.codec_costs import codec_cost, codec_layers
from silk_fast.benchmark.costs import Ceilings
from silk_fast.benchmark.rows import OK, Timing
from silk_fast.benchmark.runner import Bench, row_with, run_job
from silk_fast.benchmark.timing import FEW, Measurement
from silk_fast.errors import SilkInputError

FRAME = CodecCase("decode_frame", 0.4, 1, "float32", "eager", 1, "tiny")
CLIP = CodecCase("encode", 1.0, 2, "float32", "eager", 1, "tiny")
CPU = torch.device("cpu")
FAST = Bench(CPU, seconds=0.02)


def source_of(case: CodecCase) -> torch.Tensor:
    return calls.example_input(case.config, case.direction, case.batch, case.n_samples)


def test_names_and_shapes():
    assert CLIP.name == "Silk tiny 24 kHz, 1 s, batch 2"
    assert CLIP.shape == "2x1x24000"
    assert replace(CLIP, op="decode").shape == "2x3x19"
    assert FRAME.name == "Silk tiny 24 kHz, one frame of 400 ms, batch 1"
    assert (FRAME.direction, FRAME.shape) == ("decode", "1x1x19")


def test_a_row_has_time_cost_and_the_case():
    row = run_job(CLIP, FAST)
    cost = codec_cost(CLIP.config, 3, 2, torch.float32, "encode")
    assert (row.status, row.section, row.op, row.provider, row.threads) == (OK, "codec", "encode", "eager", 1)
    assert (row.bytes, row.flops, row.seconds) == (cost.bytes, cost.flops, 2.0)
    assert 0 < row.call.p20 <= row.call.p50 <= row.call.p80
    assert row.kernel is None
    assert row.share is None


def test_the_share_is_the_floor_over_the_time():
    ceilings = Ceilings(1e10, 1e11, 1e11)
    found = Measurement(Timing(4.0, 5.0, 6.0, False))
    row = row_with(CLIP, replace(FAST, ceilings={(1, "float32"): ceilings}), found)
    layers = codec_layers(CLIP.config, 3, 2, torch.float32, "encode")
    floor, ceiling = ceilings.floor(layers.values())
    assert (row.share, row.ceiling) == (pytest.approx(floor / 5e-3), ceiling)


@pytest.mark.parametrize("op", ["encode", "decode"])
def test_calls_are_those_of_the_codec(op):
    case = replace(CLIP, op=op)
    codec, source = build_codec("tiny", torch.float32, "eager", CPU), source_of(case)
    call, _ = case.ready(CPU)
    result = call()
    if op == "encode":
        assert torch.equal(result.tokens, codec.encode(source).tokens)
    else:
        torch.testing.assert_close(result, codec.decode(source))


@pytest.mark.parametrize("op", ["encode_frame", "decode_frame"])
def test_frames_are_those_of_a_stream_that_goes_on(op):
    case = replace(FRAME, op=op)
    source = source_of(case)
    stream = build_codec("tiny", torch.float32, "eager", CPU).streaming()
    step = stream.encode if op == "encode_frame" else stream.decode
    call, _ = case.ready(CPU)
    for _ in range(2):
        torch.testing.assert_close(call(), step(source))


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_whole_signals_without_state_give_the_same(direction):
    """What compiled providers call on a GPU."""
    codec, case = build_codec("tiny", torch.float32, "eager", CPU), replace(CLIP, op=direction)
    source = source_of(case)
    with torch.no_grad():
        found = calls._whole(codec, direction, source)
    if direction == "encode":
        assert torch.equal(found, codec.encode(source).tokens)
    else:
        torch.testing.assert_close(found, codec.decode(source), atol=1e-5, rtol=1e-4)


def test_ours_without_any_kernel_on_a_gpu_is_a_failure(monkeypatch):
    monkeypatch.setattr(calls, "_seeded_codec", lambda preset: SimpleNamespace(to=lambda device: "codec"))
    swap = Swap("decoder", "Snake", "snake", "FoldedSnake", "no Triton")
    monkeypatch.setattr(calls, "accelerate_", lambda codec, dtype: Report((swap,)))
    with pytest.raises(SilkInputError, match="no kernel can be used: no Triton"):
        build_codec("tiny", torch.float32, "ours", "cuda")
    fused = replace(swap, replacement="FusedSnake", reason="")
    monkeypatch.setattr(calls, "accelerate_", lambda codec, dtype: Report((swap, fused)))
    assert build_codec("tiny", torch.float32, "ours", "cuda") == "codec"


def test_ours_is_not_measured_where_it_computes_something_else():
    on_gpu = Bench(torch.device("cuda"), wrong={("encode", "float32", "forward"): "failed: parity"})
    for provider, op, reason in (
        ("ours", "encode", "failed: parity"),
        ("ours", "encode_frame", "failed: parity"),
        ("ours", "decode", None),
        ("eager", "encode", None),
    ):
        assert replace(CLIP, provider=provider, op=op).absence(on_gpu) == reason


def test_ours_is_accelerated_and_eager_is_not():
    ours, eager = (build_codec("tiny", torch.float32, provider, CPU) for provider in ("ours", "eager"))
    assert any(isinstance(module, Folding) for module in ours.modules())
    restore_(ours)
    assert [type(a) for a in ours.modules()] == [type(b) for b in eager.modules()]


def test_absent_and_failing_providers_are_rows(monkeypatch):
    absent = run_job(replace(FRAME, provider="compile-max"), FAST)
    assert absent.status == "absent: CUDA graphs need an NVIDIA GPU"

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr(CodecCase, "ready", fail)
    threads = torch.get_num_threads()
    failed = run_job(replace(FRAME, threads=threads + 1), FAST)
    assert failed.status == "failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert failed.call is None
    assert failed.bytes > 0
    assert torch.get_num_threads() == threads


def test_long_calls_are_repeated_twice(monkeypatch):
    calls = []
    monkeypatch.setattr(CodecCase, "ready", lambda *_: (lambda: calls.append(time.sleep(0.03)), None))
    row = run_job(CLIP, FAST)
    assert len(calls) == 1 + FEW
    assert 30 <= row.call.p50 < 300


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_full_cases_are_distinct_and_cover_providers_durations_and_batches(device):
    threads = (1, 2) if device == "cpu" else (None,)
    cases = full_cases(device, threads)
    assert len(set(cases)) == len(cases)
    assert {case.provider for case in cases} == {"ours", "eager", "compile", "compile-max"}
    assert {case.op for case in cases} == {"encode", "decode", "encode_frame", "decode_frame"}
    assert {case.threads for case in cases} == set(threads)
    for n_threads in threads:
        mine = [case for case in cases if case.threads == n_threads and case.op == "encode" and case.batch == 1]
        for provider in ("ours", "eager"):
            assert set(DURATIONS) <= {case.seconds for case in mine if case.provider == provider}
    assert max(case.batch for case in cases) >= 8


def test_durations_on_fewer_threads_come_last():
    """They take longest, and say least."""
    long = [i for i, case in enumerate(full_cases("cpu", (1, 2))) if (case.threads, case.seconds) == (1, 3600.0)]
    assert min(long) > max(i for i, case in enumerate(full_cases("cpu", (1, 2))) if case.threads == 2)


def test_what_must_be_compiled_comes_last():
    names = [case.provider for case in full_cases("cuda", [None])]
    assert names == sorted(names, key=lambda name: {"compile": 1, "compile-max": 2}.get(name, 0))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_quick_cases_are_some_of_the_full_ones(device):
    quick, full = quick_cases(device, [1]), full_cases(device, [1])
    assert set(quick) <= set(full)
    assert len(quick) < len(full)


@pytest.mark.slow
def test_peak_memory_grows_with_the_signal_and_is_not_that_of_this_process():
    ballast = torch.ones(2**28)  # 1 GiB
    case = replace(CLIP, op="decode", batch=1)
    short, long = (replace(case, seconds=seconds).peak_memory() for seconds in (0.4, 400.0))
    assert 2**26 < short < long < ballast.nbytes
    assert long > short + 400 * 24_000 * 4
    assert replace(case, provider="compile").peak_memory() is None


@pytest.mark.slow
def test_peak_memory_says_when_its_process_fails():
    with pytest.raises(SilkInputError, match=r"measures memory failed: .*unknown preset 'none'"):
        CodecCase("encode", 1.0, 1, "float32", "eager", 1, "none").peak_memory()


@pytest.mark.slow
def test_import_needs_neither_triton_nor_sound_libraries():
    code = "import sys, json, silk_fast.benchmark.codec; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"triton", "matplotlib", "soundfile", "soxr", "safetensors"} & set(loaded)
