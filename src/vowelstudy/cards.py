"""Model cards: measure a flow, and write its numbers and a page that states them into its folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from vowelflow.base import InputError, save_atomically
from vowelflow.checkpoint import file_hash, glow_config, load_model, models_folder
from vowelflow.corpus import Corpus
from vowelflow.glow import Glow
from vowelflow.spectrogram import PADDED, images, observation_of, usable
from vowelflow.training import Profile, untrained_flow

from .baselines import LOST
from .evaluation import (
    POINTS,
    evenly,
    exactness,
    likelihood,
    memory,
    observation_for,
    samples_beside_real,
    simpler_models,
    stability,
)
from .references import new_speakers
from .results import estimate_text, markdown, read_json, write_json

PASSES = 5000  # through the flow, at most, for the noise draws of one group of speakers
FITTED, CHOSEN = 2000, 100  # most train and validation pictures for simpler models: they must fit into memory
CONFIG = {"corpus", "fingerprint", "speakers", "profile", "segments", "vowels", "licence", "steps"}
SPREADS = {
    "samples": "samples of temperature 1",
    "lines": "straight lines between tokens",
    "steps": "tokens moved three times a direction, both ways",
    "steps of pictures": "pictures moved three times their own displacements, both ways",
}


def measure(
    folder: Path, corpus: Corpus, others: Sequence[Corpus] = (),
    draws: int = 8, tokens: int = 500, samples: int = 1000, lines: int = 100,
) -> dict:  # fmt: skip
    """Measure a flow and write its card: ``README.md``, ``metrics.json``, ``samples.png`` and ``utterances.csv``.

    The card lists the dates of all measurements, since they use test speakers. Exactness, stability and discriminator
    are taken from an earlier card of the same weights if that used at least as many pictures.

    Args:
        folder: has the flow, which was trained on ``corpus``.
        others: more speech, whose likelihood is measured on speakers that the flow has not seen.
        draws: most draws of dequantization noise, for held-out speakers.
        tokens: most train tokens for the likelihood, and most tokens for the exactness.
        samples, lines: how many for the stability.

    Raises:
        InputError: the flow was not trained on this corpus, or the folder has no flow.
    """
    model, config = load_model(folder), read_json(folder / "config.json")
    observation = observation_for(model)
    corpus = usable(corpus, observation)
    _check(folder, config, corpus)
    groups = {split: corpus.held_out(split) for split in ("train", "valid", "test")}
    groups["train"] = groups["train"].draw(tokens, by=("split",))
    groups |= {other.name: usable(new_speakers(config, other).distinct(), observation) for other in others}
    fitted, chosen = (
        images(corpus.split[split].draw(count, by=("split",)), observation=observation)
        for split, count in (("train", FITTED), ("valid", CHOSEN))
    )
    profile = Profile(model.config, batch=config["profile"]["batch"])
    untrained = untrained_flow(corpus, profile, config["seed"])
    rivals, bits = simpler_models(fitted, chosen, untrained), {}
    for name, group in groups.items():
        # A mean over thousands of tokens needs few draws.
        most = 1 if name in ("train", "valid") else PASSES // max(len(group), 1)
        if len(group):
            bits[name] = likelihood(model, group, max(1, min(draws, most)), rivals)
    path, weights = folder / "metrics.json", file_hash(folder / "model.safetensors")
    old = read_json(path) if path.is_file() else {}
    reused = _reusable(old, min(tokens, len(corpus)), samples, lines) if old.get("sha256") == weights else {}
    entry = {"date": date.today().isoformat(), "sha256": weights}
    metrics = {
        "sha256": weights,
        "bits_per_dim": bits,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "exactness": reused.get("exactness") or exactness(model, corpus.take(evenly(len(corpus), tokens))),
        "stability": reused.get("stability") or stability(model, corpus, samples, lines),
        "memory": memory(model, fitted, groups["test"]),
        "discriminator": reused.get("discriminator") or samples_beside_real(model, untrained, corpus),
        "looks_at_test_speakers": [*old.get("looks_at_test_speakers", []), entry],
    }
    if corpus.name != "klatt":  # whose utterances are generated
        used = corpus.table.groupby(["corpus", "split", "speaker", "utterance"], as_index=False).size()
        save_atomically(folder / "utterances.csv", lambda file: used.to_csv(file, index=False))
    real = images(groups["valid"].draw(48, by=("split",)), observation=observation)
    save_atomically(folder / "samples.png", lambda file: save_samples(model, fitted, real, file))
    write_json(path, metrics, digits=None, sort=False)
    save_atomically(folder / "README.md", lambda file: file.write_text(_card(folder, metrics)))
    return metrics


def _check(folder: Path, config: dict, corpus: Corpus) -> None:
    """Check that the configuration is complete and that the flow was trained on this corpus."""
    if missing := CONFIG - config.keys():
        raise InputError(
            f"{folder / 'config.json'} does not say {', '.join(sorted(missing))}; fetch it or train again"
        )
    if config["fingerprint"] != corpus.fingerprint:
        raise InputError(
            f"{folder} was trained on {config['corpus']} with the fingerprint {config['fingerprint']}, and this is"
            f" {corpus.name} with {corpus.fingerprint}; give the same recordings and vowels"
        )


def _reusable(old: dict, tokens: int, samples: int, lines: int) -> dict:
    """The parts of an earlier card that need not be measured again."""
    exact, stable = old["exactness"], old["stability"]
    complete = {
        "exactness": "off_the_data" in exact and exact["tokens"] >= tokens,
        "stability": "steps of pictures" in stable
        and stable["samples"]["pictures"] >= samples
        and stable["lines"]["pictures"] >= lines * POINTS,
        "discriminator": "untrained flow" in old.get("discriminator", {}),
    }
    return {name: old[name] for name, enough in complete.items() if enough}


def save_samples(model: Glow, train: torch.Tensor, real: torch.Tensor, path: Path) -> None:
    """A page of pictures: unselected samples, the nearest of the ``train`` pictures to each, and as many ``real`` ones."""
    from .figures import sample_page

    samples = model.sample(len(real), seed=1).clamp(0, 1)
    nearest = torch.cdist(samples.flatten(1), train.flatten(1)).argmin(1)
    sample_page({"samples": samples, "nearest training tokens": train[nearest], "real tokens": real}, path)


def _cards(models: Path | None) -> dict[str, tuple[dict, dict]]:
    """Configuration and metrics of every flow under ``models`` that has a card, by name."""
    files = sorted((models or models_folder()).glob("*/metrics.json"))
    return {file.parent.name: (read_json(file.with_name("config.json")), read_json(file)) for file in files}


def flow_table(models: Path | None = None) -> pd.DataFrame:
    """The flows under ``models/``: likelihood of each group of speakers, and AUC of samples."""
    found = {}
    for name, (_, metrics) in _cards(models).items():
        tables = _tables(metrics)
        areas = {
            f"AUC of {kind}": tables["discriminator"].network.get(kind, "-") for kind in ("samples", "floor")
        }
        found[name] = tables["likelihood"].T[["flow", "flow, kilobits per second"]].assign(**areas)
    return pd.concat(found, names=["flow", "speakers"])


def card_tables(name: str, models: Path | None = None) -> dict[str, pd.DataFrame]:
    """The tables of one flow's card, as text: ``likelihood``, ``exactness``, ``stability`` and ``discriminator``."""
    return _tables(_cards(models)[name][1])


