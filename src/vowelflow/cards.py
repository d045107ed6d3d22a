"""Model cards: a folder of weights -> its measured numbers and a page that states them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .corpus import Corpus, save_atomically
from .glow import load_model
from .judges import interval
from .spectrogram import batches


def measure(folder: Path, corpus: Corpus, draws: int = 8, samples: int = 1000) -> dict:
    """The model card's numbers, written to ``metrics.json``; the one look at test speakers.

    Bits per dimension by split (mean over speakers), greatest round-trip error over all tokens,
    share of finite pixels in samples of temperature 1.
    """
    model, bits = load_model(folder), {}
    for split in ("train", "valid", "test"):
        tokens = corpus.held_out(split)
        tokens = tokens.draw(2, by=("speaker", "phone")) if split == "train" else tokens
        if len(tokens):
            per_token = torch.cat([model.bits_per_dim(pictures, draws) for pictures, _ in batches(tokens)])
            per_speaker = pd.Series(per_token.numpy()).groupby(tokens.table.speaker.to_numpy()).mean()
            bits[split] = interval(per_speaker) | {"tokens": len(tokens)}
    codes = (model.encode(pictures) for pictures, _ in batches(corpus))
    error = max((model.decode(code) - code.image).abs().max().item() for code in codes)
    drawn = (model.sample(min(50, samples), seed=seed) for seed in range(-(-samples // 50)))
    finite = [torch.isfinite(pictures).float().mean().item() for pictures in drawn]
    metrics = {
        "bits_per_dim": bits,
        "draws_of_noise": draws,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "round_trip_error": error,
        "round_trip_tokens": len(corpus),
        "samples": samples,
        "finite_share_of_samples": float(np.mean(finite)),
    }
    save_atomically(folder / "metrics.json", lambda path: path.write_text(json.dumps(metrics, indent=2) + "\n"))
    save_atomically(folder / "README.md", lambda path: path.write_text(_card(folder, metrics)))
    return metrics


def _card(folder: Path, metrics: dict) -> str:
    config = json.loads((folder / "config.json").read_text())
    glow, speakers = config["glow"], config["speakers"]
    rows = [
        f"| {split} | {row['estimate']:.3f} | "
        + (f"{row['low']:.3f} to {row['high']:.3f}" if row["low"] is not None else "too few speakers")
        + f" | {row['clusters']} | {row['tokens']} |"
        for split, row in metrics["bits_per_dim"].items()
    ]
    said = "\n".join(f"- {split}: {', '.join(names)}" for split, names in sorted(speakers.items()))
    return f"""# {folder.name}

A Glow flow from 288x288 vowel spectrograms to Gaussian codes. This card is generated from `config.json` and
`metrics.json` beside it.

- **Data**: the vowels {", ".join(config["vowels"])} of `{config["corpus"]}` (fingerprint {config["fingerprint"]}), train speakers only.
- **Licence of the weights**: {config["licence"]}.
- **Shape**: {glow["levels"]} levels of {glow["steps"]} steps, coupling widths {glow["hidden"]}, {metrics["parameters"]:,} parameters.
- **Training**: {config["steps"]:,} steps of {config["profile"]["batch"]} pictures in {config["minutes"]:.0f} minutes,
  seed {config["seed"]}, {config["machine"]}. `log.csv` has the curve.
- **SHA-256** of `model.safetensors`: `{config["sha256"]}`

Bits per dimension, mean over speakers with its 95 % t interval, {metrics["draws_of_noise"]} draws of dequantization noise,
without the sentences that every speaker says:

| speakers | bits | interval | number | tokens |
|---|---|---|---|---|
{chr(10).join(rows)}

- Greatest difference between a picture and its decoded code, {metrics["round_trip_tokens"]:,} tokens, float32:
  {metrics["round_trip_error"]:.1e}.
- Finite pixels in {metrics["samples"]:,} samples of temperature 1: {metrics["finite_share_of_samples"]:.2%}.

## Speakers

{said}

## Known limits

Trained on isolated vowels of few speakers; most of a picture is padding, which is cheap to model, so bits per dimension
compare only with models of the same pictures. Meant for study, not for making or recognising speech.
"""
