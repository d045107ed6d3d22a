"""The command line: ``vowelflow study | train | measure | corpus | export | book | links``.

Nothing heavy is imported before it is known what to do, so that help is instant.
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
from pathlib import Path

CORPORA = "auto, timit, timit-sample, librispeech, textgrid, klatt, or several with + between"
ROOT = f"the corpus's folder, or a saved file; for several corpora one each, with {os.pathsep!r} between"
PROFILES = ("smoke", "cpu", "paper")  # of a study
TRAINED = ("vowel", "vowel-noise", "padded", *PROFILES, "cpu-noise", "cpu-crop")


_UNWRITABLE = (
    "; name a folder you may write to: --out, VOWELFLOW_BUILD for what is built, VOWELFLOW_CACHE for downloads"
)
_FULL = "; make room and run the same again: what was finished is whole, and is kept"
_TAKEN = "; name a folder where a folder is wanted, and a file where a file is, or another place"
REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _UNWRITABLE),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), _TAKEN),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if all went well, 1 if the study failed, 2 if what was given is not usable."""
    began = time.monotonic()
    options = _parser().parse_args(arguments)
    options.began = began

    from safetensors import SafetensorError

    from .corpus import InputError, TrainingError
    from .study import StudyError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a label in a script that the terminal lacks must not end a long run
            stream.reconfigure(errors="backslashreplace")
    try:
        options.run(options)
    except InputError as error:
        print(f"vowelflow: error: {error}", file=sys.stderr)
        return 2
    except (StudyError, TrainingError) as error:
        print(f"vowelflow: {error}", file=sys.stderr)
        return 1
    except SafetensorError as error:  # which has no number
        print(f"vowelflow: error: weights or codes cannot be read or written: {error}{_FULL}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "home directory" not in str(error):  # of a path that begins with ~
            raise
        print(f"vowelflow: error: {error} Give a whole path instead of ~", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever was reading has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"vowelflow: error: {error}{REMEDIES.get(error.errno, '')}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"vowelflow: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vowelflow", description="Speech factorization with a flow, put to the test.")
    parser.add_argument("--version", action=_Version, nargs=0, help="tell the version and leave")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    study = commands.add_parser("study", help="run the notebooks, then build the book")
    _add_speech(study)
    study.add_argument("--only", metavar="NAME", help="run this notebook alone, such as 01_data, and build no book")
    study.set_defaults(run=_study)

    train = commands.add_parser("train", help="train a flow")
    train.add_argument(
        "name",
        metavar="MODEL",
        nargs="?",
        help="a reference model, such as speech, by its recipe: it sets corpus, vowels, profile, steps and seed",
    )
    _add_speech(train, TRAINED, "vowel")
    _add_vowels(train)
    train.add_argument(
        "--steps", type=_at_least_one, metavar="N", help="horizon of the schedule, instead of the profile's own"
    )
    train.add_argument(
        "--minutes",
        type=_positive,
        default=math.inf,
        metavar="M",
        help="be done, with everything saved, within so many",
    )
    train.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in --out, if there is any"
    )
    train.add_argument(
        "--devices",
        type=_at_least_one,
        default=1,
        metavar="N",
        help="GPUs of a node, or processes where there is none; 1",
    )
    train.add_argument(
        "--nodes", type=_at_least_one, default=1, metavar="N", help="machines, each with so many devices; 1"
    )
    train.add_argument(
        "--start-from",
        metavar="MODEL",
        help="begin with the weights of this model, a name under models/ or a folder, and a fresh optimizer",
    )
    train.add_argument("--out", type=Path, metavar="DIR", help="where weights, log and checkpoints go")
    train.set_defaults(run=_train)

    measure = commands.add_parser(
        "measure", help="measure a flow, its likelihood and its limits, and write its model card"
    )
    measure.add_argument("model", metavar="MODEL", help="a name under models/, or a folder with weights")
    measure.add_argument(
        "--corpus", metavar="NAME", help="what the flow was trained on; default: what its config.json says"
    )
    measure.add_argument("--root", metavar="DIR", help=ROOT)
    _add_vowels(measure)
    measure.add_argument("--tokens", type=_at_least_one, default=500, metavar="N", help="to encode and decode; 500")
    measure.add_argument("--samples", type=_at_least_one, default=1000, metavar="N", help="to draw; 1000")
    measure.add_argument("--lines", type=_at_least_one, default=100, metavar="N", help="of 11 points each; 100")
    measure.add_argument(
        "--draws", type=_at_least_one, default=8, metavar="N", help="of dequantization noise, at most; 8"
    )
    measure.add_argument(
        "--unseen", action="append", default=[], metavar="NAME", help="another corpus, whose speakers it has not met"
    )
    measure.set_defaults(run=_measure)

    corpus = commands.add_parser("corpus", help="tell what a corpus holds")
    corpus.add_argument("name", metavar="NAME", help=CORPORA)
    corpus.add_argument("--root", metavar="DIR", help=ROOT)
    _add_vowels(corpus)
    corpus.add_argument(
        "--save", type=Path, metavar="FILE", help="write all it takes to one file, to be given as --root"
    )
    corpus.set_defaults(run=_corpus)

    evidence = commands.add_parser(
        "evidence", help="put every claim to the test, in full: hours, and it goes on where it was"
    )
    evidence.add_argument("--corpus", metavar="NAME", default="auto", help=f"{CORPORA}; default: auto")
    evidence.add_argument("--root", metavar="DIR", help=ROOT)
    evidence.add_argument("--flow", metavar="MODEL", help="default: the flows that a study of the corpus uses")
    evidence.add_argument("--claim", metavar="ID", help="one claim alone, by its id in verdicts.json, such as gaussian")
    evidence.add_argument(
        "--seed", type=_seed, default=0, help="of all that is drawn; default: 0, and results of others are told beside"
    )
    evidence.add_argument(
        "--with-shared", action="store_true", help="once more with sentences that everybody says, to be told beside"
    )
    evidence.set_defaults(run=_evidence)

    listener = commands.add_parser(
        "listener", help="fit the judge that listens anew, on speech that nothing else is tested on"
    )
    listener.add_argument("corpus", metavar="NAME", help="librispeech, for real speech; or klatt")
    listener.add_argument("--root", metavar="DIR", help=ROOT)
    listener.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="default: models/listener-speech.safetensors, or -klatt, which is replaced",
    )
    listener.set_defaults(run=_listener)

    export = commands.add_parser("export", help="write a flow as ONNX, to encode and decode without torch")
    export.add_argument("model", metavar="MODEL", help="a name under models/, or a folder with weights")
    export.add_argument(
        "--half", action="store_true", help="keep weights in 16 bits: about half the size, a little less exact"
    )
    export.add_argument(
        "--out", type=Path, metavar="DIR", help="default: build/onnx/MODEL, or MODEL-half; of --page, build/explorer"
    )
    export.add_argument(
        "--page",
        action="store_true",
        help="all that the book's explorer loads: with a corpus's tokens and displacements",
    )
    export.add_argument("--corpus", metavar="NAME", default="auto", help=f"of --page: {CORPORA}; default: auto")
    export.add_argument("--root", metavar="DIR", help=ROOT)
    export.set_defaults(run=_export)

    book = commands.add_parser("book", help="build the book from the notebooks last run")
    book.add_argument("--url", help="where the book will be published; adds a site map and link previews")
    book.add_argument(
        "--repository",
        metavar="URL",
        help="of the repository at GitHub, if _config.yml does not have it; adds buttons that edit and launch a page",
    )
    book.set_defaults(run=_book)

    links = commands.add_parser("links", help="ask every outside address of the prose whether it still answers")
    links.set_defaults(run=_links)
    return parser


