"""Listener: what a picture would be heard as, by a judge that knows neither the flow nor the speaker.

It hears a picture through its mel-cepstrum and through the formants and F0 of the sound that Griffin-Lim makes of its
magnitudes. A phase is never borrowed: true phase alone is nearly speech. It was fitted on people whom nothing else in
the study is tested on; its accuracy on real tokens is the ceiling of every score it gives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from .checkpoint import file_hash, models_folder
from .corpus import VOWELS, Corpus, InputError, save_atomically
from .judges import CEPSTRUM, mel_cepstrum, picture_formants, sounding
from .spectrogram import batches

THIRDS = 3
SHORTEST = 30  # frames that must sound, for there to be a vowel
HEARD = ("f0", "f1", "f2", "f3")
COLUMNS = (*(f"c{k}_{third}" for third in range(THIRDS) for k in range(1, CEPSTRUM + 1)), *HEARD)
TIMBRE = len(COLUMNS) - len(HEARD)
MIXED, PLANE = 16, 12  # Gaussians of the density, in so many principal directions of the mel-cepstrum
SURE = 0.05  # nats of entropy: who is surer of a vowel is no surer for this study
REGION = 0.95  # of real tokens, which the region of plausible ones holds


def features(pictures: torch.Tensor, formants: bool = True) -> np.ndarray:
    """What the listener hears of pictures ``(n, 1, 288, 288)``: ``(n, 43)``, NaN where there is nothing to hear.

    The mean mel-cepstrum of each third of the part that sounds, and log F0 to F3 of its sound (``COLUMNS``).

    Args:
        formants: without them the last four are NaN, and it takes a hundredth of the time.
    """
    pictures = torch.as_tensor(pictures)
    if len(pictures) < 64 or not formants:
        return np.array([_features(picture, formants) for picture in pictures]).reshape(len(pictures), -1)
    from joblib import Parallel, delayed

    parts = Parallel(n_jobs=-1)(delayed(_some_features)(part.numpy()) for part in pictures.split(32))
    return np.concatenate(parts)


def _some_features(pictures: np.ndarray) -> np.ndarray:
    torch.set_num_threads(1)
    return np.array([_features(torch.tensor(picture), True) for picture in pictures])


def _features(picture: torch.Tensor, formants: bool) -> np.ndarray:
    first, last = sounding(picture)
    if last - first < SHORTEST:
        return np.full(len(COLUMNS), np.nan)
    thirds = np.array_split(mel_cepstrum(picture, slice(first, last)), THIRDS)
    heard = picture_formants(picture, "f") if formants else dict.fromkeys(HEARD, np.nan)  # one ceiling for everybody
    return np.concatenate([*(part.mean(0) for part in thirds), np.log([heard[name] for name in HEARD])])


def corpus_features(corpus: Corpus) -> np.ndarray:
    """``features`` of a corpus's segments, whose pictures need not fit into memory together."""
    return np.concatenate([features(pictures) for pictures, _ in batches(corpus, batch=256)])


@dataclass(frozen=True)
class Listener:
    """A fitted listener; ``fit_listener`` makes one, ``load_listener`` reads one.

    Attributes:
        about: whom it was fitted on: corpus, fingerprint, licence, numbers of tokens and speakers, accuracy on
            speakers that it was not fitted on.
        arrays: what was fitted, by name.
        origin: SHA-256 of its file; "" for one that was not saved.
    """

    about: dict
    arrays: dict[str, np.ndarray]
    origin: str = ""

    def posterior(self, heard: np.ndarray, factor: str) -> pd.DataFrame:
        """Calibrated probabilities of ``factor`` ("phone" or "sex") for ``features``: a column a class.

        Where nothing sounds, all classes are equally probable.
        """
        logits = self._standard(heard) @ self.arrays[f"{factor}_weights"].T + self.arrays[f"{factor}_bias"]
        logits[np.isnan(heard[:, 0])] = 0
        return pd.DataFrame(softmax(logits * self.arrays[f"{factor}_sharpness"], axis=1), columns=self.about[factor])

    def log_density(self, heard: np.ndarray) -> np.ndarray:
        """Log density of the mel-cepstrum under a mixture fitted on real vowels, nats, ``(n,)``.

        What does not sound, and what is less probable than any vowel that it was fitted on by far, gets the ``floor``.
        """
        inside = (self._standard(heard)[:, :TIMBRE] @ self.arrays["plane"].T).astype(np.float64)
        values = self._mixture.score_samples(inside)
        floor = float(self.arrays["floor"][0])
        return np.where(np.isnan(heard[:, 0]), floor, np.maximum(values, floor))

    def speech(self, heard: np.ndarray) -> np.ndarray:
        """Whether the mel-cepstrum is as probable as that of ``REGION`` of real vowels, ``(n,)`` bool."""
        return self.log_density(heard) >= self.arrays["least"][0]

    def plausible(self, heard: np.ndarray) -> np.ndarray:
        """Whether F0 to F3 and the entropy of the vowel's posterior lie where those of real vowels do, ``(n,)`` bool.

        Each in an interval, all five of which ``REGION`` of the real vowels share. What has no F0 or formant does not.
        """
        told = self._told(heard)
        low, high = self.arrays["region"]
        return ((told >= low) & (told <= high)).all(1)

    def _told(self, heard: np.ndarray) -> np.ndarray:
        chance = self.posterior(heard, "phone").to_numpy()
        entropy = -(chance * np.log(np.maximum(chance, 1e-12))).sum(1)
        return np.column_stack([heard[:, TIMBRE:], np.maximum(entropy, SURE)])

    def _standard(self, heard: np.ndarray) -> np.ndarray:
        scaled = (heard - self.arrays["mean"]) / self.arrays["scale"]
        return np.where(np.isfinite(scaled), scaled, 0)  # what was not found tells nothing

    @property
    def _mixture(self):
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(MIXED)
        for name in ("weights", "means", "covariances", "precisions_cholesky"):
            setattr(mixture, f"{name}_", self.arrays[f"mixture_{name}"])
        return mixture

    def save(self, path: Path) -> Path:
        """Write it to one safetensors file."""
        from safetensors.numpy import save_file

        held = {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in self.arrays.items()}
        return save_atomically(path, lambda file: save_file(held, file, {"about": json.dumps(self.about)}))


