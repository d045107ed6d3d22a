"""The vowel judge: the probability of each vowel and sex, given a picture.

Its features are the mel-cepstrum of the picture, and the formants and F0 of the sound that Griffin-Lim makes
from it. It never uses a true phase, which alone contains intelligible speech. It was fitted on speakers on
whom nothing else in the study is evaluated. Its accuracy on real tokens is an upper limit for its scores.
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

from vowelflow.base import InputError, save_atomically
from vowelflow.checkpoint import file_hash, models_folder
from vowelflow.corpus import VOWELS, Corpus
from vowelflow.spectrogram import batches

from .judges import CEPSTRUM, mel_cepstrum, picture_formants, sounding

THIRDS = 3
SHORTEST = 30  # frames that must sound in a vowel
FORMANTS = ("f0", "f1", "f2", "f3")
COLUMNS = (*(f"c{k}_{third}" for third in range(THIRDS) for k in range(1, CEPSTRUM + 1)), *FORMANTS)
TIMBRE = len(COLUMNS) - len(FORMANTS)
MIXED, PLANE = 16, 12  # Gaussians of the density, and principal directions of the mel-cepstrum that they use
SURE = 0.05  # nats; lower entropies are clipped
REGION = 0.95  # share of real tokens in the plausible region


def features(pictures: torch.Tensor, formants: bool = True) -> np.ndarray:
    """Features ``(n, 43)`` of pictures ``(n, 1, 288, 288)``; NaN if fewer than 30 frames sound.

    They are the mean mel-cepstrum of each third of the sounding frames, and log F0 to F3 (``COLUMNS``).

    Args:
        formants: if False, the last four features are NaN, and the others take a hundredth of the time.
    """
    pictures = torch.as_tensor(pictures)
    if len(pictures) < 64 or not formants:
        return np.array([_features(picture, formants) for picture in pictures]).reshape(len(pictures), -1)
    from joblib import Parallel, delayed

    parts = Parallel(n_jobs=-1)(delayed(_batch_features)(part.numpy()) for part in pictures.split(32))
    return np.concatenate(parts)


def _batch_features(pictures: np.ndarray) -> np.ndarray:
    torch.set_num_threads(1)
    return np.array([_features(torch.tensor(picture), True) for picture in pictures])


def _features(picture: torch.Tensor, formants: bool) -> np.ndarray:
    first, last = sounding(picture)
    if last - first < SHORTEST:
        return np.full(len(COLUMNS), np.nan)
    thirds = np.array_split(mel_cepstrum(picture, slice(first, last)), THIRDS)
    # All speakers are measured with the formant ceiling for women, because features must not know the sex.
    x = picture_formants(picture, "f") if formants else dict.fromkeys(FORMANTS, np.nan)
    return np.concatenate([*(part.mean(0) for part in thirds), np.log([x[name] for name in FORMANTS])])


def corpus_features(corpus: Corpus) -> np.ndarray:
    """``features`` of all segments of a corpus, whose pictures do not have to fit into memory together."""
    return np.concatenate([features(pictures) for pictures, _ in batches(corpus, batch=256)])


@dataclass(frozen=True)
class VowelJudge:
    """A fitted judge; ``fit_judge`` makes one, ``load_judge`` reads one.

    Attributes:
        about: its corpus, fingerprint, licence, numbers of tokens and speakers, classes, and accuracy on
            speakers that it was not fitted on.
        arrays: fitted parameters by name.
        origin: SHA-256 hash of its file; "" for a judge that was not read from a file.
    """

    about: dict
    arrays: dict[str, np.ndarray]
    origin: str = ""

    def posterior(self, x: np.ndarray, factor: str) -> pd.DataFrame:
        """Calibrated probabilities of "phone" or "sex", given ``features``: one column for each class.

        All classes are equally probable for a picture in which nothing sounds.
        """
        logits = self._standard(x) @ self.arrays[f"{factor}_weights"].T + self.arrays[f"{factor}_bias"]
        logits[np.isnan(x[:, 0])] = 0
        chance = softmax(logits * self.arrays[f"{factor}_sharpness"], axis=1)
        return pd.DataFrame(chance, columns=self.about[factor])

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density in nats ``(n,)`` of the mel-cepstrum under a Gaussian mixture fitted on real vowels.

        It is at least ``floor``, which is also the value of silent pictures.
        """
        inside = (self._standard(x)[:, :TIMBRE] @ self.arrays["plane"].T).astype(np.float64)
        floor = float(self.arrays["floor"][0])
        return np.where(np.isnan(x[:, 0]), floor, np.maximum(self._mixture.score_samples(inside), floor))

    def speech(self, x: np.ndarray) -> np.ndarray:
        """Whether the mel-cepstrum is as probable as in ``REGION`` of the real vowels, ``(n,)`` bool."""
        return self.log_density(x) >= self.arrays["least"][0]

    def plausible(self, x: np.ndarray) -> np.ndarray:
        """Whether F0 to F3 and the entropy of the vowel posterior are those of real vowels, ``(n,)`` bool.

        Each has its own interval; ``REGION`` of the real vowels are inside all five intervals. Pictures in
        which F0 or a formant is missing are not plausible.
        """
        values = self._plausibility(x)
        low, high = self.arrays["region"]
        return ((values >= low) & (values <= high)).all(1)

    def _plausibility(self, x: np.ndarray) -> np.ndarray:
        chance = self.posterior(x, "phone").to_numpy()
        entropy = -(chance * np.log(np.maximum(chance, 1e-12))).sum(1)
        return np.column_stack([x[:, TIMBRE:], np.maximum(entropy, SURE)])

    def _standard(self, x: np.ndarray) -> np.ndarray:
        scaled = (x - self.arrays["mean"]) / self.arrays["scale"]
        return np.where(np.isfinite(scaled), scaled, 0)  # missing features count as average

    @property
    def _mixture(self):
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(MIXED)
        for name in ("weights", "means", "covariances", "precisions_cholesky"):
            setattr(mixture, f"{name}_", self.arrays[f"mixture_{name}"])
        return mixture

    def save(self, path: Path) -> Path:
        """Write the judge to one safetensors file."""
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in self.arrays.items()}
        return save_atomically(path, lambda file: save_file(arrays, file, {"about": json.dumps(self.about)}))


