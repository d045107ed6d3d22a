"""The command line ``vowelflow COMMAND``. Each command is a function whose arguments are its options.

Both packages load their modules on first use, so that help appears at once.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import shutil
import sys
import time
import zipfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from safetensors import SafetensorError

import vowelflow as vf
import vowelstudy as vs
from vowelflow.base import InputError, TrainingError, build_folder, repository

_FULL = "; make room and run the same command again: finished parts are complete and are used"
_FOLDER = (
    "; name a folder you may write to: --out, VOWELFLOW_BUILD for results, VOWELFLOW_CACHE for downloads"
)
_OTHER = "; name a folder where a folder is wanted and a file where a file is wanted, or another place"
REMEDIES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL)
REMEDIES |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _FOLDER)
REMEDIES |= dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), _OTHER)
COMMANDS = {}  # by name: the function, its help and its options


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns 0, 1 if it failed, 2 if its input is not usable, or 130 if it was stopped."""
    options = vars(_parser().parse_args(arguments))
    run = options.pop("run")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without a label's script must not end a long run
            stream.reconfigure(errors="backslashreplace")
    try:
        run(**options)
    except InputError as error:
        return _failed(f"error: {error}", 2)
    except (vs.run.StudyError, TrainingError) as error:
        return _failed(error, 1)
    except SafetensorError as error:  # it has no error number
        return _failed(f"error: weights or codes cannot be read or written: {error}{_FULL}", 2)
    except RuntimeError as error:
        if "home directory" not in str(error):  # in a path that starts with ~
            raise
        return _failed(f"error: {error} Give a whole path instead of ~", 2)
    except BrokenPipeError:  # the reader has closed the pipe, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _failed(f"error: {error}{REMEDIES.get(error.errno, '')}", 2)
    except KeyboardInterrupt as stop:
        return _failed(str(stop) or "stopped", 130)
    return 0


