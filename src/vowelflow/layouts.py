"""Layouts: how each corpus lies in a folder, and what its labels say.

A layout is a function that is given the files of a folder and tells which of them are labels, how
one of these is parsed into an ``Utterance``, and which recordings have no labels.
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .corpus import ALL_VOWELS, RATE, InputError

TIMIT_PHONES = set(
    "b d g p t k dx q bcl dcl gcl pcl tcl kcl jh ch s sh z zh f th v dh m n ng em en eng nx l r w y hh hv el pau epi h#".split()
) | set(ALL_VOWELS)
ARPABET = set("b d g p t k jh ch s sh z zh f th v dh m n ng l r w y hh".split()) | set(ALL_VOWELS)
SILENCES = {"", "sil", "sp", "spn", "nsn", "<eps>"}  # what aligners write where there is no phone
LABELS = (".phn", ".textgrid")
SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".au", ".caf", ".sph")
PHONE_TIERS = re.compile(r"(.* - )?(phones?|phonemes?|segments?|mau)", re.IGNORECASE)
WORD_TIERS = re.compile(r"(.* - )?(words?|ort-mau)", re.IGNORECASE)
TOUCH = 1e-3  # s that intervals of a TextGrid may lie apart
LARGEST_TEXT = 20_000_000  # bytes of one file of labels


@dataclass
class Utterance:
    """One recording and its labels; times in samples at 16 kHz."""

    name: str
    speaker: str
    sex: str
    part: str  # train, valid or test where the corpus says so, else empty
    sound: Path
    phones: list[tuple[int, int, str]]
    words: list[tuple[int, int, str]]
    end: int | None = None  # where the labels say that the sound ends
    in_samples: bool = False  # labels count samples, so the sound must be at 16 kHz
    shared: bool = False  # a sentence that every speaker says

    def __post_init__(self):
        if self.sex not in ("f", "m") or self.part not in ("", "train", "valid", "test"):
            raise InputError(
                f"{self.sound}: sex is f or m, not {self.sex!r}, and part train, valid, test or empty, not {self.part!r}"
            )
        times = [time for start, end, _ in (*self.phones, *self.words) for time in (start, end)]
        if not all(isinstance(time, int) for time in times):
            raise InputError(f"{self.sound}: times of labels are whole numbers of samples; round them")


def known_phones(name: str) -> set[str] | None:
    """The labels a corpus may use; None where it may use any."""
    return {"librispeech": ARPABET | SILENCES, "textgrid": None}.get(name, TIMIT_PHONES)


def plain_label(label: str) -> str:
    """A label of the ARPABET in lower case and without its stress digit, any other as it is."""
    bare = str(label).strip()
    lower = re.sub(r"(?<=[a-z])[012]$", "", bare.lower())
    # One letter alone is left as it is: S and s are two sounds in other alphabets.
    return lower if len(lower) > 1 and lower in ARPABET | SILENCES else bare


def within(root: Path, path: str | Path) -> str:
    return Path(path).relative_to(root).as_posix()


def told_within(root: Path, error: InputError) -> str:
    """What an error says, with the path of its file from ``root`` on."""
    return str(error).removeprefix(str(root) + os.sep)


def timit(root: Path, files: dict, problems: list[str]):
    """TIMIT or its sample, in upper or lower case; times in samples.

    Speakers are the folders that hold the ``.phn`` files: ``<sex><initials>`` or
    ``drN-<sex><initials>``. Sound is SPHERE or WAV.
    """
    labels = files[".phn"]
    if not labels:
        raise InputError(f"{root}: no .phn file in it or below; it is not laid out as TIMIT is")
    beside = {(path.parent, path.stem.lower(), path.suffix.lower()): path for paths in files.values() for path in paths}
    labelled = {(path.parent, path.stem.lower()) for path in labels}
    sounds = (path for suffix in SOUNDS for path in files[suffix])
    unlabelled = [path for path in sounds if (path.parent, path.stem.lower().removesuffix(".wav")) not in labelled]

    def parse(path: Path) -> Utterance:
        match = re.fullmatch(r"(?:dr\d-)?([fm])(\w+)", path.parent.name.lower())
        if not match:
            raise InputError(f"{path}: its folder should be named <sex><initials>, as fvmh0; rename it")
        speaker, sentence = "".join(match.groups()), path.stem.lower()
        # Some copies keep the SPHERE file as SA1.WAV and a converted one as SA1.WAV.wav, or that one alone.
        sound = beside.get((path.parent, sentence, ".wav")) or beside.get((path.parent, f"{sentence}.wav", ".wav"))
        if sound is None:
            raise InputError(f"{path}: no sound file of the same name beside it; put it there")
        part = next((p.lower() for p in path.relative_to(root).parts if p.lower() in ("train", "test")), "")
        spoken = beside.get((path.parent, sentence, ".wrd"))
        words = _words(lambda: _lines(spoken), root, problems) if spoken else []
        return Utterance(
            f"{speaker}-{sentence}", speaker, match[1], part, sound, _lines(path), words,
            in_samples=True, shared=sentence.startswith("sa"),
        )  # fmt: skip

    return labels, parse, unlabelled


def _words(read: Callable[[], list], root: Path, problems: list[str]) -> list[tuple[int, int, str]]:
    """Word labels, or none: they only fill a column, so a fault in them costs no vowel."""
    try:
        return read()
    except InputError as error:
        problems.append(f"{told_within(root, error)}; its words are not used")
        return []


def _lines(path: Path) -> list[tuple[int, int, str]]:
    """Lines of ``start end label``."""
    rows = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", _text(path)), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            start, end, label = int(fields[0]), int(fields[1]), fields[2].lower()
        except (ValueError, IndexError):
            raise InputError(f"{path}, line {number}: {line[:60]!r} is not 'start end label'; mend the line") from None
        if not 0 <= start <= end:
            raise InputError(f"{path}, line {number}: times {start} to {end} do not rise; mend the line")
        rows.append((start, end, label))
    return rows


def speaker_lists(files: dict[str, list[Path]]) -> list[Path]:
    """LibriSpeech's own tables of speakers."""
    return [path for path in files[".txt"] if path.name.lower() == "speakers.txt"]


