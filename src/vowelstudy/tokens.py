"""Tokens: the segments of an experiment, their pictures, the judges' features of them, and their codes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from vowelflow.audio import griffin_lim, to_audio
from vowelflow.base import RATE, InputError, build_folder, save_atomically
from vowelflow.checkpoint import file_hash
from vowelflow.corpus import Corpus
from vowelflow.glow import Glow
from vowelflow.spectrogram import VOWEL, Observation, images

from .acoustics import speaker_ceilings
from .judges import Features, features_of

CODES = 3  # version of cached codes: raise it if the same weights give other codes for the same recordings


@dataclass(frozen=True)
class Tokens:
    """The segments of an experiment and their pictures.

    Attributes:
        corpus: the segments; ``table`` has their labels.
        observation: how they become pictures.
        with_shared: whether to evaluate sentences that all speakers read, too.
        cache: what is costly to compute again: codes by flow, seed and draws, features, and PCA by fold.
    """

    corpus: Corpus
    observation: Observation = VOWEL
    with_shared: bool = False
    cache: dict = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.corpus)

    @property
    def table(self) -> pd.DataFrame:
        return self.corpus.table

    @cached_property
    def pictures(self) -> torch.Tensor:
        """Pictures of all tokens ``(n, 1, side, frames)``."""
        return images(self.corpus, observation=self.observation)

    @cached_property
    def samples(self) -> np.ndarray:
        """Duration of each segment in samples ``(n,)``."""
        return (self.table.end - self.table.start).to_numpy()

    @cached_property
    def frames(self) -> np.ndarray:
        """Number of columns of each picture that belong to the segment ``(n,)``."""
        return np.array([len(self.observation.centres(int(count))) for count in self.samples])

    def sound(
        self, picture: torch.Tensor, row: int, phase: torch.Tensor | None = None, peak: float = 1.0
    ) -> np.ndarray:
        """The sound of a picture made from a token, with the token's duration; without a phase, Griffin-Lim's."""
        length = self.samples[row] / RATE
        if phase is None:
            return griffin_lim(picture, peak, duration=length)
        return to_audio(picture, phase, peak, duration=length)

    @cached_property
    def ceilings(self) -> np.ndarray:
        """Formant ceiling of each token's speaker in Hz ``(n,)``."""
        return self.table.speaker.map(speaker_ceilings(self.corpus)).to_numpy(float)

    def features(self, rows: np.ndarray) -> Features:
        """The judges' features of tokens; each token is measured once."""
        done = self.cache.setdefault("features", {})
        missing = np.array([row for row in rows if row not in done], int)
        if len(missing):
            measured = self.measure(self.pictures[missing], missing)
            done.update({row: measured.take([k]) for k, row in enumerate(missing)})
        return Features.joined([done[row] for row in rows])

    def measure(self, pictures: torch.Tensor, rows: np.ndarray) -> Features:
        """The judges' features of pictures made from tokens, which have the tokens' durations and ceilings."""
        return features_of(pictures, self.samples[rows], self.ceilings[rows])

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
