"""Section 4.4: straight lines between codes, and how dense the space of codes is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from .. import judges
from ..corpus import InputError
from ..evidence import Bench, Round
from ..findings import Contest, over_pairs, swapped
from ..glow import Glow
from ..listener import COLUMNS, features
from ..pairs import matched_pairs
from ..spaces import flow_circle

PAIRS = {"phone": "one vowel to another", "sex": "a woman's to a man's", "speaker": "one speaker's to another's"}
FIXED = {"phone": "sex", "sex": "phone", "speaker": "phone"}  # what should stay as it is on the way
HEARD = {name: COLUMNS.index(name) for name in ("f0", "f1", "f2", "f3")}  # columns of features
SHARES = (0.25, 0.5, 0.75)
APART = 1.2  # ratio of second formants from which on a valley between them is asked for
DOUBLED_DB = 3.0  # a valley that deep is two formants
STRANGER = "another real token"
HEARD_AS = ("heard", "heard_denser", "heard_below")


def pairs_of(bench: Bench, rows: np.ndarray, factor: str, count: int) -> np.ndarray:
    """Rows ``(n, 2)`` of up to ``count`` pairs that differ in one factor, from one class to the other in alphabetical order.

    None where no two tokens do.
    """
    try:
        return rows[np.array(matched_pairs(bench.tokens.take(rows), factor, count, bench.seed))]
    except InputError:
        return np.empty((0, 2), int)


def _rounds(bench: Bench) -> Iterator[tuple[Round, str, np.ndarray]]:
    """Every wider round, kind of pair, and its pairs of unseen tokens."""
    rounds = list(bench.wider())
    for one in rounds:
        rows = bench.rows(one.unseen, tests=True)
        for factor in PAIRS:
            pairs = pairs_of(bench, rows, factor, -(-bench.depth.pairs // len(rounds)))
            if len(pairs):
                yield one, factor, pairs


def interpolation(bench: Bench) -> dict:
    """Whether the middle of a line is one vowel, beside other ways from one token to the other.

    It is if it is as probable as real vowels are, and has not two second formants, those of both ends, where these are apart.
    """
    found = []
    for one, factor, pairs in _rounds(bench):
        contestants = bench.contestants(one) | {"great circle": (flow_circle(one.model), one.model)}
        ends = [bench.heard[pairs[:, side]] for side in (0, 1)]
        for name, (space, model) in contestants.items():
            start, end = (bench.vectors(space, pairs[:, side], model) for side in (0, 1))
            for share in SHARES:
                pictures = space.between(start, end, share)
                told = _on_the_way(bench, pictures, features(pictures), ends, pairs, factor, share)
                found.append(told.assign(contestant=name))
    table = pd.concat(found, ignore_index=True)
    middle = table[table.share == 0.5]
    names = ["flow", "top code", "untrained flow", "pictures", "PCA", "cepstrum", "great circle"]
    kinds = {"untrained flow": "untrained"} | dict.fromkeys(("pictures", "PCA", "cepstrum", "great circle"), "simple")

    def contest(part, metric, column, rows, own="flow", **more):
        values = over_pairs(rows, column)[[own, *kinds]]
        n = int((rows.contestant == own).sum())
        return Contest("interpolation", part, metric, 0.1, values, kinds, n, **{"bound": 1.0} | more)

    metric = "share of midpoints that are one vowel, as probable as 95 % of real ones"
    contests = [
        contest("all pairs", metric, "one_vowel", middle, primary=True),
        contest("all pairs, top code", metric, "one_vowel", middle, own="top code", code="top"),
        *(contest(PAIRS[factor], metric, "one_vowel", part) for factor, part in middle.groupby("factor", sort=False)),
        contest("as probable as real vowels", "share of midpoints", "speech", middle),
    ]
    for part, rows, column in (
        ("aa to ae", middle[middle.aa_ae], "one_vowel"),
        ("two second formants", middle.dropna(subset="doubled"), "doubled"),
    ):
        if len(rows):
            more = {"better": -1, "bound": 0.0} if column == "doubled" else {}
            contests.append(contest(part, "share of midpoints", column, rows, **more))
    columns = [
        "one_vowel",
        "speech",
        "ends",
        "density",
        "between",
        "f0_between",
        "doubled",
        "kept",
        "kept_at_ends",
        "target",
    ]
    summary = table.groupby(["factor", "contestant", "share"])[columns].mean().reset_index()
    gradual = {name: _rank(part) for name, part in table[table.factor != "speaker"].groupby("contestant")}
    return {"tests": contests, "null": swapped(contests[0], bench.depth.shuffles, bench.seed), "numbers": {
        "pairs": (middle.groupby("factor").size() // len(names)).to_dict(), "summary": summary.to_dict("records"),
        "rank correlation": gradual, "ceiling": bench.ceiling(),
    }}  # fmt: skip


def _on_the_way(bench, pictures, heard, ends, pairs, factor: str, share: float) -> pd.DataFrame:
    """What is heard at one share of the way of each pair."""
    table, listener = bench.table, bench.listener
    own = [table.iloc[pairs[:, side]].reset_index(drop=True) for side in (0, 1)]
    density = listener.log_density(heard) - sum(listener.log_density(end) for end in ends) / 2
    f1, f2, low1, high1, low2, high2 = _formants(heard, ends)
    inside = np.array([(f1 > low1) & (f1 < high1), (f2 > low2) & (f2 < high2)], dtype=float)
    apart = np.array([high1 > low1 * 1.15, high2 > low2 * 1.15])
    between = np.where(apart.any(0), (inside * apart).sum(0) / np.maximum(apart.sum(0), 1), np.nan)
    far = high2 > low2 * APART
    doubled = np.array([
        judges.valley(picture, low, high) if ask else np.nan for picture, low, high, ask in zip(pictures, low2, high2, far)
    ])  # fmt: skip
    doubled = np.where(np.isfinite(doubled), doubled > DOUBLED_DB, np.nan)
    f0 = np.exp(heard[:, HEARD["f0"]])
    low, high = (side(np.exp([end[:, HEARD["f0"]] for end in ends]), axis=0) for side in (np.min, np.max))
    fixed = FIXED[factor]
    kept = probability_of(listener.posterior(heard, fixed), own[0][fixed])
    at_ends = sum(probability_of(listener.posterior(end, fixed), own[side][fixed]) for side, end in enumerate(ends)) / 2
    target = np.full(len(pairs), np.nan)
    if factor != "speaker":
        chance = listener.posterior(heard, factor)
        to, start = (probability_of(chance, own[side][factor]) for side in (1, 0))
        target = to / np.maximum(to + start, 1e-12)
    speech = listener.speech(heard).astype(float)
    return pd.DataFrame({
        "factor": factor, "share": share, "pair": np.arange(len(pairs)) + pairs[0, 0] * 1000, "one": own[0].speaker, "other": own[1].speaker,
        "aa_ae": (own[0].phone == "aa") & (own[1].phone == "ae"), "density": density, "speech": speech,
        "one_vowel": speech * (1 - np.nan_to_num(doubled)), "ends": sum(listener.speech(end) for end in ends) / 2,
        "between": between, "f0_between": np.where(high > low * 1.15, (f0 > low) & (f0 < high), np.nan),
        "doubled": doubled, "kept": kept, "kept_at_ends": at_ends, "target": target,
    })  # fmt: skip


def _formants(heard: np.ndarray, ends: list[np.ndarray]) -> list[np.ndarray]:
    """F1 and F2 of midpoints, and the lower and the higher of each at the ends, Hz."""
    first, second = (np.exp(heard[:, column]) for column in (-3, -2))
    found = [first, second]
    for column in (-3, -2):
        pair = np.exp([end[:, column] for end in ends])
        found += [pair.min(0), pair.max(0)]
    return found


def probability_of(chance: pd.DataFrame, labels) -> np.ndarray:
    """Of each row's own label."""
    return chance.to_numpy()[np.arange(len(chance)), chance.columns.get_indexer(labels)]


