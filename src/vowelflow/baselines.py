"""Baselines: what a sceptic would use instead of a flow."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from .glow import LOG_2PI, dequantize
from .spectrogram import SIDE


def densities(
    train: torch.Tensor, components: int = 64, mixed: int = 8, seed: int = 0
) -> dict[str, Callable[[torch.Tensor, int], torch.Tensor]]:
    """Gaussian models of pictures ``(n, 1, side, frames)``, fitted on the same dequantized pixels as a flow.

    - "diagonal Gaussian": one Gaussian a pixel. One that is always padding has the deviation of the
      noise, 1 / (256 sqrt 12), so it costs log2(2 pi e / 12) / 2, a quarter of a bit, and not nothing.
    - "probabilistic PCA" (Tipping and Bishop 1999): of pixels divided by their deviations, a Gaussian in the
      plane of the first principal components, and one variance for all that is outside of it.
    - "Gaussian mixture": the same with a mixture of ``mixed`` Gaussians in that plane.

    Returns:
        Of each, a function of (pictures, seed of the noise) that gives bits per dimension ``(n,)``.
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    seen = dequantize(train, seed).flatten(1)
    mean, deviation = seen.mean(0), seen.std(0, correction=0).clamp_min(1 / (256 * math.sqrt(12)))
    seen = seen.sub_(mean).div_(deviation)
    size, wanted = seen.shape[1], min(components, len(seen) - 1)
    pca = PCA(wanted, svd_solver="randomized", random_state=seed).fit(seen.numpy())
    scores = pca.transform(seen.numpy())
    rest = float((seen.double().square().sum() - np.square(scores, dtype=float).sum()) / len(seen) / (size - wanted))
    plane = {
        "probabilistic PCA": GaussianMixture(1, random_state=seed),
        "Gaussian mixture": GaussianMixture(min(mixed, len(seen)), random_state=seed),
    }
    for mixture in plane.values():
        mixture.fit(scores)

    def bits(nats: torch.Tensor) -> torch.Tensor:
        return (8 - (nats - deviation.log().sum()) / math.log(2) / size).float()

    def standard(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        return (dequantize(pictures, seed).flatten(1) - mean) / deviation

    def diagonal(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        return bits(-0.5 * (standard(pictures, seed).double().square() + LOG_2PI).sum(1))

    def planar(mixture: GaussianMixture) -> Callable:
        def density(pictures: torch.Tensor, seed: int) -> torch.Tensor:
            flat = standard(pictures, seed)
            inside = pca.transform(flat.numpy())
            outside = flat.double().square().sum(1).numpy() - np.square(inside, dtype=float).sum(1)
            nats = mixture.score_samples(inside) - 0.5 * outside / rest
            return bits(torch.from_numpy(nats - 0.5 * (size - wanted) * (LOG_2PI + math.log(rest))))

        return density

    return {"diagonal Gaussian": diagonal} | {name: planar(mixture) for name, mixture in plane.items()}


def pca_gaussian_samples(train: torch.Tensor, n: int, components: int = 32, seed: int = 0) -> torch.Tensor:
    """Pictures ``(n, 1, 288, 288)`` drawn from a Gaussian on the training pictures' principal plane."""
    from sklearn.decomposition import PCA

    flat = train.flatten(1).numpy()
    pca = PCA(min(components, len(flat) - 1), svd_solver="randomized", random_state=seed).fit(flat)
    scores = np.random.default_rng(seed).standard_normal((n, pca.n_components_)) * pca.explained_variance_**0.5
    return torch.from_numpy(pca.inverse_transform(scores)).float().clamp(0, 1).reshape(n, 1, SIDE, SIDE)
