"""Statistics: comparisons of a method with its baselines -> estimates with intervals, and verdicts.

The rule was written before any number was seen; the protocol's page says what was amended since. A claim's number must be
better than each baseline's by a margin, and so must the whole interval of the difference over speakers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from vowelflow.base import InputError

CLUSTERS = 8  # speakers that an interval needs
LEVEL = 0.05
LEAST_DRIFT = 0.02  # in probability: less is noise
ENOUGH = 100  # label shuffles, for their share to be told apart from ``LEVEL``
HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "not testable here"
VERDICTS = (HOLDS, PARTLY, FAILS, OPEN)


@dataclass(frozen=True)
class Comparison:
    """A metric of one method and of its baselines, for each speaker.

    Attributes:
        claim: its id; ``part`` says which of the claim's tests it is.
        metric: in words, with its unit; ``better`` is 1 where more is better, -1 where less is.
        margin: by how much it must beat each baseline, in the metric's unit.
        values: a row for each cluster (speaker), a column for each method, the claim's own first.
        kinds: "untrained", "null" or "simple" for every baseline; columns without a kind are reported, not compared.
        n: number of tokens, pairs or samples behind the values.
        primary: whether the claim's verdict is this one's; the others are exploratory.
        rank: if labels are used, the share of their ``shuffles`` that do at least as well.
        exact: the value that every cluster must have, where nothing is estimated.
        code: "whole" or "top", where it matters.
        bound: the best possible value, such as 1 for a share. A baseline within the margin of it cannot be beaten by the
            margin.
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


def finding(comparison: Comparison) -> dict:
    """One row of ``verdicts.json``: estimate, interval, baselines and differences, verdict and reason."""
    own = comparison.values.columns[0]
    baselines = {}
    for name, kind in comparison.kinds.items():
        difference = comparison.better * (comparison.values[own] - comparison.values[name])
        baselines[name] = {
            "kind": kind,
            **_estimate(comparison.values[name]),
            "difference": _estimate(difference) | {"p": sign_flip(difference - comparison.margin)},
        }
    verdict, reason = _verdict(comparison, baselines)
    others = [name for name in comparison.values if name != own and name not in comparison.kinds]
    return {
        "claim": comparison.claim, "part": comparison.part, "primary": comparison.primary, "code": comparison.code, "metric": comparison.metric,
        "better": "more" if comparison.better > 0 else "less", "method": own, **_estimate(comparison.values[own]),
        "baselines": baselines, "beside": {name: _estimate(comparison.values[name]) for name in others}, "margin": comparison.margin, "rank_p": comparison.rank, "verdict": verdict,
        "reason": reason, "n": comparison.n, "clusters": int(comparison.values[own].notna().sum()),
    }  # fmt: skip


