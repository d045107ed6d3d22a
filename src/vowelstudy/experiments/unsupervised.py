"""The paper's title: factors are found without labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.decomposition import FastICA
from sklearn.metrics import roc_auc_score

from ..folds import Fold
from ..methods import principal
from ..protocol import Protocol
from ..statistics import NULL, SIMPLE, Comparison, calibrated, rank
from ..tokens import Tokens, codes_of
from .directions import CLASSES, shuffled

COMPONENTS = 16  # principal directions that are tried for a factor
NAMES = {"phone": "aa or ae", "sex": "women or men"}


def unsupervised(tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int) -> dict:
    """AUC of a factor along the best principal direction of codes, on new speakers.

    The directions are found without labels. Labels of fit speakers only select one of ``COMPONENTS``
    directions and its sign.
    """
    rng = np.random.default_rng([seed, 11])
    comparisons, null = [], {}
    metric = "area under the ROC curve of one principal direction"
    kinds = {"random rotation": NULL, "shuffled labels": NULL, "pictures": SIMPLE, "ICA of pictures": SIMPLE}
    for factor in CLASSES if tokens.table.sex.nunique() > 1 else ("phone",):
        scores = [_scores(tokens, fold, factor, seed) for fold in folds]
        areas = pd.DataFrame({name: _areas(tokens, scores, name, factor) for name in scores[0]["spaces"]})
        labels = [shuffled(tokens.table, factor, rng) for _ in range(max(protocol.shuffles, 1))]
        n = sum(len(one["evaluation"]) for one in scores)
        for own, note, code in (("flow", "", "whole"), ("top code", ", top code", "top")):
            fake = [_areas(tokens, scores, own, factor, one) for one in labels]
            values = areas.assign(**{"shuffled labels": pd.concat(fake, axis=1).mean(axis=1)})[[own, *kinds]]
            as_well = rank(values[own].mean(), [one.mean() for one in fake])
            null.setdefault(factor, calibrated(fake, chance=0.5))  # for whole codes, which come first
            comparisons.append(Comparison(
                "unsupervised", NAMES[factor] + note, metric, 0.05, values, kinds, n, code=code,
                primary=factor == "phone" and code == "whole", rank=as_well, shuffles=len(fake),
            ))  # fmt: skip
    return {"comparisons": comparisons, "null": null["phone"], "numbers": {"null by factor": null}}


def _scores(tokens: Tokens, fold: Fold, factor: str, seed: int) -> dict:
    """Scores of fit and evaluation tokens of a factor's classes on the principal directions of each space."""
    wanted = {factor: CLASSES[factor]}
    fit, evaluation = tokens.rows(fold.fit, **wanted), tokens.rows(fold.evaluation, scored=True, **wanted)
    codes = codes_of(fold.flow, tokens, seed)
    spaces = {
        "flow": codes,
        "top code": codes[:, : fold.flow.top_size],
        "pictures": tokens.pictures.flatten(1),
    }
    found, rng = {}, np.random.default_rng(seed)
    for name, vectors in spaces.items():
        basis, deviations = principal(vectors[fold.fit], COMPONENTS)
        found[name] = [(vectors[rows] @ basis.T / deviations).numpy() for rows in (fit, evaluation)]
        if name == "pictures":
            mean = vectors[fold.fit].mean(0)
            white = [
                ((vectors[rows] - mean) @ basis.T / deviations).numpy()
                for rows in (fold.fit, fit, evaluation)
            ]
            ica = FastICA(whiten="unit-variance", max_iter=1000, random_state=seed).fit(white[0])
            found["ICA of pictures"] = [ica.transform(part) for part in white[1:]]
    turn = np.linalg.qr(rng.standard_normal((found["flow"][0].shape[1],) * 2))[0]
    found["random rotation"] = [part @ turn for part in found["flow"]]
    return {"fit": fit, "evaluation": evaluation, "spaces": found}


def _areas(
    tokens: Tokens, scores: list[dict], name: str, factor: str, fake: np.ndarray | None = None
) -> pd.Series:
    """AUC of each cluster: a speaker for vowels, a woman and a man for sex.

    ``fake`` labels, if given, replace the true ones when a direction and its sign are selected.
    """
    found = {}
    for one in scores:
        fit, evaluation = tokens.table.iloc[one["fit"]], tokens.table.iloc[one["evaluation"]]
        labels = np.asarray(fit[factor] if fake is None else fake[one["fit"]]) == CLASSES[factor][1]
        if labels.all() or not labels.any():
            continue
        of_fit, of_evaluation = one["spaces"][name]
        areas = np.array([roc_auc_score(labels, column) for column in of_fit.T])
        best = int(np.abs(areas - 0.5).argmax())
        score = of_evaluation[:, best] * np.sign(areas[best] - 0.5)
        truth = (evaluation[factor] == CLASSES[factor][1]).to_numpy()
        if factor == "phone":
            groups = {who: (evaluation.speaker == who).to_numpy() for who in evaluation.speaker.unique()}
        else:
            women, men = (sorted(evaluation[evaluation.sex == sex].speaker.unique()) for sex in "fm")
            groups = {f"{w} and {m}": evaluation.speaker.isin([w, m]).to_numpy() for w, m in zip(women, men)}
        for who, rows in groups.items():
            if 0 < truth[rows].sum() < rows.sum():
                found[who] = float(roc_auc_score(truth[rows], score[rows]))
    return pd.Series(found, dtype=float).sort_index()
