"""Section 4.6: class information is largely lost in the codes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vowelflow.glow import Glow
from vowelflow.spectrogram import FRAMES, central

from .. import judges
from ..folds import Fold, Tokens, codes_of, merged
from ..pairs import speaker_pairs
from ..protocol import Protocol
from ..statistics import Comparison, calibrated, interval
from .directions import CLASSES, shuffled

SPACES = ("pictures", "top code", "whole code", "untrained flow", "duration alone")


def points_of(tokens: Tokens, fold: Fold, rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Coordinates ``(n, d)`` of tokens in each space, in the span of these tokens."""
    codes = codes_of(fold.flow, tokens, seed)[rows]
    return {
        "pictures": judges.span(tokens.pictures[rows]),
        "top code": judges.span(codes[:, : fold.flow.top_size]),
        "whole code": judges.span(codes),
        "untrained flow": judges.span(codes_of(fold.untrained, tokens, seed)[rows]),
        "duration alone": tokens.frames[rows][:, None].astype(float),
    }


def classifiers() -> dict:
    """Functions from points and labels to a fitted classifier, by name; the paper uses LDA."""

    def with_components(last):
        def fit(points, labels):
            components = min(64, len(points) - 1, points.shape[1])
            return make_pipeline(PCA(components, random_state=0), StandardScaler(), last).fit(points, labels)

        return fit

    return {
        "LDA": judges.shrinkage_lda,
        "logistic regression": with_components(LogisticRegression(C=0.01, max_iter=1000)),
        "small network": with_components(MLPClassifier((32,), alpha=1.0, max_iter=1000, random_state=0)),
    }


def discrimination(
    tokens: Tokens, folds: list[Fold], variants: dict[str, Glow], protocol: Protocol, seed: int
) -> dict:
    """Accuracy of classifiers in codes and in pictures, on speakers who are new to them and to the flow.

    *Largely lost* means that the accuracy above chance is less than half of that in pictures.
    """
    tasks = {"vowel": "phone", "sex": "sex"} if tokens.table.sex.nunique() > 1 else {"vowel": "phone"}
    rows, null, plans = [], {}, [plan_of(tokens, fold, seed) for fold in folds]
    for task, factor in tasks.items():
        for name, fit in classifiers().items():
            found = [scores(tokens, plan, factor, fit, seed) for plan in plans]
            rows += [one.assign(task=task, classifier=name) for one in found]
        rng = np.random.default_rng([seed, 13])
        fake = [_with_shuffled_labels(tokens, plans, factor, rng) for _ in range(protocol.shuffles)]
        mean = float(np.mean([one.mean() for one in fake]))
        null[task] = calibrated(fake, chance=0.5) | {"accuracy": mean}
    table = pd.concat(rows, ignore_index=True)
    accuracy = {
        f"{task}, {name}, {space}": interval(part)
        for task in tasks
        for (name, space), part in by_speaker(table[table.task == task]).groupby(["classifier", "space"])
    }
    numbers = {
        "accuracy": accuracy, "null by task": null, "speakers": _speakers(tokens, folds, protocol, seed),
        "memory": memory_of(tokens, folds[0], seed), "crops": _crops(tokens, folds, variants, seed),
    }  # fmt: skip
    comparisons = [one for task in tasks for one in _comparisons(table[table.task == task], task)]
    return {"comparisons": comparisons, "null": null["vowel"], "numbers": numbers}


def _comparisons(table: pd.DataFrame, task: str) -> list[Comparison]:
    above = by_speaker(table).loc["LDA"].unstack("space") - 0.5
    above["half of pictures"] = above.pictures / 2
    kinds = {"untrained flow": "untrained", "pictures": "null", "half of pictures": "simple"}
    n = int((table.classifier == "LDA").sum()) // len(SPACES)
    whole, top = (above[[own, *kinds, "duration alone"]] for own in ("whole code", "top code"))
    metric, primary = "accuracy of LDA above chance", task == "vowel"
    return [
        Comparison("discrimination", task, metric, 0.05, whole, kinds, n, -1, primary),
        Comparison("discrimination", f"{task}, top code", metric, 0.05, top, kinds, n, -1, code="top"),
    ]


