"""Configurations: presets, JSON, and refusals that name the value."""

import json

import pytest

from silk_fast import SilkConfig, SilkConfigError


def test_small_preset_has_the_sizes_of_the_codec():
    config = SilkConfig.preset("small")
    assert config == SilkConfig()
    assert (config.hop_samples, config.frame_samples, config.frame_rate) == (320, 9600, 2.5)
    assert (config.tokens_per_frame, config.bitrate) == (19, 960.0)
    assert config.encoder_channels == (32, 64, 96, 192, 256)


def test_base_preset_differs_in_width_only():
    base = SilkConfig.preset("base")
    assert base.encoder_channels == (64, 128, 256, 512, 768)
    assert (base.decoder_width, base.decoder_channels, base.tokens_per_frame) == (768, 512, 19)


@pytest.mark.parametrize(
    ("n_samples", "delay", "frames"),
    [
        *((1, 0, 1), (9599, 0, 1), (9600, 0, 1), (9601, 0, 2), (100_000, 0, 11), (24_000 * 61, 0, 153)),
        *((1, 960, 1), (8640, 960, 1), (8641, 960, 2), (9600, 960, 2), (100_000, 960, 11), (24_000 * 61, 960, 153)),
    ],
)
def test_frames_are_the_ceiling(n_samples, delay, frames):
    assert SilkConfig(output_delay=delay).n_frames(n_samples) == frames


def test_json_round_trip():
    config = SilkConfig.preset("base", output_delay=960, attention_right=None)
    assert SilkConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_strides": (8, 0, 5)}, "encoder_strides must be a list of integers >= 1, got \\(8, 0, 5\\)"),
        ({"encoder_strides": (8, 8)}, "encoder_channels must have two more entries"),
        ({"encoder_strides": (8, 8, 7)}, "n_fft must be a multiple, at least 3, .*448"),
        ({"dilations": 3}, "dilations must be a list of integers >= 1, got 3"),
        ({"encoder_strides": ()}, "encoder_strides must be a list"),
        ({"levels": 1}, "levels must be at least 2, got 1"),
        ({"levels": 8.0}, "levels must be an integer >= 1, got 8.0"),
        ({"levels": 64}, "does not fit an int32"),
        ({"group_size": 11}, "group_size 11 digits of 8 levels does not fit"),
        ({"conformer_heads": 7}, "conformer_heads must divide latent_dim, got 7 and 128"),
        ({"latent_dim": True}, "latent_dim must be an integer"),
        ({"n_fft": 640}, "n_fft must be a multiple"),
        ({"output_delay": -1}, "output_delay must be an integer >= 0, got -1"),
        ({"output_delay": 9600}, "output_delay must be shorter than a frame of 9600 samples, got 9600"),
        ({"attention_left": -1}, "attention_left must be an integer >= 0 or null, got -1"),
    ],
)
def test_impossible_values_are_named(change, message):
    with pytest.raises(SilkConfigError, match=message):
        SilkConfig(**change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object, got list"),
        (json.dumps({"colour": 3, "levels": 8}), "unknown fields: colour"),
        (json.dumps({"levels": "8"}), "levels must be an integer >= 1, got '8'"),
    ],
)
def test_bad_json_is_refused(text, message):
    with pytest.raises(SilkConfigError, match=message):
        SilkConfig.from_json(text)


def test_unknown_preset_lists_the_known():
    with pytest.raises(SilkConfigError, match="unknown preset 'huge'; expected one of base, small, tiny"):
        SilkConfig.preset("huge")
