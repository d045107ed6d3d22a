"""Notebooks run, fail and report as they should; small ones, made here."""

import json
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml

from conftest import PARAMETERS, write_notebook
from vowelflow import base, readers
from vowelflow.base import InputError
from vowelstudy import book, results
from vowelstudy import run as study


@pytest.fixture
def repository(klatt, tmp_path, monkeypatch):
    """An empty study in a folder with a space in its name; returns a function that adds a notebook."""
    home = tmp_path / "a study"
    (home / "notebooks").mkdir(parents=True)
    (home / "_config.yml").touch()
    monkeypatch.chdir(home)
    monkeypatch.delenv("VOWELFLOW_BUILD", raising=False)
    speech = replace(klatt, note="a test")
    monkeypatch.setattr(readers, "load_corpus", lambda name, root=None: speech)

    def add(name, *cells, parameters=PARAMETERS):
        write_notebook(home / "notebooks" / f"{name}.ipynb", *cells, parameters=parameters)
        return home

    return add


WRITE = """
from vowelstudy.results import write_results
write_results("01_one", {"seed": seed, "corpus": corpus, "root": root})
"""


def test_notebooks_run_in_order_with_parameters_and_results(repository, klatt, capsys):
    repository("02_two", "from vowelstudy.results import load_results; assert load_results()['01_one']")
    home = repository("01_one", WRITE)
    seconds = study.run_study("auto", root=home / "my speech", profile="smoke", seed=3)
    assert list(seconds) == ["01_one", "02_two"]
    assert results.load_results()["01_one"]["numbers"] == {"seed": 3, "corpus": "auto", "root": "my speech"}
    made = sorted(path.name for path in (home / "build/notebooks").iterdir())
    assert made == ["01_one.ipynb", "02_two.ipynb"]
    executed = nbformat.read(home / "build/notebooks/01_one.ipynb", as_version=4)
    wanted = {
        "corpus": "klatt",
        "fingerprint": klatt.fingerprint,
        "licence": klatt.licence,
        "profile": "smoke",
        "seed": 3,
    }
    assert executed.metadata.vowelflow == wanted | {
        "source": study.source_hash(home / "notebooks/01_one.ipynb")
    }
    assert capsys.readouterr().out.startswith("corpus: klatt (a test)\n")


def test_failing_cell_is_named_and_the_half_run_copy_kept(repository):
    home = repository("01_one", "x = 1", "raise ValueError('no such vowel')")
    repository("02_two", "open('never', 'w')")
    with pytest.raises(study.StudyError) as caught:
        study.run_study()
    partial = home / "build/notebooks/01_one.partial.ipynb"
    for part in ("01_one.ipynb", "In [4]", "ValueError: no such vowel", str(partial)):
        assert part in str(caught.value)
    assert partial.is_file()
    assert not (home / "build/notebooks/01_one.ipynb").exists()
    assert not (home / "never").exists()


@pytest.mark.parametrize("cell", ["corpus = 'auto'", PARAMETERS + "\nspeed = 1"])
def test_parameters_other_than_agreed_are_refused_before_anything_runs(repository, cell):
    repository("01_one", parameters=cell)
    with pytest.raises(InputError, match=r"01_one\.ipynb.*must set corpus, root, profile, seed"):
        study.run_study()


@pytest.mark.parametrize(
    "kept, lacking",
    [
        ("speaker == 'f00'", "train women who say aa and ae, 2 at least; train men .*; test women .*, 1 at least; test men"),
        ("sex == 'm'", "train women who say aa and ae, 2 at least; test women who say aa and ae, 1 at least. Give four"),
        ("phone != 'ae'", "train women .*; train men .*; test women .*; test men"),
        ("phone in ('aa', 'ae')", "a third vowel. Give"),
        ("split != 'valid'", "a valid speaker. Give four speakers of each sex"),
    ],
)  # fmt: skip
def test_too_little_speech_is_refused_before_anything_runs(repository, klatt, monkeypatch, kept, lacking):
    home = repository("01_one", "x = 1")
    few = klatt.take(np.flatnonzero(klatt.table.eval(kept)))
    monkeypatch.setattr(readers, "load_corpus", lambda name, root=None: few)
    with pytest.raises(InputError, match=f"klatt is too little for the whole study: it lacks {lacking}"):
        study.run_study()
    assert not (home / "build/notebooks").exists()
    assert list(study.run_study(only="01_one")) == ["01_one"]


def test_only_names_one_notebook(repository):
    repository("01_one")
    with pytest.raises(InputError, match="no notebook '9'; there are 01_one"):
        study.run_study(only="9")


def test_no_book_from_notebooks_that_were_not_run(repository, monkeypatch):
    home = repository("01_one")
    (home / "book/assets").mkdir(parents=True)
    monkeypatch.setattr(book, "_front_end", lambda home, build: home / "book/assets")
    with pytest.raises(InputError, match="not run yet: 01_one; run `vowelflow study --only 01_one` first"):
        book.build_book()
    repository("02_two")
    with pytest.raises(InputError, match="not run yet: 01_one, 02_two; run `make study` first"):
        book.build_book()


