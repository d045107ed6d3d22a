"""Section 4.6: class information is largely lost in the codes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .. import measures
from ..folds import Fold, merged
from ..pairs import speaker_pairs
from ..protocol import Protocol
from ..statistics import NULL, SIMPLE, Comparison, calibrated, interval
from ..tokens import Tokens, codes_of
from .directions import CLASSES, shuffled
from .distributions import WHITENED

SPACES = ("pictures", "whole code", "top code", "untrained flow", "PCA, whitened", "duration alone")
KINDS = {"split halves of pictures": NULL, "untrained flow": SIMPLE, "PCA, whitened": SIMPLE}


def points_of(tokens: Tokens, fold: Fold, rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Coordinates ``(n, d)`` of tokens in each space, in the span of these tokens."""
    codes, pictures = codes_of(fold.flow, tokens, seed)[rows], tokens.pictures
    fit = pictures[fold.fit].flatten(1).numpy()
    whiten = PCA(min(WHITENED, len(fit) - 1), whiten=True, svd_solver="randomized", random_state=0).fit(fit)
    return {
        "pictures": measures.span(pictures[rows]),
        "whole code": measures.span(codes),
        "top code": measures.span(codes[:, : fold.flow.top_size]),
        "untrained flow": measures.span(codes_of(fold.untrained, tokens, seed)[rows]),
        "PCA, whitened": whiten.transform(pictures[rows].flatten(1).numpy()),
        "duration alone": tokens.samples[rows][:, None].astype(float),
    }


def classifiers() -> dict[str, Callable]:
    """Functions from points and labels to a fitted classifier, by name; the paper uses LDA."""

    def with_components(last):
        def fit(points, labels):
            components = min(64, len(points) - 1, points.shape[1])
            return make_pipeline(PCA(components, random_state=0), StandardScaler(), last).fit(points, labels)

        return fit

    return {
        "LDA": measures.shrinkage_lda,
        "logistic regression": with_components(LogisticRegression(C=0.01, max_iter=1000)),
        "small network": with_components(MLPClassifier((32,), alpha=1.0, max_iter=1000, random_state=0)),
    }


def discrimination(tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int) -> dict:
    """What classifiers lose in accuracy from pictures to codes, on speakers who are new to them and to the flow."""
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
        "memory": memory_of(tokens, folds[0], seed),
    }  # fmt: skip
    comparisons = [one for task in tasks for one in _comparisons(table[table.task == task], task)]
    return {"comparisons": comparisons, "null": null["vowel"], "numbers": numbers}


def _comparisons(table: pd.DataFrame, task: str) -> list[Comparison]:
    """Losses from pictures to codes: the mean of three classifiers, and each of them as a judge."""
    losses = {name: _losses(part) for name, part in table.groupby("classifier")}
    mean, n = sum(losses.values()) / len(losses), int((table.space == "pictures").sum()) // len(losses)
    metric, found = "accuracy lost from pictures to codes", []
    for own, note, more in (
        ("whole code", "", {"primary": task == "vowel"}),
        ("top code", ", top code", {"code": "top"}),
    ):
        columns = [own, *KINDS, "duration alone"]
        judged = {name: one[columns] for name, one in losses.items()}
        found.append(
            Comparison(
                "discrimination", task + note, metric, 0.05, mean[columns], KINDS, n, judges=judged, **more
            )
        )
    return found


def _losses(table: pd.DataFrame) -> pd.DataFrame:
    """For each speaker, the accuracy in pictures minus that in each space; between halves, one minus the other."""
    right = by_speaker(table).droplevel("classifier").unstack("space")
    found = pd.DataFrame({space: right.pictures - right[space] for space in SPACES[1:]})
    return found.assign(**{"split halves of pictures": right["first half"] - right["second half"]})


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


def scores(tokens: Tokens, plan: dict, factor: str, fit: Callable, seed: int) -> pd.DataFrame:
    """Whether evaluation tokens are classified correctly in each space: columns space, speaker, class, right.

    ``fit`` is one of ``classifiers``. It is fitted on ``balanced`` classes of fit tokens; in pictures also on
    each half of the fit speakers.
    """
    of_fit, evaluation = (tokens.table.iloc[plan[part]] for part in ("fit", "evaluation"))
    labels, found = of_fit[factor].to_numpy(), []
    chosen = balanced(labels, np.random.default_rng([seed, 19]))
    half = of_fit.groupby("sex").speaker.rank("dense").to_numpy().astype(int) % 2 == 0
    plans = {space: (points, chosen) for space, points in plan["points"].items()}
    for name, side in (("first half", half), ("second half", ~half)):
        rows = np.flatnonzero(side if len(set(labels[side])) > 1 else side | ~side)
        rows = rows[balanced(labels[rows], np.random.default_rng([seed, 19]))]
        plans[name] = plan["points"]["pictures"], rows
    for space, (points, places) in plans.items():
        guess = fit(points[places], labels[places]).predict(points[len(labels) :])
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
    for _ in range(100):  # few fit speakers may all get one sex
        if any(len(set(fake[plan["fit"]])) > 1 for plan in plans):
            break
        fake = shuffled(tokens.table, factor, rng)
    for plan in plans:
        evaluation, labels = tokens.table.iloc[plan["evaluation"]], fake[plan["fit"]]
        if len(set(labels)) < 2:
            continue
        points, chosen = plan["points"]["whole code"], balanced(labels, rng)
        guess = measures.shrinkage_lda(points[chosen], labels[chosen]).predict(points[len(labels) :])
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
                guess = _by_utterance(measures.span(vectors[places]), part, rng)
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
        guess[here] = measures.shrinkage_lda(points[chosen], speakers[chosen]).predict(points[here])
    return guess


def memory_of(tokens: Tokens, fold: Fold, seed: int) -> dict:
    """Accuracy of LDA with shuffled labels, on the tokens that it was fitted on and on other tokens."""
    plan = plan_of(tokens, fold, seed)
    count, points = len(plan["fit"]), plan["points"]["whole code"]
    labels = shuffled(tokens.table, "phone", np.random.default_rng(seed))[plan["fit"]]
    lda = measures.shrinkage_lda(points[:count], labels)
    of_fit = lda.predict(points[:count]) == labels
    others = lda.predict(points[count:]) == tokens.table.phone.iloc[plan["evaluation"]]
    return {"tokens of the fit": float(of_fit.mean()), "other tokens": float(others.mean())}
