"""Discriminator: can a small network tell a method's pictures from real ones?

Its area under the ROC curve (AUC) is 0.5 for pictures that it cannot tell from real ones, and 1 for pictures that it
always recognises. The result is only as good as its controls: real tokens of other speakers must come out near 0.5;
noise, blurred and upside-down tokens near 1. ``controls`` makes these.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vowelflow.spectrogram import quantize, restore

POOL = 4  # pixels averaged on each axis: formants, tilt, timing and the harmonics of high voices remain
STEPS, BATCH = 190, 64
FITS = 5


class SmallCNN(nn.Sequential):
    """Three convolutions with batch norm, then a linear layer: ``(n, 1, side, frames)`` -> one logit ``(n, 1)``."""

    def __init__(self):
        layers, channels = [], 1
        for width in (16, 32, 64):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            channels = width
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d((4, 3)), nn.Flatten(), nn.Dropout(0.3), nn.Linear(12 * width, 1)
        )


def auc(
    real: torch.Tensor, speakers: np.ndarray, made: torch.Tensor, makers: np.ndarray | None = None,
    seed: int = 0, fits: int = FITS,
) -> dict:  # fmt: skip
    """AUC of a network that tells real pictures from made ones, on speakers that it was not fitted on.

    Half of the speakers and half of the made pictures fit the network; the other halves are scored. Made pictures are
    clamped to [0, 1] and quantized, as real ones are.

    Args:
        real: pictures ``(n, 1, side, frames)``.
        speakers: of the real pictures ``(n,)``.
        made: pictures of the method, best as many as real ones.
        makers: speakers of the made pictures, if these are tokens. No speaker is then in both halves.
        fits: how often to fit, each time with other halves and another start.

    Returns:
        ``auc``, the mean over fits, and ``fits``, the AUC of each.
    """
    areas = []
    for fit in range(fits):
        rng = np.random.default_rng([seed, fit])
        others = np.setdiff1d(speakers[:0] if makers is None else makers, speakers)
        groups = [rng.permutation(names) for names in (np.unique(speakers), others)]
        chosen = np.concatenate([names[: len(names) // 2] for names in groups])
        half = np.arange(len(made)) < len(made) // 2
        fit_real = np.isin(speakers, chosen)
        fit_made = rng.permutation(half) if makers is None else np.isin(makers, chosen)
        areas.append(_one_fit(real[fit_real], made[fit_made], real[~fit_real], made[~fit_made], seed + fit))
    return {"auc": float(np.mean(areas)), "fits": areas}


def _one_fit(real, made, test_real, test_made, seed: int) -> float:
    from sklearn.metrics import roc_auc_score

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SmallCNN().train()
        pictures = torch.cat([_inputs(real), _inputs(made)])
        labels = torch.cat([torch.ones(len(real)), torch.zeros(len(made))])
        optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS)
        for _ in range(STEPS):
            rows = torch.randint(len(pictures), (BATCH,))
            loss = F.binary_cross_entropy_with_logits(network(pictures[rows])[:, 0], labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            parts = [*_inputs(test_real).split(256), *_inputs(test_made).split(256)]
            scores = torch.cat([network(part)[:, 0] for part in parts])
    return float(roc_auc_score(np.repeat([1, 0], [len(test_real), len(test_made)]), scores.numpy()))


def _inputs(pictures: torch.Tensor) -> torch.Tensor:
    """The network's inputs: 256 levels, averaged over ``POOL`` x ``POOL`` pixels, roughly standardized."""
    return 4 * (F.avg_pool2d(restore(quantize(pictures.clamp(0, 1))), POOL) - 0.4)


def controls(real: torch.Tensor, seed: int = 0) -> dict[str, Callable[[int], torch.Tensor]]:
    """Pictures that a discriminator must recognise, made from real ones ``(n, 1, side, frames)``.

    By name, functions of the number of pictures. Padded pictures keep their padding.
    """
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    shape, inside = real.shape[1:], (real > 0).float()

    def drawn(pictures: torch.Tensor, count: int) -> torch.Tensor:
        return pictures[torch.from_numpy(rng.integers(len(real), size=count))]

    def noise(count: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator)

    def upside_down(count: int) -> torch.Tensor:
        bins = min(shape[1], 257)  # the zeros above the highest bin keep their place
        pictures = drawn(real, count).clone()
        pictures[:, :, :bins] = pictures[:, :, :bins].flip(2)
        return pictures

    def pca_gaussian(count: int) -> torch.Tensor:
        parts = min(64, len(real) - 1)
        pca = PCA(parts, random_state=seed).fit(real.flatten(1).numpy())
        scores = rng.standard_normal((count, parts)) * np.sqrt(pca.explained_variance_)
        rest = rng.standard_normal((count, real[0].numel())) * np.sqrt(pca.noise_variance_)
        return torch.from_numpy(pca.inverse_transform(scores) + rest).float().view(count, *shape)

    return {
        "PCA-Gaussian": pca_gaussian,
        "means of 8 tokens": lambda count: torch.stack([drawn(real, 8).mean(0) for _ in range(count)]),
        "upside-down tokens": upside_down,
        "noise in a token's extent": lambda count: noise(count) * drawn(inside, count),
        "sparse dots": lambda count: (noise(count) < 0.02).float(),
    }
