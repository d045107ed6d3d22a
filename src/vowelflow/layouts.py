"""Layouts: how each corpus is stored in a folder, and how its label files are read.

A layout is a function of the folder, its files by suffix (in lower case), and a list of problems to which it
may add. It returns the suffix of label files; a key, which is equal for a label file and its sound; and a
function that makes an ``Utterance`` from a label file and its sound. A label parser is a function of a file
that returns ``(start, end, label)`` of each interval, in samples at 16 kHz. Both raise InputError.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from praatio.utilities.textgrid_io import parseTextgridStr

from .base import RATE, InputError
from .corpus import ALL_VOWELS

ARPABET = {*ALL_VOWELS, *"b d g p t k jh ch s sh z zh f th v dh m n ng l r w y hh".split()}
TIMIT_PHONES = ARPABET | set("dx q bcl dcl gcl pcl tcl kcl em en eng nx hv el pau epi h#".split())
SILENCES = {"", "sil", "sp", "spn", "nsn", "<eps>"}  # labels of aligners for intervals without a phone
SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".au", ".caf", ".sph")  # preferred first
PHONE_TIERS = re.compile(r"(.* - )?(phones?|phonemes?|segments?|mau)", re.IGNORECASE)
WORD_TIERS = re.compile(r"(.* - )?(words?|ort-mau)", re.IGNORECASE)
TOLERANCE = 1e-3  # s between the intervals of a TextGrid
LARGEST_TEXT = 20_000_000  # bytes of a label file


@dataclass
class Utterance:
    """One recording and its labels; times in samples at 16 kHz."""

    name: str  # unique in the corpus
    speaker: str
    sex: str  # f or m
    part: str  # train, valid or test; empty if the corpus has no split
    sound: Path
    phones: list[tuple[int, int, str]]
    words: list[tuple[int, int, str]]
    end: int | None = None  # end of the sound according to the labels
    in_samples: bool = False  # label files count samples, so the sound must be at 16 kHz
    shared: bool = False  # a sentence that every speaker says


def timit(root: Path, files: dict, problems: list[str]):
    """TIMIT or its sample: ``.phn`` files in folders ``<sex><initials>`` or ``drN-<sex><initials>``."""
    words = {(path.parent, base_name(path)): path for path in files[".wrd"]}

    def utterance(path: Path, sound: Path) -> Utterance:
        match = re.fullmatch(r"(?:dr\d-)?([fm])(\w+)", path.parent.name.lower())
        if not match:
            raise InputError(f"{path}: its folder should be named <sex><initials>, such as fvmh0; rename it")
        speaker, sentence = match[1] + match[2], base_name(path)
        folders = [folder.lower() for folder in path.relative_to(root).parts]
        part = next((folder for folder in folders if folder in ("train", "test")), "")
        phones, word_file = read_phn(path), words.get((path.parent, sentence))
        spoken = _words(problems, read_phn, word_file) if word_file else []
        name, shared = f"{speaker}-{sentence}", sentence.startswith("sa")
        return Utterance(name, speaker, match[1], part, sound, phones, spoken, in_samples=True, shared=shared)

    # Some copies have the SPHERE file as SA1.WAV and a converted one as SA1.WAV.wav, or only the second.
    return ".phn", lambda path: (path.parent, base_name(path).removesuffix(".wav")), utterance


def librispeech(root: Path, files: dict, problems: list[str]):
    """LibriSpeech: sounds and TextGrids named after utterances, anywhere in it, and SPEAKERS.TXT."""
    tables = named(files, "speakers.txt")
    if not tables:
        raise InputError(f"{root}: no SPEAKERS.TXT in it or below; it comes with LibriSpeech, put it there")
    lines = [line.split("|") for line in read_text(tables[0]).splitlines() if not line.startswith(";")]
    sexes = {line[0].strip(): line[1].strip().lower() for line in lines if len(line) > 1}
    parts = {"train": "train", "dev": "valid", "test": "test"}

    def utterance(path: Path, sound: Path) -> Utterance:
        if not re.fullmatch(r"\d+-\d+-\d+", path.stem):
            raise InputError(f"{path}: should be named <speaker>-<chapter>-<utterance>; rename it")
        speaker = path.stem.split("-")[0]
        if sexes.get(speaker) not in ("f", "m"):
            raise InputError(f"{path}: speaker {speaker} is not in SPEAKERS.TXT with F or M; add a line")
        subsets = [re.fullmatch(r"(train|dev|test)-(clean|other)(-\d+)?", folder) for folder in sound.parts]
        part = next((parts[subset[1]] for subset in reversed(subsets) if subset), "")
        return Utterance(path.stem, speaker, sexes[speaker], part, sound, *read_textgrid(path, problems))

    return ".textgrid", base_name, utterance


def textgrid(root: Path, files: dict, problems: list[str]):
    """Any recordings with a TextGrid each, in folders named after the speakers, and ``speakers.csv``."""
    tables = named(files, "speakers.csv", "speakers.tsv")
    if len(tables) != 1:
        found = " and ".join(map(str, tables)) or "none"
        raise InputError(f"{root}: needs one speakers.csv with the columns speaker and sex, but has {found}")
    people = read_speakers(tables[0])

    def person(path: Path) -> tuple[str, str, str] | None:
        folders = map(base_name, reversed(path.relative_to(root).parent.parts))
        return next((people[folder] for folder in folders if folder in people), None)

    def utterance(path: Path, sound: Path) -> Utterance:
        if not person(path):
            names = ", ".join(speaker for speaker, *_ in list(people.values())[:12])
            raise InputError(f"{path}: in no folder named after a speaker ({names}); move it, or add a line")
        name = path.relative_to(root).with_suffix("").as_posix()
        return Utterance(name, *person(path), sound, *read_textgrid(path, problems))

    return ".textgrid", lambda path: (person(path), base_name(path)), utterance


LAYOUTS = {"timit": timit, "timit-sample": timit, "librispeech": librispeech, "textgrid": textgrid}
LABELS = (".phn", ".textgrid")
# The labels that a corpus uses. A corpus that is not listed may use any.
PHONE_SETS = {"timit": TIMIT_PHONES, "timit-sample": TIMIT_PHONES, "librispeech": ARPABET | SILENCES}


def pair_sounds(files: dict, suffix: str, key: Callable) -> tuple[Callable[[Path], Path], list[Path]]:
    """A function that finds the sound of a label file, and the list of sounds without labels.

    The sound is the one beside the label file with the same name, or else the only one with the same key.
    """
    sounds = defaultdict(list)
    for path in (path for ending in SOUNDS for path in files[ending]):
        sounds[key(path)].append(path)
    labelled = {key(path) for path in files[suffix]}
    unlabelled = [path for one, paths in sounds.items() if one not in labelled for path in paths]

    def find(label: Path) -> Path:
        found, place = sounds[key(label)], (label.parent, base_name(label))
        beside = [path for path in found if (path.parent, base_name(path)) == place]
        if not beside and len(found) != 1:
            names = ", ".join(map(str, found)) or "none"
            raise InputError(f"{label}: needs one sound of its name, but there are: {names}; put it beside")
        return (beside or found)[0]

    return find, unlabelled


def named(files: dict, *names: str) -> list[Path]:
    """The files with one of these names, in lower case."""
    return [path for paths in files.values() for path in paths if path.name.lower() in names]


def base_name(name: str | Path) -> str:
    """A name, or a file's name without suffix, the same for different case and spellings of accents."""
    return unicodedata.normalize("NFC", name.stem if isinstance(name, Path) else name).casefold()


