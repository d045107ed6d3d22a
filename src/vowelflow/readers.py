"""Readers: folders of labelled speech -> Corpus. ``load_corpus`` is the one way in.

A reader looks at the files of a folder and says what utterances there are (``Utterance``). What
follows is the same for all: labels are checked against the sound, segments are cut, and their
clips go to a file in the cache folder, which is used from then on until a file of the folder or
this code changes. What cannot be used is counted and told, never dropped in silence.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import stat
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from .clips import cut, read_clips, write_clips
from .corpus import ALL_VOWELS, FRAMES, HOP, RATE, VOWELS, Corpus, InputError, cache_dir, join, split_by_speaker
from .fetch import can_be_fetched, fetch_sample
from .klatt import klatt_corpus

CORPORA = ("auto", "timit", "timit-sample", "librispeech", "textgrid", "klatt")
LICENCES = {
    "timit": "TIMIT, LDC93S1: licensed by the Linguistic Data Consortium, not to be passed on",
    "timit-sample": "TIMIT sample, copyright 1993 Linguistic Data Consortium, Creative Commons Attribution,"
    " Non-Commercial, ShareAlike",
    "librispeech": "LibriSpeech, copyright 2014 Vassil Panayotov, CC BY 4.0",
    "textgrid": "the user's own recordings: whoever made them decides",
}
TIMIT_PHONES = set(
    "b d g p t k dx q bcl dcl gcl pcl tcl kcl jh ch s sh z zh f th v dh m n ng em en eng nx l r w y hh hv el pau epi h#".split()
) | set(ALL_VOWELS)
ARPABET = set("b d g p t k jh ch s sh z zh f th v dh m n ng l r w y hh".split()) | set(ALL_VOWELS)
SILENCES = {"", "sil", "sp", "spn", "nsn", "<eps>"}  # what aligners write where there is no phone
SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".au", ".caf", ".sph")
OTHERS = "other phones and silences"
PHONE_TIERS = re.compile(r"(.* - )?(phones?|phonemes?|segments?|mau)", re.IGNORECASE)
WORD_TIERS = re.compile(r"(.* - )?(words?|ort-mau)", re.IGNORECASE)
MOST_FILES = 200_000  # without a label among them, a folder is the wrong one
SLACK = 0.1  # s that labels and sound may end apart
TOUCH = 1e-3  # s that intervals of a TextGrid may lie apart
LONGEST_HOURS = 4  # of one recording
LARGEST_TEXT = 20_000_000  # bytes of one file of labels
LOUDEST = 1e6  # times full scale: beyond it a file of floats holds no sound
KEPT_DAYS = 30  # that a file of clips stays in the cache without being used


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


# ---- the one way in


def load_corpus(name: str = "auto", root: str | Path | None = None, phones="five") -> Corpus:
    """Load a corpus by name.

    Args:
        name: one of ``CORPORA``, or several with plus signs: ``timit-sample+librispeech``.
            ``auto`` takes the first that is there, or can be had, of timit, timit-sample and
            klatt, and says in ``Corpus.note`` which and why; a named corpus never falls back.
        root: the folder of the recordings, or a file of clips that was saved from it; several,
            in the order of the names, with ``os.pathsep`` between them. Without it an environment
            variable names it: ``TIMIT_ROOT``, ``TIMIT_SAMPLE_ROOT``, ``LIBRISPEECH_ROOT``,
            ``TEXTGRID_ROOT``. The sample of TIMIT is fetched if need be.
        phones: labels of the segments to keep: ``five``, the paper's; ``all`` vowels; or labels,
            in a sequence or with commas between them.

    Raises:
        InputError: unknown name, or no usable speech in the folder.
    """
    names, wanted = str(name).split("+"), wanted_phones(phones)
    if len(names) > 1:
        if len(set(names)) < len(names) or "auto" in names:
            raise InputError(f"{name!r} cannot be joined: name each corpus once, and none of them auto")
        roots = root if isinstance(root, list | tuple) else str(root or os.pathsep * (len(names) - 1)).split(os.pathsep)
        if len(roots) != len(names):
            raise InputError(
                f"{len(names)} corpora, but {len(roots)} folders; give one each, {os.pathsep!r} between,"
                f" and nothing for klatt, as in DIR{os.pathsep}"
            )
        return join([load_corpus(one, place or None, wanted) for one, place in zip(names, roots)])
    if name not in CORPORA:
        raise InputError(f"no corpus {name!r}; there are {', '.join(CORPORA)}, and several with + between")
    if name == "auto":
        return _first_there_is(root, wanted)
    if name == "klatt":
        if root:
            raise InputError(f"klatt is generated and takes no folder, but root is {root}; leave root out")
        return _kept(klatt_corpus(), wanted)
    place = Path(root or _usual_place(name) or _fetched(name)).expanduser()
    return _kept(_saved(place, name, wanted) if place.is_file() else _read(name, place, wanted), wanted)


def _kept(corpus: Corpus, wanted: list[str]) -> Corpus:
    """The segments with wanted labels; a label that none has is a problem, unless all vowels were asked for."""
    kept = corpus.filter(phone=wanted)
    if not len(kept):
        raise InputError(f"{corpus.name} has no segment labelled {', '.join(wanted)}; ask for other labels")
    missing = sorted(set(wanted) - set(kept.table.phone)) if wanted != list(ALL_VOWELS) else []
    return replace(kept, problems=[*corpus.problems, *(f"no segment is labelled {label!r}" for label in missing)])


def wanted_phones(phones) -> list[str]:
    """``five``, ``all``, or labels -> a list of labels."""
    if isinstance(phones, str):
        named = {"five": VOWELS, "all": ALL_VOWELS}
        phones = [label for part in phones.split(",") for label in named.get(part.strip().lower(), [part])]
    labels = list(dict.fromkeys(map(plain_label, phones))) if isinstance(phones, Iterable) else []
    if not labels or not all(labels):
        raise InputError(f"phones={phones!r} names no label; give five, all, or labels such as aa,iy")
    return labels


def plain_label(label: str) -> str:
    """A label of the ARPABET in lower case and without its stress digit, any other as it is."""
    bare = str(label).strip()
    lower = re.sub(r"(?<=[a-z])[012]$", "", bare.lower())
    # One letter alone is left as it is: S and s are two sounds in other alphabets.
    return lower if len(lower) > 1 and lower in ARPABET | SILENCES else bare


def _usual_place(name: str) -> str | Path | None:
    variable = name.upper().replace("-", "_") + "_ROOT"
    given = os.environ.get(variable)
    if given and not Path(given).expanduser().exists():
        raise InputError(f"{variable} names {given}, which is not there; correct it or unset it")
    cached = cache_dir() / "timit-sample"
    return given or (cached if name == "timit-sample" and cached.is_dir() else None)


def _fetched(name: str) -> Path:
    if name == "timit-sample":
        return fetch_sample(LICENCES[name])
    variable = f"{name.upper()}_ROOT"
    raise InputError(
        f"{name} needs the folder of its recordings: give root (--root DIR, or ROOT=DIR with make), or set {variable}"
    )


def _first_there_is(root, wanted) -> Corpus:
    if root:
        name = _recognised(Path(root).expanduser())
        return replace(load_corpus(name, root, wanted), note=f"auto: root was given and holds {name}")
    for name in ("timit", "timit-sample"):
        if _usual_place(name):
            return replace(load_corpus(name, None, wanted), note=f"auto: {name} was found on this machine")
    if can_be_fetched():
        try:
            fetch_sample(LICENCES["timit-sample"])
            return replace(load_corpus("timit-sample", None, wanted), note="auto: the sample of TIMIT was fetched")
        except InputError as error:
            print(error, file=sys.stderr)
    note = (
        "auto: neither TIMIT nor its sample is on this machine or could be fetched, so the synthetic corpus stands in"
    )
    return replace(load_corpus("klatt", None, wanted), note=note)


def _recognised(root: Path) -> str:
    """Which corpus a folder, or a saved file of clips, holds."""
    if root.is_file():
        return read_clips(root).name
    files, _, _ = survey(root)
    names = {path.name.lower() for paths in files.values() for path in paths}
    if files[".phn"]:
        small = any(re.fullmatch(r"dr\d-\w+", path.parent.name.lower()) for path in files[".phn"])
        return "timit-sample" if small else "timit"
    if files[".textgrid"]:
        return "librispeech" if "speakers.txt" in names else "textgrid"
    raise InputError(f"{root}: holds none of timit, timit-sample, librispeech and textgrid; give the corpus's folder")


# ---- from a folder to a corpus


def _read(name: str, root: Path, wanted: list[str]) -> Corpus:
    """The corpus in a folder, from the cache if nothing has changed since it was read."""
    files, stamps, problems = survey(root)
    code = [(Path(__file__).parent / module).read_bytes() for module in ("clips.py", "corpus.py", "readers.py")]
    key = hashlib.sha256(repr((name, wanted, stamps, problems, code)).encode()).hexdigest()[:16]
    path = cache_dir() / "clips" / f"{name}-{key}.zip"
    try:
        corpus = read_clips(path)
        path.touch()
    except InputError:  # absent or damaged: make it again
        if name.startswith("timit") and files[".phn"] and _recognised(root) != name:
            raise InputError(
                f"{root}: holds {_recognised(root)}, not {name}, and its licence is another; name it so"
            ) from None
        for old in path.parent.glob(f"{name}-{'?' * len(key)}.zip"):
            if time.time() - old.stat().st_mtime > KEPT_DAYS * 86_400:
                old.unlink()
        about = {"name": name, "labels": wanted, "facts": {"licence": LICENCES[name], "problems": problems}}
        write_clips(path, _rows(root, files, about), about)
        corpus = read_clips(path)
    return replace(corpus, note=f"named by the user, read from {root.resolve().name}")


def _saved(path: Path, name: str, wanted: list[str]) -> Corpus:
    """The corpus in a file of clips that was saved elsewhere."""
    try:
        corpus = read_clips(path)
    except InputError as error:
        raise InputError(f"{error}, or give the folder with the recordings, unpacked") from None
    if corpus.name != name:
        raise InputError(f"{path} holds {corpus.name}, not {name}")
    if missing := set(wanted) - set(corpus.sounds[name].labels):
        raise InputError(f"{path} was saved without {', '.join(sorted(missing))}; save it again with these labels")
    left_out = corpus.left_out.copy()
    left_out.loc[left_out.phone.isin(set(corpus.sounds[name].labels) - set(wanted)), "reason"] = OTHERS
    return replace(corpus, note=f"named by the user, read from {path.name}", left_out=left_out)


def survey(root: Path) -> tuple[dict[str, list[Path]], list, list[str]]:
    """The files below a folder by suffix in lower case; the size and time of each; what could not be opened.

    Links that lead out of it are followed, those to folders inside are not: they are met under their
    own name. Names that begin with a dot are passed over.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder of the corpus as root")
    files, stamps, problems, entered, count = defaultdict(list), [], [], set(), 0
    home = os.path.realpath(root)

    def complain(error: OSError) -> None:
        problems.append(f"{_within(root, error.filename)}: cannot be opened ({error.strerror}); passed over")

    for folder, inner, names in os.walk(root, onerror=complain, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            inner.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        here = Path(folder)
        for name in (name for name in [*inner, *names] if not name.isprintable()):
            problems.append(f"{_within(root, here)}: letters of the name {name!r} cannot be shown; rename it")
        inner[:] = sorted(name for name in inner if _plain(name) and not _leads_back(here / name, home))
        stamps.append(_within(root, here))
        for name in sorted(filter(_plain, names)):
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError as error:
                complain(error)
                continue
            if not stat.S_ISREG(status.st_mode):
                problems.append(f"{_within(root, here / name)}: a device or pipe, no file; passed over")
                continue
            files[os.path.splitext(name)[1].lower()].append(here / name)
            stamps.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        count += len(names)
        if count > MOST_FILES and not (files[".phn"] or files[".textgrid"]):
            raise InputError(f"{root}: more than {MOST_FILES:,} files and no labels yet; give the corpus's own folder")
    return files, stamps, problems


def _plain(name: str) -> bool:
    return not name.startswith(".") and name.isprintable()


def _leads_back(folder: Path, home: str) -> bool:
    return folder.is_symlink() and Path(os.path.realpath(folder)).is_relative_to(home)


def _within(root: Path, path: str | Path) -> str:
    return Path(path).relative_to(root).as_posix()


def _rows(root: Path, files: dict, about: dict) -> Iterator[tuple[dict, np.ndarray]]:
    """Rows and clips of all utterances, one after another; fills ``about`` with what happened.

    Raises:
        InputError: nothing that looks like this corpus, or no segment with a wanted label.
    """
    from tqdm import tqdm

    name, wanted, problems, left_out = about["name"], about["labels"], about["facts"]["problems"], Counter()
    prepare = {"librispeech": _librispeech, "textgrid": _textgrid}.get(name, _timit)
    labels, parse, unlabelled = prepare(root, files, problems)
    speakers, seen, found, kept = [], {}, Counter(), 0
    for path in tqdm(labels, desc=name, unit="utterance", leave=False, disable=None):
        try:
            utterance = parse(path)
            if other := seen.get(utterance.name):
                raise InputError(f"{path}: the same utterance as {_within(root, other)}, which is used")
            sound = read_sound(utterance)
            _check_end(path, utterance, len(sound))
            seen[utterance.name] = path
        except InputError as error:
            left_out["utterances that could not be used", "", ""] += 1
            problems.append(f"{str(error).removeprefix(str(root) + os.sep)}; skipped")
            continue
        speakers.append((utterance.speaker, utterance.sex, utterance.part))
        found.update(label for _, _, label in utterance.phones)
        for segment, reason in _sorted_out(utterance, sound, wanted, known_phones(name)):
            start, end, phone = segment
            if reason:
                left_out[reason, phone, utterance.sex] += 1
                continue
            row = {"corpus": name, "utterance": utterance.name, "speaker": utterance.speaker, "sex": utterance.sex}
            row |= {"phone": phone, "word": _spanning(utterance.words, start, end), "start": start, "end": end}
            row |= {"path": _within(root, utterance.sound), "shared": utterance.shared}
            kept += 1
            yield row, cut(sound, start, end)
    for path in unlabelled:
        left_out["recordings without labels", "", ""] += 1
        problems.append(f"{_within(root, path)}: no labels for this recording; skipped")
    if not speakers:
        some = "\n  ".join(problems[:5])
        raise InputError(f"{root}: none of {len(labels)} utterances could be used; {len(problems)} problems:\n  {some}")
    if not kept:
        most = ", ".join(f"{label} {count}" for label, count in found.most_common(30) if label) or "all empty"
        raise InputError(
            f"{root}: no segment labelled {', '.join(wanted)}; its labels are {most}. Ask for some of them, with commas"
            " between, or check that it is the right folder"
        )
    about["left_out"] = [(name, *key, count) for key, count in left_out.items()]
    about["split"] = _split(pd.DataFrame(speakers, columns=["speaker", "sex", "part"]), problems)


def known_phones(name: str) -> set[str] | None:
    """The labels a corpus may use; None where it may use any."""
    return {"librispeech": ARPABET | SILENCES, "textgrid": None}.get(name, TIMIT_PHONES)


def _sorted_out(utterance: Utterance, sound: np.ndarray, wanted: list[str], known: set[str] | None):
    """Every labelled segment with the reason to leave it out, which is empty for those to keep."""
    phones = sorted(utterance.phones)
    overlaps, last = set(), 0  # the place of the phone that ends last so far
    for k in range(1, len(phones)):
        if phones[k][0] < phones[last][1]:
            overlaps |= {k, last}
        last = max(k, last, key=lambda place: phones[place][1])
    for place, (start, end, phone) in enumerate(phones):
        milliseconds = -(-(end - start) // HOP)
        if known is not None and phone.lower() not in known:
            reason = "labels that are no phone of this corpus"
        elif phone == "spn":
            reason = "labelled spn: speech that the aligner could not label"
        elif phone not in wanted:
            reason = OTHERS
        elif end - start < HOP:
            reason = "shorter than 1 ms"
        elif place in overlaps:
            reason = "overlaps another label"
        elif end > len(sound) + HOP:
            reason = "runs past the end of the sound"
        elif milliseconds > FRAMES:
            reason = f"longer than {FRAMES} ms"
        elif not sound[start:end].any():
            reason = "nothing but zeros"
        else:
            reason = ""
        yield (start, min(end, len(sound)), phone), reason


def _check_end(path: Path, utterance: Utterance, length: int) -> None:
    last = max((end for _, end, _ in utterance.phones), default=0)
    stated = last if utterance.end is None else utterance.end
    cut_short = stated > length + SLACK * RATE
    if cut_short or (utterance.end is not None and stated < length - SLACK * RATE):
        raise InputError(
            f"{path}: labels end at {stated / RATE:.2f} s, the sound at {length / RATE:.2f} s; they are no pair, or one is cut"
        )


def read_sound(utterance: Utterance) -> np.ndarray:
    """The recording at 16 kHz: int16 as it is, or float32 where it had another format or rate.

    Raises:
        InputError: a sound that cannot be read or used as it is.
    """
    import soundfile

    path = utterance.sound
    try:
        info = soundfile.info(path)
        if info.channels != 1:
            raise InputError(f"{path}: {info.channels} channels; make a file of one channel, one speaker each")
        if utterance.in_samples and info.samplerate != RATE:
            raise InputError(f"{path}: {info.samplerate} Hz, but its labels count samples at {RATE} Hz; resample it")
        if info.samplerate < RATE:
            raise InputError(f"{path}: {info.samplerate} Hz; the study needs {RATE} Hz or more, record it again")
        if not info.frames:
            raise InputError(f"{path}: no samples, or a header that was never completed; write it anew")
        if info.duration > LONGEST_HOURS * 3600:
            raise InputError(f"{path}: {info.duration / 3600:.0f} hours of sound; cut it, {LONGEST_HOURS} at most")
        plain = info.subtype == "PCM_16" and info.samplerate == RATE
        sound, _ = soundfile.read(path, dtype="int16" if plain else "float32")
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or error.strerror
        raise InputError(f"{path}: not a sound that can be read ({reason}); make it a 16-bit WAV file") from None
    if len(sound) < info.frames:
        raise InputError(f"{path}: {len(sound)} of {info.frames} samples are there; it is cut, get it again")
    if sound.dtype != np.int16 and not (np.abs(sound) < LOUDEST).all():  # what is not a number is not smaller
        raise InputError(f"{path}: holds samples that are no sound: not finite, or enormous; make it again")
    if info.samplerate > RATE:
        import librosa

        sound = librosa.resample(sound, orig_sr=info.samplerate, target_sr=RATE)
    return sound


def _spanning(words: list[tuple[int, int, str]], start: int, end: int) -> str:
    middle = (start + end) // 2
    return next((word for begin, stop, word in words if begin <= middle < stop), "")


def _split(speakers: pd.DataFrame, problems: list[str]) -> dict[str, str]:
    """Split of every speaker: as the corpus says if it names test speakers, else ``split_by_speaker``.

    Where it names no valid speakers, these are cut from training.
    """
    speakers = speakers.drop_duplicates().sort_values("speaker")
    for speaker in speakers.speaker[speakers.speaker.duplicated()].unique():
        problems.append(f"speaker {speaker} is said to be in several parts, or of two sexes; taken for training")
        speakers.loc[speakers.speaker == speaker, "part"] = "train"
    speakers = speakers.drop_duplicates("speaker")
    if "test" not in set(speakers.part):
        split = split_by_speaker(speakers)
        for part in {"valid", "test"} - set(split.values()):
            problems.append(f"no speaker is left for {part}: it takes two of a sex for test, and four for valid too")
        return split
    split = dict(zip(speakers.speaker, speakers.part.replace("", "train")))
    if "valid" not in split.values():
        cut_off = split_by_speaker(speakers[speakers.speaker.map(split) == "train"])
        split |= {speaker: "valid" for speaker, part in cut_off.items() if part == "valid"}
    return split


# ---- the corpora: each says which files are labels, how one is parsed, and which sounds have none


def _timit(root: Path, files: dict, problems: list[str]):
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
        problems.append(f"{str(error).removeprefix(str(root) + os.sep)}; its words are not used")
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


def _librispeech(root: Path, files: dict, problems: list[str]):
    """LibriSpeech: sounds and TextGrids anywhere below the folder, found by utterance, and SPEAKERS.TXT."""
    lists = [path for path in files[".txt"] if path.name.lower() == "speakers.txt"]
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


def _textgrid(root: Path, files: dict, problems: list[str]):
    """Any recordings with a TextGrid each, in folders named after their speakers, and a table of speakers.

    ``speakers.csv`` (or ``.tsv``) has the columns ``speaker``, ``sex`` (f or m) and, if the split
    is to be given, ``split`` (train, valid or test).
    """
    lists = [path for path in files[".csv"] + files[".tsv"] if path.stem.lower() == "speakers"]
    if not lists:
        raise InputError(f"{root}: no speakers.csv in it or below; write one with the columns speaker and sex")
    people = _speakers(lists[0])

    def speaker_of(path: Path) -> str | None:
        folders = reversed(path.relative_to(root).parent.parts)
        return next((people[_same(name)][0] for name in folders if _same(name) in people), None)

    find, unlabelled = _paired(root, files, lambda path: (speaker_of(path), _same(path)))

    def parse(path: Path) -> Utterance:
        if not (speaker := speaker_of(path)):
            raise InputError(
                f"{path}: in no folder named after a speaker of {lists[0].name}, which has"
                f" {', '.join(name for name, *_ in list(people.values())[:12])}; move it, or add a line"
            )
        name = _within(root, path.with_suffix(""))
        return Utterance(name, *people[_same(speaker)], find(path), *_tiers(path, root, problems))

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
            said = ", ".join(_within(root, one) for one in candidates) or "none"
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
