"""Nulls: what label shuffles do. All speakers walk along one displacement, so they are no independent witnesses against it.

A displacement between shuffled labels moves everybody the same way, and so does something to the target, up or down; a t test
over speakers takes that for an effect. Whether labels matter is therefore judged by the shuffles themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..findings import LEVEL, false_positives, two_sided


def rank(true: float, fakes: Sequence[float]) -> float:
    """The share of shuffles, the true labels among them, that do at least as well (Phipson and Smyth 2010)."""
    fakes = np.asarray(fakes, dtype=float)
    return float((1 + (fakes >= true).sum()) / (1 + len(fakes)))


def calibrated(fakes: Sequence[Sequence[float]], chance: float = 0.0) -> dict:
    """``false_positives`` of that judgement: every second shuffle is ranked among the others, as true labels would be.

    Args:
        fakes: of every shuffle, what was measured of each speaker.
        chance: what a t test over speakers would take for nothing; how often it errs is told beside.
    """
    means = [float(np.nanmean(one)) for one in fakes]
    p = [rank(one, means[::2]) for one in means[1::2]]
    by_t = [two_sided(np.asarray(one, dtype=float) - chance) < LEVEL for one in fakes]
    return false_positives(p) | {"t test over speakers": float(np.mean(by_t))}