def plain_label(label: str) -> str:
    """An ARPABET label in lower case without its stress digit; any other label is returned as it is."""
    lower = re.sub(r"(?<=[a-z])[012]$", "", label.strip().lower())
    # A single letter is not changed: S and s are two sounds in other alphabets.
    return lower if len(lower) > 1 and lower in ARPABET | SILENCES else label.strip()


def read_phn(path: Path) -> list[tuple[int, int, str]]:
    """The intervals of TIMIT's ``.phn`` or ``.wrd`` file: lines of ``start end label``, in samples."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        match = re.match(r"\s*(\d{1,15})\s+(\d{1,15})\s+(\S+)", line)
        if match and int(match[1]) <= int(match[2]):
            rows.append((int(match[1]), int(match[2]), match[3].lower()))
        elif line.strip():
            wanted = "'start end label' in whole samples with start <= end"
            raise InputError(f"{path}, line {number}: {line[:60]!r} is not {wanted}; correct it")
    return rows


def read_textgrid(path: Path, problems: list[str]) -> tuple[list, list, int]:
    """The intervals of phones and words, and the end, of a TextGrid, in samples; parsed by praatio."""
    try:
        grid = parseTextgridStr(read_text(path), includeEmptyIntervals=True)
        tiers = [tier for tier in grid["tiers"] if tier["class"] == "IntervalTier"]
        phones = [tier for tier in tiers if PHONE_TIERS.fullmatch(tier["name"])]
        words = [tier for tier in tiers if WORD_TIERS.fullmatch(tier["name"])]
        if len(phones) != 1:
            names = ", ".join(tier["name"] for tier in tiers) or "none"
            hint = "name one of them phones, and no other"
            raise InputError(f"{path}: {len(phones)} of its tiers ({names}) could be the phones; {hint}")
        rows = [(start, end, plain_label(label)) for start, end, label in _intervals(path, phones[0])]
        spoken = _words(problems, _intervals, path, words[0]) if len(words) == 1 else []
        return rows, spoken, round(phones[0]["xmax"] * RATE)
    except InputError:
        raise
    except Exception as error:  # praatio raises many kinds
        raise InputError(f"{path}: not a usable TextGrid ({error}); save it again with Praat") from None


def _intervals(path: Path, tier: dict) -> list[tuple[int, int, str]]:
    """The intervals of a TextGrid's tier, which must cover the tier without gaps."""
    last, whole = 0.0, float(tier["xmax"])
    rows = [(float(start), float(end), label) for start, end, label in tier["entries"]]
    for start, end, _ in [*rows, (whole, whole, "")]:
        if not start <= end or abs(start - last) > TOLERANCE:
            raise InputError(f"{path}: {tier['name']!r} has a gap or overlap at {last} s; correct it")
        last = end
    return [(round(start * RATE), round(end * RATE), label) for start, end, label in rows]


