"""Findings: what was measured of a claim -> a number with its interval, beside every baseline, and a verdict.

The rule was planned before any number was seen; the protocol's page says what was amended since. A claim's number must be better than each baseline's by a
margin, the interval of the difference over speakers included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from .judges import interval

CLUSTERS = 8  # speakers that an interval needs
LEVEL = 0.05
LEAST_DRIFT = 0.02  # in probability: less is noise
ENOUGH = 100  # label shuffles, for their share to be told apart from ``LEVEL``
HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "not testable here"
VERDICTS = (HOLDS, PARTLY, FAILS, OPEN)


@dataclass(frozen=True)
class Contest:
    """Something that was measured of a contestant and its baselines, for each speaker.

    Attributes:
        claim: its id; ``part`` says which of the claim's tests it is.
        metric: in words, with its unit; ``better`` is 1 where more is better, -1 where less is.
        margin: by how much it must beat each baseline, in the metric's unit.
        values: a row a cluster (a speaker), a column a contestant, the claim's own first.
        kinds: of every baseline "untrained", "null" or "simple"; a column without a kind is told and not competed with.
        n: how many tokens, pairs or samples the values come from.
        primary: whether the claim stands or falls with it; the others are exploratory.
        rank: for what needs labels, the share of ``shuffles`` of them that do at least as well.
        exact: where there is nothing to estimate, the value that every cluster must have.
        code: "whole" or "top", where it matters.
        bound: the best value that there can be, where there is one: 1 of a share. Who comes within the margin of it cannot be
            beaten by the margin.
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
    rank: float | None = None
    shuffles: int = 0
    exact: float | None = None
    code: str = "whole"
    bound: float | None = None


def finding(test: Contest) -> dict:
    """One row of ``verdicts.json``: estimate, interval, baselines and differences, verdict and reason."""
    own = test.values.columns[0]
    baselines = {}
    for name, kind in test.kinds.items():
        difference = test.better * (test.values[own] - test.values[name])
        baselines[name] = {
            "kind": kind,
            **_estimate(test.values[name]),
            "difference": _estimate(difference) | {"p": sign_flip(difference - test.margin)},
        }
    verdict, reason = _verdict(test, baselines)
    told = {name: _estimate(test.values[name]) for name in test.values if name != own and name not in test.kinds}
    return {
        "claim": test.claim, "part": test.part, "primary": test.primary, "code": test.code, "metric": test.metric,
        "better": "more" if test.better > 0 else "less", "contestant": own, **_estimate(test.values[own]),
        "baselines": baselines, "beside": told, "margin": test.margin, "rank_p": test.rank, "verdict": verdict,
        "reason": reason, "n": test.n, "clusters": int(test.values[own].notna().sum()),
    }  # fmt: skip


def _estimate(values: pd.Series) -> dict:
    """Mean over clusters and its 95 % t interval, ``None`` of fewer than ``CLUSTERS``."""
    if not values.notna().any():
        return {"estimate": None, "interval": None}
    found = interval(values)
    ends = None if found["low"] is None else [found["low"], found["high"]]
    return {"estimate": found["estimate"], "interval": ends}


def _verdict(contest: Contest, baselines: dict) -> tuple[str, str]:
    """The protocol's rule."""
    own = contest.values.iloc[:, 0]
    if contest.exact is not None:
        wrong = int((own != contest.exact).sum())
        return (FAILS, f"{wrong} of {len(own)} clusters differ") if wrong else (HOLDS, "exactly")
    counts = [int((own - contest.values[name]).notna().sum()) for name in contest.kinds]
    if min(counts) < CLUSTERS:
        return OPEN, f"{min(counts)} clusters; {CLUSTERS} are needed"
    low = {name: row["difference"]["interval"][0] for name, row in baselines.items()}
    high = {name: row["difference"]["interval"][1] for name, row in baselines.items()}
    won = [name for name in low if low[name] > contest.margin]
    cramped = [name for name, row in baselines.items() if not _has_room(contest, row["estimate"])]
    lost = [name for name in high if high[name] < (0 if name in cramped else contest.margin)]
    needed = [name for name, kind in contest.kinds.items() if kind in ("null", "untrained")]
    if any(name in lost for name in needed):
        return FAILS, f"not better than {_listed(lost)} by the margin"
    if contest.rank is not None and contest.rank > LEVEL:
        verdict = FAILS if contest.shuffles >= ENOUGH else OPEN
        return verdict, f"{contest.rank:.0%} of {contest.shuffles} label shuffles do as well"
    if len(won) == len(low):
        return HOLDS, "better than every baseline by the margin"
    if all(name in won for name in needed):
        rest = [name for name in low if name not in won]
        return PARTLY, f"better than the null and the untrained flow, not shown to be better than {_listed(rest)}"
    if lost:
        return FAILS, f"not better than {_listed(lost)} by the margin"
    if cramped:
        return OPEN, f"{_listed(cramped)} left no room for the margin, with {contest.bound:g} the best there is"
    return OPEN, f"the interval against {_listed([name for name in low if name not in won])} holds the margin"


def _has_room(contest: Contest, estimate: float) -> bool:
    """Whether a baseline could be beaten by the margin at all."""
    return contest.bound is None or contest.better * (contest.bound - estimate) > contest.margin


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sign_flip(differences, most: int = 10_000, seed: int = 0) -> float | None:
    """One-sided p of a mean above 0, if the sign of every cluster's difference were a coin's (Fisher 1935).

    Of differences less a margin, that of a mean above the margin.

    Exact for up to 13 clusters, else of ``most`` draws; None without a difference.
    """
    values = np.asarray(differences, dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    if len(values) <= 13:
        signs = 1 - 2 * ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1)
        return float((signs @ values >= values.sum() - 1e-12).mean())
    signs = np.random.default_rng(seed).choice([-1, 1], (most, len(values)))
    return float((1 + (signs @ values >= values.sum() - 1e-12).sum()) / (1 + most))


