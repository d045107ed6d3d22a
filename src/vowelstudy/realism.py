"""Realism: how often discriminators tell a method's pictures from real tokens, picture by picture.

A picture's *area* is the share of real tokens that a discriminator takes for more real than it. The mean over
pictures is the area under the ROC curve (AUC): 0.5 if made pictures cannot be told from real ones, 1 if they
always can. There are two discriminators of different kinds: a small network on pictures, and boosted trees
on acoustic features. No speaker is in the half that fits a discriminator and in the half that it scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from .acoustics import CEILING
from .discriminator import fit_network, fit_trees, network_inputs
from .judges import Features, features_of


@dataclass(frozen=True)
class Views:
    """What the discriminators see of n pictures: the network's inputs, and a table of acoustic features."""

    inputs: torch.Tensor
    acoustics: pd.DataFrame

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: np.ndarray) -> Views:
        return Views(self.inputs[rows], self.acoustics.iloc[rows])


def views(pictures: torch.Tensor, features: Features) -> Views:
    """Views of pictures whose features have been measured. Pictures are clamped and quantized, as real ones are."""
    return Views(network_inputs(pictures), features.acoustics)


def views_at(pictures: torch.Tensor, samples: np.ndarray) -> Views:
    """Views of pictures with other durations ``(n,)``, in samples, than they have: for samples, which have none.

    Real tokens beside them need durations at random, too, as what does not fit would give samples away.
    """
    pictures = pictures.clamp(0, 1)
    return views(pictures, features_of(pictures, samples, np.full(len(pictures), CEILING)))


def joined(parts: list[Views]) -> Views:
    tables = pd.concat([part.acoustics for part in parts], ignore_index=True)
    return Views(torch.cat([part.inputs for part in parts]), tables)


FITTED: dict[str, Callable] = {"network": fit_network, "trees": fit_trees}


def areas(
    real: Views,
    speakers: np.ndarray,
    made: Views,
    makers: np.ndarray | None = None,
    fits: int = 1,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Areas of each real token and of each made picture, by discriminator and as their "mean".

    In each of ``fits`` random divisions of the speakers into halves, each half is scored by discriminators
    that were fitted on the other one.

    Args:
        speakers: of the real tokens ``(n,)``.
        makers: speakers of the made pictures, if these were made from tokens; otherwise any half has half of
            them.
    """
    of_real, of_made = np.zeros((2, len(real))), np.zeros((2, len(made)))
    for fit in range(fits):
        rng = np.random.default_rng([seed, fit])
        first = chosen_speakers(speakers, makers, rng)
        real_first = np.isin(speakers, first)
        made_first = rng.permutation(len(made)) % 2 == 0 if makers is None else np.isin(makers, first)
        for side in (True, False):
            fit_real, fit_made = (np.flatnonzero(one == side) for one in (real_first, made_first))
            rows, places = (np.flatnonzero(one != side) for one in (real_first, made_first))
            for k, fitted in enumerate(FITTED.values()):
                score = fitted(real.take(fit_real), made.take(fit_made), seed + fit)
                above = _above(score(real.take(rows)), score(made.take(places)))
                of_real[k, rows] += above.mean(1) / fits
                of_made[k, places] += above.mean(0) / fits
    tables = (pd.DataFrame(dict(zip(FITTED, one))) for one in (of_real, of_made))
    return tuple(table.assign(mean=table.mean(axis=1)) for table in tables)


def chosen_speakers(speakers: np.ndarray, makers: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Half of the speakers of the real tokens, and half of those who only made pictures."""
    others = np.setdiff1d(speakers[:0] if makers is None else makers, speakers)
    groups = [rng.permutation(names) for names in (np.unique(speakers), others)]
    return np.concatenate([names[: -(-len(names) // 2)] for names in groups])


def _above(real: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Whether each real score is above each made score ``(real, made)``; ties count half."""
    gaps = real[:, None] - made
    return (gaps > 0) + 0.5 * (gaps == 0)
