"""The prior of a flow's coarsest scales: a Gaussian with principal axes, fitted in closed form."""

from __future__ import annotations

import math

import torch
from torch import nn

LIMIT = 4.0  # bound of log-deviations


class PrincipalAxes(nn.Module):
    """A Gaussian with a mean, a deviation and principal axes. It starts as the standard normal distribution.

    y = x' + U^T (e^s - 1) U x' with x' = (x - mean) / deviation and orthonormal rows of U is standard normal.
    Convolutions mix what is near; this accounts for what distant positions share. That is a few nats per
    picture, too few for gradients of small batches, but much of the difference between samples and speech.
    """

    def __init__(self, size: int, count: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("log_deviation", torch.zeros(size))
        self.register_buffer("vectors", torch.eye(min(count, size), size, dtype=torch.float64))
        self.register_buffer("log_scale", torch.zeros(min(count, size)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._scaled((x - self.mean) * (-self.log_deviation).exp(), self.log_scale)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        return self._scaled(y, -self.log_scale) * self.log_deviation.exp() + self.mean

    def log_determinant(self) -> torch.Tensor:
        return self.log_scale.sum() - self.log_deviation.sum()

    def _scaled(self, x: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        axes = self.vectors.to(x.dtype)
        return x + (x @ axes.T * torch.expm1(log_scale)) @ axes

    @torch.no_grad()
    def fit(self, x: torch.Tensor) -> None:
        """Fit ``x`` ``(n, size)`` by probabilistic principal component analysis (Tipping and Bishop 1999).

        The largest eigenvalues of few rows are too large and are shrunk; those that noise explains become 1
        (Baik and Silverstein 2006). Fewer than two rows for each axis change nothing.
        """
        (n, size), count = x.shape, len(self.log_scale)
        if n < 2 * count:
            return
        mean, deviation = x.mean(0), x.std(0).clamp(math.exp(-LIMIT), math.exp(LIMIT))
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            _, singular, axes = torch.svd_lowrank((x - mean) / deviation, min(count + 16, n, size), niter=4)
        sampled = singular[:count].square() / n
        sampled = sampled / ((size - sampled.sum()) / max(size - count, 1)).clamp_min(1e-6)
        ratio = size / n
        middle = sampled + 1 - ratio
        eigenvalues = (middle + (middle.square() - 4 * sampled).clamp_min(0).sqrt()) / 2
        eigenvalues = eigenvalues.where(sampled > (1 + math.sqrt(ratio)) ** 2, 1.0)
        rest = size / (size + float((eigenvalues - 1).sum()))  # the variance that no axis scales
        self.mean.copy_(mean)
        self.log_deviation.copy_(deviation.log() + 0.5 * math.log(rest))
        self.vectors.copy_(torch.linalg.qr(axes[:, :count].double())[0].T)
        self.log_scale.copy_(-0.5 * eigenvalues.log())
