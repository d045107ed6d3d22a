"""Evidence: who is fitted on whom, at what depth, and the codes of it all; the bench that claims are tried on.

A claim is tried in rounds. In each, what needs labels (directions, classifiers, levels of noise) is fitted on known
speakers and tried on unseen ones, whom the flow has not met either; over all rounds a speaker is unseen once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from .checkpoint import file_hash, glow_config, load_model, model_folder
from .corpus import Corpus, InputError, save_atomically
from .depths import STUDY, Depth
from .glow import Glow
from .listener import Listener, features, load_listener
from .references import RECIPES, unseen
from .spaces import Space, cepstral_space, flow_space, pca_space, picture_space, top_space
from .spectrogram import frame_count, images, usable
from .training import Profile, untrained_flow

CODES = 1  # version of cached codes: raise it when the same weights give other codes of the same recordings
FOLDS = 8  # in which speakers of one sex are left out, when the flow has met none of them


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
    with_shared: bool = False  # whether tests have tokens of sentences, too, that everybody says
    _codes: dict = field(default_factory=dict)
    _pca: dict[bytes, Space] = field(default_factory=dict)
    _kept: dict = field(default_factory=dict)

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
        if self.with_shared or "shared" not in self.table:
            return np.ones(len(self.table), bool)
        return ~self.table["shared"].to_numpy(dtype=bool)

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
        """Whole codes of all tokens; kept on disk, for they are costly.

        Those of tokens that this flow has as known ones are means over ``draws`` of dequantization noise.
        """
        if (id(model), draws) not in self._codes:
            self._codes[id(model), draws] = self._codes_on_disk(model, draws)
        return self._codes[id(model), draws]

    def _codes_on_disk(self, model: Glow, draws: int) -> torch.Tensor:
        from .study import build_folder

        weights = b"".join(value.cpu().numpy().tobytes() for value in model.state_dict().values())
        known = [one.known for one in self.rounds if model in (one.model, one.untrained)] if draws > 1 else []
        averaged = np.unique(np.concatenate(known)) if known else np.arange(0)
        about = f"{self.tokens.fingerprint} {self.seed} {draws}".encode() + averaged.tobytes()
        key = hashlib.sha256(weights + about + bytes([CODES])).hexdigest()[:16]
        path = build_folder() / "codes" / f"{key}.safetensors"
        if not path.is_file():
            found = self.codes(model).clone() if draws > 1 else model.encode(self.pictures, self.seed).flat
            for draw in range(1, draws):
                found[averaged] += model.encode(self.pictures[averaged], self.seed + draw).flat
            found[averaged] /= draws
            save_atomically(path, lambda file: save_file({"codes": found}, file))
        # Beside codes lies their checksum, written when they are first read.
        if (
            (note := path.with_suffix(".sha256")).is_file()
            or save_atomically(note, lambda file: file.write_text(file_hash(path)))
        ) and note.read_text() != file_hash(path):
            raise InputError(f"{path} is not as it was written; remove it, and the same command makes it anew")
        return load_file(path)["codes"]

    def kept(self, key: tuple, rows: Sequence[int], make: Callable[[list[int]], Sequence]) -> list:
        """Something of each of some tokens, called ``key``; ``make(rows)`` is asked for what was not made yet."""
        held = self._kept.setdefault(key, {})
        if missing := [row for row in rows if row not in held]:
            held.update(zip(missing, make(missing)))
        return [held[row] for row in rows]

    def vectors(self, space: Space, rows, model: Glow | None = None, draws: int = 1) -> torch.Tensor:
        """Tokens in a space, mean over draws; codes of ``model``, whose space it is, come from the disk."""
        if model is not None:
            return self.codes(model, draws)[rows]
        return sum(space.into(self.pictures[rows], self.seed + draw) for draw in range(draws)) / draws

    def contestants(self, one: Round) -> dict[str, tuple[Space, Glow | None]]:
        """The flow's codes, whole and top, those of the untrained flow, and the spaces that a sceptic would use."""
        fitted = one.known.tobytes()
        if fitted not in self._pca:
            self._pca[fitted] = pca_space(self.pictures[one.known])
        return {
            "flow": (flow_space(one.model), one.model),
            "top code": (top_space(one.model), one.model),
            "untrained flow": (flow_space(one.untrained, "untrained flow"), one.untrained),
            "pictures": (picture_space(), None),
            "PCA": (self._pca[fitted], None),
            "cepstrum": (cepstral_space(), None),
        }

    def provenance(self) -> dict:
        """What results came from."""
        return {
            "corpus": self.corpus.name, "fingerprint": self.corpus.fingerprint, "licence": self.corpus.licence,
            "flow": self.flow, "weights": [file_hash(folder / "model.safetensors") for folder in self.folders],
            "listener": self.listener.origin, "depth": asdict(self.depth), "with shared": self.with_shared, "seed": self.seed, "scale": self.scale,
            "tokens": len(self.tokens), "speakers": int(self.table.speaker.nunique()),
        }  # fmt: skip


def open_bench(
    corpus: Corpus,
    flow: str | Path,
    depth: Depth = STUDY,
    seed: int = 0,
    root: str | None = None,
    with_shared: bool = False,
) -> Bench:
    """The bench of a corpus and a flow, or of the flows of four folds (``cpu-timit-sample``).

    Where the flow has met nobody of the corpus, speakers are left out by pairs of a woman and a man; else what is fitted is fitted
    on those that it was trained on, and tried on test speakers.

    Raises:
        InputError: no such flow, or nobody is left to fit on or to try on.
    """
    corpus = usable(corpus, "padded")
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
        load_listener(corpus.name), f"{count} of {said['corpus']}, {parameters:,} parameters", root, with_shared=with_shared,
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
