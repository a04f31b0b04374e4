"""The difference of two result files, from rows whose figures are known."""

from dataclasses import replace

import pytest

from bench import difference
from bench.difference import changes
from silk_fast.benchmark.rows import Row
from tests.bench.support import SNAKE, row, timing, write


def kinds(old: list[Row], new: list[Row]) -> list[tuple[str, str]]:
    return [(kind, row.provider) for kind, _, row, _ in changes(old, new)]


def test_regressions_beyond_noise_are_found_and_come_first():
    old = [row("ours", 1.0), row("eager", 1.0), row("compile", 1.0), row("sdpa", 1.0), row("cudnn", 1.0)]
    new = [row("ours", 1.2), row("eager", 0.5), row("compile", 1.04), row("sdpa", 2.0), row("flex_attention", 1.0)]
    assert kinds(old, new) == [("slower", "sdpa"), ("slower", "ours"), ("faster", "eager")]
    assert [ratio for _, ratio, *_ in changes(old, new)] == [pytest.approx(r) for r in (2.0, 1.2, 0.5)]


def test_what_lies_in_the_range_of_the_other_is_noise():
    wide = timing(1.0, spread=0.3)
    assert changes([row(call=wide, kernel=None)], [row(milliseconds=1.2, kernel=None)]) == []
    assert changes([row(kernel=None)], [row(call=timing(1.2, spread=0.3), kernel=None)]) == []


def test_a_slower_kernel_counts_although_the_call_is_equal():
    ((kind, _, _, text),) = changes([row()], [row(kernel=timing(2.0))])
    assert (kind, text) == ("slower", "kernel 0.9 -> 2 ms")


def test_what_is_noisy_is_apart():
    noisy = row("ours", 2.0, call=timing(2.0, noisy=True), kernel=None)
    found = kinds([row("ours", kernel=None), row("eager")], [noisy, row("eager", 2.0)])
    assert sorted(found) == [("noisy", "ours"), ("slower", "eager")]
    both = replace(noisy, kernel=timing(3.0))  # a steady figure counts
    ((kind, _, _, text),) = changes([row("ours")], [both])
    assert (kind, text) == ("slower", "kernel 0.9 -> 3 ms")


def test_kernel_times_of_another_kind_are_not_compared():
    assert changes([row(captured=True)], [row(captured=False, kernel=timing(9.0))]) == []


def test_a_change_of_the_machine_is_a_warning_and_no_regression():
    card = replace(SNAKE, section="card", op="copy", provider="eager")
    assert kinds([row("eager", 1.0, base=card)], [row("eager", 1.3, base=card)]) == [("machine", "eager")]


@pytest.mark.parametrize("status", ["skipped: time budget", "absent: no GPU"])
def test_what_was_left_out_is_neither_slower_nor_faster(status):
    left_out = row(milliseconds=0, status=status)
    assert changes([row()], [left_out]) == changes([left_out], [row()]) == []


def test_a_figure_lost_is_a_regression_and_one_gained_an_improvement():
    failed = row(milliseconds=0, status="failed: OutOfMemoryError")
    ((kind, _, _, text),) = changes([row()], [failed])
    assert (kind, text) == ("slower", "ok -> failed: OutOfMemoryError")
    assert kinds([failed], [row()]) == [("faster", "ours")]
    assert changes([failed], [failed]) == []


def test_the_command_exits_with_1_on_a_regression(tmp_path, capsys):
    old, new = (str(write(tmp_path / f"{n}.json", [row(milliseconds=n)])) for n in (1.0, 2.0))
    assert difference.main([old, new]) == 1
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == "slower: ops snake forward, Silk small 24 kHz, 10 s, batch 8, float32, ours: 2.00x, call 1 -> 2 ms"
    assert difference.main([new, old]) == 0
    assert difference.main([old, old]) == 0