def test_no_book_from_a_notebook_that_was_changed_since_or_from_two_runs(repository, monkeypatch):
    home = repository("01_one", "x = 1")
    repository("02_two")
    (home / "book/assets").mkdir(parents=True)
    monkeypatch.setattr(book, "_front_end", lambda home, build: home / "book/assets")
    study.run_study()
    study.run_study(only="02_two", seed=1)
    with pytest.raises(InputError, match="01_one was run with seed 0, 02_two with 1"):
        book.build_book()
    study.run_study(only="02_two")
    with pytest.raises(InputError, match="explorer's files"):  # which come next: one run is no fault
        book.build_book()
    (home / "build/explorer").mkdir()
    (home / "build/explorer/explorer.json").write_text('{"corpus": "timit-sample"}')
    with pytest.raises(InputError, match="the explorer is of timit-sample, the chapters are of klatt"):
        book.build_book()
    repository("01_one", "x = 2")
    with pytest.raises(InputError, match=r"01_one\.ipynb has been changed since.*--only 01_one"):
        book.build_book()


def settings(stage, origins=(), **options):
    book._stage_config(Path(__file__).parents[1], stage, list(origins), **options)
    return yaml.safe_load((stage / "_config.yml").read_text(encoding="utf-8"))


def test_a_known_repository_gives_buttons_and_an_unknown_one_none(tmp_path):
    without = settings(tmp_path)
    assert not [name for name in without["html"] if name.startswith("use_")]
    assert not [name for name in without["launch_buttons"] if name.endswith("_url")]
    found = settings(tmp_path, address="https://github.com/some-one/vowel.flow.git/")
    assert found["repository"]["url"] == "https://github.com/some-one/vowel.flow"
    assert [found["html"][f"use_{name}_button"] for name in ("repository", "edit_page", "issues")] == [
        True
    ] * 3
    assert {"binderhub_url", "colab_url"} < set(found["launch_buttons"])


def test_what_a_corpus_says_of_itself_is_text(klatt, tmp_path):
    from vowelstudy import figures, tables

    hostile = "<script>alert(1)</script>"
    origin = {"corpus": hostile, "profile": "cpu", "licence": hostile}
    footer = settings(tmp_path, [origin])["html"]["extra_footer"]
    row = {"part": hostile, "metric": "m", "better": "more", "margin": 1, "n": 1, "speakers": 1, "method": hostile, "question": "effect",
           "estimate": 1.0, "interval": [0.0, 2.0], "baselines": {}, "beside": {}, "judges": {hostile: 1.0}, "seeds": {},
           "answer": "reproduced", "reason": hostile, "primary": True}  # fmt: skip
    shown = tables.show({"findings": [row]}).data
    banner = figures.banner(replace(klatt, name=hostile, note=hostile, licence=hostile)).data
    for text in (footer, shown, banner):
        assert "<script>" not in text and "&lt;script&gt;" in text


@pytest.mark.parametrize(
    "address", ["someone/vowelflow", "https://example.org/a/b", "https://github.com/someone"]
)
def test_an_address_that_no_button_could_use_is_refused(tmp_path, address):
    with pytest.raises(InputError, match="https://github.com/OWNER/NAME"):
        settings(tmp_path, address=address)


def test_outside_a_repository_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "__file__", str(tmp_path / "site-packages/vowelflow/base.py"))
    with pytest.raises(InputError, match="run in the repository"):
        study.chapters(base.repository())


def test_numbers_are_written_plain_rounded_and_sorted(tmp_path):
    numbers = {
        "b": np.float64(0.123456789),
        "a": {"n": np.int64(3), "list": np.array([1.0, 2.5])},
        "none": None,
    }
    numbers |= {"seconds": 3.2, "c": [{"seconds": 1, "x": 1}]}  # which no result holds
    path = results.write_results("01_data", numbers, build=tmp_path, corpus="klatt")
    content = json.loads(path.read_text())
    assert content["numbers"] == {
        "a": {"list": [1.0, 2.5], "n": 3},
        "b": 0.123457,
        "c": [{"x": 1}],
        "none": None,
    }
    assert list(content["numbers"]) == ["a", "b", "c", "none"]
    assert results.load_results(tmp_path) == {"01_data": content}
    assert content["provenance"] == {"corpus": "klatt"}


@pytest.mark.parametrize("bad", [float("nan"), np.inf, [1, -np.inf]])
def test_a_number_that_is_not_finite_is_refused_by_name(tmp_path, bad):
    with pytest.raises(InputError, match=r"01_data\.numbers\.x"):
        results.write_results("01_data", {"x": bad}, build=tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_estimates_as_text():
    text = results.estimate_text
    assert text({"estimate": 0.12345, "low": 0.1, "high": 0.2}) == "0.123 (0.100 to 0.200)"
    assert text({"estimate": -0.0001, "interval": [-1, 123.45]}) == "0.000 (-1.000 to 123)"
    assert text({"estimate": 752.25, "low": None, "high": None}, 1) == "752.2"
    assert text(None) == text({"estimate": None, "interval": None}) == "-"


def test_tables_in_markdown():
    table = pd.DataFrame({"a": [1], "b": ["x|y"]})
    assert results.markdown(table) == "| a | b |\n|---|---|\n| 1 | x\\|y |"
