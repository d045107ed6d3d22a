"""Every public function, given what it cannot use: it says so in an ``InputError``, or works; nothing is silently wrong."""

import numpy as np
import pytest
import torch

import vowelflow as vf
from vowelflow.corpus import InputError
from vowelflow.factors import matched_pairs, random_direction, speaker_pairs
from vowelflow.glow import Glow, GlowConfig

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def here():
    """One token of each vowel and sex of a few synthetic speakers, two of their pictures and phases, and a tiny flow's codes."""
    torch.manual_seed(0)
    speech = vf.load_corpus("klatt").draw(1, by=("sex", "phone"))
    two = speech.take([0, 1])
    model = Glow(GlowConfig(288, 288, squeeze=((2, 2),) * 2, steps=1, hidden=(8, 8))).eval()
    pictures = vf.images(two)
    return {
        "speech": speech, "none": speech.take([]), "one": speech.take([0]), "pictures": pictures, "phase": vf.phases(two)[0],
        "model": model, "codes": model.encode(pictures).flat,
    }  # fmt: skip


REFUSED = {
    "an unknown corpus": (lambda h: vf.load_corpus("timmit"), "no corpus 'timmit'"),
    "a corpus of no name": (lambda h: vf.load_corpus(None), "no corpus None"),
    "a corpus that is a number": (lambda h: vf.load_corpus(3), "no corpus 3"),
    "a folder that is not there": (lambda h: vf.load_corpus("timit", "/nowhere"), "/nowhere: no such folder"),
    "an unknown vowel": (lambda h: vf.load_corpus("klatt", phones="zz"), "no segment labelled zz"),
    "no vowel": (lambda h: vf.load_corpus("klatt", phones=""), "names no label"),
    "an unknown column": (lambda h: h["speech"].filter(colour="red"), "no column 'colour'"),
    "a row too many": (lambda h: h["speech"].take([9999]), "rows of klatt are whole numbers below"),
    "half a row": (lambda h: h["speech"].take([0.5]), "whole numbers"),
    "none of each": (lambda h: h["speech"].draw(0), "0 of each"),
    "less than none of each": (lambda h: h["speech"].draw(-1), "-1 of each"),
    "each of an unknown column": (lambda h: h["speech"].draw(1, by=("colour",)), "colour"),
    "a sixth fold of four": (lambda h: h["speech"].fold(6), "fold 6 of 4"),
    "pictures of nothing": (lambda h: vf.images(h["none"]), "no segment of klatt is left"),
    "phases of nothing": (lambda h: vf.phases(h["none"]), "no segment of klatt is left"),
    "peaks of nothing": (lambda h: vf.peaks(h["none"]), "no segment of klatt is left"),
    "several pictures to a sound": (lambda h: vf.to_audio(h["pictures"], h["phase"]), "give one picture"),
    "part of a phase": (lambda h: vf.to_audio(h["pictures"][0], h["phase"][:9]), "a phase is (257, 288)"),
    "no frame": (lambda h: vf.to_audio(h["pictures"][0], h["phase"], frames=0), "frames are 1 to 288"),
    "a frame too many": (lambda h: vf.to_audio(h["pictures"][0], h["phase"], frames=289), "frames are 1 to 288"),
    "a peak below 0": (lambda h: vf.to_audio(h["pictures"][0], h["phase"], -1.0), "0 or more, not -1"),
    "a peak that is no number": (lambda h: vf.to_audio(h["pictures"][0], h["phase"], NAN), "0 or more, not nan"),
    "an infinite peak": (lambda h: vf.griffin_lim(h["pictures"][0], INF), "0 or more, not inf"),
    "part of a picture": (lambda h: vf.griffin_lim(h["pictures"][0][:, :9]), "288x288"),
    "no frame to invent": (lambda h: vf.griffin_lim(h["pictures"][0], frames=0), "frames are 1 to 288"),
    "purple noise": (lambda h: vf.add_noise(10, 0, "purple"), "white, pink or babble"),
    "babble of nobody": (lambda h: vf.add_noise(10, 0, "babble"), "give a corpus"),
    "babble of no segment": (lambda h: vf.add_noise(10, 0, "babble", h["none"]), "give a corpus"),
    "a ratio that is no number": (lambda h: vf.add_noise(NAN), "not nan"),
    "a draw of no seed": (lambda h: h["speech"].draw(1, seed="a"), "seed 'a': give a whole number"),
    "a fold of no seed": (lambda h: h["speech"].fold(1, seed=0.5), "seed 0.5: give a whole number"),
    "a study of no seed": (lambda h: vf.study.run_study("klatt", seed=-1), "seed -1: give a whole number"),
    "a book at no address": (lambda h: vf.study.build_book(url="my page"), "my page is no address of a page"),
    "a width too few": (lambda h: GlowConfig(hidden=(8, 8)), "one entry for each level"),
    "a side that does not halve": (lambda h: GlowConfig(side=100), "multiples of"),
    "pictures with holes": (lambda h: vf.dequantize(h["pictures"] * NAN), "finite and in"),
    "pictures too bright": (lambda h: vf.dequantize(h["pictures"] + 2), "finite and in"),
    "part of pictures": (lambda h: h["model"].encode(h["pictures"][:, :, :100]), "pictures are (n, 1, 288, 288)"),
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
    "an unknown model": (lambda h: vf.load_model("cpu-kltt"), "no model 'cpu-kltt'"),
    "an unknown profile": (lambda h: vf.profile_named("cpuu"), "no profile 'cpuu'"),
    "a model of an unknown profile": (lambda h: vf.reference_model(h["speech"], "cpuu"), "no profile 'cpuu'"),
    "an empty class": (lambda h: vf.direction(h["codes"][:0], h["codes"]), "not 0 and 2"),
    "classes of two spaces": (lambda h: vf.direction(h["codes"], h["codes"][:, :5]), "of one length"),
    "a class with holes": (lambda h: vf.direction(h["codes"] * NAN, h["codes"]), "finite"),
    "a line of no point": (lambda h: vf.line(h["codes"][:1], h["codes"][1:], 0), "points at least 1"),
    "a line between two spaces": (lambda h: vf.line(h["codes"][:1], torch.zeros(1, 5)), "ends are (1, d)"),
    "a line from several": (lambda h: vf.line(h["codes"], h["codes"]), "ends are (1, d)"),
    "a circle between two spaces": (lambda h: vf.great_circle(h["codes"][:1], torch.zeros(1, 5)), "ends are (1, d)"),
    "a circle of no point": (lambda h: vf.great_circle(h["codes"][:1], h["codes"][1:], 0), "points at least 1"),
    "a circle from the origin": (lambda h: vf.great_circle(h["codes"][:1] * 0, h["codes"][1:]), "the origin"),
    "a circle from nowhere": (lambda h: vf.great_circle(h["codes"][:1] * NAN, h["codes"][1:]), "finite"),
    "an unknown factor": (lambda h: matched_pairs(h["speech"], "mood", 1), "not 'mood'"),
    "pairs of one token": (lambda h: matched_pairs(h["one"], "phone", 1), "no two of the 1 tokens"),
    "less than no pair": (lambda h: matched_pairs(h["speech"], "phone", -1), "-1 pairs: ask for one or more"),
    "pairs of no seed": (lambda h: matched_pairs(h["speech"], "phone", 1, -1), "seed -1: give a whole number"),
    "less than no pair of speakers": (lambda h: speaker_pairs(h["speech"], 0), "0 pairs: ask for one or more"),
    "pairs of speakers of no seed": (lambda h: speaker_pairs(h["speech"], 1, -1), "seed -1: give a whole number"),
    "a random direction of no seed": (lambda h: random_direction(h["codes"], -1), "seed -1: give a whole number"),
    "pairs of one speaker": (lambda h: speaker_pairs(h["one"], 1), "no two speakers"),
    "a result that is no number": (lambda h: vf.write_results("01_x", {"a": NAN}), "01_x.a is nan"),
    "a result that JSON has no word for": (lambda h: vf.write_results("01_x", {"a": object()}), "01_x.a is a object"),
    "a result in another folder": (lambda h: vf.write_results("../x", {"a": 1}), "no notebook's name"),
}
WORKS = {
    "a filter that keeps none": lambda h: len(h["speech"].filter(sex="x")) == 0,
    "the last row": lambda h: len(h["speech"].take([-1])) == 1,
    "frames of nothing": lambda h: vf.frame_count(h["none"]).shape == (0,),
    "one token": lambda h: vf.images(h["one"]).shape == (1, 1, 288, 288),
    "a silent peak": lambda h: not np.any(vf.to_audio(h["pictures"][0], h["phase"], 0.0)),
    "a picture with holes": lambda h: np.isfinite(vf.to_audio(h["pictures"][0] * NAN, h["phase"])).all(),
    "a peak as vf.peaks gives it": lambda h: vf.to_audio(h["pictures"][0], h["phase"], vf.peaks(h["one"])[0]).any(),
    "frames as vf.frame_count gives them": lambda h: vf.griffin_lim(
        h["pictures"][0], 1.0, 2, vf.frame_count(h["one"])[0]
    ).any(),
    "frames in a tensor": lambda h: len(vf.to_audio(h["pictures"][0], h["phase"], 1.0, torch.tensor(9))) == 144,
    "one frame": lambda h: len(vf.griffin_lim(h["pictures"][0], frames=1)) == 16,
    "no sample": lambda h: h["model"].sample(0).shape == (0, 1, 288, 288),
    "samples without noise": lambda h: h["model"].sample(1, temperature=0.0).isfinite().all(),
    "codes of numpy": lambda h: vf.direction(h["codes"].numpy(), h["codes"].numpy()).shape == (1, 82944),
    "pictures of numpy": lambda h: h["model"].encode(h["pictures"].numpy()).flat.shape == (2, 82944),
    "a circle there and back": lambda h: vf.great_circle(h["codes"][:1], -h["codes"][:1]).isfinite().all(),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_words(case, here, tmp_path, monkeypatch):
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path))
    call, said = REFUSED[case]
    with pytest.raises(InputError) as caught:
        call(here)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", WORKS)
