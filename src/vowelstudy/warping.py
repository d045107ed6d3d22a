"""Two methods without a model: frequencies times one ratio, and PSOLA, which changes the real sound.

Vocal tracts of the same shape and different length have formants in one ratio, so vocal-tract length
normalisation warps the frequency axis (Eide and Gish 1996; Lee and Rose 1998). Pitch-synchronous overlap-add
(Moulines and Charpentier 1990), as Praat's "Change gender" uses it, moves F0 and formants independently.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from vowelflow.base import FFT, RATE
from vowelflow.corpus import Corpus
from vowelflow.spectrogram import Observation, dequantize, images

from .measures import formants
from .tokens import Tokens

BAND_HZ = (500.0, 6000.0)  # where spectra are compared: above the first harmonics of most voices
SMOOTH_HZ = 150.0  # deviation of the Gaussian that removes harmonics
LARGEST = 0.4  # of a log ratio: 1.49 or 0.67
PITCH_HZ = (75.0, 500.0)  # floor and ceiling of F0


@dataclass(frozen=True)
class Warping:
    """Pictures whose frequency axis is stretched; a displacement is the log of the ratio ``(1, 1)``."""

    observation: Observation
    name: str = "frequency warping"
    lossy: bool = False
    flow = None

    def vectors(self, tokens: Tokens, rows: np.ndarray, seed: int = 0, draws: int = 1) -> torch.Tensor:
        """Flat dequantized pictures ``(n, side * frames)``; draws are not averaged."""
        return dequantize(tokens.pictures[rows], seed).flatten(1)

    def displacement(self, vectors: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
        """The log ratio ``(1, 1)`` that turns the spectra of negative weights into those of positive ones."""
        spectra = vectors.reshape(-1, *self.observation.shape)[:, : self.observation.bins].mean(2).numpy()
        source, target = (np.clip(sign * weights, 0, None) @ spectra for sign in (-1, 1))
        return torch.tensor([[log_ratio(source, target)]], dtype=torch.float32)

    def moved(self, vectors: torch.Tensor, displacement: torch.Tensor, step: float) -> torch.Tensor:
        """Pictures ``(n, 1, side, frames)`` whose frequencies are exp(step * displacement) times as high."""
        pictures = vectors.reshape(-1, 1, *self.observation.shape)
        ratios = (step * displacement[:, :1]).exp().expand(len(pictures), 1)
        bins = self.observation.bins
        return torch.cat([warped(pictures[:, :, :bins], ratios), pictures[:, :, bins:]], 2)


def warped(pictures: torch.Tensor, ratios: torch.Tensor) -> torch.Tensor:
    """Pictures ``(n, 1, bins, frames)`` with frequencies times ratios ``(n, 1)``; bins above the last are mirrored."""
    last = pictures.shape[2] - 1
    places = torch.arange(last + 1) / ratios
    places = torch.where(places > last, 2 * last - places, places)[:, None, :, None]
    below = places.floor().long()
    lower, upper = (
        pictures.gather(2, index.expand(-1, -1, -1, pictures.shape[3]))
        for index in (below, (below + 1).clamp(max=last))
    )
    return torch.lerp(lower, upper, places - below)


def log_ratio(source: np.ndarray, target: np.ndarray) -> float:
    """The log of the ratio of frequencies at which two mean log spectra ``(bins,)`` agree best.

    They are smoothed and compared on a grid of log frequencies in ``BAND_HZ``, each shifted by half the log
    ratio. The score is their correlation after a line in log frequency, level and tilt, is taken out of both.
    """
    smooth = [gaussian_filter1d(one, SMOOTH_HZ * FFT / RATE, mode="nearest") for one in (source, target)]
    bins, grid = RATE / FFT * np.arange(len(source)), np.log(np.geomspace(*BAND_HZ, 200))
    line = np.linalg.qr(np.stack([np.ones_like(grid), grid], 1))[0]

    def agreement(ratio: float) -> float:
        shifted = [
            np.interp(np.exp(grid + sign * ratio / 2), bins, one) for sign, one in zip((-1, 1), smooth)
        ]
        one, other = (values - line @ (line.T @ values) for values in shifted)
        return one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-12)

    ratios = np.linspace(-LARGEST, LARGEST, 401)
    return float(ratios[np.argmax([agreement(ratio) for ratio in ratios])])


@dataclass(frozen=True)
class PSOLA:
    """Real sounds with other formants and another F0; a displacement is the log of both ratios ``(1, 2)``.

    Attributes:
        observation: of the pictures that are made of the changed sounds.
        corpora: the corpora of all tokens so far. A vector ``(2,)`` is a place in this list, and a row.
        measured: log formants and log F0 of tokens by vector, as Praat is slow.
    """

    observation: Observation
    name: str = "PSOLA"
    lossy: bool = False
    flow = None
    corpora: list[Corpus] = field(default_factory=list, repr=False, compare=False)
    measured: dict = field(default_factory=dict, repr=False, compare=False)

    def vectors(self, tokens: Tokens, rows: np.ndarray, seed: int = 0, draws: int = 1) -> torch.Tensor:
        """Where the sounds of tokens are: place of the corpus and row ``(n, 2)``; nothing is random."""
        places = [place for place, corpus in enumerate(self.corpora) if corpus is tokens.corpus]
        if not places:
            places = [len(self.corpora)]
            self.corpora.append(tokens.corpus)
        return torch.tensor([[places[0], row] for row in np.arange(len(tokens))[rows]], dtype=torch.float32)

    def displacement(self, vectors: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
        """Log ratios of formants and of F0 ``(1, 2)``, from tokens of negative to those of positive weights.

        They are differences of weighted medians; tokens in which Praat finds no F0 or too few formants are
        not used.
        """
        logs = np.array([self._measure(place, row) for place, row in vectors.int().tolist()])
        found = [
            weighted_median(values, np.clip(weights, 0, None))
            - weighted_median(values, np.clip(-weights, 0, None))
            for values in logs.T
        ]
        return torch.tensor([found], dtype=torch.float32)

    def moved(self, vectors: torch.Tensor, displacement: torch.Tensor, step: float) -> torch.Tensor:
        """Pictures ``(n, 1, side, frames)`` of sounds with formants and F0 times exp(step * displacement)."""
        ratios = (step * displacement).exp().expand(len(vectors), 2).tolist()
        return torch.cat([self._picture(*map(int, one), *both) for one, both in zip(vectors, ratios)])

    def _picture(self, place: int, row: int, formant_ratio: float, f0_ratio: float) -> torch.Tensor:
        def noise(key: str, clip: np.ndarray, length: int) -> np.ndarray:
            return changed(clip, formant_ratio, f0_ratio)

        return images(self.corpora[place].take([row]), noise, self.observation)

    def _measure(self, place: int, row: int) -> tuple[float, float]:
        """Mean log of the first three formants in Hz, and log of F0; NaN if Praat finds none."""
        if (place, row) not in self.measured:
            corpus = self.corpora[place]
            found = formants(corpus.sound(row), corpus.table.sex.iat[row])
            logs = np.log([found[name] for name in ("f1", "f2", "f3", "f0")])
            self.measured[place, row] = logs[:3].mean(), logs[3]
        return self.measured[place, row]


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value ``(n,)`` at which half of the weight of the finite ones is passed."""
    used = np.isfinite(values) & (weights > 0)
    order = np.argsort(values[used])
    passed = np.cumsum(weights[used][order])
    return float(values[used][order][np.searchsorted(passed, passed[-1] / 2)])


