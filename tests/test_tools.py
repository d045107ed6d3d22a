"""The script for a rented GPU, tried on a processor with a tiny flow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from vowelflow.checkpoint import load_model
from vowelflow.glow import Glow, GlowConfig

HOME = Path(__file__).resolve().parents[1]


def gpu(*given):
    command = [str(HOME / "tools/gpu.sh"), *map(str, given)]
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


@pytest.fixture
def clips(libri_folder, tmp_path):
    packed = gpu("pack", "--root", libri_folder, "--clips", tmp_path / "clips.npz")
    assert packed.returncode == 0, packed.stderr
    found = dict(np.load(tmp_path / "clips.npz"))
    found["valid"] = (
        found["speakers"] == "12"
    )  # two train speakers are too few to cut validation speakers from
    np.savez(tmp_path / "clips.npz", **found)
    return tmp_path / "clips.npz"


@pytest.mark.parametrize("kind", ["vowel", "padded"])
def test_a_flow_comes_home_from_a_machine_with_little_installed(clips, tmp_path, kind):
    done = gpu(tmp_path / "out", kind, 0.02, "--smoke", "--clips", clips)
    assert done.returncode == 0, done.stderr
    assert "belongs in models/" in done.stdout
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["observation"] == kind and config["pictures"] == 2 * config["steps"]
    model = load_model(tmp_path / "out")
    image = torch.rand(1, 1, model.config.side, model.config.frames)
    assert (model.inverse(model.flat(image)) - image).abs().max() < 1e-3
    assert 0 < json.loads((tmp_path / "out/metrics.json").read_text())["bits_per_dim"] < 10
    page = plt.imread(tmp_path / "out/samples.png")
    assert page.shape[1] == 24 * (model.config.frames + 4) and page.std() > 0.01


def test_clips_come_back_to_the_last_bits_that_were_packed(clips, libri_folder, monkeypatch):
    from vowelstudy.references import RECIPES

    monkeypatch.syspath_prepend(str(HOME / "tools"))
    import gpu as script

    speech = RECIPES["speech"].speech(libri_folder).filter(split=["train", "valid"])
    found = script.unpack(clips)
    assert len(found["clips"]) == len(speech) and list(found["phones"]) == list(speech.table.phone)
    for clip, wanted in zip(found["clips"], speech.clips(range(len(speech)))):
        assert np.abs(clip.numpy() - wanted).max() <= 2 / 32768 + 1e-6


def test_what_is_missing_is_said(tmp_path):
    absent = gpu(tmp_path / "out", "vowel", 1, "--smoke", "--clips", tmp_path / "none.npz")
    assert absent.returncode == 2 and "tools/gpu.sh pack --root LIBRISPEECH" in absent.stderr
    no_card = gpu(tmp_path / "out", "vowel", 1)
    assert no_card.returncode == 2 and "no GPU is here" in no_card.stderr


def test_large_weights_are_split_and_read_as_one(tmp_path):
    from vowelflow.checkpoint import save_model

    torch.manual_seed(0)
    model = Glow(GlowConfig(16, 16, ((2, 4), (2, 1)), 2, (12, 12), prior=4))
    save_model(tmp_path, model, {"glow": json.loads(json.dumps(model.config.__dict__))}, 3000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    again = load_model(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_training_needs_torch_numpy_and_safetensors_alone():
    """A machine with a GPU may have nothing else of what the study needs."""
    others = [
        "pandas",
        "scipy",
        "sklearn",
        "lazy_loader",
        "lightning",
        "lightning_fabric",
        "librosa",
        "soundfile",
        "vowelstudy",
    ]
    code = f"import sys; sys.modules.update(dict.fromkeys({others})); sys.path[:0] = ['src', 'tools']; import gpu"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
