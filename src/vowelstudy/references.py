"""Reference models: what each was trained on and how, and which of them a study uses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vowelflow.base import InputError, OtherTrainingError, build_folder
from vowelflow.checkpoint import load_model, model_folder, read_config
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
    profile: str = "vowel"
    iterations: int | None = None  # instead of the profile's
    snapshots: tuple[int, ...] = ()  # numbers of pictures after which weights are saved separately
    seed: int = 0
    start_from: str | None = None  # the reference model whose weights training starts with

    def speech(self, root: str | None = None) -> Corpus:
        """The corpus, with its speakers split into train, validation and test speakers."""
        return usable(load_corpus(self.corpus, root, self.vowels), self.settings().observation)

    def settings(self) -> Profile:
        """The profile of the training."""
        profile = profile_named(self.profile)
        return replace(profile, iterations=self.iterations or profile.iterations, snapshots=self.snapshots)


SPEECH = Recipe("librispeech", "all", "vowel", 37_500, snapshots=(50_000, 100_000))
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
    "paper-speech": Recipe("librispeech", "all", "paper"),
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

    For the profile "cpu" it is ``klatt`` or ``speech`` under ``models/`` or ``build/models/``, if it was not
    trained on test speakers of the corpus. Otherwise, and for other profiles, a flow is trained under
    ``build/models/PROFILE-CORPUS``, or an interrupted training there is resumed.
    """
    name = "klatt" if corpus.name == "klatt" else "speech"
    if profile == "cpu":
        folder, test = model_folder(name, models), corpus.split["test"]
        if (folder / "config.json").is_file() and len(new_speakers(read_config(folder), test)) == len(test):
            return load_model(folder), folder
    settings = profile_named("vowel" if profile == "cpu" else profile)
    folder = build_folder() / "models" / f"{profile}-{corpus.name}"
    speech = usable(corpus, settings.observation)
    try:
        train(speech, folder, settings, seed, resume=True)
    except OtherTrainingError:  # it stays there
        folder = folder.with_name(f"{folder.name}-{corpus.fingerprint}")
        train(speech, folder, settings, seed, resume=True)
    return load_model(folder), folder


def new_speakers(config: dict, corpus: Corpus) -> Corpus:
    """The segments of speakers that a flow with this ``config.json`` was neither trained nor validated on."""
    old = {*config["speakers"].get("train", []), *config["speakers"].get("valid", [])}
    population = {
        name.removesuffix("-sample") for name in config["corpus"].split("+")
    }  # timit-sample is in timit
    same = corpus.table["corpus"].str.removesuffix("-sample").isin(population)
    return corpus.take(np.flatnonzero(~(same & corpus.table.speaker.isin(old))))


def direction_speakers(corpus: Corpus) -> Corpus:
    """Tokens of every second train speaker, from which directions are estimated; the others fit the judges."""
    return _every_second(corpus, 0)


def judge_speakers(corpus: Corpus) -> Corpus:
    """Tokens of the train speakers that fit the judges and estimate no direction."""
    return _every_second(corpus, 1)


def _every_second(corpus: Corpus, first: int) -> Corpus:
    train = corpus.split["train"]
    people = train.table.drop_duplicates("speaker").sort_values("speaker")
    turn = people.groupby("sex").cumcount().to_numpy() % 2
    return train.filter(speaker=list(people.speaker[turn == first]))