def _rank(part: pd.DataFrame) -> float:
    """Spearman's correlation of share and target within pairs, mean; near 1 for any cross-fade, too."""
    groups = part.groupby(["factor", "pair", "one"])
    each = [spearmanr(g.share, g.target).statistic for _, g in groups if g.target.nunique() > 1]
    return float(np.nanmean(each)) if each else float("nan")


def density(bench: Bench) -> dict:
    """Whether points of a line have probabilities between those of its ends.

    Under another flow, which has met neither speaker, if there is one; else under the mixture of the listener. A token of somebody
    else lies between two others now and then, too, and is a baseline: once in three, if all three were drawn alike.
    """
    found, judge = [], bench.extra.get("other")
    rng = np.random.default_rng([bench.seed, 29])
    people = bench.table.speaker.to_numpy()
    names = ["flow", "untrained flow", "pictures", "great circle"]
    for one, factor, pairs in _rounds(bench):
        contestants = bench.contestants(one) | {"great circle": (flow_circle(one.model), one.model)}
        ears = np.array([bench.listener.log_density(bench.heard[pairs[:, side]]) for side in (0, 1)])
        ends = (
            ears
            if judge is None
            else np.array([_log_p(judge, bench.pictures[pairs[:, side]], bench.seed) for side in (0, 1)])
        )
        codes = [bench.codes(one.model)[pairs[:, side]] for side in (0, 1)]
        norms = torch.stack([code.square().mean(1) for code in codes]).mean(0)
        who = pd.DataFrame({"factor": factor, "one": people[pairs[:, 0]], "other": people[pairs[:, 1]]})
        strangers = _strangers(bench, one, pairs, rng)
        heard = bench.listener.log_density(bench.heard[strangers])
        value = heard if judge is None else _log_p(judge, bench.pictures[strangers], bench.seed)
        found.append(who.assign(contestant=STRANGER, share=0.5, **_placed(value, ends, heard, ears)))
        for name in names:
            space, model = contestants[name]
            start, end = (bench.vectors(space, pairs[:, side], model) for side in (0, 1))
            for share in SHARES:
                point = space.between(start, end, share)
                ear = bench.listener.log_density(features(point, formants=False))
                value = ear if judge is None else _log_p(judge, point, bench.seed)
                told = who.assign(contestant=name, share=share, **_placed(value, ends, ear, ears))
                if name == "flow":
                    told["log_pz"] = torch.lerp(*codes, share).square().mean(1).sub(norms).numpy()
                found.append(told)
    table = pd.concat(found, ignore_index=True)
    columns = list(_placed(*np.zeros((4, 2))))
    table[columns] = table[columns].astype(float)
    middle = table[table.share == 0.5]
    kinds = {"untrained flow": "untrained", STRANGER: "null", "pictures": "simple", "great circle": "simple"}
    n = int((middle.contestant == "flow").sum())

    def contest(part, column, **more):
        metric = "share of midpoints whose probability lies between those of their ends"
        values = over_pairs(middle, column)[["flow", *kinds]]
        return Contest("density", part, metric, 0.1, values, kinds, n, bound=1.0, **more)

    contests = [contest("under a mixture on the mel-cepstrum", "heard", primary=judge is None)]
    if judge is not None:
        contests.insert(0, contest("under another flow", "between", primary=True))
    along = table.groupby(["contestant", "share"])[columns].mean().reset_index()
    # the mean of z^2 is one half of -2 log p(z) / d, less a constant
    gain = -table[table.contestant == "flow"].groupby("share").log_pz.mean() / 2 / np.log(2)
    return {"tests": contests, "null": swapped(contests[0], bench.depth.shuffles, bench.seed), "numbers": {
        "along": along.to_dict("records"), "table": middle.groupby("contestant")[columns].mean().to_dict("index"),
        "bits of log p(z) above the ends, a dimension": gain.to_dict(), "judge": "another flow" if judge is not None else "mixture",
    }}  # fmt: skip


def _strangers(bench: Bench, one: Round, pairs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each pair the row of a token of somebody else."""
    rows = bench.rows(one.unseen, tests=True)
    people = bench.table.speaker.to_numpy()
    others = [rows[~np.isin(people[rows], people[pair])] for pair in pairs]
    return np.array([rng.choice(some if len(some) else rows) for some in others])


def _placed(value: np.ndarray, ends: np.ndarray, heard: np.ndarray, ears: np.ndarray) -> dict[str, np.ndarray]:
    """Where probabilities lie beside those of two ends ``(2, n)``, by the judge and by ear: between them, above, or below both."""
    found = {}
    for names, one, two in ((("between", "denser", "below"), value, ends), (HEARD_AS, heard, ears)):
        above, below = one >= two.max(0), one <= two.min(0)
        found |= dict(zip(names, (~above & ~below, above, below)))
    return found


def _log_p(judge: Glow, pictures: torch.Tensor, seed: int) -> np.ndarray:
    """Log-likelihood of pictures in bits per dimension, sign turned."""
    return -judge.bits_per_dim(pictures.nan_to_num(0).clamp(0, 1), 1, seed).numpy()
