"""Section 4.3: random codes decode to pictures that look like speech, most of them silent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vowelflow.audio import to_audio
from vowelflow.base import LEAD
from vowelflow.glow import Glow
from vowelflow.spectrogram import phases, pictures_of

from .. import judges
from ..folds import Fold, Tokens
from ..methods import gaussian_samples
from ..protocol import Protocol
from ..statistics import Comparison, swapped
from ..vowel_judge import VowelJudge, accuracy, features


def samples(
    tokens: Tokens, folds: list[Fold], judge: VowelJudge, folders: list[Path], variants: dict[str, Glow],
    protocol: Protocol, seed: int,
) -> dict:  # fmt: skip
    """Share of samples whose formants, F0 and vowel are like those of real tokens."""
    fit, count, flows = folds[0].fit, protocol.samples, [fold.flow for fold in folds]
    drawn = {
        "flow": _drawn(flows, count, seed),
        "untrained flow": _drawn([fold.untrained for fold in folds], count, seed),
        **gaussian_samples(tokens.pictures[fit], count, seed),
        "flow, temperature 0.7": _drawn(flows, count, seed, temperature=0.7),
    }
    evaluation = tokens.rows(np.concatenate([fold.evaluation for fold in folds]), scored=True)
    real = tokens.draw(evaluation, max(1, count // 5), ("phone",), seed)
    sets = drawn | {"real tokens": tokens.pictures[real]}
    measured = {name: features(pictures) for name, pictures in sets.items()}
    judgements = [("F0, formants and entropy as of a vowel", judge.plausible)]
    judgements.append(("mel-cepstrum as probable as that of 95 % of vowels", judge.speech))
    kinds = {"untrained flow": "untrained", "PCA-Gaussian": "simple", "mixture": "simple"}
    comparisons = []
    for part, judgement in judgements:
        values = pd.DataFrame({name: pd.Series(judgement(x).astype(float)) for name, x in measured.items()})
        more = {"bound": 1.0, "primary": not comparisons}
        comparisons.append(
            Comparison("samples", part, "share of samples", 0.05, values, kinds, count, **more)
        )
    numbers = {"table": {name: _summary(pictures, measured[name]) for name, pictures in sets.items()}}
    if "crop" in variants:
        numbers["silent frames of crops"] = silent_frames(variants["crop"].sample(count, seed=seed))
    numbers["silent frames"] = {name: silent_frames(pictures) for name, pictures in sets.items()}
    fewer = real[:: max(1, len(real) // 64)]
    numbers["phase alone"] = _phase_alone(tokens, judge, fewer, tokens.pictures[fit].mean(0))
    card = folders[0] / "metrics.json"
    if card.is_file():  # the card compares samples with training pictures
        numbers["memory"] = json.loads(card.read_text())["memory"]
    null = swapped(comparisons[0], protocol.shuffles, seed)
    return {"comparisons": comparisons, "null": null, "numbers": numbers}


def _drawn(flows: list[Glow], count: int, seed: int, temperature: float = 1.0) -> torch.Tensor:
    """``count`` samples in equal numbers from each different flow."""
    flows = list(dict.fromkeys(flows))
    share = -(-count // len(flows))
    return torch.cat([flow.sample(share, temperature, seed) for flow in flows])[:count]


def silent_frames(pictures: torch.Tensor) -> float:
    """Share of frames in which no bin is within 40 dB of the picture's loudest point."""
    loudest = pictures.clamp(0, 1)[:, 0, :257].amax(1)
    return (loudest < (loudest.amax(1, keepdim=True) - 0.5).clamp_min(judges.SILENT)).float().mean().item()


def _summary(pictures: torch.Tensor, measured: np.ndarray) -> dict:
    """Length, voicing and silence of a set of pictures, from their judge's features."""
    lengths = [last - first for first, last in map(judges.sounding, pictures)]
    return {
        "sounding_ms": float(np.median(lengths)),
        "no vowel": float(np.isnan(measured[:, 0]).mean()),
        "voiced": float(np.isfinite(measured[:, -4]).mean()),
        "silent pixels": (pictures < judges.SILENT).float().mean().item(),
        "pictures": len(pictures),
    }


def _phase_alone(tokens: Tokens, judge: VowelJudge, rows: np.ndarray, mean: torch.Tensor) -> dict:
    """The judge's accuracy on sounds with the true phase of a token, but another magnitude, as a warning.

    The magnitude is the ``mean`` picture of all vowels, or that of another token.
    """
    own = tokens.corpus.take(rows)
    pictures = {
        "the mean magnitude, own phase": mean.expand(len(rows), -1, -1, -1),
        "another token's magnitude, own phase": tokens.pictures[np.roll(rows, 1)],
    }
    measured = {"own magnitude, invented phase": tokens.features[rows]}
    for name, magnitudes in pictures.items():
        sounds = [to_audio(picture, phase) for picture, phase in zip(magnitudes, phases(own))]
        borrowed, _ = pictures_of([torch.from_numpy(np.pad(sound, LEAD, "reflect")) for sound in sounds])
        measured[name] = features(borrowed)
    return {name: accuracy(judge, x, own.table) for name, x in measured.items()}
