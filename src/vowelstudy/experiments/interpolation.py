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
FIXED = {"phone": "sex", "sex": "phone", "speaker": "phone"}  # the factor that should not change on the line
FORMANTS = {name: COLUMNS.index(name) for name in ("f0", "f1", "f2", "f3")}  # columns of ``features``
SHARES = (0.25, 0.5, 0.75)
APART = 1.2  # ratio of second formants that can have a valley between them
DOUBLED_DB = 3.0  # a deeper valley means two formants


def pairs_of(tokens: Tokens, rows: np.ndarray, factor: str, count: int, seed: int) -> np.ndarray:
    """Rows ``(n, 2)`` of up to ``count`` pairs of ``matched_pairs``; n is 0 if there is no such pair."""
    try:
        return rows[np.array(matched_pairs(tokens.corpus.take(rows), factor, count, seed))]
    except InputError:
        return np.empty((0, 2), int)


def pairs_of_folds(
    tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int
) -> Iterator[tuple[Fold, str, np.ndarray]]:
    """Each merged fold, each factor, and the pairs of evaluation tokens that differ in it."""
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
    """Share of midpoints between two tokens that are one vowel, for the flow and for other methods.

    A midpoint is one vowel if it is as probable as real vowels, and if it does not have the second formants
    of both ends when these are far apart.
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
    columns = ["one_vowel", "speech", "ends", "density", "between", "f0_between", "doubled"]
    columns += ["kept", "kept_at_ends", "target"]
    summary = table.groupby(["factor", "method", "share"])[columns].mean().reset_index()
    gradual = {name: _rank(part) for name, part in table[table.factor != "speaker"].groupby("method")}
    return {"comparisons": comparisons, "null": swapped(comparisons[0], protocol.shuffles, seed), "numbers": {
        "pairs": (middle.groupby("factor").size() // middle.method.nunique()).to_dict(),
        "summary": summary.to_dict("records"), "rank correlation": gradual,
        "ceiling": accuracy(judge, tokens.features, tokens.table),
    }}  # fmt: skip


def _comparisons(middle: pd.DataFrame) -> Iterator[Comparison]:
    """Comparisons of midpoints: of all pairs first, then of parts of them."""
    simple = ("pictures", "PCA", "cepstrum", "great circle")
    kinds = {"untrained flow": "untrained"} | dict.fromkeys(simple, "simple")
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
    """Scores of the pictures at one share of the way of each pair; ``ends`` are the features of both ends."""
    measured, fixed = features(pictures), FIXED[factor]
    first, second = (tokens.table.iloc[pairs[:, side]].reset_index(drop=True) for side in (0, 1))
    (f0, low0, high0), (f1, low1, high1), (f2, low2, high2) = _formants(measured, ends)
    inside = np.array([(f1 > low1) & (f1 < high1), (f2 > low2) & (f2 < high2)], dtype=float)
    apart = np.array([high1 > low1 * 1.15, high2 > low2 * 1.15])
    between = np.where(apart.any(0), (inside * apart).sum(0) / np.maximum(apart.sum(0), 1), np.nan)
    ranges = zip(pictures, low2, high2, high2 > low2 * APART)
    valleys = np.array([judges.valley(*one) if far else np.nan for *one, far in ranges])
    doubled = np.where(np.isfinite(valleys), valleys > DOUBLED_DB, np.nan)

    def probability(of, labels, factor):
        return probability_of(judge.posterior(of, factor), labels)

    at_ends = sum(probability(end, side[fixed], fixed) for end, side in zip(ends, (first, second))) / 2
    target = np.full(len(pairs), np.nan)
    if factor != "speaker":
        of_first, of_second = (probability(measured, side[factor], factor) for side in (first, second))
        target = of_second / np.maximum(of_second + of_first, 1e-12)
    speech = judge.speech(measured).astype(float)
    return pd.DataFrame({
        "factor": factor, "share": share, "pair": np.arange(len(pairs)) + pairs[0, 0] * 1000,
        "one": first.speaker, "other": second.speaker,
        "aa_ae": (first.phone == "aa") & (second.phone == "ae"),
        "density": judge.log_density(measured) - sum(judge.log_density(end) for end in ends) / 2,
        "speech": speech, "one_vowel": speech * (1 - np.nan_to_num(doubled)),
        "ends": sum(judge.speech(end) for end in ends) / 2, "between": between,
        "f0_between": np.where(high0 > low0 * 1.15, (f0 > low0) & (f0 < high0), np.nan), "doubled": doubled,
        "kept": probability(measured, first[fixed], fixed), "kept_at_ends": at_ends, "target": target,
    })  # fmt: skip


def _formants(measured: np.ndarray, ends: list[np.ndarray]) -> Iterator[tuple]:
    """F0, F1 and F2 in Hz: each ``(n,)`` of the pictures, and the lower and the higher one of both ends."""
    for name in ("f0", "f1", "f2"):
        at_ends = np.exp([end[:, FORMANTS[name]] for end in ends])
        yield np.exp(measured[:, FORMANTS[name]]), at_ends.min(0), at_ends.max(0)


def _rank(part: pd.DataFrame) -> float:
    """Mean over pairs of Spearman's correlation of share and target; also near 1 for any cross-fade."""
    groups = part.groupby(["factor", "pair", "one"])
    each = [spearmanr(g.share, g.target).statistic for _, g in groups if g.target.nunique() > 1]
    return float(np.nanmean(each)) if each else np.nan
