"""The experiment that a chapter shows is the one that the full protocol measures: the cell tagged ``experiment``, run on one fold."""

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

import vowelflow as vf
import vowelstudy as vs
from vowelstudy.experiments import denoising, directions, discrimination
from vowelstudy.folds import open_setting
from vowelstudy.protocol import SMOKE
from vowelstudy.references import reference_model

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


@pytest.fixture(scope="module")
def setting(klatt, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOWELFLOW_BUILD", str(tmp_path_factory.mktemp("chapters")))
        patch.setattr("vowelstudy.discriminator.STEPS", 2)
        _, folder = reference_model(klatt, "smoke")
        yield open_setting(klatt, folder, SMOKE)


def run(chapter: str, setting) -> dict:
    """The names that the experiment of a chapter leaves behind."""
    cells = nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4).cells
    (cell,) = [cell for cell in cells if "experiment" in cell.metadata.get("tags", [])]
    assert len(cell.source.splitlines()) <= 15
    names = {"np": np, "pd": pd, "torch": torch, "vf": vf, "vs": vs, "seed": 0}
    names |= {"denoising": denoising, "setting": setting, "tokens": setting.tokens, "fold": setting.folds[0]}
    exec(cell.source, names)
    return names


def test_sampling(setting):
    result = vs.experiments.measure("samples", setting)
    shown = run("04_sampling", setting)["auc"]
    assert shown["mean"] == pytest.approx(result["findings"][0]["estimate"])
    assert shown[["network", "trees"]].to_dict() == pytest.approx(result["findings"][0]["judges"])


def test_interpolation(setting):
    shown, tokens = run("05_interpolation", setting), setting.tokens
    flow = vs.methods.flow_method(shown["wide"].flow)
    for text, pair in shown["pairs"].items():
        start, end = (flow.vectors(tokens, pair[[side]], 0) for side in (0, 1))
        assert torch.allclose(shown["paths"][text][[2]], flow.between(start, end, 0.5), atol=1e-4)


def test_denoising(setting):
    shown = run("06_denoising", setting)
    noisy, level = shown["noisy"], shown["level"]
    methods = denoising.methods_of(noisy, setting.folds[0], shown["fit"], "white", level)
    scores = denoising.scores(noisy, shown["rows"], methods, "white", level, (0.4, 0.8))
    means = scores[scores.method == "flow"].groupby("beta").gain.mean()
    assert shown["gains"] == pytest.approx(means.to_dict())


def test_discrimination(setting):
    shown, lda = run("07_discrimination", setting), discrimination.classifiers()["LDA"]
    scores = discrimination.scores(setting.tokens, shown["plan"], "phone", lda, 0)
    means = scores.groupby("space").right.mean()
    assert shown["right"] == pytest.approx({space: means[space] for space in shown["right"]})


def test_directions(setting):
    shown = run("08_directions", setting)
    table, _ = directions.moves(setting.tokens, setting.folds[:1], setting.judges, "phone", SMOKE, 0)
    once = table[(table.method == "flow") & (table.step == 1) & (table.sign == 1)]
    assert sorted(once.token) == sorted(shown["rows"])
    assert shown["after"] == pytest.approx(once.target.mean(), abs=1e-6)
    assert shown["before"] == pytest.approx(once.target_before.mean(), abs=1e-6)
