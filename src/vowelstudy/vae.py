"""A beta-VAE of pictures (Higgins et al. 2017): what a simpler generative model of a flow's size gives.

An encoder of strided convolutions gives the mean and deviation of a normal code, a decoder of transposed ones
the mean picture. Pixels are Gaussian around it, with one learned deviation for each bin: with a fixed one, its
value would decide how much the code counts, as beta does (Rybkin, Daniilidis and Levine 2021). The likelihood
takes pixels as independent, but those of overlapping windows are not, so it counts each picture several times;
a beta above 1 makes up for that.
"""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from collections import defaultdict
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from vowelflow.augmentation import training_batch
from vowelflow.base import InputError, OtherTrainingError, locked, save_atomically
from vowelflow.checkpoint import file_hash, model_folder, read_tensors, save_model, write_tensors
from vowelflow.corpus import Corpus
from vowelflow.devices import processor_name
from vowelflow.profiles import Profile, profile_named
from vowelflow.spectrogram import dequantize, images, quantize, usable
from vowelflow.training import VERSIONS, checkpoints, described, schedule

# As many pictures as the flow ``speech`` learned from, 150,000, with the same augmentation.
PROFILE = replace(
    profile_named("vowel"), iterations=9_375, batch=16, learning_rate=2e-3, average=0.998, eval_interval=250
)


@dataclass(frozen=True)
class VAEConfig:
    """Shape of a VAE and weight of its prior. The default has 3.9 million parameters, as many as ``speech``."""

    side: int = 256  # of pictures; both are multiples of 2 ** len(widths)
    frames: int = 96
    widths: tuple[int, ...] = (32, 64, 128, 192, 256)  # channels after each halving of both axes
    latent: int = 64  # numbers in a code
    beta: float = 8.0  # weight of the divergence from the prior; 1 is the evidence lower bound


