"""Judges of identity: three classifiers of different kinds say which vowel, sex and speaker a picture shows.

One is linear on mel-cepstra, one is a small convolutional network on log-mel pictures, and one is a quadratic
discriminant on F0 and formants. A method that suits one of them is not preferred by all three. They were
fitted on speakers whose tokens estimate no direction and are evaluated nowhere. The score of a picture is the
mean of their calibrated probabilities. Phases are always invented, because a true phase alone contains
intelligible speech.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.fft import dct
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from torch import nn
from torch.nn import functional as F

from vowelflow.base import InputError, save_atomically
from vowelflow.checkpoint import file_hash, models_folder
from vowelflow.corpus import VOWELS, Corpus
from vowelflow.spectrogram import VOWEL, images

from .acoustics import COLUMNS, measurements, speaker_ceilings
from .measures import MELS, extent, mel_decibels
from .references import judge_speakers

SLOTS = 24  # columns of a log-mel picture, spread evenly over the vowel
THIRDS, COEFFICIENTS = (
    3,
    30,
)  # of a vowel, and of its mel-cepstrum: 13 would leave out what tells women from men
FORMANTS = {"f0": "f0", "f1": "f1_middle", "f2": "f2_middle", "f3": "f3_middle"}  # columns of measurements
KINDS = ("cepstrum", "network", "formants")
FACTORS = ("phone", "sex")
STEPS, BATCH = 1500, 64  # of the network's training


@dataclass(frozen=True)
class Features:
    """What the judges see of n pictures.

    Attributes:
        log_mel: decibels in mel bands below the picture's peak, ``(n, 40, 24)``; NaN if nothing sounds.
        acoustics: a table of ``acoustics.measurements`` with n rows.
    """

    log_mel: np.ndarray
    acoustics: pd.DataFrame

    def __len__(self) -> int:
        return len(self.log_mel)

    def take(self, rows) -> Features:
        return Features(self.log_mel[rows], self.acoustics.iloc[rows])

    @staticmethod
    def joined(parts: Sequence[Features]) -> Features:
        tables = pd.concat([part.acoustics for part in parts], ignore_index=True)
        return Features(np.concatenate([part.log_mel for part in parts]), tables)

    @cached_property
    def cepstra(self) -> np.ndarray:
        """Mean mel-cepstrum of each third of the vowel, without c0, the level: ``(n, 90)``."""
        cepstra = dct(self.log_mel, axis=1, norm="ortho")[:, 1 : COEFFICIENTS + 1]
        thirds = cepstra.reshape(len(self), COEFFICIENTS, THIRDS, -1).mean(3)
        return thirds.transpose(0, 2, 1).reshape(len(self), -1)

    @cached_property
    def formants(self) -> np.ndarray:
        """Logarithms of F0 to F3 ``(n, d)``; NaN where Praat finds none."""
        names = [name for name in self.acoustics if name.startswith(tuple(FORMANTS))]
        return self.acoustics[names].to_numpy(float)


def features_of(pictures: torch.Tensor, samples: np.ndarray, ceilings: np.ndarray) -> Features:
    """Features of pictures ``(n, 1, side, frames)``.

    Args:
        samples: durations in samples ``(n,)``.
        ceilings: formant ceilings of the speakers in Hz ``(n,)``.
    """
    pictures = torch.as_tensor(pictures)
    log_mel = np.array([_log_mel(picture) for picture in pictures]).reshape(-1, MELS, SLOTS)
    return Features(log_mel, measurements(pictures, samples, ceilings))


def _log_mel(picture: torch.Tensor) -> np.ndarray:
    first, last = extent(picture)
    if last - first < SLOTS:
        return np.full((MELS, SLOTS), np.nan)
    edges = np.linspace(first, last, SLOTS + 1).round().astype(int)
    decibels = mel_decibels(picture, slice(first, last))
    return np.stack([decibels[:, a - first : b - first].mean(1) for a, b in zip(edges, edges[1:])], 1)


# ---- the classifiers


class Gaussians:
    """One Gaussian for each class, with equal priors: linear if they share a covariance, else quadratic.

    Covariances are shrunk (Ledoit and Wolf 2004), and a quadratic one half towards the shared one (Friedman
    1989). Missing features count as average.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays

    @classmethod
    def fit(cls, x: np.ndarray, labels: np.ndarray, classes: Sequence[str], shared: bool) -> Gaussians:
        from sklearn.covariance import ledoit_wolf

        found = cls({"mean": np.nanmean(x, 0), "scale": np.nanstd(x, 0) + 1e-9})
        x = found._standard(x)
        means = np.array([x[labels == name].mean(0) for name in classes])
        within = x - means[np.searchsorted(classes, labels)]
        pooled, _ = ledoit_wolf(within)
        covariances = [pooled]
        if not shared:
            covariances = [(ledoit_wolf(within[labels == name])[0] + pooled) / 2 for name in classes]
        found.arrays |= {"means": means, "precisions": np.linalg.inv(covariances)}
        return found

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Log likelihoods ``(n, classes)``, up to a constant of each row."""
        gaps = self._standard(x)[:, None] - self.arrays["means"]
        precisions = np.broadcast_to(self.arrays["precisions"], (gaps.shape[1], gaps.shape[2], gaps.shape[2]))
        distances = np.einsum("nkd,kde,nke->nk", gaps, precisions, gaps)
        return (np.linalg.slogdet(precisions)[1] - distances) / 2

    def _standard(self, x: np.ndarray) -> np.ndarray:
        scaled = (x - self.arrays["mean"]) / self.arrays["scale"]
        return np.where(np.isfinite(scaled), scaled, 0)


class Network(nn.Module):
    """Log-mel pictures ``(n, 1, 40, 24)`` -> embeddings ``(n, 96)``, and a linear layer for each factor."""

    def __init__(self, classes: dict[str, int]):
        super().__init__()
        layers, channels = [], 1
        for width in (16, 32, 48):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
            channels = width
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d((5, 3)), nn.Flatten(), nn.Dropout(0.3))
        self.embed = nn.Sequential(nn.Linear(15 * channels, 96), nn.ReLU(), nn.Dropout(0.3))
        self.heads = nn.ModuleDict({factor: nn.Linear(96, count) for factor, count in classes.items()})

    def forward(self, log_mel: torch.Tensor) -> dict[str, torch.Tensor]:
        embedding = self.embed(self.trunk(log_mel))
        return {"embedding": embedding} | {name: head(embedding) for name, head in self.heads.items()}


def _inputs(log_mel: np.ndarray) -> torch.Tensor:
    """The network's inputs: silence where nothing is finite, roughly standardized."""
    return torch.from_numpy(np.nan_to_num(log_mel, nan=-80.0)).float()[:, None] / 20 + 2