def _failed(text, code: int) -> int:
    print(f"vowelflow: {text}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vowelflow", description="Speech factorization with a flow")
    parser.add_argument("--version", action="version", version=f"vowelflow {version('vowelflow')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (run, text, options) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        for names, settings in options:
            command.add_argument(*names, **settings)
    return parser


def _command(text: str, *options, name: str | None = None):
    """Make a function a command, by default of its own name."""

    def register(function):
        COMMANDS[name or function.__name__.lstrip("_")] = function, text, options
        return function

    return register


def _option(*names: str, **settings):
    return names, settings


def _whole(least: int, most: float = math.inf):
    """A whole number within limits, for argparse."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            limits = f"from {least} to {most}" if most < math.inf else f"of at least {least}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}")
        return int(text)

    return parse


def _positive(text: str) -> float:
    """A number above zero, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


_COUNT = {"type": _whole(1), "metavar": "N"}
_CORPORA = "auto, timit, timit-sample, librispeech, textgrid, klatt, or several joined by +"
_CORPUS = _option("--corpus", metavar="NAME", default="auto", help=f"{_CORPORA}; default: auto")
_ROOT = _option("--root", metavar="DIR", help=f"folder or saved file; several are joined by {os.pathsep}")
_VOWELS = _option("--vowels", metavar="LABELS", default="five", help="five (default), all, or labels: aa,iy")
_SEED = _option("--seed", type=_whole(0, 2**31 - 1), default=0, help="default: 0")
_PROFILES = ("vowel", "vowel-noise", "padded", "smoke", "smoke-padded", "paper")
_MODEL = _option("model", metavar="MODEL", help="a name under models/, or a folder with weights")


@_command(
    "run the notebooks, then build the book", _CORPUS, _ROOT, _SEED,
    _option("--profile", choices=("smoke", "cpu", "paper"), default="cpu", help="size; default: cpu"),
    _option("--only", metavar="NAME", help="run this notebook alone, such as 01_data, and build no book"),
)  # fmt: skip
def _study(corpus, root, seed, profile, only) -> None:
    vs.run.run_study(corpus, root, profile, seed, only)
    if not only:
        _book()


@_command(
    "train a flow",
    _option("name", metavar="MODEL", nargs="?", help="a reference model, such as speech: its recipe"),
    _CORPUS, _ROOT, _VOWELS, _SEED,
    _option("--profile", choices=_PROFILES, default="vowel", help="size; default: vowel"),
    _option("--steps", **_COUNT, help="optimizer steps, instead of the profile's"),
    _option("--minutes", type=_positive, default=math.inf, metavar="M", help="time limit, including saving"),
    _option("--resume", action="store_true", help="continue from the newest checkpoint in --out, if any"),
    _option("--devices", **_COUNT, default=1, help="GPUs of a node, or processes without a GPU; default: 1"),
    _option("--nodes", **_COUNT, default=1, help="machines, each with this number of devices; default: 1"),
    _option("--start-from", metavar="MODEL", help="the name or folder of a model whose weights come first"),
    _option("--out", type=Path, metavar="DIR", help="folder for weights, log and checkpoints"),
)  # fmt: skip
def _train(
    name, corpus, root, vowels, seed, profile, steps, minutes, resume, devices, nodes, start_from, out
):
    start = time.monotonic()
    if name and (corpus, vowels, profile) != ("auto", "five", "vowel"):
        raise InputError(f"the recipe of {name} sets corpus, vowels and profile; leave them out")
    if name:
        recipe = vs.references.recipe_named(name)
        settings, speech = recipe.settings(), recipe.speech(root)
        seed, start_from = seed or recipe.seed, start_from or recipe.start_from
    else:
        settings, speech = vf.profiles.profile_named(profile), vf.readers.load_corpus(corpus, root, vowels)
        name = f"{profile}-{speech.name}{_suffix(speech, vowels)}"
    if steps:
        settings = replace(settings, iterations=steps)
    folder = out or build_folder() / "models" / name
    ranks = (os.environ.get(variable) for variable in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    chief = next(filter(None, ranks), "0") == "0"  # among the processes that train together
    if chief:
        print(speech.summary(), flush=True)
    minutes -= (time.monotonic() - start) / 60
    vf.training.train(speech, folder, settings, seed, minutes, resume, devices, nodes, start_from)
    if chief:
        vs.figures.save_training_curve(folder)
        print(f"weights, log, its figure and checkpoints: {folder}")
        done = json.loads((folder / "config.json").read_text())["steps"]
        finished = done >= settings.iterations
        rest = (
            "the training is finished" if finished else "time is up: the same command with --resume continues"
        )
        print(f"step {done:,} of {settings.iterations:,}; {rest}")


def _suffix(speech, vowels: str) -> str:
    """The part of a flow's name that says its vowels; ``InputError`` if the corpus lacks one of them."""
    if vowels in ("five", "all"):
        return "" if vowels == "five" else "-all"
    wanted = {*vf.readers.wanted_phones(vowels)}
    if missing := wanted - {*speech.table.phone}:
        labels = ", ".join(sorted(missing))
        raise InputError(f"no segment of {speech.name} is labelled {labels}; leave it out of --vowels")
    return "-" + "-".join(sorted(wanted))


@_command(
    "measure the likelihood and the limits of a flow, and write its model card", _MODEL,
    _option("--corpus", metavar="NAME", help="the corpus of its training; default: as in its config.json"),
    _ROOT, _VOWELS,
    _option("--tokens", **_COUNT, default=500, help="segments to encode and decode; default: 500"),
    _option("--samples", **_COUNT, default=1000, help="random codes to decode; default: 1000"),
    _option("--lines", **_COUNT, default=100, help="lines between codes, of 11 points each; default: 100"),
    _option("--draws", **_COUNT, default=8, help="draws of dequantization noise, at most; default: 8"),
    _option("--unseen", dest="others", action="append", default=[], metavar="NAME", help="a corpus of other speakers"),
)  # fmt: skip
def _measure(model, corpus, root, vowels, tokens, samples, lines, draws, others) -> None:
    vf.checkpoint.load_model(model)  # an unknown or damaged one is reported before anything is read
    folder = vf.checkpoint.model_folder(model)
    metrics, recipe = folder / "metrics.json", vs.references.RECIPES.get(folder.name)
    if corpus or not recipe:
        config = json.loads((folder / "config.json").read_text())
        own = config.get("corpus", "auto"), root, ",".join(config.get("vowels", ["five"]))
        speech = vf.readers.load_corpus(*((corpus, root, vowels) if corpus else own))
    else:
        speech = recipe.speech(root)
    others = [vf.readers.load_corpus(name) for name in others]
    try:
        before = json.loads(metrics.read_text())["exactness"]["tokens"] if metrics.is_file() else 0
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{metrics} holds no numbers of a card; remove it, and measure again") from None
    if tokens < min(before, len(speech)):
        raise InputError(
            f"{metrics} is of {before} tokens, and {tokens} would replace them: ask for as many, or measure a"
            f" copy of {folder}"
        )
    print(f"measuring {folder}: its likelihood on every held-out token takes minutes", flush=True)
    vs.cards.measure(folder, speech, others, draws, tokens, samples, lines)
    print((folder / "README.md").read_text())
    print(f"the card: {folder / 'README.md'}; its numbers: {metrics}")


@_command(
    "show what a corpus holds", _option("name", metavar="NAME", help=_CORPORA), _ROOT, _VOWELS,
    _option("--save", type=Path, metavar="FILE", help="write the segments to one file, for --root"),
)  # fmt: skip
def _corpus(name, root, vowels, save) -> None:
    corpus = vf.readers.load_corpus(name, root, vowels)
    if save and (len(corpus.sounds) > 1 or corpus.name == "klatt" or Path(root or "").is_file()):
        raise InputError(
            f"{name} cannot be saved: one corpus at a time, from its folder; klatt is made anywhere"
        )
    if save and save.exists() and not zipfile.is_zipfile(save):
        raise InputError(f"{save} is there and no file of clips; give another name")
    print(corpus.summary())
    medians = vs.measures.vowel_space(corpus).groupby(["phone", "sex"]).median().round(0)
    print(f"\nformants in Hz (Praat, Burg), medians of at most 20 segments\n{medians.to_string()}")
    if save:
        source = corpus.sounds[corpus.name].path
        vf.base.save_atomically(save, lambda path: shutil.copyfile(source, path))
        print(f"\nsaved: {save}, {save.stat().st_size / 1e6:.1f} MB")


@_command(
    "test every claim in full, about an hour for each flow; an interrupted run continues", _CORPUS, _ROOT, _SEED,
    _option("--flow", metavar="MODEL", help="default: the flow that a study of the corpus uses"),
    _option("--claim", metavar="ID", help="one claim only, by its id in verdicts.json, such as gaussian"),
    _option("--with-shared", action="store_true", help="with sentences that all speakers say, reported beside"),
    _option(
        "--own-directions", action="store_true",
        help="with directions from other speakers of the same corpus, reported beside",
    ),
)  # fmt: skip
def _evidence(corpus, root, seed, flow, claim, with_shared, own_directions) -> None:
    if claim:
        vs.experiments.claim_named(claim)  # an unknown one is reported before anything is read
    speech = vf.readers.load_corpus(corpus, root)
    print(speech.summary(), flush=True)
    name = flow or vs.references.reference_model(speech, seed=seed)[1]
    setting = vs.folds.open_setting(speech, name, vs.protocol.FULL, seed, root, with_shared, own_directions)
    print(f"\nthe flow: {setting.flow}; directions from {setting.source}", flush=True)
    suffix = vs.evidence.WITH_SHARED * with_shared + vs.evidence.OWN_DIRECTIONS * own_directions
    vs.evidence.run_all(setting, claim, suffix=suffix + f"{vs.evidence.OTHER_SEED}{seed}" * (seed != 0))
    main = vs.evidence.results_folder(speech, setting.flow.split("-seed-")[0])
    if main.is_dir():
        print(f"verdicts: {vs.tables.write_verdicts(main)}")
    vs.tables.renew_readme(repository())
    print("README.md and results/verdicts.svg are up to date")


@_command(
    "fit the judges of vowels and sex on speech that no test uses",
    _option("corpus", metavar="NAME", help="librispeech, for real speech; or klatt"), _ROOT,
    _option("--out", type=Path, metavar="FILE", help="default: replace the judges under models/"),
)  # fmt: skip
def _judges(corpus, root, out) -> None:
    speech = vf.readers.load_corpus(corpus, root, "five" if corpus == "klatt" else "all")
    if speech.name not in ("klatt", "librispeech") and not out:
        raise InputError(
            f"the study tests {speech.name}, so its judges must not learn it; name another place with --out"
        )
    kind = "klatt" if speech.name == "klatt" else "speech"
    path = out or vf.checkpoint.models_folder() / f"judges-{kind}.safetensors"
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    found = vs.judges.fit_judges(speech)
    found.save(path)
    print(f"{path}: accuracy on test speakers' tokens {found.about['accuracy']}")


@_command(
    "measure the controls of all judges, for the book",
    _option("--speech", metavar="DIR", help="folder of LibriSpeech; default: LIBRISPEECH_ROOT"),
    _ROOT,
)  # fmt: skip
def _controls(speech, root) -> None:
    valid = vf.readers.load_corpus("librispeech", speech, "all")
    print(vs.controls.write_controls(valid, vf.readers.load_corpus("timit-sample", root)))


@_command(
    "write a flow as ONNX, to encode and decode without torch", _MODEL, _CORPUS, _ROOT,
    _option("--half", action="store_true", help="weights in 16 bits: half the size, a little less exact"),
    _option("--page", action="store_true", help="all files of the book's explorer, with tokens of --corpus"),
    _option("--out", type=Path, metavar="DIR", help="default: build/onnx/MODEL; with --page, build/explorer"),
)  # fmt: skip
def _export(model, corpus, root, half, page, out) -> None:
    if page:
        folder = out or build_folder() / "explorer"
        setting = vs.folds.open_setting(vf.readers.load_corpus(corpus, root), model, root=root)
        for name, size in vs.page.write_page(vs.explorer.Explorer(setting), folder).items():
            print(f"{folder / name}, {size / 1e6:.1f} MB")
        return
    name = vf.checkpoint.model_folder(model).resolve().name + "-half" * half
    folder = out or build_folder() / "onnx" / name
    print(f"exporting {model} ...", flush=True)
    for name, difference in vf.export.export(vf.checkpoint.load_model(model), folder, half).items():
        path = folder / f"{name}.onnx"
        print(f"{path}, {path.stat().st_size / 1e6:.1f} MB: within {difference:.1g} of torch")


@_command(
    "build the book from the results of the last run",
    _option("--url", help="the address of the book; adds a site map and link previews"),
    _option("--repository", metavar="URL", help="at GitHub, unless _config.yml has it; adds buttons"),
)  # fmt: skip
def _book(url=None, repository=None) -> None:
    print("building the book ...", flush=True)
    print(f"the book: {vs.book.build_book(url=url, address=repository)}")


@_command("check every link to the outside")
def _links() -> None:
    vs.links.check_links(repository())


if __name__ == "__main__":
    sys.exit(main())
