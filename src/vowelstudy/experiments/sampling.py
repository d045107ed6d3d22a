"""Section 4.3: random codes decode to pictures that look like speech, most of them silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vowelflow.spectrogram import PADDED

from ..detector import of_pictures
from ..discriminator import controls
from ..folds import Fold
from ..measures import SILENT, sounding
from ..methods import gaussian_samples
from ..protocol import Protocol
from ..realism import areas, views_at
from ..results import read_json
from ..statistics import NULL, SIMPLE, Comparison, swapped
from ..tokens import Tokens
from ..vae import VAE

SOUNDS = 100  # of each model, for the detector
KINDS = {"untrained flow": NULL, "random pixels": NULL, "PCA-Gaussian": SIMPLE, "mixture": SIMPLE}


def drawn_pictures(
    tokens: Tokens, fold: Fold, count: int, seed: int, vae: VAE | None = None
) -> dict[str, torch.Tensor]:
    """``count`` pictures drawn from each model, without selection: the flow first."""
    found = {
        "flow": fold.flow.sample(count, seed=seed),
        "untrained flow": fold.untrained.sample(count, seed=seed),
        "random pixels": controls(tokens.pictures[fold.fit[:count]], seed)["noise in a token's extent"](
            count
        ),
        **gaussian_samples(tokens.pictures[fold.fit], count, seed),
    }
    return found if vae is None else found | {"beta-VAE": vae.sample(count, seed=seed)}


def samples(
    tokens: Tokens, validation: Tokens, folds: list[Fold], folder: Path, vae: VAE | None, protocol: Protocol,
    seed: int,
) -> dict:  # fmt: skip
    """AUC of discriminators between real tokens of validation speakers and samples.

    Samples have no duration. For the acoustic features, all pictures get durations of real tokens at random,
    the real ones too: else the duration that does not fit would give samples away. Each real speaker has an
    area of its own: how often the samples are taken for more real than its tokens.
    """
    rows = np.random.default_rng(seed).permutation(len(validation))
    lengths, speakers = validation.samples[rows], validation.table.speaker.to_numpy()
    real = views_at(validation.pictures, lengths)
    drawn = drawn_pictures(tokens, folds[0], len(rows), seed, vae)
    values, by_kind, seen = {}, {"network": {}, "trees": {}}, {"real tokens": real}
    for name, pictures in drawn.items():
        seen[name] = views_at(pictures, lengths)
        of_real, _ = areas(real, speakers, seen[name], None, protocol.fits, seed)
        by_speaker = of_real.groupby(speakers).mean()
        values[name] = by_speaker["mean"]
        for kind, found in by_kind.items():
            found[name] = by_speaker[kind]
    kinds = KINDS | ({} if vae is None else {"beta-VAE": SIMPLE})
    judged = {kind: pd.DataFrame(found) for kind, found in by_kind.items()}
    metric = "AUC of discriminators between real tokens and samples"
    more = {"better": -1, "primary": True, "judges": judged}
    comparisons = [
        Comparison("samples", "all samples", metric, 0.05, pd.DataFrame(values), kinds, len(rows), **more)
    ]
    drawn["real tokens"] = validation.pictures
    numbers = {
        "table": {name: _summary(pictures, seen[name].acoustics) for name, pictures in drawn.items()},
        "speech": {name: of_pictures(pictures[:SOUNDS], lengths) for name, pictures in drawn.items()},
    }
    if (folder / "metrics.json").is_file():  # the card has more controls, and compares with training pictures
        card = read_json(folder / "metrics.json")
        numbers |= {"memory": card["memory"], "card": card["discriminator"]}
    return {
        "comparisons": comparisons,
        "null": swapped(comparisons[0], protocol.shuffles, seed),
        "numbers": numbers,
    }


def silence(tokens: Tokens, validation: Tokens, folds: list[Fold], protocol: Protocol, seed: int) -> dict:
    """How far the share of silent frames in samples is from that in real pictures, of the paper's observation."""
    if tokens.observation is not PADDED:
        return {"comparisons": [], "null": None, "numbers": {}}
    drawn = drawn_pictures(tokens, folds[0], len(validation), seed)
    shares = {name: silent_frames(pictures) for name, pictures in drawn.items()}
    real = pd.Series(silent_frames(validation.pictures)).groupby(validation.table.speaker.to_numpy()).mean()
    names = ("flow", "PCA-Gaussian", "mixture")
    values = pd.DataFrame({name: (real - shares[name].mean()).abs() for name in names})
    kinds = dict.fromkeys(names[1:], SIMPLE)
    metric = "distance of the share of silent frames in samples from that of a speaker's pictures"
    comparisons = [
        Comparison("silence", "all samples", metric, 0.05, values, kinds, len(validation), -1, True)
    ]
    means = {name: float(share.mean()) for name, share in shares.items()} | {
        "real tokens": float(real.mean())
    }
    return {"comparisons": comparisons, "null": swapped(comparisons[0], protocol.shuffles, seed), "numbers": {
        "silent frames": means,
    }}  # fmt: skip


def silent_frames(pictures: torch.Tensor) -> np.ndarray:
    """Share of each picture's frames in which no bin is within 40 dB of its loudest point ``(n,)``."""
    loudest = pictures.clamp(0, 1)[:, 0, :257].amax(1)
    return (loudest < (loudest.amax(1, keepdim=True) - 0.5).clamp_min(SILENT)).float().mean(1).numpy()


def _summary(pictures: torch.Tensor, acoustics: pd.DataFrame) -> dict:
    """Length, voicing and silence of a set of pictures."""
    found = {
        "voiced": float(acoustics.f0.notna().mean()),
        "silent pixels": (pictures < SILENT).float().mean().item(),
        "silent frames": float(silent_frames(pictures).mean()),
        "pictures": len(pictures),
    }
    if tuple(pictures.shape[-2:]) == PADDED.shape:
        found["sounding_ms"] = float(np.median([last - first for first, last in map(sounding, pictures)]))
    return found