def fit_judge(corpus: Corpus, seed: int = 0) -> VowelJudge:
    """Fit a judge for the five vowels on train speakers, and calibrate it on validation speakers.

    It is one shrinkage LDA with equal priors for phone and one for sex. Their inverse temperatures
    ``sharpness``, at most 1, maximize the likelihood of validation speakers' labels (Guo et al. 2017). The
    accuracy in ``about`` is measured on test speakers.

    Raises:
        InputError: one of the speaker sets has no token of a vowel or of a sex.
    """
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.mixture import GaussianMixture

    parts = {name: part.filter(phone=VOWELS) for name, part in corpus.split.items()}
    for name, part in parts.items():
        if set(part.table.phone) != set(VOWELS) or part.table.sex.nunique() < 2:
            raise InputError(
                f"{name} speakers of {corpus.name} lack a vowel or a sex; use more of the corpus"
            )
    x = {name: corpus_features(part) for name, part in parts.items()}
    audible = np.isfinite(x["train"][:, 0])
    real, labels = x["train"][audible], parts["train"].table[audible]
    arrays = {"mean": np.nanmean(real, 0), "scale": np.nanstd(real, 0), "floor": np.array([-1e3])}
    about = {
        "corpus": corpus.name, "fingerprint": corpus.fingerprint, "licence": corpus.licence,
        "tokens": len(real), "speakers": int(labels.speaker.nunique()),
        "phone": list(VOWELS), "sex": ["f", "m"], "accuracy": {},
    }  # fmt: skip
    judge = VowelJudge(about, arrays)
    standard = judge._standard(real)
    for factor in ("phone", "sex"):
        classes = np.array(about[factor])
        lda = LinearDiscriminantAnalysis("lsqr", "auto", np.full(len(classes), 1 / len(classes)))
        lda.fit(standard, np.searchsorted(classes, labels[factor]))
        weights, bias = lda.coef_, lda.intercept_
        if len(classes) == 2:  # scikit-learn gives one row, the second class against the first
            weights, bias = np.concatenate([np.zeros_like(weights), weights]), np.array([0, bias[0]])
        arrays |= {f"{factor}_weights": weights, f"{factor}_bias": bias, f"{factor}_sharpness": np.ones(1)}
        truth = np.searchsorted(classes, parts["valid"].table[factor])
        logits = np.log(np.maximum(judge.posterior(x["valid"], factor).to_numpy(), 1e-300))

        def cost(log_sharpness, logits=logits, truth=truth):
            return -log_softmax(logits * np.exp(log_sharpness), axis=1)[np.arange(len(truth)), truth].mean()

        arrays[f"{factor}_sharpness"] = np.exp([minimize_scalar(cost, bounds=(-3, 0), method="bounded").x])
        found = classes[judge.posterior(x["test"], factor).to_numpy().argmax(1)]
        about["accuracy"][factor] = round(float((found == parts["test"].table[factor]).mean()), 4)
    pca = PCA(PLANE, random_state=seed).fit(standard[:, :TIMBRE])
    mixture = GaussianMixture(MIXED, reg_covar=1e-2, random_state=seed)
    mixture.fit(pca.transform(standard[:, :TIMBRE]))
    arrays["plane"] = pca.components_  # the features are already centred
    for name in ("weights", "means", "covariances", "precisions_cholesky"):
        arrays[f"mixture_{name}"] = getattr(mixture, f"{name}_")
    values = judge.log_density(real)
    arrays["floor"], arrays["least"] = np.array([values.min() - 100]), np.quantile(values, [1 - REGION])
    arrays["region"] = _region(judge._plausibility(real))
    return judge


