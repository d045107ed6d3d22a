import json
import shutil
from dataclasses import replace

import pytest
import torch

from vowelflow.base import InputError
from vowelflow.checkpoint import file_hash, load_model
from vowelflow.spectrogram import images, usable
from vowelflow.training import PROFILES, train
from vowelstudy.cards import _card, card_tables, flow_table, measure
from vowelstudy.evaluation import _difference, likelihood, memory, spread, stability, worst_condition

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture(scope="module")
def trained(klatt, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(klatt, folder, replace(PROFILES["smoke"], iterations=2))
    return folder


def test_a_card_states_what_was_measured(klatt, trained):
    other = replace(
        klatt.filter(sex="f"), name="others", table=klatt.filter(sex="f").table.assign(corpus="others")
    )
    other = replace(other, sounds={"others": klatt.sounds["klatt"]})
    metrics = measure(trained, klatt, [other], draws=1, tokens=12, samples=3, lines=2)
    text = (trained / "README.md").read_text()
    assert f"{metrics['bits_per_dim']['train']['estimate']:.3f}" in text
    bits, test = metrics["bits_per_dim"], klatt.split["test"]
    assert set(bits) == {"train", "valid", "test", "others"} and bits["train"]["tokens"] == 12
    assert bits["others"]["tokens"] == len(other)  # it has met none of them
    assert bits["test"]["speakers"].keys() == set(test.table.speaker) and bits["test"]["tokens"] == len(test)
    assert set(bits["test"]["rivals"]) == {
        *("diagonal Gaussian", "probabilistic PCA", "Gaussian mixture", "untrained flow")
    }
    assert bits["test"]["worst"] > max(bits["test"]["speakers"].values()) and bits["test"]["lost"] == 0
    assert [bits[name]["draws"] for name in ("train", "test")] == [1, 1]
    assert "| others |" in text and len(metrics["looks_at_test_speakers"]) == 1
    assert file_hash(trained / "model.safetensors") in text
    exact, stable = metrics["exactness"], metrics["stability"]
    assert (
        metrics["memory"]["samples_db"] > 0
        and metrics["memory"]["held_out_db"] > 0
        and "Copies would be" in text
    )
    assert exact["tokens"] == 12 and exact["float64"] < 1e-9 < exact["float32"] < 1e-4
    assert "over 12 tokens" in text and "| samples of temperature 1 | 3 | 0 |" in text
    assert stable["lines"]["pictures"] == 22 and "| straight lines between tokens | 22 |" in text
    assert json.loads((trained / "metrics.json").read_text()) == metrics
    again = measure(trained, klatt, draws=1, tokens=2, samples=1, lines=1)
    assert len(again["looks_at_test_speakers"]) == 2
    assert (
        again["exactness"] == exact and again["stability"] == stable
    )  # a larger look at the same weights stays
    more = measure(trained, klatt, draws=1, tokens=13, samples=4, lines=1)
    assert more["exactness"]["tokens"] == 13 and more["stability"]["samples"]["pictures"] == 4


def test_a_card_of_one_corpus_is_not_written_from_another(klatt, trained):
    before = (trained / "README.md").read_text() if (trained / "README.md").exists() else None
    with pytest.raises(
        InputError, match="was trained on klatt with the fingerprint .* give the same recordings"
    ):
        measure(trained, klatt.filter(phone=["aa", "iy"]))
    assert before == ((trained / "README.md").read_text() if before else None)


def test_a_configuration_that_lacks_what_a_card_says_is_refused(klatt, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    del config["speakers"], config["licence"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        InputError, match="config.json does not say licence, speakers; fetch it or train again"
    ):
        measure(folder, klatt)


@pytest.mark.long
def test_what_is_not_finite_is_counted_and_can_be_written(klatt, trained):
    wild = torch.tensor([[0.5, 1.5, float("inf"), float("nan")], [-0.05, -7.0, 1.0, 0.0]])
    assert spread([wild]) == {"pictures": 2, "not_finite": 2, "outside_share": 0.5, "largest": 7.0}
    assert _difference(wild, torch.zeros(2, 4)) == torch.finfo(torch.float32).max
    metrics = measure(trained, klatt, draws=1, tokens=2, samples=1, lines=1)
    metrics["stability"]["samples"] |= spread([wild])
    assert "| samples of temperature 1 | 2 | 2 | 50.0000% | 7 |" in _card(trained, metrics)


def test_a_picture_that_a_flow_makes_nothing_of_costs_eight_bits(klatt, trained):
    model, few = load_model(trained), klatt.take(range(4))
    plain = likelihood(model, few, 1, {})
    bits, lost = model.bits_per_dim, torch.tensor([0.0, 0, 0, 5000])
    model.bits_per_dim = lambda pictures, *more: bits(pictures, *more) + lost
    row = likelihood(model, few, 1, {})
    assert plain["lost"] == 0 and row["lost"] == 1 and row["worst"] > 5000
    assert max(row["speakers"].values()) < 8.001 and row["estimate"] > plain["estimate"]


@pytest.mark.parametrize(
    "kept", [{"split": "train"}, {"phone": "aa", "sex": "f"}], ids=["no test speakers", "one class"]
)
def test_small_corpora_can_be_measured(klatt, trained, kept):
    model = load_model(trained)
    found = stability(model, klatt.filter(**kept), samples=53, lines=1)
    assert found["samples"]["pictures"] == 53
    assert found["tokens_of"] == ("all speakers" if "split" in kept else "test speakers")
    one = klatt.filter(split="test").take([0])
    assert stability(model, one, samples=1, lines=1)["lines"]["pictures"] == 11


def test_the_worst_condition_is_of_the_convolutions_alone(trained):
    model = load_model(trained)
    before = worst_condition(model)
    mix = model.levels[0][0][0]
    mix.log_scale.data += torch.linspace(-2, 2, 16)
    assert worst_condition(model) == pytest.approx(before, rel=1e-3)
    mix.log_diagonal.data += torch.linspace(-2, 2, 16)
    assert worst_condition(model) > 3 * before


def test_a_flow_of_padded_pictures_has_a_card_too(klatt, tmp_path):
    klatt = klatt.filter(phone=["aa", "iy"])
    table = klatt.table.copy()
    row = table.index[table.split == "test"][0]
    table.loc[row, "end"] = table.start[row] + 5000  # 312 ms, too long for a padded picture
    speech = usable(replace(klatt, table=table), "padded")
    train(speech, tmp_path, replace(PROFILES["smoke-padded"], iterations=1))
    metrics = measure(tmp_path, replace(klatt, table=table), draws=1, tokens=4, samples=1, lines=1)
    assert metrics["exactness"]["float32"] < 1e-4
    assert metrics["bits_per_dim"]["test"]["tokens"] == len(speech.split["test"])
    card = (tmp_path / "README.md").read_text()
    assert "288x288 vowel spectrograms (observation `padded`)" in card and "stored in 16 bits" in card
    assert "Most of a picture is padding" in card
    assert metrics["stability"]["tokens_of"] == "test speakers"


def test_a_flow_that_draws_its_train_pictures_is_found_out(klatt):
    class Copyist:
        config = PROFILES["vowel"].glow

        def sample(self, count, seed=0):
            return seen[:count]

    seen = images(klatt.filter(split="train").draw(4, by=("split",)))
    found = memory(Copyist(), seen, klatt.filter(split="test"), count=4)
    assert found["samples_db"] < 0.1 < found["held_out_db"] and found["train_pictures"] == 4


@pytest.mark.long
def test_all_flows_with_a_card_are_in_one_table(klatt, tmp_path):
    for name, profile in (("padded", "smoke-padded"), ("even", "smoke")):
        train(klatt, tmp_path / name, replace(PROFILES[profile], iterations=1))
        measure(tmp_path / name, klatt, draws=1, tokens=2, samples=1, lines=1)
    table = flow_table(tmp_path)
    metrics = json.loads((tmp_path / "even/metrics.json").read_text())
    test = metrics["bits_per_dim"]["test"]
    groups = ("train", "valid", "test")
    assert list(table.index) == [(flow, name) for flow in ("even", "padded") for name in groups]
    assert "Most of a picture is padding" not in (tmp_path / "even/README.md").read_text()
    row = table.loc[("even", "test")]
    assert row["flow"].startswith(f"{test['estimate']:.3f}")
    assert row["flow, kilobits per second"].startswith(f"{test['kilobits']['estimate']:.1f}")
    assert row["AUC of samples"] == f"{metrics['discriminator']['samples']['network']:.3f}"
    assert test["kilobits"]["estimate"] > 100 and 50 < test["FLAC"]["kilobits"]["estimate"] < 300
    tables = card_tables("even", tmp_path)
    likelihoods, exact, stable = (tables[name] for name in ("likelihood", "exactness", "stability"))
    assert {"flow", "probabilistic PCA", "untrained flow", "FLAC"} < set(likelihoods.index)
    assert likelihoods.loc["flow", "test"] == row["flow"]
    cost = likelihoods.loc["FLAC, kilobits per second", "test"]
    assert cost.startswith(f"{test['FLAC']['kilobits']['estimate']:.1f}")
    assert list(exact.index)[-3:] == ["upside-down vowels", "silence", "white noise"]
    assert stable.loc["samples of temperature 1", "pictures"] == "1" and len(stable) == 4
    assert stable["outside [-0.1, 1.1]"].str.endswith("%").all()
    assert metrics["discriminator"]["untrained flow"]["network"] > 0.9
    assert set(metrics["exactness"]["off_the_data"]) == {"upside-down vowels", "silence", "white noise"}
    assert max(metrics["exactness"]["off_the_data"].values()) < 1e-2
    assert (tmp_path / "even/samples.png").stat().st_size > 10_000
