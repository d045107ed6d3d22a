"""Sections 4.4 and 5: one factor is one direction, factors are changed one after another, and none needed a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from ..evidence import Bench, Round
from ..findings import Contest, matched
from ..glow import Glow
from ..latent import random_direction
from ..listener import enrolled, features
from ..spaces import Space, flow_space, principal
from .lines import FIXED, HEARD, probability_of
from .nulls import calibrated, rank

CLASSES = {"phone": ("aa", "ae"), "sex": ("f", "m")}  # from the first to the second, and back
RANK = 32  # principal directions of codes that a displacement of low rank lies in
COMPONENTS = 16  # principal directions that a factor is looked for in
TRUTHS = {  # of synthetic speech: the column, its name, and what is heard of it
    "f0": ("F0", ["f0"]),
    "vocal_tract_cm": ("length of the vocal tract", ["f1", "f2", "f3"]),
    "f1": ("first formant", ["f1"]),
    "f2": ("second formant", ["f2"]),
}
SIMPLE = ("pictures", "PCA", "cepstrum")
KINDS = {"untrained flow": "untrained", "shuffled labels": "null", "random direction": "null"} | dict.fromkeys(
    SIMPLE, "simple"
)


def contrast(table: pd.DataFrame, factor: str, labels: Sequence | None = None) -> np.ndarray:
    """Weights ``(n,)`` of tokens in the displacement from the first class of a factor to the second.

    The difference of class means within every class of the other factor, mean over those: vowels that women say more often
    do not enter the direction of sex. ``labels`` stand in for the factor's own.
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
    """A factor's labels of all tokens in random order: of the two vowels within each speaker, of sexes among speakers."""
    if factor == "phone":
        labels = table.phone.to_numpy(copy=True)
        for rows in table[table.phone.isin(CLASSES["phone"])].groupby("speaker").indices.values():
            places = np.flatnonzero(table.phone.isin(CLASSES["phone"]))[rows]
            labels[places] = rng.permutation(labels[places])
        return labels
    sexes = table.drop_duplicates("speaker").set_index("speaker").sex
    return table.speaker.map(dict(zip(sexes.index, rng.permutation(sexes)))).to_numpy()


