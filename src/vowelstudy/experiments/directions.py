"""Sections 4.4 and 5: one factor is one direction, and factors can be changed one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from vowelflow.corpus import Corpus
from vowelflow.glow import Glow
from vowelflow.latent import random_direction

from ..folds import Fold, Tokens, codes_of
from ..methods import Method, flow_method, methods_of, principal
from ..protocol import Protocol
from ..statistics import Comparison, calibrated, matched, rank
from ..vowel_judge import VowelJudge, accuracy, features, probability_of, speaker_judge
from .interpolation import FIXED, FORMANTS

CLASSES = {"phone": ("aa", "ae"), "sex": ("f", "m")}  # from the first to the second, and back
RANK = 32  # principal directions of codes that a displacement of low rank lies in
TRUTHS = {  # of synthetic speech: the column, its name, and the formants that it changes
    "f0": ("F0", ["f0"]),
    "vocal_tract_cm": ("length of the vocal tract", ["f1", "f2", "f3"]),
    "f1": ("first formant", ["f1"]),
    "f2": ("second formant", ["f2"]),
}
SIMPLE = ("pictures", "PCA", "cepstrum")
KINDS = {
    "untrained flow": "untrained",
    "shuffled labels": "null",
    "random direction": "null",
} | dict.fromkeys(SIMPLE, "simple")


# ---- displacements


def contrast(table: pd.DataFrame, factor: str, labels: Sequence | None = None) -> np.ndarray:
    """Weights ``(n,)`` of tokens in the displacement from the first class of a factor to the second.

    The difference of class means within every class of the other factor, averaged over those: so vowels that women say more
    often do not enter the direction of sex. ``labels`` replace the factor's own.
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
    """The weighted sum of vectors ``(n, d)``: ``(1, d)``."""
    return torch.from_numpy(weights).float()[None] @ vectors


def shuffled(table: pd.DataFrame, factor: str, rng: np.random.Generator) -> np.ndarray:
    """A factor's labels of all tokens in random order: the two vowels within each speaker, the sexes among speakers."""
    if factor == "phone":
        labels = table.phone.to_numpy(copy=True)
        for rows in table[table.phone.isin(CLASSES["phone"])].groupby("speaker").indices.values():
            places = np.flatnonzero(table.phone.isin(CLASSES["phone"]))[rows]
            labels[places] = rng.permutation(labels[places])
        return labels
    sexes = table.drop_duplicates("speaker").set_index("speaker").sex
    return table.speaker.map(dict(zip(sexes.index, rng.permutation(sexes)))).to_numpy()


