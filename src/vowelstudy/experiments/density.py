"""Section 4.4: do points between two codes have a likelihood between theirs?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from vowelflow.glow import Glow

from ..folds import Fold
from ..methods import flow_method, great_circle_method, picture_method
from ..protocol import Protocol
from ..statistics import NULL, SIMPLE, Comparison, over_pairs, swapped
from ..tokens import Tokens
from .interpolation import SHARES, pairs_of_folds

OTHER_TOKEN = "another real token"
KINDS = {OTHER_TOKEN: NULL, "pictures": SIMPLE, "great circle": SIMPLE}
COLUMNS = ["between", "denser", "below"]


def density(tokens: Tokens, folds: list[Fold], other: Glow | None, protocol: Protocol, seed: int) -> dict:
    """Share of midpoints whose likelihoods under another flow are between those of their ends.

    The null is a token of another speaker, whose likelihood may be between the two by chance: in one of three
    cases, if all tokens had the same distribution.
    """
    if other is None:  # the flow's own likelihood of its own lines would prove nothing
        return {"comparisons": [], "null": None, "numbers": {}}
    scores, rng = [], np.random.default_rng([seed, 29])
    people = tokens.table.speaker.to_numpy()
    for fold, factor, pairs in pairs_of_folds(tokens, folds, protocol, seed):
        pair = pd.DataFrame({"factor": factor, "one": people[pairs[:, 0]], "other": people[pairs[:, 1]]})
        ends = np.array([_log_p(other, tokens.pictures[pairs[:, side]], seed) for side in (0, 1)])
        strangers = _tokens_of_others(tokens, fold, pairs, rng)
        place = _place(_log_p(other, tokens.pictures[strangers], seed), ends)
        scores.append(pair.assign(method=OTHER_TOKEN, share=0.5, **place))
        methods = [
            flow_method(fold.flow),
            picture_method(tokens.observation.shape),
            great_circle_method(fold.flow),
        ]
        for method in methods:
            start, end = (method.vectors(tokens, pairs[:, side], seed) for side in (0, 1))
            for share in SHARES:
                place = _place(_log_p(other, method.between(start, end, share), seed), ends)
                part = pair.assign(method=method.name, share=share, **place)
                if method.name == "flow":
                    part["log_pz"] = _norm_above_ends(start, end, share)
                scores.append(part)
    table = pd.concat(scores, ignore_index=True)
    table[COLUMNS] = table[COLUMNS].astype(float)
    middle = table[table.share == 0.5]
    metric = "share of midpoints whose likelihood under another flow lies between those of their ends"
    values, n = over_pairs(middle, "between")[["flow", *KINDS]], int((middle.method == "flow").sum())
    comparison = Comparison("density", "all pairs", metric, 0.1, values, KINDS, n, primary=True)
    # log p(z) / d is minus one half of the mean of z^2, plus a constant
    gain = -table[table.method == "flow"].groupby("share").log_pz.mean() / 2 / np.log(2)
    return {"comparisons": [comparison], "null": swapped(comparison, protocol.shuffles, seed), "numbers": {
        "along": table.groupby(["method", "share"])[COLUMNS].mean().reset_index().to_dict("records"),
        "table": middle.groupby("method")[COLUMNS].mean().to_dict("index"),
        "bits of log p(z) above the ends, a dimension": gain.to_dict(),
    }}  # fmt: skip


def _tokens_of_others(tokens: Tokens, fold: Fold, pairs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each pair, the row of a random token of another speaker ``(n,)``."""
    rows = tokens.rows(fold.evaluation, scored=True)
    people = tokens.table.speaker.to_numpy()
    others = [rows[~np.isin(people[rows], people[pair])] for pair in pairs]
    return np.array([rng.choice(found if len(found) else rows) for found in others])


def _place(values: np.ndarray, ends: np.ndarray) -> dict[str, np.ndarray]:
    """Whether log-likelihoods ``(n,)`` are between those of the ends ``(2, n)``, above both, or below."""
    above, below = values >= ends.max(0), values <= ends.min(0)
    return dict(zip(COLUMNS, (~above & ~below, above, below)))


def _norm_above_ends(start: torch.Tensor, end: torch.Tensor, share: float) -> np.ndarray:
    """Mean square of a code on the line, minus the average of the mean squares of its ends ``(n,)``."""
    ends = torch.stack([code.square().mean(1) for code in (start, end)]).mean(0)
    return torch.lerp(start, end, share).square().mean(1).sub(ends).numpy()


def _log_p(flow: Glow, pictures: torch.Tensor, seed: int) -> np.ndarray:
    """Log-likelihood of pictures in bits per dimension ``(n,)``."""
    return -flow.bits_per_dim(pictures.nan_to_num(0).clamp(0, 1), 1, seed).numpy()
