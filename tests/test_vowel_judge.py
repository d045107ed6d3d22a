"""The vowel judge is accurate on real vowels and undecided about silence; a damaged file is refused."""

import numpy as np
import pytest
import torch

from vowelflow.base import InputError
from vowelflow.corpus import VOWELS
from vowelflow.spectrogram import images
from vowelstudy import vowel_judge


@pytest.fixture(scope="module")
def measured(klatt):
    few = klatt.draw(2)
    return few, vowel_judge.features(images(few))


def test_the_shipped_judge_knows_vowel_and_sex_of_synthetic_tokens(measured):
    few, x = measured
    judge = vowel_judge.load_judge("klatt")
    for factor in ("phone", "sex"):
        chance = judge.posterior(x, factor)
        assert np.allclose(chance.sum(axis=1), 1)
        assert (chance.idxmax(axis=1) == few.table[factor]).mean() >= 0.9
    assert judge.speech(x).mean() > 0.7 and judge.plausible(x).mean() > 0.7


def test_shipped_judges_say_what_they_were_fitted_on_and_how_accurate_they_are():
    for corpus, name, least in (("klatt", "klatt", 0.95), ("timit-sample", "librispeech", 0.7)):
        judge = vowel_judge.load_judge(corpus)
        assert judge.about["corpus"] == name and len(judge.origin) == 64
        assert min(judge.about["accuracy"].values()) > least


def test_silence_and_noise_are_no_vowels():
    judge = vowel_judge.load_judge("klatt")
    noise = torch.rand(1, 1, 288, 288, generator=torch.Generator().manual_seed(0))
    x = vowel_judge.features(torch.cat([torch.zeros_like(noise), noise]))
    assert np.isnan(x[0]).all()
    assert np.allclose(judge.posterior(x, "phone").iloc[0], 1 / len(VOWELS))
    assert not judge.plausible(x).any() and not judge.speech(x).any()


def test_level_does_not_count(measured):
    few, x = measured
    quieter = (images(few.take([0])) - 0.02).clamp_min(0)
    assert np.allclose(vowel_judge.features(quieter, formants=False)[0, :13], x[0, :13], atol=1.0)


def test_a_fitted_judge_survives_its_file(klatt, tmp_path):
    fitted = vowel_judge.fit_judge(klatt)
    path = fitted.save(tmp_path / "listener-klatt.safetensors")
    back = vowel_judge.load_judge("klatt", tmp_path)
    x = vowel_judge.features(images(klatt.take(range(6))))
    assert np.allclose(back.posterior(x, "phone"), fitted.posterior(x, "phone"), atol=1e-4)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="no usable judge"):
        vowel_judge.load_judge("klatt", tmp_path)


def test_a_corpus_without_every_vowel_cannot_fit_one(klatt):
    with pytest.raises(InputError, match="lack a vowel or a sex"):
        vowel_judge.fit_judge(klatt.filter(phone=["aa", "ae"]))


def test_an_enrolled_voice_is_known_again(measured):
    few, x = measured
    judge = vowel_judge.speaker_judge(x, few.table.speaker)
    assert (judge.predict(x) == few.table.speaker).mean() > 0.5
