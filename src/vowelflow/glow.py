"""Glow: an invertible map between pictures and Gaussian codes.

The paper's section 3 in one file, top to bottom: a picture is squeezed (space to channels), goes
through steps of actnorm, invertible 1x1 convolution and affine coupling, half of the channels are
split off, and the other half goes on to the next, coarser level (Dinh et al. 2017; Kingma and
Dhariwal 2018). Split-off channels are whitened by a prior learned from the half that stays, so the
whole code, one number a pixel, is standard normal under the model and ``decode(encode(x))`` gives
the picture back.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from .base import InputError
from .latent import Code, random_code, vectors
from .spectrogram import OBSERVATIONS, VOWEL, quantize

# cuDNN rounds float32 to 10 bits by default, and an inverse amplifies that: decode(encode(x)) would be off by 0.01.
torch.backends.cudnn.allow_tf32 = False

LOG_2PI = math.log(2 * math.pi)

# Every scale is bounded, so no step has an inverse that is infinite or lost in rounding. The input of every coupling's
# network is bounded too, and so are its shifts: otherwise a large shift makes the next one larger, over all steps.
PRIOR = 4.0  # a prior's deviation, and actnorm's scale, by e^-4 to e^4
DIAGONAL = 1.0  # the convolution's diagonal lies in e^-1 to e^1,
TRIANGLE = 2 / 3  # and its triangles within this norm of the identity
SILENCE = 0.5 / 256  # the middle of the lowest level, where padding lies: it is 0 to the flow


@dataclass(frozen=True)
class GlowConfig:
    """Shape of a flow: one level for each width in ``hidden``, finest level first."""

    side: int = VOWEL.side  # pixels of a picture from low to high frequency,
    frames: int = VOWEL.frames  # and along time
    # Pixels that become channels, by level. The last level has one place, so that its steps see all of a picture.
    squeeze: tuple[tuple[int, int], ...] = ((2, 8), (2, 2), (2, 2), (2, 1), (2, 1), (2, 1), (2, 1), (2, 3))
    steps: int | tuple[int, ...] = (8, 8, 8, 8, 6, 6, 6, 4)  # of each level
    hidden: tuple[int, ...] = (64, 128, 160, 160, 128, 128, 128, 128)  # width of the couplings' networks, by level
    prior: int = 64  # width of the network of a split's prior; 0 for a single convolution
    tail: float | None = 2.0  # couplings scale what is within so much of 0, and only shift the rest; None: no tails
    rows: bool = (
        True  # whether it knows at what frequency it is, which convolutions hardly do: see ``Network`` and ``Glow``
    )
    axes: int = 48  # principal axes of the coarsest scales' prior; 0: its numbers are independent
    last: int = 1  # size of the last convolution of the networks, after one of 3x3 and one of 1x1
    coupling: float = (
        1.0  # a coupling multiplies by e^-1 to e^1: vowels ask for no more, and noise would take all there is
    )
    scale: str = (
        "tanh"  # it multiplies by exp(c tanh(s / c)), or, "sigmoid", sigmoid(s + 2) above e^-c, c being ``coupling``
    )
    reach: float = 8.0  # bound of what coupling networks see, many times what they meet in pictures

    def __post_init__(self):
        if isinstance(self.steps, int):
            object.__setattr__(self, "steps", (self.steps,) * len(self.hidden))
        height, width = (math.prod(pair[axis] for pair in self.squeeze) for axis in (0, 1))
        levels = {len(self.hidden), len(self.squeeze), len(self.steps)}
        if len(levels) > 1 or self.side % height or self.frames % width:
            raise InputError(
                f"hidden {self.hidden}, steps {self.steps} and squeeze {self.squeeze} need one entry for each level, "
                f"and a side of {self.side} and {self.frames} frames must be multiples of {height} and {width}"
            )

    @property
    def size(self) -> int:
        """How many pixels a picture has, and numbers its code."""
        return self.side * self.frames


def bounded(value: torch.Tensor, limit: float) -> torch.Tensor:
    """Nearly ``value`` where it is small, and never outside (-limit, limit)."""
    return limit * torch.tanh(value / limit)


def stretch(x: torch.Tensor, log_scale: torch.Tensor, tail: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """``x`` times exp(log_scale) within ``tail`` of 0 and x + constant beyond, and the log-derivative.

    Tails of slope 1 keep the inverse from multiplying what is far from the data again at every step, which is
    how the inverse of an affine coupling explodes (Behrmann et al. 2021).
    """
    if tail is None:
        return x * log_scale.exp(), log_scale
    return x + torch.expm1(log_scale) * x.clamp(-tail, tail), log_scale * (x.abs() <= tail)


def unstretch(y: torch.Tensor, log_scale: torch.Tensor, tail: float | None) -> torch.Tensor:
    """The inverse of ``stretch``."""
    if tail is None:
        return y * (-log_scale).exp()
    edge = tail * log_scale.exp()
    return y + torch.expm1(-log_scale) * torch.minimum(torch.maximum(y, -edge), edge)


class Mix(nn.Module):
    """Actnorm folded into an invertible 1x1 convolution, W = R L D U.

    As in Glow's LU form, L and U are triangles with ones on the diagonal and D is diagonal; R is the
    rotation that W starts as, where Glow has a random rotation's permutation. L - I and U - I keep a
    spectral norm below ``TRIANGLE`` and log D stays within ``DIAGONAL``, so the condition of W is
    under ((1 + 2/3) / (1 - 2/3))^2 e^2 = 185, whatever is learned.
    """

    def __init__(self, channels: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        self.register_buffer("rotation", rotation.contiguous())  # stays float64: |det| must be 1
        self.lower = nn.Parameter(torch.zeros(channels, channels))
        self.upper = nn.Parameter(torch.zeros(channels, channels))
        self.log_diagonal = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def initialise(self, x: torch.Tensor) -> None:
        """Actnorm's start: every channel of this batch gets, within its bound, a root mean square of 1.

        Glow's also takes the mean away. On padded pictures that would move padding, which is most of a picture, away
        from 0, and every weight of a later step would move it on: by more than its own noise is wide.
        """
        wanted = -x.square().flatten(0, -2).mean(0).sqrt().clamp_min(1e-6).log() / PRIOR
        self.log_scale.data = PRIOR * torch.atanh(wanted.clamp(-0.95, 0.95))

    def factors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """L, log D, U and actnorm's log-scale."""
        return tuple(factor[0] for factor in _factors([self]))

    def weights(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The folded convolution: weight, bias, and the log-determinant at one pixel."""
        return tuple(part[0] for part in folded([self]))

    def inverse_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the inverse, solved in float64: it is tiny."""
        lower, log_diagonal, upper, log_scale = (factor.double() for factor in self.factors())
        unmixed = torch.linalg.solve_triangular(lower, self.rotation.T, upper=False, unitriangular=True)
        unmixed = unmixed * (-log_diagonal).exp()[:, None]
        weight = torch.linalg.solve_triangular(upper, unmixed, upper=True, unitriangular=True)
        back = (-log_scale).exp()
        return (weight * back[:, None]).to(self.shift.dtype), (-self.shift * back).to(self.shift.dtype)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        """``(batch, height, width, channels)`` as it was before."""
        return F.linear(y, *self.inverse_weights())


def folded(mixes: Sequence[Mix]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of several mixes of equal size at once: weights ``(k, c, c)``, biases ``(k, c)`` and log-determinants at one pixel ``(k,)``."""
    lower, log_diagonal, upper, log_scale = _factors(mixes)
    rotation = torch.stack([mix.rotation for mix in mixes]).to(lower.dtype)
    mixed = rotation @ (lower * log_diagonal.exp()[:, None]) @ upper
    bias = (mixed @ torch.stack([mix.shift for mix in mixes])[:, :, None])[:, :, 0]
    return mixed * log_scale.exp()[:, None], bias, log_diagonal.sum(1) + log_scale.sum(1)


def _factors(mixes: Sequence[Mix]) -> tuple[torch.Tensor, ...]:
    names = ("lower", "log_diagonal", "upper", "log_scale")
    lower, log_diagonal, upper, log_scale = (torch.stack([getattr(mix, name) for mix in mixes]) for name in names)
    triangles = _triangle(lower.tril(-1)), _triangle(upper.triu(1))
    return triangles[0], bounded(log_diagonal, DIAGONAL), triangles[1], bounded(log_scale, PRIOR)


def _triangle(strict: torch.Tensor) -> torch.Tensor:
    """I + N for each of ``(k, c, c)``, with N nearly ``strict`` and of spectral norm under ``TRIANGLE``.

    The fourth root of the sum of the fourth powers of the singular values is above the largest, is
    less than the usual norm for a dense matrix, and is smooth at 0.
    """
    fourth_power = (strict.mT @ strict).square().sum((1, 2), keepdim=True)
    strict = strict * (1 + fourth_power / TRIANGLE**4) ** -0.25
    return strict + torch.eye(strict.shape[-1], dtype=strict.dtype, device=strict.device)


def principal_start(mixes: list[Mix], x: torch.Tensor) -> None:
    """Let the first of a level's mixes rotate to the principal axes of this batch's channels, largest first, and the
    last undo all rotations in between: an untrained level whitens, and what is split off is what varies least.
    """
    mixes[0].initialise(x)
    channels = x.flatten(0, -2).double() * mixes[0].factors()[3].double().exp()
    mixes[0].rotation.copy_(torch.linalg.eigh(channels.T @ channels)[1].flip(1).T)
    between = torch.eye(len(mixes[0].rotation), dtype=torch.float64, device=x.device)
    for mix in mixes[1:-1]:
        between = mix.rotation @ between
    if len(mixes) > 1:
        mixes[-1].rotation.copy_(between.T)


class Network(nn.Sequential):
    """What is learned of a coupling or a prior: three convolutions, the last of which starts as 0.

    ``places`` are the height and width of its input, which has nothing beside a place where one of these is 1. If
    ``config.rows``, a learned vector for each row, that is, frequency, is added to the input.
    """

    def __init__(self, channels: int, hidden: int, out: int, places: tuple[int, int], config: GlowConfig):
        kernel, last = tuple(3 if places > 1 else 1 for places in places), config.last
        super().__init__(
            nn.Conv2d(channels, hidden, kernel, padding=(kernel[0] // 2, kernel[1] // 2)),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, out, last, padding=last // 2),
        )
        nn.init.zeros_(self[-1].weight)
        nn.init.zeros_(self[-1].bias)
        self.rows = nn.Parameter(torch.zeros(places[0], 1, channels)) if config.rows else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, height, width, channels)`` -> ``(batch, height, width, out)``."""
        x = x if self.rows is None else x + self.rows
        return convolved(self[4], F.relu(convolved(self[2], F.relu(convolved(self[0], x)))))


def convolved(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """A convolution of ``(batch, height, width, channels)``; one of 1x1 is a matrix product, which is faster."""
    if layer.kernel_size == (1, 1):
        return F.linear(x, layer.weight[:, :, 0, 0], layer.bias)
    return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Coupling(nn.Module):
    """Affine coupling: one half of the channels scales and shifts the other."""

    def __init__(self, channels: int, hidden: int, places: tuple[int, int], config: GlowConfig):
        super().__init__()
        self.config = config
        self.network = Network(channels // 2, hidden, channels, places, config)

    def scale_and_shift(self, kept: torch.Tensor, autocast: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-scale and shift for the changed half, each of the shape of ``kept``."""
        kept = seen(kept, self.config)
        with torch.autocast(kept.device.type, torch.bfloat16, enabled=autocast):
            raw = self.network(kept).to(kept.dtype)
        shift, log_scale = raw.chunk(2, -1)
        if self.config.scale == "sigmoid":
            least = math.exp(-self.config.coupling)
            return (least + (1 - least) * torch.sigmoid(log_scale + 2)).log(), shift
        return bounded(log_scale, self.config.coupling), shift

    def forward(self, x: torch.Tensor, autocast: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """``(batch, height, width, channels)`` with its second half changed, and log-determinants ``(batch, height, width)``."""
        kept, changed = x.chunk(2, -1)
        log_scale, shift = self.scale_and_shift(kept, autocast)
        changed, gain = stretch(changed, log_scale, self.config.tail)
        return torch.cat([kept, changed + shift], -1), gain.sum(-1)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        kept, changed = y.chunk(2, -1)
        log_scale, shift = self.scale_and_shift(kept, False)
        return torch.cat([kept, unstretch(changed - shift, log_scale, self.config.tail)], -1)


def seen(kept: torch.Tensor, config: GlowConfig) -> torch.Tensor:
    """What a network sees of a half: bounded by ``reach``; softly where there are no tails, as flows without them learned."""
    return bounded(kept, config.reach) if config.tail is None else kept.clamp(-config.reach, config.reach)


class Whiten(nn.Module):
    """The learned prior of a split: mean and log-scale of what leaves, from what stays."""

    def __init__(self, channels: int, places: tuple[int, int], config: GlowConfig):
        super().__init__()
        self.config = config
        if config.prior:
            self.network = Network(channels, config.prior, 2 * channels, places, config)
        else:
            self.network = nn.Conv2d(channels, 2 * channels, 3, padding=1)
            nn.init.zeros_(self.network.weight)
            nn.init.zeros_(self.network.bias)

    def prior(self, stays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw = self.network(seen(stays, self.config)) if self.config.prior else convolved(self.network, stays)
        mean, log_scale = raw.chunk(2, -1)
        return mean, bounded(log_scale, PRIOR)

    def forward(self, leaves, stays) -> tuple[torch.Tensor, torch.Tensor]:
        """What leaves, standard normal if the prior is right, and log-determinants ``(batch, height, width)``."""
        mean, log_scale = self.prior(stays)
        white, gain = stretch(leaves - mean, -log_scale, self.config.tail)
        return white, gain.sum(-1)

    def inverse(self, white, stays) -> torch.Tensor:
        mean, log_scale = self.prior(stays)
        return unstretch(white, -log_scale, self.config.tail) + mean


class Axes(nn.Module):
    """The last prior: a Gaussian of whole codes' coarsest scales, as mean, deviation and principal axes, fitted in closed form.

    y = x' + U^T (e^s - 1) U x' with x' = (x - mean) / deviation, and orthonormal rows of U. Convolutions mix what is near,
    so what places far apart have in common is left in the codes. It is worth a few nats of a picture, too little for a
    gradient of few pictures to find, and it is much of what tells samples from speech. It starts as the identity.
    """

    def __init__(self, size: int, count: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("log_deviation", torch.zeros(size))
        self.register_buffer("vectors", torch.eye(min(count, size), size, dtype=torch.float64))  # as rotations are
        self.register_buffer("log_scale", torch.zeros(min(count, size)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._scaled((x - self.mean) * (-self.log_deviation).exp(), self.log_scale)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        return self._scaled(y, -self.log_scale) * self.log_deviation.exp() + self.mean

    def log_determinant(self) -> torch.Tensor:
        return self.log_scale.sum() - self.log_deviation.sum()

    def _scaled(self, x, log_scale):
        axes = self.vectors.to(x.dtype)
        return x + (x @ axes.T * torch.expm1(log_scale)) @ axes

    @torch.no_grad()
    def fit(self, x: torch.Tensor) -> None:
        """Fit codes ``(n, size)`` by probabilistic principal component analysis (Tipping and Bishop 1999).

        Eigenvalues are shrunk, as n codes exaggerate them, and those that so few codes do not tell from noise become 1
        (Baik and Silverstein 2006). Fewer codes than twice the axes change nothing.
        """
        (n, size), count = x.shape, len(self.log_scale)
        if n < 2 * count:
            return
        mean, deviation = x.mean(0), x.std(0).clamp(math.exp(-PRIOR), math.exp(PRIOR))
        white = (x - mean) / deviation
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            _, singular, axes = torch.svd_lowrank(white, min(count + 16, n, size), niter=4)
        found = singular[:count].square() / n
        found = found / ((size - found.sum()) / max(size - count, 1)).clamp_min(1e-6)
        ratio = size / n
        middle = found + 1 - ratio
        real = (middle + (middle.square() - 4 * found).clamp_min(0).sqrt()) / 2
        real = torch.where(found > (1 + math.sqrt(ratio)) ** 2, real, torch.ones_like(real))
        rest = size / (size + float((real - 1).sum()))  # the variance of what no axis scales
        self.mean.copy_(mean)
        self.log_deviation.copy_(deviation.log() + 0.5 * math.log(rest))
        self.vectors.copy_(torch.linalg.qr(axes[:, :count].double())[0].T)
        self.log_scale.copy_(-0.5 * real.log())


def through(steps, x: torch.Tensor, autocast: bool, initialise: bool = False):
    """Some steps of one level: what becomes of ``x``, and their log-determinants ``(batch, height, width)``."""
    log_determinant = x.new_zeros(x.shape[:3])
    weights, biases, gains = folded([mix for mix, _ in steps])
    for place, (mix, coupling) in enumerate(steps):
        if initialise:
            mix.initialise(x)
            weights, biases, gains = folded([mix for mix, _ in steps])
        x, gain = coupling(F.linear(x, weights[place], biases[place]), autocast)
        log_determinant = log_determinant + gain
    return x, log_determinant + gains.sum()


def squeeze(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Blocks of ``rows`` x ``columns`` pixels of ``(batch, height, width, channels)`` become channels."""
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // rows, rows, width // columns, columns, channels)
    return blocks.permute(0, 1, 3, 5, 2, 4).flatten(3)


def unsqueeze(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The inverse of ``squeeze``."""
    return x.unflatten(3, (-1, rows, columns)).permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2)


class Glow(nn.Module):
    """The multi-scale flow. Pictures are ``(batch, 1, side, frames)``, codes ``(batch, side * frames)``."""

    def __init__(self, config: GlowConfig = GlowConfig()):
        super().__init__()
        self.config = config
        self.levels, self.whiten, self.shapes = nn.ModuleList(), nn.ModuleList(), []
        channels, side, frames = 1, config.side, config.frames
        for level, (steps, hidden, (rows, columns)) in enumerate(zip(config.steps, config.hidden, config.squeeze)):
            channels, side, frames = rows * columns * channels, side // rows, frames // columns
            places = side, frames
            self.levels.append(
                nn.ModuleList(
                    nn.ModuleList([Mix(channels), Coupling(channels, hidden, places, config)]) for _ in range(steps)
                )
            )
            if level < len(config.hidden) - 1:
                channels //= 2
                self.whiten.append(Whiten(channels, places, config))
            self.shapes.append((channels, side, frames))  # of what this level adds to the code
        # Mean and log-deviation: of the last scale, and, where it knows frequencies, of the pixels of each.
        self.top = nn.Parameter(torch.zeros(2, channels, side if config.rows else 1, 1))
        self.spectrum = nn.Parameter(torch.zeros(2, config.side)) if config.rows else None
        self.axes = Axes(self._coarsest(8), config.axes) if config.axes else None
        self.register_buffer("initialised", torch.tensor(False))
        self.through = through  # training on a GPU puts a compiled one here

    @property
    def top_size(self) -> int:
        """How many numbers the top code has: the coarsest scales, a quarter of all at most."""
        return self._coarsest(4)

    def _coarsest(self, share: int) -> int:
        """How many numbers the coarsest scales have, as many scales as make at most one ``share``-th of the code."""
        sizes = np.cumsum([math.prod(shape) for shape in reversed(self.shapes)])
        return int(max(size for size in sizes if size <= max(self.config.size // share, sizes[0])))

    def forward(self, y: torch.Tensor, autocast: bool = False, checkpoint: int = 0, initialise: bool = False):
        """Dequantized pictures -> scales of the code, and log-determinants by place, both finest level first.

        Args:
            autocast: bfloat16 in the coupling networks. For training only: decoding amplifies the
                difference between two roundings.
            checkpoint: keep nothing within so many steps, but go through them again for the
                gradient (Chen et al. 2016); 0 keeps all.
        """
        x, scales, log_determinants = (y - SILENCE).movedim(1, -1), [], []
        if self.spectrum is not None:
            if initialise:
                self._start_spectrum(x)
            mean, log_scale = self._spectrum()
            x = (x - mean) * (-log_scale).exp()
        for level, steps in enumerate(self.levels):
            x = squeeze(x, *self.config.squeeze[level])
            if initialise and self.config.tail is not None:
                principal_start([mix for mix, _ in steps], x)
            stride, log_determinant = checkpoint or len(steps), 0.0
            for start in range(0, len(steps), stride):
                part = steps[start : start + stride]
                if checkpoint and not initialise:
                    x, gain = recomputed(self.through, part, x, autocast, use_reentrant=False, preserve_rng_state=False)
                else:
                    x, gain = self.through(part, x, autocast, initialise)
                log_determinant = log_determinant + gain
            if level < len(self.whiten):
                x, leaves = x.chunk(2, -1)
                white, gain = self.whiten[level](leaves, x)
                log_determinant = log_determinant + gain
                scales.append(white.movedim(-1, 1))
            log_determinants.append(log_determinant)
        if self.spectrum is not None:  # summed over the pixels of each place of the finest level
            rows, columns = self.config.squeeze[0]
            log_determinants[0] = log_determinants[0] - columns * self._spectrum()[1].view(-1, 1, rows).sum(2)
        mean, log_scale = self._last_prior()
        scales.append((x.movedim(-1, 1) - mean) * (-log_scale).exp())
        log_determinants[-1] = log_determinants[-1] - log_scale.sum(0)
        if self.axes:  # shared out among the places of the coarsest level
            count = len(self.scales(self.axes.mean[None]))
            scales[-count:] = reversed(self.scales(self.axes(self._flat(scales[-count:]))))
            log_determinants[-1] = log_determinants[-1] + self.axes.log_determinant() / log_determinants[-1][0].numel()
        return scales, log_determinants

    def flat(self, y: torch.Tensor) -> torch.Tensor:
        """Dequantized pictures -> whole codes ``(batch, size)``, coarsest scale first."""
        return self._flat(self.forward(y)[0])

    @staticmethod
    def _flat(scales: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([scale.flatten(1) for scale in reversed(scales)], 1)

    def inverse(self, flat: torch.Tensor) -> torch.Tensor:
        """Whole codes ``(batch, size)`` -> pictures, neither clamped nor repaired."""
        mean, log_scale = self._last_prior()
        if self.axes:
            size = len(self.axes.mean)
            flat = torch.cat([self.axes.inverse(flat[:, :size]), flat[:, size:]], 1)
        scales = self.scales(flat)
        x = (scales[0] * log_scale.exp() + mean).movedim(1, -1)
        for level in reversed(range(len(self.levels))):
            if level < len(self.whiten):
                x = torch.cat([x, self.whiten[level].inverse(scales[-1 - level].movedim(1, -1), x)], -1)
            for mix, coupling in reversed(self.levels[level]):
                x = mix.inverse(coupling.inverse(x))
            x = unsqueeze(x, *self.config.squeeze[level])
        if self.spectrum is not None:
            mean, log_scale = self._spectrum()
            x = x * log_scale.exp() + mean
        return x.movedim(-1, 1) + SILENCE

    def _spectrum(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-deviation of the pixels of each frequency, ``(side, 1, 1)``."""
        return self.spectrum[0, :, None, None], bounded(self.spectrum[1], PRIOR)[:, None, None]

    def _start_spectrum(self, x: torch.Tensor) -> None:
        """Of this batch, within its bound. The mean stays 0 where a quarter is silence, so that padding stays at 0."""
        silent = (x.abs() < 1 / 256).float().mean() > 0.25
        mean = torch.zeros_like(self.spectrum[0]) if silent else x.mean((0, 2, 3))
        wanted = (x[..., 0] - mean[:, None]).square().mean((0, 2)).sqrt().clamp_min(1e-6).log() / PRIOR
        self.spectrum.data = torch.stack([mean, PRIOR * torch.atanh(wanted.clamp(-0.95, 0.95))])

    def _last_prior(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.top[0], bounded(self.top[1], PRIOR)

    @torch.no_grad()
    def fit_axes(self, batches: Iterable[torch.Tensor]) -> None:
        """Fit the last prior to these batches of dequantized pictures."""
        codes = [self.axes.inverse(self.flat(y.to(self.top))[:, : len(self.axes.mean)]) for y in batches]
        if codes:
            self.axes.fit(torch.cat(codes))

    def scales(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """The scales of whole codes, or of a code's coarsest scales, coarsest first, each ``(batch, channels, frequency, time)``."""
        ends = np.cumsum([math.prod(shape) for shape in reversed(self.shapes)])
        shapes = [shape for shape, end in zip(reversed(self.shapes), ends) if end <= flat.shape[1]]
        parts = flat.split([math.prod(shape) for shape in shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes)]

    @torch.no_grad()
    def initialise(self, y: torch.Tensor) -> None:
        """Set every actnorm from one batch of dequantized pictures; a flow that has been set stays as it is.

        Processes of a distributed run that give the same batch get the same flow, bit for bit.
        """
        if not self.initialised:
            self.forward(y, initialise=True)
            self.initialised.fill_(True)

    def log_likelihood(self, y: torch.Tensor, autocast: bool = False, checkpoint: int = 0) -> torch.Tensor:
        """log p(y) of dequantized pictures, nats, ``(batch,)``: change of variables, paper eq. 3."""
        scales, log_determinants = self.forward(y, autocast, checkpoint)
        energy = sum(scale.square().sum((1, 2, 3)) for scale in scales)
        return sum(part.sum((1, 2)) for part in log_determinants) - 0.5 * (energy + LOG_2PI * self.config.size)

    @torch.no_grad()
    def allocation(self, pictures: torch.Tensor, seed: int = 0, batch: int = 8) -> torch.Tensor:
        """Bits of each pixel ``(n, side, frames)``, whose mean is ``bits_per_dim`` of one draw of the noise.

        The bits of a place of a level, of its prior and its log-determinant, are shared out evenly among the
        pixels it covers. That is an allocation: a pixel's bits depend on its surroundings, too.
        """
        parts = []
        for y in dequantize(self._checked(pictures), seed).split(batch):
            bits = 8.0
            for scale, gain in zip(*self.forward(y.to(self.top))):
                nats = gain - 0.5 * (scale.square() + LOG_2PI).sum(1)
                rows, columns = self.config.side // scale.shape[2], self.config.frames // scale.shape[3]
                spread = nats.repeat_interleave(rows, 1).repeat_interleave(columns, 2)
                bits = bits - spread / (rows * columns) / math.log(2)
            parts.append(bits.cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor, seed: int = 0, batch: int = 8) -> Code:
        """Pictures in [0, 1] -> whole codes, with dequantization noise keyed by (seed, picture).

        Raises:
            InputError: another shape, or values that are not finite or not in [0, 1].
        """
        image = dequantize(self._checked(pictures), seed)
        flat = torch.cat([self.flat(part.to(self.top)).cpu() for part in image.split(batch)])
        return Code(flat, self.top_size, image)

    @torch.no_grad()
    def decode(self, code: Code | torch.Tensor, batch: int = 8) -> torch.Tensor:
        """Whole codes -> pictures ``(n, 1, side, frames)``; of ``encode``'s own result, its ``image``."""
        flat = vectors(code)
        if flat.ndim != 2 or flat.shape[1] != self.config.size:
            raise InputError(f"codes are (n, {self.config.size}), not {tuple(flat.shape)}")
        if not torch.isfinite(flat).all():
            raise InputError("codes must be finite: one of these has a number that is not")
        return torch.cat([self.inverse(part.to(self.top)).cpu() for part in flat.split(batch)])

    @torch.no_grad()
    def bits_per_dim(self, pictures: torch.Tensor, draws: int = 8, seed: int = 0, batch: int = 8) -> torch.Tensor:
        """-log2 p(y) / d + 8 of every picture ``(n,)``, bits, mean over draws of the noise.

        The 8 takes the density of y in [0, 1] back to the 256 levels of a pixel (Theis et al. 2016).
        """
        pictures, total = self._checked(pictures), 0.0
        for draw in range(draws):
            parts = dequantize(pictures, seed + draw).split(batch)
            total = total + torch.cat([self.log_likelihood(part.to(self.top)).cpu() for part in parts])
        return 8 - total / draws / math.log(2) / self.config.size

    def sample(self, n: int, temperature: float = 1.0, seed: int = 0) -> torch.Tensor:
        """Pictures of ``n`` random codes of standard deviation ``temperature``; ``InputError`` if either is below 0 or infinite."""
        if n < 0 or not 0 <= temperature < math.inf:
            raise InputError(f"{n} samples of temperature {temperature}: both are 0 or more")
        return self.decode(random_code(n, self.config.size, seed) * temperature)

    def _checked(self, pictures: torch.Tensor) -> torch.Tensor:
        pictures, shape = torch.as_tensor(pictures), (1, self.config.side, self.config.frames)
        if pictures.ndim != 4 or pictures.shape[1:] != shape or not len(pictures):
            names = {one.shape: f" of the observation {one.name!r}" for one in OBSERVATIONS.values()}
            raise InputError(
                f"this flow's pictures are (n, {', '.join(map(str, shape))}){names.get(shape[1:], '')}, at least one,"
                f" not {tuple(pictures.shape)}{names.get(tuple(pictures.shape[2:]), '')}"
            )
        if not (torch.isfinite(pictures).all() and pictures.min() >= 0 and pictures.max() <= 1):
            raise InputError("pictures must be finite and in [0, 1], as vf.images makes them")
        return pictures


def dequantize(pictures: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """y = (q + u) / 256 with u uniform in [0, 1), keyed by (seed, picture).

    The key of a picture is a hash of its levels, so neither batch nor order changes its noise. ``InputError`` outside [0, 1].
    """
    if not ((pictures >= 0) & (pictures <= 1)).all():
        raise InputError("pictures must be finite and in [0, 1], as vf.images makes them")
    levels = quantize(pictures)
    noise = torch.empty(levels.shape)
    for row, picture in enumerate(levels):
        key = hashlib.blake2b(picture.numpy().tobytes(), digest_size=8).digest()
        rng = np.random.default_rng([seed, int.from_bytes(key, "little")])
        noise[row] = torch.from_numpy(rng.random(picture.shape, dtype=np.float32))
    return (levels + noise) / 256
