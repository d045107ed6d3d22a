"""Sections 4.4 and 5: one factor is one direction, and factors can be changed one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from vowelflow.corpus import Corpus
from vowelflow.latent import random_direction

from ..folds import Fold, Tokens, codes_of, decode_folds
from ..methods import Method, flow_method, methods_of, principal
from ..protocol import Protocol
from ..statistics import Comparison, matched, shuffle_test
from ..vowel_judge import VowelJudge, accuracy, features, probability_of, speaker_judge
from .interpolation import FIXED, FORMANTS

CLASSES = {
    "phone": ("aa", "ae"),
    "sex": ("f", "m"),
}  # tokens are moved from the first to the second, and back
RANK = 32  # principal directions of codes that contain a displacement of low rank
TRUTHS = {  # columns of synthetic speech: name, and the formants that depend on it
    "f0": ("F0", ["f0"]),
    "vocal_tract_cm": ("length of the vocal tract", ["f1", "f2", "f3"]),
    "f1": ("first formant", ["f1"]),
    "f2": ("second formant", ["f2"]),
}
SIMPLE = ("pictures", "PCA", "cepstrum")
KINDS = {"untrained flow": "untrained", "shuffled labels": "null", "random direction": "null"}
KINDS |= dict.fromkeys(SIMPLE, "simple")


# ---- displacements


def contrast(table: pd.DataFrame, factor: str, labels: Sequence | None = None) -> np.ndarray:
    """Weights ``(n,)`` of tokens in the displacement from the first class of a factor to the second.

    The displacement is the difference of class means within each class of the other factor, averaged over
    these, so that a vowel that women say more often does not affect the displacement of sex. ``labels``
    replace the true ones.
    """
    labels = np.asarray(table[factor] if labels is None else labels)
    weights, groups = np.zeros(len(table)), 0
    first, second = CLASSES[factor]
    for value in sorted(table[FIXED[factor]].unique()):
        here = (table[FIXED[factor]] == value).to_numpy()
        sources, targets = here & (labels == first), here & (labels == second)
        if sources.any() and targets.any():
            weights[targets] += 1 / targets.sum()
            weights[sources] -= 1 / sources.sum()
            groups += 1
    return weights / max(groups, 1)


def displacement(vectors: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
    """The weighted sum ``(1, d)`` of vectors ``(n, d)``."""
    return torch.from_numpy(weights).float()[None] @ vectors


def shuffled(table: pd.DataFrame, factor: str, rng: np.random.Generator) -> np.ndarray:
    """Shuffled labels of all tokens ``(n,)``: vowels within each speaker, or sexes among speakers."""
    if factor == "phone":
        labels, both = table.phone.to_numpy(copy=True), table.phone.isin(CLASSES["phone"])
        for rows in table[both].groupby("speaker").indices.values():
            places = np.flatnonzero(both)[rows]
            labels[places] = rng.permutation(labels[places])
        return labels
    sexes = table.drop_duplicates("speaker").set_index("speaker").sex
    return table.speaker.map(dict(zip(sexes.index, rng.permutation(sexes)))).to_numpy()


def low_rank(codes: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """The part of a displacement in the first ``RANK`` principal directions of codes ``(n, d)``."""
    basis, _ = principal(codes, RANK)
    return direction @ basis.T @ basis


def fit_rows(tokens: Tokens, fold: Fold, factor: str) -> np.ndarray:
    """Rows of the fit tokens from which a factor's displacement is estimated."""
    return tokens.rows(fold.fit, phone=list(CLASSES["phone"])) if factor == "phone" else fold.fit


def displacements(
    tokens: Tokens, fold: Fold, factor: str, fake: np.ndarray, draws: int, seed: int
) -> list[tuple[str, Method, torch.Tensor]]:
    """Name, method and displacement of all methods and controls; ``fake`` are shuffled labels."""
    fit = fit_rows(tokens, fold, factor)
    table, found = tokens.table.iloc[fit], []
    weights = contrast(table, factor)
    for name, method in methods_of(fold, tokens).items():
        found.append((name, method, displacement(method.vectors(tokens, fit, seed, draws), weights)))
    own, flow = found[0][2], flow_method(fold.flow)
    codes = flow.vectors(tokens, fit, seed, draws)
    return found + [
        ("shuffled labels", flow, displacement(codes, contrast(table, factor, fake[fit]))),
        ("random direction", flow, random_direction(own, seed)),
        ("flow, low rank", flow, low_rank(codes, own)),
    ]


# ---- moves and their scores


