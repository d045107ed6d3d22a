"""A corpus: a table of labelled speech segments and a way to read their sound.

Everything later in the package sees speech only through this table, so a new
source of speech needs a reader that fills it, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from .base import (  # noqa: F401  other modules take these from here
    FFT,
    FRAMES,
    HOP,
    LEAD,
    LONGEST,
    RATE,
    InputError,
    TrainingError,
    frames_in,
    save_atomically,
)

VOWELS = ("aa", "ae", "iy", "ow", "uh")  # the paper's five, section 4.1
# Those of TIMIT's 61 phones that are vowels; the 15 of LibriSpeech's dictionary are among them.
ALL_VOWELS = (
    *("aa", "ae", "ah", "ao", "aw", "ax", "ax-h", "axr", "ay", "eh"),
    *("er", "ey", "ih", "ix", "iy", "ow", "oy", "uh", "uw", "ux"),
)
LEFT_OUT = ("corpus", "reason", "phone", "sex", "count")
COLUMNS = ("corpus", "utterance", "speaker", "sex", "phone", "word", "start", "end", "split", "path")


def cache_dir() -> Path:
    """The folder for files that can be made again: ``VOWELFLOW_CACHE`` or the user's cache."""
    import pooch

    folder = Path(os.environ.get("VOWELFLOW_CACHE") or pooch.os_cache("vowelflow")).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: no place for a cache ({error.strerror}); name another in VOWELFLOW_CACHE"
        ) from None
    return folder


