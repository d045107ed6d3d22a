"""Evidence: who is fitted on whom, at what depth, and the codes of it all; the bench that claims are tried on.

A claim is tried in rounds. In each, what needs labels (directions, classifiers, levels of noise) is fitted on known
speakers and tried on unseen ones, whom the flow has not met either; over all rounds a speaker is unseen once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from .clips import source_code
from .corpus import Corpus, InputError, save_atomically
from .glow import Glow, file_hash, glow_config, load_model, model_folder
from .listener import Listener, features, load_listener
from .references import RECIPES, unseen
from .spaces import Space, cepstral_space, flow_space, pca_space, picture_space, top_space
from .spectrogram import frame_count, images
from .training import Profile, untrained_flow

FOLDS = 8  # in which speakers of one sex are left out, when the flow has met none of them


@dataclass(frozen=True)
class Depth:
    """How much of a corpus is looked at."""

    name: str
    speakers: int  # of each sex and split, at most
    tokens: int  # of each vowel of each speaker
    moved: int  # tokens of each class of each speaker that walk along a direction
    pairs: int  # of each kind of pair
    samples: int  # random codes
    draws: int  # of dequantization noise, which means of codes are freed from
    shuffles: int  # of labels
    steps: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)  # along a direction
    snrs: tuple[int, ...] = (20, 10, 5, 0)  # dB
    betas: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # the paper has 0 to 0.8


FULL = Depth("full", speakers=16, tokens=10, moved=3, pairs=112, samples=512, draws=16, shuffles=200)
STUDY = Depth(
    "study", speakers=6, tokens=2, moved=1, pairs=16, samples=64, draws=2, shuffles=20, steps=(1.0, 2.0), snrs=(10, 0)
)
SMOKE = Depth("smoke", speakers=2, tokens=1, moved=1, pairs=2, samples=4, draws=1, shuffles=2, steps=(1.0,), snrs=(10,), betas=(0.0, 0.5))  # fmt: skip


@dataclass(frozen=True)
class Round:
    """One fit and one test: a flow, and rows of the bench's tokens."""

    model: Glow
    untrained: Glow
    known: np.ndarray
    unseen: np.ndarray


@dataclass
class Bench:
    """What claims are tried on.

    Attributes:
        corpus: all of it; ``tokens`` is the part that is used, ``table`` its labels.
        flow: the name of the flow, or of the folds' flows.
        folders: where their weights are.
        scale: on how much they were trained, in words.
    """

    corpus: Corpus
    flow: str
    folders: list[Path]
    rounds: list[Round]
    tokens: Corpus
    depth: Depth
    seed: int
    listener: Listener
    scale: str
    root: str | None = None  # the folder of the recordings
    extra: dict[str, Glow] = field(default_factory=dict)  # "noise", "crop" and "other": flows of the same speech
    _codes: dict = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        return self.tokens.table

    @cached_property
    def pictures(self) -> torch.Tensor:
        return images(self.tokens)

    @cached_property
    def frames(self) -> np.ndarray:
        return frame_count(self.tokens)

    @cached_property
    def heard(self) -> np.ndarray:
        """What the listener hears of the tokens themselves."""
        return features(self.pictures)

    @cached_property
    def fair(self) -> np.ndarray:
        """Whether a token is for tests: not of a sentence that everybody says."""
        return ~self.table["shared"].to_numpy(dtype=bool) if "shared" in self.table else np.ones(len(self.table), bool)

    def rows(self, among: np.ndarray, tests: bool = False, **wanted) -> np.ndarray:
        """Those of ``among`` whose labels are wanted ones; for ``tests``, fair ones."""
        keep = self.fair[among] if tests else np.ones(len(among), bool)
        for column, value in wanted.items():
            keep &= self.table[column].isin(np.atleast_1d(value)).to_numpy()[among]
        return among[keep]

    def some(self, rows: np.ndarray, per_group: int, by: Sequence[str]) -> np.ndarray:
        """Up to ``per_group`` rows of each group of ``by``, drawn by the bench's seed."""
        shuffled = np.random.default_rng(self.seed).permutation(rows)
        return np.sort(self.table.iloc[shuffled].groupby(list(by), sort=True).head(per_group).index.to_numpy())

    def wider(self) -> Iterator[Round]:
        """Rounds with more unseen speakers: two of one flow as one, so that there are two of each sex, to be paired."""
        left = list(self.rounds)
        while left:
            one = left.pop(0)
            place = next((k for k, other in enumerate(left) if other.model is one.model), None)
            if place is None:
                yield one
                continue
            unseen = np.sort(np.concatenate([one.unseen, left.pop(place).unseen]))
            yield replace(one, known=np.setdiff1d(one.known, unseen), unseen=unseen)

    def ceiling(self) -> dict[str, float]:
        """How often the listener is right about the tokens themselves: no move can be heard more surely."""
        return {
            factor: float(
                (self.listener.posterior(self.heard, factor).idxmax(axis=1).to_numpy() == self.table[factor]).mean()
            )
            for factor in ("phone", "sex")
        }

    def codes(self, model: Glow, draws: int = 1) -> torch.Tensor:
        """Whole codes of all tokens, mean over ``draws`` of dequantization noise; kept on disk, for they are costly."""
        if (id(model), draws) not in self._codes:
            self._codes[id(model), draws] = self._codes_on_disk(model, draws)
        return self._codes[id(model), draws]

    def _codes_on_disk(self, model: Glow, draws: int) -> torch.Tensor:
        from .study import build_folder

        weights = b"".join(value.cpu().numpy().tobytes() for value in model.state_dict().values())
        about = f"{self.tokens.fingerprint} {self.seed} {draws}".encode()
        key = hashlib.sha256(weights + about + source_code("glow", "spectrogram")).hexdigest()[:16]
        path = build_folder() / "codes" / f"{key}.safetensors"
        if not path.is_file():
            total = self.codes(model).clone() if draws > 1 else torch.zeros(1)
            for draw in range(draws > 1, draws):
                total = total + model.encode(self.pictures, self.seed + draw).flat
            save_atomically(path, lambda file: save_file({"codes": total / draws}, file))
        return load_file(path)["codes"]

    def vectors(self, space: Space, rows, model: Glow | None = None, draws: int = 1) -> torch.Tensor:
        """Tokens in a space, mean over draws; codes of ``model``, whose space it is, come from the disk."""
        if model is not None:
            return self.codes(model, draws)[rows]
        return sum(space.into(self.pictures[rows], self.seed + draw) for draw in range(draws)) / draws

    def contestants(self, one: Round) -> dict[str, tuple[Space, Glow | None]]:
        """The flow's codes, whole and top, those of the untrained flow, and the spaces that a sceptic would use."""
        fitted = ("PCA", one.known.tobytes())
        if fitted not in self._codes:
            self._codes[fitted] = pca_space(self.pictures[one.known])
        return {
            "flow": (flow_space(one.model), one.model),
            "top code": (top_space(one.model), one.model),
            "untrained flow": (flow_space(one.untrained, "untrained flow", "untrained"), one.untrained),
            "pictures": (picture_space(), None),
            "PCA": (self._codes[fitted], None),
            "cepstrum": (cepstral_space(), None),
        }

    def provenance(self) -> dict:
        """What results came from."""
        return {
            "corpus": self.corpus.name, "fingerprint": self.corpus.fingerprint, "licence": self.corpus.licence,
            "flow": self.flow, "weights": [file_hash(folder / "model.safetensors") for folder in self.folders],
            "listener": self.listener.origin, "depth": self.depth.name, "seed": self.seed, "scale": self.scale,
            "tokens": len(self.tokens), "speakers": int(self.table.speaker.nunique()),
        }  # fmt: skip


