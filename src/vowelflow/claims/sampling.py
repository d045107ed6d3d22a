"""Section 4.3: random codes decode to what looks like speech, most of it silent."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import torch

from .. import judges
from ..corpus import LEAD
from ..evidence import Bench
from ..findings import Contest, swapped
from ..listener import features
from ..spaces import sample_spaces
from ..spectrogram import phases, pictures_of, to_audio


def samples(bench: Bench) -> dict:
    """Share of samples whose formants, F0 and vowel are where those of real tokens are."""
    one, count, seed = bench.rounds[0], bench.depth.samples, bench.seed
    flows = list({id(each.model): each for each in bench.rounds}.values())
    share = -(-count // len(flows))
    drawn = {
        "flow": torch.cat([each.model.sample(share, seed=seed) for each in flows])[:count],
        "untrained flow": torch.cat([each.untrained.sample(share, seed=seed) for each in flows])[:count],
        **sample_spaces(bench.pictures[one.known], count, seed),
        "flow, temperature 0.7": torch.cat([each.model.sample(share, temperature=0.7, seed=seed) for each in flows])[
            :count
        ],
    }
    unseen = bench.rows(np.concatenate([r.unseen for r in bench.rounds]), tests=True)
    real = bench.some(unseen, max(1, count // 5), by=("phone",))
    sets = drawn | {"real tokens": bench.pictures[real]}
    heard = {name: features(pictures) for name, pictures in sets.items()}
    ok = {name: pd.Series(bench.listener.plausible(rows).astype(float)) for name, rows in heard.items()}
    kinds = {"untrained flow": "untrained", "PCA-Gaussian": "simple", "mixture": "simple"}
    dense = {name: pd.Series(bench.listener.speech(rows).astype(float)) for name, rows in heard.items()}
    metric = "share of samples"
    tests = [
        Contest("samples", "F0, formants and entropy as of a vowel", metric, 0.05, pd.DataFrame(ok), kinds, count, primary=True, bound=1.0),
        Contest("samples", "mel-cepstrum as probable as that of 95 % of vowels", metric, 0.05, pd.DataFrame(dense), kinds, count, bound=1.0),
    ]  # fmt: skip
    numbers = {"table": {name: _looks(pictures, heard[name]) for name, pictures in sets.items()}}
    if crop := bench.extra.get("crop"):
        cut = crop.sample(count, seed=seed)
        numbers["silent frames of crops"] = float(_silent_frames(cut))
    numbers["silent frames"] = {name: float(_silent_frames(pictures)) for name, pictures in sets.items()}
    numbers["phase alone"] = _phase_alone(bench, real[:: max(1, len(real) // 64)], bench.pictures[one.known].mean(0))
    card = bench.folders[0] / "metrics.json"
    if card.is_file():  # which has the train pictures at hand
        numbers["memory"] = json.loads(card.read_text())["memory"]
    return {"tests": tests, "null": swapped(tests[0], bench.depth.shuffles, seed), "numbers": numbers}


def _silent_frames(pictures: torch.Tensor) -> float:
    """Share of frames with nothing within 40 dB of the picture's loudest point."""
    loudest = pictures.clamp(0, 1)[:, 0, :257].amax(1)
    return (loudest < (loudest.amax(1, keepdim=True) - 0.5).clamp_min(judges.SILENT)).float().mean().item()


def _looks(pictures: torch.Tensor, heard: np.ndarray) -> dict:
    """Length and voice of a set of pictures."""
    lengths = [last - first for first, last in map(judges.sounding, pictures)]
    return {
        "sounding_ms": float(np.median(lengths)),
        "no vowel": float(np.isnan(heard[:, 0]).mean()),
        "voiced": float(np.isfinite(heard[:, -4]).mean()),
        "silent pixels": (pictures < judges.SILENT).float().mean().item(),
        "pictures": len(pictures),
    }


def _phase_alone(bench: Bench, rows: np.ndarray, mean: torch.Tensor) -> dict:
    """What the listener hears of true phases on the mean picture of all vowels, or on another token's: its trap, not a result.

    Share of vowels and sexes of the phase's owner that are heard.
    """
    tokens, others = bench.tokens.take(rows), bench.pictures[np.roll(rows, 1)]
    pictures = {
        "the mean magnitude, own phase": mean.expand(len(rows), -1, -1, -1),
        "another token's magnitude, own phase": others,
    }
    found = {"own magnitude, invented phase": bench.heard[rows]}
    for name, some in pictures.items():
        sounds = [to_audio(picture, phase) for picture, phase in zip(some, phases(tokens))]
        borrowed, _ = pictures_of([torch.from_numpy(np.pad(sound, LEAD, "reflect")) for sound in sounds])
        found[name] = features(borrowed)
    return {
        name: {
            factor: float(
                (bench.listener.posterior(heard, factor).idxmax(axis=1).to_numpy() == tokens.table[factor]).mean()
            )
            for factor in ("phone", "sex")
        }
        for name, heard in found.items()
    }
