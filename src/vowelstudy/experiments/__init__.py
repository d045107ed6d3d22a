"""Experiments: one function for each claim of the paper, and its findings."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass

from vowelflow.base import InputError

from ..folds import Setting
from ..statistics import LEVEL, REPRODUCED, UNDECIDED, YES, findings, plain
from . import (
    denoising,
    density,
    directions,
    discrimination,
    distributions,
    interpolation,
    sampling,
    unsupervised,
)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, and the experiment that tests it."""

    id: str
    section: str
    statement: str
    notebook: str
    experiment: Callable[..., dict]  # its arguments are fields of a ``Setting``
    version: int = 2  # raised by hand when its numbers may change


CLAIMS = {
    claim.id: claim
    for claim in (
        Claim("gaussian", "4.2", "Codes are far more Gaussian than observations.",
              "03_distributions", distributions.gaussian),
        Claim("likelihood", "4.2", "The flow is well trained.", "03_distributions", distributions.likelihood),
        Claim("samples", "4.3", "Samples are meaningful speech.", "04_sampling", sampling.samples),
        Claim("silence", "4.3", "Most of the samples are silent.", "04_sampling", sampling.silence),
        Claim("interpolation", "4.4",
              "Between two codes one factor changes gradually, and all is still speech.",
              "05_interpolation", interpolation.interpolation),
        Claim("density", "4.4",
              "The code space is dense: a point between two tokens has a probability between theirs.",
              "05_interpolation", density.density),
        Claim("direction", "4.4, 5", "One factor is one direction.", "08_directions", directions.direction),
        Claim("composition", "4.4", "Factors can be changed one after another.",
              "08_directions", directions.composition),
        Claim("unsupervised", "title", "Factors are found without labels.",
              "08_directions", unsupervised.unsupervised),
        Claim("denoising", "4.5", "Noise goes along minus the displacement from clean to noisy codes.",
              "06_denoising", denoising.denoising),
        Claim("discrimination", "4.6", "Class information is largely lost in the codes.",
              "07_discrimination", discrimination.discrimination),
    )
}  # fmt: skip


def claim_named(name: str) -> Claim:
    """The claim with this id; ``InputError`` if there is none."""
    if name not in CLAIMS:
        raise InputError(f"no claim {name!r}; there are {', '.join(CLAIMS)}")
    return CLAIMS[name]


def measure(name: str, setting: Setting) -> dict:
    """Run the experiment of one claim.

    Returns:
        ``claim``, ``findings`` (rows of ``verdicts.json``), ``numbers`` (for tables and figures), ``null``
        (false positives over shuffles), ``provenance`` with the ``version`` of the claim, and ``seconds``.

    Raises:
        InputError: there is no such claim.
    """
    claim, start = claim_named(name), time.monotonic()
    arguments = inspect.signature(claim.experiment).parameters
    found = claim.experiment(**{argument: getattr(setting, argument) for argument in arguments})
    rows = [row for one in found["comparisons"] for row in findings(one)] or [_nothing(claim)]
    about = {
        "section": claim.section, "statement": claim.statement, "notebook": claim.notebook,
        "observation": setting.tokens.observation.name, "scale": setting.scale, "version": claim.version,
        "seeds": {},
    }  # fmt: skip
    rows = [_checked(row, found["null"]) | about for row in rows]
    return plain({
        "claim": name, "findings": rows, "numbers": found["numbers"], "null": found["null"],
        "provenance": setting.provenance() | {"version": claim.version},
        "seconds": round(time.monotonic() - start, 1),
    })  # fmt: skip


def _checked(row: dict, null: dict | None) -> dict:
    """The row, undecided if its test finds effects in more than 5 % of label shuffles."""
    if null is None or null["of"] != "labels shuffled" or null["interval"][0] <= LEVEL:
        return row
    if row["answer"] not in (REPRODUCED, YES):
        return row
    reason = f"its test finds an effect in {null['share']:.0%} of label shuffles, not in 5 %"
    return row | {"answer": UNDECIDED, "reason": reason}


def _nothing(claim: Claim) -> dict:
    """The row of a claim that cannot be tested in this setting."""
    return {
        "claim": claim.id, "part": "", "question": "effect", "primary": True, "code": "-", "metric": "",
        "better": "more", "method": "", "estimate": None, "interval": None, "baselines": {}, "beside": {},
        "margin": None, "judges": {}, "rank_p": None, "answer": UNDECIDED,
        "reason": "nothing to compare with in this setting", "n": 0, "speakers": 0,
    }  # fmt: skip
