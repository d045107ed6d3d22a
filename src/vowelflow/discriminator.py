"""Discriminator: can a small network tell a method's pictures from real ones?

Its area under the ROC curve (AUC) is 0.5 for pictures that nobody could tell from real ones, and 1 for pictures that
are always recognised. A discriminator is only as good as its controls: real tokens of other speakers must come out
near 0.5, and noise, blurred and upside-down tokens near 1. ``controls`` makes these.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .spectrogram import quantize, restore

POOL = 4  # pixels each way that are averaged: what is left are formants, tilt, timing and the harmonics of high voices
STEPS, BATCH = 190, 64
FITS = 5


class SmallCNN(nn.Sequential):
    """Three convolutions with batch norm, then a linear layer: ``(n, 1, side, frames)`` -> one logit ``(n, 1)``."""

    def __init__(self):
        layers, channels = [], 1
        for width in (16, 32, 64):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d((4, 3)), nn.Flatten(), nn.Dropout(0.3), nn.Linear(12 * width, 1))


def auc(
    real: torch.Tensor,
    speakers: np.ndarray,
    made: torch.Tensor,
    makers: np.ndarray | None = None,
    seed: int = 0,
    fits: int = FITS,
) -> dict:
    """How well real pictures are told from made ones: AUC on speakers that no fit has seen.

    Half of the speakers, and half of what was made, fit the network; the other halves are scored. What is made is
    clamped to [0, 1] and quantized as real pictures are.

    Args:
        real: pictures ``(n, 1, side, frames)``; ``speakers`` ``(n,)`` says whose they are.
        made: pictures of the method, of any number; as many as the real ones are best. Where they are tokens, too,
            ``makers`` says whose they are, and no speaker is in both halves.
        fits: fits with other halves and another start each.

    Returns:
        ``auc``, the mean of all fits, and ``fits``, each of them.
    """
    each = []
    for fit in range(fits):
        rng = np.random.default_rng([seed, fit])
        others = np.setdiff1d(speakers[:0] if makers is None else makers, speakers)
        groups = [rng.permutation(people) for people in (np.unique(speakers), others)]
        chosen = np.concatenate([people[: len(people) // 2] for people in groups])
        fitted, learned = np.isin(speakers, chosen), np.arange(len(made)) < len(made) // 2
        learned = rng.permutation(learned) if makers is None else np.isin(makers, chosen)
        each.append(_one_fit(real[fitted], made[learned], real[~fitted], made[~learned], seed + fit))
    return {"auc": float(np.mean(each)), "fits": each}


def _one_fit(real, made, unseen_real, unseen_made, seed: int) -> float:
    from sklearn.metrics import roc_auc_score

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SmallCNN().train()
        pictures = torch.cat([_seen(real), _seen(made)])
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
            scores = [
                torch.cat([network(part)[:, 0] for part in _seen(some).split(256)])
                for some in (unseen_real, unseen_made)
            ]
    truth = np.r_[np.ones(len(scores[0])), np.zeros(len(scores[1]))]
    return float(roc_auc_score(truth, torch.cat(scores).numpy()))


def _seen(pictures: torch.Tensor) -> torch.Tensor:
    """What the network sees: 256 levels, averaged over ``POOL`` x ``POOL`` pixels, about standardized."""
    return 4 * (F.avg_pool2d(restore(quantize(pictures.clamp(0, 1))), POOL) - 0.4)


def controls(real: torch.Tensor, seed: int = 0) -> dict[str, Callable[[int], torch.Tensor]]:
    """Pictures that a discriminator must recognise, made from real ones ``(n, 1, side, frames)``; each takes a number.

    Those of padded pictures keep to the extent of a real token.
    """
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(seed)
    noise = torch.Generator().manual_seed(seed)
    there = (real > 0).float()

    def some(count: int) -> torch.Tensor:
        return torch.from_numpy(rng.integers(len(real), size=count))

    def upside_down(count):
        rows = real.shape[2] - 1 if real.shape[2] <= 256 else 256  # the zeros above the highest bin stay where they are
        pictures = real[some(count)].clone()
        pictures[:, :, : rows + 1] = pictures[:, :, : rows + 1].flip(2)
        return pictures

    def pca_gaussian(count):
        parts = min(64, len(real) - 1)
        pca = PCA(parts, random_state=seed).fit(real.flatten(1).numpy())
        drawn = rng.standard_normal((count, parts)) * np.sqrt(pca.explained_variance_)
        left = rng.standard_normal((count, real[0].numel())) * np.sqrt(pca.noise_variance_)
        return torch.from_numpy(pca.inverse_transform(drawn) + left).float().view(count, *real.shape[1:])

    return {
        "PCA-Gaussian": pca_gaussian,
        "means of 8 tokens": lambda count: torch.stack([real[some(8)].mean(0) for _ in range(count)]),
        "upside-down tokens": upside_down,
        "noise in a token's extent": lambda count: (
            torch.rand(count, *real.shape[1:], generator=noise) * there[some(count)]
        ),
        "sparse dots": lambda count: (torch.rand(count, *real.shape[1:], generator=noise) < 0.02).float(),
    }
