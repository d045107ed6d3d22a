import json
from dataclasses import replace

import pytest

from vowelflow.base import InputError
from vowelflow.checkpoint import file_hash
from vowelflow.training import PROFILES, train
from vowelstudy import references
from vowelstudy.references import RECIPES, new_speakers, recipe_named, reference_model

SMOKE = PROFILES["smoke"]


def weights(folder):
    return file_hash(folder / "model.safetensors")


def test_reference_weights_must_be_of_this_very_corpus(klatt, tmp_path, monkeypatch):
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path))
    _, trained = reference_model(klatt, "smoke")
    assert trained == tmp_path / "models" / "smoke-klatt"
    before = weights(trained)
    assert reference_model(klatt, "smoke")[1] == trained and weights(trained) == before
    part = klatt.filter(phone=["aa", "ae"])
    other = reference_model(part, "smoke")[1]
    assert other == tmp_path / "models" / f"smoke-klatt-{part.fingerprint}" and weights(other) != before
    assert weights(trained) == before and reference_model(part, "smoke")[1] == other


def test_a_training_that_was_cut_short_goes_on(klatt, tmp_path, monkeypatch):
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path / "build"))
    train(klatt, tmp_path / "whole", SMOKE)
    cut = tmp_path / "build" / "models" / "smoke-klatt"
    train(klatt, cut, SMOKE, minutes=0)
    assert (
        json.loads((cut / "config.json").read_text())["steps"] == 1
    )  # what is there is usable, but not what was wanted
    assert reference_model(klatt, "smoke")[1] == cut and weights(cut) == weights(tmp_path / "whole")


@pytest.fixture
def met(klatt, tmp_path, monkeypatch):
    """Weights named smoke-speech, trained on the corpus "elsewhere", in a folder of models."""
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path / "build"))
    folder = tmp_path / "models" / "smoke-speech"
    elsewhere = replace(klatt, name="elsewhere", table=klatt.table.assign(corpus="elsewhere"))
    train(replace(elsewhere, sounds={"elsewhere": klatt.sounds["klatt"]}), folder, SMOKE)
    return folder


def test_real_speech_uses_the_flow_that_never_met_its_test_speakers(klatt, met):
    people = replace(
        klatt,
        name="people",
        table=klatt.table.assign(corpus="people"),
        sounds={"people": klatt.sounds["klatt"]},
    )
    assert reference_model(people, "smoke", models=met.parent)[1] == met
    assert len(new_speakers(json.loads((met / "config.json").read_text()), people)) == len(people)
    assert reference_model(klatt, "smoke", models=met.parent)[1].name == "smoke-klatt"  # made, not spoken
    same = replace(
        people, table=klatt.table.assign(corpus="elsewhere"), sounds={"elsewhere": klatt.sounds["klatt"]}
    )
    assert reference_model(same, "smoke", models=met.parent)[1] == met  # it left these test speakers out, too
    left = new_speakers(json.loads((met / "config.json").read_text()), same)
    assert set(left.table.split) == {"test"}
    mixed = replace(same, table=same.table.assign(split="test"))
    with pytest.raises(InputError, match="no train speakers"):  # so it would have to train
        reference_model(mixed, "smoke", models=met.parent)


def test_recipes(klatt, monkeypatch):
    with pytest.raises(InputError, match="no reference model 'cpu-martian'; there are speech, "):
        recipe_named("cpu-martian")
    assert recipe_named("cpu-speech-crop").settings().glow.frames == 64
    assert recipe_named("cpu-speech-noise").settings().noise_db
    assert replace(RECIPES["cpu-klatt"], iterations=7).settings().iterations == 7
    monkeypatch.setattr(references, "load_corpus", lambda *given: klatt)
    assert RECIPES["cpu-klatt"].speech().fingerprint == klatt.fingerprint
    half = replace(RECIPES["cpu-klatt"], share=0.5).speech().split
    assert half["train"].table.speaker.nunique() == klatt.split["train"].table.speaker.nunique() / 2
    assert len(half["test"]) == len(klatt.split["test"])
    quarter = replace(RECIPES["cpu-klatt"], share=0.25).speech().split["train"]
    assert set(quarter.table.speaker) <= set(half["train"].table.speaker)


def test_every_speaker_is_a_test_speaker_once(klatt):
    folds = [klatt.fold(number) for number in (1, 2, 3, 4)]
    tested = [set(fold.split["test"].table.speaker) for fold in folds]
    assert sum(map(len, tested)) == len(set().union(*tested)) == klatt.table.speaker.nunique()
    for fold in folds:
        parts = {name: set(part.table.speaker) for name, part in fold.split.items()}
        assert sum(map(len, parts.values())) == klatt.table.speaker.nunique() and all(parts.values())
        sexes = fold.table.groupby("split").sex.nunique()
        assert (sexes == 2).all()
    assert len({fold.fingerprint for fold in folds}) == 4
    with pytest.raises(InputError, match="fold 5 of 4: klatt has 4 speakers of sex f"):
        klatt.fold(5)
