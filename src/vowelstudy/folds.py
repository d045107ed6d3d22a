"""Folds: fit speakers, evaluation speakers, and the codes of their tokens.

In each fold, everything that needs labels (directions, classifiers, noise levels) is fitted on the fit
speakers and evaluated on the evaluation speakers, on whom the flow was not trained. Each speaker is evaluated
in one fold only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
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

CODES = 2  # version of cached codes: raise it if the same weights give other codes for the same recordings
FOLDS = 8  # number of folds, at most, for a flow that was trained on none of the speakers


@dataclass(frozen=True)
class Tokens:
    """The segments of an experiment and their pictures.

    Attributes:
        corpus: the segments; ``table`` has their labels.
        with_shared: whether to evaluate sentences that all speakers read, too.
        cache: what is costly to compute again: codes by flow, seed and draws, and PCA by fold.
    """

    corpus: Corpus
    with_shared: bool = False
    cache: dict = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.corpus)

    @property
    def table(self) -> pd.DataFrame:
        return self.corpus.table

    @cached_property
    def pictures(self) -> torch.Tensor:
        """Pictures of all tokens ``(n, 1, 288, 288)``."""
        return images(self.corpus)

    @cached_property
    def frames(self) -> np.ndarray:
        """Number of frames of each segment ``(n,)``."""
        return frame_count(self.corpus)

    @cached_property
    def features(self) -> np.ndarray:
        """The judge's features of each picture ``(n, 43)``."""
        return features(self.pictures)

    @cached_property
    def scored(self) -> np.ndarray:
        """Whether a token may be evaluated ``(n,)``: not if all speakers read its sentence."""
        if self.with_shared or "shared" not in self.table:
            return np.ones(len(self.table), bool)
        return ~self.table["shared"].to_numpy(dtype=bool)

    def rows(self, among: np.ndarray, scored: bool = False, **labels) -> np.ndarray:
        """The rows of ``among`` with the given labels, such as ``phone=["aa", "ae"]``, and ``scored``."""
        keep = self.scored[among] if scored else np.ones(len(among), bool)
        for column, value in labels.items():
            keep &= self.table[column].isin(np.atleast_1d(value)).to_numpy()[among]
        return among[keep]

    def draw(self, rows: np.ndarray, per_group: int, by: Sequence[str], seed: int) -> np.ndarray:
        """Up to ``per_group`` of the rows from each group of the columns ``by``, drawn at random."""
        shuffled = np.random.default_rng(seed).permutation(rows)
        return np.sort(self.table.iloc[shuffled].groupby(list(by)).head(per_group).index.to_numpy())


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
        flow: name of the flow, or the common name of the flows of several folds.
        folders: folders with their weights.
        scale: how much speech they were trained on, in words.
        root: folder of the recordings.
        variants: flows that were trained differently: "noise", "crop" and "other".
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
        """Everything that the results depend on."""
        return {
            "corpus": self.corpus.name, "fingerprint": self.corpus.fingerprint,
            "licence": self.corpus.licence, "flow": self.flow,
            "weights": [file_hash(folder / "model.safetensors") for folder in self.folders],
            "judge": self.judge.origin, "protocol": asdict(self.protocol),
            "with shared": self.tokens.with_shared, "seed": self.seed, "scale": self.scale,
            "tokens": len(self.tokens), "speakers": int(self.tokens.table.speaker.nunique()),
        }  # fmt: skip


