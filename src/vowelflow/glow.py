"""Glow: an invertible map between pictures and Gaussian codes (paper, section 3).

Each level squeezes pixels into channels, applies steps of actnorm, invertible 1x1 convolution and affine
coupling, and splits off half of the channels (Dinh et al. 2017; Kingma and Dhariwal 2018). A learned prior
whitens the channels that leave, given those that stay: the whole code is standard normal under the model.
Inside the flow, tensors are ``(batch, height, width, channels)``; height is frequency, width is time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint as recomputed

from .base import InputError
from .convolution import SCALE, Convolution, InvertibleConvolution, bounded, weights_of
from .latent import Code, random_code, vectors
from .prior import PrincipalAxes
from .spectrogram import VOWEL, dequantize

# By default cuDNN rounds float32 to 10 bits. An inverse amplifies that: decode(encode(x)) is off by 0.01.
torch.backends.cudnn.allow_tf32 = False

LOG_2PI = math.log(2 * math.pi)
SILENCE = 0.5 / 256  # middle of the lowest pixel level, the value of padding; the flow moves it to 0


@dataclass(frozen=True)
class GlowConfig:
    """Shape of a flow. Tuples have one entry for each level, finest level first."""

    side: int = VOWEL.side  # pixels along frequency
    frames: int = VOWEL.frames  # pixels along time
    # Rows x columns that become channels. The last level has one position: its steps see the whole picture.
    squeeze: tuple[tuple[int, int], ...] = ((2, 8), (2, 2), (2, 2), (2, 1), (2, 1), (2, 1), (2, 1), (2, 3))
    steps: int | tuple[int, ...] = (8, 8, 8, 8, 6, 6, 6, 4)
    hidden: tuple[int, ...] = (64, 128, 160, 160, 128, 128, 128, 128)  # width of the couplings' networks
    prior: int = 64  # width of the split priors' networks; 0: a single convolution
    tail: float | None = 2.0  # couplings scale only values within this distance of 0; None: scale all values
    frequency_bias: bool = True  # networks add a learned vector for each frequency to their input
    axes: int = 48  # principal axes of the prior of the coarsest scales; 0: their numbers are independent
    last_kernel: int = 1  # size of the last of a network's convolutions, after 3x3 and 1x1
    coupling: float = 1.0  # c: couplings multiply by e^-c to e^c. Vowels need no more
    scale: str = "tanh"  # couplings multiply by exp(c tanh(s / c)); "sigmoid": sigmoid(s + 2), at least e^-c
    input_bound: float = 8.0  # bound of the networks' input, many times what pictures give: it bounds shifts

    def __post_init__(self):
        if isinstance(self.steps, int):
            object.__setattr__(self, "steps", (self.steps,) * len(self.hidden))
        height, width = (math.prod(pair[axis] for pair in self.squeeze) for axis in (0, 1))
        if len({len(self.hidden), len(self.squeeze), len(self.steps)}) > 1:
            raise InputError("hidden, steps and squeeze need one entry for each level")
        if self.side % height or self.frames % width:
            raise InputError(f"side and frames must be multiples of {height} and {width}")

    @property
    def size(self) -> int:
        """Number of pixels of a picture, and of dimensions of its code."""
        return self.side * self.frames


def gaussian(parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and bounded log-deviation from learned ``parameters`` ``(2, ...)``."""
    return parameters[0], bounded(parameters[1], SCALE)


def stretch(x: torch.Tensor, log_scale: torch.Tensor, tail) -> tuple[torch.Tensor, torch.Tensor]:
    """``x`` times exp(log_scale) within ``tail`` of 0, continued with slope 1; and the log-derivative.

    The tails keep inverses of couplings from exploding away from the data (Behrmann et al. 2021).
    """
    if tail is None:
        return x * log_scale.exp(), log_scale
    return x + torch.expm1(log_scale) * x.clamp(-tail, tail), log_scale * (x.abs() <= tail)


def unstretch(y: torch.Tensor, log_scale: torch.Tensor, tail) -> torch.Tensor:
    """The inverse of ``stretch``."""
    return stretch(y, -log_scale, None if tail is None else tail * log_scale.exp())[0]


