"""Readers: folders of labelled speech -> Corpus. ``load_corpus`` is the one way in."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from .corpus import COLUMNS, FRAMES, HOP, RATE, VOWELS, Corpus, InputError, cache_dir, split_by_speaker
from .klatt import klatt_corpus

CORPORA = ("auto", "timit", "timit-sample", "klatt")
TIMIT_LICENCE = "TIMIT, LDC93S1: licensed by the Linguistic Data Consortium, not to be passed on"
SAMPLE_LICENCE = (
    "TIMIT sample, copyright 1993 Linguistic Data Consortium, Creative Commons Attribution, Non-Commercial, ShareAlike"
)
SAMPLE_ADDRESS = "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/timit.zip"


def load_corpus(name: str = "auto", root: str | Path | None = None, phones=VOWELS) -> Corpus:
    """Load a corpus by name.

    Args:
        name: one of ``CORPORA``. ``auto`` takes the first that is there of timit, timit-sample
            and klatt, and says in ``Corpus.note`` which and why; a named corpus never falls back.
        root: the folder of the recordings; without it ``TIMIT_ROOT`` names TIMIT's, and the
            sample is looked for in the cache folder.
        phones: labels of the segments to keep.

    Raises:
        InputError: unknown name, or no usable speech in the folder.
    """
    if name not in CORPORA:
        raise InputError(f"no corpus {name!r}; there are {', '.join(CORPORA)}")
    if name == "auto":
        return _first_there_is(root, phones)
    if name == "klatt":
        if root:
            raise InputError(f"klatt is generated and takes no folder, but root is {root}; leave root out")
        return _checked(klatt_corpus(), phones)
    folder = root or _usual_folder(name)
    if not folder:
        raise InputError(
            f"{name} needs the folder of its recordings: give root (--root DIR, or ROOT=DIR with make). "
            + ("TIMIT_ROOT is read too." if name == "timit" else f"The sample is at {SAMPLE_ADDRESS}")
        )
    licence = TIMIT_LICENCE if name == "timit" else SAMPLE_LICENCE
    return _checked(timit_corpus(name, folder, licence, f"named by the user, read from {Path(folder).name}"), phones)


def _usual_folder(name: str) -> str | Path | None:
    if name == "timit":
        return os.environ.get("TIMIT_ROOT")
    cached = cache_dir() / "timit-sample"
    return cached if cached.is_dir() else None


def _first_there_is(root, phones) -> Corpus:
    if root:
        found = load_corpus("timit-sample" if any(Path(root).glob("dr?-*")) else "timit", root, phones)
        return _renoted(found, f"auto: root was given and holds {found.name}")
    for name in ("timit", "timit-sample"):
        if folder := _usual_folder(name):
            return _renoted(load_corpus(name, folder, phones), f"auto: {name} was found on this machine")
    note = "auto: neither TIMIT nor its sample is on this machine, so the synthetic corpus stands in"
    return _renoted(load_corpus("klatt", phones=phones), note)


def _renoted(corpus: Corpus, note: str) -> Corpus:
    return Corpus(**{**vars(corpus), "note": note})


def _checked(corpus: Corpus, phones) -> Corpus:
    """Keep the wanted phones, set aside segments longer than a picture, and refuse an empty rest."""
    kept = corpus.filter(phone=list(phones))
    if not len(kept):
        labels = ", ".join(sorted(corpus.table.phone.unique())[:12])
        raise InputError(
            f"{corpus.name} has no segment labelled {', '.join(phones)}; its labels are {labels or 'none'}. "
            "Check that root is the right folder"
        )
    frames = -(-(kept.table.end - kept.table.start) // HOP)
    long = kept.table[frames > FRAMES]
    for row in long.itertuples():
        length = (row.end - row.start) * 1000 / RATE
        corpus.problems.append(f"{row.path}: {row.phone} of {length:.0f} ms is over {FRAMES} ms, discarded")
    return kept.take(np.flatnonzero(frames <= FRAMES))


def timit_corpus(name: str, root: str | Path, licence: str, note: str) -> Corpus:
    """Read a folder laid out as TIMIT or as its sample, in upper or lower case.

    Speakers are the folders that hold the ``.phn`` files, ``<sex><initials>`` or
    ``drN-<sex><initials>``; times are in samples. Files that cannot be used are skipped and
    listed in ``Corpus.problems``. Speakers are split as TIMIT says where it says so (TRAIN,
    TEST), else by ``split_by_speaker``.

    Raises:
        InputError: no such folder, or nothing in it that looks like TIMIT.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder of {name} as root")
    labels = sorted(path for path in root.rglob("*") if path.suffix.lower() == ".phn")
    if not labels:
        raise InputError(f"{root}: no .phn file in it or below; it is not laid out as TIMIT is")
    rows, problems = [], []
    for path in labels:
        try:
            rows += _utterance(path, root, name)
        except InputError as problem:
            problems.append(str(problem))
    if not rows:
        raise InputError(f"{root}: no utterance could be used. First problem: {problems[0]}")
    table = pd.DataFrame(rows, columns=[*COLUMNS, "shared"])
    table["split"] = _official_split(table) if (table.split != "").all() else split_by_speaker(table)

    @lru_cache(maxsize=64)
    def read_sound(path: str) -> np.ndarray:
        return _read(root / path)

    return Corpus(name, table, read_sound, licence, note, problems)


