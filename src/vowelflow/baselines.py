"""Baselines: what a sceptic would use instead of a flow."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from .glow import LOG_2PI, dequantize
from .spectrogram import SIDE

NOISE = 1 / (256 * math.sqrt(12))  # deviation of the noise that makes levels continuous


def densities(
    train: torch.Tensor, components: int = 32, mixed: int = 32, seed: int = 0
) -> dict[str, Callable[[torch.Tensor, int], torch.Tensor]]:
    """Gaussian models of pictures ``(n, 1, side, frames)``, fitted on the same dequantized pixels as a flow.

    - "diagonal Gaussian": one Gaussian a pixel. One that is always padding has the deviation of the
      noise, 1 / (256 sqrt 12), so it costs log2(2 pi e / 12) / 2, a quarter of a bit, and not nothing.
    - "probabilistic PCA" (Tipping and Bishop 1999): of pixels divided by their deviations, a Gaussian in the
      plane of the first ``components`` principal directions, and one variance for all that is outside of it.
    - "Gaussian mixture": ``mixed`` diagonal Gaussians, which can tell long segments from short ones.

    Returns:
        Of each, a function of (pictures, seed of the noise) that gives bits per dimension ``(n,)``.
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    seen = dequantize(train, seed).flatten(1)
    count, size = seen.shape
    mean, deviation = seen.mean(0), seen.std(0, correction=0).clamp_min(NOISE)
    # a variance much below the noise's can only be chance
    mixture = GaussianMixture(
        min(mixed, count // 2), covariance_type="diag", reg_covar=NOISE**2 / 10, random_state=seed
    )
    mixture.fit(seen.numpy())
    seen = seen.sub_(mean).div_(deviation)
    pca = PCA(min(components, count // 2), svd_solver="randomized", random_state=seed).fit(seen.numpy())
    scores = pca.transform(seen.numpy()).astype(float)
    spread, outer = scores.var(0), size - scores.shape[1]
    rest = float((seen.double().square().sum() - np.square(scores).sum()) / count / outer)

    def bits(nats) -> torch.Tensor:
        return (8 - torch.as_tensor(nats) / math.log(2) / size).float()

    def standard(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        return (dequantize(pictures, seed).flatten(1) - mean) / deviation

    def diagonal(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        return bits(-0.5 * (standard(pictures, seed).double().square() + LOG_2PI).sum(1) - deviation.log().sum())

    def planar(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        flat = standard(pictures, seed)
        inside = np.square(pca.transform(flat.numpy()).astype(float))
        outside = flat.double().square().sum(1).numpy() - inside.sum(1)
        volume = np.log(spread).sum() + outer * math.log(rest) + size * LOG_2PI
        return bits(-0.5 * ((inside / spread).sum(1) + outside / rest + volume) - deviation.log().sum().item())

    def several(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        return bits(mixture.score_samples(dequantize(pictures, seed).flatten(1).double().numpy()))

    return {"diagonal Gaussian": diagonal, "probabilistic PCA": planar, "Gaussian mixture": several}


def pca_gaussian_samples(train: torch.Tensor, n: int, components: int = 32, seed: int = 0) -> torch.Tensor:
    """Pictures ``(n, 1, 288, 288)`` drawn from a Gaussian on the training pictures' principal plane."""
    from sklearn.decomposition import PCA

    flat = train.flatten(1).numpy()
    pca = PCA(min(components, len(flat) - 1), svd_solver="randomized", random_state=seed).fit(flat)
    scores = np.random.default_rng(seed).standard_normal((n, pca.n_components_)) * pca.explained_variance_**0.5
    return torch.from_numpy(pca.inverse_transform(scores)).float().clamp(0, 1).reshape(n, 1, SIDE, SIDE)
