"""Evidence: measure, read and check the full protocol's results, ``results/CORPUS/FLOW/CLAIM.json``."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from vowelflow.base import repository
from vowelflow.checkpoint import file_hash, model_folder
from vowelflow.corpus import Corpus

from .experiments import CLAIMS, Claim, claim_named, measure
from .folds import Setting
from .judges import load_judges
from .protocol import PROTOCOLS
from .results import read_json, write_json
from .statistics import plain, with_holm

# Names of folders of results that are reported beside others end in these.
WITH_SHARED, OTHER_SEED, OWN_DIRECTIONS = "-with-shared", "-sampling-seed-", "-own-directions"


def results_folder(corpus: Corpus, flow: str, home: Path | None = None) -> Path:
    """The folder of the full results of a corpus and a flow: ``results/CORPUS/FLOW``.

    For users' own corpora, the name has the corpus's fingerprint, too.
    """
    own = f"-{corpus.fingerprint}" if "textgrid" in corpus.name else ""
    return (home or repository()) / "results" / f"{corpus.name}{own}" / flow


def run_all(setting: Setting, only: str | None = None, home: Path | None = None, suffix: str = "") -> Path:
    """Measure every claim, or only one, unless its result is up to date; return the folder of results.

    Each result is written as soon as it is measured, so an interrupted run resumes. ``suffix`` tells apart
    results that are reported beside the main ones.
    """
    folder = results_folder(setting.corpus, setting.flow + suffix, home)
    claims = [claim_named(only)] if only else list(CLAIMS.values())
    start, done = time.monotonic(), 0
    for place, claim in enumerate(claims):
        path = folder / f"{claim.id}.json"
        wanted = plain(setting.provenance() | {"version": claim.version})
        if path.is_file() and read_json(path)["provenance"] == wanted:
            print(f"{claim.id}: already measured", flush=True)
            continue
        print(f"[{place + 1}/{len(claims)}] {claim.id} ...", flush=True)
        result, done = measure(claim.id, setting), done + 1
        write_json(path, result)
        for row in result["findings"]:
            print(f"  {row['question']}: {row['answer']}: {row['part']} ({row['reason']})", flush=True)
        minutes = (time.monotonic() - start) / 60
        left = minutes / done * (len(claims) - place - 1)
        print(f"  {result['seconds']:.0f} s; about {left:.0f} minutes left", flush=True)
    return folder


def full_results(folder: Path) -> dict[str, dict]:
    """The results that ``run_all`` wrote into a folder, by claim, with ``stale`` of ``is_stale``."""
    paths = {name: folder / f"{name}.json" for name in CLAIMS}
    found = {name: read_json(path) for name, path in paths.items() if path.is_file()}
    return {name: one | {"stale": is_stale(one["provenance"], CLAIMS[name])} for name, one in found.items()}


def is_stale(made_by: dict, claim: Claim) -> bool:
    """Whether a claim's version, protocol, judges or weights have changed since a result was made.

    Weights that are not on this computer count as unchanged.
    """
    file = model_folder(made_by["flow"]) / "model.safetensors"
    now = {
        "version": claim.version, "judges": load_judges(made_by["corpus"]).origin,
        "protocol": plain(asdict(PROTOCOLS[made_by["protocol"]["name"]])),
        "weights": file_hash(file) if file.is_file() else made_by["weights"],
    }  # fmt: skip
    return any(made_by[name] != value for name, value in now.items())


def all_findings(results: dict[str, dict]) -> list[dict]:
    """All findings of several results, with Holm's correction over the primary ones of each question."""
    return with_holm([row for result in results.values() for row in result["findings"]])
