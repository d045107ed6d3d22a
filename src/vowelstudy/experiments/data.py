"""Section 4.1: the five vowels of a corpus, counted without the readers' code."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from vowelflow.base import FRAMES, RATE
from vowelflow.corpus import VOWELS, Corpus

SPEAKERS, TOKENS = 48, 8  # speakers of the synthetic corpus, and tokens of each vowel of each speaker
LONGEST = FRAMES * RATE // 1000  # samples


def counts_agree(corpus: Corpus, root: str | None) -> float | None:
    """Share of speakers and vowels whose token counts agree with an independent reading; None if there is none."""
    taken = Counter(zip(corpus.table.speaker, corpus.table.phone))
    wanted = _read_again(corpus, root)
    if wanted is None:
        return None
    cells = {*taken, *wanted}
    return sum(taken[cell] == wanted[cell] for cell in cells) / len(cells)


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
