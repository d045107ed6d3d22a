"""A ratio of frequencies is found again and moves harmonics as far as it says; PSOLA moves F0 and formants by theirs."""

import numpy as np
import pytest
import torch

from vowelflow.spectrogram import PADDED, VOWEL, dequantize, images
from vowelstudy import warping
from vowelstudy.measures import formants


class Tokens:
    """What a method needs of tokens."""

    def __init__(self, corpus, observation=VOWEL):
        self.corpus, self.table, self.observation = corpus, corpus.table, observation
        self.pictures = images(corpus, observation=observation)

    def __len__(self):
        return len(self.corpus)


@pytest.fixture(scope="module")
def tokens(klatt):
    return Tokens(klatt)


def everything(tokens):
    return np.arange(len(tokens))


@pytest.mark.parametrize("observation", [VOWEL, PADDED])
def test_a_harmonic_is_where_the_ratio_puts_it_and_nothing_moves_without_one(observation):
    picture = torch.zeros(2, 1, *observation.shape)
    picture[:, :, 100] = 1.0
    method, change = warping.Warping(observation), torch.tensor([[np.log(0.8)], [np.log(1.25)]]).float()
    moved = method.moved(picture.flatten(1), change, 1.0)
    assert moved.shape == picture.shape and moved[:, 0, :, 0].argmax(1).tolist() == [80, 125]
    assert (moved[0, 0, 80] > 0.99).all() and (moved[0, 0, [78, 82]] == 0).all()
    assert torch.equal(method.moved(picture.flatten(1), torch.zeros(1, 1), 1.0), picture)


def test_what_is_missing_at_the_top_is_mirrored_and_rows_above_the_bins_stay():
    picture = torch.zeros(1, 1, *PADDED.shape)
    picture[:, :, :257] = torch.linspace(0, 1, 257)[:, None]
    moved = warping.Warping(PADDED).moved(picture.flatten(1), torch.tensor([[np.log(0.5)]]).float(), 1.0)
    assert (
        torch.allclose(moved[0, 0, 129:256], moved[0, 0, 1:128].flip(0), atol=1e-5)
        and (moved[0, 0, 257:] == 0).all()
    )
    assert moved[0, 0, 64, 0] == pytest.approx(0.5, abs=1e-3)


def test_the_inverse_move_nearly_undoes_a_move(tokens):
    method = warping.Warping(VOWEL)
    start = method.vectors(tokens, everything(tokens), seed=0)
    assert torch.equal(start.reshape(-1, 1, *VOWEL.shape), dequantize(tokens.pictures, 0))
    change = torch.tensor([[0.15]])
    there = method.moved(start, change, 1.0)
    back = method.moved(there.flatten(1), -change, 1.0).flatten(1)
    away, error = ((one.flatten(1) - start).square().mean().sqrt() for one in (there, back))
    assert error < 0.3 * away, error / away


@pytest.mark.parametrize("ratio", [0.8, 0.9, 1.15])
def test_a_ratio_is_found_again_under_another_level_and_tilt(tokens, ratio):
    method = warping.Warping(VOWEL)
    start = method.vectors(tokens, everything(tokens), seed=0)
    moved = method.moved(start, torch.tensor([[np.log(ratio)]]).float(), 1.0)
    tilted = 0.8 * moved + 0.1 - 0.2 * torch.linspace(0, 1, 256)[:, None]
    weights = np.repeat([-1, 1], len(start)) / len(start)
    found = method.displacement(torch.cat([start, tilted.flatten(1)]), weights)
    assert found.shape == (1, 1) and found.exp().item() == pytest.approx(ratio, rel=0.03)
    swapped = method.displacement(torch.cat([start, tilted.flatten(1)]), -weights)
    assert torch.allclose(swapped, -found, atol=1e-6)


def test_psola_finds_the_ratios_of_two_groups_and_moves_f0_and_formants_by_them(tokens):
    method, sexes = warping.PSOLA(VOWEL), tokens.table.sex.to_numpy()
    vectors = method.vectors(tokens, everything(tokens))
    weights = np.where(sexes == "m", 1.0 / (sexes == "m").sum(), -1.0 / (sexes == "f").sum())
    change = method.displacement(vectors, weights)
    truth = tokens.table.assign(f=sexes == "f").groupby("f").f0.median()
    assert change.shape == (1, 2)
    assert change[0, 1].exp().item() == pytest.approx(truth[False] / truth[True], rel=0.1)
    assert change[0, 0].exp().item() == pytest.approx(0.865, rel=0.05)  # that of the true formants
    for row in np.flatnonzero(sexes == "f")[:4]:
        before = formants(tokens.corpus.sound(row), "f")
        clip = tokens.corpus.clip(row)
        after = formants(warping.changed(clip, 0.85, 0.6)[248:-248], "m")
        assert after["f0"] / before["f0"] == pytest.approx(0.6, rel=0.05)
        assert after["f2"] / before["f2"] == pytest.approx(0.85, rel=0.12)


def test_psola_makes_pictures_of_both_observations_and_of_several_corpora(tokens, klatt):
    other = Tokens(klatt.take(range(40, 43)))
    for observation in (VOWEL, PADDED):
        method = warping.PSOLA(observation)
        both = torch.cat([method.vectors(one, np.arange(3)) for one in (tokens, other, tokens)])
        pictures = method.moved(both, torch.tensor([[-0.1, -0.5]]), 1.0)
        assert pictures.shape == (9, 1, *observation.shape) and len(method.corpora) == 2
        assert torch.equal(pictures[:3], pictures[6:]) and not torch.equal(pictures[:3], pictures[3:6])


def test_without_f0_formants_move_and_very_short_sounds_stay():
    noise = np.random.default_rng(0).normal(0, 0.1, 3000).astype(np.float32)
    made = warping.changed(noise, 0.8, 0.6)
    assert made.shape == noise.shape and made.dtype == np.float32 and np.isfinite(made).all()
    power = np.abs(np.fft.rfft(made)) ** 2
    assert power[1250:].mean() < 0.05 * power[:1100].mean()  # 8 kHz has become 6.4 kHz
    assert np.array_equal(warping.changed(noise[:500], 0.8, 0.6), noise[:500])
    assert np.isfinite(warping.changed(np.zeros(3000, np.float32), 0.8, 0.6)).all()


def test_a_weighted_median_passes_over_what_was_not_found():
    assert warping.weighted_median(np.array([1.0, np.nan, 5.0, 9.0]), np.array([1.0, 9.0, 1.0, 1.0])) == 5
    assert warping.weighted_median(np.array([1.0, 5.0, 9.0]), np.array([0.7, 0.1, 0.2])) == 1