def _words(problems: list[str], parser: Callable, *arguments) -> list[tuple[int, int, str]]:
    """Word labels. They fill only one column, so an error in them is reported and the phones are used."""
    try:
        return parser(*arguments)
    except InputError as error:
        problems.append(f"{error}; its words are not used")
        return []


def read_speakers(path: Path) -> dict[str, tuple[str, str, str]]:
    """Name, sex and split of every speaker, by ``base_name``, from a table with commas, semicolons or tabs.

    Its columns are ``speaker``, ``sex`` (f or m) and optionally ``split`` (train, valid or test).
    """
    lines = read_text(path).splitlines() or [""]
    try:
        rows = [row for row in csv.reader(lines, delimiter=max(",;\t", key=lines[0].count)) if row]
    except csv.Error as error:
        raise InputError(f"{path}: not a table ({error}); save it as CSV") from None
    columns = [name.strip().lower() for name in rows[0]] if rows else []
    if len(rows) < 2 or not {"speaker", "sex"} <= {*columns}:
        wanted = "it needs the columns speaker and sex, and a line for each speaker"
        raise InputError(f"{path}: its first line is {','.join(columns)!r}; {wanted}")
    people, sexes = {}, {"f": "f", "female": "f", "m": "m", "male": "m"}
    for number, values in enumerate(rows[1:], 2):
        row = {"speaker": "", "sex": "", "split": ""} | dict(zip(columns, map(str.strip, values)))
        speaker, sex, part = row["speaker"], row["sex"].lower(), row["split"].lower()
        fits = speaker and sex in sexes and part in ("", "train", "valid", "test")
        if not fits or base_name(speaker) in people:
            given = f"speaker {speaker!r}, sex {sex!r}, split {part!r}"
            wanted = "give each speaker once, with f or m, and train, valid, test or nothing"
            raise InputError(f"{path}, line {number}: {given}; {wanted}")
        people[base_name(speaker)] = speaker, sexes[sex], part
    return people


def read_text(path: Path) -> str:
    """A text in UTF-8, in UTF-16 with a byte-order mark, or else in Latin-1."""
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise InputError(f"{path}: more than {LARGEST_TEXT / 1e6:.0f} MB of labels; give the right file")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if "\0" in text:
        raise InputError(f"{path}: not a text; save it in UTF-8")
    return text
