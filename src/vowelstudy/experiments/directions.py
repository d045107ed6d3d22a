"""Sections 4.4 and 5: one factor is one direction, and factors can be changed one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from vowelflow.corpus import Corpus
from vowelflow.latent import random_direction

from ..folds import Fold, evaluated
from ..judges import FACTORS, FORMANTS, KINDS, Features, Judges, Voices, accuracy, half_of_utterances
from ..methods import Method, flow_method, methods_of, vae_method
from ..protocol import Protocol
from ..realism import Views, areas, joined, views
from ..statistics import NULL, SIMPLE, Comparison, matched, shuffle_test
from ..tokens import Tokens, codes_of, decode_folds
from ..vae import VAE
from ..warping import PSOLA, Warping

CLASSES = {
    "phone": ("aa", "ae"),
    "sex": ("f", "m"),
}  # tokens are moved from the first to the second, and back
FIXED = {"phone": "sex", "sex": "phone", "speaker": "phone"}  # the factor that should not change
VOWELS_OF = {"phone": ["aa", "ae"], "sex": ["aa", "ae", "iy", "ow"]}  # whose tokens are moved
TRUTHS = {  # columns of synthetic speech: name, and the formants that depend on it
    "f0": ("F0", ["f0"]),
    "vocal_tract_cm": ("length of the vocal tract", ["f1", "f2", "f3"]),
    "f1": ("first formant", ["f1"]),
    "f2": ("second formant", ["f2"]),
}
NULLS = dict.fromkeys(("no move", "shuffled labels", "random direction"), NULL)
OF_BOTH = ("pictures", "PCA", "cepstrum", "beta-VAE")  # simple methods of vowel and of sex
OF_SEX = ("frequency warping", "PSOLA")


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


def shuffled(table: pd.DataFrame, factor: str, rng: np.random.Generator) -> np.ndarray:
    """Shuffled labels of all tokens ``(n,)``, within each corpus: vowels within each sex, or sexes among speakers.

    Vowels are not shuffled within speakers: a speaker with a single utterance often says only one of the two,
    and would keep its labels.
    """
    labels = table[factor].to_numpy(copy=True)
    if factor == "phone":
        both = table.phone.isin(CLASSES["phone"])
        for rows in table[both].groupby(["corpus", "sex"]).groups.values():
            labels[rows] = rng.permutation(labels[rows])
        return labels
    for _, part in table.groupby("corpus"):
        sexes = part.drop_duplicates("speaker").set_index("speaker").sex
        labels[part.index] = part.speaker.map(dict(zip(sexes.index, rng.permutation(sexes))))
    return labels


def fit_rows(tokens: Tokens, fold: Fold, factor: str) -> np.ndarray:
    """Rows of the fit tokens from which a factor's displacement is estimated."""
    return tokens.rows(fold.fit, phone=list(CLASSES["phone"])) if factor == "phone" else fold.fit


def displacements(
    tokens: Tokens, fold: Fold, factor: str, fake: np.ndarray, draws: int, seed: int, vae: VAE | None = None
) -> list[tuple[str, Method, torch.Tensor]]:
    """Name, method and displacement of all methods and nulls; ``fake`` are shuffled labels."""
    fit = fit_rows(tokens, fold, factor)
    table, methods = tokens.table.iloc[fit], methods_of(fold, tokens)
    if vae is not None:
        methods["beta-VAE"] = vae_method(vae)
    if factor == "sex":
        methods |= {
            "frequency warping": Warping(tokens.observation),
            "PSOLA": tokens.cache.setdefault("PSOLA", PSOLA(tokens.observation)),
        }
    weights, found = contrast(table, factor), []
    for name, method in methods.items():
        found.append((name, method, method.displacement(method.vectors(tokens, fit, seed, draws), weights)))
    flow, own = methods["flow"], found[0][2]
    codes = flow.vectors(tokens, fit, seed, draws)
    return found + [
        ("shuffled labels", flow, flow.displacement(codes, contrast(table, factor, fake[fit]))),
        ("random direction", flow, random_direction(own, seed)),
    ]


# ---- moves and their scores


def moved_tokens(
    tokens: Tokens, fold: Fold, factor: str, sign: int, protocol: Protocol, seed: int
) -> np.ndarray:
    """Rows of the evaluation tokens that are moved from the first class to the second, or back if ``sign`` is -1."""
    source = CLASSES[factor][::sign][0]
    wanted = {"phone": source} if factor == "phone" else {"sex": source, "phone": VOWELS_OF["sex"]}
    rows = tokens.rows(fold.evaluation, scored=True, **wanted)
    return tokens.draw(rows, protocol.moved, ("speaker",), seed)


