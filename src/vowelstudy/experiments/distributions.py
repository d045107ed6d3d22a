"""Section 4.2: codes are Gaussian, and the flow is well trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA

from vowelflow.corpus import Corpus
from vowelflow.spectrogram import dequantize

from .. import measures
from ..baselines import NOISE
from ..evaluation import likelihood as measured_likelihood
from ..evaluation import simpler_models
from ..folds import Fold
from ..protocol import Protocol
from ..results import read_json
from ..statistics import NULL, SIMPLE, Comparison, interval, swapped
from ..tokens import Tokens, codes_of

PATCHES = 8  # patches of 64 neighbouring numbers of each token
WHITENED = 256  # principal components, at most
KINDS = {"untrained flow": NULL}
KINDS |= dict.fromkeys(("diagonal Gaussian", "probabilistic PCA", "Gaussian mixture", "FLAC"), SIMPLE)


def fields(tokens: Tokens, fold: Fold, rows: np.ndarray, seed: int) -> dict[str, list[torch.Tensor]]:
    """Tokens in each space as fields ``(n, channels, frequency, time)``, coarsest scale first.

    They have only the columns that contain speech in three of four fit tokens. Each dimension is standardized
    by the fit tokens. The whitened scores of PCA are a field with one column.
    """
    fit = len(fold.fit)
    early = np.quantile(tokens.frames[fold.fit], 0.25) / tokens.observation.frames
    every, flows = np.concatenate([fold.fit, rows]), (fold.flow, fold.untrained)
    codes, untrained = (flow.scales(codes_of(flow, tokens, seed)[every]) for flow in flows)
    top = int((np.cumsum([scale[0].numel() for scale in codes]) <= fold.flow.top_size).sum())
    spaces = {
        "codes": codes,
        "top codes": codes[:top],
        "untrained flow": untrained,
        "pictures": [dequantize(tokens.pictures[every], seed)[:, :, : tokens.observation.bins]],
    }

    def scaled(field: torch.Tensor) -> torch.Tensor:
        spoken = field[..., : max(1, int(early * field.shape[-1]))]
        mean, deviation = spoken[:fit].mean(0), spoken[:fit].std(0)
        return (spoken - mean) / deviation.clamp_min(NOISE)

    scales = {name: [scaled(field) for field in parts] for name, parts in spaces.items()}
    flat = scales["pictures"][0].flatten(1).numpy()
    pca = PCA(min(WHITENED, fit - 1), whiten=True, random_state=0).fit(flat[:fit])
    found = {name: [field[fit:] for field in parts] for name, parts in scales.items()}
    return found | {"PCA, whitened": [torch.from_numpy(pca.transform(flat[fit:])).float()[:, None, :, None]]}


def gaussian(tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int) -> dict:
    """AUC on new speakers of a classifier that separates patches of codes from patches of normal noise.

    Only the columns that contain speech are used. The AUC is a mean over several passes with other patches
    and other noise, because the trees of one pass are sensitive to rounding errors.
    """
    rng = np.random.default_rng(seed)
    patches, people, marginals, silence = {}, [], {}, []
    for fold in folds:
        rows = tokens.rows(fold.evaluation, scored=True)
        people.append(np.repeat(tokens.table.speaker.to_numpy()[rows], PATCHES))
        spaces = fields(tokens, fold, rows, seed)
        spaces["normal draws"] = [
            torch.from_numpy(rng.standard_normal(tuple(f.shape), np.float32)) for f in spaces["codes"]
        ]
        for name, scales in spaces.items():
            patches.setdefault(name, []).append([beside_noise(scales, rng) for _ in range(protocol.draws)])
            marginals.setdefault(name, []).append(np.concatenate([f.flatten(1).numpy() for f in scales], 1))
        scales = fold.flow.scales(codes_of(fold.flow, tokens, seed)[rows])
        last = [scale[..., -max(scale.shape[-1] // 8, 1) :] for scale in scales]
        silence.append(np.concatenate([part.flatten(1).numpy() for part in last], 1))
    speakers, areas = np.concatenate(people), {}
    for name, found in patches.items():
        passes = [np.concatenate(parts, axis=1) for parts in zip(*found)]
        areas[name] = sum(measures.two_sample_auc(*both, speakers, seed) for both in passes) / len(passes)
    comparisons = _gaussian_comparisons(pd.DataFrame(areas), len(speakers) // PATCHES)
    shape = {name: measures.normality(_same(found, rng)) for name, found in marginals.items()}
    floor = shape["normal draws"].ks.median()
    return {"comparisons": comparisons, "null": swapped(comparisons[0], protocol.shuffles, seed), "numbers": {
        "marginals": {name: part.median().to_dict() for name, part in shape.items()},
        "ks in excess of normal draws": {name: float(one.ks.median() - floor) for name, one in shape.items()},
        "pairs": {name: _pairs(_same(found, rng)) for name, found in marginals.items()},
        "padding": measures.normality(np.concatenate(silence)[:, :2000]).median().to_dict(),
        "squared_norm": _norms(tokens, folds, seed),
    }}  # fmt: skip


def _gaussian_comparisons(areas: pd.DataFrame, n: int) -> list[Comparison]:
    kinds = {"untrained flow": NULL, "pictures": NULL, "PCA, whitened": SIMPLE}
    metric, more = "area under the ROC curve of patches against normal noise", {"better": -1}
    whole, top = (areas[[own, *kinds, "normal draws"]] for own in ("codes", "top codes"))
    return [
        Comparison("gaussian", "whole code", metric, 0.05, whole, kinds, n, primary=True, **more),
        Comparison("gaussian", "top code", metric, 0.05, top, kinds, n, code="top", **more),
    ]


def beside_noise(scales: list[torch.Tensor], rng: np.random.Generator) -> np.ndarray:
    """``patch_features`` of a space, and of normal noise at the same places: ``(2, n * PATCHES, 7)``.

    They are rounded to three decimals, because threads and devices change the last digits of codes.
    """
    normal = [rng.standard_normal(tuple(scale.shape), dtype=np.float32) for scale in scales]
    seed = int(rng.integers(1 << 30))
    return np.stack([measures.patch_features(kind, PATCHES, seed) for kind in (scales, normal)]).round(3)


def _pairs(values: np.ndarray) -> float:
    """Root mean square correlation of two different columns; about 1 / sqrt(n) for n normal draws."""
    matrix = np.corrcoef(values.T)
    return float(np.sqrt(np.nanmean(matrix[~np.eye(len(matrix), dtype=bool)] ** 2)))


def _same(found: list[np.ndarray], rng: np.random.Generator, count: int = 400) -> np.ndarray:
    """Rows of all folds, with up to ``count`` dimensions drawn at random from those that all folds have."""
    width = min(one.shape[1] for one in found)
    every = np.concatenate([one[:, :width] for one in found])
    return every[:, rng.permutation(width)[:count]]


def _norms(tokens: Tokens, folds: list[Fold], seed: int) -> dict:
    """Mean square of the codes of evaluation tokens, averaged over speakers; 1 for standard normal codes."""
    means = []
    for fold in folds:
        rows = tokens.rows(fold.evaluation, scored=True)
        norms = codes_of(fold.flow, tokens, seed)[rows].square().mean(1).numpy()
        means.append(pd.Series(norms).groupby(tokens.table.speaker.to_numpy()[rows]).mean())
    return interval(pd.concat(means))


def likelihood(
    corpus: Corpus, tokens: Tokens, folds: list[Fold], folder: Path, protocol: Protocol, seed: int
) -> dict:
    """Bits per dimension of evaluation speakers, for the flow and for simpler densities of the same pixels.

    They come from the flow's card, if it reports the same speakers. Otherwise they are measured on the
    tokens, with simpler densities fitted on the fit tokens. FLAC codes the samples under the picture.
    """
    people = {name for fold in folds for name in tokens.table.speaker.to_numpy()[fold.evaluation]}
    rows = _from_card(corpus, people, folder) or _measured(tokens, folds, protocol, seed)
    parts = []
    for row in rows:
        models = {"flow": row} | {name: row["rivals"][name] for name in KINDS if name in row["rivals"]}
        models["FLAC"] = row["FLAC"]["bits"]
        parts.append(pd.DataFrame({name: model["speakers"] for name, model in models.items()}))
    metric, n = "bits per dimension", sum(row["tokens"] for row in rows)
    comparison = Comparison(
        "likelihood", "all pixels", metric, 0.05, pd.concat(parts)[["flow", *KINDS]], KINDS, n, -1, True
    )
    kilobits = {name: _pooled(rows, name) for name in ("flow", "FLAC")}
    return {"comparisons": [comparison], "null": swapped(comparison, protocol.shuffles, seed), "numbers": {
        "kilobits per second": kilobits,
    }}  # fmt: skip


def _pooled(rows: list[dict], name: str) -> dict:
    """Kilobits per second over the speakers of all folds."""
    each = [(row["kilobits"] if name == "flow" else row["FLAC"]["kilobits"])["speakers"] for row in rows]
    return interval([value for one in each for value in one.values()])


def _from_card(corpus: Corpus, people: set[str], folder: Path) -> list[dict]:
    """The likelihood on the flow's card; an empty list if it is not of the speakers ``people``."""
    if not (folder / "metrics.json").is_file():
        return []
    groups = read_json(folder / "metrics.json")["bits_per_dim"]
    row = groups.get(corpus.name) or groups.get("test")
    return [row] if row and set(row["speakers"]) == people else []


def _measured(tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int) -> list[dict]:
    """Likelihoods in each fold; a quarter of the fit speakers select settings of the simpler densities."""
    rows = []
    for fold in folds:
        people = sorted(tokens.table.speaker.iloc[fold.fit].unique())
        chosen = tokens.table.speaker.iloc[fold.fit].isin(people[::4]).to_numpy(copy=True)
        fit = tokens.pictures[fold.fit]
        simpler = simpler_models(fit[~chosen], fit[chosen], fold.untrained, seed)
        evaluation = tokens.corpus.take(tokens.rows(fold.evaluation, scored=True))
        rows.append(measured_likelihood(fold.flow, evaluation, protocol.draws, simpler))
    return rows