@dataclass(frozen=True, repr=False)
class Corpus:
    """Speech segments of one source, or of several that were joined.

    Attributes:
        name: the corpus, as ``load_corpus`` knows it.
        table: one row a segment, with the columns ``COLUMNS``, ``crc`` (of its samples) and
            ``place`` (in ``sounds``); ``start`` and ``end`` in samples at 16 kHz,
            ``split`` one of train, valid, test and constant for a speaker.
        sounds: by corpus, what gives the clip at a place.
        licence: what may be done with what is made from it.
        note: how it came to be chosen, for the banner of every notebook.
        left_out: what was not taken: columns ``corpus``, ``reason``, ``phone``, ``sex`` and ``count``.
        problems: files that could not be used as they are: which, why, and the remedy, a line each.
    """

    name: str
    table: pd.DataFrame
    sounds: dict[str, Sequence[np.ndarray]]
    licence: str = ""
    note: str = ""
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame([], columns=LEFT_OUT))
    problems: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"<Corpus {self.name}: {len(self)} segments, {self.table.speaker.nunique()} speakers>"

    def clips(self, rows: Sequence[int]) -> list[np.ndarray]:
        """What the frames of segments see, float32 ``(samples,)`` in [-1, 1] at 16 kHz each.

        ``LEAD`` samples of the recording before the segment, the segment, and what its last
        window sees after it.
        """
        rows = list(rows)
        origins, places = self.table["corpus"].to_numpy()[rows], self.table["place"].to_numpy()[rows]
        return [self.sounds[origin][place] for origin, place in zip(origins, places)]

    def clip(self, row: int) -> np.ndarray:
        """The clip of one segment."""
        return self.clips([row])[0]

    def sound(self, row: int) -> np.ndarray:
        """The segment itself, float32 ``(end - start,)`` in [-1, 1] at 16 kHz."""
        return self.clip(row)[LEAD : LEAD + self.table.end.iat[row] - self.table.start.iat[row]]

    def filter(self, **wanted) -> Corpus:
        """Keep the segments whose columns have the wanted value, or one of several.

        ``left_out`` and ``problems`` stay those of the whole corpus.

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

    @property
    def split(self) -> dict[str, Corpus]:
        """The segments of train, valid and test speakers: ``corpus.split["train"]``."""
        return {part: self.filter(split=part) for part in ("train", "valid", "test")}

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

    def fold(self, number: int, of: int = 4, seed: int = 0) -> Corpus:
        """The same segments, their speakers split for cross-validation: each is a test speaker in one fold of ``of``.

        Of each sex, one ``of``-th are test speakers, an eighth but at least one are valid, and the others train.

        Raises:
            InputError: no such fold, or a sex with fewer speakers than folds.
        """
        split = {}
        for sex, names in _shuffled_speakers(self.table, seed):
            if not 1 <= number <= of or len(names) < of:
                raise InputError(f"fold {number} of {of}: {self.name} has {len(names)} speakers of sex {sex}")
            test = names[number - 1 :: of]
            rest = [name for name in names if name not in test]
            valid = rest[: max(round(len(names) / 8), 1)]
            split |= {name: "test" if name in test else "valid" if name in valid else "train" for name in names}
        return replace(self, table=self.table.assign(split=self.table.speaker.map(split)))

    def with_train_share(self, share: float, seed: int = 0) -> Corpus:
        """With this share of the train speakers of each sex, at least one; a smaller share is part of a larger one."""
        kept = []
        for _, names in _shuffled_speakers(self.table[self.table.split == "train"], seed):
            kept += list(names[: max(round(len(names) * share), 1)])
        return self.take(np.flatnonzero((self.table.split != "train") | self.table.speaker.isin(kept)))

    def draw(self, per_group: int, by: tuple[str, ...] = ("phone", "sex"), seed: int = 0) -> Corpus:
        """A fixed, balanced subset: up to ``per_group`` segments of each group of the columns ``by``."""
        rng = np.random.default_rng(seed)
        groups = self.table.groupby(list(by), sort=True).indices.values()
        chosen = [rng.permutation(rows)[:per_group] for rows in groups]
        return self.take(np.sort(np.concatenate(chosen)) if chosen else [])

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change when a segment's label, times, split or checksum does."""
        table = self.table.filter([*COLUMNS, "crc", "shared"]).drop(columns="path")
        return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:12]

    def summary(self) -> str:
        """What is there, as text: counts, speakers, durations, what was left out, problems by file."""
        table = self.table.assign(ms=(self.table.end - self.table.start) * 1000 / RATE)
        counts = pd.crosstab(table.phone, table.sex, margins=True, margins_name="all")
        length = table.groupby("phone").ms.describe()[["mean", "min", "50%", "max"]].round().astype(int)
        split = table.groupby(["corpus", "split"]).agg(segments=("phone", "size"), speakers=("speaker", "nunique"))
        each = table.groupby("speaker").size()
        left_out = []
        for (corpus, reason), rows in self.left_out.groupby(["corpus", "reason"]):
            labels = rows[rows.phone != ""].groupby("phone")["count"].sum().nlargest(8)
            most = ", ".join(f"{label} {count}" for label, count in labels.items())
            left_out.append(f"{rows['count'].sum():8d}  {corpus}: {reason}" + (f" (most: {most})" if most else ""))
        lines = [
            f"{self.name}: {len(table)} segments, {len(each)} speakers ({self.note})",
            f"licence: {self.licence}",
            f"fingerprint: {self.fingerprint}",
            f"\nsegments by vowel and sex\n{counts}",
            f"\nduration, ms\n{length}",
            f"\nspeakers\n{split}",
            f"segments of a speaker: {each.min()} to {each.max()}, median {each.median():.0f}",
            f"padding: {padding_share(self):.0%} of the pixels of all pictures",
            f"\nleft out: {'' if len(left_out) else 'nothing'}",
            *left_out,
            f"\nproblems: {len(self.problems)}",
            *(f"  {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


def padding_share(corpus: Corpus) -> float:
    """Share of the pixels of all padded pictures that lie outside the segments: after their end, or above 8 kHz.

    Segments of more than 288 ms have no such picture.
    """
    frames = frames_in(corpus.table.end - corpus.table.start)
    return float(1 - frames[frames <= FRAMES].mean() * (FFT // 2 + 1) / FRAMES**2)


def join(corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora as one; the column ``corpus`` keeps the origin of every segment.

    A speaker's name that two corpora share gets the corpus's name in front: they are two people.

    Raises:
        InputError: corpora that share recordings, as TIMIT and its sample do: a speaker would be in two splits.
    """
    tables, owners = [], {}
    for corpus in corpora:
        recorded = corpus.table[corpus.table["corpus"] != "klatt"]  # whose checksums are all the same
        for key in set(zip(recorded.crc, recorded.start, recorded.end)):
            if (other := owners.setdefault(key, corpus.name)) != corpus.name:
                raise InputError(f"{other} and {corpus.name} hold the same recordings; take one of them")
    for corpus in corpora:
        others = set().union(*(other.table.speaker for other in corpora if other is not corpus))
        names = corpus.table.speaker.mask(corpus.table.speaker.isin(others), f"{corpus.name}:" + corpus.table.speaker)
        tables.append(corpus.table.assign(speaker=names, shared=corpus.table.get("shared", False)))
    return Corpus(
        "+".join(corpus.name for corpus in corpora),
        pd.concat(tables, ignore_index=True),
        {name: clips for corpus in corpora for name, clips in corpus.sounds.items()},
        "; ".join(corpus.licence for corpus in corpora),
        "; ".join(f"{corpus.name}: {corpus.note}" for corpus in corpora),
        pd.concat([corpus.left_out for corpus in corpora], ignore_index=True),
        [f"{corpus.name}: {problem}" for corpus in corpora for problem in corpus.problems],
    )


def split_by_speaker(speakers: pd.DataFrame, seed: int = 0) -> dict[str, str]:
    """Assign train, valid or test to every speaker of a table with columns ``speaker`` and ``sex``.

    A quarter of each sex goes to test, an eighth to valid. Both are rounded, with at least one
    test speaker of two, and one valid speaker of four. Speakers of a sex are shuffled with ``seed``.
    """
    split = {}
    for _, names in _shuffled_speakers(speakers, seed):
        test = max(round(len(names) / 4), int(len(names) >= 2))
        valid = max(round(len(names) / 8), int(len(names) >= 4))
        for place, name in enumerate(names):
            split[name] = "test" if place < test else "valid" if place < test + valid else "train"
    return split


def _shuffled_speakers(table: pd.DataFrame, seed: int) -> list[tuple[str, np.ndarray]]:
    """Every sex of a table with columns ``speaker`` and ``sex``, and its speakers in the order of ``seed``."""
    speakers = table[["speaker", "sex"]].drop_duplicates().sort_values(["sex", "speaker"])
    return [
        (sex, np.random.default_rng([seed, index]).permutation(group.speaker.to_numpy()))
        for index, (sex, group) in enumerate(speakers.groupby("sex"))
    ]
