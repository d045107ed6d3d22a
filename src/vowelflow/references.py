"""Reference models: what each was trained on and how, and which of them a study uses."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .checkpoint import glow_config, load_model, shelves
from .corpus import Corpus, InputError
from .glow import Glow
from .readers import load_corpus
from .spectrogram import usable
from .training import Profile, can_go_on, profile_named, train


@dataclass(frozen=True)
class Recipe:
    """What makes a reference model."""

    corpus: str
    vowels: str = "five"
    profile: str = "cpu"
    iterations: int | None = None  # instead of the profile's own
    snapshots: tuple[int, ...] = ()  # numbers of pictures at which weights are saved on the way
    seed: int = 0
    start_from: str | None = None  # the reference model whose weights training begins with
    share: float = 1.0  # of the train speakers
    fold: int | None = None  # of four, whose speakers are left for the test

    def speech(self, root: str | None = None) -> Corpus:
        """The corpus, its speakers split as the recipe wants."""
        corpus = usable(load_corpus(self.corpus, root, self.vowels), self.settings().observation)
        return (corpus if self.fold is None else corpus.fold(self.fold)).with_train_share(self.share)

    def settings(self) -> Profile:
        profile = profile_named(self.profile)
        return replace(profile, iterations=self.iterations or profile.iterations, snapshots=self.snapshots)


SPEECH = Recipe("librispeech", "all", "vowel", 37_500, snapshots=(50_000, 100_000))
FIRST = Recipe("librispeech", "all")
RECIPES = {
    "speech": SPEECH,
    "speech-seed-1": replace(SPEECH, snapshots=(), seed=1),
    "speech-seed-2": replace(SPEECH, snapshots=(), seed=2),
    "speech-noise": replace(SPEECH, profile="vowel-noise", iterations=25_000, snapshots=(), start_from="speech"),
    "speech-padded": replace(SPEECH, profile="padded", iterations=15_000, snapshots=()),
    "klatt": Recipe("klatt", "five", "vowel", 12_500),
    "timit": Recipe("timit", "all", "vowel", 37_500),  # no weights: its licence does not let them be passed on
    # The first edition's, until nothing is measured with them.
    "cpu-speech": FIRST,
    "cpu-speech-half": replace(FIRST, share=1 / 2),
    "cpu-speech-quarter": replace(FIRST, share=1 / 4),
    "cpu-speech-noise": replace(FIRST, profile="cpu-noise", iterations=12_000),
    "cpu-speech-crop": replace(FIRST, profile="cpu-crop"),
    **{f"cpu-timit-sample-{fold}": Recipe("timit-sample", fold=fold, iterations=10_000) for fold in (1, 2, 3, 4)},
    "cpu-klatt": Recipe("klatt", iterations=10_000),
    "paper-speech": replace(FIRST, profile="paper"),
}


def recipe_named(name: str) -> Recipe:
    """The recipe of this name, or ``InputError``."""
    if name not in RECIPES:
        raise InputError(f"no reference model {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def reference_model(
    corpus: Corpus, profile: str = "cpu", seed: int = 0, models: Path | None = None
) -> tuple[Glow, Path]:
    """The flow that a study of this corpus uses, and the folder it came from.

    The first of these that is there, under ``models/`` or else ``build/models/``: ``PROFILE-CORPUS``, if it was
    trained on this very corpus (its fingerprint is in the config) in the profile's shape; and for real speech
    ``PROFILE-speech``, if it never met one of the corpus's test speakers. Without either, a flow is trained under
    ``build/models/``, or a training that was cut short there goes on.
    """
    wanted, places, test = profile_named(profile), shelves(models), corpus.split["test"]
    own = f"{profile}-{corpus.name}"
    for name in (own, f"{own}-{corpus.fingerprint}", f"{profile}-speech"):
        for folder in (place / name for place in places if (place / name / "config.json").is_file()):
            try:
                config = json.loads((folder / "config.json").read_text())
                finished = config["steps"] >= config["profile"]["iterations"]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{folder / 'config.json'} is not a model's configuration ({error!r}); remove {folder}"
                ) from None
            if name == f"{profile}-speech":
                fits = corpus.name != "klatt" and len(unseen(config, test)) == len(test)
            else:
                fits = (config["fingerprint"], config["seed"]) == (corpus.fingerprint, seed)
            if fits and finished and glow_config(config) == wanted.glow:
                return load_model(folder), folder
    folder = places[-1] / own
    if not can_go_on(folder, corpus, wanted, seed):
        folder = places[-1] / f"{own}-{corpus.fingerprint}"  # what is there is of another corpus, and stays
    train(corpus, folder, wanted, seed, resume=True)
    return load_model(folder), folder


def flows_of(corpus: Corpus, profile: str = "cpu", seed: int = 0, models: Path | None = None) -> list[str]:
    """Flows that the evidence of a corpus is about: the one a study of it uses, and, where they are there, flows of its folds."""
    _, folder = reference_model(corpus, profile, seed, models)
    folds = [name for name, recipe in RECIPES.items() if recipe.fold and recipe.corpus == corpus.name]
    there = [any((place / name / "config.json").is_file() for place in shelves(models)) for name in folds]
    return [str(folder)] + ([folds[0].rsplit("-", 1)[0]] if folds and all(there) else [])


def unseen(config: dict, corpus: Corpus) -> Corpus:
    """The segments whose speakers a flow with this ``config.json`` has neither learned from nor been chosen by."""
    met = {*config["speakers"].get("train", []), *config["speakers"].get("valid", [])}
    population = {name.removesuffix("-sample") for name in config["corpus"].split("+")}  # TIMIT's sample is of TIMIT
    same = corpus.table["corpus"].str.removesuffix("-sample").isin(population)
    return corpus.take(np.flatnonzero(~(same & corpus.table.speaker.isin(met))))
