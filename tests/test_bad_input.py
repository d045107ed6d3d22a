"""Values that cannot be used are refused in words; odd ones that can be are used."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import vowelflow as vf
from vowelflow.base import InputError
from vowelflow.checkpoint import models_folder
from vowelflow.glow import Glow, GlowConfig
from vowelstudy.book import build_book
from vowelstudy.judges import load_judges
from vowelstudy.pairs import matched_pairs, speaker_pairs
from vowelstudy.references import reference_model
from vowelstudy.results import write_results
from vowelstudy.run import run_study

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def here(klatt):
    """One token of each vowel and sex of a few synthetic speakers, two of their pictures and phases, and a tiny flow's codes."""
    torch.manual_seed(0)
    speech = klatt.draw(1, by=("sex", "phone"))
    two = speech.take([0, 1])
    model = Glow(GlowConfig(288, 288, squeeze=((2, 2),) * 2, steps=1, hidden=(8, 8))).eval()
    pictures = vf.images(two, observation="padded")
    return {
        "speech": speech, "none": speech.take([]), "one": speech.take([0]), "pictures": pictures, "phase": vf.phases(two, observation="padded")[0],
        "vowel": vf.images(two)[0], "vowel phase": vf.phases(two)[0], "model": model, "codes": model.encode(pictures).flat,
    }  # fmt: skip


REFUSED = {
    "an unknown corpus": (lambda h: vf.load_corpus("timmit"), "no corpus 'timmit'"),
    "a folder that is not there": (lambda h: vf.load_corpus("timit", "/nowhere"), "/nowhere: no such folder"),
    "an unknown vowel": (lambda h: vf.load_corpus("klatt", phones="zz"), "no segment labelled zz"),
    "no vowel": (lambda h: vf.load_corpus("klatt", phones=""), "names no label"),
    "an unknown column": (lambda h: h["speech"].filter(colour="red"), "no column 'colour'"),
    "pictures of nothing": (lambda h: vf.images(h["none"]), "no segment of klatt is left"),
    "phases of nothing": (lambda h: vf.phases(h["none"]), "no segment of klatt is left"),
    "peaks of nothing": (lambda h: vf.peaks(h["none"]), "no segment of klatt is left"),
    "several pictures to a sound": (lambda h: vf.to_audio(h["pictures"], h["phase"]), "give one picture"),
    "part of a phase": (lambda h: vf.to_audio(h["pictures"][0], h["phase"][:9]), "a phase is (257, 288)"),
    "no frame": (lambda h: vf.to_audio(h["pictures"][0], h["phase"], frames=0), "frames are 1 to 288"),
    "a frame too many": (
        lambda h: vf.to_audio(h["pictures"][0], h["phase"], frames=289),
        "frames are 1 to 288",
    ),
    "a peak below 0": (lambda h: vf.to_audio(h["pictures"][0], h["phase"], -1.0), "0 or more, not -1"),
    "a peak that is no number": (
        lambda h: vf.to_audio(h["pictures"][0], h["phase"], NAN),
        "0 or more, not nan",
    ),
    "an infinite peak": (lambda h: vf.griffin_lim(h["pictures"][0], INF), "0 or more, not inf"),
    "part of a picture": (lambda h: vf.griffin_lim(h["pictures"][0][:, :9]), "288x288"),
    "no frame to invent": (lambda h: vf.griffin_lim(h["pictures"][0], frames=0), "frames are 1 to 288"),
    "no duration": (
        lambda h: vf.to_audio(h["vowel"], h["vowel phase"]),
        "lasts 0.0125 to 1 s, not duration=None",
    ),
    "a duration that is no number": (
        lambda h: vf.griffin_lim(h["vowel"], duration=NAN),
        "lasts 0.0125 to 1 s, not duration=nan",
    ),
    "an infinite duration of a padded picture": (
        lambda h: vf.to_audio(h["pictures"][0], h["phase"], duration=INF),
        "frames are 1 to 288",
    ),
    "a padded picture's phase": (
        lambda h: vf.to_audio(h["vowel"], h["phase"], duration=0.1),
        "a phase is (256, 96)",
    ),
    "purple noise": (lambda h: vf.add_noise(10, 0, "purple"), "white, pink or babble"),
    "babble of nobody": (lambda h: vf.add_noise(10, 0, "babble"), "give a corpus"),
    "babble of no segment": (lambda h: vf.add_noise(10, 0, "babble", h["none"]), "give a corpus"),
    "a ratio that is no number": (lambda h: vf.add_noise(NAN), "not nan"),
    "a study of no seed": (lambda h: run_study("klatt", seed=-1), "seed -1: give a whole number"),
    "a book at no address": (lambda h: build_book(url="my page"), "my page is no address of a page"),
    "a width too few": (lambda h: GlowConfig(hidden=(8, 8)), "one entry for each level"),
    "a side that does not halve": (lambda h: GlowConfig(side=100), "multiples of"),
    "pictures with holes": (lambda h: vf.dequantize(h["pictures"] * NAN), "finite and in"),
    "pictures too bright": (lambda h: vf.dequantize(h["pictures"] + 2), "finite and in"),
    "part of pictures": (
        lambda h: h["model"].encode(h["pictures"][:, :, :100]),
        "pictures are (n, 1, 288, 288)",
    ),
    "one picture alone": (lambda h: h["model"].encode(h["pictures"][0]), "pictures are (n, 1, 288, 288)"),
    "no picture": (lambda h: h["model"].encode(h["pictures"][:0]), "at least one"),
    "pictures of nan": (lambda h: h["model"].encode(h["pictures"] * NAN), "finite and in"),
    "likelihood of nan": (lambda h: h["model"].bits_per_dim(h["pictures"] * NAN), "finite and in"),
    "part of codes": (lambda h: h["model"].decode(h["codes"][:, :100]), "codes are (n, 82944)"),
    "codes of nan": (lambda h: h["model"].decode(h["codes"] * NAN), "codes must be finite"),
    "infinite codes": (lambda h: h["model"].decode(h["codes"] + INF), "codes must be finite"),
    "less than no sample": (lambda h: h["model"].sample(-1), "-1 samples"),
    "a temperature below 0": (lambda h: h["model"].sample(1, temperature=-1), "temperature -1"),
    "a temperature that is no number": (lambda h: h["model"].sample(1, temperature=NAN), "temperature nan"),
    "an unknown model": (lambda h: vf.load_model("speeech"), "no model 'speeech'"),
    "an unknown profile": (lambda h: vf.profile_named("cpuu"), "no profile 'cpuu'"),
    "a model of an unknown profile": (lambda h: reference_model(h["speech"], "cpuu"), "no profile 'cpuu'"),
    "an empty class": (lambda h: vf.direction(h["codes"][:0], h["codes"]), "not 0 and 2"),
    "a class with holes": (lambda h: vf.direction(h["codes"] * NAN, h["codes"]), "finite"),
    "pairs of one token": (lambda h: matched_pairs(h["one"], "phone", 1), "no two of the 1 tokens"),
    "pairs of one speaker": (lambda h: speaker_pairs(h["one"], 1), "no two speakers"),
    "a result that is no number": (lambda h: write_results("01_x", {"a": NAN}), ".a is nan"),
}
WORKS = {
    "a filter that keeps none": lambda h: len(h["speech"].filter(sex="x")) == 0,
    "the last row": lambda h: len(h["speech"].take([-1])) == 1,
    "frames of nothing": lambda h: vf.frame_count(h["none"]).shape == (0,),
    "one token": lambda h: vf.images(h["one"]).shape == (1, 1, 256, 96),
    "one padded token": lambda h: vf.images(h["one"], observation="padded").shape == (1, 1, 288, 288),
    "the shortest duration": lambda h: len(vf.to_audio(h["vowel"], h["vowel phase"], duration=0.0125)) == 200,
    "the longest duration": lambda h: vf.griffin_lim(h["vowel"], iterations=1, duration=1).shape == (16_000,),
    "a silent peak": lambda h: not np.any(vf.to_audio(h["pictures"][0], h["phase"], 0.0)),
    "a picture with holes": lambda h: np.isfinite(vf.to_audio(h["pictures"][0] * NAN, h["phase"])).all(),
    "a peak as vf.peaks gives it": lambda h: vf.to_audio(
        h["pictures"][0], h["phase"], vf.peaks(h["one"], observation="padded")[0]
    ).any(),
    "frames as vf.frame_count gives them": lambda h: vf.griffin_lim(
        h["pictures"][0], 1.0, 2, vf.frame_count(h["one"])[0]
    ).any(),
    "frames in a tensor": lambda h: (
        len(vf.to_audio(h["pictures"][0], h["phase"], 1.0, torch.tensor(9))) == 144
    ),
    "one frame": lambda h: len(vf.griffin_lim(h["pictures"][0], frames=1)) == 16,
    "no sample": lambda h: h["model"].sample(0).shape == (0, 1, 288, 288),
    "samples without noise": lambda h: h["model"].sample(1, temperature=0.0).isfinite().all(),
    "codes of numpy": lambda h: vf.direction(h["codes"].numpy(), h["codes"].numpy()).shape == (1, 82944),
    "pictures of numpy": lambda h: h["model"].encode(h["pictures"].numpy()).flat.shape == (2, 82944),
    "a circle there and back": lambda h: vf.great_circle(h["codes"][:1], -h["codes"][:1]).isfinite().all(),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_words(case, here, klatt, tmp_path, monkeypatch):
    monkeypatch.setattr("vowelflow.readers.klatt_corpus", lambda: klatt)
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path))
    call, said = REFUSED[case]
    with pytest.raises(InputError) as caught:
        call(here)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", WORKS)
