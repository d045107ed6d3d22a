"""Section 4.1: five vowels become spectrograms of 288x288."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from vowelflow.base import FRAMES, RATE
from vowelflow.corpus import VOWELS, Corpus, padding_share

from ..statistics import Comparison

SPEAKERS, TOKENS = 48, 8  # speakers of the synthetic corpus, and tokens of each vowel of each speaker
LONGEST = FRAMES * RATE // 1000  # samples


def data(corpus: Corpus, root: str | None) -> dict:
    """Whether an independent reading finds the same number of tokens of each vowel and speaker."""
    table = corpus.table
    taken = Counter(zip(table.speaker, table.phone))
    wanted, comparisons = _read_again(corpus, root), []
    if wanted is not None:
        agree = {cell: float(taken[cell] == wanted[cell]) for cell in sorted({*taken, *wanted})}
        values = pd.Series(agree).groupby(level=0).mean().to_frame("reader")
        metric = "share of a speaker's vowels whose counts agree with an independent reading"
        more = {"primary": True, "exact": 1.0, "code": "-"}
        comparisons.append(Comparison("data", "counts", metric, 0.0, values, {}, len(table), **more))
    milliseconds = (table.end - table.start) * 1000 / RATE
    return {"comparisons": comparisons, "null": None, "numbers": {
        "tokens": table.groupby(["phone", "sex"]).size().unstack(fill_value=0).to_dict("index"),
        "milliseconds": milliseconds.groupby(table.phone).mean().to_dict(),
        "padding": padding_share(corpus),
        "left out": int(corpus.left_out["count"].sum()) if len(corpus.left_out) else 0,
    }}  # fmt: skip


def _read_again(corpus: Corpus, root: str | None) -> Counter | None:
    """Number of tokens by speaker and vowel, without any code of the readers.

    They are read from the label files of TIMIT, or follow from the recipe of the synthetic corpus; None for
    other corpora, or if the files are not there.
    """
    if corpus.name == "klatt" and len(corpus.table) == SPEAKERS * len(VOWELS) * TOKENS:
        names = [f"{sex}{number:02d}" for sex in "fm" for number in range(SPEAKERS // 2)]
        return Counter({(name, phone): TOKENS for name in names for phone in VOWELS})
    place = root or os.environ.get(f"{corpus.name.upper().replace('-', '_')}_ROOT")
    if place is None or not corpus.name.startswith("timit") or not Path(place).expanduser().is_dir():
        return None
    found = Counter()
    for file in Path(place).expanduser().rglob("*"):
        if file.suffix.lower() == ".phn":
            speaker = re.sub(r"^dr\d-", "", file.parent.name.lower())
            for begin, end, phone in (line.split() for line in file.read_text().splitlines()):
                if phone in VOWELS and 0 < int(end) - int(begin) <= LONGEST:
                    found[speaker, phone] += 1
    return found