def low_rank(codes: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """A displacement's part in the ``RANK`` main directions of codes ``(n, d)``."""
    basis, _ = principal(codes, RANK)
    return direction @ basis.T @ basis


def voices(bench: Bench) -> tuple[list, np.ndarray]:
    """Two judges of voices, each enrolled on every other utterance of each speaker, and which of them may hear each token."""
    order = bench.table.groupby("speaker").utterance.rank("dense").to_numpy().astype(int) % 2
    speakers = bench.table.speaker.to_numpy()
    return [enrolled(bench.heard[order != part], speakers[order != part]) for part in (0, 1)], order


def _directed(
    bench: Bench, one: Round, factor: str, fake: np.ndarray
) -> list[tuple[str, Space, Glow | None, torch.Tensor]]:
    """Contestants of one round with their displacement; ``fake`` are shuffled labels of all tokens."""
    known = bench.rows(one.known, phone=["aa", "ae"]) if factor == "phone" else one.known
    table = bench.table.iloc[known]
    weights = contrast(table, factor)
    mean_codes = bench.codes(one.model, bench.depth.draws)[known]
    found = [
        (
            name,
            space,
            model,
            displacement(bench.vectors(space, known, model, bench.depth.draws if model else 1), weights),
        )
        for name, (space, model) in bench.contestants(one).items()
    ]
    own, space = found[0][3], flow_space(one.model)
    return found + [
        ("shuffled labels", space, one.model, displacement(mean_codes, contrast(table, factor, fake[known]))),
        ("random direction", space, one.model, random_direction(own, bench.seed)),
        ("flow, low rank", space, one.model, low_rank(mean_codes, own)),
    ]


def walks(bench: Bench, factor: str) -> pd.DataFrame:
    """What is heard of unseen tokens that walk along a factor's displacement, both ways: a row a token, step and contestant.

    Columns: contestant, speaker, step, ``target`` probability and ``gain`` of it, ``kept`` (of the factor that should stay)
    and ``voice`` (of the own speaker, by a judge who has not enrolled the token's utterance), ``drift``, the decrease of what should
    stay (for vowels both, for sex the vowel), ``atypical``, the decrease of the density as a vowel in nats, and changes of log F0 to F3.
    """
    judges = voices(bench)
    fake = shuffled(bench.table, factor, np.random.default_rng([bench.seed, 3]))
    found = []
    for one in bench.rounds:
        directed = _directed(bench, one, factor, fake)
        for sign, (source, target) in ((1, CLASSES[factor]), (-1, CLASSES[factor][::-1])):
            wanted = {"phone": source} if factor == "phone" else {"sex": source, "phone": ["aa", "ae", "iy", "ow"]}
            rows = bench.rows(one.unseen, tests=True, **wanted)
            rows = bench.some(rows, bench.depth.moved * (1 if factor == "phone" else 2), by=("speaker",))
            if not len(rows):
                continue
            before = _heard(bench, judges, bench.heard[rows], rows, factor, target)
            for name, space, model, direction in directed:
                start = bench.vectors(space, rows, model)
                for step, heard in heard_along(bench, space, rows, start, sign * direction, bench.depth.steps).items():
                    after = _heard(bench, judges, heard, rows, factor, target)
                    part = after.assign(
                        contestant=name, speaker=bench.table.speaker.to_numpy()[rows], step=step, sign=sign,
                        token=rows, target_before=before.target, kept_before=before.kept, voice_before=before.voice,
                    )  # fmt: skip
                    part["gain"] = after.target - before.target
                    part["drift"] = before.kept - after.kept
                    if factor == "phone":  # who changes sex should not keep the voice
                        part["drift"] = (part.drift + before.voice - after.voice) / 2
                    part["atypical"] = before.density - after.density
                    for formant in HEARD:
                        part[formant] = sign * (after[formant] - before[formant])
                    found.append(part)
    return pd.concat(found, ignore_index=True)


def heard_along(bench: Bench, space: Space, rows, start, change, steps) -> dict[float, np.ndarray]:
    """What is heard after each step along a change, and before the first, which in a lossless space is the token."""
    found = {} if space.lossy else {0.0: bench.heard[rows]}
    others = [step for step in (0.0, *steps) if step not in found]
    pictures = torch.cat([space.moved(start, change, step) for step in others])
    return found | dict(zip(others, np.split(features(pictures), len(others))))


def _heard(bench: Bench, judges, heard: np.ndarray, rows: np.ndarray, factor: str, target: str) -> pd.DataFrame:
    fixed, (enrolled_by_half, half) = FIXED[factor], judges
    kept = bench.listener.posterior(heard, fixed)
    speakers, voice = bench.table.speaker.to_numpy()[rows], np.full(len(rows), np.nan)
    for part, judge in enumerate(enrolled_by_half):
        mine = (half[rows] == part) & np.isin(speakers, judge.classes_)
        if mine.any():
            columns = np.searchsorted(judge.classes_, speakers[mine])
            voice[mine] = judge.predict_proba(heard[mine])[np.arange(mine.sum()), columns]
    return pd.DataFrame({
        "target": bench.listener.posterior(heard, factor)[target].to_numpy(),
        "kept": probability_of(kept, bench.table[fixed].iloc[rows]), "voice": voice,
        "density": bench.listener.log_density(heard), **{name: heard[:, column] for name, column in HEARD.items()},
    })  # fmt: skip


def direction(bench: Bench) -> dict:
    """How much a factor's displacement gains of its target, where it has cost as much of what should stay."""
    tables = {factor: walks(bench, factor) for factor in CLASSES}
    found = {factor: matched(table) for factor, table in tables.items()}
    at, limits = ({factor: one[place] for factor, one in found.items()} for place in (0, 1))
    kinds = dict(KINDS)
    metric = "gain in the target's probability at matched drift"
    null, ranks = {}, {}
    for factor in CLASSES:
        null[factor], ranks[factor] = _null(bench, (factor,))
    both = sum(at[factor] for factor in CLASSES) / len(CLASSES)
    tokens = {factor: int(table.token.nunique()) for factor, table in tables.items()}

    def contest(part, values, own="flow", **more):
        n = sum(tokens.values()) if part not in tokens else tokens[part]
        return Contest("direction", part, metric, 0.05, values[[own, *kinds, "flow, low rank"]], kinds, n,
                       shuffles=bench.depth.shuffles, **more)  # fmt: skip

    tests = [
        contest("vowel and sex", both, primary=True, rank=max(ranks.values())),
        contest("vowel and sex, top code", both, "top code", code="top"),
        *(contest(factor, at[factor], rank=ranks[factor]) for factor in CLASSES),
    ]
    numbers = {
        "curves": {f: t.groupby(["contestant", "step"])[["gain", "drift", "target", "kept", "voice", "atypical", *HEARD]].mean().reset_index().to_dict("records") for f, t in tables.items()},
        "before": {f: t[["target_before", "kept_before", "voice_before"]].mean().to_dict() for f, t in tables.items()},
        "matched drift": limits,
        "agreement": agreement(bench),
        "null by factor": null, "ceiling": bench.ceiling(),
    }  # fmt: skip
    if bench.corpus.name == "klatt":
        contests, numbers["recovery"] = _recovered(bench)
        tests += contests
    return {"tests": tests, "null": null["phone"], "numbers": numbers}


def _null(bench: Bench, factors: tuple[str, ...]) -> tuple[dict, float]:
    """False positives over label shuffles, and the share of shuffles that do as well as the true labels.

    One unseen token of each speaker walks along the sum of the factors' displacements; the statistic is what it gains of all its
    targets, mean over speakers. A shuffle is one labelling of all tokens, as the true one is.
    """
    rng, gains = np.random.default_rng([bench.seed, 7, len(factors)]), []
    plans = []
    for one in bench.rounds:
        rows = bench.some(bench.rows(one.unseen, tests=True, phone=["aa", "ae"]), 1, by=("speaker",))
        if len(rows):
            own = bench.table.iloc[rows]
            goal = {f: [CLASSES[f][1 - CLASSES[f].index(label)] for label in own[f]] for f in factors}
            signs = {f: torch.tensor(np.where(own[f] == CLASSES[f][0], 1.0, -1.0)).float()[:, None] for f in factors}
            before = _all_of(bench, bench.heard[rows], goal)
            plans.append((one, rows, goal, signs, before))
    for shuffle in range(bench.depth.shuffles + 1):
        labels = {f: bench.table[f].to_numpy() if shuffle == 0 else shuffled(bench.table, f, rng) for f in factors}
        ends: dict[Glow, list] = {}
        for one, rows, _, signs, _ in plans:
            mean_codes, end = bench.codes(one.model, bench.depth.draws), bench.codes(one.model)[rows]
            for factor in factors:
                known = bench.rows(one.known, phone=["aa", "ae"]) if factor == "phone" else one.known
                weights = contrast(bench.table.iloc[known], factor, labels[factor][known])
                end = end + signs[factor] * displacement(mean_codes[known], weights)
            ends.setdefault(one.model, []).append(end)
        # flows are met in the order of their rounds, so pictures come in the order of plans
        heard = features(torch.cat([model.decode(torch.cat(parts)) for model, parts in ends.items()]))
        parts = np.split(heard, np.cumsum([len(rows) for _, rows, *_ in plans])[:-1])
        after = [_all_of(bench, part, goal) - before for part, (_, _, goal, _, before) in zip(parts, plans)]
        gains.append(np.concatenate(after))
    return calibrated(gains[1:]), rank(gains[0].mean(), [one.mean() for one in gains[1:]])


def _all_of(bench: Bench, heard: np.ndarray, goals: dict[str, list]) -> np.ndarray:
    """Product of the probabilities of several factors' goals."""
    product = np.ones(len(heard))
    for factor, goal in goals.items():
        chance = bench.listener.posterior(heard, factor)
        product *= probability_of(chance, goal)
    return product


def agreement(bench: Bench) -> dict:
    """Whether a displacement is the same among others: cosine of two independent estimates, corrected for their noise.

    That of vowel among women and among men, that of sex in each of two vowels. Each half's norm is estimated by the
    product of two quarters, whose noise is independent (Spearman 1904): 1 is one direction, 0 two that have nothing in common.
    Products are means over rounds.
    """
    found: dict[str, list] = {}
    cases = {"phone": ("sex", ("f", "m")), "sex": ("phone", ("aa", "ae"))}
    for one in bench.rounds:
        spaces = {"flow": bench.codes(one.model, bench.depth.draws), "pictures": bench.pictures.flatten(1)}
        for factor, (other, values) in cases.items():
            for name, vectors in spaces.items():
                a1, a2, b1, b2 = _quarters(bench, one, vectors, factor, other, values)
                cosine = torch.cosine_similarity(a1 + a2, b1 + b2, dim=0)
                across = (a1 @ b2 + a2 @ b1) / 2  # of no common speaker
                each = [float(product) for product in (cosine, across, a1 @ a2, b1 @ b2)]
                found.setdefault(f"{factor}, {name}", []).append(each)
    means = {name: np.mean(each, axis=0) for name, each in found.items()}
    return {
        name: {"cosine": raw, "corrected": across / np.sqrt(a * b) if min(a, b) > 0 else None}
        for name, (raw, across, a, b) in means.items()
    }


def _quarters(bench: Bench, one: Round, vectors: torch.Tensor, factor: str, other: str, values) -> list[torch.Tensor]:
    """A factor's displacement by each half of the known speakers, for the first of another factor's values, then for the second."""
    table = bench.table.iloc[one.known]
    odd = table.groupby("speaker").ngroup().to_numpy() // 2 % 2 == 1
    found = []
    for value in values:
        mine = ((table[other] == value) & table[factor].isin(CLASSES[factor])).to_numpy()
        for half in (odd, ~odd):
            rows = np.flatnonzero(mine & half)
            weights = contrast(table.iloc[rows], factor)
            found.append(displacement(vectors[one.known[rows]], weights).double()[0])
    return found


def composition(bench: Bench) -> dict:
    """Vowel, then sex: how probable both targets are together, where it has cost as much of being a vowel at all."""
    found = []
    fake = {factor: shuffled(bench.table, factor, np.random.default_rng([bench.seed, 3])) for factor in CLASSES}
    for one in bench.rounds:
        directed = {factor: _directed(bench, one, factor, fake[factor]) for factor in CLASSES}
        for sign in (1, -1):
            source, target = ({factor: CLASSES[factor][::sign][place] for factor in CLASSES} for place in (0, 1))
            rows = bench.rows(one.unseen, tests=True, phone=list(CLASSES["phone"]))
            own = bench.table.iloc[rows]
            rows = rows[(own.phone == source["phone"]).to_numpy()]
            rows = bench.some(rows, bench.depth.moved, by=("speaker",)) if len(rows) else rows
            if not len(rows):
                continue
            sexes = bench.table.sex.to_numpy()[rows]
            toward = torch.tensor(np.where(sexes == "f", 1.0, -1.0)).float()[:, None]
            goals = pd.DataFrame({"phone": target["phone"], "sex": np.where(sexes == "f", "m", "f")})
            before = _joint(bench, bench.heard[rows], goals)
            for (name, space, model, vowel), (_, _, _, sex) in zip(directed["phone"], directed["sex"]):
                start = bench.vectors(space, rows, model)
                moves = {
                    "both": (sign * vowel + toward * sex, bench.depth.steps),
                    "first": ((sign * vowel).expand(len(rows), -1), (1.0,)),
                    "second": (toward * sex, (1.0,)),
                }
                for move, (change, steps) in moves.items():
                    for step, heard in heard_along(bench, space, rows, start, change, steps).items():
                        after = _joint(bench, heard, goals)
                        found.append(after.assign(
                            contestant=name, step=step, move=move, speaker=bench.table.speaker.to_numpy()[rows],
                            gain=after.joint - before.joint, drift=before.speech - after.speech,
                        ))  # fmt: skip
    table = pd.concat(found, ignore_index=True)
    both = table[table.move == "both"]
    values, drift = matched(both)
    null, as_well = _null(bench, ("phone", "sex"))
    kinds = dict(KINDS)
    metric = "gain in the probability of both targets at matched drift"
    n = len(both) // both.contestant.nunique() // (1 + len(bench.depth.steps))
    tests = [
        Contest(
            "composition",
            "vowel, then sex",
            metric,
            0.05,
            values[["flow", *kinds]],
            kinds,
            n,
            primary=True,
            rank=as_well,
            shuffles=bench.depth.shuffles,
        ),  # fmt: skip
        Contest(
            "composition", "vowel, then sex, top code", metric, 0.05, values[["top code", *kinds]], kinds, n, code="top"
        ),
    ]
    columns = ["phone", "sex", "joint", "gain", "drift"]
    numbers = {
        "table": table.groupby(["contestant", "move", "step"])[columns].mean().reset_index().to_dict("records"),
        "matched drift": drift,
    }
    return {"tests": tests, "null": null, "numbers": numbers}


def _joint(bench: Bench, heard: np.ndarray, goals: pd.DataFrame) -> pd.DataFrame:
    """Probabilities of goals, one by one and together, and whether it is as probable as real vowels are."""
    found = {}
    for factor in CLASSES:
        chance = bench.listener.posterior(heard, factor)
        found[factor] = probability_of(chance, goals[factor])
    return pd.DataFrame(
        found | {"joint": found["phone"] * found["sex"], "speech": bench.listener.speech(heard).astype(float)}
    )


def recovery(bench: Bench, truth: str) -> tuple[pd.DataFrame, dict]:
    """On synthetic speech, whose truth is known: what is heard of a walk from low to high values of one of ``TRUTHS``.

    Low and high are below and above the median of each sex and vowel, of known speakers. The expected change is the
    difference of the true means of log F0 to F3: vowels with a longer vocal tract have lower formants.
    """
    found, expected = [], []
    for one in bench.rounds:
        table = bench.table.iloc[one.known]
        high = (table[truth] > table.groupby(["sex", "phone"])[truth].transform("median")).to_numpy()
        weights = np.where(high, 1 / high.sum(), -1 / (~high).sum())
        expected.append({name: float(weights @ np.log(table[name])) for name in HEARD})
        rows = bench.some(bench.rows(one.unseen, phone=["aa", "ae", "iy"]), bench.depth.moved, by=("speaker",))
        spaces = bench.contestants(one)
        for name, (space, model) in (spaces | {"random direction": spaces["flow"]}).items():
            move = displacement(bench.vectors(space, one.known, model, bench.depth.draws if model else 1), weights)
            if name == "random direction":
                move = random_direction(move, bench.seed)
            start = bench.vectors(space, rows, model)
            for sign in (1, -1):
                for step in (1.0, 2.0):
                    change = sign * (features(space.moved(start, sign * move, step)) - bench.heard[rows])
                    found.append(pd.DataFrame({
                        "contestant": name, "step": step, "token": rows, "speaker": bench.table.speaker.to_numpy()[rows],
                        **{formant: change[:, column] for formant, column in HEARD.items()},
                    }))  # fmt: skip
    return pd.concat(found, ignore_index=True), pd.DataFrame(expected).mean().to_dict()


def _recovered(bench: Bench) -> tuple[list[Contest], dict]:
    """How far from the true change what is heard is, of each of ``TRUTHS``; and what else moves."""
    kinds = {"untrained flow": "untrained", "random direction": "null"} | dict.fromkeys(SIMPLE, "simple")
    contests, numbers = [], {}
    for truth, (words, own) in TRUTHS.items():
        table, expected = recovery(bench, truth)
        heard = table.assign(own=table[own].mean(axis=1) / np.mean([expected[name] for name in own]))
        once = heard[heard.step == 1].pivot_table(index="speaker", columns="contestant", values="own", aggfunc="mean")
        metric = f"distance from 1 of the share of the true difference of log {', '.join(own).upper()} that is heard"
        values = (once - 1).abs()[["flow", *kinds]]
        n = int(table.token.nunique())
        contests.append(Contest("direction", f"{words}, whose truth is known", metric, 0.1, values, kinds, n, -1))
        means = table.groupby(["contestant", "step"])[list(HEARD)].mean().reset_index()
        numbers[truth] = {"words": words, "expected": expected, "table": means.to_dict("records"), "share": once.mean().to_dict()}  # fmt: skip
    return contests, numbers


def unsupervised(bench: Bench) -> dict:
    """How well the best of the main directions of codes, found without labels, tells a factor of unseen speakers.

    Labels only say which of ``COMPONENTS`` principal directions it is, and which end is which, on known speakers.
    """
    rng = np.random.default_rng([bench.seed, 11])
    tests, null = [], {}
    for factor in CLASSES if bench.table.sex.nunique() > 1 else ("phone",):
        scores = [_scores(bench, one, factor) for one in bench.rounds]
        values = pd.DataFrame({name: _areas(bench, scores, name, factor) for name in scores[0]["spaces"]})
        labels = [shuffled(bench.table, factor, rng) for _ in range(max(bench.depth.shuffles, 1))]
        kinds = {"untrained flow": "untrained", "shuffled labels": "null", "pictures": "simple"}
        n = sum(len(one["unseen"]) for one in scores)
        metric = "area under the ROC curve of one principal direction"
        names = {"phone": "aa or ae", "sex": "women or men"}
        for own, note, code in (("flow", "", "whole"), ("top code", ", top code", "top")):
            fake = [_areas(bench, scores, own, factor, one) for one in labels]
            shown = values.assign(**{"shuffled labels": pd.concat(fake, axis=1).mean(axis=1)})[[own, *kinds]]
            as_well = rank(shown[own].mean(), [one.mean() for one in fake])
            null.setdefault(factor, calibrated(fake, chance=0.5))  # of whole codes, which come first
            tests.append(Contest(
                "unsupervised", f"{names[factor]}{note}", metric, 0.05, shown, kinds, n, code=code, bound=1.0,
                primary=factor == "phone" and code == "whole", rank=as_well, shuffles=len(fake),
            ))  # fmt: skip
    return {"tests": tests, "null": null["phone"], "numbers": {"null by factor": null}}


def _scores(bench: Bench, one: Round, factor: str) -> dict:
    """Scores on the main directions of all known tokens, in each space: of the known and unseen ones that have the factor's classes."""
    wanted = {factor: CLASSES[factor]}
    labelled, unseen = bench.rows(one.known, **wanted), bench.rows(one.unseen, tests=True, **wanted)
    codes = bench.codes(one.model)
    spaces = {
        "flow": codes, "top code": codes[:, : one.model.top_size], "untrained flow": bench.codes(one.untrained),
        "pictures": bench.pictures.flatten(1),
    }  # fmt: skip
    found = {}
    for name, vectors in spaces.items():
        basis, _ = principal(vectors[one.known], COMPONENTS)
        found[name] = [(vectors[rows] @ basis.T).numpy() for rows in (labelled, unseen)]
    return {"known": labelled, "unseen": unseen, "spaces": found}


def _areas(bench: Bench, scores: list[dict], name: str, factor: str, fake: np.ndarray | None = None) -> pd.Series:
    """AUC of each cluster: a speaker for vowels, a woman and a man for sex; ``fake`` labels choose and turn the direction."""
    from sklearn.metrics import roc_auc_score

    found = {}
    for one in scores:
        known, unseen = bench.table.iloc[one["known"]], bench.table.iloc[one["unseen"]]
        labels = np.asarray(known[factor] if fake is None else fake[one["known"]]) == CLASSES[factor][1]
        if labels.all() or not labels.any():
            continue
        fitted, tried = one["spaces"][name]
        areas = np.array([roc_auc_score(labels, column) for column in fitted.T])
        best = int(np.abs(areas - 0.5).argmax())
        score, truth = tried[:, best] * np.sign(areas[best] - 0.5), (unseen[factor] == CLASSES[factor][1]).to_numpy()
        if factor == "phone":
            groups = {who: (unseen.speaker == who).to_numpy() for who in unseen.speaker.unique()}
        else:
            women, men = (sorted(unseen[unseen.sex == sex].speaker.unique()) for sex in "fm")
            groups = {f"{w} and {m}": unseen.speaker.isin([w, m]).to_numpy() for w, m in zip(women, men)}
        for who, rows in groups.items():
            if 0 < truth[rows].sum() < rows.sum():
                found[who] = float(roc_auc_score(truth[rows], score[rows]))
    return pd.Series(found, dtype=float).sort_index()
