"""Glow: an invertible map between pictures and Gaussian codes.

The paper's section 3 in one file, top to bottom: a picture is squeezed (space to channels), goes
through steps of actnorm, invertible 1x1 convolution and affine coupling, half of the channels are
split off, and the other half goes on to the next, coarser level (Dinh et al. 2017; Kingma and
Dhariwal 2018). Split-off channels are whitened by a prior learned from the half that stays, so the
whole code, all 82,944 numbers of it, is standard normal under the model and ``decode(encode(x))``
gives the picture back.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from .corpus import InputError
from .spectrogram import PIXELS, SIDE, quantize
from .tiles import pays, tiled

# cuDNN rounds float32 to 10 bits by default, and an inverse amplifies that: decode(encode(x)) would be off by 0.01.
torch.backends.cudnn.allow_tf32 = False

LOG_2PI = math.log(2 * math.pi)

# Every scale is bounded, so no step has an inverse that is infinite or lost in rounding. And what a coupling's network
# sees is bounded, so its shifts are: else one that is large makes the next one larger, over all steps, for some pictures.
COUPLING = 2.0  # a coupling multiplies by e^-2 to e^2
PRIOR = 4.0  # a prior's deviation, and actnorm's scale, by e^-4 to e^4
DIAGONAL = 1.0  # the convolution's diagonal lies in e^-1 to e^1,
TRIANGLE = 2 / 3  # and its triangles within this norm of the identity
SILENCE = 0.5 / 256  # the middle of the lowest level, where padding lies: it is 0 to the flow


@dataclass(frozen=True)
class GlowConfig:
    """Shape of a flow: ``levels`` scales of ``steps`` steps, coupling width for each level.

    ``scale`` is what a coupling multiplies by: "tanh", exp(2 tanh(s / 2)), or "sigmoid", the
    original's sigmoid(s + 2), here between e^-2 and 1.
    """

    levels: int = 5
    steps: int = 8
    hidden: tuple[int, ...] = (16, 32, 64, 96, 128)
    side: int = SIDE  # pixels of a picture from low to high frequency,
    frames: int | None = None  # and along time; as many, if it is not said
    scale: str = "tanh"
    reach: float = 8.0  # bound of what coupling networks see, many times what they meet in pictures

    def __post_init__(self):
        object.__setattr__(self, "frames", self.side if self.frames is None else self.frames)
        sizes = (
            self.levels,
            self.steps,
            self.side,
            self.frames,
            *(self.hidden if isinstance(self.hidden, tuple) else [None]),
        )
        if not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise InputError(
                f"levels, steps, side, frames and every width in hidden are whole numbers of at least 1, not {self}"
            )
        if len(self.hidden) != self.levels or self.side % 2**self.levels or self.frames % 2**self.levels:
            raise InputError(
                f"hidden {self.hidden} needs one width for each of {self.levels} levels, and a side of "
                f"{self.side} and {self.frames} frames must halve {self.levels} times"
            )
        if self.scale not in ("tanh", "sigmoid"):
            raise InputError(f"a coupling's scale is tanh or sigmoid, not {self.scale!r}")
        if not (isinstance(self.reach, int | float) and self.reach > 0):
            raise InputError(f"reach is a number above 0, not {self.reach!r}")

    @property
    def size(self) -> int:
        """How many pixels a picture has, and numbers its code."""
        return self.side * self.frames


def bounded(value: torch.Tensor, limit: float) -> torch.Tensor:
    """Nearly ``value`` where it is small, and never outside (-limit, limit)."""
    return limit * torch.tanh(value / limit)


class Mix(nn.Module):
    """Actnorm folded into an invertible 1x1 convolution, W = R L D U.

    As in Glow's LU form, L and U are triangles with ones on the diagonal and D is diagonal; R is the
    random rotation that W starts as, where Glow has that rotation's permutation. L - I and U - I keep a
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

        Glow's also takes the mean away. Here that would move padding, which is most of a picture, away from 0, and every
        weight of a later step would move it on: by more than its own noise is wide, at any step of training.
        """
        wanted = -x.square().mean((0, 2, 3)).sqrt().clamp_min(1e-6).log() / PRIOR
        self.log_scale.data = PRIOR * torch.atanh(wanted.clamp(-0.95, 0.95))

    def factors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """L, log D, U and actnorm's log-scale."""
        return (
            _triangle(self.lower.tril(-1)),
            bounded(self.log_diagonal, DIAGONAL),
            _triangle(self.upper.triu(1)),
            bounded(self.log_scale, PRIOR),
        )

    def weights(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The folded convolution: weight, bias, and the log-determinant at one pixel."""
        lower, log_diagonal, upper, log_scale = self.factors()
        mixed = self.rotation.to(lower.dtype) @ lower * log_diagonal.exp() @ upper
        return mixed * log_scale.exp(), mixed @ self.shift, log_diagonal.sum() + log_scale.sum()

    def inverse_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the inverse, solved in float64: it is tiny."""
        lower, log_diagonal, upper, log_scale = (factor.double() for factor in self.factors())
        unmixed = torch.linalg.solve_triangular(lower, self.rotation.T, upper=False, unitriangular=True)
        unmixed = unmixed * (-log_diagonal).exp()[:, None]
        weight = torch.linalg.solve_triangular(upper, unmixed, upper=True, unitriangular=True)
        back = (-log_scale).exp()
        return (weight * back[:, None]).to(self.shift.dtype), (-self.shift * back).to(self.shift.dtype)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(batch, channels, height, width)`` mixed, and the log-determinant at a place, one for all of them."""
        weight, bias, log_determinant = self.weights()
        return F.conv2d(x, weight[:, :, None, None], bias), log_determinant

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        weight, bias = self.inverse_weights()
        return F.conv2d(y, weight[:, :, None, None], bias)


def _triangle(strict: torch.Tensor) -> torch.Tensor:
    """I + N, with N nearly ``strict`` and of spectral norm under ``TRIANGLE``.

    The fourth root of the sum of the fourth powers of the singular values is above the largest, is
    less than the usual norm for a dense matrix, and is smooth at 0.
    """
    fourth_power = (strict.T @ strict).square().sum()
    strict = strict * (1 + fourth_power / TRIANGLE**4) ** -0.25
    return strict + torch.eye(len(strict), dtype=strict.dtype, device=strict.device)


class Coupling(nn.Module):
    """Affine coupling: one half of the channels scales and shifts the other."""

    def __init__(self, channels: int, hidden: int, scale: str = "tanh", reach: float = 8.0):
        super().__init__()
        self.scale, self.reach = scale, reach
        self.network = nn.Sequential(
            nn.Conv2d(channels // 2, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 3, padding=1),
        )
        nn.init.zeros_(self.network[-1].weight)
        nn.init.zeros_(self.network[-1].bias)

    def scale_and_shift(self, kept: torch.Tensor, autocast: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-scale and shift for the changed half, each of the shape of ``kept``."""
        kept = bounded(kept, self.reach)
        if pays(self.network, kept):
            raw = tiled(self.network, kept, torch.bfloat16 if autocast else kept.dtype)
        else:
            with torch.autocast(kept.device.type, torch.bfloat16, enabled=autocast):
                raw = self.network(kept).to(kept.dtype)
        shift, log_scale = raw.chunk(2, 1)
        if self.scale == "sigmoid":
            least = math.exp(-COUPLING)
            return (least + (1 - least) * torch.sigmoid(log_scale + 2)).log(), shift
        return bounded(log_scale, COUPLING), shift

    def forward(self, x: torch.Tensor, autocast: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """``(batch, channels, height, width)`` with its second half changed, and log-determinants ``(batch, height, width)``."""
        kept, changed = x.chunk(2, 1)
        log_scale, shift = self.scale_and_shift(kept, autocast)
        return torch.cat([kept, changed * log_scale.exp() + shift], 1), log_scale.sum(1)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        kept, changed = y.chunk(2, 1)
        log_scale, shift = self.scale_and_shift(kept, False)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], 1)


