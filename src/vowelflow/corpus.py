"""A corpus: a table of labelled speech segments, and their sound. All other modules see speech only here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from .base import FFT, FRAMES, LEAD, RATE, InputError, frames_in

VOWELS = ("aa", "ae", "iy", "ow", "uh")  # the paper's five, section 4.1
# The vowels among TIMIT's 61 phones. They include the 15 vowels of LibriSpeech's dictionary.
ALL_VOWELS = tuple("aa ae ah ao aw ax ax-h axr ay eh er ey ih ix iy ow oy uh uw ux".split())
LEFT_OUT = ("corpus", "reason", "phone", "sex", "count")
COLUMNS = ("corpus", "utterance", "speaker", "sex", "phone", "word", "start", "end", "split", "path")


def cache_dir() -> Path:
    """The folder for files that can be made again: ``VOWELFLOW_CACHE`` or the user's cache."""
    import pooch

    folder = Path(os.environ.get("VOWELFLOW_CACHE") or pooch.os_cache("vowelflow")).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"no place for a cache ({error.strerror})"
        raise InputError(f"{folder}: {reason}; name another in VOWELFLOW_CACHE") from None
    return folder


@dataclass(frozen=True, repr=False)
class Corpus:
    """Speech segments of one source, or of several joined.

    Attributes:
        name: the corpus, as ``load_corpus`` names it.
        table: one row per segment, with the columns ``COLUMNS``, ``crc`` (checksum of its samples) and
            ``place`` (its index in ``sounds``); ``start`` and ``end`` in samples at 16 kHz; ``split``
            is train, valid or test and the same for all segments of a speaker.
        sounds: for each corpus, a sequence of clips.
        licence: what may be done with results made from it.
        note: why this corpus was chosen, shown at the top of every notebook.
        left_out: counts of what was not used: ``corpus``, ``reason``, ``phone``, ``sex`` and ``count``.
        problems: files that could not be used, one line each, with the cause and the remedy.
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
        """The clips of segments (see ``store``), each float32 ``(samples,)`` in [-1, 1] at 16 kHz."""
        chosen = self.table.iloc[list(rows)]
        return [self.sounds[corpus][place] for corpus, place in zip(chosen["corpus"], chosen["place"])]

    def clip(self, row: int) -> np.ndarray:
        """The clip of one segment."""
        return self.clips([row])[0]

    def sound(self, row: int) -> np.ndarray:
        """The segment itself, float32 ``(end - start,)`` in [-1, 1] at 16 kHz."""
        return self.clip(row)[LEAD : LEAD + self.table.end.iat[row] - self.table.start.iat[row]]

    def take(self, rows) -> Corpus:
        """The segments at these positions, in this order."""
        return replace(self, table=self.table.iloc[rows].reset_index(drop=True))

    def filter(self, **wanted) -> Corpus:
        """The segments with these values: ``corpus.filter(split="test", phone=["aa", "ae"])``.

        Raises:
            InputError: the table has no such column.
        """
        keep = np.ones(len(self.table), dtype=bool)
        for column, value in wanted.items():
            if column not in self.table:
                raise InputError(f"no column {column!r}; there are {', '.join(self.table.columns)}")
            keep &= self.table[column].isin([value] if np.isscalar(value) else list(value)).to_numpy()
        return self.take(np.flatnonzero(keep))

    @property
    def split(self) -> dict[str, Corpus]:
        """The segments of train, valid and test speakers: ``corpus.split["train"]``."""
        return {part: self.filter(split=part) for part in ("train", "valid", "test")}

    def distinct(self) -> Corpus:
        """Without sentences that every speaker says, which put the same words into training and test."""
        return self.filter(shared=False) if "shared" in self.table else self

    def held_out(self, split: str = "test") -> Corpus:
        """The segments of a split to evaluate on, without shared sentences."""
        return self.filter(split=split).distinct()

    def draw(self, per_group: int, by: tuple[str, ...] = ("phone", "sex"), seed: int = 0) -> Corpus:
        """A random, balanced subset: up to ``per_group`` segments of each group of the columns ``by``."""
        rng = np.random.default_rng(seed)
        groups = self.table.groupby(list(by), sort=True).indices.values()
        chosen = [rng.permutation(rows)[:per_group] for rows in groups]
        return self.take(np.sort(np.concatenate(chosen)) if chosen else [])

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change when a segment's label, times, split or checksum changes."""
        table = self.table.filter([*COLUMNS, "crc", "shared"]).drop(columns="path")
        return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:12]

    def summary(self) -> str:
        """The contents as text: counts, speakers, durations, what was left out, and problems by file."""
        table = self.table.assign(ms=(self.table.end - self.table.start) * 1000 / RATE)
        counts = pd.crosstab(table.phone, table.sex, margins=True, margins_name="all")
        length = table.groupby("phone").ms.describe()[["mean", "min", "50%", "max"]].round().astype(int)
        split = table.groupby(["corpus", "split"]).speaker.agg(segments="size", speakers="nunique")
        each = table.groupby("speaker").size()
        left_out = []
        for (corpus, reason), rows in self.left_out.groupby(["corpus", "reason"]):
            labels = rows[rows.phone != ""].groupby("phone")["count"].sum().astype(int).nlargest(8)
            most = ", ".join(f"{label} {count}" for label, count in labels.items())
            line = f"{rows['count'].sum():8d}  {corpus}: {reason}"
            left_out.append(line + (f" (most: {most})" if most else ""))
        lines = [
            f"{self.name}: {len(table)} segments, {len(each)} speakers ({self.note})",
            f"licence: {self.licence}\nfingerprint: {self.fingerprint}",
            f"\nsegments by vowel and sex\n{counts}",
            f"\nduration, ms\n{length}",
            f"\nspeakers\n{split}",
            f"segments per speaker: {each.min()} to {each.max()}, median {each.median():.0f}",
            f"padding: {padding_share(self):.0%} of the pixels of all pictures",
            *(f"\nleft out: {'' if left_out else 'nothing'}", *left_out),
            *(f"\nproblems: {len(self.problems)}", *(f"  {problem}" for problem in self.problems)),
        ]
        return "\n".join(lines)


