import json
import shutil
from dataclasses import replace

import pytest

from vowelflow.base import InputError, build_folder
from vowelflow.checkpoint import file_hash, read_config
from vowelflow.training import PROFILES, train
from vowelstudy import references
from vowelstudy.references import (
    RECIPES,
    direction_speakers,
    judge_speakers,
    new_speakers,
    recipe_named,
    reference_model,
)

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


def of_people(klatt, name, **columns):
    """The same tokens as another corpus."""
    sounds = {name: klatt.sounds["klatt"]}
    return replace(klatt, name=name, table=klatt.table.assign(corpus=name, **columns), sounds=sounds)


@pytest.fixture
def met(klatt, tmp_path, monkeypatch):
    """Weights named ``speech``, trained on the corpus "elsewhere", in a folder of models."""
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(references, "profile_named", lambda name: replace(SMOKE, iterations=1))
    folder = tmp_path / "models" / "speech"
    train(of_people(klatt, "elsewhere"), folder, replace(SMOKE, iterations=2))
    return folder


def test_real_speech_uses_the_flow_that_never_met_its_test_speakers(klatt, met):
    config, people = read_config(met), of_people(klatt, "people")
    assert reference_model(people, models=met.parent)[1] == met
    assert len(new_speakers(config, people)) == len(people)
    same = of_people(klatt, "elsewhere")
    assert reference_model(same, models=met.parent)[1] == met  # it left these test speakers out, too
    assert set(new_speakers(config, same).table.split) == {"test"}
    mixed = of_people(klatt, "elsewhere", split="test")
    with pytest.raises(InputError, match="no train speakers"):  # so it would have to train
        reference_model(mixed, models=met.parent)


def test_another_profile_or_kind_of_speech_is_trained(klatt, met):
    """Flows of speech are not for synthetic speech, nor for a study of another size."""
    people, built = of_people(klatt, "people"), build_folder() / "models"
    assert reference_model(people, "smoke", models=met.parent)[1] == built / "smoke-people"
    assert reference_model(klatt, models=met.parent)[1] == built / "cpu-klatt"  # made, not spoken
    shutil.copytree(met, met.with_name("klatt"))
    assert reference_model(klatt, models=met.parent)[1] == met.with_name("klatt")


def test_who_was_met_in_a_part_of_a_corpus_is_not_new_in_the_whole(klatt):
    """``timit-sample`` is in ``timit``, and a joined corpus has its parts' speakers."""
    ann, bob, *_ = sorted(klatt.table.speaker.unique())
    config = {"corpus": "librispeech+timit-sample", "speakers": {"train": [ann], "valid": [bob]}}
    for name in ("timit", "timit-sample", "librispeech"):
        left = set(new_speakers(config, of_people(klatt, name)).table.speaker)
        assert left == {*klatt.table.speaker} - {ann, bob}
    assert len(new_speakers(config, klatt)) == len(klatt)


def test_recipes(klatt, monkeypatch):
    with pytest.raises(InputError, match="no reference model 'martian'; there are speech, "):
        recipe_named("martian")
    assert recipe_named("speech-noise").settings().noise_db and RECIPES["speech-noise"].start_from == "speech"
    assert recipe_named("speech-padded").settings().glow.frames == 288
    settings = recipe_named("speech").settings()
    assert (settings.iterations, settings.snapshots) == (37_500, (50_000, 100_000))
    assert replace(settings, iterations=1, snapshots=()) == replace(PROFILES["vowel"], iterations=1)
    assert recipe_named("paper-speech").settings() == PROFILES["paper"]
    table = klatt.table.copy()
    table.loc[0, "end"] = table.start[0] + 100  # 6 ms
    monkeypatch.setattr(references, "load_corpus", lambda *given: replace(klatt, table=table))
    speech = recipe_named("klatt").speech()
    assert len(speech) == len(klatt) - 1 and speech.left_out.reason.iloc[-1] == "shorter than 12.5 ms"


def test_nobody_estimates_directions_and_fits_judges(klatt):
    train = klatt.split["train"]
    parts = [set(part.table.speaker) for part in (direction_speakers(klatt), judge_speakers(klatt))]
    assert all(parts) and not parts[0] & parts[1] and parts[0] | parts[1] == set(train.table.speaker)
    for part in (direction_speakers(klatt), judge_speakers(klatt)):
        assert (
            part.table.sex.nunique() == 2 and len(part) == train.table.speaker.isin(part.table.speaker).sum()
        )
    one_vowel = direction_speakers(klatt.filter(phone="aa"))  # who is chosen does not depend on tokens
    assert set(one_vowel.table.speaker) == parts[0]
