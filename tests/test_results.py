"""The results in ``results/`` are complete and follow the rule; those of the first edition are kept."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vowelstudy import tables
from vowelstudy.experiments import CLAIMS
from vowelstudy.results import read_json
from vowelstudy.statistics import CLUSTERS, LEVEL, QUESTIONS, REPRODUCED, UNDECIDED, YES

HOME = Path(__file__).resolve().parents[1]
FULL = tables.load_verdicts(HOME)
WANTED = (
    "claim section statement question observation primary metric estimate interval baselines margin judges "
    "answer reason n speakers seeds scale notebook version"
)


@pytest.mark.parametrize("setting", FULL, ids=" ".join)
def test_every_claim_has_an_entry_with_all_it_must_tell(setting):
    rows = [row for row in FULL[setting]["findings"] if row["primary"]]
    asked = [(row["claim"], row["question"]) for row in rows]
    assert len(asked) == len(set(asked)) and {claim for claim, _ in asked} <= set(CLAIMS)
    for row in rows:
        assert set(WANTED.split()) <= row.keys() and row["reason"]
        kind, positive, negative = QUESTIONS[row["question"]]
        assert row["answer"] in (positive, negative, UNDECIDED)
        assert {one["kind"] for one in row["baselines"].values()} <= {kind}


@pytest.mark.parametrize("setting", FULL, ids=" ".join)
def test_nothing_is_there_or_needs_the_flow_that_the_rule_does_not_grant(setting):
    content = FULL[setting]
    for row in (one for one in content["findings"] if one["answer"] in (REPRODUCED, YES)):
        ends = [one["difference"]["interval"] for one in row["baselines"].values()]
        assert row["speakers"] >= CLUSTERS and min(low for low, _ in ends) > row["margin"]
        assert row["rank_p"] is None or row["rank_p"] <= LEVEL
        assert row["holm_p"] is None or row["holm_p"] <= LEVEL
        null = content["null"].get(row["claim"])
        assert not null or null["of"] != "labels shuffled" or null["interval"][0] <= LEVEL


@pytest.mark.parametrize("setting", FULL, ids=" ".join)
def test_chapters_tell_the_corrected_answers_of_the_full_protocol(setting):
    provenance = next(iter(FULL[setting]["provenance"].values()))
    corpus = SimpleNamespace(name=setting[0], fingerprint=provenance["fingerprint"])
    own = tables.full_of(SimpleNamespace(corpus=corpus, flow=setting[1]))
    # Only another seed may turn an answer afterwards, into an undecided one.
    told = {(row["claim"], row["part"], row["question"]): row["answer"] for row in FULL[setting]["findings"]}
    for row in (row for one in own.values() for row in one["findings"]):
        assert told[row["claim"], row["part"], row["question"]] in (row["answer"], UNDECIDED)


def test_the_first_edition_is_kept():
    rows = read_json(HOME / "results/first-edition.json")
    assert {"claim", "corpus", "flow", "test", "verdict", "estimate", "interval"} <= set.intersection(
        *map(set, rows)
    )
    assert {row["verdict"] for row in rows} <= {
        "holds",
        "holds in part",
        "does not hold",
        "not testable here",
    }
    assert "cpu-speech" in {row["flow"] for row in rows}
