"""Baselines: what a sceptic would use instead of a flow."""

from __future__ import annotations

import math

import numpy as np
import torch

from .glow import dequantize
from .spectrogram import SIDE


def diagonal_gaussian_bits(train: torch.Tensor, held_out: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Bits per dimension ``(n,)`` of held-out pictures under one Gaussian a pixel.

    Fitted on the training pictures with the same dequantization noise as the flow sees. A pixel
    that is always padding has the deviation of that noise, 1 / (256 sqrt 12), so it costs
    log2(2 pi e / 12) / 2, a quarter of a bit, and not nothing.
    """
    seen = dequantize(train, seed).flatten(1).double()
    mean, variance = seen.mean(0), seen.var(0, unbiased=False).clamp_min(1 / (12 * 256**2))
    y = dequantize(held_out, seed + 1).flatten(1).double()
    nats = 0.5 * ((y - mean).square() / variance + variance.log() + math.log(2 * math.pi))
    return (nats.mean(1) / math.log(2) + 8).float()


def pca_gaussian_samples(train: torch.Tensor, n: int, components: int = 32, seed: int = 0) -> torch.Tensor:
    """Pictures ``(n, 1, 288, 288)`` drawn from a Gaussian on the training pictures' principal plane."""
    from sklearn.decomposition import PCA

    flat = train.flatten(1).numpy()
    pca = PCA(min(components, len(flat) - 1), svd_solver="randomized", random_state=seed).fit(flat)
    scores = np.random.default_rng(seed).standard_normal((n, pca.n_components_)) * pca.explained_variance_**0.5
    return torch.from_numpy(pca.inverse_transform(scores)).float().clamp(0, 1).reshape(n, 1, SIDE, SIDE)
