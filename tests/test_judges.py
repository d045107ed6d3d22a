"""Judges of identity: what they see, that they are calibrated and pass their controls, and that damaged files are refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from vowelflow.base import InputError
from vowelflow.klatt import klatt_corpus
from vowelflow.spectrogram import PADDED, images
from vowelstudy import judges
from vowelstudy.folds import Tokens
from vowelstudy.judges import FACTORS, KINDS, Features, Gaussians, features_of, fit_judges, load_judges


@pytest.fixture(scope="module")
def tokens(klatt):
    return Tokens(klatt.take(range(0, 80, 2)))


@pytest.fixture(scope="module")
def features(tokens):
    return tokens.features(np.arange(len(tokens)))


def test_a_vowel_has_the_same_features_as_a_padded_picture(tokens, features):
    rows = np.arange(8)
    padded = features_of(
        images(tokens.corpus.take(rows), observation=PADDED), tokens.samples[rows], tokens.ceilings[rows]
    )
    gap = np.abs(padded.log_mel - features.log_mel[rows])
    assert np.median(gap) < 1 and gap.mean() < 3  # dB; frames at other places of the vowel
    both = (one.acoustics[["f1_middle", "f2_middle"]].to_numpy() for one in (padded, features.take(rows)))
    assert np.nanmedian(np.abs(np.subtract(*both))) < 0.03


def test_tokens_are_measured_once(tokens, features, monkeypatch):
    monkeypatch.setattr("vowelstudy.tokens.features_of", lambda *_: pytest.fail("features are cached"))
    again = tokens.features(np.array([5, 3]))
    assert np.array_equal(again.log_mel, features.log_mel[[5, 3]])
    assert again.acoustics.f0.tolist() == features.acoustics.f0.iloc[[5, 3]].tolist()


@pytest.mark.parametrize("shared", [True, False])
def test_gaussians_are_linear_and_quadratic_discriminants(shared):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis

    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 4000)
    spreads = np.repeat([1.0, 1.5, 0.7], 4000)[:, None] if not shared else 1
    x = rng.standard_normal((12000, 3)) * spreads + np.repeat(rng.standard_normal((3, 3)), 4000, 0)
    ours = Gaussians.fit(x, labels, ["a", "b", "c"], shared)
    theirs = (LinearDiscriminantAnalysis() if shared else QuadraticDiscriminantAnalysis()).fit(x, labels)
    agree = ours.logits(x).argmax(1) == theirs.predict_log_proba(x).argmax(1)
    assert agree.mean() > (0.998 if shared else 0.93)  # quadratic ones are shrunk halfway to linear ones
    assert ours.logits(x[:1] * np.nan) == pytest.approx(ours.logits(x.mean(0)[None]))


def test_shipped_judges_pass_their_controls_on_synthetic_speech(tokens, features):
    found, table = load_judges("klatt"), tokens.table
    right = judges.accuracy(found, features, table)
    assert all(right[factor][kind] > 0.9 for factor in FACTORS for kind in (*KINDS, "mean"))
    shuffled = table.sample(frac=1, random_state=0).reset_index(drop=True)
    chance = judges.accuracy(found, features, shuffled)
    assert chance["phone"]["mean"] == pytest.approx(0.2, abs=0.2) and abs(chance["sex"]["mean"] - 0.5) < 0.25
    for factor in FACTORS:
        each = found.each(features, factor)
        assert set(each) == set(KINDS) and all(np.allclose(one.sum(axis=1), 1) for one in each.values())
        mean = found.posterior(features, factor)
        assert np.allclose(mean, sum(one.to_numpy() for one in each.values()) / 3)
        own = found.probability(features, factor, table[factor])
        assert np.allclose(own["mean"], own[list(KINDS)].mean(axis=1))


def test_where_nothing_sounds_every_class_is_as_probable():
    silent = features_of(torch.zeros(2, 1, *PADDED.shape), np.array([1600, 1600]), np.array([5000.0, 5000.0]))
    for factor, count in (("phone", 5), ("sex", 2)):
        assert np.allclose(load_judges("klatt").posterior(silent, factor), 1 / count)


def test_judges_are_fitted_saved_and_read(klatt, tmp_path, monkeypatch, features):
    monkeypatch.setattr(judges, "STEPS", 30)
    found = fit_judges(klatt)
    assert found.about["speakers"] == 2 and found.about["accuracy"]["phone"]["cepstrum"] > 0.6
    assert all(0 < one <= 1 for one in found.sharpness.values())
    found.save(tmp_path / "judges-klatt.safetensors")
    again = load_judges("klatt", tmp_path)
    assert len(again.origin) == 64
    assert np.allclose(again.posterior(features, "phone"), found.posterior(features, "phone"), atol=1e-6)


def test_a_damaged_file_is_refused_by_name(tmp_path):
    path = tmp_path / "judges-speech.safetensors"
    with pytest.raises(InputError, match="judges-speech.safetensors: no usable judges"):
        load_judges("timit-sample", tmp_path)
    whole = (judges.models_folder() / path.name).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole.replace(b"network/", b"notwork/"), b"{}"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="judges-speech.safetensors: no usable judges"):
            load_judges("timit-sample", tmp_path)


def test_speakers_lacking_a_vowel_are_refused(klatt):
    with pytest.raises(InputError, match="lack a vowel or a sex"):
        fit_judges(klatt.filter(phone=["aa", "ae", "iy", "ow"]))


def test_voices_score_utterances_that_they_were_not_fitted_on():
    speech = klatt_corpus(speakers=8, tokens=6)
    table = speech.table.assign(utterance=speech.table.groupby(["speaker", "phone"]).cumcount().astype(str))
    speech = type(speech)(**(speech.__dict__ | {"table": table}))
    tokens, found = Tokens(speech.filter(phone=["aa", "ae"])), load_judges("klatt")
    features = tokens.features(np.arange(len(tokens)))
    halves = judges.half_of_utterances(tokens.table)
    voices = judges.Voices(found, features, tokens.table)
    own = voices.probability(features, halves, tokens.table.speaker.to_numpy())
    shuffled = np.random.default_rng(0).permutation(tokens.table.speaker.to_numpy())
    assert own.mean() > 3 / 8 and abs(voices.probability(features, halves, shuffled).mean() - 1 / 8) < 0.08


def test_features_can_be_taken_and_joined(features):
    parts = Features.joined([features.take([1]), features.take([4, 2])])
    assert np.array_equal(parts.log_mel, features.log_mel[[1, 4, 2]]) and len(parts) == 3
    pd.testing.assert_frame_equal(parts.acoustics, features.acoustics.iloc[[1, 4, 2]].reset_index(drop=True))