def padding_share(corpus: Corpus) -> float:
    """Share of padding in all padded pictures. Segments longer than 288 ms have none and do not count."""
    frames = frames_in(corpus.table.end - corpus.table.start)
    return float(1 - frames[frames <= FRAMES].mean() * (FFT // 2 + 1) / FRAMES**2)


def join(corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora as one; the column ``corpus`` keeps the origin of every segment.

    Speakers of two corpora with the same name are two people, so they get the corpus's name as a prefix.

    Raises:
        InputError: corpora share recordings, as TIMIT and its sample do, so a speaker would be in two splits.
    """
    tables = [one.table.assign(owner=one.name, shared=one.table.get("shared", False)) for one in corpora]
    table = pd.concat(tables, ignore_index=True)
    recorded = table[table["corpus"] != "klatt"]  # all checksums of klatt are equal
    owners = recorded.groupby(["crc", "start", "end"]).owner.unique()
    owners = owners[owners.map(len) > 1]
    if len(owners):
        raise InputError(f"{' and '.join(owners.iloc[0])} hold the same recordings; take one of them")
    ambiguous = table.groupby("speaker").owner.transform("nunique") > 1
    table["speaker"] = table.speaker.mask(ambiguous, table.owner + ":" + table.speaker)
    return Corpus(
        name="+".join(corpus.name for corpus in corpora),
        table=table.drop(columns="owner"),
        sounds={name: clips for corpus in corpora for name, clips in corpus.sounds.items()},
        licence="; ".join(corpus.licence for corpus in corpora),
        note="; ".join(f"{corpus.name}: {corpus.note}" for corpus in corpora),
        left_out=pd.concat([corpus.left_out for corpus in corpora], ignore_index=True),
        problems=[f"{corpus.name}: {problem}" for corpus in corpora for problem in corpus.problems],
    )


def split_by_speaker(speakers: pd.DataFrame, seed: int = 0) -> dict[str, str]:
    """Assign train, valid or test to every speaker of a table with columns ``speaker`` and ``sex``.

    A quarter of each sex goes to test and an eighth to valid, both rounded, with at least one test speaker
    of two and one valid speaker of four. The speakers of each sex are shuffled with ``seed``.
    """
    split = {}
    for _, names in _shuffled_speakers(speakers, seed):
        test = max(round(len(names) / 4), int(len(names) >= 2))
        valid = max(round(len(names) / 8), int(len(names) >= 4))
        split |= dict(zip(names, ["test"] * test + ["valid"] * valid + ["train"] * len(names)))
    return split


def _shuffled_speakers(table: pd.DataFrame, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each sex, and its speakers in random order, from a table with columns ``speaker`` and ``sex``."""
    speakers = table[["speaker", "sex"]].drop_duplicates().sort_values(["sex", "speaker"])
    for index, (sex, group) in enumerate(speakers.groupby("sex")):
        yield sex, np.random.default_rng([seed, index]).permutation(group.speaker.to_numpy())
