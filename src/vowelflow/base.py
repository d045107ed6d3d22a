"""What every module shares: the time grid, errors, files and folders. Imports nothing heavy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

RATE = 16_000  # Hz, of every sound in the study
FRAMES = 288  # frames of 1 ms in a padded picture
LONGEST = RATE  # samples; longer segments are not taken for single vowels
HOP = 16  # samples between frames
FFT = 512  # samples in the transform of a frame
LEAD = FFT // 2 - HOP // 2  # samples before and after a segment that its frames include


class InputError(ValueError):
    """Input is not usable; the message names it and the remedy."""


class OtherTrainingError(InputError):
    """A folder holds a training that cannot be resumed with these settings."""


class TrainingError(RuntimeError):
    """Training cannot continue; the message says why and what is saved."""


def save_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file under a temporary name in the same folder, then rename it to ``path``.

    Readers see the old file or the complete new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # after a power failure, the name must not exist without the content
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Hold a lock on a folder for one kind of work. It ends with the process, also if this is killed.

    Raises:
        InputError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(f"another {work} runs in {folder}; wait for it, or use another folder") from None


def frames_in(samples):
    """The number of 1 ms frames in ``samples`` (a number or an array), rounded up."""
    return -(-samples // HOP)


def repository() -> Path:
    """The study's folder: the working folder or a parent, or the checkout that this package is installed from.

    If none of these is a checkout, the working folder.
    """
    for folder in (Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]):
        if (folder / "notebooks").is_dir() and (folder / "_config.yml").is_file():
            return folder
    return Path.cwd()


def build_folder(build: str | Path | None = None) -> Path:
    """``build``, or VOWELFLOW_BUILD, or ``build/``; relative paths start at the repository."""
    return repository() / (build or os.environ.get("VOWELFLOW_BUILD") or "build")