def _utterance(label: Path, root: Path, name: str) -> list[tuple]:
    """The labelled segments of one utterance, as rows."""
    match = re.fullmatch(r"(?:dr\d-)?([fm])(\w+)", label.parent.name.lower())
    if not match:
        raise InputError(f"{label}: its folder should be named <sex><initials>, as fvmh0; skipped")
    sound = _beside(label, ".wav")
    if sound is None:
        raise InputError(f"{label}: no sound file of the same name beside it; skipped")
    length = _length(sound)
    words = _intervals(_beside(label, ".wrd"))
    segments = _intervals(label)
    if segments and segments[-1][1] > length + RATE // 10:
        raise InputError(f"{label}: labels end at {segments[-1][1]}, the sound at {length} samples; skipped")
    speaker, sentence = "".join(match.groups()), label.stem.lower()
    part = next((p.lower() for p in label.relative_to(root).parts if p.lower() in ("train", "test")), "")
    return [
        (name, f"{speaker}-{sentence}", speaker, match[1], phone, _spanning(words, start, end),
         start, min(end, length), part, sound.relative_to(root).as_posix(), sentence.startswith("sa"))
        for start, end, phone in segments
        if start < length
    ]  # fmt: skip


def _beside(label: Path, suffix: str) -> Path | None:
    candidates = (label.with_suffix(suffix), label.with_suffix(suffix.upper()))
    return next((path for path in candidates if path.is_file()), None)


def _length(sound: Path) -> int:
    try:
        info = soundfile.info(sound)
    except soundfile.SoundFileError as error:
        raise InputError(f"{sound}: not a sound that can be read ({error}); skipped") from None
    if info.samplerate != RATE:
        raise InputError(f"{sound}: {info.samplerate} Hz, but times count samples at {RATE} Hz; skipped")
    if info.channels != 1:
        raise InputError(f"{sound}: {info.channels} channels, one expected; skipped")
    return info.frames


def _read(sound: Path) -> np.ndarray:
    try:
        return soundfile.read(sound, dtype="float32")[0]
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{sound}: can no longer be read ({error})") from None


def _intervals(path: Path | None) -> list[tuple[int, int, str]]:
    """Lines of ``start end label``; a word tier may be missing."""
    if path is None:
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            start, end, label = int(fields[0]), int(fields[1]), fields[2].lower()
        except (ValueError, IndexError):
            raise InputError(f"{path}, line {number}: {line!r} is not 'start end label'; skipped") from None
        if not 0 <= start < end:
            raise InputError(f"{path}, line {number}: times {start} to {end} do not rise; skipped")
        rows.append((start, end, label))
    return rows


def _spanning(words: list[tuple[int, int, str]], start: int, end: int) -> str:
    middle = (start + end) // 2
    return next((word for begin, stop, word in words if begin <= middle < stop), "")


def _official_split(table: pd.DataFrame) -> pd.Series:
    """TIMIT's own test speakers stay test; validation speakers are cut from its training part."""
    training = table[table.split == "train"]
    cut = split_by_speaker(training).where(lambda part: part == "valid", "train")
    return table.split.where(table.split == "test", cut.reindex(table.index))