def changed(wave: np.ndarray, formant_ratio: float, f0_ratio: float) -> np.ndarray:
    """A sound ``(samples,)`` at 16 kHz with formants and F0 times two ratios, as long as it was.

    Praat's "Change gender". Where it finds no F0, only formants change; a sound too short for it stays.
    """
    import parselmouth
    from parselmouth.praat import call, run

    run("random_initializeWithSeedUnsafelyButPredictably (1)")  # sound without F0 is copied in random order
    sound = parselmouth.Sound(wave.astype(np.float64), RATE)
    try:
        with warnings.catch_warnings(action="ignore", category=parselmouth.PraatWarning):  # no voiced frame
            pitch = sound.to_pitch(0.8 / PITCH_HZ[0], *PITCH_HZ)
            median = call(pitch, "Get quantile", 0, 0, 0.5, "Hertz")
            target = median * f0_ratio if np.isfinite(median) else 0.0  # 0 stands for no change
            made = call(sound, "Change gender", *PITCH_HZ, formant_ratio, target, 1.0, 1.0).values[0]
    except parselmouth.PraatError:
        return wave
    finally:
        run("random_initializeSafelyAndUnpredictably ()")
    made = np.pad(made, (0, max(0, len(wave) - len(made))))[: len(wave)]
    return made.astype(np.float32)
