"""Sounds: the executed notebooks -> one archive of all that their play buttons play."""

from __future__ import annotations

import base64
import csv
import io
import wave
import zipfile
from html.parser import HTMLParser
from pathlib import Path

from .corpus import save_atomically

COLUMNS = ("file", "chapter", "label", "seconds", "sample rate", "licence")


class _Players(HTMLParser):
    """File name, label and bytes of each sound of a row that ``figures.play_row`` wrote."""

    def __init__(self):
        super().__init__()
        self.label, self.sound, self.found = "", b"", []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "button":
            self.label = attributes.get("aria-label", "").removeprefix("Play ")
        elif tag == "audio":
            self.sound = base64.b64decode(attributes["src"].partition(",")[2])
        elif tag == "a" and attributes.get("class") == "vf-save":
            self.found.append((attributes["download"], self.label, self.sound))


def write_sounds(notebooks: list[Path], path: Path) -> int:
    """Write every sound of executed notebooks to a zip: a folder a chapter, and ``index.csv`` with the licence of each.

    Equal notebooks give equal bytes: dates are fixed, and nothing is compressed, which differs from one zlib to another.

    Returns:
        How many sounds there are; where there is none, no file is written.
    """
    files, rows = {}, []
    for notebook in notebooks:
        licence, players = _players(notebook)
        for name, label, sound in dict.fromkeys(players.found):  # one that is shown twice is one
            place, number = f"{notebook.stem}/{name}", 1
            while place in files:
                place, number = f"{notebook.stem}/{name.removesuffix('.wav')}_{number + 1}.wav", number + 1
            with wave.open(io.BytesIO(sound)) as read:
                rate, seconds = read.getframerate(), read.getnframes() / read.getframerate()
            files[place] = sound
            rows.append((place, notebook.stem, label, f"{seconds:.3f}", rate, licence))
    if files:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([COLUMNS, *rows])
        save_atomically(path, lambda file: _write(file, {"index.csv": table.getvalue().encode()} | files))
    return len(files)


def _players(notebook: Path) -> tuple[str, _Players]:
    """The licence of a chapter's speech, and the sounds of its outputs; a glued one may be shown on another page."""
    import nbformat

    node, players = nbformat.read(notebook, as_version=4), _Players()
    for output in (output for cell in node.cells for output in cell.get("outputs", [])):
        for kind, content in output.get("data", {}).items():
            if kind.endswith("text/html") and "vf-save" in content:
                players.feed(content)
    return node.metadata.get("vowelflow", {}).get("licence", ""), players


def _write(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            about = zipfile.ZipInfo(name)  # of 1980, the first year that a zip knows
            about.create_system, about.external_attr = 3, 0o644 << 16  # as on Unix, everywhere
            archive.writestr(about, content)