def with_holm(findings: list[dict]) -> list[dict]:
    """The same with ``holm_p`` for primary rows: the largest p against a baseline, by Holm's (1979) method over claims.

    What would hold by its interval alone, and does not survive this, is not testable here.
    """
    p = {}
    for place, row in enumerate(findings):
        each = [one["difference"]["p"] for one in row["baselines"].values()]
        if row["primary"] and each and None not in each:
            p[place] = max(each)
    adjusted, worst = {}, 0.0
    for rank, place in enumerate(sorted(p, key=p.get)):
        worst = max(worst, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = worst
    told = [row | {"holm_p": adjusted.get(place)} for place, row in enumerate(findings)]
    weak = {"verdict": OPEN, "reason": "its interval would do, but not after Holm's correction over all claims"}
    return [row | weak if row["verdict"] == HOLDS and (row["holm_p"] or 0) > LEVEL else row for row in told]


def false_positives(p_values, of: str = "labels shuffled") -> dict:
    """How often a test of nothing said something at 5 %, with the Clopper-Pearson interval of that share."""
    p = np.asarray(p_values, dtype=float)
    hits = int((p < LEVEL).sum())
    ends = stats.binomtest(hits, len(p)).proportion_ci(0.95)
    return {"of": of, "shuffles": len(p), "share": hits / len(p), "interval": [float(ends.low), float(ends.high)]}


def two_sided(differences) -> float:
    """p of the t test that the intervals rest on: a mean over clusters that is not 0; 1 where nothing differs."""
    values = np.asarray(differences, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 2 or values.std() < 1e-12:
        return 1.0
    return float(stats.ttest_1samp(values, 0).pvalue)


def swapped(contest: Contest, shuffles: int, seed: int = 0) -> dict:
    """``false_positives`` of the interval alone, where no label was needed: a coin says for every cluster who is who.

    The contestant against its first baseline.
    """
    own, other = contest.values.columns[0], next(iter(contest.kinds))
    gap = (contest.values[own] - contest.values[other]).dropna().to_numpy()
    rng = np.random.default_rng(seed)
    p = [two_sided(gap * rng.choice([-1, 1], len(gap))) for _ in range(shuffles)]
    return false_positives(p, "contestants swapped")


def over_pairs(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Pseudo-values of each speaker for a mean over pairs, a column a contestant: a speaker may be in many pairs.

    The jackknife leaves out all pairs of a speaker at a time, so that pairs which share one do not count as independent. Their
    mean is the mean over pairs: where some speakers have far more pairs than others, that of raw pseudo-values is not.

    Args:
        table: columns contestant, one and other (the speakers of a pair), and ``value``.
    """
    table = table.dropna(subset=value)
    people = sorted({*table.one, *table.other})
    found = {}
    for name, part in table.groupby("contestant", sort=False):
        values, mean = part[value].to_numpy(float), part[value].mean()
        without = [values[((part.one != who) & (part.other != who)).to_numpy()] for who in people]
        pseudo = pd.Series([-(len(people) - 1) * v.mean() if len(v) else np.nan for v in without], index=people)
        found[name] = pseudo - pseudo.mean() + mean
    return pd.DataFrame(found)


def matched(curves: pd.DataFrame, own: str = "flow") -> tuple[pd.DataFrame, float]:
    """Gain of each contestant where it has drifted as far as ``own`` has at step 1, and that drift.

    Gain and drift count from a contestant's own step 0, so what a lossy space has lost on the way in is nobody's step. The farthest
    step is taken at which the mean drift over speakers, linear between steps, has not yet passed the limit; who never drifts as far
    is read at the last step.

    Args:
        curves: columns contestant, step (0 among them), speaker, gain, drift; drift is what should not have changed.

    Returns:
        A row a speaker, a column a contestant.
    """
    means = curves.groupby(["contestant", "speaker", "step"])[["gain", "drift"]].mean().unstack("step")
    means = means.astype(float)
    drifts = {name: part.drift.sub(part.drift[0.0], axis=0).mean() for name, part in means.groupby("contestant")}
    limit = max(float(drifts[own][1.0]), LEAST_DRIFT)
    found = {}
    for name, part in means.groupby("contestant"):
        steps = drifts[name].index.to_numpy(float)
        step = 1.0 if name == own else _reached(steps, drifts[name].to_numpy(), limit)
        gains = part.gain.sub(part.gain[0.0], axis=0).droplevel("contestant")
        found[name] = gains.apply(lambda row, step=step, steps=steps: np.interp(step, steps, row), axis=1)
    return pd.DataFrame(found), limit


def _reached(steps: np.ndarray, drifts: np.ndarray, limit: float) -> float:
    for k in range(1, len(steps)):
        if drifts[k] > limit:
            rise = drifts[k] - drifts[k - 1]
            share = np.clip((limit - drifts[k - 1]) / rise, 0, 1) if rise > 0 else 0.0
            return float(steps[k - 1] + share * (steps[k] - steps[k - 1]))
    return float(steps[-1])


def plain(value):
    """The value with floats as JSON has them: what is not finite is None."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
