"""Sounds: collect the sounds of executed notebooks in one archive."""

from __future__ import annotations

import base64
import html
import io
import re
import zipfile
from pathlib import Path

import pandas as pd
import soundfile

from vowelflow.base import save_atomically

# Label, sound and file name of each sound in a row that ``figures.play_row`` wrote.
PLAYER = re.compile(r'aria-label="Play ([^"]*)".*?base64,([^"]*)".*?download="([^"]*)"', re.DOTALL)


def write_sounds(notebooks: list[Path], path: Path) -> int:
    """Write every sound of executed notebooks to a zip file: a folder for each chapter, and ``index.csv`` with licences.

    Equal notebooks give equal bytes: dates are fixed, and nothing is compressed, because versions of zlib differ.

    Returns:
        The number of sounds. If there are none, no file is written.
    """
    files, rows = {}, []
    for notebook in notebooks:
        licence, sounds = _sounds(notebook)
        for label, sound, name in sounds:
            place, number = f"{notebook.stem}/{name}", 1
            while place in files:
                number += 1
                place = f"{notebook.stem}/{name.removesuffix('.wav')}_{number}.wav"
            files[place] = sound
            about = soundfile.info(io.BytesIO(sound))
            rows.append({
                "file": place, "chapter": notebook.stem, "label": label, "seconds": f"{about.duration:.3f}",
                "sample rate": about.samplerate, "licence": licence,
            })  # fmt: skip
    if files:
        index = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
        save_atomically(path, lambda file: _write_zip(file, {"index.csv": index.encode()} | files))
    return len(files)


def _sounds(notebook: Path) -> tuple[str, list[tuple[str, bytes, str]]]:
    """The licence of a chapter's speech, and label, sound and file name of each different sound in its outputs.

    Outputs that are glued for another page count, too.
    """
    import nbformat

    node, found = nbformat.read(notebook, as_version=4), []
    for output in (output for cell in node.cells for output in cell.get("outputs", [])):
        for kind, content in output.get("data", {}).items():
            if kind.endswith("text/html"):
                found += PLAYER.findall(content)
    sounds = [
        (html.unescape(label), base64.b64decode(sound), name) for label, sound, name in dict.fromkeys(found)
    ]
    return node.metadata.get("vowelflow", {}).get("licence", ""), sounds


def _write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # its date is 1980, the first year of the format
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, on every machine
            archive.writestr(entry, content)
