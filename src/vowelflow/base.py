"""What every module shares: the time grid of the study, errors, and how files are written. Needs nothing but Python."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

RATE = 16_000  # Hz, of every sound in the study
FRAMES = 288  # frames of 1 ms in a padded picture
LONGEST = RATE  # samples: a segment of more than a second is no vowel to be seen as one
HOP = 16  # samples between frames
FFT = 512  # samples that the transform of a frame takes
LEAD = FFT // 2 - HOP // 2  # samples that frames see before the first and after the last of a segment


class InputError(ValueError):
    """Something a user gave is not usable; the message names it and the remedy."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what is saved."""


def save_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file under a temporary name beside ``path``, then rename it there.

    A reader sees the old file or the new one, never half of one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # a machine that loses power must not keep the name without the content
        os.chmod(temporary, 0o644)  # mkstemp makes files nobody else can read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def frames_in(samples):
    """Frames of 1 ms that so many samples take, begun ones included; a number, or a column of them."""
    return -(-samples // HOP)
