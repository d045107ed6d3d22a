"""Model cards: a folder of weights -> its measured numbers and a page that states them."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from datetime import date
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from .baselines import LOST, densities, rescued
from .checkpoint import file_hash, glow_config, load_model, models_folder
from .corpus import FRAMES, RATE, Corpus, InputError, save_atomically
from .discriminator import auc, controls
from .glow import Glow, dequantize
from .judges import interval
from .latent import direction, line, random_direction
from .references import unseen
from .spectrogram import FLOOR_DB, PADDED, Observation, batches, central, frame_count, images, observation_of, usable
from .training import Profile, untrained_flow

MIDDLE = 64  # frames of a segment's middle, where there is no padding
POINTS = 11  # of a line between two tokens
TOKENS = 10  # that are moved along each direction
PASSES = 5000  # through the flow, at most, for the draws of noise of one group of speakers
SPREADS = {
    "samples": "samples of temperature 1",
    "lines": "straight lines between tokens",
    "steps": "tokens moved three times a direction, both ways",
    "steps of pictures": "pictures moved three times their own displacements, both ways",
}
FITTED, CHOSEN = 2000, 100  # train and validation pictures at most for simpler models: they must fit into memory


def measure(
    folder: Path,
    corpus: Corpus,
    others: Sequence[Corpus] = (),
    draws: int = 8,
    tokens: int = 500,
    samples: int = 1000,
    lines: int = 100,
) -> dict:
    """The model card and its numbers, ``README.md`` and ``metrics.json`` in ``folder``; a look at test speakers.

    And ``utterances.csv``: which recordings the segments of each split are from, and how many.

    ``likelihood`` by split, on up to ``tokens`` train tokens and all others, and on the unseen speakers of
    ``others``, with up to ``draws`` of noise for speakers that the flow never met; and what becomes of the flow at its
    limits: ``exactness`` on up to ``tokens`` tokens, ``stability`` of samples, lines and long steps; where an
    earlier card of the same weights has these from as many, they stay. Every look at test speakers stays listed.

    Raises:
        InputError: the flow was not trained on this corpus, or the folder holds no flow.
    """
    model = load_model(folder)
    trained_on = json.loads((folder / "config.json").read_text())
    needed = {"corpus", "fingerprint", "speakers", "profile", "segments", "vowels", "licence", "steps"}
    if missing := needed - trained_on.keys():
        raise InputError(f"{folder / 'config.json'} does not say {', '.join(sorted(missing))}; fetch it or train again")
    seen = _observation(model)
    corpus = usable(corpus, seen)
    if trained_on["fingerprint"] != corpus.fingerprint:
        raise InputError(
            f"{folder} was trained on {trained_on['corpus']} with the fingerprint {trained_on['fingerprint']}, and this "
            f"is {corpus.name} with {corpus.fingerprint}; give the same recordings and vowels"
        )
    heard = {split: corpus.held_out(split) for split in ("train", "valid", "test")}
    heard["train"] = heard["train"].draw(tokens, by=("split",))
    heard |= {other.name: usable(unseen(trained_on, other).distinct(), seen) for other in others}
    fitted, chosen = (
        images(corpus.split[split].draw(count, by=("split",)), observation=seen)
        for split, count in (("train", FITTED), ("valid", CHOSEN))
    )
    untrained = untrained_flow(corpus, Profile(model.config, batch=trained_on["profile"]["batch"]), trained_on["seed"])
    rivals = simpler_models(fitted, chosen, untrained)
    old = json.loads((folder / "metrics.json").read_text()) if (folder / "metrics.json").is_file() else {}
    weights, kept = file_hash(folder / "model.safetensors"), {}
    if old.get("sha256") == weights:
        if "off_the_data" in old["exactness"] and old["exactness"]["tokens"] >= min(tokens, len(corpus)):
            kept["exactness"] = old["exactness"]
        if (
            "steps of pictures" in old["stability"]
            and old["stability"]["samples"]["pictures"] >= samples
            and old["stability"]["lines"]["pictures"] >= lines * POINTS
        ):
            kept["stability"] = old["stability"]
        if "untrained flow" in old.get("discriminator", {}):
            kept["discriminator"] = old["discriminator"]
    metrics = {
        "sha256": weights,
        "bits_per_dim": {
            name: likelihood(model, speech, 1 if name in ("train", "valid") else _draws(draws, len(speech)), rivals)
            for name, speech in heard.items()
            if len(speech)
        },
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "exactness": kept.get("exactness") or exactness(model, corpus.take(_some(len(corpus), tokens))),
        "stability": kept.get("stability") or stability(model, corpus, samples, lines),
        "memory": memory(model, fitted, heard["test"]),
        "discriminator": kept.get("discriminator") or samples_beside_real(model, untrained, corpus),
        "looks_at_test_speakers": [
            *old.get("looks_at_test_speakers", []),
            {"date": date.today().isoformat(), "sha256": weights},
        ],
    }
    if corpus.name != "klatt":  # which is generated, not read
        used = corpus.table.groupby(["corpus", "split", "speaker", "utterance"], as_index=False).size()
        save_atomically(folder / "utterances.csv", lambda path: used.to_csv(path, index=False))
    save_atomically(folder / "samples.png", lambda path: save_samples(model, corpus, path))
    save_atomically(folder / "metrics.json", lambda path: path.write_text(json.dumps(metrics, indent=2) + "\n"))
    save_atomically(folder / "README.md", lambda path: path.write_text(_card(folder, metrics)))
    return metrics


def _observation(model: Glow) -> Observation:
    return observation_of((model.config.side, model.config.frames))


def simpler_models(
    train: torch.Tensor, valid: torch.Tensor, untrained: Glow, seed: int = 0
) -> dict[str, Callable[[torch.Tensor, int], torch.Tensor]]:
    """What a flow must do better than: ``densities`` of pictures, and the flow before training, ``rescued`` as the flow is."""
    rivals = densities(train, valid, seed=seed)
    rivals["untrained flow"] = lambda pictures, seed: rescued(
        untrained.bits_per_dim(pictures, 1, seed), untrained.config.size
    )
    return rivals


def _draws(most: int, tokens: int) -> int:
    """As many draws of noise as make ``PASSES`` passes through the flow: a mean of thousands of tokens needs no more."""
    return max(1, min(most, PASSES // tokens))


def likelihood(model: Glow, speech: Corpus, draws: int, rivals: dict[str, Callable]) -> dict:
    """Bits per dimension of segments, mean over their speakers with its interval, ``rescued``.

    The flow's own, with each speaker's; the ``worst`` token's, and how many are ``lost``, above 8 bits, without the rescue;
    ``middle``, what its ``allocation`` puts into the middle 64 ms of
    those that are as long; ``rivals``, of simpler models, on the same pictures.
    """
    rows, lengths = [], iter(frame_count(speech))
    for pictures, _ in batches(speech, observation=_observation(model)):
        row = {"flow": model.bits_per_dim(pictures, draws)}
        row |= {name: density(pictures, 0) for name, density in rivals.items()}
        if _observation(model) is PADDED:
            counts = np.array([next(lengths) for _ in pictures])
            starts = (counts.clip(MIDDLE) - MIDDLE) // 2
            middle = central(model.allocation(pictures)[:, None], starts, MIDDLE).mean((1, 2, 3))
            middle = middle.where(row["flow"] <= 8, 8.0)  # of a picture that is lost, as ``rescued`` has it
            row["middle"] = middle.masked_fill(torch.from_numpy(counts < MIDDLE), math.nan)
        rows.append(pd.DataFrame({name: value.numpy() for name, value in row.items()}))
    each = pd.concat(rows, ignore_index=True)
    raw = each.flow
    each["flow"] = rescued(torch.from_numpy(raw.to_numpy(copy=True)), model.config.size).numpy()
    speakers = speech.table.speaker.to_numpy()
    seconds = ((speech.table.end - speech.table.start) / RATE).to_numpy()
    kilobits = each.mul(model.config.size / 1000 / seconds, axis=0).groupby(speakers).mean()
    means = each.groupby(speakers).mean()
    found = _over_speakers(means.pop("flow").to_dict()) | {"tokens": len(speech), "draws": draws}
    found |= {"worst": float(raw.max()), "lost": int((raw > 8).sum())}
    found["kilobits"] = _over_speakers(kilobits.flow.to_dict())
    found["FLAC"] = _flac(speech, model.config.size)
    if "middle" in means:
        found["middle"] = _over_speakers(means.pop("middle").dropna().to_dict())
    rivals = {name: _over_speakers(means[name].to_dict()) | {"kilobits": interval(kilobits[name])} for name in means}
    return found | {"rivals": rivals}


def _flac(speech: Corpus, size: int) -> dict:
    """What a lossless audio coder pays for the samples of the segments, phase included: each speaker's end to end, as FLAC.

    ``kilobits`` a second of speech, and the same as bits for each of the ``size`` pixels of a picture: ``bits``.
    """
    import soundfile

    kilobits, bits = {}, {}
    for speaker, rows in speech.table.groupby("speaker").indices.items():
        sound, file = np.concatenate([speech.sound(row) for row in rows]), io.BytesIO()
        soundfile.write(file, sound, RATE, format="FLAC", subtype="PCM_16")
        size_in_bits = 8 * file.getbuffer().nbytes
        kilobits[speaker] = size_in_bits / 1000 / (len(sound) / RATE)
        bits[speaker] = size_in_bits / len(rows) / size
    return {"kilobits": _over_speakers(kilobits), "bits": _over_speakers(bits)}


def _over_speakers(values: dict[str, float]) -> dict | None:
    """Mean, interval, and the value of each speaker; None where there is nobody."""
    return interval(list(values.values())) | {"speakers": values} if values else None


def reference_table(models: Path | None = None) -> pd.DataFrame:
    """A row for each flow of padded pictures under ``models/``, folds of one corpus as one, from their cards' numbers.

    Bits per dimension with intervals, as texts: of train speakers, of those held out of the same corpus, of others that
    it never met; in the middle of segments, where a flow that sees nothing else has all that it has; and of the best
    simple model on the held-out tokens.
    """
    groups = {}
    for folder in _measured(models, even=False):
        name, fold = re.fullmatch(r"(.*?)(-\d)?", folder.name).groups()
        groups.setdefault((name, bool(fold)), []).append(folder)
    rows = {}
    for (name, folds), folders in groups.items():
        configs, metrics = (
            [json.loads((one / file).read_text()) for one in folders] for file in ("config.json", "metrics.json")
        )
        found = [one["bits_per_dim"] for one in metrics]
        whole = configs[0]["glow"].get("frames", FRAMES) == FRAMES  # padded, so that the middle is a part of it
        row = {"parameters": f"{metrics[0]['parameters']:,}"}
        others = sorted({split for one in found for split in one} - {"train", "valid", "test"})
        for split in ("train", "test", *others):
            title = {"train": "train", "test": "held out"}.get(split, f"on {split}")
            parts = [one.get(split) for one in found]
            row[title] = _told(_pooled(parts)) if whole else "-"
            row[f"{title}, middle"] = _told(
                _pooled([part and part.get("middle") for part in parts] if whole else parts)
            )
        rivals = [one["test"]["rivals"] for one in found if "test" in one]
        best = [_pooled([rival[name] for rival in rivals]) for name in (rivals[0] if rivals else [])]
        row["best simple model"] = _told(min(best, key=lambda one: one["estimate"], default=None))
        row["minutes"] = f"{sum(config['minutes'] for config in configs):.0f}"
        row["machine"] = configs[0]["machine"]
        rows[name + (f" ({len(folders)} folds)" if folds else "")] = row
    table = pd.DataFrame(rows).T.fillna("-")
    last = ["best simple model", "minutes", "machine"]
    return table[[name for name in table if name not in last] + [name for name in last if name in table]]


def vowel_table(models: Path | None = None) -> pd.DataFrame:
    """A row for each flow of ``VOWEL`` pictures under ``models/``, from its card: bits and kilobits by speakers, and its samples' AUC."""
    rows = {}
    for folder in _measured(models, even=True):
        config, metrics = (json.loads((folder / f"{name}.json").read_text()) for name in ("config", "metrics"))
        row = {"pictures": f"{config['pictures']:,}", "parameters": f"{metrics['parameters']:,}"}
        for split, found in metrics["bits_per_dim"].items():
            row[f"{split}, bits"] = _told(found)
            row[f"{split}, kilobits a second"] = _told(found["kilobits"], 1)
        told_apart = metrics["discriminator"]
        for name in ("samples", "floor"):
            row[f"AUC of {name}"] = f"{told_apart[name]['auc']:.3f}" if name in told_apart else "-"
        rows[folder.name] = row
    return pd.DataFrame(rows).T.fillna("-")