def low_rank(codes: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """The part of a displacement in the first ``RANK`` principal directions of codes ``(n, d)``."""
    basis, _ = principal(codes, RANK)
    return direction @ basis.T @ basis


def fit_rows(tokens: Tokens, fold: Fold, factor: str) -> np.ndarray:
    """The fit tokens that a factor's displacement is estimated from."""
    return tokens.rows(fold.fit, phone=list(CLASSES["phone"])) if factor == "phone" else fold.fit


def displacements(
    tokens: Tokens, fold: Fold, factor: str, fake: np.ndarray, draws: int, seed: int
) -> list[tuple[str, Method, torch.Tensor]]:
    """Every method and its displacement; ``fake`` are shuffled labels of all tokens."""
    fit = fit_rows(tokens, fold, factor)
    table = tokens.table.iloc[fit]
    weights = contrast(table, factor)
    found = [
        (name, method, displacement(method.vectors(tokens, fit, seed, draws), weights))
        for name, method in methods_of(fold, tokens).items()
    ]
    own, flow = found[0][2], flow_method(fold.flow)
    codes = flow.vectors(tokens, fit, seed, draws)
    return found + [
        ("shuffled labels", flow, displacement(codes, contrast(table, factor, fake[fit]))),
        ("random direction", flow, random_direction(own, seed)),
        ("flow, low rank", flow, low_rank(codes, own)),
    ]


# ---- moves and their scores


class Voices:
    """How probable each token's own speaker is, by one of two judges that did not enrol the token's utterance."""

    def __init__(self, tokens: Tokens):
        self.speakers = tokens.table.speaker.to_numpy()
        self.half = tokens.table.groupby("speaker").utterance.rank("dense").to_numpy().astype(int) % 2
        others = [self.half != half for half in (0, 1)]
        self.judges = [speaker_judge(tokens.features[rows], self.speakers[rows]) for rows in others]

    def probability(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Of the features ``x`` of moved tokens, whose rows are ``rows``: ``(n,)``, NaN for speakers that were not enrolled."""
        speakers, found = self.speakers[rows], np.full(len(rows), np.nan)
        for half, judge in enumerate(self.judges):
            mine = (self.half[rows] == half) & np.isin(speakers, judge.classes_)
            if mine.any():
                columns = np.searchsorted(judge.classes_, speakers[mine])
                found[mine] = judge.predict_proba(x[mine])[np.arange(mine.sum()), columns]
        return found


def features_along(tokens: Tokens, method: Method, rows, start, change, steps) -> dict[float, np.ndarray]:
    """Features after each step along a displacement, and before the first, where a lossless method gives the token itself."""
    found = {} if method.lossy else {0.0: tokens.features[rows]}
    others = [step for step in (0.0, *steps) if step not in found]
    pictures = torch.cat([method.moved(start, change, step) for step in others])
    return found | dict(zip(others, np.split(features(pictures), len(others))))


def moves(
    tokens: Tokens, folds: list[Fold], judge: VowelJudge, factor: str, protocol: Protocol, seed: int
) -> pd.DataFrame:
    """Scores of evaluation tokens that are moved along a factor's displacement, both ways: a row for each token, step and method.

    Columns: method, speaker, step, ``target`` (probability of the target) and its ``gain``, ``kept`` (probability of the factor that
    should stay), ``voice`` (probability of the own speaker), ``drift`` (decrease of what should stay: sex and speaker for vowels, the
    vowel for sex), ``atypical`` (decrease of the density as a vowel, nats), and changes of log F0 to F3.
    """
    voices, scores = Voices(tokens), []
    fake = shuffled(tokens.table, factor, np.random.default_rng([seed, 3]))
    for fold in folds:
        directions = displacements(tokens, fold, factor, fake, protocol.draws, seed)
        for sign, (source, target) in ((1, CLASSES[factor]), (-1, CLASSES[factor][::-1])):
            wanted = (
                {"phone": source} if factor == "phone" else {"sex": source, "phone": ["aa", "ae", "iy", "ow"]}
            )
            rows = tokens.rows(fold.evaluation, scored=True, **wanted)
            rows = tokens.draw(rows, protocol.moved * (1 if factor == "phone" else 2), ("speaker",), seed)
            if not len(rows):
                continue
            before = _scores(tokens, judge, voices, tokens.features[rows], rows, factor, target)
            for name, method, direction in directions:
                start = method.vectors(tokens, rows, seed)
                for step, x in features_along(
                    tokens, method, rows, start, sign * direction, protocol.steps
                ).items():
                    after = _scores(tokens, judge, voices, x, rows, factor, target)
                    part = _changes(before, after, factor, sign)
                    people = tokens.table.speaker.to_numpy()[rows]
                    scores.append(part.assign(method=name, speaker=people, step=step, sign=sign, token=rows))
    return pd.concat(scores, ignore_index=True)


def _scores(
    tokens: Tokens,
    judge: VowelJudge,
    voices: Voices,
    x: np.ndarray,
    rows: np.ndarray,
    factor: str,
    target: str,
) -> pd.DataFrame:
    fixed = FIXED[factor]
    return pd.DataFrame({
        "target": judge.posterior(x, factor)[target].to_numpy(),
        "kept": probability_of(judge.posterior(x, fixed), tokens.table[fixed].iloc[rows]),
        "voice": voices.probability(x, rows), "density": judge.log_density(x),
        **{name: x[:, column] for name, column in FORMANTS.items()},
    })  # fmt: skip


def _changes(before: pd.DataFrame, after: pd.DataFrame, factor: str, sign: int) -> pd.DataFrame:
    """Scores after a move, and what has changed since before it."""
    found = after.assign(target_before=before.target, kept_before=before.kept, voice_before=before.voice)
    found["gain"] = after.target - before.target
    found["drift"] = before.kept - after.kept
    if factor == "phone":  # after a change of sex the voice should not stay the same
        found["drift"] = (found.drift + before.voice - after.voice) / 2
    found["atypical"] = before.density - after.density
    for formant in FORMANTS:
        found[formant] = sign * (after[formant] - before[formant])
    return found


# ---- experiments


def direction(
    corpus: Corpus, tokens: Tokens, folds: list[Fold], judge: VowelJudge, protocol: Protocol, seed: int
) -> dict:
    """Gain in the target's probability along a factor's displacement, at the same loss of what should stay."""
    tables = {factor: moves(tokens, folds, judge, factor, protocol, seed) for factor in CLASSES}
    found = {factor: matched(table) for factor, table in tables.items()}
    gains, limits = ({factor: one[place] for factor, one in found.items()} for place in (0, 1))
    metric = "gain in the target's probability at matched drift"
    shuffles = {factor: _shuffles(tokens, folds, judge, (factor,), protocol, seed) for factor in CLASSES}
    null, ranks = ({factor: one[place] for factor, one in shuffles.items()} for place in (0, 1))
    both = sum(gains[factor] for factor in CLASSES) / len(CLASSES)
    count = {factor: int(table.token.nunique()) for factor, table in tables.items()}

    def comparison(part, values, own="flow", **more):
        n = count.get(part, sum(count.values()))
        values = values[[own, *KINDS, "flow, low rank"]]
        return Comparison(
            "direction", part, metric, 0.05, values, KINDS, n, shuffles=protocol.shuffles, **more
        )  # fmt: skip

    comparisons = [
        comparison("vowel and sex", both, primary=True, rank=max(ranks.values())),
        comparison("vowel and sex, top code", both, "top code", code="top"),
        *(comparison(factor, gains[factor], rank=ranks[factor]) for factor in CLASSES),
    ]
    columns = ["gain", "drift", "target", "kept", "voice", "atypical", *FORMANTS]
    before = ["target_before", "kept_before", "voice_before"]
    numbers = {
        "curves": {f: t.groupby(["method", "step"])[columns].mean().reset_index().to_dict("records") for f, t in tables.items()},
        "before": {f: t[before].mean().to_dict() for f, t in tables.items()},
        "matched drift": limits,
        "agreement": agreement(tokens, folds, protocol, seed),
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

    One evaluation token of each speaker is moved along the sum of the factors' displacements. The statistic is its gain in the joint
    probability of all targets, mean over speakers. A shuffle is one labelling of all tokens, as the true one is.
    """
    rng, gains = np.random.default_rng([seed, 7, len(factors)]), []
    plans = []
    for fold in folds:
        rows = tokens.rows(fold.evaluation, scored=True, phone=list(CLASSES["phone"]))
        rows = tokens.draw(rows, 1, ("speaker",), seed)
        if len(rows):
            own = tokens.table.iloc[rows]
            goals = {f: [CLASSES[f][1 - CLASSES[f].index(label)] for label in own[f]] for f in factors}
            signs = {
                f: torch.tensor(np.where(own[f] == CLASSES[f][0], 1.0, -1.0)).float()[:, None]
                for f in factors
            }
            plans.append((fold, rows, goals, signs, _joint_probability(judge, tokens.features[rows], goals)))
    for shuffle in range(protocol.shuffles + 1):
        labels = {
            f: shuffled(tokens.table, f, rng) if shuffle else tokens.table[f].to_numpy() for f in factors
        }
        moved: dict[Glow, list] = {}
        for fold, rows, _, signs, _ in plans:
            mean_codes, codes = (
                codes_of(fold.flow, tokens, seed, protocol.draws),
                codes_of(fold.flow, tokens, seed)[rows],
            )
            for factor in factors:
                fit = fit_rows(tokens, fold, factor)
                weights = contrast(tokens.table.iloc[fit], factor, labels[factor][fit])
                codes = codes + signs[factor] * displacement(mean_codes[fit], weights)
            moved.setdefault(fold.flow, []).append(codes)
        # the flows come in the order of their folds, so the pictures come in the order of plans
        x = features(torch.cat([flow.decode(torch.cat(parts)) for flow, parts in moved.items()]))
        parts = np.split(x, np.cumsum([len(rows) for _, rows, *_ in plans])[:-1])
        after = [_joint_probability(judge, part, plan[2]) - plan[4] for part, plan in zip(parts, plans)]
        gains.append(np.concatenate(after))
    return calibrated(gains[1:]), rank(gains[0].mean(), [one.mean() for one in gains[1:]])


def _joint_probability(judge: VowelJudge, x: np.ndarray, goals: dict[str, list]) -> np.ndarray:
    """Product of the probabilities of the goals of several factors, ``(n,)``."""
    return np.prod(
        [probability_of(judge.posterior(x, factor), goal) for factor, goal in goals.items()], axis=0
    )


def agreement(tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int) -> dict:
    """Whether a displacement is the same in other groups: cosine of two independent estimates, corrected for their noise.

    The displacement of vowel among women and among men, that of sex in each of two vowels. Each half's norm is estimated by the
    product of two quarters, whose noise is independent (Spearman 1904): 1 means one direction, 0 nothing in common. Products are
    averaged over folds.
    """
    found: dict[str, list] = {}
    cases = {"phone": ("sex", ("f", "m")), "sex": ("phone", ("aa", "ae"))}
    for fold in folds:
        spaces = {
            "flow": codes_of(fold.flow, tokens, seed, protocol.draws),
            "pictures": tokens.pictures.flatten(1),
        }
        for factor, (other, values) in cases.items():
            for name, vectors in spaces.items():
                a1, a2, b1, b2 = _quarters(tokens, fold, vectors, factor, other, values)
                cosine = torch.cosine_similarity(a1 + a2, b1 + b2, dim=0)
                across = (a1 @ b2 + a2 @ b1) / 2  # of no common speaker
                each = [float(product) for product in (cosine, across, a1 @ a2, b1 @ b2)]
                found.setdefault(f"{factor}, {name}", []).append(each)
    means = {name: np.mean(each, axis=0) for name, each in found.items()}
    return {
        name: {"cosine": raw, "corrected": across / np.sqrt(a * b) if min(a, b) > 0 else None}
        for name, (raw, across, a, b) in means.items()
    }


def _quarters(
    tokens: Tokens, fold: Fold, vectors: torch.Tensor, factor: str, other: str, values
) -> list[torch.Tensor]:
    """A factor's displacement by each half of the fit speakers, for the first of another factor's values, then for the second."""
    table = tokens.table.iloc[fold.fit]
    odd = table.groupby("speaker").ngroup().to_numpy() // 2 % 2 == 1
    found = []
    for value in values:
        mine = ((table[other] == value) & table[factor].isin(CLASSES[factor])).to_numpy()
        for half in (odd, ~odd):
            rows = np.flatnonzero(mine & half)
            weights = contrast(table.iloc[rows], factor)
            found.append(displacement(vectors[fold.fit[rows]], weights).double()[0])
    return found


def composition(tokens: Tokens, folds: list[Fold], judge: VowelJudge, protocol: Protocol, seed: int) -> dict:
    """Vowel, then sex: gain in the joint probability of both targets, at the same loss of being a vowel at all."""
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
    numbers = {
        "table": table.groupby(["method", "move", "step"])[columns].mean().reset_index().to_dict("records"),
        "matched drift": drift,
    }
    return {"comparisons": comparisons, "null": null, "numbers": numbers}


def _two_moves(
    tokens: Tokens, folds: list[Fold], judge: VowelJudge, fake: dict, protocol: Protocol, seed: int
) -> Iterator[pd.DataFrame]:
    """Scores of tokens moved along the displacements of vowel, of sex, and of both."""
    for fold in folds:
        vowels, sexes = (
            displacements(tokens, fold, factor, fake[factor], protocol.draws, seed) for factor in CLASSES
        )
        for sign in (1, -1):
            source, target = CLASSES["phone"][::sign]
            rows = tokens.rows(fold.evaluation, scored=True, phone=source)
            if not len(rows):
                continue
            rows = tokens.draw(rows, protocol.moved, ("speaker",), seed)
            own = tokens.table.sex.to_numpy()[rows]
            toward = torch.tensor(np.where(own == "f", 1.0, -1.0)).float()[:, None]
            goals = pd.DataFrame({"phone": target, "sex": np.where(own == "f", "m", "f")})
            before = _joint(judge, tokens.features[rows], goals)
            for (name, method, vowel), (_, _, sex) in zip(vowels, sexes):
                start = method.vectors(tokens, rows, seed)
                changes = {
                    "both": (sign * vowel + toward * sex, protocol.steps),
                    "first": ((sign * vowel).expand(len(rows), -1), (1.0,)),
                    "second": (toward * sex, (1.0,)),
                }
                for move, (change, steps) in changes.items():
                    for step, x in features_along(tokens, method, rows, start, change, steps).items():
                        after = _joint(judge, x, goals)
                        yield after.assign(
                            method=name, step=step, move=move, speaker=tokens.table.speaker.to_numpy()[rows],
                            gain=after.joint - before.joint, drift=before.speech - after.speech,
                        )  # fmt: skip


def _joint(judge: VowelJudge, x: np.ndarray, goals: pd.DataFrame) -> pd.DataFrame:
    """Probabilities of goals, one by one and together, and whether a picture is as probable as real vowels are."""
    found = {factor: probability_of(judge.posterior(x, factor), goals[factor]) for factor in CLASSES}
    return pd.DataFrame(
        found | {"joint": found["phone"] * found["sex"], "speech": judge.speech(x).astype(float)}
    )


# ---- synthetic speech, whose truth is known


def recovery(
    tokens: Tokens, folds: list[Fold], truth: str, protocol: Protocol, seed: int
) -> tuple[pd.DataFrame, dict]:
    """Changes of log F0 to F3 of tokens that are moved from low to high values of one of ``TRUTHS``, and the true change.

    Low and high are below and above the median of each sex and vowel, of fit speakers. The true change is the difference of the true
    means of log F0 to F3: vowels with a longer vocal tract have lower formants.
    """
    found, expected = [], []
    for fold in folds:
        table = tokens.table.iloc[fold.fit]
        high = (table[truth] > table.groupby(["sex", "phone"])[truth].transform("median")).to_numpy()
        weights = np.where(high, 1 / high.sum(), -1 / (~high).sum())
        expected.append({name: float(weights @ np.log(table[name])) for name in FORMANTS})
        rows = tokens.draw(
            tokens.rows(fold.evaluation, phone=["aa", "ae", "iy"]), protocol.moved, ("speaker",), seed
        )
        methods = methods_of(fold, tokens)
        for name, method in (methods | {"random direction": methods["flow"]}).items():
            move = displacement(method.vectors(tokens, fold.fit, seed, protocol.draws), weights)
            if name == "random direction":
                move = random_direction(move, seed)
            start = method.vectors(tokens, rows, seed)
            for sign in (1, -1):
                for step in (1.0, 2.0):
                    change = sign * (features(method.moved(start, sign * move, step)) - tokens.features[rows])
                    found.append(pd.DataFrame({
                        "method": name, "step": step, "token": rows, "speaker": tokens.table.speaker.to_numpy()[rows],
                        **{formant: change[:, column] for formant, column in FORMANTS.items()},
                    }))  # fmt: skip
    return pd.concat(found, ignore_index=True), pd.DataFrame(expected).mean().to_dict()


def _recovered(
    tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int
) -> tuple[list[Comparison], dict]:
    """For each of ``TRUTHS``, how far the measured change is from the true one, and what else changes."""
    kinds = {"untrained flow": "untrained", "random direction": "null"} | dict.fromkeys(SIMPLE, "simple")
    comparisons, numbers = [], {}
    for truth, (words, own) in TRUTHS.items():
        table, expected = recovery(tokens, folds, truth, protocol, seed)
        share = table.assign(own=table[own].mean(axis=1) / np.mean([expected[name] for name in own]))
        once = share[share.step == 1].pivot_table(
            index="speaker", columns="method", values="own", aggfunc="mean"
        )
        metric = f"distance from 1 of the share of the true difference of log {', '.join(own).upper()} that is heard"
        values = (once - 1).abs()[["flow", *kinds]]
        n = int(table.token.nunique())
        comparisons.append(
            Comparison("direction", f"{words}, whose truth is known", metric, 0.1, values, kinds, n, -1)
        )
        means = table.groupby(["method", "step"])[list(FORMANTS)].mean().reset_index()
        numbers[truth] = {
            "words": words, "expected": expected, "table": means.to_dict("records"), "share": once.mean().to_dict()
        }  # fmt: skip
    return comparisons, numbers
