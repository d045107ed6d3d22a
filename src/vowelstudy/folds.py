"""Folds: which speakers are fitted on and which are evaluated, and the codes of their tokens.

In each fold, what needs labels (directions, classifiers, noise levels) is fitted on the fit speakers and evaluated on
the others. The flow has not been trained on an evaluation speaker. Over all folds a speaker is evaluated once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from vowelflow.base import InputError, build_folder, save_atomically
from vowelflow.checkpoint import file_hash, glow_config, load_model, model_folder
from vowelflow.corpus import Corpus
from vowelflow.glow import Glow
from vowelflow.spectrogram import frame_count, images, usable
from vowelflow.training import Profile, untrained_flow

from .protocol import STUDY, Protocol
from .references import RECIPES, new_speakers
from .vowel_judge import VowelJudge, features, load_judge

CODES = 2  # version of cached codes: raise it when the same weights give other codes of the same recordings
FOLDS = 8  # speakers of one sex are divided into so many parts, where the flow was trained on none of them


@dataclass(frozen=True)
class Tokens:
    """The segments of an experiment and their pictures.

    Attributes:
        corpus: the segments; ``table`` has their labels.
        with_shared: whether evaluation includes sentences that every speaker reads.
    """

    corpus: Corpus
    with_shared: bool = False

    def __len__(self) -> int:
        return len(self.corpus)

    @property
    def table(self) -> pd.DataFrame:
        return self.corpus.table

    @cached_property
    def pictures(self) -> torch.Tensor:
        """``(n, 1, 288, 288)``"""
        return images(self.corpus)

    @cached_property
    def frames(self) -> np.ndarray:
        """Frames of each segment, ``(n,)``."""
        return frame_count(self.corpus)

    @cached_property
    def features(self) -> np.ndarray:
        """What the judge measures of each picture, ``(n, 43)``."""
        return features(self.pictures)

    @cached_property
    def scored(self) -> np.ndarray:
        """Whether a token may be evaluated, ``(n,)`` bool: not if every speaker reads its sentence."""
        if self.with_shared or "shared" not in self.table:
            return np.ones(len(self.table), bool)
        return ~self.table["shared"].to_numpy(dtype=bool)

    def rows(self, among: np.ndarray, scored: bool = False, **labels) -> np.ndarray:
        """Those of the rows ``among`` that have the given labels, such as ``phone=["aa", "ae"]``; only ``scored`` ones if so asked."""
        keep = self.scored[among] if scored else np.ones(len(among), bool)
        for column, value in labels.items():
            keep &= self.table[column].isin(np.atleast_1d(value)).to_numpy()[among]
        return among[keep]

    def draw(self, rows: np.ndarray, per_group: int, by: Sequence[str], seed: int) -> np.ndarray:
        """Up to ``per_group`` rows of each group of the columns ``by``, drawn at random."""
        shuffled = np.random.default_rng(seed).permutation(rows)
        return np.sort(
            self.table.iloc[shuffled].groupby(list(by), sort=True).head(per_group).index.to_numpy()
        )


@dataclass(frozen=True)
class Fold:
    """A flow, and the rows of tokens that are fitted on and evaluated."""

    flow: Glow
    untrained: Glow
    fit: np.ndarray
    evaluation: np.ndarray


@dataclass(frozen=True)
class Setting:
    """What experiments are run on. An experiment takes those of these fields that it names as arguments.

    Attributes:
        flow: the name of the flow, or of the flows of several folds.
        folders: where their weights are.
        scale: how much speech they were trained on, in words.
        root: the folder of the recordings.
        variants: "noise", "crop" and "other": flows of the same speech that were trained otherwise.
    """

    corpus: Corpus
    tokens: Tokens
    folds: list[Fold]
    judge: VowelJudge
    protocol: Protocol
    seed: int
    flow: str
    folders: list[Path]
    scale: str
    root: str | None = None
    variants: dict[str, Glow] = field(default_factory=dict)

    def provenance(self) -> dict:
        """What results came from."""
        return {
            "corpus": self.corpus.name, "fingerprint": self.corpus.fingerprint, "licence": self.corpus.licence,
            "flow": self.flow, "weights": [file_hash(folder / "model.safetensors") for folder in self.folders],
            "judge": self.judge.origin, "protocol": asdict(self.protocol), "with shared": self.tokens.with_shared,
            "seed": self.seed, "scale": self.scale, "tokens": len(self.tokens), "speakers": int(self.tokens.table.speaker.nunique()),
        }  # fmt: skip


def open_setting(
    corpus: Corpus,
    flow: str | Path,
    protocol: Protocol = STUDY,
    seed: int = 0,
    root: str | None = None,
    with_shared: bool = False,
) -> Setting:
    """Tokens and folds of a corpus for a flow, or for the flows of four folds (``cpu-timit-sample``).

    If the flow was trained on nobody of the corpus, speakers are left out in pairs of a woman and a man. Otherwise the speakers
    that it was trained on are the fit speakers, and test speakers are evaluated.

    Raises:
        InputError: no such flow, or no speakers to fit on or to evaluate.
    """
    corpus = usable(corpus, "padded")
    names = sorted(name for name in RECIPES if RECIPES[name].fold and name.rsplit("-", 1)[0] == str(flow))
    folders = [model_folder(name) for name in names or [flow]]
    flows = [load_model(folder) for folder in folders]
    configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
    people = (
        corpus.table.drop_duplicates("speaker").sample(frac=1, random_state=seed).groupby(["split", "sex"])
    )
    chosen = people.head(protocol.speakers).speaker
    tokens = corpus.filter(speaker=list(chosen)).draw(protocol.tokens, by=("speaker", "phone"), seed=seed)
    folds = [
        fold for one, config in zip(flows, configs) for fold in _folds_of(one, config, corpus, tokens, seed)
    ]
    if not folds or any(not len(fold.fit) or not len(fold.evaluation) for fold in folds):
        raise InputError(
            f"{corpus.name} has nobody to fit on, or nobody that {flow} has not met; give more speakers"
        )
    count = sum(config["segments"]["train"] for config in configs) // len(configs)
    parameters = sum(weight.numel() for weight in flows[0].parameters())
    return Setting(
        corpus, Tokens(tokens, with_shared), folds, load_judge(corpus.name), protocol, seed,
        str(flow) if names else folders[0].name, folders,
        f"{count:,} training tokens of {configs[0]['corpus']}, {parameters:,} parameters", root, _variants(folders, bool(names)),
    )  # fmt: skip


def _folds_of(flow: Glow, config: dict, corpus: Corpus, tokens: Corpus, seed: int) -> list[Fold]:
    """The folds of one flow."""
    settings = Profile(glow_config(config), batch=config["profile"]["batch"])
    untrained, everyone = untrained_flow(corpus, settings, seed), np.arange(len(tokens))
    new = set(new_speakers(config, tokens).table.speaker)
    if new == set(tokens.table.speaker):
        groups = _pairs_of_speakers(tokens.table)
    else:
        groups = [sorted(set(config["speakers"].get("test", [])) & new)]
    evaluated = [tokens.table.speaker.isin(names).to_numpy() for names in groups]
    return [Fold(flow, untrained, everyone[~rows], everyone[rows]) for rows in evaluated]


def _pairs_of_speakers(table: pd.DataFrame) -> list[list[str]]:
    """Groups of speakers, with women and men in each where there are both: ``FOLDS`` of them, if there are enough."""
    by_sex = [sorted(part.speaker.unique()) for _, part in table.groupby("sex")]
    count = min(FOLDS, max(map(len, by_sex)))
    groups = [[name for names in by_sex for name in names[place::count]] for place in range(count)]
    return groups if len(groups) > 1 else []


def _variants(folders: list[Path], of_folds: bool) -> dict[str, Glow]:
    """Flows of the same speech that were trained with noise or on crops, and another that was trained on none of the speakers."""
    first = folders[0].name
    names = {"noise": f"{first}-noise", "crop": f"{first}-crop", "other": f"{first}-half"}
    places = {
        key: model_folder(name) for key, name in ({"other": "cpu-speech"} if of_folds else names).items()
    }
    return {key: load_model(place) for key, place in places.items() if (place / "config.json").is_file()}


def merged(folds: list[Fold]) -> list[Fold]:
    """Folds with more evaluation speakers: two of one flow as one, so that there are two speakers of each sex to compare."""
    left, found = list(folds), []
    while left:
        fold = left.pop(0)
        place = next((k for k, other in enumerate(left) if other.flow is fold.flow), None)
        if place is not None:
            evaluation = np.sort(np.concatenate([fold.evaluation, left.pop(place).evaluation]))
            fold = replace(fold, fit=np.setdiff1d(fold.fit, evaluation), evaluation=evaluation)
        found.append(fold)
    return found


_codes: dict[str, torch.Tensor] = {}


@cache
def _weights_hash(flow: Glow) -> str:
    return hashlib.sha256(
        b"".join(value.cpu().numpy().tobytes() for value in flow.state_dict().values())
    ).hexdigest()


def codes_of(flow: Glow, tokens: Tokens, seed: int, draws: int = 1) -> torch.Tensor:
    """Whole codes of all tokens ``(n, d)``, mean over ``draws`` of dequantization noise; cached in memory and on disk."""
    about = f"{_weights_hash(flow)} {tokens.corpus.fingerprint} {seed} {draws} {CODES}"
    key = hashlib.sha256(about.encode()).hexdigest()[:16]
    if key not in _codes:
        path = build_folder() / "codes" / f"{key}.safetensors"
        if not path.is_file():
            found = sum(flow.encode(tokens.pictures, seed + draw).flat for draw in range(draws)) / draws
            save_atomically(path, lambda file: save_file({"codes": found}, file))
        # Beside codes lies their checksum, written when they are first read.
        note = path.with_suffix(".sha256")
        if not note.is_file():
            save_atomically(note, lambda file: file.write_text(file_hash(path)))
        if note.read_text() != file_hash(path):
            raise InputError(
                f"{path} is not as it was written; remove it, and the same command makes it anew"
            )
        _codes[key] = load_file(path)["codes"]
    return _codes[key]