class Whiten(nn.Module):
    """The learned prior of a split: mean and log-scale of what leaves, from what stays."""

    def __init__(self, channels: int):
        super().__init__()
        self.network = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        nn.init.zeros_(self.network.weight)
        nn.init.zeros_(self.network.bias)

    def prior(self, stays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_scale = self.network(stays).chunk(2, 1)
        return mean, bounded(log_scale, PRIOR)

    def forward(self, leaves, stays) -> tuple[torch.Tensor, torch.Tensor]:
        """What leaves, standard normal if the prior is right, and log-determinants ``(batch, height, width)``."""
        mean, log_scale = self.prior(stays)
        return (leaves - mean) * (-log_scale).exp(), -log_scale.sum(1)

    def inverse(self, white, stays) -> torch.Tensor:
        mean, log_scale = self.prior(stays)
        return white * log_scale.exp() + mean


def through(steps, x: torch.Tensor, autocast: bool, initialise: bool = False):
    """Some steps of one level: what becomes of ``x``, and their log-determinants ``(batch, height, width)``."""
    log_determinant = x.new_zeros(x.shape[0], *x.shape[2:])
    for mix, coupling in steps:
        if initialise:
            mix.initialise(x)
        x, gain = mix(x)
        log_determinant = log_determinant + gain
        x, gain = coupling(x, autocast)
        log_determinant = log_determinant + gain
    return x, log_determinant


class Glow(nn.Module):
    """The multi-scale flow. Pictures are ``(batch, 1, side, frames)``, codes ``(batch, side * frames)``."""

    def __init__(self, config: GlowConfig = GlowConfig()):
        super().__init__()
        if not isinstance(config, GlowConfig):
            raise InputError(f"{config!r:.60} is no GlowConfig")
        self.config = config
        self.levels, self.whiten, self.shapes = nn.ModuleList(), nn.ModuleList(), []
        channels, side, frames = 1, config.side, config.frames
        for level, hidden in enumerate(config.hidden):
            channels, side, frames = 4 * channels, side // 2, frames // 2
            steps = [
                nn.ModuleList([Mix(channels), Coupling(channels, hidden, config.scale, config.reach)])
                for _ in range(config.steps)
            ]
            self.levels.append(nn.ModuleList(steps))
            if level < config.levels - 1:
                channels //= 2
                self.whiten.append(Whiten(channels))
            self.shapes.append((channels, side, frames))  # of what this level adds to the code
        self.top = nn.Parameter(torch.zeros(2, channels, 1, 1))  # mean and log-scale of the last scale
        self.register_buffer("initialised", torch.tensor(False))
        self.through = through  # training on a GPU puts a compiled one here

    @property
    def top_size(self) -> int:
        """How many numbers the top code has: the coarsest scales, a quarter of all at most."""
        sizes = np.cumsum([math.prod(shape) for shape in reversed(self.shapes)])
        return int(max(size for size in sizes if size <= max(self.config.size // 4, sizes[0])))

    def forward(self, y: torch.Tensor, autocast: bool = False, checkpoint: int = 0, initialise: bool = False):
        """Dequantized pictures -> scales of the code, and log-determinants by place, both finest level first.

        Args:
            autocast: bfloat16 in the coupling networks. For training only: decoding amplifies the
                difference between two roundings.
            checkpoint: keep nothing within so many steps, but go through them again for the
                gradient (Chen et al. 2016); 0 keeps all.
        """
        if checkpoint < 0:
            raise InputError(f"checkpoint is a number of steps, or 0 to keep all, not {checkpoint}")
        x, scales, log_determinants = y - SILENCE, [], []
        for level, steps in enumerate(self.levels):
            x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
            stride, log_determinant = checkpoint or len(steps), 0.0
            for start in range(0, len(steps), stride):
                part = steps[start : start + stride]
                if checkpoint and not initialise:
                    x, gain = recomputed(self.through, part, x, autocast, use_reentrant=False, preserve_rng_state=False)
                else:
                    x, gain = self.through(part, x, autocast, initialise)
                log_determinant = log_determinant + gain
            if level < len(self.whiten):
                x, leaves = x.chunk(2, 1)
                white, gain = self.whiten[level](leaves, x)
                log_determinant = log_determinant + gain
                scales.append(white)
            log_determinants.append(log_determinant)
        mean, log_scale = self._last_prior()
        scales.append((x - mean) * (-log_scale).exp())
        log_determinants[-1] = log_determinants[-1] - log_scale.sum()
        return scales, log_determinants

    def flat(self, y: torch.Tensor) -> torch.Tensor:
        """Dequantized pictures -> whole codes ``(batch, size)``, coarsest scale first."""
        scales, _ = self.forward(y)
        return torch.cat([scale.flatten(1) for scale in reversed(scales)], 1)

    def inverse(self, flat: torch.Tensor) -> torch.Tensor:
        """Whole codes ``(batch, size)`` -> pictures, neither clamped nor repaired."""
        mean, log_scale = self._last_prior()
        scales = self.scales(flat)
        x = scales[0] * log_scale.exp() + mean
        for level in reversed(range(len(self.levels))):
            if level < len(self.whiten):
                x = torch.cat([x, self.whiten[level].inverse(scales[-1 - level], x)], 1)
            x = x.contiguous(memory_format=torch.channels_last)
            for mix, coupling in reversed(self.levels[level]):
                x = mix.inverse(coupling.inverse(x))
            x = F.pixel_shuffle(x, 2)
        return x + SILENCE

    def _last_prior(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.top[0], bounded(self.top[1], PRIOR)

    def scales(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """The scales of whole codes, coarsest first, each ``(batch, channels, frequency, time)``."""
        shapes = self.shapes[::-1]
        parts = flat.split([math.prod(shape) for shape in shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]

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
            for level, (scale, gain) in enumerate(zip(*self.forward(y.to(self.top)))):
                nats = gain - 0.5 * (scale.square() + LOG_2PI).sum(1)
                covered = 2 ** (level + 1)
                spread = nats.repeat_interleave(covered, 1).repeat_interleave(covered, 2)
                bits = bits - spread / covered**2 / math.log(2)
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
        if not isinstance(code, Code | torch.Tensor | np.ndarray):
            raise InputError(f"codes are a Code, a tensor or an array, not {code!r:.60}")
        flat = torch.as_tensor(_flat(code))
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
        if not isinstance(draws, int | np.integer) or draws < 1:
            raise InputError(f"a mean over draws of the noise takes one or more, not {draws}")
        pictures, total = self._checked(pictures), 0.0
        for draw in range(draws):
            parts = dequantize(pictures, seed + draw).split(batch)
            total = total + torch.cat([self.log_likelihood(part.to(self.top)).cpu() for part in parts])
        return 8 - total / draws / math.log(2) / self.config.size

    def sample(self, n: int, temperature: float = 1.0, seed: int = 0) -> torch.Tensor:
        """Pictures of ``n`` random codes of standard deviation ``temperature``; ``InputError`` if either is below 0 or infinite."""
        if not isinstance(n, int | np.integer) or not isinstance(temperature, int | float | np.number):
            raise InputError(
                f"{n!r:.60} samples of temperature {temperature!r:.60}: both are numbers, the first a whole one"
            )
        if n < 0 or not 0 <= temperature < math.inf:
            raise InputError(f"{n} samples of temperature {temperature}: both are 0 or more")
        return self.decode(random_code(n, self.config.size, seed) * temperature)

    def _checked(self, pictures: torch.Tensor) -> torch.Tensor:
        if not isinstance(pictures, torch.Tensor | np.ndarray) or np.iscomplexobj(pictures):
            raise InputError(f"pictures are a tensor or an array of real numbers, not {pictures!r:.60}")
        pictures, shape = torch.as_tensor(pictures), (1, self.config.side, self.config.frames)
        if pictures.ndim != 4 or pictures.shape[1:] != shape or not len(pictures):
            raise InputError(
                f"pictures are (n, {', '.join(map(str, shape))}), at least one, not {tuple(pictures.shape)}"
            )
        if not (torch.isfinite(pictures).all() and pictures.min() >= 0 and pictures.max() <= 1):
            raise InputError("pictures must be finite and in [0, 1], as vf.images makes them")
        return pictures


def random_code(n: int, size: int = PIXELS, seed: int = 0) -> torch.Tensor:
    """Standard normal codes ``(n, size)``; a code depends on (seed, its place), not on ``n``."""
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**32 - 1}")
    codes = np.empty((n, size), dtype=np.float32)
    for row in range(n):
        np.random.default_rng([seed, row]).standard_normal(dtype=np.float32, out=codes[row])
    return torch.from_numpy(codes)


def dequantize(pictures: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """y = (q + u) / 256 with u uniform in [0, 1), keyed by (seed, picture).

    The key of a picture is a hash of its levels, so neither batch nor order changes its noise. ``InputError`` outside [0, 1].
    """
    if not isinstance(pictures, torch.Tensor) or pictures.is_complex():
        raise InputError(f"pictures are a tensor of real numbers, not {pictures!r:.60}")
    if not ((pictures >= 0) & (pictures <= 1)).all():
        raise InputError("pictures must be finite and in [0, 1], as vf.images makes them")
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**32 - 1}")
    levels = quantize(pictures)
    noise = torch.empty(levels.shape)
    for row, picture in enumerate(levels):
        key = hashlib.blake2b(picture.numpy().tobytes(), digest_size=8).digest()
        rng = np.random.default_rng([seed, int.from_bytes(key, "little")])
        noise[row] = torch.from_numpy(rng.random(picture.shape, dtype=np.float32))
    return (levels + noise) / 256


@dataclass(frozen=True)
class Code:
    """Codes of pictures: vectors that can be indexed, added and scaled.

    Attributes:
        flat: ``(n, size)``, coarsest scale first.
        top_size: how many of the first numbers are the top code.
        image: the dequantized pictures ``(n, 1, side, frames)`` they encode, where they encode any.
    """

    flat: torch.Tensor
    top_size: int
    image: torch.Tensor | None = None

    @property
    def top(self) -> torch.Tensor:
        """The coarsest scales, ``(n, top_size)``: about what the paper's implementation calls the code."""
        return self.flat[:, : self.top_size]

    def __len__(self) -> int:
        return len(self.flat)

    def __getitem__(self, rows) -> Code:
        if not isinstance(rows, slice):
            rows = np.atleast_1d(rows)
            rows = torch.as_tensor(rows if rows.size else rows.astype(int))
        return Code(self.flat[rows], self.top_size, None if self.image is None else self.image[rows])

    def __add__(self, other) -> Code:
        return Code(self.flat + _flat(other), self.top_size)

    def __sub__(self, other) -> Code:
        return Code(self.flat - _flat(other), self.top_size)

    def __mul__(self, factor) -> Code:
        return Code(self.flat * factor, self.top_size)

    __rmul__ = __mul__

    def mean(self) -> Code:
        """The mean code, as a code of one."""
        return Code(self.flat.mean(0, keepdim=True), self.top_size)


def _flat(other):
    return other.flat if isinstance(other, Code) else other


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_model(name: str | Path, models: Path | None = None) -> Glow:
    """Load reference weights: a name under ``models/``, or a folder that holds them.

    Raises:
        InputError: no such model, a damaged or altered weight file, or weights of another shape.
    """
    if not isinstance(name, str | Path):
        raise InputError(f"{name!r:.60} names no model: give a name under models/, or a folder")
    folder = model_folder(name, models)
    about = folder / "config.json"
    if about.is_file() and sum(map(about.read_bytes().count, b"[{")) > 500:  # which could exhaust the stack
        raise InputError(f"{about} is not a model's configuration (nested too deep); fetch it again")
    try:
        config = json.loads(about.read_text())
        glow = glow_config(config)
        expected = config["sha256"]
    except FileNotFoundError:
        known = {path.parent.name for base in shelves(models) for path in base.glob("*/config.json")}
        known = ", ".join(sorted(known)) or "none"
        raise InputError(f"no model {str(name)!r}: neither a folder with config.json, nor one of {known}") from None
    except InputError as error:
        raise InputError(f"{about}: {error}; fetch it again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{about} is not a model's configuration ({error!r}); fetch it again") from None
    if any(
        not isinstance(config.get(name, kind()), kind)
        or (kind is list and not all(isinstance(one, str) for one in config.get(name, ())))
        for name, kind in (("vowels", list), ("speakers", dict), ("segments", dict), ("profile", dict))
    ):
        raise InputError(f"{about}: vowels, speakers, segments or profile are not as train writes them; fetch it again")
    weights = folder / "model.safetensors"
    if not weights.is_file() or file_hash(weights) != expected:
        raise InputError(f"{weights} is missing or is not the file that config.json names; fetch it again")
    if 2 * glow.steps * max(glow.hidden) ** 2 > weights.stat().st_size:  # before memory is asked for
        raise InputError(f"{about} asks for {glow.steps} steps of width {max(glow.hidden)}, too much for {weights}")
    model = Glow(glow)
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"{weights} does not fit its config.json: {error}") from None
    return model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")


def glow_config(config: dict) -> GlowConfig:
    """The shape of a flow, from its ``config.json``."""
    return GlowConfig(**{**config["glow"], "hidden": tuple(config["glow"]["hidden"])})


def model_folder(name: str | Path, models: Path | None = None) -> Path:
    """Where the weights of this name are: a folder itself, or one under ``models/`` or ``build/models/``."""
    places = [Path(name), *(base / name for base in shelves(models))]
    return next((place for place in places if (place / "config.json").is_file()), places[0])


def models_folder() -> Path:
    """``models/`` of the working folder, or of the checkout that this package is installed from."""
    here = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]]
    return next((base / "models" for base in here if (base / "models").is_dir()), Path("models"))


def shelves(models: Path | None = None) -> list[Path]:
    """Where weights are looked for: those that come with the study, then those that were trained here."""
    return [models or models_folder(), Path(os.environ.get("VOWELFLOW_BUILD") or "build") / "models"]
