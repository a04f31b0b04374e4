"""Runs of both stages on the tiny preset: they learn, and leave models, pictures and sound."""

from dataclasses import replace

import pytest
import soundfile
import torch
import torch.nn.functional as F

from silk_fast import SilkCodec, SilkConfig
from silk_fast.cli import main
from silk_fast.errors import SilkConfigError
from silk_fast.training.adaptation import set_output_delay_
from silk_fast.training.config import Stage1Config, Stage2Config
from silk_fast.training.loop import RunOptions
from silk_fast.training.run import make_stage, train
from tests.training.conftest import RATE, voiced
from tests.training.runs import SHARED, SIX_STEPS, STAGE2, log_of, options


@pytest.fixture(scope="module")
def one_clip(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("one") / "clip.wav"
    soundfile.write(path, voiced(2.0, 120, 0), RATE)
    return str(path)


@pytest.mark.slow
def test_stage2_overfits_one_clip_and_exports_a_loadable_codec(one_clip, tmp_path):
    """The loss of a two-second clip falls from above 2 to below 1.3, and the exported codec has learned it too."""
    config = Stage2Config(
        **{**SHARED, "warmup_steps": 20}, steps=100, batch_size=1, crop_seconds=2.0, learning_rate=3e-3
    )
    result = train(config, [one_clip], options(tmp_path / "run", log_every=10, listen_every=100))
    losses = [row["loss"] for row in log_of(tmp_path / "run")]
    assert losses[0] > 2
    assert losses[-1] < 1.3
    codec = SilkCodec.from_pretrained(result["model"])
    assert codec.config == SilkConfig.preset("tiny")
    audio = torch.from_numpy(voiced(2.0, 120, 0))[None, None]
    decoded = codec.decode(codec.encode(audio).tokens, torch.tensor([audio.shape[-1]]))
    untrained = SilkCodec(SilkConfig.preset("tiny"), seed=0).eval()
    distance = make_stage(config, torch.device("cpu"), RunOptions(tmp_path)).reconstruction
    assert distance(decoded, audio)["mel"] < 0.6 * distance(untrained(audio[..., :48000]), audio)["mel"]


def test_stage1_predicts_masked_latents_without_collapse_and_stage2_goes_on_from_it(one_clip, speech_folder, tmp_path):
    config = Stage1Config(**{**SHARED, "warmup_steps": 20}, steps=50, batch_size=2, crop_seconds=2.0)
    result = train(config, [speech_folder], options(tmp_path / "run"))
    rows = log_of(tmp_path / "run")
    first, last = (sum(row["loss"] for row in part) / 10 for part in (rows[:10], rows[-10:]))
    assert last < 0.5 * first
    assert rows[-1]["effective_rank"] > 4
    assert rows[-1]["latent_variance_smallest"] > 1e-3
    stage = make_stage(STAGE2, torch.device("cpu"), RunOptions(tmp_path), init=result["model"])
    exported = SilkCodec.from_pretrained(result["model"], weight_norm=True)
    torch.testing.assert_close(stage.codec.encoder.input.weight, exported.encoder.input.weight)


def test_another_output_delay_begins_where_the_model_was(speech_folder, tmp_path):
    """The encoder looks as much further back as the decoder lags, so the codes mean what they meant."""
    codec = SilkCodec(SilkConfig.preset("tiny"), seed=0, weight_norm=False).eval()
    gather = codec.encoder.stages[-1].down
    with torch.no_grad():
        gather.weight[..., :3] = 0  # the taps that fall away
    codec.save_pretrained(tmp_path / "model")
    x = torch.randn(1, gather.in_channels, 3 * gather.stride[0], generator=torch.Generator().manual_seed(0))
    before = gather(F.pad(x[..., :-3], (3, 0)))
    start = ["train", "stage2", speech_folder, "--preset", "tiny", "--steps", "1", "--batch-size", "1"]
    start += ["--crop-seconds", "0.8", "--init", str(tmp_path / "model"), "-o"]
    arguments = torch.device("cpu"), RunOptions(tmp_path), str(tmp_path / "model")
    stage = make_stage(replace(STAGE2, output_delay=960), *arguments)
    assert stage.codec.config == replace(codec.config, output_delay=960)
    torch.testing.assert_close(stage.codec.encoder.stages[-1].down(x), before)
    stage.codec.fold_weight_norm_()
    back = set_output_delay_(stage.codec, 0)
    torch.testing.assert_close(back.plain_state_dict(), codec.plain_state_dict())
    with pytest.raises(SilkConfigError, match="multiple of 320 samples, got 500"):
        make_stage(replace(STAGE2, output_delay=500), *arguments)
    assert main([*start, str(tmp_path / "lagging"), "--output-delay", "960"]) == 0
    start[-2] = str(tmp_path / "lagging" / "model")
    assert main([*start, str(tmp_path / "again")]) == 0
    assert SilkCodec.from_pretrained(tmp_path / "again" / "model").config.output_delay == 960


def test_stage2_listens_with_wavlm_and_logs_pictures_and_sound(speech_folder, tiny_wavlm, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = Stage2Config(**{**SIX_STEPS, "steps": 1}, crop_seconds=0.8, wavlm=tiny_wavlm)
    train(config, [speech_folder], options(tmp_path, listen_every=1))
    assert log_of(tmp_path)[-1]["wavlm"] > 0
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"original", "decoded"} <= set(tags["audio"])
    assert {"original/spectrogram", "decoded/spectrogram"} <= set(tags["images"])
    assert events.Scalars("loss")[0].step == 1
