"""Baselines: what a sceptic would use instead of a flow."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from vowelflow.audio import magnitude
from vowelflow.glow import LOG_2PI
from vowelflow.spectrogram import BINS, FLOOR_DB, dequantize

NOISE = 1 / (256 * math.sqrt(12))  # deviation of the noise that makes levels continuous
SHARES = (1e-1, 1e-2, 1e-3, 1e-4)  # of a pixel's density that may be uniform
LOST = 1e-6  # share of the density of PCA, and of flows on their cards, that is uniform over all pictures
COLLAPSED = 1e-7  # variance that keeps a cluster of one picture above 0 while a mixture is fitted: a twelfth of the noise's
LEAST = tuple(NOISE * times for times in (1, 8, 32, 128, 256))  # deviations that a pixel may have at least


def densities(
    train: torch.Tensor, valid: torch.Tensor, components: int = 32, mixed: int = 32, seed: int = 0
) -> dict[str, Callable[[torch.Tensor, int], torch.Tensor]]:
    """Gaussian models of pictures ``(n, 1, side, frames)``, fitted on the same dequantized pixels as a flow.

    - "diagonal Gaussian": one Gaussian a pixel. One that is always padding has the deviation of the
      noise, 1 / (256 sqrt 12), so it costs log2(2 pi e / 12) / 2, a quarter of a bit, and not nothing.
    - "probabilistic PCA" (Tipping and Bishop 1999): of pixels divided by their deviations, a Gaussian in the
      plane of the first ``components`` principal directions, and one variance for all that is outside of it.
    - "Gaussian mixture": ``mixed`` diagonal Gaussians, which can tell long segments from short ones.

    A segment that is longer than all that were fitted must not be impossible. So a small share of the first's and the last's
    density of a pixel is uniform, and PCA's deviations have a least value; those that cost ``valid`` pictures least are taken.
    And a picture that PCA makes nothing of is taken for one of all pictures alike: 8 bits, and not thousands.

    Returns:
        Of each, a function of (pictures, seed of the noise) that gives bits per dimension ``(n,)``.
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    valid = valid if len(valid) else train[-max(1, len(train) // 10) :]
    seen = dequantize(train, seed).flatten(1)
    mixture = GaussianMixture(
        min(mixed, max(len(seen) // 4, 1)), covariance_type="diag", reg_covar=COLLAPSED, random_state=seed
    )
    mixture.fit(seen.numpy())
    parts = (mixture.weights_, mixture.means_, mixture.covariances_ - COLLAPSED)
    clusters = [torch.from_numpy(part).float() for part in parts]
    mean, deviation = seen.mean(0), seen.std(0, correction=0)
    one = [torch.ones(1), mean[None], deviation[None] ** 2]
    made = {
        "diagonal Gaussian": [_mixture(*one, share) for share in SHARES],
        "probabilistic PCA": [
            _plane(
                PCA(min(components, len(seen) // 2), svd_solver="randomized", random_state=seed),
                seen,
                mean,
                deviation.clamp_min(least),
            )
            for least in LEAST
        ],
        "Gaussian mixture": [_mixture(*clusters, share) for share in SHARES],
    }
    return {
        name: min(choices, key=lambda density: density(valid, seed + 1).mean().item())
        for name, choices in made.items()
    }


def _mixture(weights: torch.Tensor, means: torch.Tensor, variances: torch.Tensor, share: float) -> Callable:
    """Bits under a mixture of Gaussians with a uniform ``share`` in every pixel."""
    deviations = variances.clamp_min(NOISE**2).sqrt()
    peaks = (1 - share) / (deviations * math.sqrt(2 * math.pi))

    def density(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        y = dequantize(pictures, seed).flatten(1)
        nats = torch.stack([
            (peak * torch.exp(-0.5 * ((y - mean) / deviation).square()) + share).log().sum(1, dtype=torch.float64)
            for peak, mean, deviation in zip(peaks, means, deviations)
        ])  # fmt: skip
        return _bits(torch.logsumexp(nats + weights.double().log()[:, None], 0), y.shape[1])

    return density


def _plane(pca, seen: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> Callable:
    """Bits under probabilistic PCA of pixels less their ``mean``, divided by their ``deviation``."""
    standard = ((seen - mean) / deviation).numpy()
    scores = pca.fit_transform(standard).astype(float)
    spread, size = scores.var(0), seen.shape[1]
    outer = size - len(spread)
    rest = (np.square(standard, dtype=float).sum() - np.square(scores).sum()) / len(seen) / outer
    volume = (
        np.log(spread).sum()
        + outer * math.log(rest)
        + size * LOG_2PI
        + 2 * deviation.double().log().sum().item()
    )

    def density(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        flat = ((dequantize(pictures, seed).flatten(1) - mean) / deviation).numpy()
        inside = np.square(pca.transform(flat).astype(float))
        outside = np.square(flat, dtype=float).sum(1) - inside.sum(1)
        nats = torch.from_numpy(-0.5 * ((inside / spread).sum(1) + outside / rest + volume))
        return rescued(_bits(nats, size), size)

    return density


def rescued(bits: torch.Tensor, size: int) -> torch.Tensor:
    """Bits per dimension were a share ``LOST`` of the density uniform: a picture that a model makes nothing of costs 8 bits.

    Else one such picture in a thousand, whose bits may be thousands, would be all that a mean tells.
    """
    nats = (8 - bits.double()) * (math.log(2) * size)
    return _bits(torch.logaddexp(nats, torch.full_like(nats, math.log(LOST))), size)


def _bits(nats: torch.Tensor, size: int) -> torch.Tensor:
    return (8 - nats / math.log(2) / size).float()


def spectral_subtraction(pictures: torch.Tensor, noise: np.ndarray, floor: float = 0.01) -> torch.Tensor:
    """Power spectral subtraction (Berouti et al. 1979): the noise's mean power goes, down to ``floor`` of what was there.

    Args:
        pictures: noisy ones ``(n, 1, 288, 288)``.
        noise: mean power of the noise in each bin ``(n, 257)``, relative to the picture's peak.
    """
    power = magnitude(pictures)[:, 0].numpy() ** 2
    left = np.maximum(power - 2 * noise[:, :, None], floor**2 * power)
    return _picture_of(pictures, left)


def wiener(pictures: torch.Tensor, noise: np.ndarray, smooth: float = 0.98) -> torch.Tensor:
    """Wiener filter with the decision-directed estimate of the signal-to-noise ratio (Ephraim and Malah 1984).

    Arguments as for ``spectral_subtraction``.
    """
    power = magnitude(pictures)[:, 0].numpy() ** 2
    after = power / np.maximum(noise[:, :, None], 1e-12)
    smooth = smooth ** (1 / 8)  # their frames are 8 ms apart, these 1 ms
    gain, before = np.empty_like(after), np.maximum(after[..., 0] - 1, 0)
    for frame in range(after.shape[-1]):
        ratio = smooth * before + (1 - smooth) * np.maximum(after[..., frame] - 1, 0)
        gain[..., frame] = np.maximum(ratio / (1 + ratio), 0.01)
        before = gain[..., frame] ** 2 * after[..., frame]
    return _picture_of(pictures, gain**2 * power)


def _picture_of(pictures: torch.Tensor, power: np.ndarray) -> torch.Tensor:
    """Pictures with this power ``(n, 257, frames)``, relative to their own peak; silence stays silence."""
    levels = 1 + torch.from_numpy(10 * np.log10(np.maximum(power, 1e-12))).float() / FLOOR_DB
    result = pictures.clone()
    result[:, 0, :BINS] = torch.where(pictures[:, 0, :BINS] > 0, levels.clamp(0, 1), 0.0)
    return result