def steps_along(
    tokens: Tokens, method, rows, start, change, steps
) -> Iterator[tuple[float, torch.Tensor, Features]]:
    """Pictures and their features by step along a displacement; step 0 of a lossless method is the token itself."""
    for step in (0.0, *steps):
        if step == 0 and not method.lossy:
            yield step, tokens.pictures[rows], tokens.features(rows)
        else:
            pictures = method.moved(start, change, step)
            yield step, pictures, tokens.measure(pictures, rows)


def moves(
    tokens: Tokens, folds: list[Fold], judges: Judges, factor: str, protocol: Protocol, seed: int,
    vae: VAE | None = None,
) -> tuple[pd.DataFrame, Views]:  # fmt: skip
    """Scores and views of evaluation tokens moved along a factor's displacement in both directions.

    There is a row for each token, step and method. Columns: method, speaker, step, sign, token, ``gain`` of
    the target's probability (and by each judge, ``gain_cepstrum`` and so on), ``target`` itself, ``fixed``
    (probability of the factor that should not change), ``voice`` (probability of the own speaker), and
    changes of log F0 to F3 towards the second class.
    """
    voices, halves = voices_of(tokens, folds, judges), half_of_utterances(tokens.table)
    scores, seen = [], []
    fake = shuffled(tokens.table, factor, np.random.default_rng([seed, 3]))
    for fold in folds:
        directions = displacements(tokens, fold, factor, fake, protocol.draws, seed, vae)
        for sign in (1, -1):
            rows = moved_tokens(tokens, fold, factor, sign, protocol, seed)
            if not len(rows):
                continue
            target = CLASSES[factor][::sign][1]
            about = {"sign": sign, "token": rows, "speaker": tokens.table.speaker.to_numpy()[rows]}

            def score(features, rows=rows, target=target):
                return _scores(tokens, judges, voices, halves, features, rows, factor, target)

            before = score(tokens.features(rows))
            for name, method, direction in directions:
                start = method.vectors(tokens, rows, seed)
                for step, pictures, features in steps_along(
                    tokens, method, rows, start, sign * direction, protocol.steps
                ):
                    part = _changes(before, score(features), sign)
                    scores.append(part.assign(method=name, step=step, **about))
                    seen.append(views(pictures, features))
    return pd.concat(scores, ignore_index=True), joined(seen)


def voices_of(tokens: Tokens, folds: list[Fold], judges: Judges) -> Voices:
    """Judges of the evaluation speakers, fitted on their own tokens."""
    rows = evaluated(folds)
    return Voices(judges, tokens.features(rows), tokens.table.iloc[rows].reset_index(drop=True))


def _scores(
    tokens: Tokens, judges: Judges, voices: Voices, halves: np.ndarray, features, rows, factor: str, target: str
) -> pd.DataFrame:  # fmt: skip
    each = judges.probability(features, factor, [target] * len(rows))
    fixed = judges.probability(features, FIXED[factor], tokens.table[FIXED[factor]].iloc[rows])
    voice = voices.probability(features, halves[rows], tokens.table.speaker.to_numpy()[rows])
    acoustics = features.acoustics.reset_index(drop=True)
    return pd.DataFrame({
        "target": each["mean"], **{f"target_{kind}": each[kind] for kind in KINDS},
        "fixed": fixed["mean"], "voice": voice, **{name: acoustics[column] for name, column in FORMANTS.items()},
    })  # fmt: skip


def _changes(before: pd.DataFrame, after: pd.DataFrame, sign: int) -> pd.DataFrame:
    """Scores after a move, and their changes."""
    found = after.assign(**{f"{name}_before": before[name] for name in ("target", "fixed", "voice")})
    found["gain"] = after.target - before.target
    for kind in KINDS:
        found[f"gain_{kind}"] = after[f"target_{kind}"] - before[f"target_{kind}"]
    for formant in FORMANTS:
        found[formant] = sign * (after[formant] - before[formant])
    return found


