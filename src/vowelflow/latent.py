"""Codes, and ways to move between them: direction, line, great circle and random step.

All functions take codes and flattened pictures alike, as vectors ``(n, d)``.
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
        top_size: length of the top code, the first numbers of each code.
        image: the dequantized pictures ``(n, 1, side, frames)`` of these codes; None after arithmetic.
    """

    flat: torch.Tensor
    top_size: int
    image: torch.Tensor | None = None

    @property
    def top(self) -> torch.Tensor:
        """The coarsest scales ``(n, top_size)``, about what the paper's implementation calls the code."""
        return self.flat[:, : self.top_size]

    def __len__(self) -> int:
        return len(self.flat)

    def __getitem__(self, rows) -> Code:
        rows = torch.from_numpy(np.atleast_1d(np.arange(len(self))[rows]))
        return Code(self.flat[rows], self.top_size, None if self.image is None else self.image[rows])

    def __add__(self, other) -> Code:
        return Code(self.flat + _numbers(other), self.top_size)

    def __sub__(self, other) -> Code:
        return Code(self.flat - _numbers(other), self.top_size)

    def __mul__(self, factor) -> Code:
        return Code(self.flat * factor, self.top_size)

    __rmul__ = __mul__


def _numbers(other):
    return other.flat if isinstance(other, Code) else other


def vectors(codes: Code | torch.Tensor | np.ndarray) -> torch.Tensor:
    """Codes ``(n, d)``, or pictures ``(n, ...)``, as vectors ``(n, d)``."""
    return torch.as_tensor(_numbers(codes)).flatten(1)


def random_code(n: int, size: int, seed: int = 0) -> torch.Tensor:
    """Standard normal codes ``(n, size)``; each depends on ``seed`` and its row, not on ``n``."""
    codes = np.empty((n, size), dtype=np.float32)
    for row in range(n):
        np.random.default_rng([seed, row]).standard_normal(dtype=np.float32, out=codes[row])
    return torch.from_numpy(codes)


def direction(source, target) -> torch.Tensor:
    """Mean of the target class minus mean of the source class, ``(1, d)`` (paper, sections 4.4 and 4.5).

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
    """Straight line ``(points, d)`` between vectors ``(1, d)``, ends included."""
    return torch.lerp(vectors(start), vectors(end), torch.linspace(0, 1, points)[:, None])


def great_circle(start, end, points: int = 7, shares=None) -> torch.Tensor:
    """Spherical interpolation between vectors ``(1, d)`` at ``points`` even steps, or at ``shares``.

    Halfway on a line, independent normal codes have half the squared norm; here they keep it (Shoemake 1985).
    """
    start, end = vectors(start).double(), vectors(end).double()
    share = (torch.linspace(0, 1, points) if shares is None else torch.as_tensor(shares)).double()[:, None]
    cosine = (start * end).sum() / (start.norm() * end.norm())
    angle = torch.acos(cosine.clamp(-1, 1))
    if angle < 1e-6:
        return torch.lerp(start, end, share).float()
    path = torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end
    return (path / torch.sin(angle)).float()


def random_direction(like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A random direction of the same norm, to compare any direction with."""
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return noise * (like.norm() / noise.norm())
