"""Discriminators: two kinds of classifiers that learn to tell a method's pictures from real ones.

One is a small network on pictures, the other boosted trees on acoustic measurements; ``realism`` divides
speakers and scores. Their result is only as good as their controls: real tokens of other speakers must not be
told from real ones; noise, blurred and upside-down tokens always. ``controls`` makes these.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from vowelflow.spectrogram import quantize, restore

POOL = 4  # pixels averaged on each axis: formants, tilt, timing and the harmonics of high voices remain
STEPS, FEWEST, EPOCHS, BATCH = 190, 40, 30, 64  # steps of a fit: so many epochs, within these limits
TREES = 150


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


def fit_network(real, made, seed: int) -> Callable:
    """A function of views (see ``realism``) that scores each ``(n,)``, higher if real: the network on their ``inputs``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SmallCNN().train().to(memory_format=torch.channels_last)
        pictures = torch.cat([real.inputs, made.inputs]).contiguous(memory_format=torch.channels_last)
        steps = min(STEPS, max(FEWEST, EPOCHS * len(pictures) // BATCH))
        labels = torch.cat([torch.ones(len(real.inputs)), torch.zeros(len(made.inputs))])
        optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(len(pictures), (BATCH,))
            loss = F.binary_cross_entropy_with_logits(network(pictures[rows])[:, 0], labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()

    def score(views) -> np.ndarray:
        with torch.no_grad():
            return torch.cat([network(part)[:, 0] for part in views.inputs.split(256)]).numpy()

    return score


def fit_trees(real, made, seed: int) -> Callable:
    """As ``fit_network``: the trees on the ``acoustics`` of views."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=TREES, max_leaf_nodes=8, min_samples_leaf=10, max_features=0.5,
        early_stopping=False, random_state=seed,
    )  # fmt: skip
    trees.fit(
        pd.concat([real.acoustics, made.acoustics]),
        np.repeat([1, 0], [len(real.acoustics), len(made.acoustics)]),
    )
    return lambda views: trees.decision_function(views.acoustics)


def network_inputs(pictures: torch.Tensor) -> torch.Tensor:
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
