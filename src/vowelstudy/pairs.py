"""Pairs of tokens and pairs of speakers that experiments compare."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from vowelflow.base import InputError
from vowelflow.corpus import Corpus


def matched_pairs(tokens: Corpus, factor: str, count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Rows of up to ``count`` pairs of tokens that differ in one factor and have similar durations.

    No token is in two pairs.

    Args:
        factor: "phone" (two vowels of one speaker), "sex" (one vowel of a woman, then of a man) or "speaker"
            (one vowel of two speakers of the same sex).

    Raises:
        InputError: the tokens have no such pair.
    """
    same = {"phone": ["speaker"], "sex": ["phone"], "speaker": ["phone", "sex"]}[factor]
    table = tokens.table.assign(samples=tokens.table.end - tokens.table.start)
    pairs, used = [], set()
    for row in np.random.default_rng(seed).permutation(len(table)):
        one = table.iloc[row]
        fits = (table[same] == one[same]).all(axis=1) & (table[factor] > one[factor])
        fits &= ~table.index.isin(used)
        if row in used or not fits.any() or len(pairs) == count:
            continue
        other = int((table.samples[fits] - one.samples).abs().idxmin())
        pairs.append((int(row), other))
        used |= {int(row), other}
    if not pairs:
        found = f"no two of the {len(table)} tokens of {tokens.name} differ in {factor} alone"
        raise InputError(f"{found}; use more tokens")
    return pairs


def speaker_pairs(tokens: Corpus, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Up to ``count`` pairs of speakers of the same sex, drawn at random; ``InputError`` if there is none."""
    by_sex = tokens.table.groupby("sex").speaker.unique()
    every = [pair for names in by_sex for pair in combinations(sorted(names), 2)]
    if not every:
        raise InputError(f"{tokens.name} has no two speakers of one sex here; use more speakers")
    chosen = np.random.default_rng(seed).permutation(len(every))[:count]
    return [every[place] for place in sorted(chosen)]