def likelihood_table(name: str, models: Path | None = None) -> pd.DataFrame:
    """Of one flow's card: bits per dimension and kilobits per second of people it never met, by model, with 95 % intervals.

    Rows are the flow, the simpler densities of pictures, and FLAC, which codes the samples that a picture was made of.
    """
    splits = _numbers_of(name, models)["bits_per_dim"]
    columns = {}
    for split, found in splits.items():
        if split in ("train", "valid"):
            continue
        by_model = {"flow": found} | found["rivals"]
        columns[f"{split}, bits"] = {key: _told(one) for key, one in by_model.items()} | {
            "FLAC": _told(found["FLAC"]["bits"])
        }
        columns[f"{split}, kilobits a second"] = {
            "flow": _told(found["kilobits"], 1),
            "FLAC": _told(found["FLAC"]["kilobits"], 1),
        }
    return pd.DataFrame(columns).fillna("-")


def limits_table(name: str, models: Path | None = None) -> pd.DataFrame:
    """Of one flow's card: greatest error of a round trip on and off the data, float32, as a table of texts."""
    exact = _numbers_of(name, models)["exactness"]
    errors = {"held-out tokens": exact["float32"]} | exact["off_the_data"]
    return pd.DataFrame({"greatest error of a pixel": {key: f"{value:.1e}" for key, value in errors.items()}})


