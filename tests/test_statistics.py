"""Verdicts follow the rule of the protocol, and statistics agree with scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vowelflow.base import InputError
from vowelstudy import statistics
from vowelstudy.statistics import FAILS, HOLDS, OPEN, PARTLY, Comparison

KINDS = {"untrained flow": "untrained", "shuffled labels": "null", "pictures": "simple"}


def finding(flow, untrained, null, simple, clusters=12, spread=0.01, margin=0.05, better=1, **more):
    rng = np.random.default_rng(0)
    columns = dict(zip(("flow", *KINDS), (flow, untrained, null, simple)))
    values = pd.DataFrame(
        {name: mean + spread * rng.standard_normal(clusters) for name, mean in columns.items()}
    )
    return statistics.finding(Comparison("x", "part", "metric", margin, values, KINDS, 100, better, **more))


@pytest.mark.parametrize(
    ("means", "more", "verdict", "reason"),
    [
        ((0.9, 0.5, 0.5, 0.6), {}, HOLDS, "every baseline"),
        ((0.9, 0.5, 0.5, 0.9), {}, PARTLY, "not shown to be better than pictures"),
        ((0.9, 0.5, 0.5, 0.95), {}, PARTLY, "pictures"),
        ((0.9, 0.9, 0.5, 0.6), {}, FAILS, "untrained flow"),
        ((0.9, 0.5, 0.9, 0.6), {}, FAILS, "shuffled labels"),
        ((0.5, 0.9, 0.5, 0.9), {}, FAILS, "untrained flow, shuffled labels and pictures"),
        ((0.1, 0.5, 0.5, 0.4), {"better": -1}, HOLDS, "every baseline"),
        ((0.9, 0.5, 0.5, 0.6), {"clusters": 7}, OPEN, "7 clusters; 8 are needed"),
        ((0.7, 0.5, 0.5, 0.5), {"spread": 1.0}, OPEN, "holds the margin"),
        ((0.9, 0.5, 0.5, 0.6), {"rank": 0.2, "shuffles": 200}, FAILS, "20% of 200 label shuffles"),
        ((0.9, 0.5, 0.5, 0.6), {"rank": 0.1, "shuffles": 20}, OPEN, "10% of 20 label shuffles"),
        ((0.9, 0.5, 0.5, 0.6), {"rank": 0.01}, HOLDS, "every baseline"),
        ((0.98, 0.5, 0.5, 0.97), {"bound": 1.0}, PARTLY, "not shown to be better than pictures"),
        ((0.98, 0.97, 0.5, 0.97), {"bound": 1.0}, OPEN, "untrained flow and pictures left no room"),
        ((0.9, 0.97, 0.5, 0.97), {"bound": 1.0}, FAILS, "untrained flow and pictures"),
        ((0.02, 0.03, 0.5, 0.4), {"bound": 0.0, "better": -1}, OPEN, "untrained flow left no room"),
    ],
)
def test_the_rule(means, more, verdict, reason):
    found = finding(*means, **more)
    assert (found["verdict"], reason in found["reason"]) == (verdict, True), found["reason"]


def test_nothing_holds_that_does_not_beat_the_untrained_flow_and_the_null():
    rng = np.random.default_rng(1)
    for _ in range(200):
        found = finding(*rng.random(4), spread=rng.random() / 5)
        if found["verdict"] in (HOLDS, PARTLY):
            for name in ("untrained flow", "shuffled labels"):
                assert found["baselines"][name]["difference"]["interval"][0] > 0.05


def test_a_difference_is_the_baselines_own_and_its_interval_covers():
    found = finding(0.9, 0.5, 0.5, 0.6)
    row = found["baselines"]["pictures"]
    assert row["difference"]["estimate"] == pytest.approx(found["estimate"] - row["estimate"])
    low, high = row["difference"]["interval"]
    assert low < 0.3 < high and row["kind"] == "simple"


def test_sign_flips_are_exact_for_few_and_near_exact_for_many():
    assert statistics.sign_flip([1.0] * 8) == 1 / 256
    assert statistics.sign_flip([1.0, -1.0]) == 3 / 4
    assert statistics.sign_flip([]) is None
    values = np.random.default_rng(0).standard_normal(20) + 0.5
    assert statistics.sign_flip(values) == pytest.approx(
        stats.ttest_1samp(values, 0, alternative="greater").pvalue, abs=0.02
    )


def test_the_p_of_a_baseline_is_of_a_difference_above_the_margin():
    apart, just = (
        finding(0.9, 0.5, 0.5, simple)["baselines"]["pictures"]["difference"]["p"] for simple in (0.6, 0.85)
    )
    assert apart < 0.01 < just


def test_holm_is_holms_and_what_does_not_survive_it_does_not_hold():
    rows = [
        {"primary": True, "verdict": HOLDS, "baselines": {"a": {"difference": {"p": p}}}}
        for p in (0.01, 0.04, 0.03)
    ]
    corrected = statistics.with_holm(rows)
    assert [row["holm_p"] for row in corrected] == pytest.approx([0.03, 0.06, 0.06])
    assert [row["verdict"] for row in corrected] == [HOLDS, OPEN, OPEN] and "Holm" in corrected[1]["reason"]
    assert statistics.with_holm([rows[0] | {"primary": False}])[0]["holm_p"] is None


def test_exact_is_all_or_nothing():
    values = pd.DataFrame({"reader": [1.0] * 16})
    found = statistics.finding(Comparison("x", "", "", 0.0, values, {}, 1, exact=1.0))
    assert found["verdict"] == HOLDS
    values.iloc[3] = 0.9
    found = statistics.finding(Comparison("x", "", "", 0.0, values, {}, 1, exact=1.0))
    assert (found["verdict"], found["reason"]) == (FAILS, "1 of 16 clusters differ")


def test_clusters_count_where_both_have_a_value():
    values = pd.DataFrame({"flow": [1.0] * 8 + [np.nan] * 8, "pictures": [np.nan] * 4 + [0.0] * 12})
    found = statistics.finding(Comparison("x", "", "", 0.1, values, {"pictures": "simple"}, 1))
    assert (found["verdict"], found["reason"][:10]) == (OPEN, "4 clusters")


def test_pairs_that_share_a_speaker_are_not_independent():
    """If speakers are in many pairs, the interval over pseudo-values is wider than that over pairs."""
    rng = np.random.default_rng(0)
    people = [f"s{k}" for k in range(10)]
    effect = dict(zip(people, rng.standard_normal(10)))
    pairs = [(a, b) for a in people for b in people if a < b]
    value = np.array([effect[a] + effect[b] for a, b in pairs])
    table = pd.DataFrame(
        {"method": "flow", "one": [a for a, _ in pairs], "other": [b for _, b in pairs], "value": value}
    )
    pseudo = statistics.over_pairs(table, "value").flow
    assert len(pseudo) == 10 and pseudo.mean() == pytest.approx(value.mean())
    assert pseudo.sem() > 2 * value.std(ddof=1) / len(value) ** 0.5


def test_pseudo_values_have_the_mean_over_pairs_where_some_speakers_have_most_of_them():
    rng = np.random.default_rng(0)
    pairs = [("s0", f"s{k}") for k in range(1, 9)] * 5 + [("s1", "s2"), ("s3", "s4")]
    value = np.array([a == "s0" for a, _ in pairs]) + rng.standard_normal(len(pairs))
    table = pd.DataFrame(
        {"method": "flow", "one": [a for a, _ in pairs], "other": [b for _, b in pairs], "v": value}
    )
    assert statistics.over_pairs(table, "v").flow.mean() == pytest.approx(value.mean())


def test_the_interval_says_something_of_nothing_in_one_case_of_twenty():
    values = pd.DataFrame(np.random.default_rng(0).standard_normal((16, 2)), columns=["flow", "pictures"])
    null = statistics.swapped(Comparison("x", "", "", 0.1, values, {"pictures": "simple"}, 1), 2000)
    assert null["interval"][0] <= 0.05 <= null["interval"][1]


def test_gains_are_read_off_where_the_drift_is_that_of_the_papers_step():
    ways = {"flow": (1.0, 0.25, 0.0), "slow": (0.5, 0.125, 0.0), "fast": (1.0, 0.5, 0.0)}
    ways |= {"lossy": (1.0, 0.25, 0.7), "still": (0.3, 0.0, 0.0)}
    rows = [
        (name, step, "s", gain * step + lost, drift * step + lost)
        for name, (gain, drift, lost) in ways.items()
        for step in (0.0, 1.0, 2.0)
    ]
    curves = pd.DataFrame(rows, columns=["method", "step", "speaker", "gain", "drift"])
    gains, limit = statistics.matched(curves)
    assert limit == 0.25
    assert gains.loc["s"].to_dict() == pytest.approx(
        {"flow": 1.0, "slow": 1.0, "fast": 0.5, "lossy": 1.0, "still": 0.6}
    )


def test_json_has_no_word_for_what_is_not_finite():
    assert statistics.plain({"a": [float("nan"), np.float64(1)], 1: np.array([np.inf])}) == {
        "a": [None, 1.0],
        "1": [None],
    }


def test_interval_is_students_and_needs_eight_clusters():
    values = np.random.default_rng(0).standard_normal(12) + 3
    found = statistics.interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found["low"], found["high"], found["clusters"]) == (pytest.approx(low), pytest.approx(high), 12)
    assert (
        statistics.interval(values[:7])["low"] is None and statistics.interval([1, np.nan])["clusters"] == 1
    )
    with pytest.raises(InputError, match="no finite value"):
        statistics.interval([np.nan])
