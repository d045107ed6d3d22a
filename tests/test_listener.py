"""The listener hears real vowels right, says nothing of silence, and is refused when damaged."""

import numpy as np
import pytest
import torch

from vowelflow import listener
from vowelflow.corpus import VOWELS, InputError
from vowelflow.spectrogram import images


@pytest.fixture(scope="module")
def heard(klatt):
    few = klatt.draw(2)
    return few, listener.features(images(few))


def test_shipped_listener_hears_vowel_and_sex_of_synthetic_tokens(heard):
    few, told = heard
    judge = listener.load_listener("klatt")
    for factor in ("phone", "sex"):
        chance = judge.posterior(told, factor)
        assert np.allclose(chance.sum(axis=1), 1)
        assert (chance.idxmax(axis=1) == few.table[factor]).mean() >= 0.9
    assert judge.speech(told).mean() > 0.7 and judge.plausible(told).mean() > 0.7


def test_shipped_listeners_say_whom_they_were_fitted_on_and_how_well_they_hear():
    for corpus, name, least in (("klatt", "klatt", 0.95), ("timit-sample", "librispeech", 0.7)):
        judge = listener.load_listener(corpus)
        assert judge.about["corpus"] == name and len(judge.origin) == 64
        assert min(judge.about["accuracy"].values()) > least


def test_silence_and_noise_are_no_vowels():
    judge = listener.load_listener("klatt")
    silent, loud = torch.zeros(1, 1, 288, 288), torch.rand(1, 1, 288, 288, generator=torch.Generator().manual_seed(0))
    told = listener.features(torch.cat([silent, loud]))
    assert np.isnan(told[0]).all()
    assert np.allclose(judge.posterior(told, "phone").iloc[0], 1 / len(VOWELS))
    assert not judge.plausible(told).any() and not judge.speech(told).any()


def test_level_does_not_count(heard):
    few, told = heard
    quieter = (images(few.take([0])) - 0.02).clamp_min(0)
    assert np.allclose(listener.features(quieter, formants=False)[0, :13], told[0, :13], atol=1.0)


def test_a_fitted_listener_survives_its_file(klatt, tmp_path):
    fitted = listener.fit_listener(klatt)
    path = fitted.save(tmp_path / "listener-klatt.safetensors")
    back = listener.load_listener("klatt", tmp_path)
    told = listener.features(images(klatt.take(range(6))))
    assert np.allclose(back.posterior(told, "phone"), fitted.posterior(told, "phone"), atol=1e-4)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="no usable listener"):
        listener.load_listener("klatt", tmp_path)


def test_a_corpus_without_every_vowel_cannot_fit_one(klatt):
    with pytest.raises(InputError, match="not every vowel"):
        listener.fit_listener(klatt.filter(phone=["aa", "ae"]))


def test_an_enrolled_voice_is_known_again(heard):
    few, told = heard
    judge = listener.enrolled(told, few.table.speaker)
    assert (judge.predict(told) == few.table.speaker).mean() > 0.5
