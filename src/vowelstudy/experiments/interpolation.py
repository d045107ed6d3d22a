"""Section 4.4: between two codes, one factor changes gradually, and every point is still speech."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from vowelflow.base import InputError
from vowelflow.latent import random_code

from .. import measures
from ..folds import Fold, evaluated, merged
from ..judges import FORMANTS, Features, Judges, accuracy
from ..methods import Method, flow_method, great_circle_method, methods_of, vae_method
from ..pairs import matched_pairs
from ..protocol import Protocol
from ..realism import areas, joined, views
from ..statistics import NULL, SIMPLE, Comparison, over_pairs, swapped
from ..tokens import Tokens
from ..vae import VAE
from .directions import FIXED

PAIRS = {
    "phone": "one vowel to another",
    "sex": "a woman's to a man's",
    "speaker": "one speaker's to another's",
}
NULLS = {"to a random code": NULL, "to another pair's end": NULL}
SIMPLES = dict.fromkeys(("pictures", "PCA", "cepstrum", "great circle", "beta-VAE"), SIMPLE)
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


def lines_of(
    tokens: Tokens, fold: Fold, pairs: np.ndarray, seed: int, vae: VAE | None
) -> Iterator[tuple[str, Method, torch.Tensor, torch.Tensor]]:
    """Name, method, start and end ``(n, d)`` of the line of every pair, for every method and null."""
    methods = methods_of(fold, tokens) | {"great circle": great_circle_method(fold.flow)}
    if vae is not None:
        methods["beta-VAE"] = vae_method(vae)
    for name, method in methods.items():
        yield name, method, *(method.vectors(tokens, pairs[:, side], seed) for side in (0, 1))
    flow = flow_method(fold.flow)
    start, end = (flow.vectors(tokens, pairs[:, side], seed) for side in (0, 1))
    yield "to a random code", flow, start, random_code(*start.shape, seed=seed + 1)
    yield "to another pair's end", flow, start, end.roll(1, 0)


def interpolation(
    tokens: Tokens, folds: list[Fold], judges: Judges, vae: VAE | None, protocol: Protocol, seed: int
) -> dict:
    """AUC of discriminators between real tokens and midpoints of pairs of tokens."""
    tables, seen = [], []
    for fold, factor, pairs in pairs_of_folds(tokens, folds, protocol, seed):
        people = tokens.table.speaker.to_numpy()
        about = {"factor": factor, "one": people[pairs[:, 0]], "other": people[pairs[:, 1]]}
        about["pair"] = np.arange(len(pairs)) + 1000 * pairs[0, 0]
        ends = [tokens.features(pairs[:, side]) for side in (0, 1)]
        for name, method, start, end in lines_of(tokens, fold, pairs, seed, vae):
            for share in SHARES if name not in NULLS else (0.5,):
                pictures = method.between(start, end, share)
                features = tokens.measure(pictures, pairs[:, 0])
                part = _score(tokens, judges, pictures, features, ends, pairs, factor)
                tables.append(part.assign(method=name, share=share, **about))
                seen.append(views(pictures, features))
    table, seen = pd.concat(tables, ignore_index=True), joined(seen)
    table = _with_areas(tokens, folds, table, seen, protocol, seed)
    middle = table[table.share == 0.5]
    comparisons = list(_comparisons(middle))
    columns = [
        "auc",
        "auc_network",
        "auc_trees",
        "between",
        "f0_between",
        "doubled",
        "fixed",
        "fixed_at_ends",
        "target",
    ]
    gradual = {name: _rank(part) for name, part in table[table.factor != "speaker"].groupby("method")}
    about = evaluated(folds)
    return {"comparisons": comparisons, "null": swapped(comparisons[0], protocol.shuffles, seed), "numbers": {
        "pairs": (middle.groupby("factor").size() // middle.method.nunique()).to_dict(),
        "summary": table.groupby(["factor", "method", "share"])[columns].mean().reset_index().to_dict("records"),
        "rank correlation": gradual, "ceiling": accuracy(judges, tokens.features(about), tokens.table.iloc[about]),
    }}  # fmt: skip


def _with_areas(
    tokens: Tokens, folds: list[Fold], table: pd.DataFrame, seen, protocol: Protocol, seed: int
) -> pd.DataFrame:
    """The table with the areas of midpoints: "auc", the mean of both discriminators, and each of them."""
    rows = tokens.rows(np.concatenate([fold.evaluation for fold in folds]), scored=True)
    count = int((table[table.share == 0.5].method == "flow").sum())
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    real, speakers = (
        views(tokens.pictures[rows], tokens.features(rows)),
        tokens.table.speaker.to_numpy()[rows],
    )
    table = table.assign(auc=np.nan, auc_network=np.nan, auc_trees=np.nan)
    for _, places in table[table.share == 0.5].groupby("method").groups.items():
        _, found = areas(real, speakers, seen.take(places), table.one.to_numpy()[places], protocol.fits, seed)
        table.loc[places, ["auc", "auc_network", "auc_trees"]] = found[
            ["mean", "network", "trees"]
        ].to_numpy()
    return table


def _comparisons(middle: pd.DataFrame) -> Iterator[Comparison]:
    """Comparisons of midpoints: of all pairs first, then of parts of them."""
    kinds = {name: kind for name, kind in (NULLS | SIMPLES).items() if (middle.method == name).any()}
    metric = "AUC of discriminators between real tokens and midpoints"

    def comparison(part, rows, own="flow", **more):
        tables = [over_pairs(rows, column)[[own, *kinds]] for column in ("auc", "auc_network", "auc_trees")]
        n, more = int((rows.method == own).sum()), {"better": -1} | more
        judged = dict(zip(("network", "trees"), tables[1:]))
        return Comparison("interpolation", part, metric, 0.05, tables[0], kinds, n, judges=judged, **more)

    yield comparison("all pairs", middle, primary=True)
    yield comparison("all pairs, top code", middle, own="top code", code="top")
    for factor, part in middle.groupby("factor", sort=False):
        yield comparison(PAIRS[factor], part)
    apart = middle.dropna(subset="doubled")
    if len(apart):
        values, n = over_pairs(apart, "doubled")[["flow", *kinds]], int((apart.method == "flow").sum())
        metric = "share of midpoints with the second formants of both ends"
        yield Comparison("interpolation", "two second formants", metric, 0.05, values, kinds, n, -1)


def _score(
    tokens: Tokens, judges: Judges, pictures: torch.Tensor, measured: Features, ends: list[Features],
    pairs: np.ndarray, factor: str,
) -> pd.DataFrame:  # fmt: skip
    """Scores of the pictures at one share of the way of each pair; ``ends`` are the features of both ends."""
    fixed = FIXED[factor]
    first, second = (tokens.table.iloc[pairs[:, side]].reset_index(drop=True) for side in (0, 1))
    (f0, low0, high0), (f1, low1, high1), (f2, low2, high2) = _formants(measured, ends)
    inside = np.array([(f1 > low1) & (f1 < high1), (f2 > low2) & (f2 < high2)], dtype=float)
    apart = np.array([high1 > low1 * 1.15, high2 > low2 * 1.15])
    between = np.where(apart.any(0), (inside * apart).sum(0) / np.maximum(apart.sum(0), 1), np.nan)
    ranges = zip(pictures, low2, high2, high2 > low2 * APART)
    valleys = np.array([measures.valley(*one) if far else np.nan for *one, far in ranges])

    def probability(of, labels, factor):
        return judges.probability(of, factor, labels)["mean"].to_numpy()

    at_ends = sum(probability(end, side[fixed], fixed) for end, side in zip(ends, (first, second))) / 2
    target = np.full(len(pairs), np.nan)
    if factor != "speaker":
        of_first, of_second = (probability(measured, side[factor], factor) for side in (first, second))
        target = of_second / np.maximum(of_second + of_first, 1e-12)
    return pd.DataFrame({
        "between": between, "f0_between": np.where(high0 > low0 * 1.15, (f0 > low0) & (f0 < high0), np.nan),
        "doubled": np.where(np.isfinite(valleys), valleys > DOUBLED_DB, np.nan),
        "fixed": probability(measured, first[fixed], fixed), "fixed_at_ends": at_ends, "target": target,
    })  # fmt: skip


def _formants(measured: Features, ends: list[Features]) -> Iterator[tuple]:
    """F0, F1 and F2 in Hz: each ``(n,)`` of the pictures, and the lower and the higher one of both ends."""
    for name in ("f0", "f1", "f2"):
        of_ends, of_pictures = (
            np.exp([one.acoustics[FORMANTS[name]].to_numpy(float) for one in group])
            for group in (ends, [measured])
        )
        yield of_pictures[0], of_ends.min(0), of_ends.max(0)


def _rank(part: pd.DataFrame) -> float:
    """Mean over pairs of Spearman's correlation of share and target; also near 1 for any cross-fade."""
    groups = part.groupby(["factor", "pair", "one"])
    each = [spearmanr(g.share, g.target).statistic for _, g in groups if g.target.nunique() > 1]
    return float(np.nanmean(each)) if each else np.nan
