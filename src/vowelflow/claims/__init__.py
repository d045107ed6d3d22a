"""Claims: what the paper says, one function each that measures it on a bench, and the findings that come of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from ..checkpoint import file_hash, model_folder
from ..corpus import Corpus, InputError, save_atomically
from ..depths import DEPTHS
from ..evidence import Bench
from ..findings import HOLDS, LEVEL, OPEN, PARTLY, finding, plain, with_holm
from ..listener import load_listener
from . import data, denoising, directions, discrimination, distributions, lines, sampling


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, and where it is put to the test."""

    id: str
    section: str
    statement: str
    notebook: str
    home: ModuleType  # that measures it
    version: int = 1  # raised by hand when its numbers may change

    @property
    def measure(self) -> Callable[[Bench], dict]:
        return getattr(self.home, self.id)


WITH_SHARED, OTHER_SEED = "-with-shared", "-seed-"  # of folders of results that are told beside
CLAIMS = {
    claim.id: claim
    for claim in (
        Claim("data", "4.1", "Five vowels of TIMIT become spectrograms of 288x288.", "01_data", data),
        Claim("gaussian", "4.2", "Codes are far more Gaussian than observations.", "03_distributions", distributions),
        Claim("likelihood", "4.2", "The flow is well trained.", "03_distributions", distributions),
        Claim("samples", "4.3", "Samples are meaningful speech; most of them are silent.", "04_sampling", sampling),
        Claim("interpolation", "4.4", "Between two codes one factor changes gradually, and all is still speech.", "05_interpolation", lines),
        Claim("density", "4.4", "The code space is dense: a point between two tokens has a probability between theirs.", "05_interpolation", lines),
        Claim("direction", "4.4, 5", "One factor is one direction.", "08_directions", directions),
        Claim("composition", "4.4", "Factors can be changed one after another.", "08_directions", directions),
        Claim("unsupervised", "title", "Factors are found without labels.", "08_directions", directions),
        Claim("denoising", "4.5", "Noise goes along minus the displacement from clean to noisy codes.", "06_denoising", denoising),
        Claim("discrimination", "4.6", "Class information is largely lost in the codes.", "07_discrimination", discrimination),
    )
}  # fmt: skip


def claim_named(name: str) -> Claim:
    """The claim of this id, or ``InputError``."""
    if name not in CLAIMS:
        raise InputError(f"no claim {name!r}; there are {', '.join(CLAIMS)}")
    return CLAIMS[name]


def measure(name: str, bench: Bench) -> dict:
    """Measure one claim on a bench.

    Returns:
        ``claim``, ``findings`` (rows of ``verdicts.json``), ``numbers`` (for figures), ``null`` (false positives over label
        shuffles), ``provenance`` with the ``version`` of the claim, and ``seconds``.
    """
    claim, start = claim_named(name), time.monotonic()
    found = claim.measure(bench)
    about = {"section": claim.section, "statement": claim.statement, "notebook": claim.notebook, "scale": bench.scale}
    rows = [_checked(finding(contest), found["null"]) | about for contest in found["tests"]]
    if not rows:
        rows = [_not_asked(claim) | about]
    return plain({
        "claim": name, "findings": rows, "numbers": found["numbers"], "null": found["null"],
        "provenance": bench.provenance() | {"version": claim.version}, "seconds": round(time.monotonic() - start, 1),
    })  # fmt: skip


def _checked(row: dict, null: dict | None) -> dict:
    """Nothing holds whose test says something of shuffled labels more often than it may."""
    if (
        null is None
        or null["of"] != "labels shuffled"
        or null["interval"][0] <= LEVEL
        or row["verdict"] not in (HOLDS, PARTLY)
    ):
        return row
    return row | {
        "verdict": OPEN,
        "reason": f"its test says something of {null['share']:.0%} of label shuffles, not of 5 %",
    }


def _not_asked(claim: Claim) -> dict:
    """The row of a claim that this corpus cannot be asked about."""
    return {
        "claim": claim.id, "part": "", "primary": True, "code": "-", "metric": "", "better": "more", "contestant": "", "estimate": None,
        "interval": None, "baselines": {}, "beside": {}, "margin": None, "rank_p": None, "verdict": "not testable here",
        "reason": "nothing to compare with for this corpus", "n": 0, "clusters": 0,
    }  # fmt: skip


def results_folder(corpus: Corpus, flow: str, home: Path | None = None) -> Path:
    """Where the full results of a corpus and a flow lie: ``results/CORPUS/FLOW``.

    Users' own corpora go by their fingerprint, too. Those with the sentences that everybody says have ``WITH_SHARED``
    appended, those of another seed than 0 ``OTHER_SEED`` and it.
    """
    from ..study import repository

    own = f"-{corpus.fingerprint}" if "textgrid" in corpus.name else ""
    return (home or repository()) / "results" / f"{corpus.name}{own}" / flow


def run_all(bench: Bench, only: str | None = None, home: Path | None = None) -> Path:
    """Measure every claim, or the one called ``only``, into ``results/``; what is there and fresh is kept.

    A claim is written as soon as it is measured, so a run that is cut short goes on where it was.
    """
    beside = WITH_SHARED * bench.with_shared + f"{OTHER_SEED}{bench.seed}" * (bench.seed != 0)
    folder = results_folder(bench.corpus, bench.flow + beside, home)
    for claim in [claim_named(only)] if only else CLAIMS.values():
        path = folder / f"{claim.id}.json"
        wanted = plain(bench.provenance() | {"version": claim.version})
        if path.is_file() and json.loads(path.read_text())["provenance"] == wanted:
            print(f"{claim.id}: there already", flush=True)
            continue
        print(f"{claim.id} ...", flush=True)
        result = measure(claim.id, bench)
        save_atomically(path, lambda file, result=result: file.write_text(dumps(result), encoding="utf-8"))
        for row in result["findings"]:
            print(f"  {row['verdict']}: {row['part']} ({row['reason']}), {result['seconds']:.0f} s", flush=True)
    return folder


def full_results(folder: Path) -> dict[str, dict]:
    """What ``run_all`` wrote into a folder, by claim; each with ``stale``, whether the claim's version, flow or listener have changed since."""
    found = {}
    for claim in CLAIMS.values():
        path = folder / f"{claim.id}.json"
        if path.is_file():
            result = json.loads(path.read_text(encoding="utf-8"))
            found[claim.id] = result | {"stale": is_stale(result["provenance"], claim)}
    return found


def is_stale(made_by: dict, claim: Claim) -> bool:
    """Whether a result's version, the weights that are here under its flow's name, or the listener are others than it was made by."""
    folders = [model_folder(made_by["flow"]), *(model_folder(f"{made_by['flow']}-{fold}") for fold in (1, 2, 3, 4))]
    here = [file_hash(one / "model.safetensors") for one in folders if (one / "model.safetensors").is_file()]
    now = {
        "version": claim.version, "listener": load_listener(made_by["corpus"]).origin,
        "depth": plain(asdict(DEPTHS[made_by["depth"]["name"]])), "weights": here or made_by["weights"],
    }  # fmt: skip
    return any(made_by[name] != value for name, value in now.items())


def all_findings(results: dict[str, dict]) -> list[dict]:
    """Every row of some results, with Holm's correction over their primary ones."""
    return with_holm([row for result in results.values() for row in result["findings"]])


def dumps(value) -> str:
    """JSON as all results are kept: floats to six significant digits."""
    return json.dumps(_rounded(value), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
