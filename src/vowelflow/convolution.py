"""Convolutions of ``(batch, height, width, channels)``: plain ones, and Glow's invertible 1x1 convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

# All scales are bounded, so that the inverse is finite and accurate whatever is learned.
SCALE = 4.0  # bound of actnorm's log-scale
DIAGONAL = 1.0  # bound of log D
TRIANGLE = 2 / 3  # bound of the spectral norms of L - I and U - I


def bounded(value: torch.Tensor, limit: float) -> torch.Tensor:
    """Close to ``value`` where it is small, and always within (-limit, limit)."""
    return limit * torch.tanh(value / limit)


class InvertibleConvolution(nn.Module):
    """Actnorm and an invertible 1x1 convolution W = R L D U in one.

    As in Glow's LU form, L and U are triangular with a diagonal of ones, and D is diagonal. R is a constant
    rotation, where Glow has a permutation. The condition of W is below ((1 + 2/3) / (1 - 2/3))^2 e^2 = 185.
    """

    def __init__(self, channels: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        self.register_buffer("rotation", rotation.contiguous())  # stays float64: |det| must be 1
        self.lower = nn.Parameter(torch.zeros(channels, channels))
        self.upper = nn.Parameter(torch.zeros(channels, channels))
        self.log_diagonal = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))  # actnorm's

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        return F.linear(y, *self.inverse_weights())

    def inverse_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the inverse, solved in float64."""
        lower, log_diagonal, upper, log_scale = (factor[0].double() for factor in factors([self]))
        weight = torch.linalg.solve_triangular(lower, self.rotation.T, upper=False, unitriangular=True)
        weight = weight * (-log_diagonal).exp()[:, None]
        weight = torch.linalg.solve_triangular(upper, weight, upper=True, unitriangular=True)
        scale = (-log_scale).exp()
        return (weight * scale[:, None]).to(self.shift.dtype), (-self.shift * scale).to(self.shift.dtype)


def weights_of(convolutions: Sequence[InvertibleConvolution]) -> tuple[torch.Tensor, ...]:
    """Of k convolutions: weights ``(k, c, c)``, biases ``(k, c)``, log-determinants per position ``(k,)``."""
    lower, log_diagonal, upper, log_scale = factors(convolutions)
    rotation = torch.stack([one.rotation for one in convolutions]).to(lower.dtype)
    weight = rotation @ (lower * log_diagonal.exp()[:, None]) @ upper
    bias = (weight @ torch.stack([one.shift for one in convolutions])[:, :, None])[:, :, 0]
    return weight * log_scale.exp()[:, None], bias, log_diagonal.sum(1) + log_scale.sum(1)


def factors(convolutions: Sequence[InvertibleConvolution]) -> tuple[torch.Tensor, ...]:
    """L, log D, U and actnorm's log-scale of k convolutions, stacked."""
    lower, log_diagonal, upper, log_scale = (
        torch.stack([getattr(one, name) for one in convolutions])
        for name in ("lower", "log_diagonal", "upper", "log_scale")
    )
    triangles = unit_triangles(lower.tril(-1)), unit_triangles(upper.triu(1))
    return triangles[0], bounded(log_diagonal, DIAGONAL), triangles[1], bounded(log_scale, SCALE)


def unit_triangles(strict: torch.Tensor) -> torch.Tensor:
    """I + N for each of ``(k, c, c)``: N is close to ``strict``, with a spectral norm below ``TRIANGLE``.

    The fourth root of the sum of the fourth powers of the singular values is above the largest of them, below
    the Frobenius norm, and smooth at 0.
    """
    fourth_power = (strict.mT @ strict).square().sum((1, 2), keepdim=True)
    strict = strict * (1 + fourth_power / TRIANGLE**4) ** -0.25
    return strict + torch.eye(strict.shape[-1], dtype=strict.dtype, device=strict.device)


class Convolution(nn.Conv2d):
    """A convolution; 1x1 as a matrix product, which is faster. With ``zeros``, all weights start at 0."""

    def __init__(self, channels: int, out: int, kernel: int | tuple[int, int], zeros: bool = False):
        super().__init__(channels, out, kernel, padding="same")
        if zeros:
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kernel_size == (1, 1):
            return F.linear(x, self.weight[:, :, 0, 0], self.bias)
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
