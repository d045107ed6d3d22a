"""Fetch: the free sample of TIMIT, from the address where NLTK publishes it."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import zipfile
from pathlib import Path

from .corpus import InputError, cache_dir

SAMPLE_ADDRESS = "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/timit.zip"
SAMPLE_HASH = "md5:34c047c4749a811287f2c652104d7849"  # as NLTK's own index states
LARGEST = 200_000_000  # bytes that the archive may unpack to; it has 32 million
TRIES, SILENCE = 3, (5, 20)  # how often; seconds without a connection, and without an answer
PATIENCE = 8  # s to find out whether there is a network


def can_be_fetched() -> bool:
    """Whether the sample's address answers, known within ``PATIENCE`` seconds.

    ``VOWELFLOW_OFFLINE=1`` in the environment says no at once.
    """
    if os.environ.get("VOWELFLOW_OFFLINE"):
        return False
    import requests

    answers = []

    def ask() -> None:
        try:
            answers.append(requests.head(SAMPLE_ADDRESS, timeout=PATIENCE / 2, allow_redirects=True).ok)
        except requests.RequestException:
            answers.append(False)

    # A name server that is silent holds a thread for longer than any timeout that can be set.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answers == [True]


def fetch_sample(licence: str) -> Path:
    """Fetch and unpack the sample into the cache folder; returns the folder with the recordings.

    A download is tried several times, and its checksum must be the published one.

    Raises:
        InputError: it cannot be had, or is not what it should be.
    """
    import pooch
    import requests

    folder = cache_dir() / "timit-sample"
    by_hand = "fetch it by hand, unpack it, and give the folder: --root DIR, or TIMIT_SAMPLE_ROOT"
    if os.environ.get("VOWELFLOW_OFFLINE"):
        raise InputError(f"VOWELFLOW_OFFLINE is set, so {SAMPLE_ADDRESS} is not fetched; {by_hand}")
    print(f"fetching the sample of TIMIT (22 MB) from {SAMPLE_ADDRESS}\n{licence}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=cache_dir()) as name:  # its own: others may be fetching too
        shelf = pooch.create(
            name, "", registry={"timit.zip": SAMPLE_HASH}, urls={"timit.zip": SAMPLE_ADDRESS}, retry_if_failed=TRIES - 1
        )
        try:
            loader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=SILENCE)
            archive = Path(shelf.fetch("timit.zip", downloader=loader))
        except (requests.RequestException, OSError, ValueError) as error:
            raise InputError(f"{SAMPLE_ADDRESS} could not be fetched ({error}); {by_hand}") from None
        unpack(archive, folder)
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive to ``folder``, which is there when it is complete; a single folder at its top is left out.

    Raises:
        InputError: not an archive, a damaged one, one with a path that leads out of the folder, or a far too large one.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        inside = Path(name, "unpacked").resolve()
        try:
            with zipfile.ZipFile(archive) as file:
                for entry in file.infolist():
                    if not (inside / entry.filename.replace("\\", "/")).resolve().is_relative_to(inside):
                        raise InputError(f"{archive}: {entry.filename!r} leads out of the folder; get it elsewhere")
                if sum(entry.file_size for entry in file.infolist()) > LARGEST:
                    raise InputError(f"{archive}: unpacks to more than {LARGEST / 1e6:.0f} MB; get it elsewhere")
                file.extractall(inside)
        except InputError:
            raise
        except Exception as error:  # a damaged archive fails in many ways
            raise InputError(f"{archive}: cannot be unpacked ({error}); fetch it again") from None
        top = list(inside.iterdir())
        try:
            os.replace(top[0] if len(top) == 1 and top[0].is_dir() else inside, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
