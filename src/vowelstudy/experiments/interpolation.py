"""Section 4.4: straight lines between codes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from vowelflow.base import InputError

from .. import judges
from ..folds import Fold, Tokens, merged
from ..methods import great_circle_method, methods_of
from ..pairs import matched_pairs
from ..protocol import Protocol
from ..statistics import Comparison, over_pairs, swapped
from ..vowel_judge import COLUMNS, VowelJudge, accuracy, features, probability_of

PAIRS = {
    "phone": "one vowel to another",
    "sex": "a woman's to a man's",
    "speaker": "one speaker's to another's",
}
FIXED = {"phone": "sex", "sex": "phone", "speaker": "phone"}  # the factor that should not change on the way
FORMANTS = {name: COLUMNS.index(name) for name in ("f0", "f1", "f2", "f3")}  # columns of features
SHARES = (0.25, 0.5, 0.75)
APART = 1.2  # ratio of second formants above which a valley between them is looked for
DOUBLED_DB = 3.0  # a valley this deep means two formants


def pairs_of(tokens: Tokens, rows: np.ndarray, factor: str, count: int, seed: int) -> np.ndarray:
    """Rows ``(n, 2)`` of up to ``count`` pairs that differ in one factor, in alphabetical order of its classes; none if there is none."""
    try:
        return rows[np.array(matched_pairs(tokens.corpus.take(rows), factor, count, seed))]
    except InputError:
        return np.empty((0, 2), int)


def pairs_of_folds(
    tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int
) -> Iterator[tuple[Fold, str, np.ndarray]]:
    """Every merged fold, factor, and its pairs of evaluation tokens."""
    wide = merged(folds)
    for fold in wide:
        rows = tokens.rows(fold.evaluation, scored=True)
        for factor in PAIRS:
            pairs = pairs_of(tokens, rows, factor, -(-protocol.pairs // len(wide)), seed)
            if len(pairs):
                yield fold, factor, pairs


def interpolation(
    tokens: Tokens, folds: list[Fold], judge: VowelJudge, protocol: Protocol, seed: int
) -> dict:
    """Whether the middle of a line is one vowel, for the flow and for other ways from one token to another.

    It is one vowel if it is as probable as real vowels are, and does not have the second formants of both ends where these are
    far apart.
    """
    scores = []
    for fold, factor, pairs in pairs_of_folds(tokens, folds, protocol, seed):
        circle = great_circle_method(fold.flow)
        ends = [tokens.features[pairs[:, side]] for side in (0, 1)]
        for name, method in (methods_of(fold, tokens) | {circle.name: circle}).items():
            start, end = (method.vectors(tokens, pairs[:, side], seed) for side in (0, 1))
            for share in SHARES:
                pictures = method.between(start, end, share)
                part = _score(tokens, judge, pictures, ends, pairs, factor, share)
                scores.append(part.assign(method=name))
    table = pd.concat(scores, ignore_index=True)
    middle = table[table.share == 0.5]
    comparisons = list(_comparisons(middle))
    columns = [
        *(
            "one_vowel",
            "speech",
            "ends",
            "density",
            "between",
            "f0_between",
            "doubled",
            "kept",
            "kept_at_ends",
        ),
        "target",
    ]
    summary = table.groupby(["factor", "method", "share"])[columns].mean().reset_index()
    gradual = {name: _rank(part) for name, part in table[table.factor != "speaker"].groupby("method")}
    return {"comparisons": comparisons, "null": swapped(comparisons[0], protocol.shuffles, seed), "numbers": {
        "pairs": (middle.groupby("factor").size() // middle.method.nunique()).to_dict(),
        "summary": summary.to_dict("records"), "rank correlation": gradual, "ceiling": accuracy(judge, tokens.features, tokens.table),
    }}  # fmt: skip


def _comparisons(middle: pd.DataFrame) -> Iterator[Comparison]:
    """Of midpoints: all pairs first, then parts of them."""
    kinds = {"untrained flow": "untrained"} | dict.fromkeys(
        ("pictures", "PCA", "cepstrum", "great circle"), "simple"
    )
    metric = "share of midpoints that are one vowel, as probable as 95 % of real ones"

    def comparison(part, metric, column, rows, own="flow", **more):
        values = over_pairs(rows, column)[[own, *kinds]]
        n = int((rows.method == own).sum())
        return Comparison("interpolation", part, metric, 0.1, values, kinds, n, **{"bound": 1.0} | more)

    yield comparison("all pairs", metric, "one_vowel", middle, primary=True)
    yield comparison("all pairs, top code", metric, "one_vowel", middle, own="top code", code="top")
    for factor, part in middle.groupby("factor", sort=False):
        yield comparison(PAIRS[factor], metric, "one_vowel", part)
    yield comparison("as probable as real vowels", "share of midpoints", "speech", middle)
    if middle.aa_ae.any():
        yield comparison("aa to ae", "share of midpoints", "one_vowel", middle[middle.aa_ae])
    apart = middle.dropna(subset="doubled")
    if len(apart):
        yield comparison("two second formants", "share of midpoints", "doubled", apart, better=-1, bound=0.0)


def _score(tokens, judge, pictures, ends, pairs, factor: str, share: float) -> pd.DataFrame:
    """Scores of pictures at one share of the way of each pair; ``ends`` are the features of both ends."""
    measured = features(pictures)
    first, second = (tokens.table.iloc[pairs[:, side]].reset_index(drop=True) for side in (0, 1))
    f1, f2, low1, high1, low2, high2 = _formants(measured, ends)
    inside = np.array([(f1 > low1) & (f1 < high1), (f2 > low2) & (f2 < high2)], dtype=float)
    apart = np.array([high1 > low1 * 1.15, high2 > low2 * 1.15])
    between = np.where(apart.any(0), (inside * apart).sum(0) / np.maximum(apart.sum(0), 1), np.nan)
    far = high2 > low2 * APART
    doubled = np.array([
        judges.valley(picture, low, high) if ask else np.nan for picture, low, high, ask in zip(pictures, low2, high2, far)
    ])  # fmt: skip
    doubled = np.where(np.isfinite(doubled), doubled > DOUBLED_DB, np.nan)
    f0 = np.exp(measured[:, FORMANTS["f0"]])
    low, high = (side(np.exp([end[:, FORMANTS["f0"]] for end in ends]), axis=0) for side in (np.min, np.max))
    fixed = FIXED[factor]

    def probability(of, labels, factor):
        return probability_of(judge.posterior(of, factor), labels)

    at_ends = sum(probability(end, side[fixed], fixed) for end, side in zip(ends, (first, second))) / 2
    target = np.full(len(pairs), np.nan)
    if factor != "speaker":
        reached, left = (probability(measured, side[factor], factor) for side in (second, first))
        target = reached / np.maximum(reached + left, 1e-12)
    speech = judge.speech(measured).astype(float)
    return pd.DataFrame({
        "factor": factor, "share": share, "pair": np.arange(len(pairs)) + pairs[0, 0] * 1000, "one": first.speaker, "other": second.speaker,
        "aa_ae": (first.phone == "aa") & (second.phone == "ae"),
        "density": judge.log_density(measured) - sum(judge.log_density(end) for end in ends) / 2, "speech": speech,
        "one_vowel": speech * (1 - np.nan_to_num(doubled)), "ends": sum(judge.speech(end) for end in ends) / 2,
        "between": between, "f0_between": np.where(high > low * 1.15, (f0 > low) & (f0 < high), np.nan),
        "doubled": doubled, "kept": probability(measured, first[fixed], fixed), "kept_at_ends": at_ends, "target": target,
    })  # fmt: skip


def _formants(measured: np.ndarray, ends: list[np.ndarray]) -> list[np.ndarray]:
    """F1 and F2 of midpoints, and the lower and the higher of each at the ends, Hz."""
    first, second = (np.exp(measured[:, column]) for column in (-3, -2))
    found = [first, second]
    for column in (-3, -2):
        pair = np.exp([end[:, column] for end in ends])
        found += [pair.min(0), pair.max(0)]
    return found


def _rank(part: pd.DataFrame) -> float:
    """Spearman's correlation of share and target within pairs, mean; near 1 for any cross-fade, too."""
    groups = part.groupby(["factor", "pair", "one"])
    each = [spearmanr(g.share, g.target).statistic for _, g in groups if g.target.nunique() > 1]
    return float(np.nanmean(each)) if each else float("nan")