class VAE(nn.Module):
    """Pictures ``(n, 1, side, frames)`` in [0, 1] <-> codes ``(n, latent)``, whose prior is N(0, I)."""

    def __init__(self, config: VAEConfig = VAEConfig()):
        super().__init__()
        self.config, widths, smallest = config, config.widths, 2 ** len(config.widths)
        top = (widths[-1], config.side // smallest, config.frames // smallest)
        down, up = [], []
        for before, after in zip((1, *widths), widths):
            down += [nn.Conv2d(before, after, 4, 2, 1), nn.SiLU()]
            up = [nn.SiLU(), nn.ConvTranspose2d(after, before, 4, 2, 1), *up]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(math.prod(top), 2 * config.latent))
        self.decoder = nn.Sequential(nn.Linear(config.latent, math.prod(top)), nn.Unflatten(1, top), *up)
        # A tenth of the log deviation of each bin's pixels, which is then learned ten times as fast as weights.
        self.tenth = nn.Parameter(torch.full((config.side, 1), math.log(0.2) / 10))

    def bits(self, y: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Distortion and divergence ``(2, n)`` of dequantized pictures, bits per dimension; one code is drawn.

        Their sum is, on average, at least the bits per dimension of the pictures' 256 levels.
        """
        mean, log_deviation = self.encoder(2 * y - 1).chunk(2, 1)
        noise = torch.randn(mean.shape, generator=generator)
        error = (y - self._means(mean + log_deviation.exp() * noise)) / (10 * self.tenth).exp()
        distortion = (0.5 * error**2 + 10 * self.tenth + 0.5 * math.log(2 * math.pi)).flatten(1).mean(1)
        divergence = 0.5 * (mean**2 + (2 * log_deviation).exp() - 1 - 2 * log_deviation).sum(1)
        return torch.stack([8 + distortion / math.log(2), divergence / math.log(2) / y[0].numel()])

    @torch.no_grad()
    def bits_per_dim(self, pictures: torch.Tensor, seed: int = 0) -> torch.Tensor:
        """An upper bound ``(n,)`` on bits per dimension of pictures, from one code each."""
        generator = torch.Generator().manual_seed(seed)
        parts = dequantize(pictures, seed).split(64)
        return torch.cat([self.bits(part, generator).sum(0) for part in parts])

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor, seed: int = 0) -> torch.Tensor:
        """Mean codes ``(n, latent)``; ``seed`` is of the dequantization noise."""
        parts = dequantize(pictures, seed).split(64)
        return torch.cat([self.encoder(2 * part - 1).chunk(2, 1)[0] for part in parts])

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Mean pictures of codes, not clamped."""
        return torch.cat([self._means(part) for part in codes.split(64)])

    def _means(self, codes: torch.Tensor) -> torch.Tensor:
        return 0.5 + 0.5 * self.decoder(codes)

    def sample(self, count: int, temperature: float = 1.0, seed: int = 0) -> torch.Tensor:
        """Mean pictures of codes from the prior, clamped to [0, 1]."""
        codes = torch.randn(count, self.config.latent, generator=torch.Generator().manual_seed(seed))
        return self.decode(temperature * codes).clamp(0, 1)


def load_vae(name: str | Path) -> VAE:
    """A VAE by its name under ``models/`` or ``build/models/``, or from a folder.

    Raises:
        InputError: no such model, or a damaged file.
    """
    folder = model_folder(name)
    path, weights = folder / "config.json", folder / "model.safetensors"
    try:
        config = json.loads(path.read_text())
        shape = VAEConfig(**config["vae"] | {"widths": tuple(config["vae"]["widths"])})
        wanted = config["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is missing or not the configuration of a VAE ({error!r})") from None
    if not weights.is_file() or file_hash(weights) != wanted:
        raise InputError(f"{weights} is missing or is not the file that config.json names; fetch it again")
    try:
        model = VAE(shape)
        model.load_state_dict(load_file(weights))
    except (RuntimeError, ValueError, TypeError, IndexError, SafetensorError) as error:
        raise InputError(f"{weights} does not fit its config.json: {error}") from None
    return model.eval().requires_grad_(False)


def train_vae(
    corpus: Corpus,
    folder: Path,
    config: VAEConfig = VAEConfig(),
    profile: Profile = PROFILE,
    seed: int = 0,
    resume: bool = False,
) -> VAE:
    """Train a VAE on the train speakers of a corpus, in float32 on the threads that torch has.

    Each evaluation adds a row to ``log.csv`` (step, bits per dimension of train and of validation speakers,
    divergence, seconds), writes a checkpoint and, if the averaged weights are the best so far on validation
    speakers, ``model.safetensors`` and ``config.json``: a training that was interrupted leaves a usable model.
    All random numbers are drawn from (seed, step), so a resumed training takes the same steps.

    Args:
        profile: its augmentation, batch, learning rate and intervals; the flow in it is not used.
        resume: continue from the checkpoint in ``folder``; start if there is none.

    Returns:
        The best averaged weights, rounded to 16 bits.

    Raises:
        InputError: no train speakers, or a folder that holds a training, or with ``resume`` a different one.
    """
    folder, corpus = Path(folder), usable(corpus, profile.observation)
    if not len(corpus.split["train"]):
        raise InputError(f"{corpus.name} has no train speakers to learn from; give more speakers")
    with locked(folder, "training"):
        run = _Training(corpus, folder, config, profile, seed)
        run.restore(resume)
        run.take_steps()
    return load_vae(folder)


class _Training:
    """The state of a training: weights, their average, the optimizer, and numbers that checkpoints hold."""

    def __init__(self, corpus: Corpus, folder: Path, config: VAEConfig, profile: Profile, seed: int):
        self.corpus, self.folder, self.profile, self.seed = corpus, folder, profile, seed
        self.speech = corpus.split["train"]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = VAE(config).train()
        self.average = deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.model.parameters(), profile.learning_rate, fused=True)
        self.identity = json.dumps([asdict(config), asdict(profile), corpus.fingerprint, seed])
        self.step, self.seconds, self.best_bits = 0, 0.0, math.inf
        valid = corpus.held_out("valid").draw(profile.eval_pictures, by=("split",))
        pictures = images(valid, observation=profile.observation) if len(valid) else torch.empty(0)
        self.levels = quantize(pictures)

    def take_steps(self) -> None:
        """Take the remaining steps; evaluate and save at intervals and at the end."""
        found, start = [], time.monotonic() - self.seconds
        while self.step < self.profile.iterations:
            found.append(self.update())
            self.step += 1
            if self.step % self.profile.eval_interval == 0 or self.step == self.profile.iterations:
                self.seconds = time.monotonic() - start
                self.evaluate(*np.mean(found, axis=0))
                found = []

    def update(self) -> tuple[float, float]:
        """One step of the optimizer; returns bits per dimension, and the divergence's part of them."""
        profile, step = self.profile, self.step
        self.optimizer.param_groups[0]["lr"] = profile.learning_rate * schedule(step, profile)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        y = training_batch(self.speech, profile, self.seed, step)
        distortion, divergence = self.model.bits(y, generator).mean(1)
        self.optimizer.zero_grad()
        (100 * (distortion + self.model.config.beta * divergence)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), profile.clip)
        self.optimizer.step()
        decay = min(profile.average, (step + 1) / (step + 10))
        weights = [weight.detach() for weight in self.model.parameters()]
        torch._foreach_lerp_(list(self.average.parameters()), weights, 1 - decay)
        return (distortion + divergence).item(), divergence.item()

    def evaluate(self, train: float, divergence: float) -> None:
        """Evaluate the averaged weights on validation speakers, log, and save; the best become the model."""
        pictures = (self.levels + 0.5) / 256
        valid = float(self.average.bits_per_dim(pictures).mean()) if len(pictures) else train
        line = f"{self.step},{train:.5f},{valid:.5f},{divergence:.5f},{self.seconds:.1f}"
        print(f"step {self.step} of {self.profile.iterations}: {line}", file=sys.stderr, flush=True)
        with open(self.folder / "log.csv", "a", newline="") as file:
            file.write(line + "\n")
        if valid < self.best_bits:
            self.best_bits = valid
            save_model(self.folder, deepcopy(self.average), self.about())
        self.save()

    def save(self) -> None:
        """Write ``checkpoint-STEP.safetensors``, and remove the older ones."""
        flat = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        flat |= {f"adam/{place}": one for place, one in self.optimizer.state_dict()["state"].items()}
        tensors = {
            f"{part}/{name}": value.clone() for part, values in flat.items() for name, value in values.items()
        }
        numbers = json.dumps({"step": self.step, "seconds": self.seconds, "best_bits": self.best_bits})
        path = self.folder / f"checkpoint-{self.step:07d}.safetensors"
        write_tensors(path, tensors, {"identity": self.identity, "run": numbers})
        for old in [one for one in checkpoints(self.folder) if one != path]:
            old.unlink()

    def restore(self, resume: bool) -> None:
        """Take the state of the checkpoint, if the folder holds a training, and start or cut the log."""
        found, log = checkpoints(self.folder), self.folder / "log.csv"
        if found and not resume:
            raise InputError(f"{self.folder} holds a training already; continue it with resume=True")
        lines = log.read_text().splitlines()[1:] if found and log.is_file() else []
        if found:
            about, tensors = read_tensors(found[-1])
            if about["identity"] != self.identity:
                raise OtherTrainingError(f"{found[-1]} is of a training with other settings or speech")
            parts = defaultdict(dict)
            for name, value in tensors.items():
                part, _, key = name.rpartition("/")
                parts[part][key] = value
            self.model.load_state_dict(parts.pop("model"))
            self.average.load_state_dict(parts.pop("average"))
            state = {int(part.removeprefix("adam/")): values for part, values in parts.items()}
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
            vars(self).update(json.loads(about["run"]))
        lines = [line for line in lines if int(line.split(",")[0]) <= self.step]
        text = "\n".join(["step,train,valid,divergence,seconds", *lines, ""])
        save_atomically(log, lambda path: path.write_text(text))

    def about(self) -> dict:
        """``config.json``: all settings that the weights depend on, named as in a flow's."""
        profile = asdict(self.profile)
        del profile["glow"]
        return {
            **described(self.corpus, self.profile.observation),
            "vae": asdict(self.model.config),
            "profile": profile,
            "seed": self.seed,
            "steps": self.step,
            "pictures": self.profile.batch * self.step,
            "started_from": None,
            "minutes": round(self.seconds / 60, 1),
            "machine": f"{processor_name()}, {torch.get_num_threads()} thread",
            "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
        }
