"""Fetch: download the free sample of TIMIT from the address where NLTK publishes it."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path

import pooch
import requests

from .base import InputError
from .corpus import cache_dir

SAMPLE_ADDRESS = "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/timit.zip"
SAMPLE_HASH = "md5:34c047c4749a811287f2c652104d7849"  # from NLTK's own index
TRIES, TIMEOUT = 3, (5, 20)  # number of tries; seconds to connect, and to wait for an answer
PATIENCE = 8  # s to find out whether there is a network


def can_be_fetched() -> bool:
    """Whether the address answers within ``PATIENCE`` seconds; never if ``VOWELFLOW_OFFLINE`` is set."""
    if os.environ.get("VOWELFLOW_OFFLINE"):
        return False
    answers = []

    def ask() -> None:
        try:
            answers.append(requests.head(SAMPLE_ADDRESS, timeout=PATIENCE / 2, allow_redirects=True).ok)
        except requests.RequestException:
            pass

    # A name server that does not answer blocks the thread for longer than any timeout that can be set.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answers == [True]


def fetch_sample(licence: str) -> Path:
    """Download and unpack the sample into the cache folder; returns the folder with the recordings.

    A download is tried several times, and its checksum must be the published one.

    Raises:
        InputError: the file cannot be downloaded, or is not the published one.
    """
    folder = cache_dir() / "timit-sample"
    by_hand = "fetch it by hand, unpack it, and give the folder: --root DIR, or TIMIT_SAMPLE_ROOT"
    if os.environ.get("VOWELFLOW_OFFLINE"):
        raise InputError(f"VOWELFLOW_OFFLINE is set, so {SAMPLE_ADDRESS} is not fetched; {by_hand}")
    print(f"fetching TIMIT's sample (22 MB) from {SAMPLE_ADDRESS}\n{licence}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=cache_dir()) as name:  # not shared with other processes
        files = {"registry": {"timit.zip": SAMPLE_HASH}, "urls": {"timit.zip": SAMPLE_ADDRESS}}
        downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
        try:
            source = pooch.create(name, "", retry_if_failed=TRIES - 1, **files)
            source.fetch("timit.zip", processor=pooch.Unzip(extract_dir="."), downloader=downloader)
        except (requests.RequestException, OSError, ValueError) as error:
            raise InputError(f"{SAMPLE_ADDRESS} could not be fetched ({error}); {by_hand}") from None
        try:
            os.replace(Path(name, "timit"), folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    return folder
