"""Run: execute the notebooks of the study, each into ``notebooks/`` of the build folder."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from vowelflow.base import InputError, build_folder, locked, repository

from .results import read_json

PARAMETERS = ("corpus", "root", "profile", "seed")  # of the tagged cell in every notebook


class StudyError(RuntimeError):
    """A notebook or the book failed; the message says where, why, and which file to open."""


def attended() -> bool:
    """Whether a person runs this notebook and can use widgets. ``run_study`` runs notebooks unattended."""
    return "VOWELFLOW_UNATTENDED" not in os.environ


@dataclass(frozen=True)
class Sizes:
    """How much of a corpus the notebooks use, so that they take minutes."""

    tokens: int = 12  # of each vowel and sex
    samples: int = 64  # random codes
    pairs: int = 16  # of each kind of pair
    live_steps: int = 192  # of the training that the reader can watch
    fitted: int = 400  # train pictures for fitting the simpler densities


def sizes(profile: str) -> Sizes:
    """The sizes of a profile: small ones for ``smoke``, otherwise the defaults."""
    small = Sizes(tokens=2, samples=4, pairs=2, live_steps=6, fitted=40)
    return small if profile == "smoke" else Sizes()


def open_corpus(corpus: str, root: str | None, profile: str):
    """The corpus of a notebook. ``smoke`` takes two tokens of each speaker and vowel."""
    from vowelflow.readers import load_corpus
    from vowelflow.spectrogram import usable

    speech = usable(load_corpus(corpus, root), "vowel")
    return speech.draw(2, by=("speaker", "phone")) if profile == "smoke" else speech


def open_setting(speech, profile: str, seed: int = 0, root: str | None = None):
    """The setting of a notebook's experiments: the corpus's reference flow, and the short protocol."""
    from . import folds, protocol
    from .references import reference_model

    _, folder = reference_model(speech, profile, seed)
    return folds.open_setting(
        speech, folder, protocol.SMOKE if profile == "smoke" else protocol.STUDY, seed, root
    )


def run_study(corpus="auto", root=None, profile="cpu", seed=0, only=None, build=None) -> dict[str, float]:
    """Execute the notebooks in order and return the seconds that each took.

    An executed copy is called ``NAME.partial.ipynb`` until it is complete.

    Raises:
        InputError: the corpus does not exist, or lacks speakers or vowels that the chapters compare (checked unless
            ``only`` one notebook is run); there is no such notebook; a parameters cell is wrong; or another study
            uses the build folder.
        StudyError: a cell failed.
    """
    from vowelflow.readers import load_corpus
    from vowelflow.spectrogram import usable

    if not 0 <= seed < 2**31:
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**31 - 1}")
    home, build = repository(), build_folder(build)
    notebooks = chapters(home, only)
    for notebook in notebooks:
        _check_parameters(notebook)
    speech = usable(load_corpus(corpus, root), "vowel")
    print(f"corpus: {speech.name} ({speech.note})", flush=True)
    if only is None:
        _check_enough(speech)
    parameters = {"corpus": corpus, "root": _relative(root, corpus, home), "profile": profile, "seed": seed}
    origin = {
        "corpus": speech.name, "fingerprint": speech.fingerprint, "licence": speech.licence, "profile": profile, "seed": seed,
    }  # fmt: skip
    seconds, environment = {}, os.environ.copy()
    # Kernels inherit the environment. Offline, every notebook finds the same corpus, even if the network changes.
    os.environ |= {"VOWELFLOW_OFFLINE": "1", "VOWELFLOW_UNATTENDED": "1", "VOWELFLOW_BUILD": str(build)}
    try:
        with locked(build, "study"):
            for number, notebook in enumerate(notebooks, start=1):
                start = time.monotonic()
                _execute(notebook, build, parameters, origin, f"[{number}/{len(notebooks)}] {notebook.stem}")
                seconds[notebook.stem] = time.monotonic() - start
    finally:
        os.environ.clear()
        os.environ.update(environment)
    for name, value in (seconds | {"in all": sum(seconds.values())}).items():
        print(f"{value:8.1f} s  {name}", flush=True)
    return seconds


def _relative(root, corpus: str, home: Path) -> str | None:
    """``root`` relative to the repository, where kernels start: the user's own folders must not appear in the book."""
    places = str(root or "").split(os.pathsep) if "+" in corpus else [str(root or "")]
    places = [os.path.relpath(Path(place).expanduser(), home) if place else "" for place in places]
    return os.pathsep.join(places) or None


