"""Section 4.2: codes are Gaussian, and the flow that makes them is well trained."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA

from .. import judges
from ..baselines import NOISE
from ..cards import likelihood as scored
from ..cards import simpler_models
from ..checkpoint import model_folder
from ..evidence import Bench, Round
from ..findings import Contest, swapped
from ..glow import dequantize
from ..spectrogram import BINS, FRAMES

PATCHES = 8  # of 64 neighbouring numbers, of each token
WHITENED = 256  # principal components, at most
KINDS = {"diagonal Gaussian": "simple", "probabilistic PCA": "simple", "Gaussian mixture": "simple", "untrained flow": "untrained"}  # fmt: skip


def fields(bench: Bench, one: Round, rows: np.ndarray) -> dict[str, list[torch.Tensor]]:
    """Tokens of one round in each space, as fields ``(n, channels, frequency, time)``, coarsest scale first.

    Only columns that hold speech in three known tokens out of four; every dimension standardized by the known tokens. A PCA's
    whitened scores stand as a field of one column.
    """
    early, known = np.quantile(bench.frames[one.known], 0.25) / FRAMES, len(one.known)
    every = np.concatenate([one.known, rows])
    codes, untrained = (model.scales(bench.codes(model)[every]) for model in (one.model, one.untrained))
    top = int((np.cumsum([scale[0].numel() for scale in codes]) <= one.model.top_size).sum())
    spaces = {
        "codes": codes,
        "top codes": codes[:top],
        "untrained flow": untrained,
        "pictures": [dequantize(bench.pictures[every], bench.seed)[:, :, :BINS]],
    }
    scaled = {name: [_standard(_spoken(field, early), known) for field in scales] for name, scales in spaces.items()}
    flat = scaled["pictures"][0].flatten(1).numpy()
    pca = PCA(min(WHITENED, known - 1), whiten=True, random_state=0).fit(flat[:known])
    found = {name: [field[known:] for field in scales] for name, scales in scaled.items()}
    return found | {"PCA, whitened": [torch.from_numpy(pca.transform(flat[known:])).float()[:, None, :, None]]}


def _spoken(field: torch.Tensor, early: float) -> torch.Tensor:
    return field[..., : max(1, int(early * field.shape[-1]))]


def _standard(field: torch.Tensor, known: int) -> torch.Tensor:
    """Every dimension less the mean of the first ``known`` rows, divided by their deviation."""
    mean, deviation = field[:known].mean(0), field[:known].std(0)
    return (field - mean) / deviation.clamp_min(NOISE)


def gaussian(bench: Bench) -> dict:
    """Held-out AUC of a classifier that tells patches of a space from patches of true normal noise, where there is speech; mean of passes."""
    rng = np.random.default_rng(bench.seed)
    patches, people, marginals, silence = {}, [], {}, []
    for one in bench.rounds:
        rows = bench.rows(one.unseen, tests=True)
        people.append(np.repeat(bench.table.speaker.to_numpy()[rows], PATCHES))
        here = fields(bench, one, rows)
        here["normal draws"] = [
            torch.from_numpy(rng.standard_normal(tuple(f.shape), np.float32)) for f in here["codes"]
        ]
        for name, scales in here.items():
            # Trees of one pass make much of a rounding error: the mean of several, with other places and noise, does not.
            patches.setdefault(name, []).append([_beside_noise(scales, rng) for _ in range(bench.depth.draws)])
            marginals.setdefault(name, []).append(np.concatenate([f.flatten(1).numpy() for f in scales], 1))
        last = [scale[..., -max(scale.shape[-1] // 8, 1) :] for scale in one.model.scales(bench.codes(one.model)[rows])]
        silence.append(np.concatenate([part.flatten(1).numpy() for part in last], 1))
    speakers = np.concatenate(people)
    areas = {}
    for name, found in patches.items():
        passes = [np.concatenate(parts, axis=1) for parts in zip(*found)]
        areas[name] = sum(judges.two_sample_auc(*both, speakers, bench.seed) for both in passes) / len(passes)
    values = pd.DataFrame(areas)
    kinds = {"untrained flow": "untrained", "pictures": "simple", "PCA, whitened": "simple"}
    metric, n = "area under the ROC curve of patches against normal noise", len(speakers) // PATCHES
    contests = [
        Contest(
            "gaussian",
            part,
            metric,
            0.05,
            values[[own, *kinds, "normal draws"]],
            kinds,
            n,
            -1,
            own == "codes",
            code=code,
            bound=0.5,
        )
        for part, own, code in (("whole code", "codes", "whole"), ("top code", "top codes", "top"))
    ]
    shape = {name: judges.normality(_same(found, rng)) for name, found in marginals.items()}
    floor = shape["normal draws"].ks.median()
    return {"tests": contests, "null": swapped(contests[0], bench.depth.shuffles, bench.seed), "numbers": {
        "marginals": {name: told.median().to_dict() for name, told in shape.items()},
        "ks in excess of normal draws": {name: float(told.ks.median() - floor) for name, told in shape.items()},
        "pairs": {name: _pairs(_same(found, rng)) for name, found in marginals.items()},
        "padding": judges.normality(np.concatenate(silence)[:, :2000]).median().to_dict(), "squared_norm": _norms(bench),
    }}  # fmt: skip


def _beside_noise(scales: list[torch.Tensor], rng: np.random.Generator) -> np.ndarray:
    """Features of patches of a space, and of normal noise at the same places, ``(2, n patches, 7)``.

    To three decimals, since threads and devices change the last digits of codes.
    """
    normal = [rng.standard_normal(tuple(scale.shape), dtype=np.float32) for scale in scales]
    seed = int(rng.integers(1 << 30))
    return np.stack([judges.patch_features(kind, PATCHES, seed) for kind in (scales, normal)]).round(3)


def _pairs(values: np.ndarray) -> float:
    """Root mean square correlation of two dimensions; of n normal draws it is about 1 / sqrt(n)."""
    matrix = np.corrcoef(values.T)
    return float(np.sqrt(np.nanmean(matrix[~np.eye(len(matrix), dtype=bool)] ** 2)))


def _same(found: list[np.ndarray], rng: np.random.Generator, count: int = 400) -> np.ndarray:
    """The same ``count`` dimensions of all rounds, drawn at random from what all of them have."""
    width = min(one.shape[1] for one in found)
    every = np.concatenate([one[:, :width] for one in found])
    return every[:, rng.permutation(width)[:count]]


def _norms(bench: Bench) -> dict:
    """Squared norm over dimensions of unseen codes, mean over speakers; 1 for a standard normal code."""
    values = {}
    for one in bench.rounds:
        rows = bench.rows(one.unseen, tests=True)
        norm = bench.codes(one.model)[rows].square().mean(1).numpy()
        values |= pd.Series(norm).groupby(bench.table.speaker.to_numpy()[rows]).mean().to_dict()
    return judges.interval(list(values.values()))


def likelihood(bench: Bench) -> dict:
    """Bits per dimension of unseen speakers, beside simpler densities of the same dequantized pixels.

    From the cards of the flows, if they tell of these speakers, else measured on the bench's tokens with rivals that are
    fitted on the known ones.
    """
    found = _from_cards(bench, bench.folders) or _measured(bench)
    tests = [_bits(found, "all pixels", primary=True)]
    crop = model_folder(f"{bench.flow}-crop")
    if "crop" in bench.extra and (told := _from_cards(bench, [crop])):
        tests.append(_bits(told, "middle 64 ms, a flow of crops"))
    middle = {
        speaker: value for row in found for speaker, value in ((row.get("middle") or {}).get("speakers") or {}).items()
    }
    numbers = {
        "allocated to the middle 64 ms": judges.interval(list(middle.values())) if middle else None,
    }
    return {"tests": tests, "null": swapped(tests[0], bench.depth.shuffles, bench.seed), "numbers": numbers}


def _from_cards(bench: Bench, folders) -> list[dict]:
    """What each card tells of the bench's unseen speakers; nothing if they are others."""
    people = {name for one in bench.rounds for name in bench.table.speaker.to_numpy()[one.unseen]}
    cards = [folder / "metrics.json" for folder in folders]
    if not all(card.is_file() for card in cards):
        return []
    rows = [json.loads(card.read_text())["bits_per_dim"] for card in cards]
    rows = [row.get(bench.corpus.name) or row.get("test") for row in rows]
    return rows if {name for row in rows if row for name in row["speakers"]} == people else []


def _measured(bench: Bench) -> list[dict]:
    """The same for each round, with rivals that are fitted on its known speakers, a quarter of whom choose their settings."""
    rows = []
    for one in bench.rounds:
        people = sorted(bench.table.speaker.iloc[one.known].unique())
        chosen = bench.table.speaker.iloc[one.known].isin(people[::4]).to_numpy(copy=True)
        known = bench.pictures[one.known]
        rivals = simpler_models(known[~chosen], known[chosen], one.untrained, bench.seed)
        tried = bench.tokens.take(bench.rows(one.unseen, tests=True))
        rows.append(scored(one.model, tried, bench.depth.draws, rivals))
    return rows


def _bits(rows: list[dict], part: str, primary: bool = False) -> Contest:
    """Speakers of several rows, a column a model."""
    names = list(rows[0]["rivals"])
    values = pd.concat([
        pd.DataFrame({"flow": row["speakers"]} | {name: row["rivals"][name]["speakers"] for name in names}) for row in rows
    ])  # fmt: skip
    n = sum(row["tokens"] for row in rows)
    return Contest(
        "likelihood", part, "bits per dimension", 0.05, values, {name: KINDS[name] for name in names}, n, -1, primary
    )