class Voices:
    """Two judges of speakers: each scores the utterances that it was not fitted on."""

    def __init__(self, tokens: Tokens):
        self.speakers = tokens.table.speaker.to_numpy()
        self.half = tokens.table.groupby("speaker").utterance.rank("dense").to_numpy().astype(int) % 2
        others = [self.half != half for half in (0, 1)]
        self.judges = [speaker_judge(tokens.features[rows], self.speakers[rows]) for rows in others]

    def probability(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Probability ``(n,)`` of the tokens' speakers, given features ``x``; NaN for unfitted speakers."""
        speakers, found = self.speakers[rows], np.full(len(rows), np.nan)
        for half, judge in enumerate(self.judges):
            mine = (self.half[rows] == half) & np.isin(speakers, judge.classes_)
            if mine.any():
                columns = np.searchsorted(judge.classes_, speakers[mine])
                found[mine] = judge.predict_proba(x[mine])[np.arange(mine.sum()), columns]
        return found


def features_along(tokens: Tokens, method: Method, rows, start, change, steps) -> dict[float, np.ndarray]:
    """Features by step along a displacement; step 0 of a lossless method is the token itself."""
    found = {} if method.lossy else {0.0: tokens.features[rows]}
    others = [step for step in (0.0, *steps) if step not in found]
    pictures = torch.cat([method.moved(start, change, step) for step in others])
    return found | dict(zip(others, np.split(features(pictures), len(others))))


def moves(
    tokens: Tokens, folds: list[Fold], judge: VowelJudge, factor: str, protocol: Protocol, seed: int
) -> pd.DataFrame:
    """Scores of evaluation tokens moved along a factor's displacement in both directions.

    There is a row for each token, step and method. Columns: method, speaker, step, sign, token, ``target``
    (probability of the target class) and its ``gain``, ``kept`` (probability of the factor that should not
    change), ``voice`` (probability of the own speaker), ``drift`` (decrease of what should not change: sex
    and speaker for vowels, the vowel for sex), ``atypical`` (decrease of the log density as a vowel, nats),
    and changes of log F0 to F3.
    """
    voices, scores = Voices(tokens), []
    fake = shuffled(tokens.table, factor, np.random.default_rng([seed, 3]))
    for fold in folds:
        directions = displacements(tokens, fold, factor, fake, protocol.draws, seed)
        for sign in (1, -1):
            source, target = CLASSES[factor][::sign]
            wanted = {"phone": source}
            if factor == "sex":
                wanted = {"sex": source, "phone": ["aa", "ae", "iy", "ow"]}
            rows = tokens.rows(fold.evaluation, scored=True, **wanted)
            rows = tokens.draw(rows, protocol.moved * (1 if factor == "phone" else 2), ("speaker",), seed)
            if not len(rows):
                continue
            about = {"sign": sign, "token": rows, "speaker": tokens.table.speaker.to_numpy()[rows]}
            before = _scores(tokens, judge, voices, tokens.features[rows], rows, factor, target)
            for name, method, direction in directions:
                start, change = method.vectors(tokens, rows, seed), sign * direction
                for step, x in features_along(tokens, method, rows, start, change, protocol.steps).items():
                    after = _scores(tokens, judge, voices, x, rows, factor, target)
                    part = _changes(before, after, factor, sign)
                    scores.append(part.assign(method=name, step=step, **about))
    return pd.concat(scores, ignore_index=True)


def _scores(
    tokens: Tokens, judge: VowelJudge, voices: Voices, x, rows, factor: str, target: str
) -> pd.DataFrame:
    fixed = FIXED[factor]
    return pd.DataFrame({
        "target": judge.posterior(x, factor)[target].to_numpy(),
        "kept": probability_of(judge.posterior(x, fixed), tokens.table[fixed].iloc[rows]),
        "voice": voices.probability(x, rows), "density": judge.log_density(x),
        **{name: x[:, column] for name, column in FORMANTS.items()},
    })  # fmt: skip


def _changes(before: pd.DataFrame, after: pd.DataFrame, factor: str, sign: int) -> pd.DataFrame:
    """Scores after a move, and their changes."""
    found = after.assign(target_before=before.target, kept_before=before.kept, voice_before=before.voice)
    found["gain"] = after.target - before.target
    found["drift"] = before.kept - after.kept
    if factor == "phone":  # a change of sex should change the voice
        found["drift"] = (found.drift + before.voice - after.voice) / 2
    found["atypical"] = before.density - after.density
    for formant in FORMANTS:
        found[formant] = sign * (after[formant] - before[formant])
    return found


# ---- experiments


def direction(
    corpus: Corpus, tokens: Tokens, folds: list[Fold], judge: VowelJudge, protocol: Protocol, seed: int
) -> dict:
    """Gain in the target's probability along a factor's displacement, compared at the same drift."""
    tables = {factor: moves(tokens, folds, judge, factor, protocol, seed) for factor in CLASSES}
    gains, limits, null, ranks = {}, {}, {}, {}
    for factor, table in tables.items():
        gains[factor], limits[factor] = matched(table)
        null[factor], ranks[factor] = _shuffles(tokens, folds, judge, (factor,), protocol, seed)
    both = sum(gains.values()) / len(CLASSES)
    count = {factor: int(table.token.nunique()) for factor, table in tables.items()}

    def comparison(part, values, own="flow", **more):
        metric, n = "gain in the target's probability at matched drift", count.get(part, sum(count.values()))
        more |= {"shuffles": protocol.shuffles}
        values = values[[own, *KINDS, "flow, low rank"]]
        return Comparison("direction", part, metric, 0.05, values, KINDS, n, **more)

    comparisons = [
        comparison("vowel and sex", both, primary=True, rank=max(ranks.values())),
        comparison("vowel and sex, top code", both, "top code", code="top"),
        *(comparison(factor, gains[factor], rank=ranks[factor]) for factor in CLASSES),
    ]
    columns = ["gain", "drift", "target", "kept", "voice", "atypical", *FORMANTS]
    before = ["target_before", "kept_before", "voice_before"]
    curves = {factor: table.groupby(["method", "step"])[columns].mean() for factor, table in tables.items()}
    numbers = {
        "curves": {factor: curve.reset_index().to_dict("records") for factor, curve in curves.items()},
        "before": {factor: table[before].mean().to_dict() for factor, table in tables.items()},
        "matched drift": limits, "agreement": agreement(tokens, folds, protocol, seed),
        "null by factor": null, "ceiling": accuracy(judge, tokens.features, tokens.table),
    }  # fmt: skip
    if corpus.name == "klatt":
        more, numbers["recovery"] = _recovered(tokens, folds, protocol, seed)
        comparisons += more
    return {"comparisons": comparisons, "null": null["phone"], "numbers": numbers}


def _shuffles(
    tokens: Tokens,
    folds: list[Fold],
    judge: VowelJudge,
    factors: tuple[str, ...],
    protocol: Protocol,
    seed: int,
) -> tuple[dict, float]:
    """False positives over label shuffles, and the share of shuffles that do as well as the true labels.

    One evaluation token of each speaker is moved along the sum of the factors' displacements. The statistic
    is its gain in the joint probability of all targets, averaged over speakers. A shuffle relabels all
    tokens.
    """
    rng, gains, plans = np.random.default_rng([seed, 7, len(factors)]), [], []
    for fold in folds:
        rows = tokens.rows(fold.evaluation, scored=True, phone=list(CLASSES["phone"]))
        rows = tokens.draw(rows, 1, ("speaker",), seed)
        if len(rows):
            own = tokens.table.iloc[rows]
            goals = {f: [CLASSES[f][1 - CLASSES[f].index(label)] for label in own[f]] for f in factors}
            signs = {f: _signs(own[f], CLASSES[f][0]) for f in factors}
            plans.append((fold, rows, goals, signs, _joint_probability(judge, tokens.features[rows], goals)))
    for shuffle in range(protocol.shuffles + 1):
        labels = {
            f: shuffled(tokens.table, f, rng) if shuffle else tokens.table[f].to_numpy() for f in factors
        }
        moved = []
        for fold, rows, _, signs, _ in plans:
            means = codes_of(fold.flow, tokens, seed, protocol.draws)
            codes = codes_of(fold.flow, tokens, seed)[rows]
            for factor in factors:
                fit = fit_rows(tokens, fold, factor)
                weights = contrast(tokens.table.iloc[fit], factor, labels[factor][fit])
                codes = codes + signs[factor] * displacement(means[fit], weights)
            moved.append((fold.flow, codes))
        x = features(decode_folds(moved))
        parts = np.split(x, np.cumsum([len(rows) for _, rows, *_ in plans])[:-1])
        after = [_joint_probability(judge, part, plan[2]) - plan[4] for part, plan in zip(parts, plans)]
        gains.append(np.concatenate(after))
    return shuffle_test(gains)


def _signs(labels, first: str) -> torch.Tensor:
    """1 for tokens of the first class and -1 for the others, ``(n, 1)``."""
    return torch.tensor(np.where(labels == first, 1.0, -1.0)).float()[:, None]


def _joint_probability(judge: VowelJudge, x: np.ndarray, goals: dict[str, list]) -> np.ndarray:
    """Product of the probabilities of the goals of several factors ``(n,)``."""
    each = [probability_of(judge.posterior(x, factor), goal) for factor, goal in goals.items()]
    return np.prod(each, axis=0)


def agreement(tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int) -> dict:
    """Whether a displacement is the same in different groups: cosine of two independent estimates of it.

    The displacement of vowel is estimated among women and among men, that of sex in each of two vowels. For
    ``corrected``, the squared norm of each estimate is the product of those from two halves of the speakers,
    whose noise is independent (Spearman 1904): 1 means the same direction, 0 nothing in common. Products are
    averaged over folds.
    """
    found: dict[str, list] = {}
    for fold in folds:
        codes = codes_of(fold.flow, tokens, seed, protocol.draws)
        for factor in CLASSES:
            for name, vectors in (("flow", codes), ("pictures", tokens.pictures.flatten(1))):
                a1, a2, b1, b2 = _quarters(tokens, fold, vectors, factor)
                cosine = torch.cosine_similarity(a1 + a2, b1 + b2, dim=0)
                across = (a1 @ b2 + a2 @ b1) / 2  # without a common speaker
                each = [float(product) for product in (cosine, across, a1 @ a2, b1 @ b2)]
                found.setdefault(f"{factor}, {name}", []).append(each)
    means = {name: np.mean(each, axis=0) for name, each in found.items()}
    return {
        name: {"cosine": raw, "corrected": across / np.sqrt(a * b) if min(a, b) > 0 else None}
        for name, (raw, across, a, b) in means.items()
    }


def _quarters(tokens: Tokens, fold: Fold, vectors: torch.Tensor, factor: str) -> list[torch.Tensor]:
    """A factor's displacement in each class of the other factor, from each half of the fit speakers."""
    table = tokens.table.iloc[fold.fit]
    odd = table.groupby("speaker").ngroup().to_numpy() // 2 % 2 == 1
    found, other = [], FIXED[factor]
    for value in CLASSES[other]:
        mine = ((table[other] == value) & table[factor].isin(CLASSES[factor])).to_numpy()
        for half in (odd, ~odd):
            rows = np.flatnonzero(mine & half)
            weights = contrast(table.iloc[rows], factor)
            found.append(displacement(vectors[fold.fit[rows]], weights).double()[0])
    return found


def composition(tokens: Tokens, folds: list[Fold], judge: VowelJudge, protocol: Protocol, seed: int) -> dict:
    """Gain in the joint probability of both targets after moves along both displacements."""
    fake = {factor: shuffled(tokens.table, factor, np.random.default_rng([seed, 3])) for factor in CLASSES}
    table = pd.concat(_two_moves(tokens, folds, judge, fake, protocol, seed), ignore_index=True)
    both = table[table.move == "both"]
    values, drift = matched(both)
    null, as_well = _shuffles(tokens, folds, judge, ("phone", "sex"), protocol, seed)
    metric = "gain in the probability of both targets at matched drift"
    n = len(both) // both.method.nunique() // (1 + len(protocol.steps))
    ranked = {"primary": True, "rank": as_well, "shuffles": protocol.shuffles}
    whole, top = (values[[own, *KINDS]] for own in ("flow", "top code"))
    comparisons = [
        Comparison("composition", "vowel, then sex", metric, 0.05, whole, KINDS, n, **ranked),
        Comparison("composition", "vowel, then sex, top code", metric, 0.05, top, KINDS, n, code="top"),
    ]
    columns = ["phone", "sex", "joint", "gain", "drift"]
    means = table.groupby(["method", "move", "step"])[columns].mean().reset_index()
    numbers = {"table": means.to_dict("records"), "matched drift": drift}
    return {"comparisons": comparisons, "null": null, "numbers": numbers}


def _two_moves(
    tokens: Tokens, folds: list[Fold], judge: VowelJudge, fake: dict, protocol: Protocol, seed: int
) -> Iterator[pd.DataFrame]:
    """Scores of tokens moved along the displacement of vowel, along that of sex, and along both."""
    for fold in folds:
        both = [displacements(tokens, fold, factor, fake[factor], protocol.draws, seed) for factor in CLASSES]
        for sign in (1, -1):
            source, target = CLASSES["phone"][::sign]
            rows = tokens.rows(fold.evaluation, scored=True, phone=source)
            if not len(rows):
                continue
            rows = tokens.draw(rows, protocol.moved, ("speaker",), seed)
            own = tokens.table.iloc[rows]
            toward = _signs(own.sex, "f")
            goals = pd.DataFrame({"phone": target, "sex": np.where(own.sex == "f", "m", "f")})
            before = _joint(judge, tokens.features[rows], goals)
            for (name, method, vowel), (_, _, sex) in zip(*both):
                start = method.vectors(tokens, rows, seed)
                changes = {
                    "both": (sign * vowel + toward * sex, protocol.steps),
                    "first": ((sign * vowel).expand(len(rows), -1), (1.0,)),
                    "second": (toward * sex, (1.0,)),
                }
                for move, (change, steps) in changes.items():
                    for step, x in features_along(tokens, method, rows, start, change, steps).items():
                        after = _joint(judge, x, goals)
                        changes_of = {
                            "gain": after.joint - before.joint,
                            "drift": before.speech - after.speech,
                        }
                        yield after.assign(
                            method=name, step=step, move=move, speaker=own.speaker.to_numpy(), **changes_of
                        )


def _joint(judge: VowelJudge, x: np.ndarray, goals: pd.DataFrame) -> pd.DataFrame:
    """Probabilities of both goals, their product, and whether a picture is as probable as real vowels."""
    found = {factor: probability_of(judge.posterior(x, factor), goals[factor]) for factor in CLASSES}
    found["joint"] = found["phone"] * found["sex"]
    return pd.DataFrame(found | {"speech": judge.speech(x).astype(float)})


# ---- synthetic speech, whose parameters are known


def recovery(
    tokens: Tokens, folds: list[Fold], truth: str, protocol: Protocol, seed: int
) -> tuple[pd.DataFrame, dict]:
    """Changes of log F0 to F3 of tokens moved from low to high values of a parameter, and the true changes.

    ``truth`` is one of ``TRUTHS``. Low and high are relative to the median of each sex and vowel among fit
    speakers. The true changes are differences of the true means of log F0 to F3; a longer vocal tract, for
    example, lowers the formants.
    """
    found, expected, speakers = [], [], tokens.table.speaker.to_numpy()
    for fold in folds:
        table = tokens.table.iloc[fold.fit]
        high = (table[truth] > table.groupby(["sex", "phone"])[truth].transform("median")).to_numpy()
        weights = np.where(high, 1 / high.sum(), -1 / (~high).sum())
        expected.append({name: float(weights @ np.log(table[name])) for name in FORMANTS})
        rows = tokens.rows(fold.evaluation, phone=["aa", "ae", "iy"])
        rows = tokens.draw(rows, protocol.moved, ("speaker",), seed)
        methods = methods_of(fold, tokens)
        for name, method in (methods | {"random direction": methods["flow"]}).items():
            move = displacement(method.vectors(tokens, fold.fit, seed, protocol.draws), weights)
            if name == "random direction":
                move = random_direction(move, seed)
            start = method.vectors(tokens, rows, seed)
            for sign in (1, -1):
                for step in (1.0, 2.0):
                    change = sign * (features(method.moved(start, sign * move, step)) - tokens.features[rows])
                    part = {formant: change[:, column] for formant, column in FORMANTS.items()}
                    about = {"method": name, "step": step, "token": rows, "speaker": speakers[rows]}
                    found.append(pd.DataFrame(about | part))
    return pd.concat(found, ignore_index=True), pd.DataFrame(expected).mean().to_dict()


def _recovered(
    tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int
) -> tuple[list[Comparison], dict]:
    """Comparisons and numbers for each of ``TRUTHS``: distance of the measured change from the true one."""
    kinds = {"untrained flow": "untrained", "random direction": "null"} | dict.fromkeys(SIMPLE, "simple")
    comparisons, numbers = [], {}
    for truth, (words, own) in TRUTHS.items():
        table, expected = recovery(tokens, folds, truth, protocol, seed)
        share = table.assign(own=table[own].mean(axis=1) / np.mean([expected[name] for name in own]))
        once = share[share.step == 1].groupby(["speaker", "method"]).own.mean().unstack()
        change = f"true difference of log {', '.join(own).upper()}"
        metric = f"distance from 1 of the share of the {change} that is heard"
        values = (once - 1).abs()[["flow", *kinds]]
        n = int(table.token.nunique())
        part = f"{words}, whose truth is known"
        comparisons.append(Comparison("direction", part, metric, 0.1, values, kinds, n, -1))
        means = table.groupby(["method", "step"])[list(FORMANTS)].mean().reset_index()
        numbers[truth] = {"words": words, "expected": expected, "table": means.to_dict("records")}
        numbers[truth]["share"] = once.mean().to_dict()
    return comparisons, numbers