def _check_enough(speech) -> None:
    """Check, before the first chapter runs, that the corpus has the speakers and vowels that the chapters compare."""
    missing = [] if len(speech.split["valid"]) else ["a valid speaker"]
    for part, least in (("train", 2), ("test", 1)):
        table = speech.held_out(part).table
        for sex, name in (("f", "women"), ("m", "men")):
            both = (
                table[(table.sex == sex) & table.phone.isin(["aa", "ae"])].groupby("speaker").phone.nunique()
            )
            if (both == 2).sum() < least:
                missing.append(f"{part} {name} who say aa and ae, {least} at least")
    if set(speech.table.phone) <= {"aa", "ae"}:
        missing.append("a third vowel")
    if missing:
        raise InputError(
            f"{speech.name} is too little for the whole study: it lacks {'; '.join(missing)}. Give four speakers of each"
            " sex who say aa, ae and others of the five vowels, or run single chapters with --only"
        )


def chapters(home: Path, only: str | None = None) -> list[Path]:
    """The notebooks in reading order, or the one called ``only``."""
    notebooks = sorted((home / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise InputError(f"no notebooks in {home / 'notebooks'}; run in the repository")
    chosen = [path for path in notebooks if only in (None, path.stem, path.name)]
    if not chosen:
        raise InputError(f"no notebook {only!r}; there are {', '.join(path.stem for path in notebooks)}")
    return chosen


def _check_parameters(notebook: Path) -> None:
    """Check the parameters cell: papermill only warns if a notebook lacks a parameter, and runs it with its default."""
    from papermill import inspect_notebook

    found = sorted(inspect_notebook(str(notebook)))
    if found != sorted(PARAMETERS):
        raise InputError(
            f"{notebook.name}: the cell tagged 'parameters' sets {', '.join(found) or 'nothing'};"
            f" it must set {', '.join(PARAMETERS)}, one a line"
        )


def _execute(notebook: Path, build: Path, parameters: dict, origin: dict, title: str) -> None:
    """Run one notebook. A terminal shows a bar over its cells, a log file one line."""
    import nbformat
    import papermill

    done = build / "notebooks" / notebook.name
    partial = done.with_suffix(".partial.ipynb")
    partial.parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr.isatty()
    if not terminal:
        print(title, flush=True)
    options = {
        "kernel_name": "python3", "cwd": notebook.parents[1], "start_timeout": 300,
        "progress_bar": {"desc": title, "dynamic_ncols": True} if terminal else False,
        "extra_arguments": ["--IPKernelApp.log_level=ERROR"],  # warnings of the kernel would break the bar
    }  # fmt: skip
    try:
        node = papermill.execute_notebook(notebook, partial, parameters, **options)
    except papermill.PapermillExecutionError as error:
        raise StudyError(
            f"{notebook.name} failed in cell In [{error.exec_count}]: {error.ename}: {error.evalue}\n"
            f"the half-run copy, with the traceback: {partial}"
        ) from error
    except Exception as error:  # the kernel died, or did not start
        raise StudyError(f"{notebook.name} stopped: {error}\nthe half-run copy: {partial}") from error
    node.metadata.pop("papermill")  # it holds this machine's paths
    node.metadata["vowelflow"] = origin | {"source": source_hash(notebook)}
    nbformat.write(node, partial)
    os.replace(partial, done)


def source_hash(notebook: Path) -> str:
    """Twelve hex digits that identify the text and code of a notebook, without its outputs."""
    cells = read_json(notebook)["cells"]
    text = "\0".join(f"{cell['cell_type']} {''.join(cell['source'])}" for cell in cells)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
