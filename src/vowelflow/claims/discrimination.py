"""Section 4.6: class information is largely lost in the codes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from .. import judges
from ..evidence import Bench
from ..findings import Contest
from ..pairs import speaker_pairs
from ..spectrogram import FRAMES, central
from .directions import CLASSES, shuffled
from .nulls import calibrated

SPACES = ("pictures", "top code", "whole code", "untrained flow", "duration alone")


def points_of(bench: Bench, one, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Tokens in each space, as coordinates in their own span."""
    codes = bench.codes(one.model)[rows]
    return {
        "pictures": judges.span(bench.pictures[rows]),
        "top code": judges.span(codes[:, : one.model.top_size]),
        "whole code": judges.span(codes),
        "untrained flow": judges.span(bench.codes(one.untrained)[rows]),
        "duration alone": bench.frames[rows][:, None].astype(float),
    }


def classifiers() -> dict:
    """What is fitted to points and labels; LDA is the paper's."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def with_components(last):
        return lambda points, labels: make_pipeline(
            PCA(min(64, *(size - 1 if axis == 0 else size for axis, size in enumerate(points.shape))), random_state=0), StandardScaler(), last
        ).fit(points, labels)  # fmt: skip

    return {
        "LDA": judges.shrinkage_lda,
        "logistic regression": with_components(LogisticRegression(C=0.01, max_iter=1000)),
        "small network": with_components(MLPClassifier((32,), alpha=1.0, max_iter=1000, random_state=0)),
    }


def discrimination(bench: Bench) -> dict:
    """How well a classifier does in codes and in pictures, on speakers that neither it nor the flow has met.

    Largely lost is what leaves less than half of the accuracy above chance that pictures give.
    """
    tasks = {"vowel": "phone", "sex": "sex"} if bench.table.sex.nunique() > 1 else {"vowel": "phone"}
    scores, tests, null = [], [], {}
    plans = [plan_of(bench, one) for one in bench.rounds]
    for task, factor in tasks.items():
        for name, fit in classifiers().items():
            scores += [
                row | {"task": task, "classifier": name} for plan in plans for row in _tried(bench, plan, factor, fit)
            ]
        rng = np.random.default_rng([bench.seed, 13])
        fake = [_fake(bench, plans, factor, rng) for _ in range(bench.depth.shuffles)]
        null[task] = calibrated(fake, chance=0.5)
        null[task]["accuracy"] = float(np.mean([one.mean() for one in fake]))
    table = pd.DataFrame(scores)
    for task in tasks:
        part = table[table.task == task]
        above = by_speaker(part).loc["LDA"].unstack("space") - 0.5
        above["half of pictures"] = above.pictures / 2
        kinds = {"untrained flow": "untrained", "pictures": "null", "half of pictures": "simple"}
        metric = "accuracy of LDA above chance"
        tests += [
            Contest("discrimination", f"{task}{note}", metric, 0.05, above[[own, *kinds, "duration alone"]], kinds,
                    int((part.classifier == "LDA").sum()) // len(SPACES), -1, task == "vowel" and code == "whole", code=code)
            for own, note, code in (("whole code", "", "whole"), ("top code", ", top code", "top"))
        ]  # fmt: skip
    told = {
        f"{task}, {name}, {space}": judges.interval(part)
        for task in tasks
        for (name, space), part in by_speaker(table[table.task == task]).groupby(["classifier", "space"])
    }
    return {"tests": tests, "null": null["vowel"], "numbers": {
        "accuracy": told, "null by task": null, "speakers": _speakers(bench), "memory": memory_of(bench), "crops": _crops(bench),
    }}  # fmt: skip


def plan_of(bench: Bench, one) -> dict:
    known = bench.rows(one.known, phone=CLASSES["phone"])
    unseen = bench.rows(one.unseen, tests=True, phone=CLASSES["phone"])
    return {"known": known, "unseen": unseen, "points": points_of(bench, one, np.concatenate([known, unseen]))}


def balanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places of as many tokens of each class as its rarest one has, in order.

    With far more dimensions than tokens, a class mean lies off by noise of squared length d / n, and a classifier takes the class
    that has fewer tokens for the farther one: it would guess the other, whatever it is shown.
    """
    labels = np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    drawn = [rng.permutation(np.flatnonzero(labels == one))[: counts.min()] for one in classes]
    return np.sort(np.concatenate(drawn))


def _tried(bench: Bench, plan: dict, factor: str, fit) -> list[dict]:
    """Right or wrong, of every unseen token in every space, by a classifier that has met as many tokens of each class."""
    known, unseen = (bench.table.iloc[plan[part]] for part in ("known", "unseen"))
    labels, found = known[factor].to_numpy(), []
    fitted = balanced(labels, np.random.default_rng([bench.seed, 19]))
    for space, points in plan["points"].items():
        guess = fit(points[fitted], labels[fitted]).predict(points[len(known) :])
        found.append(
            pd.DataFrame(
                {"space": space, "speaker": unseen.speaker, "class": unseen[factor], "right": guess == unseen[factor]}
            )
        )
    return pd.concat(found).to_dict("records")


def by_speaker(table: pd.DataFrame) -> pd.Series:
    """Accuracy by classifier, space and speaker; both vowels count the same, so that a constant guess is right half of the time."""
    each = table.groupby(["classifier", "space", "speaker", "class"]).right.mean()
    return each.groupby(["classifier", "space", "speaker"]).mean()


