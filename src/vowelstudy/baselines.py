"""Baselines: simpler densities of pictures, and classical noise filters, to compare a flow with."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from vowelflow.audio import magnitude
from vowelflow.glow import LOG_2PI
from vowelflow.spectrogram import FLOOR_DB, dequantize

NOISE = 1 / (256 * math.sqrt(12))  # standard deviation of the dequantization noise
SHARES = (1e-1, 1e-2, 1e-3, 1e-4)  # shares of a pixel's density that may be uniform
LOST = 1e-6  # share of the density of PCA, and of flows on their cards, that is uniform over all pictures
COLLAPSED = 1e-7  # added to the variances while a mixture is fitted, for clusters of one picture
LEAST = tuple(
    NOISE * times for times in (1, 8, 32, 128, 256)
)  # choices for a pixel's least standard deviation


def densities(
    train: torch.Tensor, valid: torch.Tensor, components: int = 32, mixed: int = 32, seed: int = 0
) -> dict[str, Callable[[torch.Tensor, int], torch.Tensor]]:
    """Gaussian models of pictures ``(n, 1, side, frames)``, fitted on the same dequantized pixels as a flow.

    - "diagonal Gaussian": one Gaussian for each pixel. A pixel that is always padding has the standard
      deviation of the noise, 1 / (256 sqrt 12), and so costs log2(2 pi e / 12) / 2, a quarter of a bit.
    - "probabilistic PCA" (Tipping and Bishop 1999): pixels are divided by their standard deviations. They are
      Gaussian along the first ``components`` principal directions, with one variance for all other
      directions.
    - "Gaussian mixture": ``mixed`` diagonal Gaussians, which can distinguish long segments from short ones.

    Segments longer than all training segments must not get probability zero. Therefore a small share of a
    pixel's density is uniform in the first and the last model, and the standard deviations of PCA have a
    lower bound. Both are chosen for the fewest bits on ``valid``. PCA is also ``rescued``.

    Returns:
        For each model, a function of (pictures, seed of the noise) that gives bits per dimension ``(n,)``.
    """
    from sklearn.base import clone
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    valid = valid if len(valid) else train[-max(1, len(train) // 10) :]
    seen = dequantize(train, seed).flatten(1)
    clusters = min(mixed, max(len(seen) // 4, 1))
    mixture = GaussianMixture(clusters, covariance_type="diag", reg_covar=COLLAPSED, random_state=seed)
    mixture.fit(seen.numpy())
    parts = (mixture.weights_, mixture.means_, mixture.covariances_ - COLLAPSED)
    parts = [torch.from_numpy(part).float() for part in parts]
    mean, deviation = seen.mean(0), seen.std(0, correction=0)
    one = [torch.ones(1), mean[None], deviation[None] ** 2]
    pca = PCA(min(components, len(seen) // 2), svd_solver="randomized", random_state=seed)
    made = {
        "diagonal Gaussian": [_mixture(*one, share) for share in SHARES],
        "probabilistic PCA": [_plane(clone(pca), seen, mean, deviation.clamp_min(least)) for least in LEAST],
        "Gaussian mixture": [_mixture(*parts, share) for share in SHARES],
    }
    return {
        name: min(choices, key=lambda density: density(valid, seed + 1).mean().item())
        for name, choices in made.items()
    }


def _mixture(weights: torch.Tensor, means: torch.Tensor, variances: torch.Tensor, share: float) -> Callable:
    """Bits per dimension under a mixture of Gaussians with a uniform ``share`` in every pixel."""
    deviations = variances.clamp_min(NOISE**2).sqrt()
    peaks = (1 - share) / (deviations * math.sqrt(2 * math.pi))

    def density(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        y = dequantize(pictures, seed).flatten(1)
        nats = []
        for peak, mean, deviation in zip(peaks, means, deviations):
            pixels = peak * torch.exp(-0.5 * ((y - mean) / deviation).square()) + share
            nats.append(pixels.log().sum(1, dtype=torch.float64))
        nats = torch.stack(nats) + weights.double().log()[:, None]
        return _bits(torch.logsumexp(nats, 0), y.shape[1])

    return density


def _plane(pca, seen: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> Callable:
    """Bits per dimension under probabilistic PCA of pixels, standardized by ``mean`` and ``deviation``."""
    standard = ((seen - mean) / deviation).numpy()
    scores = pca.fit_transform(standard).astype(float)
    spread, size = scores.var(0), seen.shape[1]
    outer = size - len(spread)
    rest = (np.square(standard, dtype=float).sum() - np.square(scores).sum()) / len(seen) / outer
    scale = 2 * deviation.double().log().sum().item()
    volume = np.log(spread).sum() + outer * math.log(rest) + size * LOG_2PI + scale

    def density(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        flat = ((dequantize(pictures, seed).flatten(1) - mean) / deviation).numpy()
        inside = np.square(pca.transform(flat).astype(float))
        outside = np.square(flat, dtype=float).sum(1) - inside.sum(1)
        nats = torch.from_numpy(-0.5 * ((inside / spread).sum(1) + outside / rest + volume))
        return rescued(_bits(nats, size), size)

    return density


def rescued(bits: torch.Tensor, size: int) -> torch.Tensor:
    """Bits per dimension ``(n,)`` if a share ``LOST`` of the density is uniform over all pictures.

    A picture to which a model gives almost no density then costs about 8 bits instead of thousands, so that a
    few such pictures cannot dominate a mean.
    """
    nats = (8 - bits.double()) * (math.log(2) * size)
    return _bits(torch.logaddexp(nats, torch.full_like(nats, math.log(LOST))), size)


def _bits(nats: torch.Tensor, size: int) -> torch.Tensor:
    return (8 - nats / math.log(2) / size).float()


def spectral_subtraction(
    pictures: torch.Tensor, noise: np.ndarray, hop: np.ndarray, floor: float = 0.01
) -> torch.Tensor:
    """Power spectral subtraction (Berouti et al. 1979): subtract twice the noise's mean power.

    Args:
        pictures: noisy pictures ``(n, 1, side, frames)``.
        noise: mean power of the noise in each bin ``(n, 257)``, relative to the picture's peak.
        hop: ms between frames ``(n,)``, which the Wiener filter needs.
        floor: least factor that a magnitude is multiplied by.
    """
    power = magnitude(pictures)[:, 0].numpy() ** 2
    noise = noise[:, : power.shape[1], None]
    return _picture_of(pictures, np.maximum(power - 2 * noise, floor**2 * power))


def wiener(pictures: torch.Tensor, noise: np.ndarray, hop: np.ndarray, smooth: float = 0.98) -> torch.Tensor:
    """Wiener filter with the decision-directed estimate of the SNR (Ephraim and Malah 1984).

    Arguments are as for ``spectral_subtraction``; ``smooth`` is the paper's smoothing factor.
    """
    power = magnitude(pictures)[:, 0].numpy() ** 2
    after = power / np.maximum(noise[:, : power.shape[1], None], 1e-12)
    smooth = smooth ** (hop[:, None] / 8)  # the paper's hop is 8 ms
    gain, before = np.empty_like(after), np.maximum(after[..., 0] - 1, 0)
    for frame in range(after.shape[-1]):
        ratio = smooth * before + (1 - smooth) * np.maximum(after[..., frame] - 1, 0)
        gain[..., frame] = np.maximum(ratio / (1 + ratio), 0.01)
        before = gain[..., frame] ** 2 * after[..., frame]
    return _picture_of(pictures, gain**2 * power)


def _picture_of(pictures: torch.Tensor, power: np.ndarray) -> torch.Tensor:
    """Pictures with this power ``(n, bins, frames)``, relative to their own peak; pixels of 0 stay 0."""
    levels = 1 + torch.from_numpy(10 * np.log10(np.maximum(power, 1e-12))).float() / FLOOR_DB
    result = pictures.clone()
    bins = levels.shape[1]
    result[:, 0, :bins] = torch.where(pictures[:, 0, :bins] > 0, levels.clamp(0, 1), 0.0)
    return result
