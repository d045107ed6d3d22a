"""Evidence: the full protocol's results, ``results/CORPUS/FLOW/CLAIM.json``: made, read, and compared with what is here now."""

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

WITH_SHARED, OTHER_SEED = (
    "-with-shared",
    "-seed-",
)  # at the end of folders of results that are reported separately


def results_folder(corpus: Corpus, flow: str, home: Path | None = None) -> Path:
    """Where the full results of a corpus and a flow are: ``results/CORPUS/FLOW``.

    The folders of users' own corpora also have their fingerprint. Results with sentences that every speaker reads end in
    ``WITH_SHARED``, those of another seed than 0 in ``OTHER_SEED`` and the seed.
    """
    own = f"-{corpus.fingerprint}" if "textgrid" in corpus.name else ""
    return (home or repository()) / "results" / f"{corpus.name}{own}" / flow


def run_all(setting: Setting, only: str | None = None, home: Path | None = None) -> Path:
    """Measure every claim, or the one called ``only``, into ``results/``; results that are there and fresh are kept.

    Each claim is written as soon as it is measured, so an interrupted run resumes.
    """
    suffix = WITH_SHARED * setting.tokens.with_shared + f"{OTHER_SEED}{setting.seed}" * (setting.seed != 0)
    folder = results_folder(setting.corpus, setting.flow + suffix, home)
    for claim in [claim_named(only)] if only else CLAIMS.values():
        path = folder / f"{claim.id}.json"
        wanted = plain(setting.provenance() | {"version": claim.version})
        if path.is_file() and read_json(path)["provenance"] == wanted:
            print(f"{claim.id}: there already", flush=True)
            continue
        print(f"{claim.id} ...", flush=True)
        result = measure(claim.id, setting)
        write_json(path, result)
        for row in result["findings"]:
            print(
                f"  {row['verdict']}: {row['part']} ({row['reason']}), {result['seconds']:.0f} s", flush=True
            )
    return folder


def full_results(folder: Path) -> dict[str, dict]:
    """What ``run_all`` wrote into a folder, by claim; ``stale`` says whether the claim's version, the flow or the judge have changed."""
    found = {}
    for claim in CLAIMS.values():
        path = folder / f"{claim.id}.json"
        if path.is_file():
            result = read_json(path)
            found[claim.id] = result | {"stale": is_stale(result["provenance"], claim)}
    return found


def is_stale(made_by: dict, claim: Claim) -> bool:
    """Whether the claim's version, the protocol, the flow's weights or the judge are not those that a result was made by."""
    folders = [
        model_folder(made_by["flow"]),
        *(model_folder(f"{made_by['flow']}-{fold}") for fold in (1, 2, 3, 4)),
    ]
    here = [file_hash(one / "model.safetensors") for one in folders if (one / "model.safetensors").is_file()]
    now = {
        "version": claim.version, "judge": load_judge(made_by["corpus"]).origin,
        "protocol": plain(asdict(PROTOCOLS[made_by["protocol"]["name"]])), "weights": here or made_by["weights"],
    }  # fmt: skip
    return any(made_by[name] != value for name, value in now.items())


def all_findings(results: dict[str, dict]) -> list[dict]:
    """All rows of some results, with Holm's correction over their primary ones."""
    return with_holm([row for result in results.values() for row in result["findings"]])
