"""A discriminator finds what its controls are made to be found by, and nothing between real tokens."""

import numpy as np
import pytest
import torch

from vowelflow.spectrogram import images
from vowelstudy import discriminator
from vowelstudy.discriminator import auc, controls


@pytest.fixture(scope="module")
def tokens(klatt):
    return images(klatt, observation="vowel"), klatt.table.speaker.to_numpy()


@pytest.mark.long
def test_controls_are_recognised_and_other_real_tokens_are_not(tokens, monkeypatch):
    monkeypatch.setattr(discriminator, "STEPS", 60)
    real, speakers = tokens
    first, second = np.arange(0, len(real), 2), np.arange(1, len(real), 2)
    same = auc(real[first], speakers[first], real[second], speakers[second], fits=2)["auc"]
    assert 0.3 < same < 0.7
    for name, make in controls(real).items():
        assert auc(real, speakers, make(len(real)), fits=1)["auc"] > 0.95, name


def test_no_speaker_is_fitted_and_scored(monkeypatch):
    """Pictures that differ by speaker alone cannot be told apart when the speakers are others."""
    seen = []
    monkeypatch.setattr(discriminator, "_one_fit", lambda *given: seen.append(given) or 0.5)
    who = np.repeat(["a", "b", "c", "d"], 3)
    pictures = torch.arange(12.0).view(12, 1, 1, 1)
    found = auc(pictures, who, pictures + 100, who, fits=4)
    assert found == {"auc": 0.5, "fits": [0.5] * 4} and len(seen) == 4
    for real, made, unseen_real, unseen_made, _ in seen:
        fitted = {who[int(one)] for one in real.flatten()}
        assert fitted == {who[int(one) - 100] for one in made.flatten()} and len(fitted) == 2
        assert not fitted & {who[int(one)] for one in unseen_real.flatten()}
        assert len(made) + len(unseen_made) == 12


def test_the_same_seed_says_the_same(tokens, monkeypatch):
    monkeypatch.setattr(discriminator, "STEPS", 5)
    real, speakers = tokens
    made = torch.rand_like(real)
    before = torch.random.get_rng_state()
    assert auc(real, speakers, made, fits=2) == auc(real, speakers, made, fits=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_controls_of_padded_pictures_keep_their_padding(klatt):
    real = images(klatt.take(range(12)))
    made = controls(real)
    assert (made["upside-down tokens"](6)[:, :, 257:] == 0).all()
    noise = made["noise in a token's extent"](6)
    assert ((noise > 0).float().mean((1, 2, 3)) < 0.6).all()
    assert made["means of 8 tokens"](2).shape == made["sparse dots"](2).shape == (2, 1, 288, 288)
