"""Evidence: measure, read and check the full protocol's results, ``results/CORPUS/FLOW/CLAIM.json``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from vowelflow.base import repository
from vowelflow.checkpoint import file_hash, model_folder
from vowelflow.corpus import Corpus

from .experiments import CLAIMS, Claim, claim_named, measure
from .folds import Setting
from .protocol import PROTOCOLS
from .results import read_json, write_json
from .statistics import plain, with_holm
from .vowel_judge import load_judge

# Names of folders of results that are reported separately end in these.
WITH_SHARED, OTHER_SEED = "-with-shared", "-seed-"


def results_folder(corpus: Corpus, flow: str, home: Path | None = None) -> Path:
    """The folder of the full results of a corpus and a flow: ``results/CORPUS/FLOW``.

    For users' own corpora, the name has the corpus's fingerprint, too.
    """
    own = f"-{corpus.fingerprint}" if "textgrid" in corpus.name else ""
    return (home or repository()) / "results" / f"{corpus.name}{own}" / flow


def run_all(setting: Setting, only: str | None = None, home: Path | None = None) -> Path:
    """Measure every claim, or only one, unless its result is up to date; return the folder of results.

    Each result is written as soon as it is measured, so an interrupted run resumes. Results with the
    sentences that all speakers read are in a folder that ends in ``WITH_SHARED``, results of a seed other
    than 0 in one that ends in ``OTHER_SEED`` and the seed.
    """
    suffix = WITH_SHARED * setting.tokens.with_shared + f"{OTHER_SEED}{setting.seed}" * (setting.seed != 0)
    folder = results_folder(setting.corpus, setting.flow + suffix, home)
    for claim in [claim_named(only)] if only else CLAIMS.values():
        path = folder / f"{claim.id}.json"
        wanted = plain(setting.provenance() | {"version": claim.version})
        if path.is_file() and read_json(path)["provenance"] == wanted:
            print(f"{claim.id}: already measured", flush=True)
            continue
        print(f"{claim.id} ...", flush=True)
        result = measure(claim.id, setting)
        write_json(path, result)
        for row in result["findings"]:
            line = f"  {row['verdict']}: {row['part']} ({row['reason']}), {result['seconds']:.0f} s"
            print(line, flush=True)
    return folder


def full_results(folder: Path) -> dict[str, dict]:
    """The results that ``run_all`` wrote into a folder, by claim, with ``stale`` of ``is_stale``."""
    paths = {name: folder / f"{name}.json" for name in CLAIMS}
    found = {name: read_json(path) for name, path in paths.items() if path.is_file()}
    return {name: one | {"stale": is_stale(one["provenance"], CLAIMS[name])} for name, one in found.items()}


def is_stale(made_by: dict, claim: Claim) -> bool:
    """Whether a claim's version, protocol, judge or weights have changed since a result was made.

    Weights that are not on this computer count as unchanged.
    """
    names = [made_by["flow"], *(f"{made_by['flow']}-{fold}" for fold in (1, 2, 3, 4))]
    files = [model_folder(name) / "model.safetensors" for name in names]
    here = [file_hash(file) for file in files if file.is_file()]
    now = {
        "version": claim.version, "judge": load_judge(made_by["corpus"]).origin,
        "protocol": plain(asdict(PROTOCOLS[made_by["protocol"]["name"]])),
        "weights": here or made_by["weights"],
    }  # fmt: skip
    return any(made_by[name] != value for name, value in now.items())


def all_findings(results: dict[str, dict]) -> list[dict]:
    """All findings of several results, with Holm's correction over the primary ones."""
    return with_holm([row for result in results.values() for row in result["findings"]])
