"""Evaluation: what is measured of a flow: likelihood, exactness, stability, memory, and how real its samples look."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import combinations

import numpy as np
import pandas as pd
import soundfile
import torch

from vowelflow.base import RATE
from vowelflow.convolution import factors, weights_of
from vowelflow.corpus import Corpus
from vowelflow.glow import LOG_2PI, Glow
from vowelflow.latent import direction, line, random_direction
from vowelflow.spectrogram import (
    FLOOR_DB,
    Observation,
    batches,
    dequantize,
    images,
    observation_of,
    usable,
)

from .baselines import densities, rescued
from .discriminator import controls
from .realism import areas, views_at
from .statistics import interval

POINTS = 11  # on a line between two tokens
STEP = 3.0  # displacements that a token is moved by
TOKENS = 10  # tokens that are moved along each direction


def simpler_models(
    train: torch.Tensor, valid: torch.Tensor, untrained: Glow, seed: int = 0
) -> dict[str, Callable]:
    """Models that a flow must beat: ``densities`` of pictures, and the untrained flow, ``rescued`` as the flow is.

    Returns:
        By name, functions of (pictures, seed) that give bits per dimension ``(n,)``.
    """

    def bits(pictures: torch.Tensor, seed: int) -> torch.Tensor:
        return rescued(untrained.bits_per_dim(pictures, 1, seed), untrained.config.size)

    return densities(train, valid, seed=seed) | {"untrained flow": bits}


def likelihood(model: Glow, speech: Corpus, draws: int, rivals: dict[str, Callable]) -> dict:
    """Bits per dimension of segments: mean over speakers with its interval, ``rescued``, and the value of each speaker.

    Also ``kilobits`` per second; ``worst``, the bits of the worst token without the rescue; ``lost``, the tokens
    above 8 bits; ``FLAC``; and ``rivals``, simpler models on the same pictures.
    """
    size, samples, speakers = (
        model.config.size,
        speech.table.end - speech.table.start,
        speech.table.speaker.to_numpy(),
    )
    rows = []
    for pictures, _ in batches(speech, observation=observation_for(model)):
        row = {"flow": model.bits_per_dim(pictures, draws)}
        row |= {name: density(pictures, 0) for name, density in rivals.items()}
        rows.append(pd.DataFrame({name: value.numpy() for name, value in row.items()}))
    tokens = pd.concat(rows, ignore_index=True)
    raw = tokens.flow.to_numpy(copy=True)
    tokens["flow"] = rescued(torch.from_numpy(raw), size).numpy()
    means = tokens.groupby(speakers).mean()
    kilobits = tokens.mul(size / 1000 / (samples / RATE).to_numpy(), axis=0).groupby(speakers).mean()
    found = over_speakers(means.flow) | {
        "tokens": len(speech), "draws": draws, "worst": float(raw.max()), "lost": int((raw > 8).sum()),
        "kilobits": over_speakers(kilobits.flow), "FLAC": _flac(speech, size),
    }  # fmt: skip
    return found | {
        "rivals": {
            name: over_speakers(means[name]) | {"kilobits": interval(kilobits[name])} for name in rivals
        }
    }


@torch.no_grad()
def allocation(model: Glow, pictures: torch.Tensor, seed: int = 0, batch: int = 8) -> torch.Tensor:
    """Bits of each pixel ``(n, side, frames)``; their mean is ``bits_per_dim`` for one draw of the noise.

    The bits of a position of a level are divided evenly among the pixels that it covers.
    """
    parts, (side, frames) = [], (model.config.side, model.config.frames)
    for y in dequantize(pictures, seed).split(batch):
        bits = 8.0
        for scale, gain in zip(*model.forward(y.to(model.top))):
            nats = gain - 0.5 * (scale.square() + LOG_2PI).sum(1)
            rows, columns = side // scale.shape[2], frames // scale.shape[3]
            spread = nats.repeat_interleave(rows, 1).repeat_interleave(columns, 2)
            bits = bits - spread / (rows * columns) / math.log(2)
        parts.append(bits.cpu())
    return torch.cat(parts)


def _flac(speech: Corpus, size: int) -> dict:
    """The cost of the segments' samples in a lossless audio coder: FLAC, of each speaker's segments joined.

    ``kilobits`` per second of speech, and ``bits`` for each of the ``size`` pixels of a picture.
    """
    rows = {}
    for speaker, tokens in speech.table.groupby("speaker").indices.items():
        sound, file = np.concatenate([speech.sound(token) for token in tokens]), io.BytesIO()
        soundfile.write(file, sound, RATE, format="FLAC", subtype="PCM_16")
        cost = 8 * file.getbuffer().nbytes
        rows[speaker] = {"kilobits": cost / 1000 / (len(sound) / RATE), "bits": cost / len(tokens) / size}
    return {name: over_speakers(values) for name, values in pd.DataFrame(rows).T.items()}


def over_speakers(values: pd.Series) -> dict | None:
    """Mean and interval over speakers, and ``speakers``, the value of each; None if there are no speakers."""
    return interval(values) | {"speakers": values.to_dict()} if len(values) else None


@torch.no_grad()
def exactness(model: Glow, corpus: Corpus) -> dict:
    """Greatest difference of a pixel between ``decode(encode(x))`` and the dequantized picture.

    In float32, in float64, and in float32 if codes are decoded in another order and batch size; and ``off_the_data``,
    in float32, of pictures unlike those of training.
    """
    observation = observation_for(model)
    precise, tokens, errors = deepcopy(model).double(), usable(corpus, observation), []
    for pictures, _ in batches(tokens, observation=observation):
        code, double = model.encode(pictures), precise.encode(pictures)
        reordered = code[list(reversed(range(len(code))))]
        errors.append({
            "float32": _difference(model.decode(code), code.image),
            "float64": _difference(precise.decode(double), double.image),
            "float32_reordered": _difference(model.decode(reordered, batch=3), reordered.image),
        })  # fmt: skip
    vowels = images(tokens.take(evenly(len(tokens), 16)), observation=observation)
    noise = torch.rand(vowels.shape, generator=torch.Generator().manual_seed(0))
    odd = {"upside-down vowels": vowels.flip(2), "silence": torch.zeros_like(vowels), "white noise": noise}
    odd = {name: dequantize(pictures).to(model.top) for name, pictures in odd.items()}
    return pd.DataFrame(errors).max().to_dict() | {
        "tokens": len(tokens),
        "off_the_data": {name: _difference(model.inverse(model.flat(y)), y) for name, y in odd.items()},
    }


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference. If it is not finite, the largest float, which JSON can express."""
    return (
        (one - other).abs().nan_to_num(nan=torch.inf).max().clamp(max=torch.finfo(torch.float32).max).item()
    )


