"""Discriminators find what differs, and nothing where nothing does; see ``test_controls`` for real speech."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vowelflow.spectrogram import images
from vowelstudy import discriminator
from vowelstudy.discriminator import controls, fit_network, fit_trees, network_inputs


@pytest.fixture(scope="module")
def tokens(klatt):
    return images(klatt)


def test_the_same_seed_says_the_same(tokens, monkeypatch):
    monkeypatch.setattr(discriminator, "STEPS", 5)
    views = [SimpleNamespace(inputs=network_inputs(one)) for one in (tokens, torch.rand_like(tokens))]
    before = torch.random.get_rng_state()
    scores = [fit_network(*views, seed)(views[0]) for seed in (3, 3, 4)]
    assert np.array_equal(scores[0], scores[1]) and not np.array_equal(scores[0], scores[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_controls_of_padded_pictures_keep_their_padding(klatt):
    real = images(klatt.take(range(12)), observation="padded")
    made = controls(real)
    assert (made["upside-down tokens"](6)[:, :, 257:] == 0).all()
    noise = made["noise in a token's extent"](6)
    assert ((noise > 0).float().mean((1, 2, 3)) < 0.6).all()
    assert made["means of 8 tokens"](2).shape == made["sparse dots"](2).shape == (2, 1, 288, 288)


def table(rng, count, shift=0.0):
    found = pd.DataFrame(rng.standard_normal((count, 3)) + shift, columns=["f0", "hnr", "tilt"])
    return found.mask(rng.random(found.shape) < 0.1)  # Praat does not always find a measure


def test_trees_find_a_shift_and_nothing_where_there_is_none():
    rng = np.random.default_rng(0)
    real, same, shifted = (SimpleNamespace(acoustics=table(rng, 200, shift)) for shift in (0, 0, 2))
    new = [SimpleNamespace(acoustics=table(rng, 200, shift)) for shift in (0, 2)]

    def area(score):
        return (score(new[0])[:, None] > score(new[1])).mean()

    assert area(fit_trees(real, shifted, 0)) > 0.95
    assert area(fit_trees(real, same, 0)) < 0.8


def test_fitted_discriminators_score_views(tokens, monkeypatch):
    monkeypatch.setattr(discriminator, "STEPS", 30)
    rng, pictures = np.random.default_rng(0), tokens[:24]
    real = SimpleNamespace(inputs=network_inputs(pictures), acoustics=table(rng, 24))
    made = SimpleNamespace(inputs=network_inputs(torch.rand_like(pictures)), acoustics=table(rng, 24, 3.0))
    for fit in (fit_network, fit_trees):
        score = fit(real, made, 0)
        assert score(real).shape == (24,) and score(real).min() > score(made).max()


def test_made_pictures_are_clamped_and_quantized_as_real_ones_are(tokens):
    pushed = torch.where(tokens[:1] > 0, tokens[:1] + 0.001, tokens[:1] - 0.3)
    assert torch.equal(network_inputs(pushed), network_inputs(pushed.clamp(0, 1)))