def spread_table(name: str, models: Path | None = None) -> pd.DataFrame:
    """Of one flow's card: how far decoded pictures go before they are cut to [0, 1], as texts."""
    found = _numbers_of(name, models)["stability"]
    rows = {
        text: {
            "number": f"{found[kind]['pictures']:,}",
            "pixels outside [-0.1, 1.1]": f"{found[kind]['outside_share']:.3%}",
            "largest pixel": f"{found[kind]['largest']:.3g}",
        }
        for kind, text in SPREADS.items()
    }
    return pd.DataFrame(rows).T


def _numbers_of(name: str, models: Path | None) -> dict:
    """The numbers of one flow's card."""
    return json.loads(((models or models_folder()) / name / "metrics.json").read_text())


def _measured(models: Path | None, even: bool) -> list[Path]:
    """Folders of the flows that have a card, of ``VOWEL`` pictures or of the others: bits of different pictures do not compare."""
    folders = [path.parent for path in sorted((models or models_folder()).glob("*/metrics.json"))]
    configs = {folder: json.loads((folder / "config.json").read_text()) for folder in folders}
    return [folder for folder, config in configs.items() if (config.get("observation") == "vowel") == even]


def learning_curve(name: str = "cpu-speech", models: Path | None = None) -> pd.DataFrame:
    """A row for each flow of less speech than ``name`` and for itself, from their cards: a quarter, a half, all.

    Train tokens and speakers; bits per dimension of each group of people it never met, as texts; and of each group how many more
    they are than with all speech, speaker by speaker.
    """
    base, rows = models or models_folder(), {}
    folders = {"a quarter": f"{name}-quarter", "a half": f"{name}-half", "all": name}
    cards = {share: base / folder / "metrics.json" for share, folder in folders.items()}
    found = {share: json.loads(card.read_text())["bits_per_dim"] for share, card in cards.items() if card.is_file()}
    for share, told in found.items() if "all" in found else ():
        config = json.loads((base / folders[share] / "config.json").read_text())
        row = {"train tokens": config["segments"]["train"], "train speakers": len(config["speakers"]["train"])}
        for group in [group for group in found["all"] if group not in ("train", "valid")]:
            row[group] = _told(told[group])
            each = pd.Series(told[group]["speakers"]) - pd.Series(found["all"][group]["speakers"])
            row[f"{group}, more than all"] = _told(interval(each)) if share != "all" else "-"
        rows[share] = row
    return pd.DataFrame(rows).T


