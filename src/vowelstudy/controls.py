"""Controls: what every judge says of pictures whose answer is clear beforehand. No judge is used that fails them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter1d

from vowelflow.base import repository
from vowelflow.corpus import VOWELS, Corpus
from vowelflow.spectrogram import FLOOR_DB, OBSERVATIONS, Observation, images, usable

from . import discriminator
from .detector import of_pictures
from .judges import FACTORS, accuracy, load_judges
from .realism import areas, views_at
from .results import write_json
from .tokens import Tokens

COUNT, FITS = 400, 2  # real tokens, and pictures of each control; fits of the discriminators
SOUNDS = 100  # of each control, for the detector
SMOOTH = 8  # bins, 250 Hz: deviation of the Gaussian that smooths random filters
FILTERS_DB = (1.0, 3.0)


def write_controls(speech: Corpus, evaluation: Corpus, home: Path | None = None) -> Path:
    """Write ``results/controls.json``: the controls of all judges, for both observations."""
    found = {name: controls_of(speech, evaluation, one) for name, one in OBSERVATIONS.items()}
    return write_json((home or repository()) / "results" / "controls.json", found)


def controls_of(
    speech: Corpus,
    evaluation: Corpus,
    observation: Observation,
    count: int = COUNT,
    fits: int = FITS,
    seed: int = 0,
) -> dict:
    """Controls of all judges.

    Args:
        speech: the corpus of a flow. Its validation speakers have the real tokens.
        evaluation: speakers that no judge was fitted on, for the judges of identity.

    Returns:
        ``discriminators``: AUC of both against real tokens. ``detector``: mean probability of speech, and share
        above its limit. ``identity``: accuracy of each judge, also with shuffled labels, and the probability of
        the most probable vowel in real tokens and in noise. ``n`` real tokens.
    """
    valid = usable(speech.held_out("valid"), observation)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(valid))
    first, second = (valid.take(np.sort(rows)) for rows in (order[:count], order[count : 2 * count]))
    floor = usable(speech.split["train"], observation).draw(count, by=("split",), seed=seed)
    real, lengths = images(first, observation=observation), _samples(first)
    made = {"other real tokens": second, "training tokens": floor}
    sets = {
        name: (images(one, observation=observation), one.table.speaker.to_numpy())
        for name, one in made.items()
    }
    for decibels in FILTERS_DB:
        pictures, makers = sets["other real tokens"]
        sets[f"filtered by {decibels:g} dB"] = filtered(pictures, decibels, rng), makers
    for name, make in discriminator.controls(real, seed).items():
        sets[name] = make(len(real)), None
    return {
        "discriminators": _discriminators(real, first.table.speaker.to_numpy(), lengths, sets, fits, rng),
        "detector": _detector({"real tokens": (real, None), **sets}, lengths),
        "identity": _identity(usable(evaluation, observation), observation, seed), "n": len(real),
    }  # fmt: skip


def _samples(corpus: Corpus) -> np.ndarray:
    return (corpus.table.end - corpus.table.start).to_numpy()


def filtered(pictures: torch.Tensor, decibels: float, rng: np.random.Generator) -> torch.Tensor:
    """Pictures, each with a smooth random filter of this deviation: how small a change is noticed."""
    noise = gaussian_filter1d(rng.standard_normal((len(pictures), pictures.shape[2])), SMOOTH, axis=1)
    gain = torch.from_numpy(noise / noise.std(1, keepdims=True) * decibels / FLOOR_DB).float()
    return torch.where(pictures > 0, pictures + gain[:, None, :, None], 0.0).clamp(0, 1)


def _discriminators(real, speakers, lengths, sets: dict, fits: int, rng) -> dict:
    """AUC by control and discriminator. All pictures get durations of real tokens at random."""

    def seen(pictures):
        return views_at(pictures, rng.choice(lengths, len(pictures)))

    own, found = seen(real), {}
    for name, (pictures, makers) in sets.items():
        _, of_made = areas(own, speakers, seen(pictures), makers, fits)
        found[name] = of_made[["network", "trees"]].mean().to_dict()
    return found


def _detector(sets: dict, lengths: np.ndarray) -> dict:
    return {
        name: of_pictures(pictures[:SOUNDS], np.resize(lengths, len(pictures)))
        for name, (pictures, _) in sets.items()
    }


def _identity(evaluation: Corpus, observation: Observation, seed: int) -> dict:
    tokens, judges = Tokens(evaluation.filter(phone=VOWELS), observation), load_judges(evaluation.name)
    rows = np.arange(len(tokens))
    features, table = tokens.features(rows), tokens.table
    noise = torch.rand(SOUNDS, 1, *observation.shape, generator=torch.Generator().manual_seed(seed))
    of_noise = tokens.measure(noise, np.resize(rows, SOUNDS))
    shuffled = table.sample(frac=1, random_state=seed).reset_index(drop=True)
    largest = {
        name: judges.posterior(one, "phone").max(axis=1).mean()
        for name, one in (("real", features), ("noise", of_noise))
    }
    return {
        "accuracy": accuracy(judges, features, table), "shuffled labels": accuracy(judges, features, shuffled),
        "probability of the most probable vowel": largest, "tokens": len(tokens),
    }  # fmt: skip


def tables_of(found: dict) -> dict[str, pd.DataFrame]:
    """Tables of ``controls.json`` for the book: ``discriminators``, ``detector`` and ``identity``."""
    each = {name: one["discriminators"] for name, one in found.items()}
    areas_of = {name: pd.DataFrame(one).T for name, one in each.items()}
    detector = {name: pd.DataFrame(one["detector"]).T["share of speech"] for name, one in found.items()}
    identity = {
        (name, labels, factor): pd.Series(one["identity"][key][factor])
        for name, one in found.items()
        for labels, key in (("true labels", "accuracy"), ("shuffled", "shuffled labels"))
        for factor in FACTORS
    }
    return {
        "discriminators": pd.concat(areas_of, axis=1), "detector": pd.DataFrame(detector),
        "identity": pd.DataFrame(identity).T,
    }  # fmt: skip
