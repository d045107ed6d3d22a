"""Statistics: estimates with intervals for a method and its baselines, and verdicts.

The rule for verdicts was fixed before any result was seen; the page on the protocol lists later amendments. A
method must be better than each baseline by a margin, and so must the whole interval of the difference over
speakers.
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

CLUSTERS = 8  # speakers that an interval needs at least
LEVEL = 0.05
LEAST_DRIFT = 0.02  # smaller changes in probability are noise
ENOUGH = 100  # label shuffles that can distinguish their share from ``LEVEL``
HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "not testable here"
VERDICTS = (HOLDS, PARTLY, FAILS, OPEN)


@dataclass(frozen=True)
class Comparison:
    """A metric of one method and of its baselines, for each speaker.

    Attributes:
        claim: id of the claim; ``part`` says which of its tests this is.
        metric: in words, with its unit; ``better`` is 1 if more is better and -1 if less is better.
        margin: by how much the method must beat each baseline, in the metric's unit.
        values: a row for each cluster (speaker) and a column for each method, the tested method first.
        kinds: "untrained", "null" or "simple" for each baseline; other columns are reported, but not
            compared.
        n: number of tokens, pairs or samples behind the values.
        primary: whether this comparison decides the claim; the others are exploratory.
        rank: if labels are used, the share of label ``shuffles`` that do at least as well.
        exact: the value that every cluster must have, if nothing is estimated.
        code: "whole" or "top", the part of the flow's code.
        bound: the best possible value, such as 1 for a share. A baseline that is within the margin of it
            cannot be beaten by the margin.
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
        "claim": comparison.claim, "part": comparison.part, "primary": comparison.primary,
        "code": comparison.code, "metric": comparison.metric,
        "better": "more" if comparison.better > 0 else "less", "method": own,
        **_estimate(comparison.values[own]), "baselines": baselines,
        "beside": {name: _estimate(comparison.values[name]) for name in others}, "margin": comparison.margin,
        "rank_p": comparison.rank, "verdict": verdict, "reason": reason, "n": comparison.n,
        "clusters": int(comparison.values[own].notna().sum()),
    }  # fmt: skip


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


def _verdict(comparison: Comparison, baselines: dict) -> tuple[str, str]:
    """The verdict by the rule of the protocol, and the reason."""
    own = comparison.values.iloc[:, 0]
    if comparison.exact is not None:
        wrong = int((own != comparison.exact).sum())
        return (FAILS, f"{wrong} of {len(own)} clusters differ") if wrong else (HOLDS, "exactly")
    counts = [int((own - comparison.values[name]).notna().sum()) for name in comparison.kinds]
    if min(counts) < CLUSTERS:
        return OPEN, f"{min(counts)} clusters; {CLUSTERS} are needed"
    ends = {name: row["difference"]["interval"] for name, row in baselines.items()}
    won = [name for name, (low, _) in ends.items() if low > comparison.margin]
    cramped = [name for name, row in baselines.items() if not _beatable(comparison, row["estimate"])]
    lost = [name for name, (_, high) in ends.items() if high < (0 if name in cramped else comparison.margin)]
    rest = [name for name in ends if name not in won]
    needed = [name for name, kind in comparison.kinds.items() if kind in ("null", "untrained")]
    if any(name in lost for name in needed):
        return FAILS, f"not better than {_listed(lost)} by the margin"
    if comparison.rank is not None and comparison.rank > LEVEL:
        verdict = FAILS if comparison.shuffles >= ENOUGH else OPEN
        return verdict, f"{comparison.rank:.0%} of {comparison.shuffles} label shuffles do as well"
    if not rest:
        return HOLDS, "better than every baseline by the margin"
    if all(name in won for name in needed):
        return (
            PARTLY,
            f"better than the null and the untrained flow, not shown to be better than {_listed(rest)}",
        )
    if lost:
        return FAILS, f"not better than {_listed(lost)} by the margin"
    if cramped:
        reason = f"left no room for the margin, with {comparison.bound:g} the best there is"
        return OPEN, f"{_listed(cramped)} {reason}"
    return OPEN, f"the interval against {_listed(rest)} holds the margin"


def _beatable(comparison: Comparison, estimate: float) -> bool:
    """Whether the bound lets the method beat a baseline with this estimate by the margin."""
    return comparison.bound is None or comparison.better * (comparison.bound - estimate) > comparison.margin


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


def with_holm(findings: list[dict]) -> list[dict]:
    """Findings with ``holm_p``: for primary rows, the largest p against a baseline, corrected over claims.

    The correction is Holm's (1979). A claim that holds by its interval, but not after the correction, gets
    the verdict "not testable here".
    """
    p = {}
    for place, row in enumerate(findings):
        each = [one["difference"]["p"] for one in row["baselines"].values()]
        if row["primary"] and each and None not in each:
            p[place] = max(each)
    adjusted = dict(zip(p, multipletests(list(p.values()), method="holm")[1].tolist())) if p else {}
    rows = [row | {"holm_p": adjusted.get(place)} for place, row in enumerate(findings)]
    reason = "its interval would do, but not after Holm's correction over all claims"
    weak = {"verdict": OPEN, "reason": reason}
    return [row | weak if row["verdict"] == HOLDS and (row["holm_p"] or 0) > LEVEL else row for row in rows]


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


def matched(curves: pd.DataFrame, own: str = "flow") -> tuple[pd.DataFrame, float]:
    """Gain of each method at the drift that ``own`` has at step 1, and that drift.

    Gain and drift are measured from step 0 of the same method, so that losses of the encoding are not
    attributed to any step. The drift, a mean over speakers, is interpolated linearly between steps, and the
    gain is taken where it first reaches the limit, or at the last step if it never does.

    Args:
        curves: columns method, step (with 0), speaker, gain, drift; drift measures what should not change.

    Returns:
        Gains, with a row for each speaker and a column for each method; and the drift at which they are
        taken.
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
    """The step at which the drift first reaches the limit, or the last step."""
    k = int(np.argmax(drifts > limit))  # 0 if it never does, because the drift at the first step is 0
    if k == 0:
        return float(steps[-1])
    share = (limit - drifts[k - 1]) / (drifts[k] - drifts[k - 1])
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
