"""Answers follow the rule of the protocol, and statistics agree with scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vowelflow.base import InputError
from vowelstudy import statistics
from vowelstudy.statistics import NO, NOT_REPRODUCED, NULL, REPRODUCED, SIMPLE, UNDECIDED, YES, Comparison

KINDS = {"shuffled labels": NULL, "random direction": NULL, "pictures": SIMPLE, "PCA": SIMPLE}


def table(means, clusters=12, spread=0.01):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {name: mean + spread * rng.standard_normal(clusters) for name, mean in zip(("flow", *KINDS), means)}
    )


def both(*means, clusters=12, spread=0.01, margin=0.05, better=1, judges=(), **more):
    """The rows of both questions, for the flow, two nulls and two simple methods."""
    judged = {f"judge {k}": table(one) for k, one in enumerate(judges)}
    comparison = Comparison(
        "x",
        "part",
        "metric",
        margin,
        table(means, clusters, spread),
        KINDS,
        100,
        better,
        judges=judged,
        **more,
    )
    return statistics.findings(comparison)


@pytest.mark.parametrize(
    ("means", "more", "answers", "reasons"),
    [
        ((0.9, 0.5, 0.5, 0.6, 0.6), {}, (REPRODUCED, YES), ("every baseline", "every baseline")),
        ((0.9, 0.5, 0.5, 0.9, 0.6), {}, (REPRODUCED, NO), ("every", "not better than pictures")),
        ((0.9, 0.5, 0.5, 0.95, 0.93), {}, (REPRODUCED, NO), ("every", "pictures and PCA")),
        ((0.9, 0.9, 0.5, 0.6, 0.6), {}, (NOT_REPRODUCED, YES), ("shuffled labels", "every")),
        ((0.1, 0.5, 0.5, 0.4, 0.4), {"better": -1}, (REPRODUCED, YES), ("every", "every")),
        ((0.9, 0.5, 0.5, 0.6, 0.6), {"clusters": 7}, (UNDECIDED, UNDECIDED), ("7 speakers; 8", "7 speakers")),
        ((0.7, 0.5, 0.5, 0.5, 0.5), {"spread": 1.0}, (UNDECIDED, UNDECIDED), ("holds the margin",) * 2),
        ((0.9, 0.5, 0.5, 0.6, 0.6), {"rank": 0.2, "shuffles": 200}, (NOT_REPRODUCED, YES), ("20% of 200", "every")),
        ((0.9, 0.5, 0.5, 0.6, 0.6), {"rank": 0.1, "shuffles": 20}, (UNDECIDED, YES), ("10% of 20", "every")),
        ((0.9, 0.5, 0.5, 0.6, 0.6), {"rank": 0.01}, (REPRODUCED, YES), ("every", "every")),
        (
            (0.9, 0.5, 0.5, 0.6, 0.6), {"judges": [(0.9, 0.5, 0.5, 0.6, 0.6), (0.5, 0.6, 0.1, 0.1, 0.6)]},
            (UNDECIDED, UNDECIDED), ("judge 1 alone", "judge 1 alone"),
        ),
        (
            (0.9, 0.5, 0.5, 0.6, 0.6), {"judges": [(0.9, 0.5, 0.5, 0.6, 0.6), (0.5, 0.4, 0.1, 0.1, 0.6)]},
            (REPRODUCED, UNDECIDED), ("every", "judge 1 alone"),
        ),
    ],
)  # fmt: skip
def test_the_rule(means, more, answers, reasons):
    found = both(*means, **more)
    assert [row["question"] for row in found] == ["effect", "flow"]
    assert tuple(row["answer"] for row in found) == answers, [row["reason"] for row in found]
    assert all(reason in row["reason"] for row, reason in zip(found, reasons))


def test_a_positive_answer_beats_every_baseline_of_its_question():
    rng = np.random.default_rng(1)
    for _ in range(200):
        for row in both(*rng.random(5), spread=rng.random() / 5):
            ends = [one["difference"]["interval"] for one in row["baselines"].values()]
            if row["answer"] in (REPRODUCED, YES):
                assert min(low for low, _ in ends) > 0.05
            if row["answer"] in (NOT_REPRODUCED, NO):
                assert min(high for _, high in ends) < 0.05


def test_a_question_without_baselines_is_not_asked():
    values = pd.DataFrame({"flow": [1.0] * 9, "pictures": [0.0] * 9})
    (row,) = statistics.findings(Comparison("x", "", "", 0.1, values, {"pictures": SIMPLE}, 1))
    assert row["question"] == "flow"


def test_a_difference_is_the_baselines_own_and_its_interval_covers():
    found = both(0.9, 0.5, 0.5, 0.6, 0.6)[1]
    row = found["baselines"]["pictures"]
    assert row["difference"]["estimate"] == pytest.approx(found["estimate"] - row["estimate"])
    low, high = row["difference"]["interval"]
    assert low < 0.3 < high and row["kind"] == SIMPLE


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
        both(0.9, 0.5, 0.5, simple, 0.5)[1]["baselines"]["pictures"]["difference"] for simple in (0.6, 0.85)
    )
    assert apart["p"] < 0.01 < just["p"] and just["p_not"] > 0.01 and apart["p_not"] > 0.99


def rows_of(p, answer, question="effect", p_not=()):
    gaps = {f"b{k}": {"difference": {"p": p, "p_not": one}} for k, one in enumerate(p_not or [1.0])}
    return {"primary": True, "question": question, "answer": answer, "baselines": gaps}


def test_holm_is_holms_and_an_answer_that_does_not_survive_it_is_undecided():
    rows = [rows_of(p, REPRODUCED) for p in (0.01, 0.04, 0.03)] + [rows_of(0.04, YES, "flow")]
    corrected = statistics.with_holm(rows)
    assert [row["holm_p"] for row in corrected] == pytest.approx([0.03, 0.06, 0.06, 0.04])
    assert [row["answer"] for row in corrected] == [REPRODUCED, UNDECIDED, UNDECIDED, YES]
    assert "Holm" in corrected[1]["reason"]
    assert statistics.with_holm([rows[0] | {"primary": False}])[0]["holm_p"] is None


def test_no_is_corrected_over_simple_methods_and_claims():
    rows = [rows_of(1.0, NO, "flow", (0.01, 0.5)), rows_of(1.0, NO, "flow", (0.02,))]
    assert [row["holm_p"] for row in statistics.with_holm(rows)] == pytest.approx([0.03, 0.04])
    rows.append(rows_of(1.0, NO, "flow", (0.03, 0.9)))
    corrected = statistics.with_holm(rows)
    assert [row["answer"] for row in corrected] == [NO, UNDECIDED, UNDECIDED]


def test_speakers_count_where_both_have_a_value():
    values = pd.DataFrame({"flow": [1.0] * 8 + [np.nan] * 8, "pictures": [np.nan] * 4 + [0.0] * 12})
    (found,) = statistics.findings(Comparison("x", "", "", 0.1, values, {"pictures": SIMPLE}, 1))
    assert (found["answer"], found["reason"][:10]) == (UNDECIDED, "4 speakers")


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


def test_gains_are_read_off_where_the_cost_is_that_of_the_papers_step():
    ways = {"flow": (1.0, (0.5, 0.6, 0.9)), "slow": (0.5, (0.5, 0.55, 0.6)), "fast": (1.0, (0.5, 0.7, 0.9))}
    ways |= {"blurred": (1.0, (0.95, 1.0, 1.0)), "still": (0.3, (0.5, 0.5, 0.5))}
    rows = [(name, step, "s", gain * step) for name, (gain, _) in ways.items() for step in (0.0, 1.0, 2.0)]
    gains = pd.DataFrame(rows, columns=["method", "step", "speaker", "gain"])
    costs = pd.DataFrame({name: one for name, (_, one) in ways.items()}, index=[0.0, 1.0, 2.0]).T
    found, steps = statistics.matched(gains, costs)
    assert steps == pytest.approx({"flow": 1.0, "slow": 2.0, "fast": 0.5, "blurred": 0.0, "still": 2.0})
    wanted = {"flow": 1.0, "slow": 1.0, "fast": 0.5, "blurred": 0.0, "still": 0.6}
    assert found.loc["s"].to_dict() == pytest.approx(wanted)


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
