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

SPEAKERS, TOKENS = 48, 8  # of the synthetic corpus, and of each vowel
LONGEST = FRAMES * RATE // 1000  # samples


def data(corpus: Corpus, root: str | None) -> dict:
    """Whether the corpus has as many tokens of each vowel and speaker as an independent reading of the labels finds."""
    table = corpus.table
    taken = Counter(zip(table.speaker, table.phone))
    wanted = _read_again(corpus, root)
    comparisons = []
    if wanted is not None:
        cells = sorted(set(taken) | set(wanted))
        agree = pd.DataFrame(
            {"speaker": [who for who, _ in cells], "reader": [float(taken[c] == wanted[c]) for c in cells]}
        )
        values = agree.groupby("speaker")[["reader"]].mean()
        metric = "share of a speaker's vowels whose counts agree with an independent reading"
        comparisons = [
            Comparison(
                "data", "counts", metric, 0.0, values, {}, len(table), primary=True, exact=1.0, code="-"
            )
        ]
    milliseconds = (table.end - table.start) * 1000 / RATE
    return {"comparisons": comparisons, "null": None, "numbers": {
        "tokens": table.groupby(["phone", "sex"]).size().unstack(fill_value=0).to_dict("index"),
        "milliseconds": milliseconds.groupby(table.phone).mean().to_dict(), "padding": padding_share(corpus),
        "left out": int(corpus.left_out["count"].sum()) if len(corpus.left_out) else 0,
    }}  # fmt: skip


def _read_again(corpus: Corpus, root: str | None) -> Counter | None:
    """Tokens by speaker and vowel, read from label files in TIMIT's layout by a few lines that share no code with the readers.

    For the synthetic corpus, what was ordered; None for other corpora.
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
