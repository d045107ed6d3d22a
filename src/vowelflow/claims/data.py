"""Section 4.1: five vowels become spectrograms of 288x288."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from ..corpus import FRAMES, RATE, VOWELS, padding_share
from ..evidence import Bench
from ..findings import Contest

SPEAKERS, TOKENS = 48, 8  # of the synthetic corpus, and of each vowel
LONGEST = FRAMES * RATE // 1000  # samples


def data(bench: Bench) -> dict:
    """Whether tokens of each vowel, by speaker, are as many as an independent reading of the labels finds."""
    table = bench.corpus.table
    taken = Counter(zip(table.speaker, table.phone))
    wanted = _read_again(bench)
    tests = []
    if wanted is not None:
        cells = sorted(set(taken) | set(wanted))
        agree = pd.DataFrame(
            {"speaker": [who for who, _ in cells], "reader": [float(taken[c] == wanted[c]) for c in cells]}
        )
        values = agree.groupby("speaker")[["reader"]].mean()
        metric = "share of a speaker's vowels whose counts agree with an independent reading"
        tests = [Contest("data", "counts", metric, 0.0, values, {}, len(table), primary=True, exact=1.0, code="-")]
    milliseconds = (table.end - table.start) * 1000 / RATE
    return {"tests": tests, "null": None, "numbers": {
        "tokens": table.groupby(["phone", "sex"]).size().unstack(fill_value=0).to_dict("index"),
        "milliseconds": milliseconds.groupby(table.phone).mean().to_dict(), "padding": padding_share(bench.corpus),
        "left out": int(bench.corpus.left_out["count"].sum()) if len(bench.corpus.left_out) else 0,
    }}  # fmt: skip


def _read_again(bench: Bench) -> Counter | None:
    """Tokens by speaker and vowel, read from the label files by a few lines that share nothing with the readers.

    Of TIMIT's layout; of the synthetic corpus, as it was ordered. None of others.
    """
    corpus = bench.corpus
    if corpus.name == "klatt" and len(corpus.table) == SPEAKERS * len(VOWELS) * TOKENS:
        names = [f"{sex}{number:02d}" for sex in "fm" for number in range(SPEAKERS // 2)]
        return Counter({(name, phone): TOKENS for name in names for phone in VOWELS})
    place = bench.root or os.environ.get(f"{corpus.name.upper().replace('-', '_')}_ROOT")
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