class Network(nn.Sequential):
    """The network of a coupling or of a split prior: three convolutions, the last of which starts at 0."""

    def __init__(self, channels: int, hidden: int, out: int, positions: tuple[int, int], config: GlowConfig):
        kernel = tuple(3 if size > 1 else 1 for size in positions)
        super().__init__(
            Convolution(channels, hidden, kernel),
            nn.ReLU(),
            Convolution(hidden, hidden, 1),
            nn.ReLU(),
            Convolution(hidden, out, config.last_kernel, zeros=True),
        )
        self.config = config
        self.rows = nn.Parameter(torch.zeros(positions[0], 1, channels)) if config.frequency_bias else None

    def forward(self, x: torch.Tensor, autocast: bool = False) -> torch.Tensor:
        limit = self.config.input_bound
        x = bounded(x, limit) if self.config.tail is None else x.clamp(-limit, limit)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
            return super().forward(x if self.rows is None else x + self.rows).to(x.dtype)


class Coupling(nn.Module):
    """Affine coupling: one half of the channels scales and shifts the other."""

    def __init__(self, channels: int, hidden: int, positions: tuple[int, int], config: GlowConfig):
        super().__init__()
        self.config = config
        self.network = Network(channels // 2, hidden, channels, positions, config)

    def scale_and_shift(self, same: torch.Tensor, autocast: bool = False) -> tuple:
        """Log-scale and shift of the half that changes, from the half that stays the same."""
        shift, log_scale = self.network(same, autocast).chunk(2, -1)
        if self.config.scale == "sigmoid":
            least = math.exp(-self.config.coupling)
            return (least + (1 - least) * torch.sigmoid(log_scale + 2)).log(), shift
        return bounded(log_scale, self.config.coupling), shift

    def forward(self, x: torch.Tensor, autocast: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """``x`` with its second half changed, and log-determinants ``(batch, height, width)``."""
        same, changed = x.chunk(2, -1)
        log_scale, shift = self.scale_and_shift(same, autocast)
        changed, gain = stretch(changed, log_scale, self.config.tail)
        return torch.cat([same, changed + shift], -1), gain.sum(-1)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        same, changed = y.chunk(2, -1)
        log_scale, shift = self.scale_and_shift(same)
        return torch.cat([same, unstretch(changed - shift, log_scale, self.config.tail)], -1)


class SplitPrior(nn.Module):
    """The learned prior of a split: a Gaussian of the channels that leave, given those that stay."""

    def __init__(self, channels: int, positions: tuple[int, int], config: GlowConfig):
        super().__init__()
        self.tail = config.tail
        if config.prior:
            self.network = Network(channels, config.prior, 2 * channels, positions, config)
        else:
            self.network = Convolution(channels, 2 * channels, 3, zeros=True)

    def forward(self, leaves: torch.Tensor, stays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whitened channels, and log-determinants ``(batch, height, width)``."""
        mean, log_scale = gaussian(self.network(stays).chunk(2, -1))
        white, gain = stretch(leaves - mean, -log_scale, self.tail)
        return white, gain.sum(-1)

    def inverse(self, white: torch.Tensor, stays: torch.Tensor) -> torch.Tensor:
        mean, log_scale = gaussian(self.network(stays).chunk(2, -1))
        return unstretch(white, -log_scale, self.tail) + mean


def through(steps: nn.ModuleList, x: torch.Tensor, autocast: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply steps of one level to ``x``; return their log-determinants ``(batch, height, width)``, too."""
    log_determinant = x.new_zeros(x.shape[:3])
    kernels, biases, gains = weights_of([convolution for convolution, _ in steps])
    for kernel, bias, (_, coupling) in zip(kernels, biases, steps):
        x, gain = coupling(nn.functional.linear(x, kernel, bias), autocast)
        log_determinant = log_determinant + gain
    return x, log_determinant + gains.sum()


def squeeze(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Blocks of ``rows`` x ``columns`` positions become channels of one position."""
    return x.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).permute(0, 1, 3, 5, 2, 4).flatten(3)


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
        for count, hidden, (rows, columns) in zip(config.steps, config.hidden, config.squeeze):
            channels, side, frames = rows * columns * channels, side // rows, frames // columns
            self.levels.append(nn.ModuleList())
            for _ in range(count):
                step = InvertibleConvolution(channels), Coupling(channels, hidden, (side, frames), config)
                self.levels[-1].append(nn.ModuleList(step))
            if len(self.levels) < len(config.hidden):
                channels //= 2
                self.whiten.append(SplitPrior(channels, (side, frames), config))
            self.shapes.append((channels, side, frames))  # of the scale that this level adds to the code
        self.ends = [*accumulate(math.prod(shape) for shape in reversed(self.shapes))]  # of scales in a code
        # Mean and log-deviation: of the last scale and, with ``frequency_bias``, of each frequency's pixels.
        self.top = nn.Parameter(torch.zeros(2, channels, side if config.frequency_bias else 1, 1))
        self.spectrum = nn.Parameter(torch.zeros(2, config.side)) if config.frequency_bias else None
        self.axes = PrincipalAxes(self._coarsest(8), config.axes) if config.axes else None
        self.register_buffer("initialised", torch.tensor(False))
        self.through = through  # training on a GPU compiles it

    @property
    def top_size(self) -> int:
        """Length of the top code: the coarsest scales that are together at most a quarter of the code."""
        return self._coarsest(4)

    def _coarsest(self, share: int) -> int:
        """Length of the coarsest scales, at most 1 / ``share`` of the code but at least one scale."""
        return max(end for end in self.ends if end <= max(self.config.size // share, self.ends[0]))

    def forward(self, y: torch.Tensor, autocast: bool = False, checkpoint: int = 0):
        """Dequantized pictures -> scales of the code, and log-determinants by position, finest level first.

        ``autocast``: bfloat16 in couplings, for training only: an inverse amplifies rounding. ``checkpoint``:
        keep the activations of every so many steps, and recompute the others (Chen et al. 2016); 0: keep all.
        """
        memory_saving = partial(recomputed, self.through, use_reentrant=False, preserve_rng_state=False)
        run = memory_saving if checkpoint else self.through
        x, scales, log_determinants = (y - SILENCE).movedim(1, -1), [], []
        if self.spectrum is not None:
            mean, log_scale = gaussian(self.spectrum[:, :, None, None])
            x = (x - mean) * (-log_scale).exp()
        for level, steps in enumerate(self.levels):
            x, log_determinant = squeeze(x, *self.config.squeeze[level]), 0.0
            stride = checkpoint or len(steps)
            for start in range(0, len(steps), stride):
                x, gain = run(steps[start : start + stride], x, autocast)
                log_determinant = log_determinant + gain
            if level < len(self.whiten):
                x, leaves = x.chunk(2, -1)
                white, gain = self.whiten[level](leaves, x)
                log_determinant = log_determinant + gain
                scales.append(white.movedim(-1, 1))
            log_determinants.append(log_determinant)
        if self.spectrum is not None:  # the sum over the pixels of each position of the finest level
            rows, columns = self.config.squeeze[0]
            log_scale = gaussian(self.spectrum)[1].view(-1, 1, rows)
            log_determinants[0] = log_determinants[0] - columns * log_scale.sum(2)
        mean, log_scale = gaussian(self.top)
        scales.append((x.movedim(-1, 1) - mean) * (-log_scale).exp())
        log_determinants[-1] = log_determinants[-1] - log_scale.sum(0)
        if self.axes:  # its log-determinant is divided evenly among the positions of the coarsest level
            count = len(self.scales(self.axes.mean[None]))
            coarsest = torch.cat([scale.flatten(1) for scale in reversed(scales[-count:])], 1)
            scales[-count:] = reversed(self.scales(self.axes(coarsest)))
            share = self.axes.log_determinant() / log_determinants[-1][0].numel()
            log_determinants[-1] = log_determinants[-1] + share
        return scales, log_determinants

    def inverse(self, flat: torch.Tensor) -> torch.Tensor:
        """Whole codes ``(batch, size)`` -> pictures, which are not clamped."""
        if self.axes:
            size = len(self.axes.mean)
            flat = torch.cat([self.axes.inverse(flat[:, :size]), flat[:, size:]], 1)
        scales = self.scales(flat)
        mean, log_scale = gaussian(self.top)
        x = (scales[0] * log_scale.exp() + mean).movedim(1, -1)
        for level in reversed(range(len(self.levels))):
            if level < len(self.whiten):
                x = torch.cat([x, self.whiten[level].inverse(scales[-1 - level].movedim(1, -1), x)], -1)
            for convolution, coupling in reversed(self.levels[level]):
                x = convolution.inverse(coupling.inverse(x))
            x = unsqueeze(x, *self.config.squeeze[level])
        if self.spectrum is not None:
            mean, log_scale = gaussian(self.spectrum[:, :, None, None])
            x = x * log_scale.exp() + mean
        return x.movedim(-1, 1) + SILENCE

    def flat(self, y: torch.Tensor) -> torch.Tensor:
        """Dequantized pictures -> whole codes ``(batch, size)``, coarsest scale first."""
        return torch.cat([scale.flatten(1) for scale in reversed(self.forward(y)[0])], 1)

    def scales(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Scales ``(batch, channels, frequency, time)`` of codes, or of their start, coarsest first."""
        shapes = [shape for shape, end in zip(reversed(self.shapes), self.ends) if end <= flat.shape[1]]
        parts = flat.split([math.prod(shape) for shape in shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes)]

    def log_likelihood(self, y: torch.Tensor, autocast: bool = False, checkpoint: int = 0) -> torch.Tensor:
        """log p(y) of dequantized pictures, nats, ``(batch,)``: change of variables, paper eq. 3."""
        scales, log_determinants = self.forward(y, autocast, checkpoint)
        energy = sum(scale.square().sum((1, 2, 3)) for scale in scales)
        volume = sum(part.sum((1, 2)) for part in log_determinants)
        return volume - 0.5 * (energy + LOG_2PI * self.config.size)

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor, seed: int = 0, batch: int = 8) -> Code:
        """Pictures -> whole codes; ``InputError`` for another shape or values outside [0, 1]."""
        image = dequantize(self._checked(pictures), seed)
        flat = torch.cat([self.flat(part.to(self.top)).cpu() for part in image.split(batch)])
        return Code(flat, self.top_size, image)

    @torch.no_grad()
    def decode(self, code: Code | torch.Tensor, batch: int = 8) -> torch.Tensor:
        """Whole codes -> pictures ``(n, 1, side, frames)``; for the result of ``encode``, its ``image``."""
        flat = vectors(code)
        if flat.shape[1] != self.config.size:
            raise InputError(f"codes are (n, {self.config.size}), not {tuple(flat.shape)}")
        if not flat.isfinite().all():
            raise InputError("codes must be finite: one of these has a number that is not")
        return torch.cat([self.inverse(part.to(self.top)).cpu() for part in flat.split(batch)])

    @torch.no_grad()
    def bits_per_dim(self, pictures: torch.Tensor, draws: int = 8, seed: int = 0, batch: int = 8):
        """Bits per dimension ``(n,)``, 8 - log2 p(y) / d, mean over ``draws`` of the dequantization noise.

        The 8 converts a density of y in [0, 1] to the 256 levels of a pixel (Theis et al. 2016).
        """
        pictures, total = self._checked(pictures), 0.0
        for draw in range(draws):
            parts = dequantize(pictures, seed + draw).split(batch)
            total = total + torch.cat([self.log_likelihood(part.to(self.top)).cpu() for part in parts])
        return 8 - total / draws / math.log(2) / self.config.size

    def sample(self, n: int, temperature: float = 1.0, seed: int = 0) -> torch.Tensor:
        """Pictures of ``n`` random codes of standard deviation ``temperature``; ``InputError`` if below 0."""
        if n < 0 or not 0 <= temperature < math.inf:
            raise InputError(f"{n} samples of temperature {temperature}: both are 0 or more")
        return self.decode(random_code(n, self.config.size, seed) * temperature)

    def _checked(self, pictures: torch.Tensor) -> torch.Tensor:
        pictures, side, frames = torch.as_tensor(pictures), self.config.side, self.config.frames
        if pictures.shape[1:] != (1, side, frames) or not len(pictures):
            given = tuple(pictures.shape)
            raise InputError(f"this flow's pictures are (n, 1, {side}, {frames}), at least one, not {given}")
        return pictures
