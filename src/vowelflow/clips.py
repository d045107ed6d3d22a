"""Clips: the sound of segments as 16-bit samples, in one file that is mapped into memory.

A clip is what the frames of a segment's picture see: ``LEAD`` samples before the segment, the
segment, and as many after it as its last window needs. The file is a plain zip archive, stored
without compression: ``sound.i16``, all clips end to end, and ``manifest.json``, the table of
segments and all that is told about the corpus. It is complete or it is not there, every
checksum is verified when it is opened, and it can be copied to another machine and used there.
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

from .corpus import FFT, HOP, LEAD, LEFT_OUT, RATE, Corpus, InputError, frames_in, save_atomically

SOUND, MANIFEST = "sound.i16", "manifest.json"
LAYOUT = [RATE, FFT, HOP, LEAD]  # what the meaning of a clip depends on
FULL_SCALE = 32768  # int16 levels of a waveform that swings to 1
VERSION = 1  # of how recordings become clips, part of a cached file's name: raise it when the same folder gives other rows or samples
KEPT_DAYS = 30  # that a file of clips stays in the cache without being used


@dataclass(frozen=True)
class Clips:
    """Random access to the clips of one file: ``clips[k]`` is float32 ``(samples,)`` at 16 kHz."""

    path: Path
    labels: list[str]  # that were asked for when it was written
    samples: np.ndarray  # int16, mapped
    offsets: np.ndarray  # (n + 1,) where each clip begins, and the end
    steps: np.ndarray  # (n,) what one level is worth

    def __getitem__(self, place: int) -> np.ndarray:
        levels = self.samples[self.offsets[place] : self.offsets[place + 1]]
        return levels.astype(np.float32) * np.float32(self.steps[place])


def cut(sound: np.ndarray, start: int, end: int) -> np.ndarray:
    """The clip of a segment, samples ``start`` to ``end`` of a recording; zeros where there is no recording."""
    begin = start - LEAD
    stop = begin + FFT + HOP * (frames_in(end - start) - 1)
    before, after = max(-begin, 0), max(stop - len(sound), 0)
    return np.pad(sound[max(begin, 0) : stop], (before, after))


def to_levels(clip: np.ndarray) -> tuple[np.ndarray, float]:
    """A clip as int16 levels, and what one level is worth.

    16-bit recordings are kept as they are. Others are scaled to their own largest sample, so
    that nothing is clipped and a quiet recording keeps its detail.
    """
    if clip.dtype == np.int16:
        return clip, 1 / FULL_SCALE
    step = max(float(np.abs(clip).max(initial=0)), 1e-9) / (FULL_SCALE - 1)
    return np.round(clip / step).astype(np.int16), step


def cached_clips(path: Path, make: Callable[[], Iterable[tuple[dict, np.ndarray]]], about: dict) -> Corpus:
    """The corpus in a file of clips ``NAME-KEY.zip``; absent or damaged, the file is made again from ``make()``.

    Files of the same name with other keys go when nobody has used them for ``KEPT_DAYS``.
    """
    try:
        corpus = read_clips(path)
        path.touch()
        return corpus
    except InputError:
        name, key = path.stem.rsplit("-", 1)
        for old in path.parent.glob(f"{name}-{'?' * len(key)}.zip"):
            if time.time() - old.stat().st_mtime > KEPT_DAYS * 86_400:
                old.unlink()
    return read_clips(write_clips(path, make(), about))


def write_clips(path: Path, rows: Iterable[tuple[dict, np.ndarray]], about: dict) -> Path:
    """Write a file of clips, one at a time: memory does not grow with the corpus.

    Args:
        rows: of every segment, the columns of the table and the clip, as ``cut`` gives it.
        about: what else to tell: ``name``; ``labels`` that were asked for; ``split`` of every
            speaker; ``left_out``; ``facts``, more attributes of ``Corpus``. It is written when all
            rows have been taken, so a reader may fill it on the way.
    """

    def write(temporary: Path) -> None:
        columns, steps, lengths = {}, [], []
        with zipfile.ZipFile(temporary, "w") as archive:
            with archive.open(SOUND, "w", force_zip64=True) as file:
                for row, clip in rows:
                    levels, step = to_levels(clip)
                    content = levels.astype("<i2").tobytes()
                    file.write(content)
                    crc = zlib.crc32(repr(step).encode(), zlib.crc32(content))
                    for name, value in (row | {"crc": row.get("crc", crc)}).items():
                        columns.setdefault(name, []).append(value)
                    steps.append(step)
                    lengths.append(len(levels))
            manifest = {"layout": LAYOUT, "about": about, "table": columns, "steps": steps, "lengths": lengths}
            archive.writestr(MANIFEST, json.dumps(manifest))

    return save_atomically(path, write)


def read_clips(path: Path) -> Corpus:
    """The corpus in a file of clips.

    Raises:
        InputError: a file that is not one, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = archive.getinfo(MANIFEST)
            if packed.file_size > max(2**26, 100 * packed.compress_size):  # tables shrink by ten or twenty
                raise ValueError(f"its {MANIFEST} would unpack to {packed.file_size:,} bytes")
            manifest = json.loads(archive.read(MANIFEST))
            entry = archive.getinfo(SOUND)
        with open(path, "rb") as file:  # the data of a stored entry follow its header, name and extra field
            file.seek(entry.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        start, size = entry.header_offset + 30 + name + extra, entry.file_size // 2
        mapped = np.memmap(path, "<i2", "r", start, (size,)) if size else np.empty(0, np.int16)
        samples = mapped.view(np.ndarray)  # whose slices cost far less
        offsets = np.cumsum([0, *manifest["lengths"]])
        table, about = pd.DataFrame(manifest["table"]), manifest["about"]
        if manifest["layout"] != LAYOUT:
            raise ValueError("it is of another version")
        if zlib.crc32(samples) != entry.CRC:
            raise ValueError(f"the checksum of {SOUND} is wrong")
        if entry.compress_type or offsets[-1] != size or len(table) != len(manifest["steps"]):
            raise ValueError("its parts do not fit together")
        table["place"] = np.arange(len(table))
        table.insert(table.columns.get_loc("end") + 1, "split", table.speaker.map(about["split"]))
        clips = Clips(Path(path), about["labels"], samples, offsets, np.array(manifest["steps"]))
        facts = about["facts"] | {"left_out": pd.DataFrame(about["left_out"], columns=LEFT_OUT)}
        return Corpus(about["name"], table, {about["name"]: clips}, **facts)
    except Exception as error:  # absent or damaged, and a damaged archive fails in many ways
        raise InputError(f"{path}: not a usable file of clips ({error}); make it again") from None