def open_setting(
    corpus: Corpus, flow: str | Path, protocol: Protocol = STUDY, seed: int = 0, root: str | None = None,
    with_shared: bool = False,
) -> Setting:  # fmt: skip
    """Tokens and folds of a corpus for a flow, or for the flows of four folds (``cpu-timit-sample``).

    If the flow was trained on none of the speakers, each fold evaluates some women and men and fits on the
    others. Otherwise its training speakers are the fit speakers, and its test speakers the evaluation
    speakers.

    Raises:
        InputError: there is no such flow, or a fold has no fit speakers or no evaluation speakers.
    """
    corpus = usable(corpus, "padded")
    names = sorted(name for name in RECIPES if RECIPES[name].fold and name.rsplit("-", 1)[0] == str(flow))
    folders = [model_folder(name) for name in names or [flow]]
    flows = [load_model(folder) for folder in folders]
    configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
    people = corpus.table.drop_duplicates("speaker").sample(frac=1, random_state=seed)
    chosen = people.groupby(["split", "sex"]).head(protocol.speakers).speaker
    tokens = corpus.filter(speaker=list(chosen)).draw(protocol.tokens, by=("speaker", "phone"), seed=seed)
    folds = []
    for one, config in zip(flows, configs):
        folds += _folds_of(one, config, corpus, tokens, seed)
    if not folds or any(not len(fold.fit) or not len(fold.evaluation) for fold in folds):
        reason = f"has nobody to fit on, or nobody who is new to {flow}"
        raise InputError(f"{corpus.name} {reason}; use more speakers")
    count = sum(config["segments"]["train"] for config in configs) // len(configs)
    parameters = sum(weight.numel() for weight in flows[0].parameters())
    scale = f"{count:,} training tokens of {configs[0]['corpus']}, {parameters:,} parameters"
    name = str(flow) if names else folders[0].name
    return Setting(
        corpus, Tokens(tokens, with_shared), folds, load_judge(corpus.name), protocol, seed, name, folders,
        scale, root, _variants(folders, bool(names)),
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
    """Up to ``FOLDS`` groups of speakers, each with women and men if there are both; none if only one."""
    by_sex = [sorted(part.speaker.unique()) for _, part in table.groupby("sex")]
    count = min(FOLDS, max(map(len, by_sex)))
    groups = [[name for names in by_sex for name in names[place::count]] for place in range(count)]
    return groups if len(groups) > 1 else []


def _variants(folders: list[Path], of_folds: bool) -> dict[str, Glow]:
    """The flows trained with noise and on crops, and another flow to judge densities, if they are there."""
    first = folders[0].name
    names = {"noise": f"{first}-noise", "crop": f"{first}-crop", "other": f"{first}-half"}
    if of_folds:
        names = {"other": "cpu-speech"}
    found = {key: model_folder(name) for key, name in names.items()}
    return {key: load_model(folder) for key, folder in found.items() if (folder / "config.json").is_file()}


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


def codes_of(flow: Glow, tokens: Tokens, seed: int, draws: int = 1) -> torch.Tensor:
    """Whole codes of all tokens ``(n, d)``, averaged over ``draws`` of dequantization noise.

    They are cached with the tokens and on disk.

    Raises:
        InputError: a cached file is damaged.
    """
    key = flow, seed, draws
    if key not in tokens.cache:
        tokens.cache[key] = _codes_on_disk(flow, tokens, seed, draws)
    return tokens.cache[key]


def _codes_on_disk(flow: Glow, tokens: Tokens, seed: int, draws: int) -> torch.Tensor:
    weights = b"".join(value.cpu().numpy().tobytes() for value in flow.state_dict().values())
    about = f"{hashlib.sha256(weights).hexdigest()} {tokens.corpus.fingerprint} {seed} {draws} {CODES}"
    path = build_folder() / "codes" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.safetensors"
    if not path.is_file():
        first = codes_of(flow, tokens, seed) if draws > 1 else flow.encode(tokens.pictures, seed).flat
        others = (flow.encode(tokens.pictures, seed + draw).flat for draw in range(1, draws))
        found = sum(others, first) / draws
        save_atomically(path, lambda file: save_file({"codes": found}, file))
    # The checksum of the file is written when it is first read.
    checksum, note = file_hash(path), path.with_suffix(".sha256")
    if not note.is_file():
        save_atomically(note, lambda file: file.write_text(checksum))
    if note.read_text() != checksum:
        raise InputError(f"{path} is damaged; remove it and repeat the command")
    return load_file(path)["codes"]


def decode_folds(codes: list[tuple[Glow, torch.Tensor]]) -> torch.Tensor:
    """Pictures of the codes ``(n, d)`` of several folds, in their order.

    Codes of one flow are decoded together, which is faster. Folds of one flow must be neighbours.
    """
    by_flow: dict[Glow, list[torch.Tensor]] = {}
    for flow, part in codes:
        by_flow.setdefault(flow, []).append(part)
    return torch.cat([flow.decode(torch.cat(parts)) for flow, parts in by_flow.items()])