class _Version(argparse.Action):
    """Tells the version of the installed package, which takes a moment to look up."""

    def __call__(self, parser, *_):
        from importlib.metadata import version

        print(f"vowelflow {version('vowelflow')}")
        parser.exit()


def _at_least_one(text: str) -> int:
    """A whole number of one or more, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seed(text: str) -> int:
    """What numpy, torch and scikit-learn all take as a seed, for argparse."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**31 - 1}")
    return int(text)


def _positive(text: str) -> float:
    """A number above zero, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _add_speech(parser: argparse.ArgumentParser, profiles=PROFILES, profile: str = "cpu") -> None:
    parser.add_argument("--corpus", metavar="NAME", default="auto", help=f"{CORPORA}; default: auto")
    parser.add_argument("--root", metavar="DIR", help=ROOT)
    parser.add_argument(
        "--profile", choices=profiles, default=profile, help=f"how large and how long; default: {profile}"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="default: 0")


def _add_vowels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vowels", metavar="LABELS", default="five", help="five (default), all, or labels: aa,iy")


def _study(options) -> None:
    from .study import run_study

    run_study(options.corpus, options.root, options.profile, options.seed, options.only)
    if not options.only:
        _book(options)


def _book(options) -> None:
    from .study import build_book

    print("building the book ...", flush=True)
    addresses = {"url": getattr(options, "url", None), "address": getattr(options, "repository", None)}
    print(f"the book: {build_book(**addresses)}")


def _links(options) -> None:
    from .links import check_links
    from .study import repository

    check_links(repository())


def _train(options) -> None:
    from .checkpoint import shelves
    from .corpus import InputError
    from .figures import save_training_curve
    from .readers import load_corpus, wanted_phones
    from .references import recipe_named
    from .training import profile_named, train

    if options.name:
        if (options.corpus, options.vowels, options.profile) != ("auto", "five", "vowel"):
            raise InputError(f"the recipe of {options.name} sets corpus, vowels and profile; leave them out")
        recipe = recipe_named(options.name)
        profile, speech, name = recipe.settings(), recipe.speech(options.root), options.name
        options.seed, options.start_from = options.seed or recipe.seed, options.start_from or recipe.start_from
    else:
        profile, speech = profile_named(options.profile), load_corpus(options.corpus, options.root, options.vowels)
        wanted = set() if options.vowels in ("five", "all") else {*wanted_phones(options.vowels)}
        if missing := wanted - {*speech.table.phone}:
            raise InputError(
                f"no segment of {speech.name} is labelled {', '.join(sorted(missing))}; leave it out of --vowels"
            )
        vowels = "" if options.vowels == "five" else "-" + "-".join(sorted(wanted or {"all"}))
        name = f"{options.profile}-{speech.name}{vowels}"
    if options.steps:
        profile = replace(profile, iterations=options.steps)
    folder = options.out or shelves()[1] / name
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    chief = next(filter(None, ranks), "0") == "0"  # of the processes that train together
    if chief:
        print(speech.summary(), flush=True)
    minutes = options.minutes - (time.monotonic() - options.began) / 60
    given = {"devices": options.devices, "nodes": options.nodes, "start_from": options.start_from}
    train(speech, folder, profile, options.seed, minutes, options.resume, **given)
    if chief:
        save_training_curve(folder)
        print(f"weights, log, its figure and checkpoints: {folder}")
        done = json.loads((folder / "config.json").read_text())["steps"]
        rest = (
            ", for time is up: the same command with --resume goes on"
            if done < profile.iterations
            else ", which is all"
        )
        print(f"step {done:,} of {profile.iterations:,}{rest}")


def _measure(options) -> None:
    from .cards import measure
    from .checkpoint import load_model, model_folder
    from .corpus import InputError
    from .readers import load_corpus
    from .references import RECIPES

    load_model(options.model)  # an unknown or damaged one is told before anything is read
    folder = model_folder(options.model)
    config = json.loads((folder / "config.json").read_text())
    if options.corpus:
        speech = load_corpus(options.corpus, options.root, options.vowels)
    elif folder.name in RECIPES:
        speech = RECIPES[folder.name].speech(options.root)
    else:  # of one's own, which knows what it was trained on
        speech = load_corpus(config.get("corpus", "auto"), options.root, ",".join(config.get("vowels", ["five"])))
    others = [load_corpus(name) for name in options.unseen]
    kept = folder / "metrics.json"
    try:
        before = json.loads(kept.read_text())["exactness"]["tokens"] if kept.is_file() else 0
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{kept} holds no numbers of a card; remove it, and measure anew") from None
    if options.tokens < min(before, len(speech)):
        raise InputError(
            f"{kept} is of {before} tokens, and {options.tokens} would replace them: ask for as many, or measure a copy of {folder}"
        )
    print(f"measuring {folder}: its likelihood on every held-out token takes minutes", flush=True)
    measure(folder, speech, others, options.draws, options.tokens, options.samples, options.lines)
    print((folder / "README.md").read_text())
    print(f"the card: {folder / 'README.md'}; its numbers: {folder / 'metrics.json'}")


def _evidence(options) -> None:
    from .claims import claim_named, results_folder, run_all
    from .depths import FULL
    from .evidence import open_bench
    from .readers import load_corpus
    from .references import flows_of
    from .study import repository
    from .verdicts import renew_readme, write_verdicts

    if options.claim:
        claim_named(options.claim)  # an unknown one is told before anything is read
    speech = load_corpus(options.corpus, options.root)
    print(speech.summary(), flush=True)
    for flow in [options.flow] if options.flow else flows_of(speech, seed=options.seed):
        print(f"\nthe flow: {flow}", flush=True)
        bench = open_bench(speech, flow, FULL, options.seed, options.root, options.with_shared)
        run_all(bench, options.claim)
        print(f"verdicts: {write_verdicts(results_folder(speech, bench.flow))}")
    renew_readme(repository())
    print("told in README.md and results/verdicts.svg, too")


def _listener(options) -> None:
    from .checkpoint import models_folder
    from .corpus import InputError
    from .listener import fit_listener
    from .readers import load_corpus

    speech = load_corpus(options.corpus, options.root)
    if speech.name not in ("klatt", "librispeech") and not options.out:
        raise InputError(
            f"the judge that comes with the study listens to speech that nothing is tested on, which {speech.name} is;"
            " name another place with --out"
        )
    kind = "klatt" if speech.name == "klatt" else "speech"
    path = Path(options.out or models_folder() / f"listener-{kind}.safetensors")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    found = fit_listener(speech)
    found.save(path)
    print(f"{path}: right on {found.about['accuracy']} of test speakers' tokens")


def _export(options) -> None:
    from .checkpoint import load_model, model_folder, shelves
    from .export import export
    from .study import build_folder

    if options.page:
        from .evidence import open_bench
        from .explorer import Explorer
        from .page import write_page
        from .readers import load_corpus

        folder = options.out or build_folder() / "explorer"
        bench = open_bench(load_corpus(options.corpus, options.root), options.model, root=options.root)
        for name, size in write_page(Explorer(bench), folder).items():
            print(f"{folder / name}, {size / 1e6:.1f} MB")
        return
    name = model_folder(options.model).resolve().name + ("-half" if options.half else "")
    folder = options.out or shelves()[1].with_name("onnx") / name
    print(f"exporting {options.model} ...", flush=True)
    for name, difference in export(load_model(options.model), folder, options.half).items():
        path = folder / f"{name}.onnx"
        print(f"{path}, {path.stat().st_size / 1e6:.1f} MB: within {difference:.1g} of torch")


def _corpus(options) -> None:
    from .corpus import InputError, save_atomically
    from .judges import vowel_space
    from .readers import load_corpus

    corpus = load_corpus(options.name, options.root, options.vowels)
    if options.save and (len(corpus.sounds) > 1 or corpus.name == "klatt" or Path(options.root or "").is_file()):
        raise InputError(
            f"{options.name} cannot be saved: one corpus at a time, from its folder; klatt is made anywhere"
        )
    if options.save and options.save.exists() and not zipfile.is_zipfile(options.save):
        raise InputError(f"{options.save} is there and no file of clips; give another name")
    print(corpus.summary())
    medians = vowel_space(corpus).groupby(["phone", "sex"]).median().round(0)
    print(f"\nformants in Hz (Praat, Burg), for a first look: medians of at most 20 segments\n{medians.to_string()}")
    if options.save:
        source = corpus.sounds[corpus.name].path
        save_atomically(options.save, lambda path: shutil.copyfile(source, path))
        print(f"\nsaved: {options.save}, {options.save.stat().st_size / 1e6:.1f} MB")