def _pooled(parts: list[dict | None]) -> dict | None:
    """The speakers of several rows as those of one; somebody who is in more of them counts once, with the mean."""
    if None in parts:
        return None
    everybody = pd.concat([pd.Series(part["speakers"]) for part in parts])
    return _over_speakers(everybody.groupby(level=0).mean().to_dict())


def exactness(model: Glow, corpus: Corpus) -> dict:
    """Greatest difference of a pixel between ``decode(encode(x))`` and the dequantized picture.

    In float32, in float64, and in float32 when the codes are decoded in another order and in batches of another size.
    """
    errors = {"float32": 0.0, "float64": 0.0, "float32_reordered": 0.0}
    precise, tokens = deepcopy(model).double(), usable(corpus, _observation(model))
    for pictures, _ in batches(tokens, observation=_observation(model)):
        code = model.encode(pictures)
        again = code[list(reversed(range(len(code))))]
        errors["float32"] = max(errors["float32"], _difference(model.decode(code), code.image))
        reordered = _difference(model.decode(again, batch=3), again.image)
        errors["float32_reordered"] = max(errors["float32_reordered"], reordered)
        code = precise.encode(pictures)
        errors["float64"] = max(errors["float64"], _difference(precise.decode(code), code.image))
    return errors | {"tokens": len(tokens), "off_the_data": off_the_data(model, tokens)}