def test_what_is_odd_and_usable_works(case, here):
    assert WORKS[case](here)


DAMAGED = {
    "no text": lambda about, arrays: ("", arrays),
    "a text alone": lambda about, arrays: ('"judges"', arrays),
    "a list": lambda about, arrays: ("[]", arrays),
    "very deep": lambda about, arrays: ("[" * 100_000, arrays),
    "no sharpness": lambda about, arrays: (json.dumps(about | {"sharpness": {}}), arrays),
    "classes in a list": lambda about, arrays: (json.dumps(about | {"network classes": ["aa"]}), arrays),
    "no classes": lambda about, arrays: (json.dumps(about | {"classes": None}), arrays),
    "an array less": lambda about, arrays: (json.dumps(about), dict(list(arrays.items())[1:])),
    "a flat array": lambda about, arrays: (
        json.dumps(about),
        arrays | {"cepstrum sex/means": arrays["cepstrum sex/means"].flatten()},
    ),
    "an array of nobody": lambda about, arrays: (json.dumps(about), arrays | {"means": torch.zeros(2)}),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_judges_are_refused(case, tmp_path):
    with safe_open(models_folder() / "judges-klatt.safetensors", "pt") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["about"])
    path = tmp_path / "judges-klatt.safetensors"
    save_file(arrays, path, {"about": json.dumps(about)})
    assert load_judges("klatt", tmp_path).about["corpus"] == "klatt"
    text, arrays = DAMAGED[case](about, arrays)
    save_file(arrays, path, {"about": text})
    with pytest.raises(InputError, match="no usable judges .*fetch it again"):
        load_judges("klatt", tmp_path)
