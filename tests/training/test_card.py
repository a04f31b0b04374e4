"""The card of a trained model."""

import json

from silk_fast import SilkCodec
from silk_fast.cli import main
from silk_fast.training.config import Stage2Config
from silk_fast.training.run import train
from tests.training.runs import options


def test_the_card_tells_how_the_model_came_about(finished, speech_folder, tmp_path):
    again = Stage2Config(preset="tiny", steps=1, batch_size=1, crop_seconds=0.4, precision="fp32")
    train(again, [speech_folder], options(tmp_path / "again"), init=str(finished / "model"))
    model = tmp_path / "again" / "model"
    assert main(["train", "card", str(model)]) == 0
    card = (model / "README.md").read_text()
    rows = [line for line in card.splitlines() if "Stage2" in line]
    assert [row.split("|")[4].strip() for row in rows] == ["2", "1"]
    assert "Not evaluated yet" in card
    evaluation = tmp_path / "evaluation.json"
    sha = SilkCodec.from_pretrained(model).weights_sha256
    scores = {"weights_sha256": sha, "groups": {"held-out voices": {"Silk": {"ESTOI": 0.5, "PESQ": None}}}, "clips": []}
    evaluation.write_text(json.dumps(scores))
    assert main(["train", "card", str(model), "--evaluation", str(evaluation)]) == 0
    assert "| Silk | 0.5 | — |" in (model / "README.md").read_text()
    kept = (model / "evaluation.json").read_bytes()
    for wrong in ({**scores, "weights_sha256": "0" * 64}, {"a": 1}, [1, 2]):
        evaluation.write_text(json.dumps(wrong))
        assert main(["train", "card", str(model), "--evaluation", str(evaluation)]) == 1
        assert (model / "evaluation.json").read_bytes() == kept
    card = (model / "README.md").read_text()
    assert "whoever trained the model" in card  # the licence of a folder of recordings is not ours to state
    assert "eSpeak" not in card
    training = json.loads((model / "training.json").read_text())
    (model / "training.json").write_text(json.dumps([{**run, "synthetic": True, "hours": 0.0} for run in training]))
    assert main(["train", "card", str(model)]) == 0
    assert "eSpeak NG is under the GPL" in (model / "README.md").read_text()
    recorded = {"synthetic": False, "described": True, "sources": {"some-sounds": "CC-BY-3.0"}, "hours": 1.0}
    (model / "training.json").write_text(json.dumps([{**run, **recorded} for run in training]))
    assert main(["train", "card", str(model)]) == 0
    assert "each under its licence:\nsome-sounds (CC-BY-3.0)." in (model / "README.md").read_text()


def test_the_card_of_a_model_that_was_not_trained_here(finished, tmp_path, capsys):
    (finished / "model" / "training.json").unlink()
    assert main(["train", "card", str(finished / "model")]) == 1
    assert "no training.json" in capsys.readouterr().err
