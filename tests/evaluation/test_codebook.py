"""Codebook statistics of digits with known statistics."""

import numpy as np
import pytest
import torch

from silk_fast import SilkCodec
from silk_fast.evaluation import latent
from silk_fast.evaluation.codebook import codebook_use
from tests.programs import needs


def test_uniform_digits_have_three_bits():
    digits = np.stack([np.arange(800) % 8, (np.arange(800) * 3) % 8], axis=1)
    use = codebook_use(digits, 8, 2.5)
    np.testing.assert_allclose(use.entropy, 3)
    assert use.levels_used.tolist() == [8, 8]
    np.testing.assert_allclose(use.saturation, 0.25)
    assert use.effective_bits_per_second == pytest.approx(2 * 3 * 2.5)
    assert use.collapsed == []
    assert use.n_frames == 800


def test_collapsed_dimensions_are_found():
    constant, two = np.full(100, 5), np.arange(100) % 2 * 7
    rare = np.where(np.arange(100) < 5, 3, 4)  # 0.29 bit
    use = codebook_use(np.stack([constant, two, rare], axis=1), 8, 2.5)
    np.testing.assert_allclose(use.entropy, [0, 1, -0.05 * np.log2(0.05) - 0.95 * np.log2(0.95)], atol=1e-12)
    assert use.collapsed == [0, 2]
    assert use.levels_used.tolist() == [1, 2, 2]
    assert use.saturation.tolist() == [0, 1, 0]
    assert use.share_of_levels.tolist() == [0.125, 0.25, 0.25]
    assert use.summary()["fewest levels used"] == 1
    assert use.summary()["collapsed dimensions"] == 2


@needs("espeak-ng")
def test_the_bundled_model_uses_its_codebook():
    """At least 90 % of the levels in every dimension, none collapsed, on speech of voices that were held out."""
    codec, digits = SilkCodec.from_pretrained("silk-small-24khz"), []
    for voice in latent.VOICES:
        audio = torch.from_numpy(np.concatenate([latent.speak(text, voice) for text in latent.SENTENCES]))
        codes = codec.quantizer.decode(codec.encode(audio[None, None]).tokens)[0]
        digits.append(((codes + 1) * 4).round().long().numpy())
    use = codebook_use(np.concatenate(digits), 8, codec.config.frame_rate)
    assert use.share_of_levels.min() >= 0.9
    assert use.collapsed == []
    assert use.entropy.mean() > 2