def _region(values: np.ndarray) -> np.ndarray:
    """Intervals ``(2, columns)`` that contain ``REGION`` of the rows, with equal shares in all tails."""
    values = values[np.isfinite(values).all(1)]
    for cut in np.linspace(0.025, 0, 201):
        region = np.quantile(values, [cut, 1 - cut], axis=0)
        if ((values >= region[0]) & (values <= region[1])).all(1).mean() >= REGION:
            break
    return region


def load_judge(corpus_name: str, models: Path | None = None) -> VowelJudge:
    """Read the judge for a corpus from ``models``: that for synthetic speech, or that for real speech.

    Raises:
        InputError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    kind = "klatt" if corpus_name == "klatt" else "speech"
    path = (models or models_folder()) / f"listener-{kind}.safetensors"
    try:
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            judge = VowelJudge(json.loads(file.metadata()["about"]), arrays, file_hash(path))
        judge.plausible(np.zeros((1, len(COLUMNS))))
        judge.speech(np.zeros((1, len(COLUMNS))))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no usable judge ({error}); fetch it again") from None
    return judge


def speaker_judge(x: np.ndarray, speakers: Sequence[str]):
    """A shrinkage LDA that is fitted on ``features`` ``(n, 43)`` and classifies speakers."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = len(set(speakers))
    lda = LinearDiscriminantAnalysis("lsqr", "auto", np.full(count, 1 / count))
    judge = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), lda)
    return judge.fit(x, list(speakers))


def probability_of(posterior: pd.DataFrame, labels) -> np.ndarray:
    """The probability of each row's own label ``(n,)``, from a ``posterior``."""
    return posterior.to_numpy()[np.arange(len(posterior)), posterior.columns.get_indexer(labels)]


def accuracy(judge: VowelJudge, x: np.ndarray, table: pd.DataFrame) -> dict[str, float]:
    """The judge's accuracy for "phone" and "sex" on features ``(n, 43)`` of tokens with these labels."""
    guesses = {factor: judge.posterior(x, factor).idxmax(axis=1).to_numpy() for factor in ("phone", "sex")}
    return {factor: float((guess == table[factor]).mean()) for factor, guess in guesses.items()}
