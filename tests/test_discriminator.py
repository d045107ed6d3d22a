"""A discriminator finds what its controls are made to be found by, and nothing between real tokens."""

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vowelflow import load_corpus
from vowelflow.spectrogram import images, usable
from vowelstudy import discriminator
from vowelstudy.discriminator import auc, controls, fit_network, fit_trees, measured, network_inputs, tree_auc


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


@pytest.mark.parametrize("areas", [auc, tree_auc])
def test_no_speaker_is_fitted_and_scored(monkeypatch, areas):
    """Pictures that differ by speaker alone cannot be told apart when the speakers are others."""
    seen = []
    for name in ("_one_fit", "_one_tree_fit"):
        monkeypatch.setattr(discriminator, name, lambda *given: seen.append(given) or 0.5)
    who = np.repeat(["a", "b", "c", "d"], 3)
    pictures = torch.arange(12.0).view(12, 1, 1, 1)
    found = areas(pictures, who, pictures + 100, who, fits=4)
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
    rng, speakers = np.random.default_rng(0), np.repeat(list("abcdefgh"), 25)
    real, same, shifted = table(rng, 200), table(rng, 200), table(rng, 200, 2.0)
    assert tree_auc(real, speakers, shifted, fits=2)["auc"] > 0.95
    found = tree_auc(real, speakers, same)
    assert 0.4 < found["auc"] < 0.6 and len(found["fits"]) == 5
    assert found == tree_auc(real, speakers, same)
    assert tree_auc(real, speakers, shifted, np.roll(speakers, 7), fits=2)["auc"] > 0.95


def test_fitted_discriminators_score_views(tokens, monkeypatch):
    monkeypatch.setattr(discriminator, "STEPS", 30)
    rng, pictures = np.random.default_rng(0), tokens[0][:24]
    real = SimpleNamespace(inputs=network_inputs(pictures), acoustics=table(rng, 24))
    made = SimpleNamespace(inputs=network_inputs(torch.rand_like(pictures)), acoustics=table(rng, 24, 3.0))
    for fit in (fit_network, fit_trees):
        score = fit(real, made, 0)
        assert score(real).shape == (24,) and score(real).min() > score(made).max()


def test_levels_and_ceilings_are_alike_for_real_and_made_pictures(tokens):
    """A picture out of range and between levels is measured as its clamped and quantized version."""
    picture = tokens[0][:1]
    pushed = torch.where(picture > 0, picture + 0.001, picture - 0.3)
    quantized = network_inputs(pushed)
    assert torch.equal(quantized, network_inputs(pushed.clamp(0, 1)))
    assert measured(pushed, [1600]).equals(measured(pushed.clamp(0, 1), [1600]))


TOKENS = 400


@pytest.fixture(scope="module", params=["vowel", "padded"])
def validation(request):
    """Real tokens of train-clean validation speakers, other ones, and the controls made from the former."""
    if "LIBRISPEECH_EXCERPT" not in os.environ:
        pytest.skip("LIBRISPEECH_EXCERPT names no folder")
    corpus = load_corpus("librispeech", os.environ["LIBRISPEECH_EXCERPT"], "all")
    tokens = usable(corpus, request.param).held_out("valid")
    order = np.random.default_rng(0).permutation(len(tokens))
    parts = [tokens.take(order[:TOKENS]), tokens.take(order[TOKENS : 2 * TOKENS])]
    pictures = [images(part, observation=request.param) for part in parts]
    rng = np.random.default_rng(
        1
    )  # durations at random for all: those of controls have nothing to do with theirs
    samples = [rng.permutation((part.table.end - part.table.start).to_numpy()) for part in parts]
    return pictures, samples, [part.table.speaker.to_numpy() for part in parts]


@pytest.mark.long
def test_the_network_passes_its_controls_on_real_speech(validation):
    (real, other), _, (speakers, others) = validation
    assert 0.45 < auc(real, speakers, other, others)["auc"] < 0.55
    found = {name: auc(real, speakers, make(TOKENS), fits=2)["auc"] for name, make in controls(real).items()}
    assert min(found.values()) > 0.95, found


@pytest.mark.long
def test_the_trees_pass_their_controls_on_real_speech(validation):
    (real, other), (samples, of_other), (speakers, others) = validation
    acoustics = measured(real, samples)
    assert 0.45 < tree_auc(acoustics, speakers, measured(other, of_other), others)["auc"] < 0.55
    found = {
        name: tree_auc(acoustics, speakers, measured(make(TOKENS), samples), fits=2)["auc"]
        for name, make in controls(real).items()
    }
    assert min(found.values()) > 0.95, found
