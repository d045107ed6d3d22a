"""Readers: folders of labelled speech -> Corpus, through ``load_corpus``.

``layouts`` finds the utterances of a folder. The rest is the same for all corpora: labels are checked
against the sound, and clips are written to a file in the cache folder, which is used until the folder or
``VERSION`` changes. Everything that cannot be used is counted and reported.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from tqdm import tqdm

from . import layouts
from .base import HOP, LONGEST, RATE, InputError
from .corpus import ALL_VOWELS, VOWELS, Corpus, cache_dir, join, split_by_speaker
from .fetch import can_be_fetched, fetch_sample
from .klatt import klatt_corpus
from .layouts import Utterance
from .store import VERSION, cached_clips, cut, read_clips

ROOTS = {name: name.upper().replace("-", "_") + "_ROOT" for name in layouts.LAYOUTS}  # environment variables
CORPORA = ("auto", *layouts.LAYOUTS, "klatt")
LICENCES = {
    "timit": "TIMIT, LDC93S1: licensed by the Linguistic Data Consortium, not to be passed on",
    "timit-sample": "TIMIT sample, copyright 1993 Linguistic Data Consortium, Creative Commons Attribution,"
    " Non-Commercial, ShareAlike",
    "librispeech": "LibriSpeech, copyright 2014 Vassil Panayotov, CC BY 4.0",
    "textgrid": "the user's own recordings: the owner decides",
}
OTHERS = "other phones and silences"
MOST_FILES = 200_000  # a folder with so many files and no label among them is the wrong one
SLACK = 0.1  # s between the end of the labels and the end of the sound
LONGEST_HOURS = 4  # of one recording
LOUDEST = 1e6  # times full scale: larger samples in a file of floats are not sound


def load_corpus(name: str = "auto", root: str | Path | None = None, phones="five") -> Corpus:
    """Load a corpus by name.

    Args:
        name: one of ``CORPORA``, or several joined by plus signs: ``timit-sample+librispeech``. ``auto``
            takes the first available of timit, timit-sample and klatt; ``Corpus.note`` says which and why.
        root: the folder of the recordings, or a file saved from it by ``vowelflow corpus --save``. For
            several corpora, one each in the same order, separated by ``os.pathsep``. By default an
            environment variable names it: ``TIMIT_ROOT``, ``TIMIT_SAMPLE_ROOT``, ``LIBRISPEECH_ROOT``,
            ``TEXTGRID_ROOT``. The sample of TIMIT is downloaded if necessary.
        phones: labels of the segments to keep: ``five``, the paper's; ``all`` vowels; or a sequence of
            labels, or labels separated by commas.

    Raises:
        InputError: unknown name, or no usable speech in the folder.
    """
    names, wanted = name.split("+"), wanted_phones(phones)
    if len(names) > 1:
        return _joined(names, root, wanted)
    if name not in CORPORA:
        raise InputError(f"no corpus {name!r}; there are {', '.join(CORPORA)}, and several with + between")
    if name == "auto":
        return _first_available(root, wanted)
    if name == "klatt" and root:
        raise InputError(f"klatt is generated and takes no folder, but root is {root}; leave root out")
    if name == "klatt":
        corpus = klatt_corpus()
    else:
        place = root or _found(name) or (fetch_sample(LICENCES[name]) if name == "timit-sample" else None)
        if not place:
            hint = f"give root (--root DIR, or ROOT=DIR with make), or set {ROOTS[name]}"
            raise InputError(f"{name} needs the folder of its recordings: {hint}")
        place = Path(place).expanduser().absolute()
        corpus = (_read_saved if place.is_file() else _read_folder)(place, name, wanted)
    found = corpus.filter(phone=wanted)
    if not len(found):
        raise InputError(f"{name} has no segment labelled {', '.join(wanted)}; ask for other labels")
    missing = sorted(set(wanted) - set(found.table.phone)) if wanted != list(ALL_VOWELS) else []
    problems = [f"no segment is labelled {label!r}" for label in missing]
    return replace(found, problems=[*corpus.problems, *problems])


def wanted_phones(phones) -> list[str]:
    """``five``, ``all``, or labels -> a list of labels."""
    if isinstance(phones, str):
        sets = {"five": VOWELS, "all": ALL_VOWELS}
        phones = [label for part in phones.split(",") for label in sets.get(part.strip().lower(), [part])]
    labels = list(dict.fromkeys(map(layouts.plain_label, phones)))
    if not labels or not all(labels):
        raise InputError(f"phones={phones!r} names no label; give five, all, or labels such as aa,iy")
    return labels


def _joined(names: list[str], root, wanted: list[str]) -> Corpus:
    if len(set(names)) < len(names) or "auto" in names:
        raise InputError(f"{'+'.join(names)} cannot be joined: name each corpus once, and none auto")
    roots = root or os.pathsep * (len(names) - 1)
    roots = roots if isinstance(roots, list | tuple) else str(roots).split(os.pathsep)
    if len(roots) != len(names):
        hint = f"give one each, {os.pathsep!r} between, and nothing for klatt, as in DIR{os.pathsep}"
        raise InputError(f"{len(names)} corpora, but {len(roots)} folders; {hint}")
    return join([load_corpus(name, place or None, wanted) for name, place in zip(names, roots)])


def _found(name: str) -> Path | None:
    """The folder of a corpus on this machine: named by an environment variable, or downloaded before."""
    given, cached = os.environ.get(ROOTS[name]), cache_dir() / "timit-sample"
    if given and not Path(given).expanduser().exists():
        raise InputError(f"{ROOTS[name]} names {given}, which is not there; correct it or unset it")
    return Path(given) if given else cached if name == "timit-sample" and cached.is_dir() else None


def _first_available(root, wanted: list[str]) -> Corpus:
    name, reason = "klatt", "synthetic, since neither TIMIT nor its sample is here or could be fetched"
    if root:
        place = Path(root).expanduser().absolute()
        name = read_clips(place).name if place.is_file() else _recognised(place, survey(place)[0])
        reason = f"root was given and holds {name}"
    elif found := next(filter(_found, ("timit", "timit-sample")), None):
        name, reason = found, f"{found} was found on this machine"
    elif can_be_fetched():
        try:
            fetch_sample(LICENCES["timit-sample"])
            name, reason = "timit-sample", "the sample of TIMIT was fetched"
        except InputError as error:
            print(error, file=sys.stderr)
    return replace(load_corpus(name, root, wanted), note=f"auto: {reason}")


def _recognised(root: Path, files: dict[str, list[Path]]) -> str:
    """The name of the corpus in a folder with these files."""
    if files[".phn"]:
        sample = any(re.fullmatch(r"dr\d-\w+", path.parent.name.lower()) for path in files[".phn"])
        return "timit-sample" if sample else "timit"
    if files[".textgrid"]:
        return "librispeech" if layouts.named(files, "speakers.txt") else "textgrid"
    raise InputError(f"{root}: holds none of {', '.join(layouts.LAYOUTS)}; give the corpus's folder")


def _read_saved(path: Path, name: str, wanted: list[str]) -> Corpus:
    """The corpus in a file that was saved from another folder or machine."""
    corpus = read_clips(path)
    if corpus.name != name:
        raise InputError(f"{path} holds {corpus.name}, not {name}")
    saved = set(corpus.sounds[name].labels)
    if missing := set(wanted) - saved:
        raise InputError(f"{path} was saved without {', '.join(sorted(missing))}; save it again with them")
    left_out = corpus.left_out.copy()
    left_out.loc[left_out.phone.isin(saved - set(wanted)), "reason"] = OTHERS
    return replace(corpus, note=f"named by the user, read from {path.name}", left_out=left_out)


def _read_folder(root: Path, name: str, wanted: list[str]) -> Corpus:
    """The corpus in a folder, from the cache if nothing has changed since it was read."""
    files, stamps, problems = survey(root)
    key = hashlib.sha256(repr((name, wanted, stamps, problems, VERSION)).encode()).hexdigest()[:16]
    path = cache_dir() / "clips" / f"{name}-{key}.zip"
    about = {"name": name, "labels": wanted, "facts": {"licence": LICENCES[name], "problems": problems}}
    corpus = cached_clips(path, lambda: _rows(root, files, about), about)
    return replace(corpus, note=f"named by the user, read from {root.resolve().name}")


def survey(root: Path) -> tuple[dict[str, list[Path]], list, list[str]]:
    """The visible files in a folder by suffix in lower case; name, size and times of each; and problems.

    Links to folders inside are not followed, since these are read under their own names.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder of the corpus as root")
    files, stamps, problems, entered, home = defaultdict(list), [], [], set(), root.resolve()

    def report(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be opened ({error.strerror}); skipped")

    def visible(path: Path) -> bool:
        if not path.name.isprintable():
            problems.append(f"{str(path)!r}: its name cannot be printed; rename it")
        return path.name.isprintable() and not path.name.startswith(".")

    for folder, inner, names in os.walk(root, onerror=report, followlinks=True):
        here, real = Path(folder), os.path.realpath(folder)
        if real in entered:
            inner.clear()
            continue
        entered.add(real)
        links = {name for name in inner if os.path.islink(here / name)}
        inside = {name for name in links if (here / name).resolve().is_relative_to(home)}
        inner[:] = sorted(name for name in inner if visible(here / name) and name not in inside)
        stamps.append(here.relative_to(root).as_posix())
        for path in filter(visible, (here / name for name in sorted(names))):
            if not os.path.isfile(path):  # a broken link, a device or a pipe
                problems.append(f"{path}: no file that can be opened; skipped")
                continue
            status = path.stat()
            files[path.suffix.lower()].append(path)
            stamps.append((path.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        if len(stamps) > MOST_FILES and not any(files[suffix] for suffix in layouts.LABELS):
            raise InputError(f"{root}: more than {MOST_FILES:,} files, none with labels; give another folder")
    return files, stamps, _relative(problems, root)


def _relative(problems: list[str], root: Path) -> list[str]:
    """Problems with the paths of files relative to ``root``, so that they do not name the user's folders."""
    return [problem.replace(f"{root}{os.sep}", "") for problem in problems]


def _rows(root: Path, files: dict, about: dict) -> Iterator[tuple[dict, np.ndarray]]:
    """Rows and clips of all segments; adds ``left_out``, ``split`` and problems to ``about``."""
    name, wanted, problems = about["name"], about["labels"], about["facts"]["problems"]
    if name.startswith("timit") and files[".phn"] and (other := _recognised(root, files)) != name:
        raise InputError(f"{root}: holds {other}, not {name}, and its licence is another; use {other}")
    suffix, key, parse = layouts.LAYOUTS[name](root, files, problems)
    if not files[suffix]:
        raise InputError(f"{root}: no {suffix} file in it or below; give the folder with labels and sounds")
    find_sound, unlabelled = layouts.pair_sounds(files, suffix, key)
    speakers, used, labels, left_out, count = [], {}, Counter(), Counter(), 0
    for path in tqdm(files[suffix], desc=name, unit="utterance", leave=False, disable=None):
        try:
            utterance = parse(path, find_sound(path))
            if utterance.name in used:
                raise InputError(f"{path}: the same utterance as {used[utterance.name]}, which is used")
            sound = read_sound(utterance)
        except InputError as error:
            left_out["utterances that could not be used", "", ""] += 1
            problems.append(f"{error}; skipped")
            continue
        used[utterance.name] = path
        speakers.append((utterance.speaker, utterance.sex, utterance.part))
        labels.update(label for _, _, label in utterance.phones)
        for start, end, phone, reason in _segments(utterance, sound, wanted, layouts.PHONE_SETS.get(name)):
            if reason:
                left_out[reason, phone, utterance.sex] += 1
                continue
            middle = (start + end) // 2
            word = next((word for first, last, word in utterance.words if first <= middle < last), "")
            row = {"corpus": name, "utterance": utterance.name, "speaker": utterance.speaker}
            row |= {"sex": utterance.sex, "phone": phone, "word": word, "start": start, "end": end}
            row |= {"path": utterance.sound.relative_to(root).as_posix(), "shared": utterance.shared}
            count += 1
            yield row, cut(sound, start, end)
    if unlabelled:
        left_out["recordings without labels", "", ""] = len(unlabelled)
    problems += [f"{path}: no labels for this recording; skipped" for path in unlabelled]
    problems[:] = _relative(problems, root)
    if not count:
        most = ", ".join(f"{label} {number}" for label, number in labels.most_common(30) if label) or "none"
        reason = f"no segment labelled {', '.join(wanted)}; its labels are {most}; {len(problems)} problems:"
        raise InputError("\n  ".join([f"{root}: {reason}", *problems[:5]]))
    about["left_out"] = [(name, *key, count) for key, count in left_out.items()]
    about["split"] = _split(pd.DataFrame(speakers, columns=["speaker", "sex", "part"]), problems)


def _segments(utterance: Utterance, sound: np.ndarray, wanted: list[str], phone_set: set[str] | None):
    """Start, end and label of every segment, and the reason to leave it out, or an empty text."""
    phones = sorted(utterance.phones)
    overlaps, last = set(), 0  # last: the phone that ends last so far
    for place in range(1, len(phones)):
        if phones[place][0] < phones[last][1]:
            overlaps |= {place, last}
        last = max(place, last, key=lambda one: phones[one][1])
    for place, (start, end, phone) in enumerate(phones):
        reasons = {  # the first that applies counts
            "labels that are no phone of this corpus": phone_set and phone.lower() not in phone_set,
            "labelled spn: speech that the aligner could not label": phone == "spn",
            OTHERS: phone not in wanted,
            "shorter than 1 ms": end - start < HOP,
            "overlaps another label": place in overlaps,
            "runs past the end of the sound": end > len(sound) + HOP,
            f"longer than {1000 * LONGEST // RATE} ms": end - start > LONGEST,
            "nothing but zeros": not sound[start:end].any(),
        }
        reason = next((reason for reason, applies in reasons.items() if applies), "")
        yield start, min(end, len(sound)), phone, reason


def read_sound(utterance: Utterance) -> np.ndarray:
    """The recording at 16 kHz: unchanged int16, or float32 if the file has another format or rate.

    Raises:
        InputError: the file cannot be read, its sound cannot be used, or it does not end with the labels.
    """
    path = utterance.sound
    try:
        info = soundfile.info(path)
        fits = info.samplerate == RATE if utterance.in_samples else info.samplerate >= RATE
        if not fits or info.channels != 1 or not 0 < info.duration <= 3600 * LONGEST_HOURS:
            rate = f"{RATE} Hz" if utterance.in_samples else f"{RATE} Hz or more"
            found = f"{info.channels} channels, {info.samplerate} Hz, {info.duration:.4g} s"
            wanted = f"one channel, {rate}, more than 0 s and at most {LONGEST_HOURS} hours"
            raise InputError(f"{path}: {found}; a recording needs {wanted}")
        unchanged = info.subtype == "PCM_16" and info.samplerate == RATE
        sound, _ = soundfile.read(path, dtype="int16" if unchanged else "float32")
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or error.strerror
        raise InputError(f"{path}: not a usable sound ({reason}); make it a 16-bit WAV file") from None
    if len(sound) < info.frames or not (np.abs(sound) < LOUDEST).all():  # NaN is not smaller, either
        raise InputError(f"{path}: cut, or with samples that are not finite or enormous; get it again")
    if info.samplerate > RATE:
        import librosa

        sound = librosa.resample(sound, orig_sr=info.samplerate, target_sr=RATE)
    last = max((end for _, end, _ in utterance.phones), default=0) if utterance.end is None else utterance.end
    early = utterance.end is not None and last < len(sound) - SLACK * RATE  # else the labels may end early
    if early or last > len(sound) + SLACK * RATE:
        ends = f"labels end at {last / RATE:.2f} s, the sound at {len(sound) / RATE:.2f} s"
        raise InputError(f"{path}: {ends}; they are no pair, or one is cut")
    return sound


def _split(speakers: pd.DataFrame, problems: list[str]) -> dict[str, str]:
    """Split of every speaker: the corpus's own if it has test speakers, else from ``split_by_speaker``."""
    speakers = speakers.drop_duplicates().sort_values("speaker")
    double = speakers.speaker[speakers.speaker.duplicated()].unique()
    problems += [f"speaker {name} has several parts or two sexes; used for training" for name in double]
    speakers.loc[speakers.speaker.isin(double), "part"] = "train"
    speakers = speakers.drop_duplicates("speaker")
    if "test" not in set(speakers.part):
        split = split_by_speaker(speakers)
        missing = [part for part in ("valid", "test") if part not in split.values()]
        problems += [f"no speaker is left for {part}: it takes four of a sex for both" for part in missing]
        return split
    split = dict(zip(speakers.speaker, speakers.part.replace("", "train")))
    if "valid" not in split.values():
        cut_off = split_by_speaker(speakers[speakers.speaker.map(split) == "train"])
        split |= {speaker: "valid" for speaker, part in cut_off.items() if part == "valid"}
    return split