def open_bench(corpus: Corpus, flow: str | Path, depth: Depth = STUDY, seed: int = 0, root: str | None = None) -> Bench:
    """The bench of a corpus and a flow, or of the flows of four folds (``cpu-timit-sample``).

    Where the flow has met nobody of the corpus, speakers are left out by pairs of a woman and a man; else what is fitted is fitted
    on those that it was trained on, and tried on test speakers.

    Raises:
        InputError: no such flow, or nobody is left to fit on or to try on.
    """
    folds = sorted(name for name in RECIPES if RECIPES[name].fold and name.rsplit("-", 1)[0] == str(flow))
    folders = [model_folder(name) for name in folds or [flow]]
    models = [load_model(folder) for folder in folders]
    configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
    people = corpus.table.drop_duplicates("speaker").sample(frac=1, random_state=seed).groupby(["split", "sex"])
    chosen = people.head(depth.speakers).speaker
    tokens = corpus.filter(speaker=list(chosen)).draw(depth.tokens, by=("speaker", "phone"), seed=seed)
    rounds, everyone = [], np.arange(len(tokens))
    for model, config in zip(models, configs):
        settings = Profile(glow_config(config), batch=config["profile"]["batch"])
        untrained = untrained_flow(corpus, settings, seed)
        fresh = set(unseen(config, tokens).table.speaker)
        if fresh == set(tokens.table.speaker):
            groups = _pairs_of_speakers(tokens.table)
        else:
            groups = [sorted(set(config["speakers"].get("test", [])) & fresh)]
        for names in groups:
            tried = tokens.table.speaker.isin(names).to_numpy()
            rounds.append(Round(model, untrained, everyone[~tried], everyone[tried]))
    if not rounds or any(not len(one.known) or not len(one.unseen) for one in rounds):
        raise InputError(f"{corpus.name} has nobody to fit on, or nobody that {flow} has not met; give more speakers")
    said = configs[0]
    count = f"{sum(c['segments']['train'] for c in configs) // len(configs):,} training tokens"
    parameters = sum(weight.numel() for weight in models[0].parameters())
    bench = Bench(
        corpus, str(flow) if folds else folders[0].name, folders, rounds, tokens, depth, seed,
        load_listener(corpus.name), f"{count} of {said['corpus']}, {parameters:,} parameters", root,
    )  # fmt: skip
    return replace(bench, extra=_kin(folders, models, folds))


def _pairs_of_speakers(table: pd.DataFrame) -> list[list[str]]:
    """Groups of speakers, with women and men in each where there are both: ``FOLDS`` of them, if there are enough."""
    by_sex = [sorted(part.speaker.unique()) for _, part in table.groupby("sex")]
    count = min(FOLDS, max(map(len, by_sex)))
    groups = [[name for names in by_sex for name in names[place::count]] for place in range(count)]
    return groups if len(groups) > 1 else []


def _kin(folders: list[Path], models: list[Glow], folds: list[str]) -> dict[str, Glow]:
    """Flows of the same speech that were trained otherwise, with noise or on crops, and another that has met none of the speakers."""
    first = folders[0].name
    kin = (
        {"other": "cpu-speech"}
        if folds
        else {"noise": f"{first}-noise", "crop": f"{first}-crop", "other": f"{first}-half"}
    )
    places = {key: model_folder(name) for key, name in kin.items()}
    return {key: load_model(place) for key, place in places.items() if (place / "config.json").is_file()}
