"""The archive of all sounds is complete, says whose they are, and is the same for the same notebooks."""

import csv
import io
import zipfile

import nbformat
import numpy as np
import pytest
import soundfile

from vowelstudy import figures
from vowelstudy.book import _stage_sounds
from vowelstudy.sounds import write_sounds


@pytest.fixture
def chapter(tmp_path):
    """A function that writes an executed notebook, with an output for each row of labels."""

    def write(name, *rows, kind="text/html"):
        node = nbformat.v4.new_notebook(metadata={"vowelflow": {"licence": f"as {name}, share alike"}})
        for labels in rows:
            waves = [np.full(1600, 0.1 + number) for number, _ in enumerate(labels)]
            data = {kind: figures.play_row(waves, labels).data, "text/plain": "<HTML>"}
            node.cells.append(
                nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("display_data", data)])
            )
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        nbformat.write(node, tmp_path / f"notebooks/{name}.ipynb")
        return tmp_path / f"notebooks/{name}.ipynb"

    return write


def test_every_sound_is_in_the_archive_with_its_label_and_licence(chapter, tmp_path):
    one = chapter("01_data", ["aa, woman", 'a "b" & c'], ["iy"])
    two = chapter("02_more", ["iy"], kind="application/papermill.record/text/html")  # glued, for another page
    assert write_sounds([one, two], tmp_path / "sounds.zip") == 4
    with zipfile.ZipFile(tmp_path / "sounds.zip") as archive:
        names = archive.namelist()
        rows = list(csv.DictReader(io.StringIO(archive.read("index.csv").decode())))
        for row in rows:
            sound, rate = soundfile.read(io.BytesIO(archive.read(row["file"])))
            assert rate == int(row["sample rate"]) and len(sound) / rate == float(row["seconds"]) == 0.2
    assert names == [
        "index.csv",
        "01_data/aa_woman.wav",
        "01_data/a_b_c.wav",
        "01_data/iy.wav",
        "02_more/iy.wav",
    ]
    assert [row["file"] for row in rows] == names[1:]
    assert [row["label"] for row in rows] == ["aa, woman", 'a "b" & c', "iy", "iy"]
    assert [row["chapter"] for row in rows] == 3 * ["01_data"] + ["02_more"]
    assert [row["licence"] for row in rows] == 3 * ["as 01_data, share alike"] + ["as 02_more, share alike"]


def test_sounds_of_one_label_keep_apart_and_one_shown_twice_is_one(chapter, tmp_path):
    notebook = chapter("01_data", ["aa", "aa", "aa"], ["aa"])
    assert (
        write_sounds([notebook], tmp_path / "sounds.zip") == 1
    )  # all are as loud, and a constant is a constant
    notebook = chapter("02_more", ["aa!", "aa", "aa?"])
    assert write_sounds([notebook], tmp_path / "sounds.zip") == 3
    with zipfile.ZipFile(tmp_path / "sounds.zip") as archive:
        assert archive.namelist()[1:] == ["02_more/aa.wav", "02_more/aa_2.wav", "02_more/aa_3.wav"]


def test_equal_notebooks_give_equal_bytes(chapter, tmp_path, monkeypatch):
    notebook = chapter("01_data", ["aa", "iy"])
    write_sounds([notebook], tmp_path / "first.zip")
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_sounds([notebook], tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_without_sounds_there_is_no_archive_and_no_link(chapter, tmp_path):
    chapter("01_data")
    stage = tmp_path / "stage"
    assert _stage_sounds(tmp_path, tmp_path, stage) == "" and not stage.exists()
    chapter("01_data", ["aa"])
    assert "[One archive has them all](sounds.zip): 1 sounds" in _stage_sounds(tmp_path, tmp_path, stage)
    assert (stage / "book/sounds.zip").is_file()