def plan_of(tokens: Tokens, fold: Fold, seed: int) -> dict:
    """Rows of the ``fit`` and ``evaluation`` tokens of both vowels, and their ``points`` in each space."""
    fit = tokens.rows(fold.fit, phone=CLASSES["phone"])
    evaluation = tokens.rows(fold.evaluation, scored=True, phone=CLASSES["phone"])
    points = points_of(tokens, fold, np.concatenate([fit, evaluation]), seed)
    return {"fit": fit, "evaluation": evaluation, "points": points}


def balanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sorted positions of equally many tokens of each class, drawn at random.

    They are as many as the rarest class has. If there are far more dimensions d than tokens n, the noise of a
    class mean has the squared length d / n. The mean of the smaller class then seems farther from every
    token, and a classifier guesses the larger class.
    """
    labels = np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    drawn = [rng.permutation(np.flatnonzero(labels == one))[: counts.min()] for one in classes]
    return np.sort(np.concatenate(drawn))


def scores(tokens: Tokens, plan: dict, factor: str, fit, seed: int) -> pd.DataFrame:
    """Whether evaluation tokens are classified correctly in each space: columns space, speaker, class, right.

    ``fit`` is one of ``classifiers``. It is fitted on ``balanced`` classes of fit tokens.
    """
    of_fit, evaluation = (tokens.table.iloc[plan[part]] for part in ("fit", "evaluation"))
    labels, found = of_fit[factor].to_numpy(), []
    chosen = balanced(labels, np.random.default_rng([seed, 19]))
    for space, points in plan["points"].items():
        guess = fit(points[chosen], labels[chosen]).predict(points[len(labels) :])
        right = {"class": evaluation[factor], "right": guess == evaluation[factor]}
        found.append(pd.DataFrame({"space": space, "speaker": evaluation.speaker, **right}))
    return pd.concat(found)


def by_speaker(table: pd.DataFrame) -> pd.Series:
    """Accuracy by classifier, space and speaker, averaged over classes: a constant guess has 1/2."""
    each = table.groupby(["classifier", "space", "speaker", "class"]).right.mean()
    return each.groupby(["classifier", "space", "speaker"]).mean()


def _with_shuffled_labels(
    tokens: Tokens, plans: list[dict], factor: str, rng: np.random.Generator
) -> pd.Series:
    """Accuracy in codes with shuffled labels of fit tokens: by speaker, or for sex by a woman and a man."""
    rows, fake = [], shuffled(tokens.table, factor, rng)
    for plan in plans:
        evaluation, labels = tokens.table.iloc[plan["evaluation"]], fake[plan["fit"]]
        if len(set(labels)) < 2:
            continue
        points, chosen = plan["points"]["whole code"], balanced(labels, rng)
        guess = judges.shrinkage_lda(points[chosen], labels[chosen]).predict(points[len(labels) :])
        rows.append(evaluation[["speaker", "sex", "phone"]].assign(right=guess == evaluation[factor]))
    table = pd.concat(rows)
    if factor == "phone":  # balanced over vowels, so that a constant guess has accuracy 1/2
        return table.groupby(["speaker", "phone"]).right.mean().groupby("speaker").mean()
    each = table.groupby(["sex", "speaker"]).right.mean()
    return pd.Series([(w + m) / 2 for w, m in zip(each["f"], each["m"])])


def _speakers(tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int) -> dict:
    """Accuracy by space of LDA for two speakers of one sex, on utterances that it was not fitted on."""
    found, rng = {}, np.random.default_rng([seed, 23])
    for fold in merged(folds):
        rows = tokens.rows(fold.evaluation, scored=True)
        voices, codes = tokens.corpus.take(rows), codes_of(fold.flow, tokens, seed)[rows]
        top = codes[:, : fold.flow.top_size]
        spaces = {"pictures": tokens.pictures[rows].flatten(1), "top code": top, "whole code": codes}
        if voices.table.drop_duplicates("speaker").groupby("sex").size().max() < 2:
            continue
        for pair in speaker_pairs(voices, max(protocol.pairs // 4, 2), seed):
            places = np.flatnonzero(voices.table.speaker.isin(pair))
            part = voices.table.iloc[places]
            if part.groupby("speaker").utterance.nunique().min() < 2:
                continue
            for name, vectors in spaces.items():
                guess = _by_utterance(judges.span(vectors[places]), part, rng)
                if guess is None:
                    continue
                right = (guess == part.speaker).groupby(part.speaker).mean()
                for who in pair:
                    found.setdefault(name, {}).setdefault(who, []).append(float(right[who]))
    return {
        name: interval([np.mean(each) for each in by.values()]) | {"pairs": sum(map(len, by.values())) // 2}
        for name, by in found.items()
    }


def _by_utterance(points: np.ndarray, table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray | None:
    """The speaker ``(n,)`` that LDA guesses for each token, fitted on balanced tokens of other utterances.

    None if one of the two speakers has no tokens in the other utterances.
    """
    speakers, utterances = table.speaker.to_numpy(), table.utterance.to_numpy()
    guess = speakers.copy()
    for utterance in np.unique(utterances):
        others, here = np.flatnonzero(utterances != utterance), utterances == utterance
        if len(set(speakers[others])) < 2:
            return None
        chosen = others[balanced(speakers[others], rng)]
        guess[here] = judges.shrinkage_lda(points[chosen], speakers[chosen]).predict(points[here])
    return guess


def memory_of(tokens: Tokens, fold: Fold, seed: int) -> dict:
    """Accuracy of LDA with shuffled labels, on the tokens that it was fitted on and on other tokens."""
    plan = plan_of(tokens, fold, seed)
    count, points = len(plan["fit"]), plan["points"]["whole code"]
    labels = shuffled(tokens.table, "phone", np.random.default_rng(seed))[plan["fit"]]
    lda = judges.shrinkage_lda(points[:count], labels)
    of_fit = lda.predict(points[:count]) == labels
    others = lda.predict(points[count:]) == tokens.table.phone.iloc[plan["evaluation"]]
    return {"tokens of the fit": float(of_fit.mean()), "other tokens": float(others.mean())}


def _crops(tokens: Tokens, folds: list[Fold], variants: dict[str, Glow], seed: int) -> dict | None:
    """Accuracy for the vowel from its middle 64 ms, in pictures and in codes of a flow of crops."""
    crop = variants.get("crop")
    if crop is None:
        return None
    length, table = crop.config.frames, tokens.table
    rows = np.flatnonzero((tokens.frames >= length) & table.phone.isin(CLASSES["phone"]).to_numpy())
    cut = central(tokens.pictures[rows], (tokens.frames[rows].clip(max=FRAMES) - length) // 2, length)
    codes = torch.as_tensor(crop.encode(cut, seed).flat)
    spaces = {"pictures": judges.span(cut), "whole code": judges.span(codes)}
    table = table.iloc[rows].reset_index(drop=True)
    scored, found = tokens.scored[rows], {}
    for name, points in spaces.items():
        right = np.full(len(rows), np.nan)
        for fold in folds:
            fit, evaluation = np.isin(rows, fold.fit), np.isin(rows, fold.evaluation) & scored
            if evaluation.any():
                labels = table.phone.to_numpy()[fit]
                chosen = np.flatnonzero(fit)[balanced(labels, np.random.default_rng([seed, 19]))]
                lda = judges.shrinkage_lda(points[chosen], table.phone[chosen])
                right[evaluation] = lda.predict(points[evaluation]) == table.phone[evaluation]
        each = pd.Series(right).groupby([table.speaker, table.phone]).mean().groupby("speaker").mean()
        found[name] = interval(each.dropna())
    return found
