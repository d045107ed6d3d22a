"""The repository agrees with itself: packages, lock, notebooks, paths."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOME = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((HOME / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
WANTED = PROJECT["dependencies"] + EXTRAS["book"] + EXTRAS["export"] + EXTRAS["dev"]


def by_name(requirements):
    return {canonicalize_name(one.name): one.specifier for one in map(Requirement, requirements)}


def test_conda_users_get_the_same_packages():
    environment = yaml.safe_load((HOME / "environment.yml").read_text(encoding="utf-8"))
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert f"python{PROJECT['requires-python']}" in conda
    assert by_name(item for item in pip if item != "-e .") == by_name(WANTED)


def test_lock_holds_a_fitting_version_of_every_package():
    text = (HOME / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(
        r"^([\w.-]+)==([\w.!]+)(?: ; [^\\\n]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", text, re.M
    )
    rest = re.sub(r"( \\)?\n    --hash=.*", "", text).splitlines()
    assert len(entries) == len([line for line in rest if not line.startswith("#")]), (
        "exact versions, all with hashes"
    )
    locked = {canonicalize_name(name): version for name, version, _ in entries}
    locked["torch"] = re.search(
        r"^TORCH := torch==(\S+)$", (HOME / "Makefile").read_text(encoding="utf-8"), re.M
    )[1]
    wrong = [
        f"{name}{specifier}: {locked.get(name)}"
        for name, specifier in by_name(WANTED).items()
        if name not in locked or not specifier.contains(locked[name], prereleases=True)
    ]
    assert not wrong, "run make lock"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped_and_takes_parameters(notebook):
    node = nbformat.read(notebook, as_version=4)
    nbformat.validate(node)
    cells = [cell for cell in node.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells), "run make strip"
    assert not {"papermill", "widgets", "language_info", "vowelflow"} & set(node.metadata), "run make strip"
    assert node.metadata.kernelspec.name == "python3"
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1


def test_notebooks_are_the_chapters_of_the_book():
    toc = yaml.safe_load((HOME / "book/_toc.yml").read_text(encoding="utf-8"))
    pages = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert [page for page in pages if page.startswith("notebooks/")] == [
        f"notebooks/{one.stem}" for one in NOTEBOOKS
    ]


def test_licences_name_every_corpus_and_every_package_that_the_pages_load():
    from vowelflow.readers import LICENCES

    text = (HOME / "book/licences.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    packages = json.loads((HOME / "book/assets/package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name in packages[""]["dependencies"]:
        (row,) = [row for row in rows if f"`{name}`" in row]
        assert packages[f"node_modules/{name}"]["license"] in row
    for name in (*LICENCES, "klatt"):
        assert sum(f"`{name}`" in row for row in rows) == 1


PERMISSIVE = re.compile("MIT|BSD|Apache|ISC|PSF|Python Software Foundation|Public Domain")
COPYLEFT = {"praat-parselmouth", "soxr", "certifi", "tqdm", "codespell"}


def test_packages_of_the_lock_are_permissive_or_named_among_the_licences():
    lock = (HOME / "requirements.lock").read_text(encoding="utf-8")
    others = set()
    for package in metadata.distributions():
        about, name = package.metadata, canonicalize_name(package.metadata["Name"])
        if not re.search(rf"^{re.escape(name)}==", lock, re.M):
            continue
        classes = " ".join(line for line in about.get_all("Classifier", []) if line.startswith("License"))
        said = about["License-Expression"] or classes or about["License"]
        said = said or next(
            file.read_text() for file in package.files if re.match("LICEN[CS]E|COPYING", file.name)
        )
        reserved = (
            re.search(r"GPL|\bMPL|Mozilla", said) and name != "docutils"
        )  # of which one Emacs file alone is GPL
        if reserved or not PERMISSIVE.search(said):
            others.add(name)
    assert others == COPYLEFT
    text = (HOME / "book/licences.md").read_text(encoding="utf-8")
    assert all(name in text for name in COPYLEFT)


def test_no_file_names_a_folder_of_one_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=HOME, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    suffixes = {".py", ".md", ".ipynb", ".yml", ".toml", ".json", ".cff", ".lock", ".css", ".js", ""}
    absolute = re.compile(r"/(?:home|Users|root|work|tmp)/\w")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = HOME / name
        if path.is_file() and path.suffix in suffixes and path != Path(__file__):
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [f"{name}:{number}" for number, line in enumerate(lines, 1) if absolute.search(line)]
    assert not found


def test_sources_pass_the_linter():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "."], cwd=HOME, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_prose_is_spelled_right():
    """Words that are known to be mistakes, in the book, the notebooks, and what the code says."""
    places = ["README.md", "CONTRIBUTING.md", "book", "notebooks", "src", "tests", "models"]
    skipped = "--skip=*.csv,*.json,*.bib,*.svg,*.safetensors"
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", skipped, *places], cwd=HOME, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