def _tables(metrics: dict) -> dict[str, pd.DataFrame]:
    exact = metrics["exactness"]
    errors = {
        "held-out tokens, float64": exact["float64"],
        "held-out tokens": exact["float32"],
        "held-out tokens in another order and batch size": exact["float32_reordered"],
        **exact["off_the_data"],
    }
    spread = pd.DataFrame({text: metrics["stability"][kind] for kind, text in SPREADS.items()}).T
    fits = {name: found for name, found in metrics["discriminator"].items() if name != "tokens"}
    return {
        "likelihood": pd.DataFrame({name: _likelihood_column(row) for name, row in metrics["bits_per_dim"].items()}),
        "exactness": pd.Series(errors).map("{:.1e}".format).to_frame("greatest error of a pixel"),
        "stability": pd.DataFrame({
            "pictures": spread.pictures.map("{:,.0f}".format), "pixels not finite": spread.not_finite.astype(int),
            "outside [-0.1, 1.1]": spread.outside_share.map("{:.4%}".format), "largest pixel": spread.largest.map("{:.3g}".format),
        }),
        "discriminator": pd.DataFrame(fits).T.reindex(columns=["network", "trees"]).map(_three),
    }  # fmt: skip


def _three(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3f}"


def _likelihood_column(row: dict) -> dict:
    """The likelihood of one group of speakers, as text."""
    bits = {"flow": row, **row["rivals"], "FLAC": row["FLAC"]["bits"]}
    kilobits = {"flow": row["kilobits"], "FLAC": row["FLAC"]["kilobits"]}
    return {
        **{name: estimate_text(one) for name, one in bits.items()},
        **{f"{name}, kilobits per second": estimate_text(one, 1) for name, one in kilobits.items()},
        **{"worst token": f"{row['worst']:.2f}", "lost tokens": row["lost"], "tokens": f"{row['tokens']:,}"},
        **{"speakers": row["clusters"], "draws of noise": row["draws"]},
    }


