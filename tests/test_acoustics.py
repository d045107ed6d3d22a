"""Measurements of pictures find what the synthesizer was given, and the detector tells vowels from noise."""

import numpy as np
import pytest
import torch

from vowelflow.spectrogram import images
from vowelstudy import acoustics
from vowelstudy.acoustics import CEILING, COLUMNS, measurements, sound_of, speaker_ceilings
from vowelstudy.detector import LIMIT, speech_probability
from vowelstudy.discriminator import controls


def samples_of(corpus):
    return (corpus.table.end - corpus.table.start).to_numpy()


def measured(corpus, observation="vowel"):
    pictures = images(corpus, observation=observation)
    ceilings = np.where(corpus.table.sex == "f", 5500.0, 5000.0)
    return measurements(pictures, samples_of(corpus), ceilings)


@pytest.mark.parametrize("observation", ["vowel", "padded"])
def test_f0_and_formants_are_those_the_synthesizer_was_given(klatt, observation):
    few = klatt.filter(phone=["aa", "uh"])
    found = measured(few, observation)
    assert tuple(found) == COLUMNS and len(found) == len(few)
    f0, f1, f2 = (
        np.exp(found[name]) / few.table[name.split("_")[0]] - 1 for name in ("f0", "f1_middle", "f2_middle")
    )
    assert f0.abs().median() < 0.02 and f1.abs().median() < 0.08 and f2.abs().median() < 0.05


def test_f1_of_a_glide_falls(klatt):
    glides = measured(klatt.filter(phone="ow"))
    assert (glides.f1_end < glides.f1_start).mean() > 0.8


def test_measures_say_what_is_artificial(klatt):
    few = klatt.take(range(0, len(klatt), 8))
    real, samples = images(few, observation="vowel"), samples_of(few)
    kinds = {"real": real, "blurred": torch.nn.functional.avg_pool2d(real, 9, 1, 4)}
    kinds |= {name: make(len(real)) for name, make in controls(real).items()}
    found = {
        name: measurements(pictures, samples, np.full(len(real), CEILING)).median()
        for name, pictures in kinds.items()
    }
    noise = found["noise in a token's extent"]
    assert found["real"].hnr > noise.hnr + 10 and found["real"].mismatch < noise.mismatch - 5
    assert found["real"].coherence > 0.7 > 0.1 > abs(noise.coherence)
    assert found["real"].roughness > found["blurred"].roughness and found["real"].flux < noise.flux
    assert found["upside-down tokens"].tilt > 0 > found["real"].tilt and found["sparse dots"].silent > 0.9


def test_silent_pictures_have_no_measures():
    for shape in ((256, 96), (288, 288)):
        silent = torch.zeros(2, 1, *shape)
        assert measurements(silent, [1600, 1600], [5000, 5000]).isna().all(axis=None)
    assert tuple(measurements(silent, [1600, 1600], [5000, 5000])) == COLUMNS
    assert len(sound_of(silent[0], 1600)) == 0


def test_a_sound_lasts_as_long_as_wanted_or_as_its_picture_sounds(klatt):
    vowel = images(klatt.take([0]), observation="vowel")[0]
    assert len(sound_of(vowel, 2345)) == 2345
    padded = images(klatt.take([0]), observation="padded")[0]
    shifted = torch.roll(padded, 30, dims=-1)  # zeros, then the vowel
    assert len(sound_of(padded, 9)) % 16 == 0 and abs(len(sound_of(padded, 9)) - samples_of(klatt)[0]) < 200
    assert np.array_equal(sound_of(shifted, 9), sound_of(padded, 9))


def test_processes_measure_the_same(klatt, monkeypatch):
    few = klatt.take(range(6))
    alone = measured(few)
    monkeypatch.setattr(acoustics, "MANY", 1)
    assert measured(few).equals(alone)


def test_ceilings_follow_the_vocal_tract_without_a_label_of_sex(klatt):
    ceilings = speaker_ceilings(klatt)
    assert set(ceilings) == set(klatt.table.speaker) and set(ceilings.values()) <= set(acoustics.CEILINGS)
    sexes = klatt.table.groupby("speaker").sex.first()
    by_sex = {sex: np.mean([ceilings[name] for name in sexes.index[sexes == sex]]) for sex in "fm"}
    assert by_sex["f"] > by_sex["m"] + 200
    once = klatt.take(klatt.table.drop_duplicates(["speaker", "phone"]).index)
    assert set(speaker_ceilings(once).values()) == {CEILING}


def test_a_vowel_is_speech_at_any_level_and_noise_is_not(klatt):
    few = klatt.take(range(0, len(klatt), 4))
    vowels = [few.sound(row) for row in range(len(few))]
    found = speech_probability(vowels)
    assert found.shape == (len(few),) and (found > LIMIT).mean() > 0.8
    assert np.allclose(speech_probability([0.01 * vowel for vowel in vowels]), found, atol=1e-3)
    rng = np.random.default_rng(0)
    assert (speech_probability([rng.standard_normal(len(vowel)) for vowel in vowels]) < LIMIT).all()
    assert (speech_probability([np.zeros(0), np.zeros(1600)]) < 0.2).all()
    assert np.allclose(speech_probability(vowels[3:4]), found[3], atol=1e-4)  # others change nothing
