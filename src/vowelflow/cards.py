"""Model cards: a folder of weights -> its measured numbers and a page that states them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import deepcopy
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .corpus import Corpus, InputError, save_atomically
from .factors import direction, line, random_direction
from .glow import Glow, file_hash, load_model
from .judges import interval
from .spectrogram import batches, images


def measure(
    folder: Path, corpus: Corpus, draws: int = 8, tokens: int = 500, samples: int = 1000, lines: int = 100
) -> dict:
    """The model card and its numbers, ``README.md`` and ``metrics.json`` in ``folder``; a look at test speakers.

    Bits per dimension by split (mean over speakers, ``draws`` of noise), and what becomes of the flow at
    its limits: ``exactness`` on up to ``tokens`` tokens, ``stability`` of samples, lines and long steps.

    Raises:
        InputError: the flow was not trained on this corpus, or the folder holds no flow.
    """
    model, bits = load_model(folder), {}
    trained_on = json.loads((folder / "config.json").read_text())
    if missing := {"corpus", "fingerprint", "speakers", "profile", "vowels", "licence", "steps"} - trained_on.keys():
        raise InputError(f"{folder / 'config.json'} does not say {', '.join(sorted(missing))}; fetch it or train again")
    if trained_on["fingerprint"] != corpus.fingerprint:
        raise InputError(
            f"{folder} was trained on {trained_on['corpus']} with the fingerprint {trained_on['fingerprint']}, and this "
            f"is {corpus.name} with {corpus.fingerprint}; give the same recordings and vowels"
        )
    for split in ("train", "valid", "test"):
        heard = corpus.held_out(split)
        heard = heard.draw(2, by=("speaker", "phone")) if split == "train" else heard
        if len(heard):
            per_token = torch.cat([model.bits_per_dim(pictures, draws) for pictures, _ in batches(heard)])
            per_speaker = pd.Series(per_token.numpy()).groupby(heard.table.speaker.to_numpy()).mean()
            bits[split] = interval(per_speaker) | {"tokens": len(heard)}
    metrics = {
        "sha256": file_hash(folder / "model.safetensors"),
        "bits_per_dim": bits,
        "draws_of_noise": draws,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "exactness": exactness(model, corpus.take(_some(len(corpus), tokens))),
        "stability": stability(model, corpus, samples, lines),
    }
    save_atomically(folder / "metrics.json", lambda path: path.write_text(json.dumps(metrics, indent=2) + "\n"))
    save_atomically(folder / "README.md", lambda path: path.write_text(_card(folder, metrics)))
    return metrics


def exactness(model: Glow, corpus: Corpus) -> dict:
    """Greatest difference of a pixel between ``decode(encode(x))`` and the dequantized picture.

    In float32, in float64, and in float32 when the codes are decoded in another order and in batches of another size.
    """
    errors = {"float32": 0.0, "float64": 0.0, "float32_reordered": 0.0}
    precise = deepcopy(model).double()
    for pictures, _ in batches(corpus):
        code = model.encode(pictures)
        again = code[list(reversed(range(len(code))))]
        errors["float32"] = max(errors["float32"], _difference(model.decode(code), code.image))
        reordered = _difference(model.decode(again, batch=3), again.image)
        errors["float32_reordered"] = max(errors["float32_reordered"], reordered)
        code = precise.encode(pictures)
        errors["float64"] = max(errors["float64"], _difference(precise.decode(code), code.image))
    return errors | {"tokens": len(corpus)}


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest; of a picture that is not finite, the largest float there is, which JSON can say."""
    return (one - other).abs().nan_to_num(nan=torch.inf).max().clamp(max=torch.finfo(torch.float32).max).item()