def test_what_is_odd_and_usable_works(case, here):
    assert WORKS[case](here)


WRONG = [None, "aa", {}, NAN, object(), ["a", "b"], b"aa", torch.zeros(2, 2, 2), torch.zeros(0), 3.5j]
# What takes an object, and which of the wrong ones it has a use for.
TAKES = {
    "padding_share": (lambda h, x: vf.padding_share(x), []),
    "direction": (lambda h, x: vf.direction(x, h["codes"]), []),
    "line": (lambda h, x: vf.line(x, h["codes"][:1]), []),
    "line's points": (lambda h, x: vf.line(h["codes"][:1], h["codes"][1:], x), []),
    "great_circle": (lambda h, x: vf.great_circle(h["codes"][:1], x), []),
    "great_circle's points": (lambda h, x: vf.great_circle(h["codes"][:1], h["codes"][1:], x), []),
    "matched_pairs": (lambda h, x: matched_pairs(x, "sex", 1), []),
    "speaker_pairs": (lambda h, x: speaker_pairs(x, 1), []),
    "take": (lambda h, x: h["speech"].take(x), [8]),
    "draw": (lambda h, x: h["speech"].draw(x), []),
    "draw by": (lambda h, x: h["speech"].draw(1, by=x), []),
    "fold": (lambda h, x: h["speech"].fold(x), []),
    "with_train_share": (lambda h, x: h["speech"].with_train_share(x), []),
    "reference_model": (lambda h, x: vf.reference_model(x), []),
    "load_corpus": (lambda h, x: vf.load_corpus(x), []),
    "load_corpus's root": (lambda h, x: vf.load_corpus("timit", x), []),
    "load_corpus's phones": (lambda h, x: vf.load_corpus("klatt", phones=x), [1]),
    "write_results": (lambda h, x: vf.write_results("01_x", x), [2]),
    "write_results' name": (lambda h, x: vf.write_results(x, {}), [1]),
}


@pytest.mark.parametrize("taker", TAKES)
def test_what_is_of_the_wrong_type_is_refused_in_words(taker, here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path))
    call, fine = TAKES[taker]
    for place, wrong in enumerate(WRONG):
        if place in fine:
            continue
        with pytest.raises(InputError) as caught:
            call(here, wrong)
        assert 10 < len(str(caught.value)) < 400, wrong
