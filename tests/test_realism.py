"""Realism: areas are those of the ROC curve, by picture, and no speaker is on both sides of a fit."""

import numpy as np
import pandas as pd
import pytest
import torch

from vowelstudy import realism
from vowelstudy.realism import Views, areas


@pytest.fixture
def seen(monkeypatch):
    """Discriminators that score by one number, and what they were fitted on and scored."""
    calls = []

    def fit(real, made, seed):
        calls.append({"real": set(real.acoustics.who), "made": set(made.acoustics.who), "scored": []})

        def score(views):
            calls[-1]["scored"] += list(views.acoustics.who)
            return views.acoustics.x.to_numpy()

        return score

    monkeypatch.setattr(realism, "FITTED", {"network": fit, "trees": fit})
    return calls


def views_of(values, who):
    return Views(torch.zeros(len(values), 1), pd.DataFrame({"x": np.asarray(values, float), "who": who}))


def test_areas_are_those_of_the_roc_curve(seen):
    speakers = np.array(list("abcdabcd"))
    real, made = views_of([3, 4, 5, 6, 3, 4, 5, 6], speakers), views_of([1, 2, 1, 2], list("abcd"))
    of_real, of_made = areas(real, speakers, made, np.array(list("abcd")), fits=2)
    assert (of_made["mean"] == 1).all() and (of_real["mean"] == 1).all()
    equal = areas(real, speakers, views_of([9] * 4, list("abcd")), np.array(list("abcd")))[1]
    assert (equal["mean"] == 0).all()
    ties = areas(real, speakers, views_of([3, 4, 5, 6], list("abcd")), np.array(list("abcd")), fits=20)[1]
    assert ties["mean"].mean() == pytest.approx(0.5)


def test_no_speaker_is_fitted_and_scored(seen):
    speakers, makers = np.array(list("aabbccdd")), np.array(list("aabbeeff"))
    areas(views_of(range(8), speakers), speakers, views_of(range(8), makers), makers, fits=3)
    assert len(seen) == 12
    for call in seen:
        assert not (call["real"] | call["made"]) & set(call["scored"])
        assert call["real"] and call["made"] and call["scored"]


def test_samples_have_no_speaker_and_are_halved(seen):
    speakers = np.array(list("abcd"))
    made = views_of(range(6), ["sample"] * 6)
    _, of_made = areas(views_of([9] * 4, speakers), speakers, made, None)
    assert len(of_made) == 6 and (of_made["mean"] == 1).all()
    assert [len(call["scored"]) for call in seen] == [5] * 4


def test_an_interval_over_parts_is_the_mean_area(seen):
    rng, speakers = np.random.default_rng(0), np.repeat(list("abcdefgh"), 5)
    real, made = views_of(rng.standard_normal(40) + 1, speakers), views_of(rng.standard_normal(40), speakers)
    of_real, of_made = areas(real, speakers, made, speakers, fits=4)
    assert of_real["mean"].mean() == pytest.approx(of_made["mean"].mean())
    assert 0.6 < of_made["mean"].mean() < 0.9
