"""Who is fitted on whom; claims resume; a stale result is called stale; tables say what findings say."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from vowelflow import claims, evidence, verdicts
from vowelflow.claims import directions, nulls
from vowelflow.corpus import InputError
from vowelflow.depths import SMOKE
from vowelflow.references import reference_model


@pytest.fixture(scope="module")
def bench(klatt, tmp_path_factory):
    """A bench of eight synthetic speakers and a flow of six steps."""
    build = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOWELFLOW_BUILD", str(build))
        _, folder = reference_model(klatt, "smoke")
        yield evidence.open_bench(klatt, folder, SMOKE)


def test_nobody_is_both_known_and_unseen(bench, klatt):
    for one in bench.rounds:
        known, unseen = (set(bench.table.speaker.iloc[rows]) for rows in (one.known, one.unseen))
        assert known and unseen and not known & unseen
        assert unseen == set(klatt.split["test"].table.speaker)


def test_whom_the_flow_has_not_met_is_left_out_by_pairs(klatt):
    groups = evidence._pairs_of_speakers(klatt.table)
    assert sorted(name for group in groups for name in group) == sorted(klatt.table.speaker.unique())
    assert all({name[0] for name in group} == {"f", "m"} for group in groups)


def test_a_flow_that_has_met_everybody_is_refused(bench, klatt, tmp_path):
    config = json.loads((bench.folders[0] / "config.json").read_text())
    config["speakers"]["train"] += config["speakers"].pop("test")
    for file in bench.folders[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()) if file.is_file() else None
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="nobody"):
        evidence.open_bench(klatt, tmp_path, SMOKE)


def test_codes_are_kept_and_averaged(bench, monkeypatch):
    one = bench.rounds[0]
    code = bench.codes(one.model)
    assert torch.allclose(one.model.decode(code[:2]), one.model.encode(bench.pictures[:2], 0).image, atol=1e-3)
    bench._codes.clear()
    monkeypatch.setattr(type(one.model), "encode", lambda *_: pytest.fail("codes were kept"))
    assert torch.equal(bench.codes(one.model), code)


def test_damaged_codes_are_refused(bench):
    from vowelflow.study import build_folder

    code = bench.codes(bench.rounds[0].model)
    for path in (build_folder() / "codes").glob("*.safetensors"):
        whole = path.read_bytes()
        for damaged in (whole[:-9] + bytes(9), whole[: len(whole) // 2]):
            path.write_bytes(damaged)
            bench._codes.clear()
            with pytest.raises(InputError, match="is not as it was written; remove it"):
                [bench.codes(model) for one in bench.rounds for model in (one.model, one.untrained)]
        path.write_bytes(whole)
    bench._codes.clear()
    assert torch.equal(bench.codes(bench.rounds[0].model), code)


def test_the_displacement_of_vowel_holds_nothing_of_sex():
    """A plane with vowel along one axis and sex along the other, and unequal counts."""
    rows = [("aa", "f")] * 6 + [("aa", "m")] * 1 + [("ae", "f")] * 2 + [("ae", "m")] * 5
    table = pd.DataFrame(rows, columns=["phone", "sex"])
    vectors = torch.tensor([[phone == "ae", sex == "m"] for phone, sex in rows]).float()
    for factor, wanted in (("phone", [1, 0]), ("sex", [0, 1])):
        found = directions.displacement(vectors, directions.contrast(table, factor))
        assert torch.allclose(found, torch.tensor([wanted]).float(), atol=1e-6)
    assert directions.contrast(table, "phone", ["aa"] * len(rows)).any() == np.False_


def test_shuffled_labels_keep_their_numbers_and_other_vowels():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"speaker": list("aaaabbb"), "phone": ["aa", "iy", "ae", "ae", "aa", "aa", "ae"], "sex": list("ffffmmm")}
    )
    seen = set()
    for _ in range(30):
        fake = pd.Series(directions.shuffled(table, "phone", rng))
        assert (
            fake.groupby(table.speaker).apply(sorted).equals(table.phone.groupby(table.speaker).apply(sorted))
            and fake[1] == "iy"
        )
        seen.add(tuple(fake))
        assert set(zip(table.speaker, directions.shuffled(table, "sex", rng))) in (
            {("a", "f"), ("b", "m")},
            {("a", "m"), ("b", "f")},
        )
    assert len(seen) == 9


def test_a_claim_is_measured_once_and_again_when_something_changed(bench, tmp_path, capsys, monkeypatch):
    folder = claims.run_all(bench, "likelihood", tmp_path)
    assert capsys.readouterr().out.startswith("likelihood ...")
    claims.run_all(bench, "likelihood", tmp_path)
    assert capsys.readouterr().out == "likelihood: there already\n"
    (result,) = claims.full_results(folder).values()
    assert not result["stale"] and result["provenance"]["speakers"] == bench.table.speaker.nunique()
    assert claims.is_stale(result["provenance"] | {"weights": ["0"]}, claims.CLAIMS["likelihood"])
    assert claims.is_stale(result["provenance"] | {"listener": "0"}, claims.CLAIMS["likelihood"])
    newer = dataclasses.replace(claims.CLAIMS["likelihood"], version=99)
    monkeypatch.setitem(claims.CLAIMS, "likelihood", newer)
    assert claims.full_results(folder)["likelihood"]["stale"]
    with pytest.raises(InputError, match="no claim 'colour'; there are data"):
        claims.run_all(bench, "colour", tmp_path)


def test_a_test_that_finds_something_in_shuffled_labels_holds_nothing():
    row = {"verdict": "holds", "reason": ""}
    null = {"of": "labels shuffled", "share": 0.2, "interval": [0.14, 0.26]}
    assert claims._checked(row, null)["verdict"] == "not testable here"
    assert claims._checked(row, null | {"interval": [0.03, 0.09]}) == row == claims._checked(row, None)


def test_every_claim_of_the_protocol_has_an_entry_with_what_it_must_tell(bench):
    for name in ("likelihood", "unsupervised", "samples"):
        result = claims.measure(name, bench)
        json.dumps(result, allow_nan=False)
        for row in result["findings"]:
            assert row["verdict"] in verdicts.VERDICTS and row["reason"] and row["baselines"]
            assert {
                "estimate",
                "interval",
                "n",
                "clusters",
                "scale",
                "margin",
                "statement",
                "section",
                "notebook",
            } <= row.keys()
        assert sum(row["primary"] for row in result["findings"]) == 1
        assert "holds" in verdicts.show(result).data or "not" in verdicts.show(result).data


def test_flows_that_were_trained_otherwise_are_told_of_where_they_are_there(bench, klatt, monkeypatch):
    from dataclasses import replace

    from vowelflow.training import PROFILES, train

    first, few = bench.folders[0], replace(PROFILES["smoke"], iterations=1)
    monkeypatch.setenv("VOWELFLOW_BUILD", str(first.parents[1]))
    kin = {
        "noise": replace(few, noise_db=(0.0, 20.0)),
        "crop": replace(few, glow=replace(few.glow, frames=64)),
        "half": few,
    }
    for name, profile in kin.items():
        train(klatt, first.with_name(f"{first.name}-{name}"), profile, seed=1)
    family = evidence.open_bench(klatt, first, SMOKE)
    assert set(family.extra) == {"noise", "crop", "other"} and not bench.extra
    told = {name: claims.measure(name, family) for name in ("samples", "discrimination", "denoising", "density")}
    assert 0 <= told["samples"]["numbers"]["silent frames of crops"] <= 1
    crops = told["discrimination"]["numbers"]["crops"]
    assert set(crops) == {"pictures", "whole code"} and all(0 <= one["estimate"] <= 1 for one in crops.values())
    parts = {name: {row["part"]: row["primary"] for row in one["findings"]} for name, one in told.items()}
    assert not parts["denoising"]["white noise, a flow that was trained with it"]
    # A flow cannot be its own judge: where another is at hand, that one's word is the primary one.
    assert parts["density"]["under another flow"] and not parts["density"]["under a mixture on the mel-cepstrum"]
    assert parts["density"].keys() - {row["part"] for row in claims.measure("density", bench)["findings"]} == {
        "under another flow"
    }


def test_an_independent_reading_of_timit_finds_the_same(timit_folder, bench):
    from dataclasses import replace

    from vowelflow import load_corpus

    speech = load_corpus("timit-sample", timit_folder)
    found = claims.data.data(replace(bench, corpus=speech, root=str(timit_folder)))
    assert (found["tests"][0].values.reader == 1).all() and found["tests"][0].exact == 1
    fewer = replace(speech, table=speech.table.iloc[1:].reset_index(drop=True))
    found = claims.data.data(replace(bench, corpus=fewer, root=str(timit_folder)))
    assert (found["tests"][0].values.reader < 1).sum() == 1


def test_tables_and_the_readme_are_made_from_verdicts(bench, tmp_path):
    verdicts.write_verdicts(claims.run_all(bench, "likelihood", tmp_path))
    (tmp_path / "README.md").write_text(f"before\n{verdicts.MARKS[0]}\nlast year\n{verdicts.MARKS[1]}\nafter\n")
    text = verdicts.renew_readme(tmp_path).read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "last year" not in text
    assert "](results/verdicts.svg)" in text and "<svg" in (tmp_path / "results/verdicts.svg").read_text()
    assert f"| {bench.flow} on klatt |" in text and "? not testable here" in text
    shown = verdicts.table(verdicts.load_verdicts(tmp_path)["klatt", bench.flow]["findings"], link="")
    assert shown.claim[0].endswith("(03_distributions.html)") and "stale" not in shown.verdict[0]


def test_other_seeds_are_told_beside(bench, tmp_path):
    from dataclasses import replace

    assert "No other seed" in verdicts.over_seeds([])
    folder = claims.run_all(bench, "likelihood", tmp_path)
    other = claims.run_all(replace(bench, seed=3), "likelihood", tmp_path)
    assert other.name == f"{bench.flow}-seed-3" and other.parent == folder.parent
    verdicts.write_verdicts(folder)
    rows = verdicts.load_verdicts(tmp_path)["klatt", bench.flow]["findings"]
    assert set(rows[0]["seeds"]) == {"3"} and rows[0]["seeds"]["3"]["verdict"] in verdicts.VERDICTS
    assert verdicts.over_seeds(rows).startswith("1 primary verdicts") and "it changes" in verdicts.over_seeds(rows)
    turned = [row | {"verdict": "other"} for row in rows]
    assert verdicts.over_seeds(turned).endswith("it changes that of likelihood.")


def test_a_shuffle_is_an_effect_to_a_t_test_over_speakers_and_not_to_other_shuffles():
    """All speakers share what a false displacement does, so they are no independent witnesses."""
    rng = np.random.default_rng(0)
    fakes = rng.standard_normal((200, 1)) + 0.3 * rng.standard_normal((200, 16))
    null = nulls.calibrated(fakes)
    assert null["t test over speakers"] > 0.6
    assert null["shuffles"] == 100 and null["interval"][0] <= 0.05 <= null["interval"][1]
    assert nulls.rank(10.0, fakes.mean(1)) == 1 / 201 and nulls.rank(-10.0, fakes.mean(1)) == 1


def test_an_interval_that_ends_at_zero_is_an_interval():
    found = {
        "a": {"estimate": 0.1, "low": 0.0, "high": 0.2, "clusters": 9},
        "b": {"estimate": 0.1, "low": None, "high": None, "clusters": 2},
    }
    assert verdicts.intervals(found).estimate.to_dict() == {"a": "0.100 (0.000 to 0.200)", "b": "0.100"}
    assert verdicts.intervals(None).empty