@torch.no_grad()
def off_the_data(model: Glow, tokens: Corpus, count: int = 16) -> dict[str, float]:
    """Greatest difference of a pixel after a round trip in float32, for pictures that no training has: nothing may explode."""
    vowels = images(tokens.take(_some(len(tokens), count)), observation=_observation(model))
    odd = {
        "upside-down vowels": vowels.flip(2),
        "silence": torch.zeros_like(vowels),
        "white noise": torch.rand(vowels.shape, generator=torch.Generator().manual_seed(0)),
    }
    differences = {}
    for name, pictures in odd.items():
        y = dequantize(pictures).to(model.top)
        differences[name] = _difference(model.inverse(model.flat(y)), y)
    return differences


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest; of a picture that is not finite, the largest float there is, which JSON can say."""
    return (one - other).abs().nan_to_num(nan=torch.inf).max().clamp(max=torch.finfo(torch.float32).max).item()


def stability(model: Glow, corpus: Corpus, samples: int, lines: int, points: int = POINTS, step: float = 3.0) -> dict:
    """Whether decoded pictures are finite, and what share of their pixels is outside [-0.1, 1.1].

    Samples of temperature 1; straight lines of ``points`` between random pairs of tokens; and tokens moved by
    ``step`` times, both ways, every displacement between two vowels, that between the sexes, and a random
    direction of equal norm, as found on train speakers. The tokens are of test speakers, if there are any.
    """
    tokens = usable(corpus, _observation(model))
    held_out = tokens.held_out("test")
    speech = held_out if len(held_out) else tokens
    pictures = images(speech, observation=_observation(model))
    codes = model.encode(pictures)
    rng = np.random.default_rng(0)
    pairs = [rng.choice(len(codes), 2, replace=len(codes) < 2) for _ in range(lines)]
    paths = (line(codes[one], codes[other], points) for one, other in pairs)
    some = codes[_some(len(codes), TOKENS)]
    draws = ((min(50, samples - start), start // 50) for start in range(0, samples, 50))
    of_codes, of_pictures = _directions(model, corpus)
    steps = (some.flat + sign * step * found for found in of_codes for sign in (1, -1))
    shifted = (
        some.image + sign * step * found.view(1, *some.image.shape[1:]) for found in of_pictures for sign in (1, -1)
    )
    return {
        "worst_condition": worst_condition(model),
        "tokens_of": "test speakers" if speech is held_out else "all speakers",
        "samples": _spread(model.sample(count, seed=seed) for count, seed in draws),
        "lines": _spread(model.decode(path) for path in paths),
        "steps": _spread(model.decode(moved) for moved in steps),
        "steps of pictures": _spread(shifted),
    }


def samples_beside_real(model: Glow, untrained: Glow, corpus: Corpus, count: int = 400, seed: int = 0) -> dict:
    """Whether the discriminator tells raw samples of temperature 1 from tokens of validation speakers, with its controls.

    ``floor`` is what real training tokens score, which a perfect flow would reach; ``real`` other tokens of validation
    speakers, against which every control stands, too. Fewer tokens than ``count`` are taken where there are fewer, and none of a single validation speaker.
    """
    seen = _observation(model)
    valid, train = corpus.held_out("valid"), corpus.split["train"]
    order = np.random.default_rng(seed).permutation(len(valid))
    first, second = valid.take(order[:count]), valid.take(order[count : 2 * count])
    real, speakers = images(first, observation=seen), first.table.speaker.to_numpy()
    if first.table.speaker.nunique() < 2:
        return {"tokens": 0}  # nobody is left to score on
    found = {"tokens": len(real), "samples": auc(real, speakers, model.sample(len(real), seed=seed), seed=seed)}
    for name, tokens in (("floor", train.draw(len(real), ("split",), seed)), ("real", second)):
        if len(tokens):
            found[name] = auc(real, speakers, images(tokens, observation=seen), tokens.table.speaker.to_numpy(), seed)
    made = {"untrained flow": untrained.sample(len(real), seed=seed)}
    made |= {name: make(len(real)) for name, make in controls(real, seed).items()}
    return found | {name: auc(real, speakers, pictures, seed=seed, fits=2) for name, pictures in made.items()}


def save_samples(model: Glow, corpus: Corpus, path: Path, count: int = 48) -> None:
    """A page of pictures: unselected samples, the training token nearest to each, and real tokens of validation speakers."""
    from .figures import sample_page

    seen = _observation(model)
    train = corpus.split["train"].draw(FITTED, by=("split",))
    learned, samples = images(train, observation=seen), model.sample(count, seed=1).clamp(0, 1)
    nearest = torch.cdist(samples.flatten(1), learned.flatten(1)).argmin(1)
    real = images(corpus.held_out("valid").draw(count, by=("split",)), observation=seen)
    sample_page({"samples": samples, "nearest training tokens": learned[nearest], "real tokens": real}, path)


def memory(model: Glow, seen: torch.Tensor, held_out: Corpus, count: int = 200) -> dict:
    """How far samples, and pictures of held-out speakers, are from the nearest of the train pictures ``seen``.

    Medians over ``count`` of them, root mean square in dB. Samples of a flow that has learned by heart are near zero.
    """

    def nearest(pictures: torch.Tensor) -> float:
        distance = torch.cdist(pictures.clamp(0, 1).flatten(1), seen.flatten(1)).min(1).values
        return FLOOR_DB * distance.median().item() / model.config.size**0.5

    found = {"train_pictures": len(seen), "samples_db": nearest(model.sample(count, seed=1))}
    some = held_out.draw(count, by=("split",))
    return found | {"held_out_db": nearest(images(some, observation=_observation(model))) if len(some) else None}


def worst_condition(model: Glow) -> float:
    """The largest condition number of the flow's 1x1 convolutions, without actnorm."""
    mixes = (mix for steps in model.levels for mix, _ in steps)
    weights = (mix.weights()[0] * (-mix.factors()[3]).exp() for mix in mixes)
    return max(torch.linalg.cond(weight.detach().double()).item() for weight in weights)


