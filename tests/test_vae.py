"""A VAE learns, is saved and read again as it was, continues as if never stopped, and refuses damaged files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vowelflow.base import InputError
from vowelflow.spectrogram import images
from vowelstudy import vae

SMALL = vae.VAEConfig(widths=(4, 4, 8, 8, 8), latent=6)
PROFILE = replace(vae.PROFILE, iterations=24, batch=8, warmup=4, eval_interval=8, learning_rate=5e-3)


@pytest.fixture(scope="module")
def folder(klatt, tmp_path_factory):
    home = tmp_path_factory.mktemp("vae")
    vae.train_vae(klatt, home, SMALL, PROFILE)
    return home


@pytest.fixture(scope="module")
def pictures(klatt):
    return images(klatt.take(range(0, 80, 10)), observation="vowel")


def log(folder):
    return np.loadtxt(folder / "log.csv", delimiter=",", skiprows=1)


def test_training_lowers_the_bound_on_validation_speakers(folder):
    rows = log(folder)
    assert rows[:, 0].tolist() == [8, 16, 24] and rows[-1, 2] < rows[0, 2] - 0.05


def test_a_model_is_read_as_it_was_saved_and_says_what_it_learned_from(folder, klatt, pictures):
    model = vae.load_vae(folder)
    codes = model.encode(pictures)
    assert codes.shape == (8, 6) and model.decode(codes).shape == pictures.shape
    assert torch.equal(codes, vae.load_vae(folder).encode(pictures))
    assert torch.equal(model.sample(3, seed=1), vae.load_vae(folder).sample(3, seed=1))
    assert not torch.equal(model.sample(3, seed=1), model.sample(3, seed=2))
    config = json.loads((folder / "config.json").read_text())
    assert config["fingerprint"] == klatt.fingerprint and config["pictures"] == config["steps"] * 8
    assert set(config["speakers"]["train"]) == set(klatt.split["train"].table.speaker)


def test_the_default_has_as_many_parameters_as_the_flow_and_fits_the_limit():
    count = sum(weight.numel() for weight in vae.VAE().parameters())
    assert 3.5e6 < count < 4.2e6 and 2 * count < 9e6


def test_bits_bound_the_cost_of_pictures(folder, pictures):
    model = vae.load_vae(folder)
    y = (pictures + 0.5 / 256).clamp(max=1)
    distortion, divergence = model.bits(y, torch.Generator().manual_seed(0))
    assert (divergence >= 0).all() and (distortion > 0).all()
    worse, _ = model.bits(y.flip(2), torch.Generator().manual_seed(0))
    assert worse.mean() > distortion.mean() and model.bits_per_dim(pictures).shape == (8,)


def test_a_training_that_stops_takes_the_same_steps_when_it_goes_on(folder, klatt, tmp_path, monkeypatch):
    save = vae._Training.save

    def stopped(run):
        save(run)
        if run.step == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(vae._Training, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        vae.train_vae(klatt, tmp_path, SMALL, PROFILE)
    with pytest.raises(InputError, match="resume"):
        vae.train_vae(klatt, tmp_path, SMALL, PROFILE)
    with pytest.raises(InputError, match="other settings"):
        vae.train_vae(klatt, tmp_path, SMALL, PROFILE, seed=1, resume=True)
    vae.train_vae(klatt, tmp_path, SMALL, PROFILE, resume=True)
    np.testing.assert_array_equal(log(tmp_path)[:, :4], log(folder)[:, :4])
    read = [(one / "model.safetensors").read_bytes() for one in (tmp_path, folder)]
    assert read[0] == read[1]


def test_damaged_and_missing_files_are_refused_by_name(folder, tmp_path):
    with pytest.raises(InputError, match="config.json"):
        vae.load_vae(tmp_path)
    weights, config = (folder / "model.safetensors").read_bytes(), (folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match="model.safetensors is missing"):
        vae.load_vae(tmp_path)
    for damaged in (weights[:-5], weights[:-1] + bytes([weights[-1] ^ 1])):
        (tmp_path / "model.safetensors").write_bytes(damaged)
        with pytest.raises(InputError, match="model.safetensors"):
            vae.load_vae(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    for text in (config[:50], "[]", config.replace('"vae"', '"glow"')):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match="config.json"):
            vae.load_vae(tmp_path)
    (tmp_path / "config.json").write_text(config.replace('"latent": 6', '"latent": 7'))
    with pytest.raises(InputError, match="does not fit"):
        vae.load_vae(tmp_path)