def _fit_network(log_mel: np.ndarray, labels: pd.DataFrame, classes: dict, seed: int) -> Network:
    """Fit on random levels and tilts (up to 6 dB), so that neither says what a vowel is."""
    x, truth = _inputs(log_mel), {}
    for factor, names in classes.items():
        truth[factor] = torch.from_numpy(np.searchsorted(names, labels[factor]))
    weights = {factor: (1 / torch.bincount(one).float()).sqrt() for factor, one in truth.items()}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network({factor: len(names) for factor, names in classes.items()}).train()
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
        tilt = torch.linspace(-1, 1, MELS)[:, None]
        for _ in range(STEPS):
            rows = torch.randint(len(x), (BATCH,))
            level, slope = 0.3 * torch.randn(2, BATCH, 1, 1, 1)
            found = network(x[rows] + level + slope * tilt)
            loss = sum(
                F.cross_entropy(found[factor], one[rows], weights[factor]) for factor, one in truth.items()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@dataclass(frozen=True)
class Judges:
    """The three fitted judges; ``fit_judges`` makes them, ``load_judges`` reads them.

    Attributes:
        about: their corpus, fingerprint, licence, tokens and speakers, classes, and the accuracy of each on
            speakers that no judge was fitted on.
        gaussians: the two discriminants of each factor, by "cepstrum phone" and so on.
        sharpness: inverse temperatures by judge and factor, chosen on validation speakers (Guo et al. 2017).
        origin: SHA-256 hash of their file; "" if they were not read from one.
    """

    about: dict
    gaussians: dict[str, Gaussians]
    network: Network
    sharpness: dict[str, float]
    origin: str = ""

    def each(self, features: Features, factor: str) -> dict[str, pd.DataFrame]:
        """Calibrated probabilities of "phone" or "sex" by each judge: one column for each class.

        All classes are equally probable for a picture in which nothing sounds.
        """
        names = self.about["classes"][factor]
        with torch.no_grad():
            of_network = self.network(_inputs(features.log_mel))[factor].numpy().astype(float)
        wanted = [self.about["network classes"][factor].index(name) for name in names]
        logits = {
            "cepstrum": self.gaussians[f"cepstrum {factor}"].logits(features.cepstra),
            "network": of_network[:, wanted],
            "formants": self.gaussians[f"formants {factor}"].logits(features.formants),
        }
        silent = ~np.isfinite(features.log_mel[:, 0, 0])
        found = {}
        for kind, values in logits.items():
            values = np.where(silent[:, None], 0, values).astype(float) * self.sharpness[f"{kind} {factor}"]
            found[kind] = pd.DataFrame(softmax(values, axis=1), columns=names)
        return found

    def posterior(self, features: Features, factor: str) -> pd.DataFrame:
        """The mean of the three judges' probabilities."""
        return sum(self.each(features, factor).values()) / len(KINDS)

    def probability(self, features: Features, factor: str, labels: Sequence[str]) -> pd.DataFrame:
        """The probability of each row's label: a column for each judge, and their "mean"."""
        each = {kind: probability_of(one, labels) for kind, one in self.each(features, factor).items()}
        return pd.DataFrame(each).assign(mean=sum(each.values()) / len(each))

    def embeddings(self, features: Features) -> np.ndarray:
        """The network's description of pictures ``(n, 96)``, for judges of speakers."""
        with torch.no_grad():
            return self.network(_inputs(features.log_mel))["embedding"].numpy()

    def save(self, path: Path) -> Path:
        """Write the judges to one safetensors file."""
        from safetensors.torch import save_file

        arrays = {f"network/{name}": value.contiguous() for name, value in self.network.state_dict().items()}
        for name, one in self.gaussians.items():
            arrays |= {f"{name}/{key}": torch.tensor(value) for key, value in one.arrays.items()}
        about = {"about": json.dumps(self.about | {"sharpness": self.sharpness})}
        return save_atomically(path, lambda file: save_file(arrays, file, about))


def probability_of(posterior: pd.DataFrame, labels) -> np.ndarray:
    """The probability of each row's own label ``(n,)``, from a ``posterior``."""
    return posterior.to_numpy()[np.arange(len(posterior)), posterior.columns.get_indexer(labels)]


def accuracy(judges: Judges, features: Features, table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Accuracy of each judge and of their mean, for vowel and sex, averaged over classes."""
    found = {}
    for factor in FACTORS:
        each = judges.each(features, factor) | {"mean": judges.posterior(features, factor)}
        labels = table[factor].to_numpy()
        right = pd.DataFrame({kind: one.idxmax(axis=1).to_numpy() == labels for kind, one in each.items()})
        found[factor] = right.groupby(labels).mean().mean().to_dict()
    return found


def corpus_features(corpus: Corpus) -> Features:
    """Features of all segments of a corpus, from their ``vowel`` pictures."""
    ceilings = corpus.table.speaker.map(speaker_ceilings(corpus)).to_numpy(float)
    samples = (corpus.table.end - corpus.table.start).to_numpy()
    parts = [np.arange(first, min(first + 512, len(corpus))) for first in range(0, len(corpus), 512)]
    made = (images(corpus.take(rows), observation=VOWEL) for rows in parts)
    return Features.joined(
        [features_of(one, samples[rows], ceilings[rows]) for one, rows in zip(made, parts)]
    )


def fit_judges(corpus: Corpus, seed: int = 0) -> Judges:
    """Fit the judges on ``judge_speakers``, and calibrate them on validation speakers.

    Vowels other than the five teach the network, and the discriminants of sex.

    Raises:
        InputError: one of the speaker sets has no token of a vowel or of a sex.
    """
    parts = {
        "fit": judge_speakers(corpus),
        "valid": corpus.held_out("valid"),
        "test": corpus.held_out("test"),
    }
    for name, part in parts.items():
        if not set(part.table.phone) >= set(VOWELS) or part.table.sex.nunique() < 2:
            who = f"{name} speakers of {corpus.name}"
            raise InputError(f"{who} lack a vowel or a sex; use more of the corpus")
    features = {name: corpus_features(part) for name, part in parts.items()}
    labels, x = parts["fit"].table, features["fit"]
    classes = {"phone": sorted(VOWELS), "sex": ["f", "m"]}
    every = {"phone": sorted(labels.phone.unique()), "sex": ["f", "m"]}
    network, gaussians = _fit_network(x.log_mel, labels, every, seed), {}
    for factor, names in classes.items():
        rows = np.flatnonzero(labels[factor].isin(names))
        for kind, values in (("cepstrum", x.cepstra), ("formants", x.formants)):
            fitted = Gaussians.fit(values[rows], labels[factor].to_numpy()[rows], names, kind == "cepstrum")
            gaussians[f"{kind} {factor}"] = fitted
    about = {
        "corpus": corpus.name, "fingerprint": corpus.fingerprint, "licence": corpus.licence,
        "tokens": len(labels), "speakers": int(labels.speaker.nunique()),
        "classes": classes, "network classes": every,
    }  # fmt: skip
    plain = {f"{kind} {factor}": 1.0 for kind in KINDS for factor in FACTORS}
    judges = Judges(about, gaussians, network, plain)
    five = {name: np.flatnonzero(parts[name].table.phone.isin(VOWELS)) for name in ("valid", "test")}
    valid, table = features["valid"].take(five["valid"]), parts["valid"].table.iloc[five["valid"]]
    sharpness = {}
    for factor in FACTORS:
        for kind, one in judges.each(valid, factor).items():
            truth = one.columns.get_indexer(table[factor])
            sharpness[f"{kind} {factor}"] = _calibrated(np.log(one.to_numpy().clip(1e-300)), truth)
    judges = Judges(about, gaussians, network, sharpness)
    test = accuracy(judges, features["test"].take(five["test"]), parts["test"].table.iloc[five["test"]])
    about["accuracy"] = {
        factor: {kind: round(value, 4) for kind, value in one.items()} for factor, one in test.items()
    }
    return judges


def _calibrated(logits: np.ndarray, truth: np.ndarray) -> float:
    """The inverse temperature, at most 1, that gives the true classes the highest likelihood."""

    def cost(log_sharpness):
        return -log_softmax(logits * np.exp(log_sharpness), axis=1)[np.arange(len(truth)), truth].mean()

    return float(np.exp(minimize_scalar(cost, bounds=(-3, 0), method="bounded").x))


def load_judges(corpus_name: str, models: Path | None = None) -> Judges:
    """Read the judges for a corpus from ``models``: those for synthetic speech, or those for real speech.

    Raises:
        InputError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = (
        models or models_folder()
    ) / f"judges-{'klatt' if corpus_name == 'klatt' else 'speech'}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            about = json.loads(file.metadata()["about"])
        sharpness = about.pop("sharpness")
        gaussians: dict[str, dict] = {}
        for name, value in arrays.items():
            owner, key = name.split("/", 1)
            gaussians.setdefault(owner, {})[key] = value
        network = Network({factor: len(names) for factor, names in about["network classes"].items()})
        network.load_state_dict(gaussians.pop("network"))
        made = {
            name: Gaussians({key: value.numpy() for key, value in one.items()})
            for name, one in gaussians.items()
        }
        judges = Judges(about, made, network.eval(), sharpness, file_hash(path))
        names = [name for name in COLUMNS if name.startswith(tuple(FORMANTS))]
        blank = Features(np.zeros((1, MELS, SLOTS)), pd.DataFrame(np.zeros((1, len(names))), columns=names))
        for factor in FACTORS:
            judges.posterior(blank, factor)
    except (
        OSError,
        SafetensorError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        raise InputError(f"{path}: no usable judges ({error}); fetch it again") from None
    return judges


class Voices:
    """Judges of speakers: each scores the utterances that it was not fitted on.

    They are linear discriminants on mel-cepstra, on the network's embeddings, and on F0 and formants.
    """

    def __init__(self, judges: Judges, features: Features, table: pd.DataFrame):
        self.judges, self.classes = judges, sorted(table.speaker.unique())
        halves = half_of_utterances(table)
        self.fitted = []
        for half in (0, 1):
            others, labels = features.take(np.flatnonzero(halves != half)), table.speaker[halves != half]
            names = sorted(set(labels))
            self.fitted.append((
                names,
                {kind: Gaussians.fit(x, labels.to_numpy(), names, True) for kind, x in self._views(others).items()},
            ))  # fmt: skip

    def _views(self, features: Features) -> dict[str, np.ndarray]:
        embeddings = self.judges.embeddings(features)
        return {"cepstrum": features.cepstra, "network": embeddings, "formants": features.formants}

    def probability(self, features: Features, halves: np.ndarray, speakers: np.ndarray) -> np.ndarray:
        """Mean probability ``(n,)`` of the tokens' speakers; NaN for speakers that were not fitted."""
        found, views = np.full(len(features), np.nan), self._views(features)
        for half, (names, fitted) in enumerate(self.fitted):
            rows = np.flatnonzero((halves == half) & np.isin(speakers, names))
            if len(rows):
                chances = [softmax(one.logits(views[kind][rows]), axis=1) for kind, one in fitted.items()]
                found[rows] = np.mean(chances, 0)[
                    np.arange(len(rows)), np.searchsorted(names, speakers[rows])
                ]
        return found


def half_of_utterances(table: pd.DataFrame) -> np.ndarray:
    """0 or 1 for each token: every second utterance of each speaker, ``(n,)``."""
    return table.groupby("speaker").utterance.rank("dense").to_numpy().astype(int) % 2
