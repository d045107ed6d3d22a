"""Every judge passes its controls: on few synthetic speakers in part, on real speech on both observations."""

import os

import numpy as np
import pytest

from vowelflow import load_corpus
from vowelflow.spectrogram import OBSERVATIONS, VOWEL, images
from vowelstudy import controls, discriminator
from vowelstudy.results import read_json

RECOGNISED = {
    "PCA-Gaussian",
    "means of 8 tokens",
    "upside-down tokens",
    "noise in a token's extent",
    "sparse dots",
}
REAL = {"other real tokens", "training tokens"}


def test_controls_of_synthetic_speech_are_written_for_both_observations(klatt, tmp_path, monkeypatch):
    monkeypatch.setattr(discriminator, "STEPS", 2)
    monkeypatch.setattr(controls, "COUNT", 6)
    monkeypatch.setattr(controls, "SOUNDS", 3)
    measured = {name: controls.controls_of(klatt, klatt, one, 6, 1) for name, one in OBSERVATIONS.items()}
    monkeypatch.setattr(controls, "controls_of", lambda *given: measured[given[2].name])
    found = read_json(controls.write_controls(klatt, klatt, tmp_path))
    for one in found.values():
        assert RECOGNISED | REAL | {"filtered by 1 dB", "filtered by 3 dB"} == set(one["discriminators"])
        assert one["detector"].keys() - one["discriminators"].keys() == {"real tokens"}
        assert (
            one["identity"]["accuracy"]["phone"]["mean"]
            > 0.9
            > one["identity"]["shuffled labels"]["phone"]["mean"]
        )
    tables = controls.tables_of(found)
    assert tables["discriminators"].shape == (9, 4) and tables["identity"].shape == (8, 4)


def test_random_filters_have_their_deviation_and_leave_silence_alone(klatt):
    pictures = images(klatt.take(range(20))) * 0.5
    gaps = (controls.filtered(pictures, 3.0, np.random.default_rng(0)) - pictures)[pictures > 0.2] * 80
    assert gaps.std().item() == pytest.approx(3, rel=0.25)
    assert (controls.filtered(pictures * 0, 3.0, np.random.default_rng(0)) == 0).all()


@pytest.mark.long
@pytest.mark.parametrize("observation", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_judges_pass_their_controls_on_speakers_that_no_judge_was_fitted_on(observation):
    folders = [os.environ.get(name) for name in ("LIBRISPEECH_EXCERPT", "TIMIT_SAMPLE")]
    if None in folders:
        pytest.skip("LIBRISPEECH_EXCERPT or TIMIT_SAMPLE names no folder")
    speech = load_corpus("librispeech", folders[0], "all")
    found = controls.controls_of(speech, load_corpus("timit-sample", folders[1]), observation, 150, 1)
    for name, areas in found["discriminators"].items():
        if name in RECOGNISED:
            assert min(areas.values()) > 0.95, name
    assert all(0.38 < area < 0.62 for area in found["discriminators"]["other real tokens"].values())
    shares = {name: one["share of speech"] for name, one in found["detector"].items()}
    assert min(shares[name] for name in ("real tokens", *REAL)) > 0.7, shares
    assert max(shares[name] for name in RECOGNISED) < 0.3, shares
    identity = found["identity"]
    limits = {"cepstrum": (0.65, 0.75), "network": (0.7, 0.9), "formants": (0.55, 0.85), "mean": (0.7, 0.9)}
    for kind, (vowel, sex) in limits.items():  # averaged over classes
        right = identity["accuracy"]
        assert right["phone"][kind] > vowel and right["sex"][kind] > sex, kind
    chance = identity["shuffled labels"]
    assert abs(chance["phone"]["mean"] - 0.2) < 0.06 and abs(chance["sex"]["mean"] - 0.5) < 0.06
    # Classifiers of five vowels call noise one of them, and are sure of it: realism is what the discriminators are for.
    assert 0.2 <= identity["probability of the most probable vowel"]["noise"] <= 1


def test_shipped_controls_are_of_both_observations():
    path = controls.repository() / "results/controls.json"
    if not path.is_file():
        pytest.skip("they have not been measured")
    found = read_json(path)
    assert set(found) == set(OBSERVATIONS) and found[VOWEL.name]["n"] >= 200
