"""The results in ``results/`` are complete, follow the rule, and agree with the book's conclusion."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vowelstudy import tables as verdicts
from vowelstudy.experiments import CLAIMS
from vowelstudy.statistics import HOLDS, OPEN, PARTLY

HOME = Path(__file__).resolve().parents[1]
FULL = verdicts.load_verdicts(HOME)
REAL = FULL.get(("timit-sample", "cpu-speech"))


@pytest.mark.parametrize("setting", FULL, ids=" ".join)
def test_every_claim_has_an_entry_with_all_it_must_tell(setting):
    rows = [row for row in FULL[setting]["findings"] if row["primary"]]
    assert {row["claim"] for row in rows} <= set(CLAIMS)
    for row in rows:
        wanted = "claim section statement metric estimate interval baselines margin verdict"
        assert {*wanted.split(), "reason", "n", "clusters", "scale", "notebook"} <= row.keys()
        assert row["verdict"] in verdicts.VERDICTS and row["reason"]


@pytest.mark.parametrize("setting", FULL, ids=" ".join)
def test_nothing_holds_that_does_not_beat_the_untrained_flow_or_finds_something_in_nothing(setting):
    content = FULL[setting]
    for row in (one for one in content["findings"] if one["verdict"] in (HOLDS, PARTLY) and one["baselines"]):
        assert row["baselines"]["untrained flow"]["difference"]["interval"][0] > row["margin"]
        null = content["null"].get(row["claim"])
        assert not null or null["of"] != "labels shuffled" or null["interval"][0] <= 0.05


@pytest.mark.skipif(REAL is None, reason="no full results on real speech here")
def test_the_conclusion_says_what_the_results_do():
    """If one of these fails, rewrite the conclusion in ``notebooks/10_verdicts``."""
    of = {row["claim"]: row for row in REAL["findings"] if row["primary"]}

    def better(claim, baseline):
        return of[claim]["baselines"][baseline]["difference"]["interval"][0] > 0

    assert of["gaussian"]["verdict"] == of["likelihood"]["verdict"] == HOLDS
    for claim in ("direction", "composition", "denoising"):
        assert (
            not better(claim, "pictures")
            and better(claim, "random direction")
            and better(claim, "shuffled labels")
        )
    assert not better("interpolation", "pictures") and not better("denoising", "Wiener filter")
    assert not better("samples", "PCA-Gaussian") and not better("unsupervised", "pictures")
    heard = next(row for row in REAL["findings"] if row["part"] == "under a mixture on the mel-cepstrum")
    assert better("density", "great circle") and of["density"]["baselines"]["pictures"]["estimate"] < 0.01
    assert (
        better("density", "another real token")
        and of["density"]["verdict"] == OPEN
        and of["density"]["estimate"] < 1 / 2
    )
    assert heard["baselines"]["great circle"]["difference"]["interval"][0] < 0


@pytest.mark.skipif(REAL is None, reason="no full results on real speech here")
def test_chapters_tell_the_corrected_verdicts_of_the_full_protocol():
    print_of = next(iter(REAL["provenance"].values()))["fingerprint"]
    setting = SimpleNamespace(
        corpus=SimpleNamespace(name="timit-sample", fingerprint=print_of), flow="cpu-speech"
    )
    found = {name: one["findings"][0]["verdict"] for name, one in verdicts.full_of(setting).items()}
    assert found == {row["claim"]: row["verdict"] for row in reversed(REAL["findings"]) if row["primary"]}
