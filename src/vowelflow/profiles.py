"""Profiles: the settings of a training, and the named ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .base import InputError
from .glow import GlowConfig
from .spectrogram import Observation, observation_of


@dataclass(frozen=True)
class Profile:
    """The settings of a training."""

    glow: GlowConfig = GlowConfig()
    iterations: int = 12_500  # optimizer steps; the learning rate's schedule has this length
    batch: int = 4  # pictures in a step, over all devices
    accumulate: int = 1  # parts in which a device computes the gradient of its share of a batch
    optimizer: str = "Adam"  # or Adamax
    learning_rate: float = 1.5e-3
    warmup: int = 100  # steps of linear rise
    decay: float = 1.0  # the last share of the steps, in which the rate falls to 0 along a cosine
    clip: float = 100.0  # largest norm of the gradient of 100 times bits per dimension
    average: float = 0.9995  # decay of the moving average of the weights, which analysis uses
    autocast: bool | None = None  # bfloat16 in the coupling networks; None: if it is faster
    checkpoint: int = (
        0  # steps of the flow that compute their activations again for the gradient; 0 stores all
    )
    eval_interval: int = 500  # optimizer steps between evaluations on validation speakers, and checkpoints
    eval_pictures: int = 128  # validation pictures
    prior_pictures: int = 10_000  # train pictures, at most, to which the last prior is fitted at the end
    snapshots: tuple[int, ...] = ()  # numbers of pictures after which averaged weights are saved separately
    # Augmentation. Aligners work in steps of 10 ms, and hand labels differ by as much.
    trim: int = 9  # segments end up to this many ms earlier; in ``VOWEL`` pictures, they also begin later
    speed: float = 0.0  # ``VOWEL`` pictures: F0 and formants are up to this share higher or lower
    noise_db: tuple[float, float] | None = None  # half the pictures get white noise at a ratio in this range

    @property
    def observation(self) -> Observation:
        return observation_of((self.glow.side, self.glow.frames))


VOWEL = Profile(speed=0.05)
PADDED = replace(VOWEL, speed=0, glow=GlowConfig(
    288, 288, squeeze=((2, 8), (2, 2), (2, 2), (2, 1), (2, 1), (3, 1), (1, 3), (3, 1)),
    steps=(8, 8, 8, 8, 4, 4, 4, 4), hidden=(64, 128, 128, 128, 96, 96, 64, 64),
))  # fmt: skip
# For tests, and to see whether everything runs.
SMOKE = replace(
    VOWEL, glow=GlowConfig(squeeze=((4, 4),) * 2, steps=1, hidden=(4, 4), prior=4, axes=2), iterations=6, batch=2,
    learning_rate=3e-3, eval_interval=3, eval_pictures=2, autocast=False,
)  # fmt: skip
PROFILES = {
    "vowel": VOWEL,
    "vowel-noise": replace(VOWEL, noise_db=(0.0, 20.0)),  # for denoising, section 4.5 of the paper
    "padded": PADDED,
    "smoke": SMOKE,
    "smoke-padded": replace(SMOKE, speed=0, glow=replace(SMOKE.glow, side=288, frames=288)),
    # The default shape and optimizer of the implementation that the paper used, as the paper states none. Its
    # schedule (Noam), batch (48), clipping (by value 5, then norm 100) and noise (Gaussian) differ.
    "paper": Profile(
        GlowConfig(
            288, 288, ((2, 2),) * 3, 32, (512, 512, 512), prior=0, tail=None, frequency_bias=False, axes=0,
            last_kernel=3, coupling=2.0, scale="sigmoid",
        ), iterations=50_000, batch=16, learning_rate=1e-3, checkpoint=4,
    ),
}  # fmt: skip


def profile_named(name: str) -> Profile:
    """The profile of this name, or ``InputError``."""
    if name not in PROFILES:
        raise InputError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]
