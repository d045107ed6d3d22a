"""Spaces: places where a picture is a vector, that a factor may be a direction in.

The flow's codes are one; beside them stand those that a sceptic would use instead. Whatever the study does to codes it
does in each of them by the same lines of code: draw a line, walk along a displacement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.fft import dct, idct

from .glow import Glow, dequantize
from .latent import great_circle, random_code
from .spectrogram import SIDE

ENVELOPE = 32  # of 288 coefficients along frequency: what is broader than 0.25 kHz, and so not a harmonic
COMPONENTS = 64  # of pictures, at most, that PCA keeps


@dataclass(frozen=True)
class Space:
    """Pictures ``(n, 1, 288, 288)`` to vectors ``(n, d)`` and back, and how one walks there.

    Attributes:
        into: pictures and a seed of the dequantization noise -> vectors.
        back: vectors -> pictures.
        part: how many of the first numbers take part in a walk; all if None.
        drawn: whether the other numbers are then drawn anew, as from the prior; else they stay.
        circle: whether one walks between two vectors on the great circle.
        lossy: whether there and back is not the picture.
    """

    name: str
    into: Callable[[torch.Tensor, int], torch.Tensor]
    back: Callable[[torch.Tensor], torch.Tensor]
    part: int | None = None
    drawn: bool = False
    circle: bool = False
    lossy: bool = False

    def moved(self, vectors: torch.Tensor, displacement: torch.Tensor, step: float) -> torch.Tensor:
        """Pictures of vectors that went ``step`` times along a displacement ``(1, d)`` or ``(n, d)``."""
        return self.back(self._completed(vectors + step * displacement, vectors))

    def between(self, one: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
        """Pictures at a share of the way from each of ``one`` to its partner in ``other``, both ``(n, d)``."""
        if self.circle:
            pairs = zip(one.split(1), other.split(1))
            mixed = torch.cat([great_circle(a, b, shares=[share]) for a, b in pairs])
        else:
            mixed = torch.lerp(one, other, share)
        return self.back(self._completed(mixed, one if share < 0.5 else other))

    def _completed(self, mixed: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The part that walked, and the rest: of ``like``, or drawn."""
        if self.part is None:
            return mixed
        rest = random_code(len(like), like.shape[1], seed=1) if self.drawn else like
        return torch.cat([mixed[:, : self.part], rest[:, self.part :]], 1)


def flow_space(model: Glow, name: str = "flow") -> Space:
    """Whole codes."""
    return Space(name, lambda pictures, seed: model.encode(pictures, seed).flat, model.decode)


def flow_circle(model: Glow) -> Space:
    """Whole codes, between which one walks without losing norm."""
    return replace(flow_space(model, "great circle"), circle=True)


def top_space(model: Glow) -> Space:
    """The coarsest quarter of codes, with all finer details drawn anew: the code of the paper's implementation."""
    whole = flow_space(model, "top code")
    return replace(whole, part=model.top_size, drawn=True, lossy=True)


def picture_space() -> Space:
    """Pictures as they are: a line is a cross-fade, a displacement the difference of two mean pictures."""
    return Space(
        "pictures",
        lambda pictures, seed: dequantize(pictures, seed).flatten(1),
        lambda vectors: vectors.reshape(-1, 1, SIDE, SIDE),
    )


def pca_space(known: torch.Tensor) -> Space:
    """Scores of pictures on the principal components of ``known`` pictures, in units of their deviations."""
    from sklearn.decomposition import PCA

    flat = known.flatten(1).numpy()
    pca = PCA(min(COMPONENTS, len(flat) - 1), whiten=True, svd_solver="randomized", random_state=0).fit(flat)

    def into(pictures, seed):
        return torch.from_numpy(pca.transform(dequantize(pictures, seed).flatten(1).numpy())).float()

    def back(vectors):
        return torch.from_numpy(pca.inverse_transform(vectors.numpy())).float().reshape(-1, 1, SIDE, SIDE)

    return Space("PCA", into, back, lossy=True)


def cepstral_space() -> Space:
    """Source and filter apart: the smooth envelope of each spectrum walks, the harmonics stay a speaker's own.

    The first ``ENVELOPE`` coefficients of a cosine transform of the log-magnitudes along frequency, a cepstrum, take part.
    """

    def into(pictures, seed):
        rows = dct(dequantize(pictures, seed)[:, 0].numpy(), axis=1, norm="ortho")
        return torch.from_numpy(rows).flatten(1)

    def back(vectors):
        rows = idct(vectors.reshape(-1, SIDE, SIDE).numpy(), axis=1, norm="ortho")
        return torch.from_numpy(rows).float()[:, None]

    return Space("cepstrum", into, back, part=ENVELOPE * SIDE)


def principal(vectors: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``count`` main directions of vectors ``(n, d)``, the strongest first, and the deviation along each.

    Returns:
        Unit vectors ``(count, d)`` and deviations ``(count,)``, by way of the n by n matrix of products, as d is far above n.
    """
    centred = vectors - vectors.mean(0)
    values, rotation = torch.linalg.eigh((centred @ centred.T).double())
    lengths = values[-count:].flip(0).clamp_min(1e-6).sqrt()
    directions = (rotation[:, -count:].flip(1) / lengths).float().T @ centred
    return directions, lengths.float() / len(vectors) ** 0.5


def sample_spaces(known: torch.Tensor, count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Pictures drawn from a Gaussian on principal components, and from a mixture of Gaussians on them."""
    from sklearn.mixture import GaussianMixture

    space, rng = pca_space(known), np.random.default_rng(seed)
    scores = space.into(known, seed).numpy()
    normal = rng.standard_normal((count, scores.shape[1]))
    mixture = GaussianMixture(min(16, max(len(scores) // 8, 1)), covariance_type="diag", random_state=seed).fit(scores)
    mixed, _ = mixture.sample(count)
    drawn = {"PCA-Gaussian": normal, "mixture": mixed[rng.permutation(count)]}
    return {name: space.back(torch.from_numpy(rows).float()).clamp(0, 1) for name, rows in drawn.items()}