def librispeech(root: Path, files: dict, problems: list[str]):
    """LibriSpeech: sounds and TextGrids anywhere below the folder, found by utterance, and SPEAKERS.TXT."""
    lists = speaker_lists(files)
    if not lists:
        raise InputError(f"{root}: no SPEAKERS.TXT in it or below; it comes with LibriSpeech, put it there")
    lines = [line.split("|") for line in _text(lists[0]).splitlines() if line.strip() and not line.startswith(";")]
    sexes = {line[0].strip(): line[1].strip().lower() for line in lines if len(line) > 1}
    find, unlabelled = _paired(root, files, _same)

    def parse(path: Path) -> Utterance:
        if not re.fullmatch(r"\d+-\d+-\d+", path.stem):
            raise InputError(f"{path}: should be named <speaker>-<chapter>-<utterance>; rename it")
        speaker = path.stem.split("-")[0]
        if sexes.get(speaker) not in ("f", "m"):
            raise InputError(f"{path}: speaker {speaker} is not in {lists[0].name} with F or M; add a line")
        sound, parts = find(path), {"train": "train", "dev": "valid", "test": "test"}
        subsets = [re.fullmatch(r"(train|dev|test)-(clean|other)(-\d+)?", part) for part in sound.absolute().parts]
        part = next((parts[subset[1]] for subset in reversed(subsets) if subset), "")
        return Utterance(path.stem, speaker, sexes[speaker], part, sound, *_tiers(path, root, problems))

    return files[".textgrid"], parse, unlabelled


def textgrid(root: Path, files: dict, problems: list[str]):
    """Any recordings with a TextGrid each, in folders named after their speakers, and a table of speakers.

    ``speakers.csv`` (or ``.tsv``) has the columns ``speaker``, ``sex`` (f or m) and, if the split
    is to be given, ``split`` (train, valid or test).
    """
    lists = [path for path in files[".csv"] + files[".tsv"] if path.stem.lower() == "speakers"]
    if not lists:
        raise InputError(f"{root}: no speakers.csv in it or below; write one with the columns speaker and sex")
    if len(lists) > 1:
        raise InputError(
            f"{' and '.join(within(root, path) for path in lists[:3])} both name speakers: make one table of them"
        )
    people = _speakers(lists[0])

    def person_of(path: Path) -> tuple[str, str, str] | None:
        folders = reversed(path.relative_to(root).parent.parts)
        return next((people[_same(name)] for name in folders if _same(name) in people), None)

    find, unlabelled = _paired(root, files, lambda path: (person_of(path), _same(path)))

    def parse(path: Path) -> Utterance:
        if not (person := person_of(path)):
            raise InputError(
                f"{path}: in no folder named after a speaker of {lists[0].name}, which has"
                f" {', '.join(name for name, *_ in list(people.values())[:12])}; move it, or add a line"
            )
        name = within(root, path.with_suffix(""))
        return Utterance(name, *person, find(path), *_tiers(path, root, problems))

    return files[".textgrid"], parse, unlabelled


def _same(name: str | Path) -> str:
    """A name, or a file's without its suffix, as systems compare it that know no case and spell accents apart."""
    return unicodedata.normalize("NFC", name.stem if isinstance(name, Path) else name).casefold()


