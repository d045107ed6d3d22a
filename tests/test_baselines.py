import numpy as np
import pytest
import torch

from vowelflow import baselines
from vowelflow.spectrogram import images


def test_padding_costs_a_quarter_of_a_bit():
    blank = torch.zeros(40, 1, 288, 288)
    blank[:, 0, 0, :40] = torch.eye(40)  # equal pictures would get equal noise
    bits = baselines.diagonal_gaussian_bits(blank, blank[:2])
    assert bits.numpy() == pytest.approx(0.5 * np.log2(2 * np.pi * np.e / 12), abs=0.05)


def test_uniform_pixels_cost_about_eight_bits():
    noise = torch.rand(60, 1, 288, 288, generator=torch.Generator().manual_seed(0))
    bits = baselines.diagonal_gaussian_bits(noise[:50], noise[50:])
    assert bits.mean() == pytest.approx(8 + 0.5 * np.log2(2 * np.pi * np.e / 12), abs=0.05)


def test_pca_samples_have_the_mean_and_spread_of_what_they_imitate(klatt):
    known = images(klatt)
    drawn = baselines.pca_gaussian_samples(known, 200, components=20)
    assert drawn.shape == (200, 1, 288, 288) and drawn.min() >= 0 and drawn.max() <= 1
    occupied = known.mean(0) > 0.3
    assert (drawn.mean(0) - known.mean(0))[occupied].abs().mean() < 0.05
    assert torch.equal(drawn[:3], baselines.pca_gaussian_samples(known, 200, components=20)[:3])