def realism_of(
    tokens: Tokens, folds: list[Fold], table: pd.DataFrame, seen: Views, vowels: list[str], protocol: Protocol,
    seed: int,
) -> pd.DataFrame:  # fmt: skip
    """AUC between moved tokens and real tokens of evaluation speakers: a row for each method, a column for each step.

    One discriminator is fitted for all steps of a method. Columns have two levels: the discriminator, or
    "mean", and the step.
    """
    rows = tokens.rows(np.concatenate([fold.evaluation for fold in folds]), scored=True, phone=vowels)
    per_speaker = max(2, len(table) // table.groupby(["method", "step"]).ngroups // table.speaker.nunique())
    rows = tokens.draw(rows, per_speaker, ("speaker",), seed + 1)
    real, speakers = (
        views(tokens.pictures[rows], tokens.features(rows)),
        tokens.table.speaker.to_numpy()[rows],
    )
    found = {}
    for name, places in table.groupby("method", sort=False).indices.items():
        made, makers = seen.take(places), table.speaker.to_numpy()[places]
        _, of_made = areas(real, speakers, made, makers, protocol.fits, seed)
        found[name] = of_made.groupby(table.step.to_numpy()[places]).mean().unstack()
    return pd.DataFrame(found).T


def at_matched_realism(table: pd.DataFrame, realism: pd.DataFrame) -> tuple[dict, dict]:
    """Gains of all methods at the AUC of the flow's whole step, by judge and for their mean; and their steps."""
    gains, costs = {}, realism["mean"]
    for kind in ("mean", *KINDS):
        column = "gain" if kind == "mean" else f"gain_{kind}"
        part = table[["method", "speaker", "step"]].assign(gain=table[column])
        gains[kind], steps = matched(part, costs)
        gains[kind]["no move"] = 0.0
    return gains, steps


# ---- experiments


def direction(
    corpus: Corpus, tokens: Tokens, folds: list[Fold], judges: Judges, protocol: Protocol, seed: int,
    vae: VAE | None,
) -> dict:  # fmt: skip
    """Gain in the target's probability along a factor's displacement, compared at matched realism."""
    gains, numbers, null, ranks, count = {}, {}, {}, {}, {}
    for factor in CLASSES:
        table, seen = moves(tokens, folds, judges, factor, protocol, seed, vae)
        realism = realism_of(tokens, folds, table, seen, VOWELS_OF[factor], protocol, seed)
        gains[factor], steps = at_matched_realism(table, realism)
        null[factor], ranks[factor] = _shuffles(tokens, folds, judges, (factor,), protocol, seed)
        numbers[factor] = _curves(table, realism, steps)
        count[factor] = int(table.token.nunique())
    kinds = {factor: _kinds(gains[factor]["mean"]) for factor in CLASSES}
    both = {kind: (gains["phone"][kind] + gains["sex"][kind]) / 2 for kind in gains["phone"]}

    def comparison(part, values, kinds, n, own="flow", **more):
        metric = "gain in the target's probability at matched realism"
        columns = [own, *kinds]
        judged = {kind: values[kind][columns] for kind in KINDS}
        more |= {"judges": judged, "shuffles": protocol.shuffles}
        return Comparison("direction", part, metric, 0.05, values["mean"][columns], kinds, n, **more)

    n, common = sum(count.values()), kinds["phone"]
    comparisons = [
        comparison("vowel and sex", both, common, n, primary=True, rank=max(ranks.values())),
        comparison("vowel and sex, top code", both, common, n, "top code", code="top"),
        *(comparison(one, gains[one], kinds[one], count[one], rank=ranks[one]) for one in CLASSES),
    ]
    about = evaluated(folds)
    numbers |= {
        "agreement": agreement(tokens, folds, protocol, seed), "null by factor": null,
        "ceiling": accuracy(judges, tokens.features(about), tokens.table.iloc[about]),
    }  # fmt: skip
    if corpus.name == "klatt":
        more, numbers["recovery"] = _recovered(tokens, folds, protocol, seed)
        comparisons += more
    return {"comparisons": comparisons, "null": null["phone"], "numbers": numbers}


def _kinds(gains: pd.DataFrame) -> dict[str, str]:
    """Nulls and simple methods among the columns."""
    return NULLS | {name: SIMPLE for name in (*OF_BOTH, *OF_SEX) if name in gains}


def _curves(table: pd.DataFrame, realism: pd.DataFrame, steps: dict[str, float]) -> dict:
    """Means by method and step, with the AUC of each discriminator; what was before; and the matched steps."""
    columns = ["gain", *(f"gain_{kind}" for kind in KINDS), "target", "fixed", "voice", *FORMANTS]
    curves = table.groupby(["method", "step"])[columns].mean()
    auc = realism.stack(level=1, future_stack=True).rename_axis(["method", "step"]).add_prefix("AUC ")
    before = table[["target_before", "fixed_before", "voice_before"]].mean()
    return {
        "curves": curves.join(auc).reset_index().to_dict("records"), "before": before.to_dict(), "matched steps": steps,
    }  # fmt: skip


def _shuffles(
    tokens: Tokens, folds: list[Fold], judges: Judges, factors: tuple[str, ...], protocol: Protocol, seed: int
) -> tuple[dict, float]:  # fmt: skip
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
            plans.append((fold, rows, goals, signs, _joint_probability(judges, tokens.features(rows), goals)))
    every = np.concatenate([rows for _, rows, *_ in plans])
    for shuffle in range(protocol.shuffles + 1):
        labels = {
            f: shuffled(tokens.table, f, rng) if shuffle else tokens.table[f].to_numpy() for f in factors
        }
        moved = []
        for fold, rows, _, signs, _ in plans:
            flow = flow_method(fold.flow)
            means = codes_of(fold.flow, tokens, seed, protocol.draws)
            codes = codes_of(fold.flow, tokens, seed)[rows]
            for factor in factors:
                fit = fit_rows(tokens, fold, factor)
                weights = contrast(tokens.table.iloc[fit], factor, labels[factor][fit])
                codes = codes + signs[factor] * flow.displacement(means[fit], weights)
            moved.append((fold.flow, codes))
        features = tokens.measure(decode_folds(moved), every)
        parts = np.split(np.arange(len(every)), np.cumsum([len(rows) for _, rows, *_ in plans])[:-1])
        after = [
            _joint_probability(judges, features.take(part), plan[2]) - plan[4]
            for part, plan in zip(parts, plans)
        ]
        gains.append(np.concatenate(after))
    return shuffle_test(gains)


def _signs(labels, first: str) -> torch.Tensor:
    """1 for tokens of the first class and -1 for the others, ``(n, 1)``."""
    return torch.tensor(np.where(labels == first, 1.0, -1.0)).float()[:, None]


def _joint_probability(judges: Judges, features, goals: dict[str, list]) -> np.ndarray:
    """Product of the probabilities of the goals of several factors ``(n,)``."""
    each = [judges.probability(features, factor, goal)["mean"] for factor, goal in goals.items()]
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
            found.append(torch.from_numpy(weights) @ vectors[fold.fit[rows]].double())
    return found


def composition(
    tokens: Tokens, folds: list[Fold], judges: Judges, protocol: Protocol, seed: int, vae: VAE | None
) -> dict:  # fmt: skip
    """Gain in the joint probability of both targets after moves along both displacements, at matched realism."""
    fake = {factor: shuffled(tokens.table, factor, np.random.default_rng([seed, 3])) for factor in CLASSES}
    found = list(_two_moves(tokens, folds, judges, fake, protocol, seed, vae))
    table = pd.concat([part for part, _ in found], ignore_index=True)
    seen = joined([one for _, one in found])
    places = np.flatnonzero(table.move == "both")
    both = table.iloc[places].reset_index(drop=True)
    realism = realism_of(tokens, folds, both, seen.take(places), VOWELS_OF["phone"], protocol, seed)
    gains, steps = at_matched_realism(both, realism)
    null, as_well = _shuffles(tokens, folds, judges, ("phone", "sex"), protocol, seed)
    kinds, n = _kinds(gains["mean"]), int(both.token.nunique())
    comparisons = []
    for own, note, more in (
        ("flow", "", {"primary": True, "rank": as_well}), ("top code", ", top code", {"code": "top"})
    ):  # fmt: skip
        columns, metric = [own, *kinds], "gain in the probability of both targets at matched realism"
        judged = {kind: gains[kind][columns] for kind in KINDS}
        more |= {"shuffles": protocol.shuffles, "judges": judged}
        part = f"vowel, then sex{note}"
        comparisons.append(
            Comparison("composition", part, metric, 0.05, gains["mean"][columns], kinds, n, **more)
        )
    means = table.groupby(["method", "move", "step"])[["phone", "sex", "joint", "gain"]].mean().reset_index()
    numbers = {
        "table": means.to_dict("records"),
        "matched steps": steps,
        "realism": realism["mean"].to_dict("index"),
    }
    return {"comparisons": comparisons, "null": null, "numbers": numbers}


def _two_moves(
    tokens: Tokens, folds: list[Fold], judges: Judges, fake: dict, protocol: Protocol, seed: int, vae: VAE | None
) -> Iterator[tuple[pd.DataFrame, Views]]:  # fmt: skip
    """Scores of tokens moved along the displacement of vowel, along that of sex, and along both."""
    for fold in folds:
        vowel, sex = (
            {name: (method, move) for name, method, move in displacements(
                tokens, fold, factor, fake[factor], protocol.draws, seed, vae
            )} for factor in CLASSES
        )  # fmt: skip
        for sign in (1, -1):
            rows = moved_tokens(tokens, fold, "phone", sign, protocol, seed)
            if not len(rows):
                continue
            own = tokens.table.iloc[rows]
            toward = _signs(own.sex, "f")
            goals = {
                "phone": [CLASSES["phone"][::sign][1]] * len(rows),
                "sex": ["m" if one == "f" else "f" for one in own.sex],
            }
            before = _joint(judges, tokens.features(rows), goals)
            for name, (method, along) in vowel.items():
                start, across = method.vectors(tokens, rows, seed), sex[name][1]
                changes = {
                    "both": (sign * along + toward * across, protocol.steps),
                    "first": ((sign * along).expand(len(rows), -1), (1.0,)),
                    "second": (toward * across, (1.0,)),
                }
                for move, (change, steps) in changes.items():
                    for step, pictures, features in steps_along(tokens, method, rows, start, change, steps):
                        after = _joint(judges, features, goals)
                        gains = {"gain": after.joint - before.joint}
                        gains |= {
                            f"gain_{kind}": after[f"joint_{kind}"] - before[f"joint_{kind}"] for kind in KINDS
                        }
                        about = {
                            "method": name,
                            "step": step,
                            "move": move,
                            "token": rows,
                            "speaker": own.speaker.to_numpy(),
                        }
                        yield after.assign(**about, **gains), views(pictures, features)


def _joint(judges: Judges, features, goals: dict[str, list]) -> pd.DataFrame:
    """Probabilities of both goals, and their product, by each judge and on average."""
    each = {factor: judges.probability(features, factor, goals[factor]) for factor in FACTORS}
    found = {factor: one["mean"] for factor, one in each.items()}
    found |= {f"joint_{kind}": each["phone"][kind] * each["sex"][kind] for kind in KINDS}
    return pd.DataFrame(found | {"joint": each["phone"]["mean"] * each["sex"]["mean"]})


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
        before = tokens.features(rows).acoustics[list(FORMANTS.values())].to_numpy(float)
        methods = methods_of(fold, tokens)
        for name, method in (methods | {"random direction": methods["flow"]}).items():
            move = method.displacement(method.vectors(tokens, fold.fit, seed, protocol.draws), weights)
            if name == "random direction":
                move = random_direction(move, seed)
            start = method.vectors(tokens, rows, seed)
            for sign in (1, -1):
                for step in (1.0, 2.0):
                    after = tokens.measure(method.moved(start, sign * move, step), rows).acoustics
                    change = sign * (after[list(FORMANTS.values())].to_numpy(float) - before)
                    about = {"method": name, "step": step, "token": rows, "speaker": speakers[rows]}
                    found.append(pd.DataFrame(dict(zip(FORMANTS, change.T))).assign(**about))
    return pd.concat(found, ignore_index=True), pd.DataFrame(expected).mean().to_dict()


def _recovered(
    tokens: Tokens, folds: list[Fold], protocol: Protocol, seed: int
) -> tuple[list[Comparison], dict]:
    """Comparisons and numbers for each of ``TRUTHS``: distance of the measured change from the true one."""
    kinds = {"random direction": NULL} | dict.fromkeys(("pictures", "PCA", "cepstrum"), SIMPLE)
    comparisons, numbers = [], {}
    for truth, (words, own) in TRUTHS.items():
        table, expected = recovery(tokens, folds, truth, protocol, seed)
        share = table.assign(own=table[own].mean(axis=1) / np.mean([expected[name] for name in own]))
        once = share[share.step == 1].groupby(["speaker", "method"]).own.mean().unstack()
        change = f"true difference of log {', '.join(own).upper()}"
        metric = f"distance from 1 of the measured share of the {change}"
        values, n = (once - 1).abs()[["flow", *kinds]], int(table.token.nunique())
        comparisons.append(
            Comparison("direction", f"{words}, whose truth is available", metric, 0.1, values, kinds, n, -1)
        )
        means = table.groupby(["method", "step"])[list(FORMANTS)].mean().reset_index()
        numbers[truth] = {"words": words, "expected": expected, "table": means.to_dict("records")}
        numbers[truth]["share"] = once.mean().to_dict()
    return comparisons, numbers
