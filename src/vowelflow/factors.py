"""Factors: codes and labels -> directions, and ways to move along them.

Everything here is plain vector arithmetic, so it takes codes (``Code``) and, for the baselines
that a sceptic would use instead, flattened pictures ``(n, d)`` alike.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from .corpus import Corpus, InputError
from .glow import Code


def vectors(codes) -> torch.Tensor:
    """``(n, d)`` numbers of a ``Code``, or of pictures ``(n, ...)`` flattened; ``InputError`` of anything else."""
    if not isinstance(codes, Code) and not (isinstance(codes, torch.Tensor | np.ndarray) and codes.ndim > 1):
        raise InputError(f"codes are a Code, or a tensor or an array (n, ...), not {codes!r:.60}")
    return codes.flat if isinstance(codes, Code) else torch.as_tensor(codes).flatten(1)


def direction(source, target) -> torch.Tensor:
    """Displacement of class means, target minus source, ``(1, d)`` (paper, sections 4.4 and 4.5).

    Raises:
        InputError: an empty class, numbers that are not finite, or vectors of two lengths.
    """
    source, target = vectors(source), vectors(target)
    if not len(source) or not len(target):
        raise InputError(f"a direction needs tokens of both classes, not {len(source)} and {len(target)}")
    if source.shape[1] != target.shape[1] or not (source.isfinite().all() and target.isfinite().all()):
        raise InputError(
            f"vectors of a space are finite and of one length, not {source.shape[1]} and {target.shape[1]}"
        )
    return target.mean(0, keepdim=True) - source.mean(0, keepdim=True)


def line(start, end, points: int = 7) -> torch.Tensor:
    """Straight line from one vector ``(1, d)`` to another, ends included: ``(points, d)``; ``InputError`` for other shapes."""
    start, end = vectors(start), vectors(end)
    if start.shape != end.shape or len(start) != 1 or not isinstance(points, int | np.integer) or points < 1:
        raise InputError(
            f"a line of {points} points from {tuple(start.shape)} to {tuple(end.shape)}: ends are (1, d), points at least 1"
        )
    return torch.lerp(start, end, torch.linspace(0, 1, points)[:, None])


def great_circle(start, end, points: int = 7, shares=None) -> torch.Tensor:
    """Spherical interpolation: the same ends as ``line``, but the norm does not sag between them.

    The midpoint of two independent standard normal codes has half of their squared norm; on the
    great circle it keeps it (Shoemake 1985). At ``shares`` of the way, or at ``points`` even ones.

    Raises:
        InputError: other shapes, or an end at the origin, from which all ways are one.
    """
    start, end = vectors(start).double(), vectors(end).double()
    if start.shape != end.shape or len(start) != 1 or not isinstance(points, int | np.integer) or points < 1:
        raise InputError(
            f"a circle of {points} points from {tuple(start.shape)} to {tuple(end.shape)}: ends are (1, d), points at least 1"
        )
    if not (0 < start.norm() < np.inf and 0 < end.norm() < np.inf):
        raise InputError("the ends of a great circle are finite, and neither is the origin")
    share = torch.linspace(0, 1, points) if shares is None else torch.as_tensor(shares)
    share = share.double()[:, None]
    cosine = (start * end).sum() / (start.norm() * end.norm())
    angle = torch.acos(cosine.clamp(-1, 1))
    if angle < 1e-6:
        return torch.lerp(start, end, share).float()
    path = torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end
    return (path / torch.sin(angle)).float()


def random_direction(like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A random direction of the same norm: what any direction at all would do."""
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**32 - 1}")
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return noise * (like.norm() / noise.norm())


def matched_pairs(tokens: Corpus, factor: str, count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Rows of up to ``count`` pairs of tokens that differ in one factor and are near in duration.

    Args:
        factor: "phone" (two vowels of one speaker), "sex" (one vowel of a woman, then of a man)
            or "speaker" (one vowel of two speakers of one sex). No token is in two pairs.

    Raises:
        InputError: no such factor, no such pair in these tokens, less than one asked for, or no seed.
    """
    if not isinstance(tokens, Corpus):
        raise InputError(f"{tokens!r:.60} is no corpus; vf.load_corpus reads one")
    if factor not in ("phone", "sex", "speaker"):
        raise InputError(f"a factor is phone, sex or speaker, not {factor!r}")
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**32 - 1}")
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**32 - 1}")
    if not isinstance(count, int | np.integer) or count < 1:
        raise InputError(f"{count} pairs: ask for one or more")
    same = {"phone": ["speaker"], "sex": ["phone"], "speaker": ["phone", "sex"]}[factor]
    table = tokens.table.assign(samples=tokens.table.end - tokens.table.start)
    pairs, used = [], set()
    for row in np.random.default_rng(seed).permutation(len(table)):
        one = table.iloc[row]
        fits = (table[same] == one[same]).all(axis=1) & (table[factor] > one[factor]) & ~table.index.isin(used)
        if row in used or not fits.any() or len(pairs) == count:
            continue
        other = int((table.samples[fits] - one.samples).abs().idxmin())
        pairs.append((int(row), other))
        used |= {int(row), other}
    if not pairs:
        raise InputError(
            f"no two of the {len(table)} tokens of {tokens.name} differ in {factor} alone; give more tokens"
        )
    return pairs


def speaker_pairs(tokens: Corpus, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Up to ``count`` pairs of speakers of one sex, drawn at random; ``InputError`` if there is none."""
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**32 - 1}")
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**32 - 1}")
    if not isinstance(tokens, Corpus):
        raise InputError(f"{tokens!r:.60} is no corpus; vf.load_corpus reads one")
    if not isinstance(count, int | np.integer) or count < 1:
        raise InputError(f"{count} pairs: ask for one or more")
    by_sex = tokens.table.groupby("sex").speaker.unique()
    every = [pair for names in by_sex for pair in combinations(sorted(names), 2)]
    if not every:
        raise InputError(f"{tokens.name} has no two speakers of one sex here; give more speakers")
    chosen = np.random.default_rng(seed).permutation(len(every))[:count]
    return [every[place] for place in sorted(chosen)]