def _fake(bench: Bench, plans: list[dict], factor: str, rng) -> pd.Series:
    """Accuracy in codes by speaker when the known tokens' labels are shuffled; of sex, by a woman and a man."""
    rows, fake = [], shuffled(bench.table, factor, rng)
    for plan in plans:
        unseen = bench.table.iloc[plan["unseen"]]
        labels = fake[plan["known"]]
        if len(set(labels)) < 2:
            continue
        points, fitted = plan["points"]["whole code"], balanced(labels, rng)
        guess = judges.shrinkage_lda(points[fitted], labels[fitted]).predict(points[len(labels) :])
        rows.append(
            pd.DataFrame(
                {"speaker": unseen.speaker, "sex": unseen.sex, "phone": unseen.phone, "right": guess == unseen[factor]}
            )
        )
    table = pd.concat(rows)
    each = (
        table.groupby(["speaker", "sex", factor] if factor == "phone" else ["speaker", "sex"])
        .right.mean()
        .reset_index()
    )
    if factor == "phone":  # both vowels count the same, so that a constant guess is right half of the time
        return each.groupby("speaker").right.mean()
    women, men = (each[each.sex == sex].right.to_numpy() for sex in "fm")
    return pd.Series([(w + m) / 2 for w, m in zip(women, men)])


def _speakers(bench: Bench) -> dict:
    """Which of two speakers of one sex, over all vowels and on utterances that LDA was not fitted on: accuracy by space."""
    found, rng = {}, np.random.default_rng([bench.seed, 23])
    for one in bench.wider():
        rows = bench.rows(one.unseen, tests=True)
        voices = bench.tokens.take(rows)
        codes = bench.codes(one.model)[rows]
        spaces = {
            "pictures": bench.pictures[rows].flatten(1),
            "top code": codes[:, : one.model.top_size],
            "whole code": codes,
        }
        if voices.table.drop_duplicates("speaker").groupby("sex").size().max() < 2:
            continue
        for pair in speaker_pairs(voices, max(bench.depth.pairs // 4, 2), bench.seed):
            places = np.flatnonzero(voices.table.speaker.isin(pair))
            part = voices.table.iloc[places]
            if part.groupby("speaker").utterance.nunique().min() < 2:
                continue
            for name, vectors in spaces.items():
                guess = _by_utterance(judges.span(vectors[places]), part, rng)
                if guess is None:  # the utterances fall so that one of the two is left without any
                    continue
                for who in pair:
                    mine = (part.speaker == who).to_numpy()
                    found.setdefault(name, {}).setdefault(who, []).append(float((guess == part.speaker)[mine].mean()))
    return {
        name: judges.interval([np.mean(each) for each in by.values()]) | {"pairs": sum(map(len, by.values())) // 2}
        for name, by in found.items()
    }


def _by_utterance(points: np.ndarray, table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray | None:
    """The speaker that LDA guesses of each token, fitted on as many tokens of both from other utterances; None if there are none."""
    speakers, utterances = table.speaker.to_numpy(), table.utterance.to_numpy()
    guess = speakers.copy()
    for utterance in np.unique(utterances):
        others = np.flatnonzero(utterances != utterance)
        if len(set(speakers[others])) < 2:
            return None
        fitted = others[balanced(speakers[others], rng)]
        guess[utterances == utterance] = judges.shrinkage_lda(points[fitted], speakers[fitted]).predict(
            points[utterances == utterance]
        )
    return guess


def memory_of(bench: Bench) -> dict:
    """LDA of shuffled labels on the very tokens it was fitted on, and on others: it separates noise."""
    one = bench.rounds[0]
    plan = plan_of(bench, one)
    known, unseen = (bench.table.iloc[plan[part]] for part in ("known", "unseen"))
    labels = shuffled(bench.table, "phone", np.random.default_rng(bench.seed))[plan["known"]]
    points = plan["points"]["whole code"]
    lda = judges.shrinkage_lda(points[: len(known)], labels)
    return {
        "tokens of the fit": float((lda.predict(points[: len(known)]) == labels).mean()),
        "other tokens": float((lda.predict(points[len(known) :]) == unseen.phone).mean()),
    }


def _crops(bench: Bench) -> dict | None:
    """The vowel from the middle 64 ms, where there is no duration: pictures, and codes of a flow of crops."""
    crop = bench.extra.get("crop")
    if crop is None:
        return None
    frames = crop.config.frames
    rows = np.flatnonzero((bench.frames >= frames) & bench.table.phone.isin(CLASSES["phone"]).to_numpy())
    cut = central(bench.pictures[rows], (bench.frames[rows].clip(max=FRAMES) - frames) // 2, frames)
    spaces = {
        "pictures": judges.span(cut),
        "whole code": judges.span(torch.as_tensor(crop.encode(cut, bench.seed).flat)),
    }
    table = bench.table.iloc[rows].reset_index(drop=True)
    fair, found = bench.fair[rows], {}
    for name, points in spaces.items():
        right = np.full(len(rows), np.nan)
        for one in bench.rounds:
            known, unseen = np.isin(rows, one.known), np.isin(rows, one.unseen) & fair
            if unseen.any():
                labels = table.phone.to_numpy()[known]
                fitted = np.flatnonzero(known)[balanced(labels, np.random.default_rng([bench.seed, 19]))]
                lda = judges.shrinkage_lda(points[fitted], table.phone[fitted])
                right[unseen] = lda.predict(points[unseen]) == table.phone[unseen]
        each = pd.Series(right).groupby([table.speaker, table.phone]).mean().groupby("speaker").mean()
        found[name] = judges.interval(each.dropna())
    return found
