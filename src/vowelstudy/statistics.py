"""Statistics: estimates with intervals, and the rule that answers two questions about every claim.

*Effect*: is it there? The method must be better than every null. *Flow*: does it need the flow? It must be
better than every simple method. Better means by a margin, with the whole interval of the difference over
speakers. The rule was fixed before any result was seen; the page on the protocol explains it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from vowelflow.base import InputError

CLUSTERS = 8  # speakers that an interval needs at least
LEVEL = 0.05
ENOUGH = 100  # label shuffles that can distinguish their share from ``LEVEL``
NULL, SIMPLE = "null", "simple"  # kinds of baselines
REPRODUCED, NOT_REPRODUCED, YES, NO = "reproduced", "not reproduced", "yes", "no"
UNDECIDED = "undecided"
QUESTIONS = {"effect": (NULL, REPRODUCED, NOT_REPRODUCED), "flow": (SIMPLE, YES, NO)}
ANSWERS = (REPRODUCED, NOT_REPRODUCED, YES, NO, UNDECIDED)


@dataclass(frozen=True)
class Comparison:
    """A metric of one method and of its baselines, for each speaker.

    Attributes:
        claim: id of the claim; ``part`` says which of its tests this is.
        metric: in words, with its unit; ``better`` is 1 if more is better and -1 if less is better.
        margin: by how much the method must be better than each baseline, in the metric's unit.
        values: a row for each cluster (speaker) and a column for each method, the tested method first.
        kinds: ``NULL`` or ``SIMPLE`` for each baseline; other columns are reported, but not compared.
        n: number of tokens, pairs or samples behind the values.
        primary: whether this comparison decides the claim; the others are exploratory.
        judges: the same table by each judge alone, if ``values`` are means over several judges.
        rank: if labels are used, the share of label ``shuffles`` that do at least as well.
        code: "whole" or "top", the part of the flow's code.
    """

    claim: str
    part: str
    metric: str
    margin: float
    values: pd.DataFrame
    kinds: dict[str, str]
    n: int
    better: int = 1
    primary: bool = False
    judges: dict[str, pd.DataFrame] = field(default_factory=dict)
    rank: float | None = None
    shuffles: int = 0
    code: str = "whole"


def findings(comparison: Comparison) -> list[dict]:
    """Rows of ``verdicts.json``: one for each question that the comparison has baselines for."""
    return [
        _finding(comparison, question, names)
        for question, (kind, *_) in QUESTIONS.items()
        if (names := [name for name, one in comparison.kinds.items() if one == kind])
    ]


def _finding(comparison: Comparison, question: str, names: list[str]) -> dict:
    values, own = comparison.values, comparison.values.columns[0]
    baselines = {}
    for name in names:
        difference = comparison.better * (values[own] - values[name])
        p = {
            "p": sign_flip(difference - comparison.margin),
            "p_not": sign_flip(comparison.margin - difference),
        }
        baselines[name] = {
            "kind": comparison.kinds[name], **_estimate(values[name]), "difference": _estimate(difference) | p,
        }  # fmt: skip
    answer, reason = _answer(comparison, question, baselines)
    others = [name for name in values if name != own and name not in comparison.kinds]
    return {
        "claim": comparison.claim, "part": comparison.part, "question": question,
        "primary": comparison.primary, "code": comparison.code, "metric": comparison.metric,
        "better": "more" if comparison.better > 0 else "less", "method": own,
        **_estimate(values[own]), "baselines": baselines,
        "beside": {name: _estimate(values[name]) for name in others}, "margin": comparison.margin,
        "judges": {name: float(one[own].mean()) for name, one in comparison.judges.items()},
        "rank_p": comparison.rank if question == "effect" else None, "answer": answer, "reason": reason,
        "n": comparison.n, "speakers": int(values[own].notna().sum()),
    }  # fmt: skip


def _answer(comparison: Comparison, question: str, baselines: dict) -> tuple[str, str]:
    """The answer by the rule of the protocol, and the reason."""
    _, positive, negative = QUESTIONS[question]
    own = comparison.values.iloc[:, 0]
    least = min(int((own - comparison.values[name]).notna().sum()) for name in baselines)
    if least < CLUSTERS:
        return UNDECIDED, f"{least} speakers; {CLUSTERS} are needed"
    ends = {name: row["difference"]["interval"] for name, row in baselines.items()}
    lost = [name for name, (_, high) in ends.items() if high < comparison.margin]
    if lost:
        return negative, f"not better than {_listed(lost)} by the margin"
    if question == "effect" and comparison.rank is not None and comparison.rank > LEVEL:
        share = f"{comparison.rank:.0%} of {comparison.shuffles} label shuffles do as well"
        return (negative if comparison.shuffles >= ENOUGH else UNDECIDED), share
    if rest := [name for name, (low, _) in ends.items() if low <= comparison.margin]:
        return UNDECIDED, f"the interval against {_listed(rest)} holds the margin"
    against = [judge for judge in comparison.judges if not _agrees(comparison, judge, list(baselines))]
    if against:
        return UNDECIDED, f"judges disagree: {_listed(against)} alone does not put the flow first"
    return positive, "better than every baseline of this question by the margin"


def _agrees(comparison: Comparison, judge: str, names: list[str]) -> bool:
    """Whether one judge alone puts the method before each of the baselines."""
    table, own = comparison.judges[judge], comparison.values.columns[0]
    return all((comparison.better * (table[own] - table[name])).mean() > 0 for name in names)


def interval(by_group, level: float = 0.95) -> dict[str, float | int]:
    """Mean over groups (speakers) and its t interval: ``estimate``, ``low``, ``high``, ``clusters``.

    Values that are not finite are left out. The ends are None if there are fewer than ``CLUSTERS`` groups.

    Raises:
        InputError: no finite value.
    """
    values = _finite(by_group)
    if not len(values):
        raise InputError("no finite value to average")
    found = {"estimate": float(values.mean()), "low": None, "high": None, "clusters": len(values)}
    if len(values) >= CLUSTERS:
        half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
        found |= {"low": found["estimate"] - float(half), "high": found["estimate"] + float(half)}
    return found


def _finite(values) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values[np.isfinite(values)]


def _estimate(values: pd.Series) -> dict:
    """``estimate`` and ``interval`` of the mean over clusters; None if there are too few of them."""
    if not values.notna().any():
        return {"estimate": None, "interval": None}
    found = interval(values)
    ends = None if found["low"] is None else [found["low"], found["high"]]
    return {"estimate": found["estimate"], "interval": ends}


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sign_flip(differences, draws: int = 9999, seed: int = 0) -> float | None:
    """One-sided p of a mean above 0, if the sign of each cluster's difference were random (Fisher 1935).

    It is exact for up to 13 clusters, and otherwise uses ``draws`` random sets of signs; None for fewer than
    two.
    """
    values = _finite(differences)
    if len(values) < 2:
        return None
    # Swapping a value with 0 changes the sign of their difference.
    found = stats.permutation_test(
        (values, np.zeros_like(values)), lambda one, other, axis: (one - other).mean(axis), vectorized=True,
        permutation_type="samples", alternative="greater", n_resamples=draws, rng=seed,
    )  # fmt: skip
    return float(found.pvalue)


def with_holm(rows: list[dict]) -> list[dict]:
    """Rows with ``holm_p``, the p of the answer corrected over all primary rows of the question (Holm 1979).

    For *reproduced* and *yes*, p is the largest against a baseline. For *no*, every simple method is a test
    of its own, and the smallest p counts. An answer by its interval that the correction does not confirm
    becomes *undecided*.
    """
    rows = [row | {"holm_p": None} for row in rows]
    for question, (_, positive, _) in QUESTIONS.items():
        asked = [row for row in rows if row["primary"] and row["question"] == question]
        gaps = [[one["difference"] for one in row["baselines"].values()] for row in asked]
        above = {k: [max(gap["p"] for gap in each)] for k, each in enumerate(gaps) if _all_have(each, "p")}
        below = {k: [gap["p_not"] for gap in each] for k, each in enumerate(gaps) if _all_have(each, "p_not")}
        for answer, tests in ((positive, above), (NO, below)):
            for place, p in _corrected(tests).items():
                if asked[place]["answer"] == answer:
                    asked[place]["holm_p"] = p
    reason = "its interval would do, but not after Holm's correction over all claims"
    weak = {"answer": UNDECIDED, "reason": reason}
    return [row | weak if (row["holm_p"] or 0) > LEVEL else row for row in rows]


def _all_have(gaps: list[dict], key: str) -> bool:
    return bool(gaps) and None not in [gap[key] for gap in gaps]


def _corrected(tests: dict[int, list[float]]) -> dict[int, float]:
    """The smallest corrected p of each row, over all tests of all rows."""
    if not tests:
        return {}
    every = [(place, p) for place, each in tests.items() for p in each]
    adjusted = multipletests([p for _, p in every], method="holm")[1]
    found: dict[int, float] = {}
    for (place, _), p in zip(every, adjusted):
        found[place] = min(float(p), found.get(place, 1.0))
    return found


def false_positives(p_values, of: str = "labels shuffled") -> dict:
    """The share of tests of a true null hypothesis with p below 5 %, and its Clopper-Pearson interval."""
    p = np.asarray(p_values, dtype=float)
    hits = int((p < LEVEL).sum())
    ends = [float(end) for end in stats.binomtest(hits, len(p)).proportion_ci(0.95)]
    return {"of": of, "shuffles": len(p), "share": hits / len(p), "interval": ends}


def two_sided(differences) -> float:
    """Two-sided p of the t test that a mean over clusters is 0; 1 if the values do not vary."""
    values = _finite(differences)
    if len(values) < 2 or values.std() < 1e-12:
        return 1.0
    return float(stats.ttest_1samp(values, 0).pvalue)


def swapped(comparison: Comparison, shuffles: int, seed: int = 0) -> dict:
    """``false_positives`` of the interval alone, for claims that use no labels.

    In each shuffle, the method and its first baseline are swapped at random in every cluster.
    """
    own, other = comparison.values.columns[0], next(iter(comparison.kinds))
    gap = (comparison.values[own] - comparison.values[other]).dropna().to_numpy()
    rng = np.random.default_rng(seed)
    p = [two_sided(gap * rng.choice([-1, 1], len(gap))) for _ in range(shuffles)]
    return false_positives(p, "methods swapped")


def over_pairs(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Jackknife pseudo-values of a mean over pairs: a row for each speaker, a column for each method.

    A speaker may be in many pairs. The jackknife leaves out all pairs of one speaker at a time, so that pairs
    with a common speaker do not count as independent. The pseudo-values are shifted to the mean over pairs,
    from which their own mean differs if speakers have unequal numbers of pairs.

    Args:
        table: columns method, one and other (the speakers of a pair), and ``value``.
    """
    table = table.dropna(subset=value)
    people = sorted({*table.one, *table.other})
    found = {}
    for name, part in table.groupby("method", sort=False):
        values, mean = part[value].to_numpy(float), part[value].mean()
        without = [values[((part.one != who) & (part.other != who)).to_numpy()] for who in people]
        pseudo = [-(len(people) - 1) * v.mean() if len(v) else np.nan for v in without]
        pseudo = pd.Series(pseudo, index=people)
        found[name] = pseudo - pseudo.mean() + mean
    return pd.DataFrame(found)


