"""Folds share no speakers, an interrupted protocol resumes, stale results are reported, tables show findings."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from vowelflow import VOWELS, load_corpus
from vowelflow.base import InputError, build_folder
from vowelflow.spectrogram import VOWEL
from vowelstudy import evidence, experiments, folds, statistics, tables
from vowelstudy.experiments import directions
from vowelstudy.experiments.data import counts_agree
from vowelstudy.folds import open_setting
from vowelstudy.methods import picture_method
from vowelstudy.protocol import SMOKE
from vowelstudy.references import direction_speakers, judge_speakers, reference_model
from vowelstudy.statistics import ANSWERS, REPRODUCED, UNDECIDED
from vowelstudy.tokens import codes_of


@pytest.fixture(scope="module")
def setting(klatt, tmp_path_factory):
    """Eight synthetic speakers and a flow of six steps."""
    build = tmp_path_factory.mktemp("setting")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOWELFLOW_BUILD", str(build))
        patch.setattr("vowelstudy.discriminator.STEPS", 2)
        _, folder = reference_model(klatt, "smoke")
        yield open_setting(klatt, folder, SMOKE)


def test_no_speaker_is_both_fitted_on_and_evaluated(setting, klatt):
    for fold in setting.folds:
        fit, evaluation = (
            set(setting.tokens.table.speaker.iloc[rows]) for rows in (fold.fit, fold.evaluation)
        )
        assert fit and evaluation and not fit & evaluation
        assert evaluation == set(klatt.split["test"].table.speaker)


def test_speakers_that_the_flow_was_not_trained_on_are_left_out_in_pairs(klatt):
    groups = folds._pairs_of_speakers(klatt.table)
    assert sorted(name for group in groups for name in group) == sorted(klatt.table.speaker.unique())
    assert all({name[0] for name in group} == {"f", "m"} for group in groups)


def test_who_fits_the_judges_estimates_no_direction(klatt):
    parts = [set(part.table.speaker) for part in (direction_speakers(klatt), judge_speakers(klatt))]
    assert not parts[0] & parts[1] and parts[0] | parts[1] == set(klatt.split["train"].table.speaker)
    assert all({name[0] for name in part} == {"f", "m"} for part in parts)


def test_directions_come_from_the_flows_own_corpus_if_it_is_at_hand(
    setting, klatt, timit_folder, monkeypatch
):
    monkeypatch.setattr(folds, "load_corpus", lambda name, phones: klatt)
    speech = load_corpus("timit-sample", timit_folder)
    found = open_setting(speech, setting.folder, SMOKE)
    assert found.source == "speakers of klatt"
    (fold,), table = found.folds, found.tokens.table
    assert set(table["corpus"].iloc[fold.fit]) == {"klatt"} and set(table.phone.iloc[fold.fit]) <= set(VOWELS)
    assert set(table["corpus"].iloc[fold.evaluation]) == {"timit-sample"}
    assert set(found.validation.table["corpus"]) == {"klatt"}
    own = open_setting(speech, setting.folder, SMOKE, own_directions=True)
    assert own.source == "other speakers of the corpus" and len(own.folds) == 4
    assert own.provenance() != found.provenance()


def test_a_flow_that_was_trained_on_everybody_is_refused(setting, klatt, tmp_path):
    config = json.loads((setting.folder / "config.json").read_text())
    config["speakers"]["train"] += config["speakers"].pop("test")
    for file in setting.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()) if file.is_file() else None
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="nobody"):
        open_setting(klatt, tmp_path, SMOKE)


def test_codes_are_cached_and_averaged(setting, monkeypatch):
    flow, tokens = setting.folds[0].flow, setting.tokens
    tokens.cache.clear()
    code, mean = codes_of(flow, tokens, 0), codes_of(flow, tokens, 0, draws=2)
    assert torch.allclose(flow.decode(code[:2]), flow.encode(tokens.pictures[:2], 0).image, atol=1e-3)
    assert torch.allclose(2 * mean - code, flow.encode(tokens.pictures, 1).flat, atol=1e-4)
    tokens.cache.clear()
    monkeypatch.setattr(type(flow), "encode", lambda *_: pytest.fail("codes are cached"))
    assert torch.equal(codes_of(flow, tokens, 0), code)


def test_damaged_codes_are_refused(setting):
    flow, tokens = setting.folds[0].flow, setting.tokens
    tokens.cache.clear()
    code = codes_of(flow, tokens, 0)
    for path in (build_folder() / "codes").glob("*.safetensors"):
        whole = path.read_bytes()
        for damaged in (whole[:-9] + bytes(9), whole[: len(whole) // 2]):
            path.write_bytes(damaged)
            tokens.cache.clear()
            with pytest.raises(InputError, match="is damaged; remove it"):
                [codes_of(flow, tokens, 0, draws) for draws in (1, 2)]
        path.write_bytes(whole)
    tokens.cache.clear()
    assert torch.equal(codes_of(flow, tokens, 0), code)


def test_the_displacement_of_vowel_holds_nothing_of_sex():
    """The vectors have vowel on one axis and sex on the other, with unequal numbers of tokens."""
    rows = [("aa", "f")] * 6 + [("aa", "m")] * 1 + [("ae", "f")] * 2 + [("ae", "m")] * 5
    table = pd.DataFrame(rows, columns=["phone", "sex"])
    vectors = torch.tensor([[phone == "ae", sex == "m"] for phone, sex in rows]).float()
    displacement = picture_method(VOWEL.shape).displacement
    for factor, wanted in (("phone", [1, 0]), ("sex", [0, 1])):
        found = displacement(vectors, directions.contrast(table, factor))
        assert torch.allclose(found, torch.tensor([wanted]).float(), atol=1e-6)
    assert directions.contrast(table, "phone", ["aa"] * len(rows)).any() == np.False_


def test_shuffled_labels_keep_their_numbers_and_other_vowels():
    rng = np.random.default_rng(0)
    phones = ["aa", "iy", "ae", "ae", "aa", "aa", "ae"]
    table = pd.DataFrame({"speaker": list("aaaabbb"), "phone": phones, "sex": list("ffffmmm"), "corpus": "x"})
    seen = set()
    for _ in range(30):
        fake = pd.Series(directions.shuffled(table, "phone", rng))
        found, true = (labels.groupby(table.sex).apply(sorted) for labels in (fake, table.phone))
        assert found.equals(true) and fake[1] == "iy"
        seen.add(tuple(fake))
        assert set(zip(table.speaker, directions.shuffled(table, "sex", rng))) in (
            {("a", "f"), ("b", "m")},
            {("a", "m"), ("b", "f")},
        )
    assert len(seen) == 9


def test_labels_are_shuffled_within_a_corpus_and_also_if_a_speaker_has_one_vowel():
    rng, speakers = np.random.default_rng(0), [f"s{k}" for k in range(20)]
    table = pd.DataFrame({"speaker": speakers, "phone": ["aa", "ae"] * 10, "sex": list("ffmm") * 5})
    table["corpus"] = ["x"] * 12 + ["y"] * 8
    for factor in ("phone", "sex"):
        fakes = [directions.shuffled(table, factor, rng) for _ in range(20)]
        assert np.mean([fake != table[factor] for fake in fakes]) == pytest.approx(0.5, abs=0.15)
        for fake in fakes:
            assert sorted(fake[:12]) == sorted(table[factor][:12])


def test_a_claim_is_measured_once_and_again_when_something_changed(setting, tmp_path, capsys, monkeypatch):
    folder = evidence.run_all(setting, "likelihood", tmp_path)
    assert capsys.readouterr().out.startswith("[1/1] likelihood ...")
    evidence.run_all(setting, "likelihood", tmp_path)
    assert capsys.readouterr().out == "likelihood: already measured\n"
    (result,) = evidence.full_results(folder).values()
    assert not result["stale"] and result["provenance"]["speakers"] == setting.tokens.table.speaker.nunique()
    assert evidence.is_stale(result["provenance"] | {"weights": "0"}, experiments.CLAIMS["likelihood"])
    assert evidence.is_stale(result["provenance"] | {"judges": "0"}, experiments.CLAIMS["likelihood"])
    newer = dataclasses.replace(experiments.CLAIMS["likelihood"], version=99)
    monkeypatch.setitem(experiments.CLAIMS, "likelihood", newer)
    assert evidence.full_results(folder)["likelihood"]["stale"]
    with pytest.raises(InputError, match="no claim 'colour'; there are gaussian"):
        evidence.run_all(setting, "colour", tmp_path)


def test_a_test_that_finds_something_in_shuffled_labels_gives_no_positive_answer():
    row = {"answer": REPRODUCED, "reason": ""}
    null = {"of": "labels shuffled", "share": 0.2, "interval": [0.14, 0.26]}
    assert experiments._checked(row, null)["answer"] == UNDECIDED
    usual = null | {"interval": [0.03, 0.09]}
    assert experiments._checked(row, usual) == row == experiments._checked(row, None)


# The protocol's table: claims, and the nulls and simple methods of each that need no other model.
TABLE = {
    "gaussian": ({"pictures", "untrained flow"}, {"PCA, whitened"}),
    "likelihood": ({"untrained flow"}, {"diagonal Gaussian", "probabilistic PCA", "Gaussian mixture", "FLAC"}),
    "samples": ({"untrained flow", "random pixels"}, {"PCA-Gaussian", "mixture"}),
    "interpolation": (
        {"to a random code", "to another pair's end"}, {"pictures", "PCA", "cepstrum", "great circle"},
    ),
    "direction": ({"no move", "shuffled labels", "random direction"}, {"pictures", "PCA", "cepstrum"}),
    "composition": ({"no move", "shuffled labels", "random direction"}, {"pictures", "PCA", "cepstrum"}),
    "unsupervised": ({"random rotation", "shuffled labels"}, {"pictures", "ICA of pictures"}),
    "denoising": (
        {"no move", "random direction", "shuffled labels"}, {"pictures", "Wiener filter", "spectral subtraction"},
    ),
    "discrimination": ({"split halves of pictures"}, {"PCA, whitened", "untrained flow"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_every_claim_of_the_protocol_asks_both_questions(setting, name):
    result = experiments.measure(name, setting)
    json.dumps(result, allow_nan=False)
    primary = {row["question"]: row for row in result["findings"] if row["primary"]}
    for question, wanted in zip(("effect", "flow"), TABLE[name]):
        row = primary[question]
        assert wanted == set(row["baselines"]) and row["answer"] in ANSWERS and row["reason"]
        keys = (
            "estimate interval n speakers scale margin statement section notebook observation judges version"
        )
        assert set(keys.split()) <= row.keys()
    assert len(primary) == 2 and "undecided" in tables.show(result).data  # there are two evaluation speakers


def test_claims_that_need_another_model_say_so(setting):
    for name in ("density", "silence"):
        (row,) = experiments.measure(name, setting)["findings"]
        assert (row["answer"], row["reason"]) == (UNDECIDED, "nothing to compare with in this setting")


def test_models_that_go_with_a_flow_are_used_where_they_are_there(setting, klatt, monkeypatch):
    from vowelflow.training import PROFILES, train
    from vowelstudy.vae import VAEConfig, train_vae

    first, few = setting.folder, dataclasses.replace(PROFILES["smoke"], iterations=1)
    monkeypatch.setenv("VOWELFLOW_BUILD", str(first.parents[1]))
    train(
        klatt, first.with_name(f"{first.name}-noise"), dataclasses.replace(few, noise_db=(0.0, 20.0)), seed=1
    )
    train(klatt, first.with_name(f"{first.name}-seed-1"), few, seed=1)
    train_vae(klatt, first.with_name(f"{first.name}-vae"), VAEConfig(widths=(2, 2, 2), latent=3), few)
    family = open_setting(klatt, first, SMOKE)
    assert (
        set(family.provenance()["beside"]) == {"noise", "other", "vae"} and not setting.provenance()["beside"]
    )
    for name, wanted in (("denoising", {"beta-VAE"}), ("density", {"pictures", "great circle"})):
        rows = experiments.measure(name, family)["findings"]
        (flow,) = [row for row in rows if row["primary"] and row["question"] == "flow"]
        assert wanted <= set(flow["baselines"])
    assert open_setting(klatt, first.with_name(f"{first.name}-seed-1"), SMOKE).other is not None


def test_silence_is_a_question_about_padded_pictures(klatt, tmp_path, monkeypatch):
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path))
    _, folder = reference_model(klatt, "smoke-padded")
    (row,) = experiments.measure("silence", open_setting(klatt, folder, SMOKE))["findings"]
    assert (row["question"], set(row["baselines"])) == ("flow", {"PCA-Gaussian", "mixture"})
    assert 0 <= row["estimate"] <= 1 and row["observation"] == "padded"


def test_an_independent_reading_of_timit_finds_the_same(timit_folder):
    speech = load_corpus("timit-sample", timit_folder)
    assert counts_agree(speech, str(timit_folder)) == 1
    fewer = dataclasses.replace(speech, table=speech.table.iloc[1:].reset_index(drop=True))
    assert 0 < counts_agree(fewer, str(timit_folder)) < 1


def test_tables_and_the_readme_are_made_from_verdicts(setting, tmp_path):
    tables.write_verdicts(evidence.run_all(setting, "likelihood", tmp_path))
    (tmp_path / "README.md").write_text(f"before\n{tables.MARKS[0]}\nlast year\n{tables.MARKS[1]}\nafter\n")
    text = tables.renew_readme(tmp_path).read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "last year" not in text
    assert "](results/verdicts.svg)" in text and "<svg" in (tmp_path / "results/verdicts.svg").read_text()
    assert f"| {setting.flow} on klatt: does it need the flow? |" in text and "? undecided" in text
    shown = tables.table(tables.load_verdicts(tmp_path)["klatt", setting.flow]["findings"], link="")
    assert shown.claim[0].endswith("(03_distributions.html)") and "stale" not in shown.answer[0]


def test_other_seeds_and_directions_are_reported_beside_and_can_turn_an_answer(setting, tmp_path):
    assert "No other seed" in tables.over_seeds([])
    folder = evidence.run_all(setting, "likelihood", tmp_path)
    suffix = f"{evidence.OTHER_SEED}3"
    other = evidence.run_all(dataclasses.replace(setting, seed=3), "likelihood", tmp_path, suffix)
    evidence.run_all(setting, "likelihood", tmp_path, evidence.OWN_DIRECTIONS)
    assert other.name == f"{setting.flow}-sampling-seed-3" and other.parent == folder.parent
    tables.write_verdicts(folder)
    rows = tables.load_verdicts(tmp_path)["klatt", setting.flow]["findings"]
    wanted = {"sampling seed 3", "with directions of the corpus's own speakers"}
    assert set(rows[0]["seeds"]) == wanted and rows[0]["seeds"]["sampling seed 3"]["answer"] == UNDECIDED
    sentence = tables.over_seeds(rows)
    assert sentence.startswith("2 primary answers") and sentence.endswith("it changes none.")
    path = folder / "likelihood.json"
    content = json.loads(path.read_text())
    content["findings"][0]["answer"] = REPRODUCED
    for one in content["findings"][0]["baselines"].values():
        one["difference"]["p"] = 1e-4
    path.write_text(json.dumps(content))
    tables.write_verdicts(folder)
    row = tables.load_verdicts(tmp_path)["klatt", setting.flow]["findings"][0]
    assert (row["answer"], "sampling seed 3" in row["reason"]) == (UNDECIDED, True)


def test_a_shuffle_is_an_effect_to_a_t_test_over_speakers_and_not_to_other_shuffles():
    """A false displacement moves all speakers in the same way, so they are not independent."""
    rng = np.random.default_rng(0)
    fakes = rng.standard_normal((200, 1)) + 0.3 * rng.standard_normal((200, 16))
    null = statistics.calibrated(fakes)
    assert null["t test over speakers"] > 0.6
    assert null["shuffles"] == 100 and null["interval"][0] <= 0.05 <= null["interval"][1]
    assert statistics.rank(10.0, fakes.mean(1)) == 1 / 201 and statistics.rank(-10.0, fakes.mean(1)) == 1


def test_an_interval_that_ends_at_zero_is_an_interval():
    found = {
        "a": {"estimate": 0.1, "low": 0.0, "high": 0.2, "clusters": 9},
        "b": {"estimate": 0.1, "low": None, "high": None, "clusters": 2},
    }
    assert tables.intervals(found).estimate.to_dict() == {"a": "0.100 (0.000 to 0.200)", "b": "0.100"}
    assert tables.intervals(None).empty
