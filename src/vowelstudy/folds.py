"""Folds: fit speakers, evaluation speakers, and the codes of their tokens.

In each fold, everything that needs labels (directions, classifiers, noise levels) is fitted on the fit
speakers and evaluated on the evaluation speakers, on whom the flow was not trained. Each speaker is evaluated
in one fold only.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from vowelflow.base import InputError
from vowelflow.checkpoint import file_hash, load_model, model_folder, read_config
from vowelflow.corpus import VOWELS, Corpus, join
from vowelflow.glow import Glow
from vowelflow.readers import ROOTS, load_corpus
from vowelflow.spectrogram import observation_of, usable
from vowelflow.training import Profile, untrained_flow

from .judges import Judges, load_judges
from .protocol import STUDY, Protocol
from .references import direction_speakers, new_speakers
from .tokens import Tokens
from .vae import VAE, load_vae

FOLDS = 8  # number of folds, at most, for a flow that was trained on none of the speakers


@dataclass(frozen=True)
class Fold:
    """A flow, the same flow untrained, and the rows of the fit tokens and the evaluation tokens."""

    flow: Glow
    untrained: Glow
    fit: np.ndarray
    evaluation: np.ndarray


@dataclass(frozen=True)
class Setting:
    """Everything that experiments need. An experiment gets the fields that are named in its arguments.

    Attributes:
        corpus: the evaluation corpus.
        tokens: tokens of fit and of evaluation speakers.
        validation: tokens of speakers of the flow's own corpus that it was not trained on, to compare samples
            with.
        folder: the folder of the flow's weights.
        scale: how much speech it was trained on, in words.
        source: whose tokens the directions are estimated from, in words.
        root: folder of the recordings.
        noise_flow: a flow that was trained with noise.
        other: another flow, to judge densities.
        vae: a beta-VAE.
        beside: hashes of the weights of the last three.
    """

    corpus: Corpus
    tokens: Tokens
    validation: Tokens
    folds: list[Fold]
    judges: Judges
    protocol: Protocol
    seed: int
    folder: Path
    scale: str
    source: str
    root: str | None = None
    noise_flow: Glow | None = None
    other: Glow | None = None
    vae: VAE | None = None
    beside: dict[str, str] = field(default_factory=dict)

    @property
    def flow(self) -> str:
        return self.folder.name

    def provenance(self) -> dict:
        """Everything that the results depend on."""
        return {
            "corpus": self.corpus.name, "fingerprint": self.corpus.fingerprint,
            "licence": self.corpus.licence, "flow": self.flow, "observation": self.tokens.observation.name,
            "weights": file_hash(self.folder / "model.safetensors"), "judges": self.judges.origin,
            "beside": self.beside,
            "protocol": asdict(self.protocol), "directions from": self.source,
            "with shared": self.tokens.with_shared, "seed": self.seed, "scale": self.scale,
            "tokens": len(self.tokens), "speakers": int(self.tokens.table.speaker.nunique()),
        }  # fmt: skip


def open_setting(
    corpus: Corpus, flow: str | Path, protocol: Protocol = STUDY, seed: int = 0, root: str | None = None,
    with_shared: bool = False, own_directions: bool = False,
) -> Setting:  # fmt: skip
    """Tokens and folds of an evaluation corpus for a flow.

    If the flow was trained on speakers of this corpus, its training speakers are the fit speakers, and its
    test speakers the evaluation speakers. If it was trained on another corpus that is at hand, that corpus
    has the fit speakers. Otherwise, or with ``own_directions``, each fold evaluates some women and men of the
    corpus and fits on the others.

    Raises:
        InputError: there is no such flow, or a fold has no fit speakers or no evaluation speakers.
    """
    folder = model_folder(flow)
    glow, config = load_model(folder), read_config(folder)
    observation = observation_of((glow.config.side, glow.config.frames))
    corpus = usable(corpus, observation)
    people = corpus.table.drop_duplicates("speaker").sample(frac=1, random_state=seed)
    chosen = people.groupby(["split", "sex"]).head(protocol.speakers).speaker
    evaluation = corpus.filter(speaker=list(chosen)).draw(protocol.tokens, by=("speaker", "phone"), seed=seed)
    own = own_corpus(config, corpus, root)
    trained_here = len(new_speakers(config, corpus)) < len(corpus)
    others = None
    if own is not None and not trained_here and not own_directions:
        others = usable(direction_speakers(own).filter(phone=VOWELS), observation)
        others = others.draw(protocol.fit_tokens, by=("phone", "sex"), seed=seed)
    tokens = Tokens(evaluation if others is None else join([others, evaluation]), observation, with_shared)
    settings = Profile(glow.config, batch=config["profile"]["batch"])
    untrained = untrained_flow(others or evaluation, settings, seed)
    judges = load_judges(corpus.name)
    sides = _sides(tokens.table, config, evaluation, others, trained_here, judges)
    if not sides or any(not len(fit) or not len(rows) for fit, rows in sides):
        reason = f"has nobody to fit on, or nobody who is new to {flow}"
        raise InputError(f"{corpus.name} {reason}; use more speakers")
    validation = usable((corpus if own is None else own).held_out("valid"), observation)
    validation = validation.draw(protocol.samples, by=("split",), seed=seed)
    parameters, beside = sum(weight.numel() for weight in glow.parameters()), _beside(folder)
    count = config["segments"]["train"]
    return Setting(
        corpus, tokens, Tokens(validation, observation), [Fold(glow, untrained, *side) for side in sides],
        judges, protocol, seed, folder,
        f"{count:,} training tokens of {config['corpus']}, {parameters:,} parameters",
        "other speakers of the corpus" if others is None else f"speakers of {others.name}", root,
        *(load(beside[name]) if name in beside else None
          for name, load in (("noise", load_model), ("other", load_model), ("vae", load_vae))),
        {name: file_hash(path / "model.safetensors") for name, path in beside.items()},
    )  # fmt: skip


def own_corpus(config: dict, corpus: Corpus, root: str | None) -> Corpus | None:
    """What a flow with this ``config.json`` was trained on, with its vowels; None if it is not at hand.

    ``corpus``, from ``root``, may be the same corpus.
    """
    name, vowels = config["corpus"], config["vowels"]
    if name == corpus.name:
        return corpus if set(vowels) == set(VOWELS) else load_corpus(name, root, vowels)
    at_hand = all(one == "klatt" or os.environ.get(ROOTS[one]) for one in name.split("+"))
    return load_corpus(name, phones=vowels) if at_hand else None


def _sides(
    table: pd.DataFrame,
    config: dict,
    evaluation: Corpus,
    others: Corpus | None,
    trained_here: bool,
    judges: Judges,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fit rows and evaluation rows of each fold."""
    everyone = np.arange(len(table))
    if others is not None:
        return [(everyone[: len(others)], everyone[len(others) :])]
    if trained_here:
        new = set(new_speakers(config, evaluation).table.speaker)
        test = set(config["speakers"].get("test", [])) & new
        # Speakers that fitted the judges fit nothing else.
        met = judges.about["fingerprint"] == config["fingerprint"]
        fit = set((direction_speakers(evaluation) if met else evaluation.split["train"]).table.speaker)
        return [tuple(everyone[table.speaker.isin(group).to_numpy()] for group in (fit, test))]
    rows = [table.speaker.isin(group).to_numpy() for group in _pairs_of_speakers(table)]
    return [(everyone[~one], everyone[one]) for one in rows]


