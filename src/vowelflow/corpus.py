"""A corpus: a table of labelled speech segments and a way to read their sound.

Everything later in the package sees speech only through this table, so a new
source of speech needs a reader that fills it, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

RATE = 16_000  # Hz, of every sound in the study
FRAMES = 288  # frames of 1 ms in a picture; a longer segment is discarded
HOP = 16  # samples between frames
VOWELS = ("aa", "ae", "iy", "ow", "uh")  # the paper's five, section 4.1
COLUMNS = ("corpus", "utterance", "speaker", "sex", "phone", "word", "start", "end", "split", "path")


class InputError(ValueError):
    """Something a user gave is not usable; the message names it and the remedy."""


def cache_dir() -> Path:
    """The folder for files that can be made again: ``VOWELFLOW_CACHE`` or the user's cache."""
    import pooch

    folder = Path(os.environ.get("VOWELFLOW_CACHE") or pooch.os_cache("vowelflow"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file under a temporary name beside ``path``, then rename it there.

    A reader sees the old file or the new one, never half of one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)  # mkstemp makes files nobody else can read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class Corpus:
    """Speech segments of one source.

    Attributes:
        name: the corpus, as ``load_corpus`` knows it.
        table: one row a segment, with the columns ``COLUMNS``; ``start`` and ``end`` in
            samples at 16 kHz, ``split`` one of train, valid, test and constant for a speaker.
        read_sound: utterance path -> float32 waveform in [-1, 1] at 16 kHz.
        licence: what may be done with what is made from it.
        note: how it came to be chosen, for the banner of every notebook.
        problems: what was skipped and why, one line each.
    """

    name: str
    table: pd.DataFrame
    read_sound: Callable[[str], np.ndarray]
    licence: str = ""
    note: str = ""
    problems: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)

    def filter(self, **wanted) -> Corpus:
        """Keep the segments whose columns have the wanted value, or one of several.

        ``corpus.filter(split="test", phone=["aa", "ae"])``

        Raises:
            InputError: a column that the table does not have.
        """
        keep = np.ones(len(self.table), dtype=bool)
        for column, value in wanted.items():
            if column not in self.table:
                raise InputError(f"no column {column!r}; there are {', '.join(self.table.columns)}")
            values = [value] if np.isscalar(value) else list(value)
            keep &= self.table[column].isin(values).to_numpy()
        return self.take(np.flatnonzero(keep))

    def distinct(self) -> Corpus:
        """Without the sentences that every speaker says, TIMIT's SA sentences (column ``shared``).

        They would let a test meet words, and the contexts of vowels, that training speakers said.
        """
        return self.filter(shared=False) if "shared" in self.table else self

    def held_out(self, split: str = "test") -> Corpus:
        """The segments of a split to evaluate on: ``distinct`` ones."""
        return self.filter(split=split).distinct()

    def take(self, rows) -> Corpus:
        """The segments at these positions, in this order."""
        return replace(self, table=self.table.iloc[rows].reset_index(drop=True))

    def draw(self, per_group: int, by: tuple[str, ...] = ("phone", "sex"), seed: int = 0) -> Corpus:
        """A fixed, balanced subset: up to ``per_group`` segments of each group of ``by``."""
        rng = np.random.default_rng(seed)
        groups = self.table.groupby(list(by), sort=True).indices.values()
        chosen = [rng.permutation(rows)[:per_group] for rows in groups]
        return self.take(np.sort(np.concatenate(chosen)) if chosen else [])

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change when any segment's label, times or split does."""
        table = self.table[list(COLUMNS)].assign(path="")
        return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:12]

    def summary(self) -> str:
        """What is there, as text: counts by vowel and sex, speakers, durations, problems."""
        table = self.table.assign(ms=(self.table.end - self.table.start) * 1000 / RATE)
        counts = pd.crosstab(table.phone, table.sex, margins=True, margins_name="all")
        length = table.groupby("phone").ms.agg(["mean", "min", "max"]).round(0).astype(int)
        split = table.groupby("split").agg(segments=("phone", "size"), speakers=("speaker", "nunique"))
        lines = [
            f"{self.name}: {len(table)} segments, {table.speaker.nunique()} speakers ({self.note})",
            f"\nsegments by vowel and sex\n{counts}",
            f"\nduration, ms\n{length}",
            f"\nsplit by speaker\n{split}",
            f"\nproblems: {len(self.problems)}",
            *(f"  {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


def split_by_speaker(table: pd.DataFrame, seed: int = 0) -> pd.Series:
    """Assign train, valid or test to every speaker, a quarter of each sex to test.

    An eighth of each sex goes to valid. Both are rounded, with at least one test speaker of two,
    and one valid speaker of four. Speakers of a sex are shuffled with ``seed``.
    Returns one label a row.
    """
    split = {}
    speakers = table[["speaker", "sex"]].drop_duplicates().sort_values(["sex", "speaker"])
    for index, (_, group) in enumerate(speakers.groupby("sex")):
        names = np.random.default_rng([seed, index]).permutation(group.speaker.to_numpy())
        test = max(round(len(names) / 4), int(len(names) >= 2))
        valid = max(round(len(names) / 8), int(len(names) >= 4))
        for place, name in enumerate(names):
            split[name] = "test" if place < test else "valid" if place < test + valid else "train"
    return table.speaker.map(split)
