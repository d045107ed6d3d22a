"""Every experiment on a tiny fixed input: its numbers may change only with its version.

After a change that is meant: raise the version in ``experiments/__init__.py`` or of the synthetic corpus in ``klatt.py``, and write new numbers with
``GOLDEN=write pytest tests/test_golden.py``.
"""

import json
import os
import platform
from pathlib import Path

import pytest
import torch

from vowelflow.klatt import RECIPE
from vowelstudy.experiments import CLAIMS, measure
from vowelstudy.folds import open_setting
from vowelstudy.protocol import SMOKE
from vowelstudy.references import reference_model

GOLDEN = Path(__file__).with_name("golden.json")
# Relative and absolute: processors add in different orders, even where they know the same instructions.
SAME, OTHER = 1e-3, 0.02


def machine() -> str:
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}"


def flattened(value, name="") -> dict:
    """Nested dicts and lists as one dict of numbers and texts."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: one for part, item in items for key, one in flattened(item, f"{name}/{part}").items()}
    return {name: value}


@pytest.fixture(scope="module")
def found(klatt, tmp_path_factory):
    """Of every experiment, its version and numbers, on eight synthetic speakers and a flow of six steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOWELFLOW_BUILD", str(tmp_path_factory.mktemp("golden")))
        patch.setattr("vowelstudy.discriminator.STEPS", 5)
        _, folder = reference_model(klatt, "smoke")
        setting = open_setting(klatt, folder, SMOKE)
        measured = {name: measure(name, setting) for name in CLAIMS}
    torch.set_num_threads(threads)
    synthetic = {
        "version": RECIPE,
        "means": klatt.table.mean(numeric_only=True).round(6).to_dict(),
        "levels": [float(abs(clip).mean()) for clip in klatt.clips(range(0, len(klatt), 20))],
    }
    found = {"klatt": synthetic} | {
        name: {"version": one["provenance"]["version"]}
        | {part: one[part] for part in ("findings", "numbers", "null")}
        for name, one in measured.items()
    }
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(json.dumps({"machine": machine(), "experiments": found}, indent=1) + "\n")
    return json.loads(json.dumps(found))


@pytest.mark.parametrize("name", ["klatt", *CLAIMS])
def test_numbers_change_only_with_the_version(found, name):
    golden = json.loads(GOLDEN.read_text())
    here, there = flattened(found[name]), flattened(golden["experiments"][name])
    same = golden["machine"] == machine()
    tolerance = SAME if same else OTHER
    assert here.keys() == there.keys() and here["/version"] == there["/version"]
    for key, value in there.items():
        if isinstance(value, float) and not isinstance(here[key], str | None):
            assert here[key] == pytest.approx(value, rel=tolerance, abs=tolerance), key
        elif same:
            assert here[key] == value, key