def _pairs_of_speakers(table: pd.DataFrame) -> list[list[str]]:
    """Up to ``FOLDS`` groups of speakers, each with women and men if there are both; none if only one."""
    by_sex = [sorted(part.speaker.unique()) for _, part in table.groupby("sex")]
    count = min(FOLDS, max(map(len, by_sex)))
    groups = [[name for names in by_sex for name in names[place::count]] for place in range(count)]
    return groups if len(groups) > 1 else []


def _beside(folder: Path) -> dict[str, Path]:
    """Folders of models that go with a flow: trained with noise, another flow of its kind, and a VAE, if they are there."""
    first = folder.name.split("-seed-")[0]
    names = {"noise": f"{first}-noise", "vae": f"{first}-vae"}
    names["other"] = f"{first}-seed-1" if folder.name == first else first
    folders = {key: model_folder(name) for key, name in names.items()}
    return {key: one for key, one in folders.items() if (one / "config.json").is_file()}


def evaluated(folds: list[Fold]) -> np.ndarray:
    """Rows of the evaluation tokens of all folds, sorted."""
    return np.unique(np.concatenate([fold.evaluation for fold in folds]))


def merged(folds: list[Fold]) -> list[Fold]:
    """Folds of the same flow merged in pairs, so that each sex has two evaluation speakers to compare."""
    left, found = list(folds), []
    while left:
        fold = left.pop(0)
        place = next((k for k, other in enumerate(left) if other.flow is fold.flow), None)
        if place is not None:
            evaluation = np.sort(np.concatenate([fold.evaluation, left.pop(place).evaluation]))
            fold = replace(fold, fit=np.setdiff1d(fold.fit, evaluation), evaluation=evaluation)
        found.append(fold)
    return found
