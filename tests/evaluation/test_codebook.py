"""Codebook statistics of digits with known statistics."""

import numpy as np
import pytest

from silk_fast.evaluation.codebook import codebook_use


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