def _directions(model: Glow, corpus: Corpus) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Displacements between every two vowels, and the sexes, of codes and of pictures; and a random one of equal norm each.

    They are of many tokens: the mean of a few codes is mostly noise, and nearly as long as a code. A class with less than a third of
    the tokens that the largest has is left out.
    """
    speech = corpus.split["train"] if len(corpus.split["train"]) else corpus
    speech = usable(speech, _observation(model)).draw(300, by=("split", "phone"))
    codes, table = model.encode(images(speech, observation=_observation(model))), speech.table
    both = []
    for space in (codes.flat, codes.image.flatten(1)):
        found = []
        for factor in ("phone", "sex"):
            counts = table[factor].value_counts()
            for one, other in combinations(sorted(counts[counts >= counts.max() / 3].index), 2):
                rows = [torch.from_numpy(np.flatnonzero(table[factor] == name)) for name in (one, other)]
                found.append(direction(space[rows[0]], space[rows[1]]))
        both.append(found + [random_direction(found[0] if found else torch.ones_like(space[:1]))])
    return tuple(both)


def _some(count: int, wanted: int) -> np.ndarray:
    """``wanted`` rows of ``count``, evenly spread; all of them where there are no more."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(int))


def _spread(decoded: Iterable[torch.Tensor]) -> dict:
    """How far decoded pictures go: pixels that are not finite, share outside [-0.1, 1.1], the largest finite one."""
    pictures, pixels, not_finite, outside, largest = 0, 0, 0, 0, 0.0
    for part in decoded:
        finite = torch.isfinite(part)
        pictures, pixels = pictures + len(part), pixels + part.numel()
        not_finite += (~finite).sum().item()
        outside += (~((part >= -0.1) & (part <= 1.1))).sum().item()
        largest = max(largest, part.where(finite, 0).abs().max().item())
    return {"pictures": pictures, "not_finite": not_finite, "outside_share": outside / pixels, "largest": largest}


