import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from vowelstudy import baselines


def bits(name, train, held_out, **kwargs):
    return baselines.densities(train, train[-5:], **kwargs)[name](held_out, 1).numpy()


def test_padding_costs_a_quarter_of_a_bit():
    blank = torch.zeros(40, 1, 192, 192)
    blank[:, 0, 0, :40] = torch.eye(40)  # equal pictures would get equal noise
    assert bits("diagonal Gaussian", blank, blank[:2]) == pytest.approx(
        0.5 * np.log2(2 * np.pi * np.e / 12), abs=0.05
    )


def test_uniform_pixels_cost_about_eight_bits():
    noise = torch.rand(60, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    cost = bits("diagonal Gaussian", noise[:50], noise[50:])
    assert cost.mean() == pytest.approx(8 + 0.5 * np.log2(2 * np.pi * np.e / 12), abs=0.05)


def drawn(n, seed=0):
    """Pictures of 4 x 4 pixels in a plane, with a little noise."""
    rng, plane = np.random.default_rng(seed), np.random.default_rng(9).normal(size=(2, 16)) * 0.06
    pixels = 0.5 + rng.normal(size=(n, 2)) @ plane + 0.02 * rng.normal(size=(n, 16))
    return torch.from_numpy(pixels).float().view(n, 1, 4, 4)


def test_what_lies_in_a_plane_costs_less_where_a_density_knows_planes():
    train, held_out = drawn(2000).clamp(0, 1), drawn(500, seed=1).clamp(0, 1)
    costs = {
        name: density(held_out, 1).mean().item()
        for name, density in baselines.densities(train, train[:50], 2, 1).items()
    }
    assert costs["probabilistic PCA"] < costs["diagonal Gaussian"] - 0.3
    assert costs["Gaussian mixture"] == pytest.approx(
        costs["diagonal Gaussian"], abs=1e-3
    )  # of one it is the same


def test_what_is_of_several_kinds_costs_less_where_a_density_knows_kinds():
    kinds = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    train = (kinds[torch.arange(600) % 3] + 0.01 * torch.randn(600, 1, 4, 4)).clamp(0, 1)
    costs = {
        name: density(train[:90], 1).mean().item()
        for name, density in baselines.densities(train, train[90:140], 1, 3).items()
    }
    assert costs["Gaussian mixture"] < costs["diagonal Gaussian"] - 1


def test_probabilistic_pca_is_the_gaussian_of_its_covariance(monkeypatch):
    """The covariance of standardized pixels is V (L - s I) V' + s I."""
    train, held_out = drawn(300).clamp(0, 1), drawn(20, seed=1).clamp(0, 1)
    y = baselines.dequantize(train, 0).flatten(1).double()
    mean, deviation = y.mean(0), y.std(0, correction=0)
    standard = ((y - mean) / deviation).numpy()
    monkeypatch.setattr(baselines, "LEAST", (baselines.NOISE,))
    values, vectors = np.linalg.eigh(standard.T @ standard / len(y))
    rest = values[:-3].mean()
    covariance = vectors[:, -3:] @ np.diag(values[-3:] - rest) @ vectors[:, -3:].T + rest * np.eye(16)
    z = ((baselines.dequantize(held_out, 1).flatten(1).double() - mean) / deviation).numpy()
    nats = multivariate_normal(np.zeros(16), covariance).logpdf(z) - deviation.log().sum().item()
    wanted = 8 - nats / np.log(2) / 16
    assert bits("probabilistic PCA", train, held_out, components=3) == pytest.approx(wanted, abs=2e-3)


def test_a_segment_longer_than_all_that_were_fitted_is_not_impossible():
    def segments(n, frames):
        pictures = torch.zeros(n, 1, 96, 96)
        pictures[:, :, :80, :frames] = torch.rand(
            n, 1, 80, frames, generator=torch.Generator().manual_seed(n)
        )
        return pictures

    for name, density in baselines.densities(segments(100, 40), segments(20, 64)).items():
        assert 0 < density(segments(10, 60), 1).max() < 14, name


def test_a_picture_that_pca_makes_nothing_of_costs_what_it_costs_to_know_nothing(monkeypatch):
    monkeypatch.setattr(baselines, "LEAST", (baselines.NOISE,))
    cost = bits("probabilistic PCA", 0.2 + 0.3 * drawn(200), torch.ones(1, 1, 4, 4), components=2)
    assert cost.item() == pytest.approx(8 - np.log2(baselines.LOST) / 16, abs=1e-3)


def test_a_cluster_of_one_picture_does_not_stop_the_mixture():
    pictures = torch.cat([0.2 + 0.01 * drawn(40), torch.ones(1, 1, 4, 4)])
    assert np.isfinite(bits("Gaussian mixture", pictures, pictures[-1:], components=2, mixed=8)).all()