def _card(folder: Path, metrics: dict) -> str:
    config = read_json(folder / "config.json")
    glow, near, stable = glow_config(config), metrics["memory"], metrics["stability"]
    observation = observation_of((glow.side, glow.frames))
    pictures = config.get("pictures", config["steps"] * config["profile"]["batch"])
    origin = config.get("started_from")
    start = f", counting those of `{origin['model']}`, whose weights it started from" if origin else ""
    halves = any(one.dtype == torch.float16 for one in load_file(folder / "model.safetensors").values())
    padded = "Most of a picture is padding, which is cheap to model. " if observation is PADDED else ""
    held_out = (
        "" if near["held_out_db"] is None else f", pictures of test speakers {near['held_out_db']:.1f} dB"
    )
    tables = {name: markdown(table.reset_index(names="")) for name, table in _tables(metrics).items()}
    return f"""# {folder.name}

A Glow flow from {glow.side}x{glow.frames} vowel spectrograms (observation `{observation.name}`) to Gaussian codes. This card is
generated from `config.json`, which also lists the speakers, and `metrics.json`.

- **Data**: {config["segments"]["train"]:,} segments of train speakers of `{config["corpus"]}` (fingerprint {config["fingerprint"]}):
  the vowels {", ".join(config["vowels"])}.
- **Licence of the weights**: {config["licence"]}.
- **Shape**: {len(glow.hidden)} levels of {list(glow.steps)} steps, coupling widths {list(glow.hidden)}, {metrics["parameters"]:,} parameters,
  stored in {16 if halves else 32} bits.
- **Training**: {pictures:,} pictures{start}. These weights cost validation speakers least, in a training of {config["steps"]:,} steps
  of {config["profile"]["batch"]} pictures and {config["minutes"]:.0f} minutes; seed {config["seed"]}, {config["machine"]}. The curve is in `log.csv`.
- **SHA-256** of `model.safetensors`: `{config["sha256"]}`

Bits per dimension: the mean over speakers, with its 95 % t interval if there are at least eight speakers. Sentences that every speaker
reads are left out. A share of {LOST:g} of the density is uniform over all pictures, so a picture that the flow cannot explain costs 8 bits.
*Lost tokens* are such pictures; *worst token* is the highest cost without that share.

{tables["likelihood"]}

Greatest difference between a picture and its decoded code, over {metrics["exactness"]["tokens"]:,} tokens and over pictures unlike those of
training, in float32 unless stated:

{tables["exactness"]}

Decoded pictures. Tokens are of {stable["tokens_of"]}. The largest condition number of a 1x1 convolution is {stable["worst_condition"]:.2f}.

{tables["stability"]}

![Unselected samples, the training token nearest to each, and real tokens](samples.png)

Median distance to the nearest of {near["train_pictures"]:,} train pictures: samples {near["samples_db"]:.1f} dB{held_out}. Copies would be near 0.

A small network on pictures, and boosted trees on acoustic measurements, learn to tell pictures from {metrics["discriminator"]["tokens"]}
tokens of validation speakers. Their AUC is measured on other speakers: 0.5 is chance, 1 is always right. *Floor* are real training tokens:
a perfect flow would reach their AUC. *Real* are other tokens of validation speakers. The controls below must be near 1.

{tables["discriminator"]}

Limits: the flow was trained on isolated vowels of few speakers. {padded}Bits per dimension can be compared only between models of the same
pictures. A rare picture of a new speaker may be lost. Far from the codes of vowels, decoded pictures are not speech. The flow is for
study, not for synthesis or recognition of speech.
"""
