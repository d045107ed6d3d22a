"""Codes, and ways to move between them: the one direction, line, great circle and random step of the project.

All is plain vector arithmetic on ``(n, d)``, so it takes codes and flattened pictures alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .base import InputError


@dataclass(frozen=True)
class Code:
    """Codes of pictures: vectors that can be indexed, added and scaled.

    Attributes:
        flat: ``(n, size)``, coarsest scale first.
        top_size: how many of the first numbers are the top code.
        image: the dequantized pictures ``(n, 1, side, frames)`` they encode, where they encode any.
    """

    flat: torch.Tensor
    top_size: int
    image: torch.Tensor | None = None

    @property
    def top(self) -> torch.Tensor:
        """The coarsest scales, ``(n, top_size)``: about what the paper's implementation calls the code."""
        return self.flat[:, : self.top_size]

    def __len__(self) -> int:
        return len(self.flat)

    def __getitem__(self, rows) -> Code:
        if not isinstance(rows, slice):
            rows = np.atleast_1d(rows)
            rows = torch.as_tensor(rows if rows.size else rows.astype(int))
        return Code(self.flat[rows], self.top_size, None if self.image is None else self.image[rows])

    def __add__(self, other) -> Code:
        return Code(self.flat + _numbers(other), self.top_size)

    def __sub__(self, other) -> Code:
        return Code(self.flat - _numbers(other), self.top_size)

    def __mul__(self, factor) -> Code:
        return Code(self.flat * factor, self.top_size)

    __rmul__ = __mul__

    def mean(self) -> Code:
        """The mean code, as a code of one."""
        return Code(self.flat.mean(0, keepdim=True), self.top_size)


def _numbers(other):
    return other.flat if isinstance(other, Code) else other


def vectors(codes: Code | torch.Tensor | np.ndarray) -> torch.Tensor:
    """The numbers ``(n, d)`` of codes, or of pictures ``(n, ...)``, flattened."""
    return torch.as_tensor(_numbers(codes)).flatten(1)


def random_code(n: int, size: int, seed: int = 0) -> torch.Tensor:
    """Standard normal codes ``(n, size)``; a code depends on (seed, its place), not on ``n``."""
    codes = np.empty((n, size), dtype=np.float32)
    for row in range(n):
        np.random.default_rng([seed, row]).standard_normal(dtype=np.float32, out=codes[row])
    return torch.from_numpy(codes)


def direction(source, target) -> torch.Tensor:
    """Displacement of class means, target minus source, ``(1, d)`` (paper, sections 4.4 and 4.5).

    Raises:
        InputError: an empty class, or numbers that are not finite.
    """
    source, target = vectors(source), vectors(target)
    if not len(source) or not len(target):
        raise InputError(f"a direction needs tokens of both classes, not {len(source)} and {len(target)}")
    if not (source.isfinite().all() and target.isfinite().all()):
        raise InputError("a direction needs finite numbers: one of these is not")
    return target.mean(0, keepdim=True) - source.mean(0, keepdim=True)


def line(start, end, points: int = 7) -> torch.Tensor:
    """Straight line from one vector ``(1, d)`` to another, ends included: ``(points, d)``."""
    return torch.lerp(vectors(start), vectors(end), torch.linspace(0, 1, points)[:, None])


def great_circle(start, end, points: int = 7, shares=None) -> torch.Tensor:
    """Spherical interpolation between ``(1, d)`` vectors: the same ends as ``line``, but the norm does not sag.

    The midpoint of two independent standard normal codes has half of their squared norm; on the great circle it keeps
    it (Shoemake 1985). At ``shares`` of the way, or at ``points`` even ones.
    """
    start, end = vectors(start).double(), vectors(end).double()
    share = torch.linspace(0, 1, points) if shares is None else torch.as_tensor(shares)
    share = share.double()[:, None]
    cosine = (start * end).sum() / (start.norm() * end.norm())
    angle = torch.acos(cosine.clamp(-1, 1))
    if angle < 1e-6:
        return torch.lerp(start, end, share).float()
    path = torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end
    return (path / torch.sin(angle)).float()


def random_direction(like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A random direction of the same norm, the null of every direction."""
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return noise * (like.norm() / noise.norm())