def _card(folder: Path, metrics: dict) -> str:
    config = json.loads((folder / "config.json").read_text())
    glow, speakers = glow_config(config), config["speakers"]
    seen = observation_of((glow.side, glow.frames))
    pictures = config.get("pictures", config["steps"] * config["profile"]["batch"])
    halves = any(value.dtype == torch.float16 for value in load_file(folder / "model.safetensors").values())
    rows = [
        f"| {split} | {_told(row)} | {_told(row['kilobits'], 1)} | {_told(row.get('middle'))} | {_told(best[1])} ({best[0]}) "
        f"| {_told(row['FLAC']['kilobits'], 1)} "
        f"| {row['worst']:.2f} | {row['lost']} | {row['clusters']} | {row['tokens']:,} | {row['draws']} |"
        for split, row in metrics["bits_per_dim"].items()
        for best in [min(row["rivals"].items(), key=lambda rival: rival[1]["estimate"])]
    ]
    told_apart = metrics["discriminator"]
    discriminated = [
        f"| {name} | {row['auc']:.3f} | {min(row['fits']):.3f} to {max(row['fits']):.3f} |"
        for name, row in told_apart.items()
        if name != "tokens"
    ]
    exact = metrics["exactness"]
    off = ", ".join(f"{name} {value:.1e}" for name, value in exact["off_the_data"].items())
    limits = [
        f"| {text} | {row['pictures']:,} | {row['not_finite']} | {row['outside_share']:.4%} | {row['largest']:.3g} |"
        for text, row in ((text, metrics["stability"][kind]) for kind, text in SPREADS.items())
    ]
    padded = "most of a picture is padding, which is cheap to model, so " if seen is PADDED else ""
    said = "\n".join(f"- {split}: {', '.join(names)}" for split, names in sorted(speakers.items()))
    return f"""# {folder.name}

A Glow flow from {glow.side}x{glow.frames} vowel spectrograms, the observation `{seen.name}`, to Gaussian codes. This card is generated from `config.json` and
`metrics.json` beside it.

- **Data**: {config["segments"]["train"]:,} segments of train speakers of `{config["corpus"]}` (fingerprint {config["fingerprint"]}):
  the vowels {", ".join(config["vowels"])}.
- **Licence of the weights**: {config["licence"]}.
- **Shape**: {len(glow.hidden)} levels of {list(glow.steps)} steps, coupling widths {list(glow.hidden)}, {metrics["parameters"]:,} parameters,
  stored in {16 if halves else 32} bits.
- **Training**: {pictures:,} pictures{_since(config)}, where validation speakers cost least in a training of {config["steps"]:,} steps
  of {config["profile"]["batch"]} and {config["minutes"]:.0f} minutes; seed {config["seed"]}, {config["machine"]}. `log.csv` has the curve.
- **SHA-256** of `model.safetensors`: `{config["sha256"]}`

Bits per dimension, mean over speakers with its 95 % t interval where there are enough of them, without the sentences that
every speaker says, over so many draws of dequantization noise. A share of {LOST:g} of the density is uniform over all pictures, so that one the flow makes
nothing of costs 8 bits; how many of these there are is under "lost", and what the worst token costs without that share beside it. Of a whole picture's bits,
"middle" has what the flow allocates to the middle {MIDDLE} ms of segments that are as long. Beside it
the best of a diagonal Gaussian, probabilistic PCA, a Gaussian mixture and the flow before training.

| speakers | bits per dimension | kilobits per second | middle | best simple model | FLAC, kilobits per second | worst token | lost | number | tokens | draws |
|---|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Greatest difference between a picture and its decoded code, {exact["tokens"]:,} tokens: {exact["float32"]:.1e} in float32
({exact["float32_reordered"]:.1e} in another order and batch), {exact["float64"]:.1e} in float64. Largest condition of a 1x1
convolution: {metrics["stability"]["worst_condition"]:.2f}. Of pictures unlike any it learned from, in float32: {off}.
What is moved or lies on lines below is of {metrics["stability"]["tokens_of"]}.

| decoded | pictures | pixels not finite | outside [-0.1, 1.1] | largest pixel |
|---|---|---|---|---|
{chr(10).join(limits)}

## Samples

![Unselected samples, the training token nearest to each, and real tokens](samples.png)

{_memory(metrics["memory"])}

AUC of a small network that tells pictures from {told_apart["tokens"]} tokens of validation speakers, on speakers it was not fitted on: mean and
range of its fits. 0.5 cannot be told from real tokens, 1 always is. *floor* are real training tokens, which a perfect flow would
reach; *real* are other tokens of the same speakers; below these are the controls that must come out near 1.

| pictures | AUC | fits |
|---|---|---|
{chr(10).join(discriminated)}

## Speakers

{said}

## Known faults

Trained on isolated vowels of few speakers; {padded}bits per dimension
compare only with models of the same pictures. A rare picture of a person it never met may be lost on it (first table). Far from the codes of vowels it decodes to what is no picture (table above).
Meant for study, not for making or recognising speech.
"""


def _since(config: dict) -> str:
    """Where a training that did not start from nothing began."""
    origin = config.get("started_from")
    return f", the first of them by `{origin['model']}`, from whose weights it went on" if origin else ""


def _memory(found: dict) -> str:
    real = "" if found["held_out_db"] is None else f", of pictures of test speakers {found['held_out_db']:.1f} dB"
    return (
        f"Median distance to the nearest of {found['train_pictures']:,} train pictures: of samples"
        f" {found['samples_db']:.1f} dB{real}. Copies would be near 0."
    )


def _told(row: dict | None, digits: int = 3) -> str:
    """An estimate with its interval, if it has one."""
    if not row:
        return "-"
    ends = "" if row["low"] is None else f" ({row['low']:.{digits}f} to {row['high']:.{digits}f})"
    return f"{row['estimate']:.{digits}f}{ends}"
