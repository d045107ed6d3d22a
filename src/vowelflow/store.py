"""Store: the sound of segments as 16-bit samples, in one file that is mapped into memory.

A clip is the part of a recording that the frames of a segment's picture cover: ``LEAD`` samples before the
segment, the segment, and the samples after it that the last window needs. The file is a zip archive without
compression. It holds ``sound.i16``, all clips end to end, and ``manifest.json``, the table of segments and
the other attributes of the corpus. It is complete or absent, and it can be copied to another machine.
"""

from __future__ import annotations

import json
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .base import FFT, HOP, LEAD, RATE, InputError, frames_in, save_atomically
from .corpus import LEFT_OUT, Corpus

SOUND, MANIFEST = "sound.i16", "manifest.json"
LAYOUT = [RATE, FFT, HOP, LEAD]  # clips cut with other values are refused
FULL_SCALE = 32768  # int16 levels of a waveform with amplitude 1
UNUSED_DAYS = 30  # after this time an unused file is deleted from the cache
# Part of the name of a cached file. Raise it when the same recordings give other rows or samples.
VERSION = 1


@dataclass(frozen=True)
class Clips:
    """Random access to the clips of one file: ``clips[k]`` is float32 ``(samples,)`` at 16 kHz."""

    path: Path
    labels: list[str]  # the labels that were asked for when the file was written
    samples: np.ndarray  # int16, mapped into memory
    offsets: np.ndarray  # (n + 1,) start of each clip, and the end of the last
    steps: np.ndarray  # (n,) amplitude of one int16 level

    def __getitem__(self, place: int) -> np.ndarray:
        levels = self.samples[self.offsets[place] : self.offsets[place + 1]]
        return levels.astype(np.float32) * np.float32(self.steps[place])


def cut(sound: np.ndarray, start: int, end: int) -> np.ndarray:
    """The clip of the segment from sample ``start`` to ``end``, with zeros outside the recording."""
    begin = start - LEAD
    stop = begin + FFT + HOP * (frames_in(end - start) - 1)
    return np.pad(sound[max(begin, 0) : stop], (max(-begin, 0), max(stop - len(sound), 0)))


def cached_clips(path: Path, make: Callable[[], Iterable[tuple[dict, np.ndarray]]], about: dict) -> Corpus:
    """The corpus in ``NAME-KEY.zip``, written from ``make()`` if needed; unused files of NAME are deleted."""
    try:
        corpus = read_clips(path)
        path.touch()
        return corpus
    except InputError:
        name, key = path.stem.rsplit("-", 1)
        for old in path.parent.glob(f"{name}-{'?' * len(key)}.zip"):
            if time.time() - old.stat().st_mtime > UNUSED_DAYS * 86_400:
                old.unlink()
    return read_clips(write_clips(path, make(), about))


def write_clips(path: Path, rows: Iterable[tuple[dict, np.ndarray]], about: dict) -> Path:
    """Write clips one at a time, so that memory does not grow with the corpus.

    Args:
        rows: for every segment, its columns of the table and its clip from ``cut``, int16 or float.
        about: ``name``; ``labels`` that were asked for; ``split`` of every speaker; ``left_out``; ``facts``,
            other attributes of ``Corpus``. It is written after the last row, so ``rows`` may fill it in.
    """

    def write(temporary: Path) -> None:
        columns, steps, lengths = {}, [], []
        with zipfile.ZipFile(temporary, "w") as archive:
            with archive.open(SOUND, "w", force_zip64=True) as file:
                for row, clip in rows:
                    levels, step = clip, 1 / FULL_SCALE
                    if clip.dtype != np.int16:  # scale by the largest sample, so that nothing is lost
                        step = max(float(np.abs(clip).max(initial=0)), 1e-9) / (FULL_SCALE - 1)
                        levels = np.round(clip / step).astype(np.int16)
                    content = levels.astype("<i2").tobytes()
                    file.write(content)
                    crc = zlib.crc32(repr(step).encode(), zlib.crc32(content))
                    for name, value in (row | {"crc": row.get("crc", crc)}).items():
                        columns.setdefault(name, []).append(value)
                    steps.append(step)
                    lengths.append(len(levels))
            manifest = dict(layout=LAYOUT, about=about, table=columns, steps=steps, lengths=lengths)
            archive.writestr(MANIFEST, json.dumps(manifest))

    return save_atomically(path, write)


def read_clips(path: Path) -> Corpus:
    """The corpus in a file of clips.

    Raises:
        InputError: the file is absent, damaged, or no file of clips.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type for entry in archive.infolist()):  # cannot be mapped into memory
                raise ValueError("it is compressed")
            manifest, entry = json.loads(archive.read(MANIFEST)), archive.getinfo(SOUND)
        if manifest["layout"] != LAYOUT:
            raise ValueError("it is of another version")
        with open(path, "rb") as file:  # the samples follow the entry's header, name and extra field
            file.seek(entry.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        start, size = entry.header_offset + 30 + name + extra, entry.file_size // 2
        samples = np.memmap(path, "<i2", "r", start, (size,)) if size else np.empty(0, np.int16)
        samples = samples.view(np.ndarray)  # slices of a plain array are faster
        if zlib.crc32(samples) != entry.CRC:
            raise ValueError(f"the checksum of {SOUND} is wrong")
        table, about, steps = pd.DataFrame(manifest["table"]), manifest["about"], np.array(manifest["steps"])
        offsets = np.cumsum([0, *manifest["lengths"]])
        if offsets[-1] != size or not len(table) == len(steps) == len(offsets) - 1:
            raise ValueError("its parts do not fit together")
        table["place"] = np.arange(len(table))
        table.insert(table.columns.get_loc("end") + 1, "split", table.speaker.map(about["split"]))
        clips = Clips(Path(path), about["labels"], samples, offsets, steps)
        facts = about["facts"] | {"left_out": pd.DataFrame(about["left_out"], columns=LEFT_OUT)}
        return Corpus(about["name"], table, {about["name"]: clips}, **facts)
    except Exception as error:  # a damaged archive fails in many ways
        reason = f"not a usable file of clips ({error})"
        raise InputError(f"{path}: {reason}; make it again from the recordings") from None
