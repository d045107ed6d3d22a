"""Folds share no speakers, an interrupted protocol resumes, stale results are reported, tables show findings."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from vowelflow.base import InputError, build_folder
from vowelstudy import evidence, experiments, folds, statistics, tables
from vowelstudy.experiments import directions
from vowelstudy.folds import codes_of, open_setting
from vowelstudy.protocol import SMOKE
from vowelstudy.references import reference_model


@pytest.fixture(scope="module")
def setting(klatt, tmp_path_factory):
    """Eight synthetic speakers and a flow of six steps."""
    build = tmp_path_factory.mktemp("setting")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOWELFLOW_BUILD", str(build))
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


def test_a_flow_that_was_trained_on_everybody_is_refused(setting, klatt, tmp_path):
    config = json.loads((setting.folders[0] / "config.json").read_text())
    config["speakers"]["train"] += config["speakers"].pop("test")
    for file in setting.folders[0].iterdir():
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
    for factor, wanted in (("phone", [1, 0]), ("sex", [0, 1])):
        found = directions.displacement(vectors, directions.contrast(table, factor))
        assert torch.allclose(found, torch.tensor([wanted]).float(), atol=1e-6)
    assert directions.contrast(table, "phone", ["aa"] * len(rows)).any() == np.False_


def test_shuffled_labels_keep_their_numbers_and_other_vowels():
    rng = np.random.default_rng(0)
    phones = ["aa", "iy", "ae", "ae", "aa", "aa", "ae"]
    table = pd.DataFrame({"speaker": list("aaaabbb"), "phone": phones, "sex": list("ffffmmm")})
    seen = set()
    for _ in range(30):
        fake = pd.Series(directions.shuffled(table, "phone", rng))
        found, true = (labels.groupby(table.speaker).apply(sorted) for labels in (fake, table.phone))
        assert found.equals(true) and fake[1] == "iy"
        seen.add(tuple(fake))
        assert set(zip(table.speaker, directions.shuffled(table, "sex", rng))) in (
            {("a", "f"), ("b", "m")},
            {("a", "m"), ("b", "f")},
        )
    assert len(seen) == 9


def test_a_claim_is_measured_once_and_again_when_something_changed(setting, tmp_path, capsys, monkeypatch):
    folder = evidence.run_all(setting, "likelihood", tmp_path)
    assert capsys.readouterr().out.startswith("likelihood ...")
    evidence.run_all(setting, "likelihood", tmp_path)
    assert capsys.readouterr().out == "likelihood: already measured\n"
    (result,) = evidence.full_results(folder).values()
    assert not result["stale"] and result["provenance"]["speakers"] == setting.tokens.table.speaker.nunique()
    assert evidence.is_stale(result["provenance"] | {"weights": ["0"]}, experiments.CLAIMS["likelihood"])
    assert evidence.is_stale(result["provenance"] | {"judge": "0"}, experiments.CLAIMS["likelihood"])
    newer = dataclasses.replace(experiments.CLAIMS["likelihood"], version=99)
    monkeypatch.setitem(experiments.CLAIMS, "likelihood", newer)
    assert evidence.full_results(folder)["likelihood"]["stale"]
    with pytest.raises(InputError, match="no claim 'colour'; there are data"):
        evidence.run_all(setting, "colour", tmp_path)


def test_a_test_that_finds_something_in_shuffled_labels_holds_nothing():
    row = {"verdict": "holds", "reason": ""}
    null = {"of": "labels shuffled", "share": 0.2, "interval": [0.14, 0.26]}
    assert experiments._checked(row, null)["verdict"] == "not testable here"
    usual = null | {"interval": [0.03, 0.09]}
    assert experiments._checked(row, usual) == row == experiments._checked(row, None)


def test_every_claim_of_the_protocol_has_an_entry_with_what_it_must_tell(setting):
    for name in ("likelihood", "unsupervised", "samples"):
        result = experiments.measure(name, setting)
        json.dumps(result, allow_nan=False)
        for row in result["findings"]:
            assert row["verdict"] in tables.VERDICTS and row["reason"] and row["baselines"]
            wanted = "estimate interval n clusters scale margin statement section notebook"
            assert set(wanted.split()) <= row.keys()
        assert sum(row["primary"] for row in result["findings"]) == 1
        assert "holds" in tables.show(result).data or "not" in tables.show(result).data


def test_variants_of_a_flow_are_measured_where_they_are_there(setting, klatt, monkeypatch):
    from dataclasses import replace

    from vowelflow.training import PROFILES, train

    first, few = setting.folders[0], replace(PROFILES["smoke"], iterations=1)
    monkeypatch.setenv("VOWELFLOW_BUILD", str(first.parents[1]))
    variants = {
        "noise": replace(few, noise_db=(0.0, 20.0)),
        "crop": replace(few, glow=replace(few.glow, frames=64)),
        "half": few,
    }
    for name, profile in variants.items():
        train(klatt, first.with_name(f"{first.name}-{name}"), profile, seed=1)
    family = open_setting(klatt, first, SMOKE)
    assert set(family.variants) == {"noise", "crop", "other"} and not setting.variants
    names = ("samples", "discrimination", "denoising", "density")
    found = {name: experiments.measure(name, family) for name in names}
    assert 0 <= found["samples"]["numbers"]["silent frames of crops"] <= 1
    crops = found["discrimination"]["numbers"]["crops"]
    assert set(crops) == {"pictures", "whole code"}
    assert all(0 <= one["estimate"] <= 1 for one in crops.values())
    parts = {name: {row["part"]: row["primary"] for row in one["findings"]} for name, one in found.items()}
    assert not parts["denoising"]["white noise, a flow that was trained with it"]
    # A flow cannot judge itself: if there is another flow, its comparison is the primary one.
    dense = parts["density"]
    assert dense["under another flow"] and not dense["under a mixture on the mel-cepstrum"]
    alone = {row["part"] for row in experiments.measure("density", setting)["findings"]}
    assert dense.keys() - alone == {"under another flow"}


def test_an_independent_reading_of_timit_finds_the_same(timit_folder):
    from dataclasses import replace

    from vowelflow import load_corpus

    speech = load_corpus("timit-sample", timit_folder)
    found = experiments.data.data(speech, str(timit_folder))
    assert (found["comparisons"][0].values.reader == 1).all() and found["comparisons"][0].exact == 1
    fewer = replace(speech, table=speech.table.iloc[1:].reset_index(drop=True))
    found = experiments.data.data(fewer, str(timit_folder))
    assert (found["comparisons"][0].values.reader < 1).sum() == 1


def test_tables_and_the_readme_are_made_from_verdicts(setting, tmp_path):
    tables.write_verdicts(evidence.run_all(setting, "likelihood", tmp_path))
    (tmp_path / "README.md").write_text(f"before\n{tables.MARKS[0]}\nlast year\n{tables.MARKS[1]}\nafter\n")
    text = tables.renew_readme(tmp_path).read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "last year" not in text
    assert "](results/verdicts.svg)" in text and "<svg" in (tmp_path / "results/verdicts.svg").read_text()
    assert f"| {setting.flow} on klatt |" in text and "? not testable here" in text
    shown = tables.table(tables.load_verdicts(tmp_path)["klatt", setting.flow]["findings"], link="")
    assert shown.claim[0].endswith("(03_distributions.html)") and "stale" not in shown.verdict[0]


def test_other_seeds_are_reported_separately(setting, tmp_path):
    from dataclasses import replace

    assert "No other seed" in tables.over_seeds([])
    folder = evidence.run_all(setting, "likelihood", tmp_path)
    other = evidence.run_all(replace(setting, seed=3), "likelihood", tmp_path)
    assert other.name == f"{setting.flow}-seed-3" and other.parent == folder.parent
    tables.write_verdicts(folder)
    rows = tables.load_verdicts(tmp_path)["klatt", setting.flow]["findings"]
    assert set(rows[0]["seeds"]) == {"3"} and rows[0]["seeds"]["3"]["verdict"] in tables.VERDICTS
    sentence = tables.over_seeds(rows)
    assert sentence.startswith("1 primary verdicts") and "it changes" in sentence
    turned = [row | {"verdict": "other"} for row in rows]
    assert tables.over_seeds(turned).endswith("it changes that of likelihood.")


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
