"""Whether ours and rivals compute what the reference computes, and what comes of it if not."""

import multiprocessing
import os
import time
from dataclasses import replace

import pytest
import torch

from bench import parity
from bench.ops import timing_cases
from tests.bench.support import CPU, case_id, streams, tiny_case, tiny_cases


@pytest.mark.slow
@pytest.mark.parametrize("case", tiny_cases(), ids=case_id)
def test_ours_agrees_with_the_reference(case):
    """In the interpreter: the very check that is made on a GPU before anything is measured."""
    parity.check(case, CPU)


@pytest.mark.slow
def test_a_fused_residual_unit_agrees_in_a_stream():
    """In half precision, from packed weights and with the context as a stream remembers it."""
    case = next(case for case in streams(1, torch.float16) if case.layer == "Silk small 75 Hz stream")
    parity.check(case, CPU)
    forgetful = replace(case, layouts={"ours": lambda *inputs: [*case.layouts["ours"](*inputs)[:-1], None]})
    with pytest.raises(AssertionError, match=r"residual_unit .*error"):
        parity.check(forgetful, CPU)


def test_parity_is_asked_of_all_that_is_measured():
    assert {case.family for case in parity.parity_cases()} == {case.family for case in timing_cases()}


def test_parity_sees_a_wrong_kernel():
    snake, pack = (tiny_case(op, "forward") for op in ("snake", "fsq_pack"))
    wrong = replace(snake, calls={**snake.calls, "ours": lambda x, *rest: snake.calls["eager"](x, *rest) + 1e-3})
    with pytest.raises(AssertionError, match=r"snake .*error"):
        parity.check(wrong, CPU)
    wrong = replace(pack, calls={**pack.calls, "ours": lambda z: pack.calls["eager"](z) + 1})
    with pytest.raises(AssertionError, match="integers differ"):
        parity.check(wrong, CPU)


@pytest.mark.parametrize("case", tiny_cases(), ids=case_id)
def test_library_rivals_compute_the_same(case):
    rivals = [name for name in case.calls if name not in ("ours", "eager", "cudnn", "flex_attention")]
    for name in rivals:
        parity.check(replace(case, calls={**case.calls, "ours": case.calls[name]}), CPU)


def test_flex_attention_computes_the_same(monkeypatch):
    """Uncompiled, for speed, and with gradients, which it refuses on a CPU but has: window, lookup, scale are ours."""
    from torch.nn.attention import flex_attention

    from bench import attention

    monkeypatch.setattr(attention, "_compiled_flex", lambda: flex_attention.flex_attention)
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    checked = set()
    for case in timing_cases([(2, 32), (2, 0.5)], [torch.float32]):
        if "flex_attention" in case.calls and case.sizes["T"] < 100:
            torch.compiler.reset()
            parity.check(replace(case, calls={**case.calls, "ours": case.calls["flex_attention"]}), CPU)
            checked.add((case.layer, case.direction))
    layers = ("Silk", "Wav2Vec2-Conformer", "Wav2Vec2-BERT")
    assert checked == {(layer, direction) for layer in layers for direction in ("forward", "backward")}


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_the_codec_is_checked_before_it_is_measured(direction, monkeypatch):
    monkeypatch.setattr(parity, "CODEC_SECONDS", 0.4)
    monkeypatch.setattr(parity, "CODEC_BATCH", 1)
    parity.check_codec(direction, CPU, "tiny")
    build = parity.build_codec

    def wrong(preset, dtype, provider, device):
        codec = build(preset, dtype, provider, device)
        if provider == "ours":
            for weight in (codec.encoder.parameters if direction == "encode" else codec.decoder.parameters)():
                weight.data.mul_(1.1)
        return codec

    monkeypatch.setattr(parity, "build_codec", wrong)
    with pytest.raises(AssertionError, match="away from a tie" if direction == "encode" else "audio differs by"):
        parity.check_codec(direction, CPU, "tiny")


# ---------------------------------------------------------------- all checks


SNAKE, PACK = ("snake", "float32", "forward"), ("fsq_pack", "float32", "forward")


@pytest.fixture
def checked(monkeypatch):
    """What :func:`parity.faults` finds within a time, where other checks are made."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(parity.multiprocessing, "get_context", lambda name: fork)

    def faults(seconds: float = 60.0, **checks):
        found = {name: (PACK if name.startswith("pack") else SNAKE, check) for name, check in checks.items()}
        monkeypatch.setattr(parity, "checks", lambda: found)
        return parity.faults(CPU, seconds)

    return faults


def passes(device):
    pass


def differs(device):
    raise AssertionError("differs by\nmuch")


def test_parity_results_decide_what_is_measured(checked):
    assert checked(pack=passes, snake=passes) == {}
    assert checked(snake=passes, snake2=differs, pack=passes) == {
        SNAKE: "failed: parity of snake2: AssertionError: differs by much"
    }


def test_what_parity_did_not_reach_is_skipped_and_has_not_failed(checked):
    faults = checked(1.0, snake=differs, snake2=lambda device: time.sleep(60), pack=passes)
    assert faults == {
        SNAKE: "failed: parity of snake: AssertionError: differs by much",
        PACK: "skipped: parity not reached within 1 s",
    }


def test_a_check_that_ends_the_process_leaves_nothing_unknown_to_be_measured(checked):
    faults = checked(1.0, snake=passes, pack=lambda device: os._exit(3))
    assert faults == {PACK: "skipped: parity not reached within 1 s"}
