"""Predicted floors."""

import torch

from bench import roofline
from bench.roofline import CARDS, predict_codec, predict_ops
from silk_fast.benchmark.costs import FORMULAS, NO_GRADIENT, op_cost

SINGLE = torch.float32


def test_predictions_cover_every_card_and_better_cards_are_no_slower():
    assert [card.name for card in CARDS] == ["RTX 3090", "RTX 4090", "A100 80 GB SXM", "H100 SXM", "H200"]
    for row in (*predict_ops(), *predict_codec()):
        assert row.seconds.keys() == {card.name for card in CARDS}
        assert 0 < row.seconds["H200"] <= row.seconds["H100 SXM"] <= row.seconds["RTX 3090"]


def test_ops_are_predicted_forward_and_where_they_have_gradients_backward():
    names = {row.name for row in predict_ops()}
    ops = FORMULAS.keys() - {"polar_istft_stream"}
    assert names == {f"{op} forward" for op in ops} | {f"{op} backward" for op in ops if op not in NO_GRADIENT}
    found = {(row.name, row.dtype): row for row in predict_ops()}
    assert found["snake backward", "float32"].cost == op_cost("snake", "backward", SINGLE, B=8, C=32, T=240_000)


def test_command_labels_what_it_prints_as_predicted(capsys):
    assert roofline.main([]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if "microseconds" in line]
    assert len(titles) == 2
    assert all("predicted from published specifications" in line for line in titles)