def stability(model: Glow, corpus: Corpus, samples: int, lines: int, points: int = 11, step: float = 3.0) -> dict:
    """Whether decoded pictures are finite, and what share of their pixels is outside [-0.1, 1.1].

    Samples of temperature 1; straight lines of ``points`` between random pairs of tokens; and tokens moved by
    ``step`` times, both ways, every displacement between two vowels, that between the sexes, and a random
    direction of equal norm, as found on train speakers. The tokens are of test speakers, if there are any.
    """
    held_out = corpus.held_out("test")
    speech = held_out if len(held_out) else corpus
    codes = model.encode(images(speech))
    rng = np.random.default_rng(0)
    pairs = [rng.choice(len(codes), 2, replace=len(codes) < 2) for _ in range(lines)]
    paths = (line(codes[one], codes[other], points) for one, other in pairs)
    some = codes.flat[_some(len(codes), 8)]
    draws = ((min(50, samples - start), start // 50) for start in range(0, samples, 50))
    steps = (some + sign * step * found for found in _directions(model, corpus) for sign in (1, -1))
    return {
        "worst_condition": worst_condition(model),
        "tokens_of": "test speakers" if speech is held_out else "all speakers",
        "samples": _spread(model.sample(count, seed=seed) for count, seed in draws),
        "lines": _spread(model.decode(path) for path in paths),
        "steps": _spread(model.decode(moved) for moved in steps),
    }


def worst_condition(model: Glow) -> float:
    """The largest condition number of the flow's 1x1 convolutions, without actnorm."""
    mixes = (mix for steps in model.levels for mix, _ in steps)
    weights = (mix.weights()[0] * (-mix.factors()[3]).exp() for mix in mixes)
    return max(torch.linalg.cond(weight.detach().double()).item() for weight in weights)


def _directions(model: Glow, corpus: Corpus) -> list[torch.Tensor]:
    speech = corpus.split["train"] if len(corpus.split["train"]) else corpus
    speech = speech.draw(2, by=("speaker", "phone"))
    codes, table = model.encode(images(speech)).flat, speech.table
    found = []
    for factor in ("phone", "sex"):
        for one, other in combinations(sorted(table[factor].unique()), 2):
            rows = [torch.from_numpy(np.flatnonzero(table[factor] == name)) for name in (one, other)]
            found.append(direction(codes[rows[0]], codes[rows[1]]))
    return found + [random_direction(found[0] if found else torch.ones_like(codes[:1]))]


def _some(count: int, wanted: int) -> np.ndarray:
    """``wanted`` rows of ``count``, evenly spread; all of them where there are no more."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(int))


def _spread(decoded: Iterable[torch.Tensor]) -> dict:
    """How far decoded pictures go: pixels that are not finite, share outside [-0.1, 1.1], the largest finite one."""
    pictures, pixels, not_finite, outside, largest = 0, 0, 0, 0, 0.0
    for part in decoded:
        finite = torch.isfinite(part)
        pictures, pixels = pictures + len(part), pixels + part.numel()
        not_finite += (~finite).sum().item()
        outside += (~((part >= -0.1) & (part <= 1.1))).sum().item()
        largest = max(largest, part.where(finite, 0).abs().max().item())
    return {"pictures": pictures, "not_finite": not_finite, "outside_share": outside / pixels, "largest": largest}


def _card(folder: Path, metrics: dict) -> str:
    config = json.loads((folder / "config.json").read_text())
    glow, speakers = config["glow"], config["speakers"]
    rows = [
        f"| {split} | {row['estimate']:.3f} | "
        + (f"{row['low']:.3f} to {row['high']:.3f}" if row["low"] is not None else "too few speakers")
        + f" | {row['clusters']} | {row['tokens']} |"
        for split, row in metrics["bits_per_dim"].items()
    ]
    kinds = {
        "samples": "samples of temperature 1",
        "lines": f"straight lines between tokens of {metrics['stability']['tokens_of']}",
        "steps": "three times a direction, both ways",
    }
    exact = metrics["exactness"]
    limits = [
        f"| {text} | {row['pictures']:,} | {row['not_finite']} | {row['outside_share']:.4%} | {row['largest']:.3g} |"
        for text, row in ((text, metrics["stability"][kind]) for kind, text in kinds.items())
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

Greatest difference between a picture and its decoded code, {exact["tokens"]:,} tokens: {exact["float32"]:.1e} in float32
({exact["float32_reordered"]:.1e} in another order and batch), {exact["float64"]:.1e} in float64. Largest condition of a 1x1
convolution: {metrics["stability"]["worst_condition"]:.2f}.

| decoded | pictures | pixels not finite | outside [-0.1, 1.1] | largest pixel |
|---|---|---|---|---|
{chr(10).join(limits)}

## Speakers

{said}

## Known limits

Trained on isolated vowels of few speakers; most of a picture is padding, which is cheap to model, so bits per dimension
compare only with models of the same pictures. Meant for study, not for making or recognising speech.
"""
