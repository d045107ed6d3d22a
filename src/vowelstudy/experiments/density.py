"""Section 4.4: do points between two codes have a likelihood between theirs?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from vowelflow.glow import Glow

from ..folds import Fold, Tokens
from ..methods import great_circle_method, methods_of
from ..protocol import Protocol
from ..statistics import Comparison, over_pairs, swapped
from ..vowel_judge import VowelJudge, features
from .interpolation import SHARES, pairs_of_folds

OTHER_TOKEN = "another real token"
COLUMNS = ("between", "denser", "below", "heard", "heard_denser", "heard_below")


def density(
    tokens: Tokens, folds: list[Fold], judge: VowelJudge, protocol: Protocol, seed: int,
    variants: dict[str, Glow],
) -> dict:  # fmt: skip
    """Share of points on a line whose likelihoods are between those of its ends.

    The likelihood is that of another flow, trained on neither speaker, if there is one, and otherwise that of
    the judge's mixture. One baseline is a token of another speaker, whose likelihood may be between the two
    by chance: in one of three cases, if all tokens had the same distribution.
    """
    other = variants.get("other")
    scores, rng = [], np.random.default_rng([seed, 29])
    people = tokens.table.speaker.to_numpy()
    for fold, factor, pairs in pairs_of_folds(tokens, folds, protocol, seed):
        pair = pd.DataFrame({"factor": factor, "one": people[pairs[:, 0]], "other": people[pairs[:, 1]]})
        by_judge = np.array([judge.log_density(tokens.features[pairs[:, side]]) for side in (0, 1)])
        by_flow = by_judge
        if other is not None:
            by_flow = np.array([_log_p(other, tokens.pictures[pairs[:, side]], seed) for side in (0, 1)])

        def score(pictures, measured, pair=pair, by_flow=by_flow, by_judge=by_judge):
            value = judge.log_density(measured)
            of_flow = value if other is None else _log_p(other, pictures, seed)
            return pair.assign(**_place(of_flow, by_flow, value, by_judge))

        strangers = _tokens_of_others(tokens, fold, pairs, rng)
        part = score(tokens.pictures[strangers], tokens.features[strangers])
        scores.append(part.assign(method=OTHER_TOKEN, share=0.5))
        methods, circle = methods_of(fold, tokens), great_circle_method(fold.flow)
        for method in (methods["flow"], methods["untrained flow"], methods["pictures"], circle):
            start, end = (method.vectors(tokens, pairs[:, side], seed) for side in (0, 1))
            for share in SHARES:
                pictures = method.between(start, end, share)
                part = score(pictures, features(pictures, formants=False))
                part = part.assign(method=method.name, share=share)
                if method.name == "flow":
                    part["log_pz"] = _norm_above_ends(start, end, share)
                scores.append(part)
    table = pd.concat(scores, ignore_index=True)
    table[list(COLUMNS)] = table[list(COLUMNS)].astype(float)
    return _summary(table, other is not None, protocol, seed)


def _summary(table: pd.DataFrame, by_flow: bool, protocol: Protocol, seed: int) -> dict:
    """Comparisons and numbers from the scores of all points."""
    middle = table[table.share == 0.5]
    kinds = {
        "untrained flow": "untrained",
        OTHER_TOKEN: "null",
        "pictures": "simple",
        "great circle": "simple",
    }
    n = int((middle.method == "flow").sum())

    def comparison(part, column, **more):
        metric = "share of midpoints whose probability lies between those of their ends"
        values = over_pairs(middle, column)[["flow", *kinds]]
        return Comparison("density", part, metric, 0.1, values, kinds, n, bound=1.0, **more)

    comparisons = [comparison("under a mixture on the mel-cepstrum", "heard", primary=not by_flow)]
    if by_flow:
        comparisons.insert(0, comparison("under another flow", "between", primary=True))
    along = table.groupby(["method", "share"])[list(COLUMNS)].mean().reset_index()
    # log p(z) / d is minus one half of the mean of z^2, plus a constant
    gain = -table[table.method == "flow"].groupby("share").log_pz.mean() / 2 / np.log(2)
    return {"comparisons": comparisons, "null": swapped(comparisons[0], protocol.shuffles, seed), "numbers": {
        "along": along.to_dict("records"),
        "table": middle.groupby("method")[list(COLUMNS)].mean().to_dict("index"),
        "bits of log p(z) above the ends, a dimension": gain.to_dict(),
        "judge": "another flow" if by_flow else "mixture",
    }}  # fmt: skip


def _tokens_of_others(tokens: Tokens, fold: Fold, pairs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each pair, the row of a random token of another speaker ``(n,)``."""
    rows = tokens.rows(fold.evaluation, scored=True)
    people = tokens.table.speaker.to_numpy()
    others = [rows[~np.isin(people[rows], people[pair])] for pair in pairs]
    return np.array([rng.choice(found if len(found) else rows) for found in others])


def _place(by_flow: np.ndarray, flow_ends: np.ndarray, by_judge: np.ndarray, judge_ends: np.ndarray) -> dict:
    """Whether log-likelihoods ``(n,)`` are between those of the ends ``(2, n)``, above both, or below."""
    found = {}
    for names, value, ends in ((COLUMNS[:3], by_flow, flow_ends), (COLUMNS[3:], by_judge, judge_ends)):
        above, below = value >= ends.max(0), value <= ends.min(0)
        found |= dict(zip(names, (~above & ~below, above, below)))
    return found


def _norm_above_ends(start: torch.Tensor, end: torch.Tensor, share: float) -> np.ndarray:
    """Mean square of a code on the line, minus the average of the mean squares of its ends ``(n,)``."""
    ends = torch.stack([code.square().mean(1) for code in (start, end)]).mean(0)
    return torch.lerp(start, end, share).square().mean(1).sub(ends).numpy()


def _log_p(flow: Glow, pictures: torch.Tensor, seed: int) -> np.ndarray:
    """Log-likelihood of pictures in bits per dimension ``(n,)``."""
    return -flow.bits_per_dim(pictures.nan_to_num(0).clamp(0, 1), 1, seed).numpy()