def interval(by_group, level: float = 0.95) -> dict[str, float | int]:
    """Mean over groups (speakers) and its t interval: ``estimate``, ``low``, ``high``, ``clusters``.

    Fewer than ``CLUSTERS`` groups are not enough for an interval: its ends are then None.

    Raises:
        InputError: no finite value.
    """
    values = np.asarray(by_group, dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        raise InputError("no finite value to average")
    found = {"estimate": float(values.mean()), "low": None, "high": None, "clusters": len(values)}
    if len(values) >= CLUSTERS:
        half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
        found |= {"low": found["estimate"] - float(half), "high": found["estimate"] + float(half)}
    return found


def _estimate(values: pd.Series) -> dict:
    """Mean over clusters and its 95 % t interval, ``None`` of fewer than ``CLUSTERS``."""
    if not values.notna().any():
        return {"estimate": None, "interval": None}
    found = interval(values)
    ends = None if found["low"] is None else [found["low"], found["high"]]
    return {"estimate": found["estimate"], "interval": ends}


def _verdict(comparison: Comparison, baselines: dict) -> tuple[str, str]:
    """The protocol's rule."""
    own = comparison.values.iloc[:, 0]
    if comparison.exact is not None:
        wrong = int((own != comparison.exact).sum())
        return (FAILS, f"{wrong} of {len(own)} clusters differ") if wrong else (HOLDS, "exactly")
    counts = [int((own - comparison.values[name]).notna().sum()) for name in comparison.kinds]
    if min(counts) < CLUSTERS:
        return OPEN, f"{min(counts)} clusters; {CLUSTERS} are needed"
    low = {name: row["difference"]["interval"][0] for name, row in baselines.items()}
    high = {name: row["difference"]["interval"][1] for name, row in baselines.items()}
    won = [name for name in low if low[name] > comparison.margin]
    cramped = [name for name, row in baselines.items() if not _beatable(comparison, row["estimate"])]
    lost = [name for name in high if high[name] < (0 if name in cramped else comparison.margin)]
    needed = [name for name, kind in comparison.kinds.items() if kind in ("null", "untrained")]
    if any(name in lost for name in needed):
        return FAILS, f"not better than {_listed(lost)} by the margin"
    if comparison.rank is not None and comparison.rank > LEVEL:
        verdict = FAILS if comparison.shuffles >= ENOUGH else OPEN
        return verdict, f"{comparison.rank:.0%} of {comparison.shuffles} label shuffles do as well"
    if len(won) == len(low):
        return HOLDS, "better than every baseline by the margin"
    if all(name in won for name in needed):
        rest = [name for name in low if name not in won]
        return (
            PARTLY,
            f"better than the null and the untrained flow, not shown to be better than {_listed(rest)}",
        )
    if lost:
        return FAILS, f"not better than {_listed(lost)} by the margin"
    if cramped:
        return (
            OPEN,
            f"{_listed(cramped)} left no room for the margin, with {comparison.bound:g} the best there is",
        )
    return OPEN, f"the interval against {_listed([name for name in low if name not in won])} holds the margin"


def _beatable(comparison: Comparison, estimate: float) -> bool:
    """Whether a baseline could be beaten by the margin at all."""
    return comparison.bound is None or comparison.better * (comparison.bound - estimate) > comparison.margin


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sign_flip(differences, draws: int = 9999, seed: int = 0) -> float | None:
    """One-sided p of a mean above 0 if the sign of each cluster's difference were random (Fisher 1935).

    Exact for up to 13 clusters, otherwise from ``draws`` random sets of signs; None for fewer than two.
    """
    values = np.asarray(differences, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None

    def mean(one, other, axis):
        return (one - other).mean(axis)

    pair = values, np.zeros_like(values)  # swapping the two changes the sign
    found = stats.permutation_test(
        pair,
        mean,
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=draws,
        rng=seed,
    )
    return float(found.pvalue)


def with_holm(findings: list[dict]) -> list[dict]:
    """The same with ``holm_p`` for primary rows: the largest p against a baseline, by Holm's (1979) method over claims.

    What would hold by its interval alone, and does not survive this, is not testable here.
    """
    p = {}
    for place, row in enumerate(findings):
        each = [one["difference"]["p"] for one in row["baselines"].values()]
        if row["primary"] and each and None not in each:
            p[place] = max(each)
    adjusted = dict(zip(p, multipletests(list(p.values()), method="holm")[1].tolist())) if p else {}
    rows = [row | {"holm_p": adjusted.get(place)} for place, row in enumerate(findings)]
    weak = {
        "verdict": OPEN,
        "reason": "its interval would do, but not after Holm's correction over all claims",
    }
    return [row | weak if row["verdict"] == HOLDS and (row["holm_p"] or 0) > LEVEL else row for row in rows]


def false_positives(p_values, of: str = "labels shuffled") -> dict:
    """How often a test of nothing said something at 5 %, with the Clopper-Pearson interval of that share."""
    p = np.asarray(p_values, dtype=float)
    hits = int((p < LEVEL).sum())
    ends = stats.binomtest(hits, len(p)).proportion_ci(0.95)
    return {
        "of": of,
        "shuffles": len(p),
        "share": hits / len(p),
        "interval": [float(ends.low), float(ends.high)],
    }


def two_sided(differences) -> float:
    """p of the t test that the intervals rest on: a mean over clusters that is not 0; 1 where nothing differs."""
    values = np.asarray(differences, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < 2 or values.std() < 1e-12:
        return 1.0
    return float(stats.ttest_1samp(values, 0).pvalue)


def swapped(comparison: Comparison, shuffles: int, seed: int = 0) -> dict:
    """``false_positives`` of the interval alone, for claims without labels: the method and its first baseline are swapped at random
    in every cluster.
    """
    own, other = comparison.values.columns[0], next(iter(comparison.kinds))
    gap = (comparison.values[own] - comparison.values[other]).dropna().to_numpy()
    rng = np.random.default_rng(seed)
    p = [two_sided(gap * rng.choice([-1, 1], len(gap))) for _ in range(shuffles)]
    return false_positives(p, "methods swapped")


def over_pairs(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Pseudo-values of each speaker for a mean over pairs, a column for each method: a speaker may be in many pairs.

    The jackknife leaves out all pairs of a speaker at a time, so that pairs which share one do not count as independent. Their
    mean is the mean over pairs: where some speakers have far more pairs than others, that of raw pseudo-values is not.

    Args:
        table: columns method, one and other (the speakers of a pair), and ``value``.
    """
    table = table.dropna(subset=value)
    people = sorted({*table.one, *table.other})
    found = {}
    for name, part in table.groupby("method", sort=False):
        values, mean = part[value].to_numpy(float), part[value].mean()
        without = [values[((part.one != who) & (part.other != who)).to_numpy()] for who in people]
        pseudo = pd.Series(
            [-(len(people) - 1) * v.mean() if len(v) else np.nan for v in without], index=people
        )
        found[name] = pseudo - pseudo.mean() + mean
    return pd.DataFrame(found)


def matched(curves: pd.DataFrame, own: str = "flow") -> tuple[pd.DataFrame, float]:
    """Gain of each method where it has drifted as far as ``own`` has at step 1, and that drift.

    Gain and drift are counted from a method's own step 0, so what a lossy method has lost in encoding is not attributed to any step.
    The gain is read at the largest step whose mean drift over speakers, linear between steps, is within the limit; methods that never
    reach the limit are read at their last step.

    Args:
        curves: columns method, step (0 among them), speaker, gain, drift; drift is what should not have changed.

    Returns:
        A row for each speaker, a column for each method.
    """
    means = curves.groupby(["method", "speaker", "step"])[["gain", "drift"]].mean().unstack("step")
    means = means.astype(float)
    drifts = {name: part.drift.sub(part.drift[0.0], axis=0).mean() for name, part in means.groupby("method")}
    limit = max(float(drifts[own][1.0]), LEAST_DRIFT)
    found = {}
    for name, part in means.groupby("method"):
        steps = drifts[name].index.to_numpy(float)
        step = 1.0 if name == own else _reached(steps, drifts[name].to_numpy(), limit)
        gains = part.gain.sub(part.gain[0.0], axis=0).droplevel("method")
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


def rank(true: float, fakes: Sequence[float]) -> float:
    """The share of label shuffles, the true labels among them, that do at least as well (Phipson and Smyth 2010).

    All speakers move along one displacement, so they are not independent: a displacement between shuffled labels moves everybody the same
    way, and a t test over speakers takes that for an effect. Whether labels matter is therefore judged by the shuffles themselves.
    """
    fakes = np.asarray(fakes, dtype=float)
    return float((1 + (fakes >= true).sum()) / (1 + len(fakes)))


def calibrated(fakes: Sequence[Sequence[float]], chance: float = 0.0) -> dict:
    """``false_positives`` of ``rank``: every second shuffle is ranked among the others, as true labels would be.

    Args:
        fakes: for every shuffle, the scores of all speakers.
        chance: the score under the null, for a t test over speakers, whose false positives are reported, too.
    """
    means = [float(np.nanmean(one)) for one in fakes]
    p = [rank(one, means[::2]) for one in means[1::2]]
    by_t = [two_sided(np.asarray(one, dtype=float) - chance) < LEVEL for one in fakes]
    return false_positives(p) | {"t test over speakers": float(np.mean(by_t))}