def matched(
    gains: pd.DataFrame, costs: pd.DataFrame, own: str = "flow", step: float = 1.0
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Gain of each method at the cost that ``own`` has at ``step``, and the step at which each method is taken.

    A method's cost is interpolated linearly between its steps, and its gain is taken where the cost first
    exceeds that of ``own``; at its last step if it never does; and at its first one if it starts there.

    Args:
        gains: columns method, step, speaker, gain; for every method the same steps.
        costs: a row for each method and a column for each step; what is lost in realism.

    Returns:
        Gains, with a row for each speaker and a column for each method; and steps by method.
    """
    limit = float(costs.loc[own, step])
    means = gains.groupby(["method", "speaker", "step"]).gain.mean().unstack("step").astype(float)
    found, taken = {}, {}
    for name, part in means.groupby("method", sort=False):
        steps = part.columns.to_numpy(float)
        taken[name] = (
            step if name == own else _first_above(steps, costs.loc[name, steps].to_numpy(float), limit)
        )
        rows = part.droplevel("method")
        found[name] = rows.apply(lambda row, at=taken[name], steps=steps: np.interp(at, steps, row), axis=1)
    return pd.DataFrame(found), taken


def _first_above(steps: np.ndarray, costs: np.ndarray, limit: float) -> float:
    """The step at which the costs first exceed the limit; the last step if they never do."""
    above = np.flatnonzero(costs > limit)
    if not len(above):
        return float(steps[-1])
    k = int(above[0])
    if k == 0:
        return float(steps[0])
    share = (limit - costs[k - 1]) / (costs[k] - costs[k - 1])
    return float(steps[k - 1] + share * (steps[k] - steps[k - 1]))


def plain(value):
    """The value as JSON can express it: arrays become lists, and floats that are not finite become None."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rank(true: float, fakes: Sequence[float]) -> float:
    """The share of labellings, including the true one, that do at least as well (Phipson and Smyth 2010).

    All speakers are moved along one displacement, so they are not independent: a displacement between
    shuffled labels moves all of them in the same way, which a t test over speakers takes for an effect. The
    shuffles themselves therefore decide whether labels matter.
    """
    fakes = np.asarray(fakes, dtype=float)
    return float((1 + (fakes >= true).sum()) / (1 + len(fakes)))


def calibrated(fakes: Sequence[Sequence[float]], chance: float = 0.0) -> dict:
    """``false_positives`` of ``rank``: every second shuffle is ranked among the others, like true labels.

    Args:
        fakes: for each shuffle, the scores of all speakers.
        chance: the expected score under the null, for a t test over speakers, whose false positives are
            added.
    """
    means = [float(np.nanmean(one)) for one in fakes]
    p = [rank(one, means[::2]) for one in means[1::2]]
    by_t = [two_sided(np.asarray(one, dtype=float) - chance) < LEVEL for one in fakes]
    return false_positives(p) | {"t test over speakers": float(np.mean(by_t))}


def shuffle_test(scores: Sequence[np.ndarray]) -> tuple[dict, float]:
    """``calibrated`` and ``rank`` of label shuffles.

    Args:
        scores: the scores of all speakers, with the true labels first and then for each shuffle.
    """
    true, *fakes = scores
    return calibrated(fakes), rank(true.mean(), [one.mean() for one in fakes])