def _speakers(path: Path) -> dict[str, tuple[str, str, str]]:
    """Name, sex and split of every speaker, from a table with commas, semicolons or tabs."""
    lines = _text(path).splitlines()
    head = lines[0] if lines else ""
    try:
        rows = list(csv.DictReader(lines, delimiter=max(",;\t", key=head.count)))
    except csv.Error as error:
        raise InputError(f"{path}: not a table ({error}); save it as CSV") from None
    people, sexes = {}, {"f": "f", "female": "f", "m": "m", "male": "m"}
    for number, row in enumerate(rows, 2):
        row = {(key or "").strip().lower(): str(value or "").strip() for key, value in row.items()}
        if not {"speaker", "sex"} <= row.keys():
            raise InputError(f"{path}: its columns are {', '.join(row)}; it needs speaker and sex in the first line")
        speaker, sex, part = row["speaker"], row["sex"].lower(), row.get("split", "").lower()
        if not speaker or sex not in sexes or part not in ("", "train", "valid", "test"):
            raise InputError(
                f"{path}, line {number}: speaker {speaker!r}, sex {sex!r}, split {part!r}; it takes a name, f or m,"
                " and nothing or train, valid, test"
            )
        if _same(speaker) in people:
            raise InputError(f"{path}, line {number}: speaker {speaker} is there twice; keep one line")
        people[_same(speaker)] = speaker, sexes[sex], part
    if not people:
        raise InputError(f"{path}: holds no speaker; write a line speaker,sex and one for each speaker")
    return people


def _paired(root: Path, files: dict, key: Callable) -> tuple[Callable[[Path], Path], list[Path]]:
    """What finds the sound of a TextGrid, and the sounds that have none.

    It is the one beside it, of the same name, or the only one with the same ``key``.
    """
    if not files[".textgrid"]:
        raise InputError(
            f"{root}: no .TextGrid file in it or below; put the alignments there, or give the folder that holds both"
        )
    beside, others = {}, defaultdict(list)
    for path in (path for suffix in reversed(SOUNDS) for path in files[suffix]):
        beside[path.parent, _same(path)] = path
        others[key(path)].append(path)
    labelled = {key(path) for path in files[".textgrid"]}

    def find(path: Path) -> Path:
        candidates = others[key(path)]
        if sound := beside.get((path.parent, _same(path))):
            return sound
        if len(candidates) != 1:
            said = ", ".join(within(root, one) for one in candidates) or "none"
            raise InputError(f"{path}: one sound of this utterance is needed, but there are: {said}; put it beside")
        return candidates[0]

    return find, [path for one, paths in others.items() if one not in labelled for path in paths]


def _tiers(path: Path, root: Path, problems: list[str]) -> tuple[list, list, int]:
    """Phones, words and the end of a TextGrid, in samples; parsed by praatio."""
    from praatio.utilities.textgrid_io import parseTextgridStr

    try:
        grid = parseTextgridStr(_text(path), includeEmptyIntervals=True)
        tiers = [(tier["name"], tier) for tier in grid["tiers"] if tier["class"] == "IntervalTier"]
        found = [tier for name, tier in tiers if PHONE_TIERS.fullmatch(name)]
        words = [tier for name, tier in tiers if WORD_TIERS.fullmatch(name)]
        if len(found) != 1:
            names = ", ".join(name for name, _ in tiers) or "none"
            raise InputError(
                f"{path}: {len(found)} of its tiers ({names}) could be the phones; call one phones, and no other"
            )
        phones = [(start, end, plain_label(label)) for start, end, label in _entries(path, found[0])]
        spoken = _words(lambda: _entries(path, words[0]), root, problems) if len(words) == 1 else []
        return phones, spoken, round(found[0]["xmax"] * RATE)
    except InputError:
        raise
    except Exception as error:  # the parser has no common exception for what is not a TextGrid
        raise InputError(f"{path}: not a TextGrid that can be read ({error}); save it anew with Praat") from None


def _entries(path: Path, tier: dict) -> list[tuple[int, int, str]]:
    """The intervals of a tier, which by definition follow one another from its beginning to its end."""
    rows, last = [], 0.0
    for start, end, label in tier["entries"]:
        start, end = float(start), float(end)
        if not start <= end or abs(start - last) > TOUCH:
            raise InputError(
                f"{path}: intervals of {tier['name']!r} do not follow one another from 0 s on, see {start} s; mend it"
            )
        rows.append((round(start * RATE), round(end * RATE), label))
        last = end
    if abs(last - tier["xmax"]) > TOUCH:
        raise InputError(f"{path}: {tier['name']!r} stops at {last} s of {tier['xmax']} s; it is cut, get it again")
    return rows


def _text(path: Path) -> str:
    """A text in UTF-8 or, with its mark, UTF-16; else in Latin-1."""
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise InputError(f"{path}: {path.stat().st_size / 1e6:.0f} MB are too much for labels; give the right file")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if "\0" in text:
        raise InputError(f"{path}: not a text; save it in UTF-8")
    return text


LAYOUTS = {"timit": timit, "timit-sample": timit, "librispeech": librispeech, "textgrid": textgrid}
