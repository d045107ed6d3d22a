"""Readers: folders of labelled speech -> Corpus. ``load_corpus`` is the one way in.

``layouts`` says what utterances a folder holds. What follows is the same for all corpora: labels
are checked against the sound, segments are cut, and their clips go to a file in the cache folder,
which is used from then on until a file of the folder or this code changes. What cannot be used is
counted and told, never dropped in silence.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from . import layouts
from .clips import VERSION, cached_clips, cut, read_clips
from .corpus import (
    ALL_VOWELS,
    HOP,
    LONGEST,
    RATE,
    VOWELS,
    Corpus,
    InputError,
    cache_dir,
    join,
    split_by_speaker,
)
from .fetch import can_be_fetched, fetch_sample
from .klatt import klatt_corpus
from .layouts import Utterance, known_phones, plain_label, told_within, within

CORPORA = ("auto", *layouts.LAYOUTS, "klatt")
LICENCES = {
    "timit": "TIMIT, LDC93S1: licensed by the Linguistic Data Consortium, not to be passed on",
    "timit-sample": "TIMIT sample, copyright 1993 Linguistic Data Consortium, Creative Commons Attribution,"
    " Non-Commercial, ShareAlike",
    "librispeech": "LibriSpeech, copyright 2014 Vassil Panayotov, CC BY 4.0",
    "textgrid": "the user's own recordings: whoever made them decides",
}
OTHERS = "other phones and silences"
MOST_FILES = 200_000  # without a label among them, a folder is the wrong one
SLACK = 0.1  # s that labels and sound may end apart
LONGEST_HOURS = 4  # of one recording
LOUDEST = 1e6  # times full scale: beyond it a file of floats holds no sound


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
    names, wanted = name.split("+"), wanted_phones(phones)
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
    labels = list(dict.fromkeys(map(plain_label, phones)))
    if not labels or not all(labels):
        raise InputError(f"phones={phones!r} names no label; give five, all, or labels such as aa,iy")
    return labels


def _variable(name: str) -> str:
    """The environment variable that may name a corpus's folder."""
    return name.upper().replace("-", "_") + "_ROOT"


def _usual_place(name: str) -> str | Path | None:
    variable = _variable(name)
    given = os.environ.get(variable)
    if given and not Path(given).expanduser().exists():
        raise InputError(f"{variable} names {given}, which is not there; correct it or unset it")
    cached = cache_dir() / "timit-sample"
    return given or (cached if name == "timit-sample" and cached.is_dir() else None)


def _fetched(name: str) -> Path:
    if name == "timit-sample":
        return fetch_sample(LICENCES[name])
    raise InputError(
        f"{name} needs the folder of its recordings: give root (--root DIR, or ROOT=DIR with make),"
        f" or set {_variable(name)}"
    )


def _first_there_is(root, wanted) -> Corpus:
    if root:
        place = Path(root).expanduser()
        name = read_clips(place).name if place.is_file() else _recognised(place, survey(place)[0])
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


def _recognised(root: Path, files: dict[str, list[Path]]) -> str:
    """Which corpus a folder with these files holds."""
    if files[".phn"]:
        small = any(re.fullmatch(r"dr\d-\w+", path.parent.name.lower()) for path in files[".phn"])
        return "timit-sample" if small else "timit"
    if files[".textgrid"]:
        return "librispeech" if layouts.speaker_lists(files) else "textgrid"
    raise InputError(f"{root}: holds none of {', '.join(layouts.LAYOUTS)}; give the corpus's folder")


# ---- from a folder to a corpus


def _read(name: str, root: Path, wanted: list[str]) -> Corpus:
    """The corpus in a folder, from the cache if nothing has changed since it was read."""
    files, stamps, problems = survey(root)
    key = hashlib.sha256(repr((name, wanted, stamps, problems, VERSION)).encode()).hexdigest()[:16]
    path = cache_dir() / "clips" / f"{name}-{key}.zip"
    about = {"name": name, "labels": wanted, "facts": {"licence": LICENCES[name], "problems": problems}}
    corpus = cached_clips(path, lambda: _rows(root, files, about), about)
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
        problems.append(f"{within(root, error.filename)}: cannot be opened ({error.strerror}); passed over")

    for folder, inner, names in os.walk(root, onerror=complain, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            inner.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        here = Path(folder)
        for name in (name for name in [*inner, *names] if not name.isprintable()):
            problems.append(f"{within(root, here)}: letters of the name {name!r} cannot be shown; rename it")
        inner[:] = sorted(name for name in inner if _plain(name) and not _leads_back(here / name, home))
        stamps.append(within(root, here))
        for name in sorted(filter(_plain, names)):
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError as error:
                complain(error)
                continue
            if not stat.S_ISREG(status.st_mode):
                problems.append(f"{within(root, here / name)}: a device or pipe, no file; passed over")
                continue
            files[os.path.splitext(name)[1].lower()].append(here / name)
            stamps.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        count += len(names)
        if count > MOST_FILES and not any(files[suffix] for suffix in layouts.LABELS):
            raise InputError(f"{root}: more than {MOST_FILES:,} files and no labels yet; give the corpus's own folder")
    return files, stamps, problems


def _plain(name: str) -> bool:
    return not name.startswith(".") and name.isprintable()


def _leads_back(folder: Path, home: str) -> bool:
    return folder.is_symlink() and Path(os.path.realpath(folder)).is_relative_to(home)


def _rows(root: Path, files: dict, about: dict) -> Iterator[tuple[dict, np.ndarray]]:
    """Rows and clips of all utterances, one after another; fills ``about`` with what happened.

    Raises:
        InputError: nothing that looks like this corpus, or no segment with a wanted label.
    """
    from tqdm import tqdm

    name, wanted, problems, left_out = about["name"], about["labels"], about["facts"]["problems"], Counter()
    if name.startswith("timit") and files[".phn"] and (found := _recognised(root, files)) != name:
        raise InputError(f"{root}: holds {found}, not {name}, and its licence is another; use {found}")
    labels, parse, unlabelled = layouts.LAYOUTS[name](root, files, problems)
    speakers, seen, found, kept = [], {}, Counter(), 0
    for path in tqdm(labels, desc=name, unit="utterance", leave=False, disable=None):
        try:
            utterance = parse(path)
            if other := seen.get(utterance.name):
                raise InputError(f"{path}: the same utterance as {within(root, other)}, which is used")
            sound = read_sound(utterance)
            _check_end(path, utterance, len(sound))
            seen[utterance.name] = path
        except InputError as error:
            left_out["utterances that could not be used", "", ""] += 1
            problems.append(f"{told_within(root, error)}; skipped")
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
            row |= {"path": within(root, utterance.sound), "shared": utterance.shared}
            kept += 1
            yield row, cut(sound, start, end)
    for path in unlabelled:
        left_out["recordings without labels", "", ""] += 1
        problems.append(f"{within(root, path)}: no labels for this recording; skipped")
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


def _sorted_out(utterance: Utterance, sound: np.ndarray, wanted: list[str], known: set[str] | None):
    """Every labelled segment with the reason to leave it out, which is empty for those to keep."""
    phones = sorted(utterance.phones)
    overlaps, last = set(), 0  # the place of the phone that ends last so far
    for k in range(1, len(phones)):
        if phones[k][0] < phones[last][1]:
            overlaps |= {k, last}
        last = max(k, last, key=lambda place: phones[place][1])
    for place, (start, end, phone) in enumerate(phones):
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
        elif end - start > LONGEST:
            reason = f"longer than {1000 * LONGEST // RATE} ms"
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