def stability(model: Glow, corpus: Corpus, samples: int, lines: int) -> dict:
    """Whether decoded pictures are finite, and what share of their pixels is outside [-0.1, 1.1].

    Samples of temperature 1; straight lines between random pairs of tokens; and tokens, as codes and as pictures,
    moved three times, both ways, by the displacements of ``directions``. Tokens are of test speakers if there are any.
    """
    tokens = usable(corpus, observation_for(model))
    held_out = tokens.held_out("test")
    speech = held_out if len(held_out) else tokens
    codes = model.encode(images(speech, observation=observation_for(model)))
    rng = np.random.default_rng(0)
    pairs = [rng.choice(len(codes), 2, replace=len(codes) < 2) for _ in range(lines)]
    draws = ((min(50, samples - start), start // 50) for start in range(0, samples, 50))
    few = codes[evenly(len(codes), TOKENS)]
    of_codes, of_pictures = directions(model, corpus)
    steps = (few.flat + sign * STEP * found for found in of_codes for sign in (1, -1))
    shifts = (sign * STEP * found.view(1, *few.image.shape[1:]) for found in of_pictures for sign in (1, -1))
    return {
        "worst_condition": worst_condition(model),
        "tokens_of": "test speakers" if speech is held_out else "all speakers",
        "samples": spread(model.sample(count, seed=seed) for count, seed in draws),
        "lines": spread(model.decode(line(codes[one], codes[other], POINTS)) for one, other in pairs),
        "steps": spread(model.decode(moved) for moved in steps),
        "steps of pictures": spread(few.image + shift for shift in shifts),
    }


def worst_condition(model: Glow) -> float:
    """The largest condition number of the flow's 1x1 convolutions, without actnorm."""
    convolutions = ([convolution] for steps in model.levels for convolution, _ in steps)
    matrices = (weights_of(one)[0][0] * (-factors(one)[3][0]).exp() for one in convolutions)
    return max(torch.linalg.cond(matrix.detach().double()).item() for matrix in matrices)


def directions(model: Glow, corpus: Corpus) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Displacements of codes, and of pictures, between every two vowels and between the sexes; and a random one.

    Fitted on train speakers. The mean of a few codes is mostly noise, so classes with less than a third of the tokens
    of the largest are left out.
    """
    speech = corpus.split["train"] if len(corpus.split["train"]) else corpus
    speech = usable(speech, observation_for(model)).draw(300, by=("split", "phone"))
    codes, pairs = model.encode(images(speech, observation=observation_for(model))), []
    for labels in (speech.table.phone, speech.table.sex):
        counts = labels.value_counts()
        rows = {
            name: np.flatnonzero(labels == name) for name in sorted(counts[counts >= counts.max() / 3].index)
        }
        pairs += combinations(map(torch.from_numpy, rows.values()), 2)
    spaces = []
    for space in (codes.flat, codes.image.flatten(1)):
        found = [direction(space[one], space[other]) for one, other in pairs]
        spaces.append([*found, random_direction(found[0] if found else torch.ones_like(space[:1]))])
    return tuple(spaces)


def spread(decoded: Iterable[torch.Tensor]) -> dict:
    """Of decoded pictures: pixels that are not finite, the share outside [-0.1, 1.1], and the largest finite pixel."""
    pictures, pixels, not_finite, outside, largest = 0, 0, 0, 0, 0.0
    for part in decoded:
        finite = torch.isfinite(part)
        pictures, pixels = pictures + len(part), pixels + part.numel()
        not_finite += (~finite).sum().item()
        outside += (~((part >= -0.1) & (part <= 1.1))).sum().item()
        largest = max(largest, part.where(finite, 0).abs().max().item())
    return {
        "pictures": pictures,
        "not_finite": not_finite,
        "outside_share": outside / pixels,
        "largest": largest,
    }


def memory(model: Glow, train: torch.Tensor, held_out: Corpus, count: int = 200) -> dict:
    """Distance of samples, and of pictures of held-out speakers, to the nearest of the ``train`` pictures.

    Medians over ``count`` pictures, root mean square in dB. A flow that memorizes its train pictures draws samples
    with distances near zero.
    """

    def nearest(pictures: torch.Tensor) -> float:
        distances = torch.cdist(pictures.clamp(0, 1).flatten(1), train.flatten(1)).min(1).values
        return FLOOR_DB * distances.median().item() / model.config.size**0.5

    tokens = held_out.draw(count, by=("split",))
    return {
        "train_pictures": len(train),
        "samples_db": nearest(model.sample(count, seed=1)),
        "held_out_db": nearest(images(tokens, observation=observation_for(model))) if len(tokens) else None,
    }


def samples_beside_real(
    model: Glow, untrained: Glow, corpus: Corpus, count: int = 400, seed: int = 0, fits: int = 3
) -> dict:
    """How well the discriminators recognise samples of temperature 1 beside tokens of validation speakers.

    With their controls; ``floor``, real training tokens, which a perfect flow would reach; and ``real``, other
    tokens of validation speakers. Up to ``count`` tokens; only ``tokens`` 0 if there are fewer than two
    validation speakers.
    """
    observation, valid = observation_for(model), corpus.held_out("valid")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(valid))
    first, second = valid.take(order[:count]), valid.take(order[count : 2 * count])
    if first.table.speaker.nunique() < 2:
        return {"tokens": 0}
    real, speakers = images(first, observation=observation), first.table.speaker.to_numpy()
    train = corpus.split["train"].draw(len(real), ("split",), seed)
    sets = {"samples": (model.sample(len(real), seed=seed), None)}
    for name, tokens in (("floor", train), ("real", second)):
        if len(tokens):
            sets[name] = images(tokens, observation=observation), tokens.table.speaker.to_numpy()
    sets["untrained flow"] = untrained.sample(len(real), seed=seed), None
    sets |= {name: (make(len(real)), None) for name, make in controls(real, seed).items()}
    lengths = (first.table.end - first.table.start).to_numpy()
    own, found = views_at(real, rng.choice(lengths, len(real))), {"tokens": len(real)}
    for name, (pictures, makers) in sets.items():
        made = views_at(pictures, rng.choice(lengths, len(pictures)))
        found[name] = areas(own, speakers, made, makers, fits, seed)[1].mean().to_dict()
    return found


def observation_for(model: Glow) -> Observation:
    return observation_of((model.config.side, model.config.frames))


def evenly(count: int, wanted: int) -> np.ndarray:
    """``wanted`` of ``count`` rows, evenly spaced; all rows if there are no more."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(int))