def fit_listener(corpus: Corpus, seed: int = 0) -> Listener:
    """A listener for the five vowels, fitted on train speakers and calibrated on validation speakers.

    Shrinkage LDA with equal priors of phone and of sex; the inverse temperature of each, ``sharpness``, at most 1, makes validation
    speakers' labels most probable (Guo et al. 2017). The accuracy it tells is on test speakers.

    Raises:
        InputError: a vowel or a sex of which train or validation speakers have no token.
    """
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.mixture import GaussianMixture

    parts = {name: part.filter(phone=VOWELS) for name, part in corpus.split.items()}
    for name, part in parts.items():
        if set(part.table.phone) != set(VOWELS) or part.table.sex.nunique() < 2:
            raise InputError(f"{corpus.name} has not every vowel and both sexes among {name} speakers; give more of it")
    heard = {name: corpus_features(part) for name, part in parts.items()}
    audible = np.isfinite(heard["train"][:, 0])
    known, labels = heard["train"][audible], parts["train"].table[audible]
    arrays = {"mean": np.nanmean(known, 0), "scale": np.nanstd(known, 0), "floor": np.array([-1e3])}
    about = {
        "corpus": corpus.name, "fingerprint": corpus.fingerprint, "licence": corpus.licence, "tokens": len(known),
        "speakers": int(labels.speaker.nunique()), "phone": list(VOWELS), "sex": ["f", "m"], "accuracy": {},
    }  # fmt: skip
    listener = Listener(about, arrays)
    standard = listener._standard(known)
    for factor in ("phone", "sex"):
        classes = np.array(about[factor])
        lda = LinearDiscriminantAnalysis("lsqr", "auto", np.full(len(classes), 1 / len(classes)))
        lda.fit(standard, np.searchsorted(classes, labels[factor]))
        weights, bias = lda.coef_, lda.intercept_
        if len(classes) == 2:  # one row: the second class against the first
            weights, bias = np.concatenate([np.zeros_like(weights), weights]), np.array([0, bias[0]])
        arrays |= {f"{factor}_weights": weights, f"{factor}_bias": bias, f"{factor}_sharpness": np.ones(1)}
        truth = np.searchsorted(classes, parts["valid"].table[factor])
        logits = np.log(np.maximum(listener.posterior(heard["valid"], factor).to_numpy(), 1e-300))

        def cost(log_sharpness, logits=logits, truth=truth):
            return -log_softmax(logits * np.exp(log_sharpness), axis=1)[np.arange(len(truth)), truth].mean()

        arrays[f"{factor}_sharpness"] = np.exp([minimize_scalar(cost, bounds=(-3, 0), method="bounded").x])
        found = classes[listener.posterior(heard["test"], factor).to_numpy().argmax(1)]
        about["accuracy"][factor] = round(float((found == parts["test"].table[factor]).mean()), 4)
    pca = PCA(PLANE, random_state=seed).fit(standard[:, :TIMBRE])
    mixture = GaussianMixture(MIXED, reg_covar=1e-2, random_state=seed).fit(pca.transform(standard[:, :TIMBRE]))
    arrays["plane"] = pca.components_  # of what has a mean of 0
    for name in ("weights", "means", "covariances", "precisions_cholesky"):
        arrays[f"mixture_{name}"] = getattr(mixture, f"{name}_")
    values = listener.log_density(known)
    arrays["floor"], arrays["least"] = np.array([values.min() - 100]), np.quantile(values, [1 - REGION])
    arrays["region"] = _region(listener._told(known))
    return listener


def _region(told: np.ndarray) -> np.ndarray:
    """Intervals ``(2, columns)`` that ``REGION`` of the rows share: equal shares are cut from all of their ends."""
    told = told[np.isfinite(told).all(1)]
    for cut in np.linspace(0.025, 0, 201):
        region = np.quantile(told, [cut, 1 - cut], axis=0)
        if ((told >= region[0]) & (told <= region[1])).all(1).mean() >= REGION:
            break
    return region


def load_listener(corpus_name: str, models: Path | None = None) -> Listener:
    """The listener for a corpus: of ``models/``, the one for synthetic or the one for real speech.

    Raises:
        InputError: the file is missing or is not a listener's.
    """
    from safetensors import SafetensorError, safe_open

    kind = "klatt" if corpus_name == "klatt" else "speech"
    path = (models or models_folder()) / f"listener-{kind}.safetensors"
    try:
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            listener = Listener(json.loads(file.metadata()["about"]), arrays, file_hash(path))
        listener.plausible(np.zeros((1, len(COLUMNS))))
        listener.speech(np.zeros((1, len(COLUMNS))))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no usable listener ({error}); fetch it again") from None
    return listener


def enrolled(heard: np.ndarray, speakers: Sequence[str]):
    """A judge of voices: shrinkage LDA of ``features`` of enrolled speakers; ``predict_proba`` gives a column each."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = len(set(speakers))
    lda = LinearDiscriminantAnalysis("lsqr", "auto", np.full(count, 1 / count))
    judge = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), lda)
    return judge.fit(heard, list(speakers))
