"""The parts of a flow that are computed from pictures before or after training, not learned by gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .convolution import SCALE, InvertibleConvolution, factors
from .glow import SILENCE, Glow, gaussian, squeeze


@torch.no_grad()
def initialise(flow: Glow, y: torch.Tensor) -> None:
    """Set actnorms and the statistics of frequencies from a batch of dequantized pictures, and only once.

    In flows with tails, each level also starts with principal axes. The same batch gives the same flow.
    """
    if flow.initialised:
        return
    x = (y - SILENCE).movedim(1, -1)
    if flow.spectrum is not None:
        x = initialise_spectrum(flow, x)
    for level, steps in enumerate(flow.levels):
        x = squeeze(x, *flow.config.squeeze[level])
        convolutions = [convolution for convolution, _ in steps]
        if flow.config.tail is not None:
            initialise_rotations(convolutions, x)
        for place, convolution in enumerate(convolutions):
            initialise_actnorm(convolution, x)
            x = flow.through(steps[place : place + 1], x, False)[0]
        if level < len(flow.whiten):
            x = x.chunk(2, -1)[0]
    flow.initialised.fill_(True)


def initialise_spectrum(flow: Glow, x: torch.Tensor) -> torch.Tensor:
    """Give the pixels of each frequency a mean of 0 and a deviation of 1.

    The mean stays 0 if a quarter of the pixels is silence, so that padding stays at 0.
    """
    silent = (x.abs() < 1 / 256).float().mean() > 0.25
    mean = torch.zeros_like(flow.spectrum[0]) if silent else x.mean((0, 2, 3))
    deviation = (x[..., 0] - mean[:, None]).square().mean((0, 2)).sqrt()
    flow.spectrum.data = torch.stack([mean, _unbounded(deviation.clamp_min(1e-6).log())])
    mean, log_scale = gaussian(flow.spectrum[:, :, None, None])
    return (x - mean) * (-log_scale).exp()


def initialise_actnorm(convolution: InvertibleConvolution, x: torch.Tensor) -> None:
    """Actnorm: give each channel a root mean square of 1.

    Glow also subtracts the mean. That would move padding, most of a padded picture, away from 0, and every
    later step would move it again, by more than the width of its noise.
    """
    size = x.square().flatten(0, -2).mean(0).sqrt()
    convolution.log_scale.data = _unbounded(-size.clamp_min(1e-6).log())


def _unbounded(log_scale: torch.Tensor) -> torch.Tensor:
    """The parameter whose ``bounded`` value is ``log_scale``, within its limits."""
    return SCALE * torch.atanh((log_scale / SCALE).clamp(-0.95, 0.95))


def initialise_rotations(convolutions: list[InvertibleConvolution], x: torch.Tensor) -> None:
    """Let the first convolution of a level rotate to the principal axes of the channels, largest first.

    The last one undoes the rotations in between: an untrained level whitens and splits off what varies least.
    """
    first, last = convolutions[0], convolutions[-1]
    initialise_actnorm(first, x)
    channels = x.flatten(0, -2).double() * factors([first])[3][0].double().exp()
    first.rotation.copy_(torch.linalg.eigh(channels.T @ channels)[1].flip(1).T)
    if last is not first:
        rotation = torch.eye(len(first.rotation), dtype=torch.float64, device=x.device)
        for convolution in convolutions[1:-1]:
            rotation = convolution.rotation @ rotation
        last.rotation.copy_(rotation.T)


@torch.no_grad()
def fit_last_prior(flow: Glow, batches: Iterable[torch.Tensor]) -> None:
    """Fit the ``PrincipalAxes`` of a flow to batches of dequantized pictures."""
    size = len(flow.axes.mean)
    codes = [flow.axes.inverse(flow.flat(y.to(flow.top))[:, :size]) for y in batches]
    if codes:
        flow.axes.fit(torch.cat(codes))
