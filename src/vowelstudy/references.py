"""Reference models: what each was trained on and how, and which of them a study uses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vowelflow.base import InputError, OtherTrainingError
from vowelflow.checkpoint import glow_config, load_model, model_folder, read_config, search_path
from vowelflow.corpus import Corpus
from vowelflow.glow import Glow
from vowelflow.profiles import Profile, profile_named
from vowelflow.readers import load_corpus
from vowelflow.spectrogram import usable
from vowelflow.training import train


@dataclass(frozen=True)
class Recipe:
    """How a reference model is trained."""

    corpus: str
    vowels: str = "five"
    profile: str = "cpu"
    iterations: int | None = None  # instead of the profile's
    snapshots: tuple[int, ...] = ()  # numbers of pictures after which weights are saved separately
    seed: int = 0
    start_from: str | None = None  # the reference model whose weights training starts with
    share: float = 1.0  # share of the train speakers
    fold: int | None = None  # the fold, 1 to 4, whose speakers are test speakers

    def speech(self, root: str | None = None) -> Corpus:
        """The corpus, with its speakers split into train, validation and test speakers."""
        corpus = usable(load_corpus(self.corpus, root, self.vowels), self.settings().observation)
        return (corpus if self.fold is None else corpus.fold(self.fold)).with_train_share(self.share)

    def settings(self) -> Profile:
        """The profile of the training."""
        profile = profile_named(self.profile)
        return replace(profile, iterations=self.iterations or profile.iterations, snapshots=self.snapshots)


SPEECH = Recipe("librispeech", "all", "vowel", 37_500, snapshots=(50_000, 100_000))
FIRST = Recipe("librispeech", "all")
RECIPES = {
    "speech": SPEECH,
    "speech-seed-1": replace(SPEECH, snapshots=(), seed=1),
    "speech-seed-2": replace(SPEECH, snapshots=(), seed=2),
    "speech-noise": replace(
        SPEECH, profile="vowel-noise", iterations=25_000, snapshots=(), start_from="speech"
    ),
    "speech-padded": replace(SPEECH, profile="padded", iterations=15_000, snapshots=()),
    "klatt": Recipe("klatt", "five", "vowel", 12_500),
    "timit": Recipe("timit", "all", "vowel", 37_500),  # no weights here: the licence forbids to share them
    # Smaller flows of padded pictures, the first ones of the study.
    "cpu-speech": FIRST,
    "cpu-speech-half": replace(FIRST, share=1 / 2),
    "cpu-speech-quarter": replace(FIRST, share=1 / 4),
    "cpu-speech-noise": replace(FIRST, profile="cpu-noise", iterations=12_000),
    "cpu-speech-crop": replace(FIRST, profile="cpu-crop"),
    **{
        f"cpu-timit-sample-{fold}": Recipe("timit-sample", fold=fold, iterations=10_000)
        for fold in (1, 2, 3, 4)
    },
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
    """The flow that a study of this corpus uses, and its folder.

    It is the first of these under ``models/`` or ``build/models/`` with the profile's shape and a finished
    training: ``PROFILE-CORPUS``, if it was trained on this corpus (by fingerprint) with this seed; for real
    speech, ``PROFILE-speech``, if it was not trained on test speakers of the corpus. Without one, a flow is
    trained under ``build/models/``, or an interrupted training there is resumed.
    """
    settings, own, test = profile_named(profile), f"{profile}-{corpus.name}", corpus.split["test"]
    names = (own, f"{own}-{corpus.fingerprint}", f"{profile}-speech")
    for folder in (base / name for name in names for base in search_path(models)):
        if not (folder / "config.json").is_file():
            continue
        config = read_config(folder)
        finished = config.get("steps", 0) >= config.get("profile", {}).get("iterations", 0)
        if folder.name == names[-1]:
            fits = corpus.name != "klatt" and len(new_speakers(config, test)) == len(test)
        else:
            fits = (config.get("fingerprint"), config.get("seed")) == (corpus.fingerprint, seed)
        if fits and finished and glow_config(config) == settings.glow:
            return load_model(folder), folder
    folder = search_path()[1] / own
    try:
        train(corpus, folder, settings, seed, resume=True)
    except OtherTrainingError:  # it stays there
        folder = folder.with_name(f"{own}-{corpus.fingerprint}")
        train(corpus, folder, settings, seed, resume=True)
    return load_model(folder), folder


def flows_of(corpus: Corpus, profile: str = "cpu", seed: int = 0, models: Path | None = None) -> list[str]:
    """The flow that a study of a corpus uses and, if all exist, the flows of its folds by their common name."""
    _, folder = reference_model(corpus, profile, seed, models)
    folds = [name for name, recipe in RECIPES.items() if recipe.fold and recipe.corpus == corpus.name]
    complete = folds and all((model_folder(name, models) / "config.json").is_file() for name in folds)
    return [str(folder)] + ([folds[0].rsplit("-", 1)[0]] if complete else [])


def new_speakers(config: dict, corpus: Corpus) -> Corpus:
    """The segments of speakers that a flow with this ``config.json`` was neither trained nor validated on."""
    old = {*config["speakers"].get("train", []), *config["speakers"].get("valid", [])}
    population = {
        name.removesuffix("-sample") for name in config["corpus"].split("+")
    }  # timit-sample is in timit
    same = corpus.table["corpus"].str.removesuffix("-sample").isin(population)
    return corpus.take(np.flatnonzero(~(same & corpus.table.speaker.isin(old))))
