"""Measures of sounds, pictures and codes that do not use the flow."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import torch
from scipy import stats
from scipy.fft import dct

from vowelflow.audio import griffin_lim, to_audio
from vowelflow.base import FFT, LEAD, RATE
from vowelflow.corpus import Corpus
from vowelflow.spectrogram import (
    BINS,
    FLOOR_DB,
    PADDED,
    images,
    peaks,
    phases,
    quantize,
    restore,
    vowel_pictures,
)

MELS, CEPSTRUM = 40, 13  # mel bands, and coefficients of their cosine transform
SILENT = 0.05  # pixels below this count as silent: 76 dB below full scale
CEILING_HZ = {"f": 5500.0, "m": 5000.0}  # Praat's usual formant ceilings


def formants(wave: np.ndarray, sex: str) -> dict[str, float]:
    """F0 and the first three formants of a vowel in Hz: medians over its middle half.

    Praat measures them: pitch by autocorrelation, formants by Burg's method (five below ``CEILING_HZ`` of the
    sex). NaN where Praat finds none.

    Args:
        wave: samples ``(n,)`` at 16 kHz.
        sex: "f" or "m".
    """
    import parselmouth

    sound = parselmouth.Sound(np.pad(wave, RATE // 50).astype(np.float64), RATE)
    middle = np.linspace(0.25, 0.75, 9) * len(wave) / RATE + 0.02
    burg = sound.to_formant_burg(time_step=0.005, maximum_formant=CEILING_HZ[sex])
    found = {f"f{k}": np.array([burg.get_value_at_time(k, t) for t in middle]) for k in (1, 2, 3)}
    pitch = sound.to_pitch(time_step=0.005, pitch_floor=75.0, pitch_ceiling=500.0)
    found["f0"] = np.array([pitch.get_value_at_time(t) for t in middle])
    return {name: float(np.nanmedian(v)) if np.isfinite(v).any() else np.nan for name, v in found.items()}


def vowel_space(corpus: Corpus, per_group: int = 20, seed: int = 0) -> pd.DataFrame:
    """``formants`` of up to ``per_group`` segments of each vowel and sex, with columns phone and sex."""
    drawn = corpus.draw(per_group, seed=seed)
    measured = [formants(drawn.sound(row), sex) for row, sex in enumerate(drawn.table.sex)]
    return pd.concat([drawn.table[["phone", "sex"]], pd.DataFrame(measured)], axis=1)


def error_db(original: np.ndarray, back: np.ndarray) -> float:
    """Energy of ``back - original`` relative to that of ``original``, dB; ``back`` may be longer."""
    return float(10 * np.log10(np.sum((back[: len(original)] - original) ** 2) / np.sum(original**2)))


def round_trip(corpus: Corpus, row: int) -> dict[str, float]:
    """``error_db`` of a segment that is converted to a picture and back to sound, with its true phase.

    ``float`` is for the picture itself, ``eight_bit`` for the picture rounded to 256 levels.
    """
    one, original = corpus.take([row]), corpus.sound(row)
    picture, phase, peak = images(one)[0], phases(one)[0], peaks(one)[0]
    kinds = {"float": picture, "eight_bit": restore(quantize(picture))}
    length = len(original) / RATE
    return {name: error_db(original, to_audio(x, phase, peak, duration=length)) for name, x in kinds.items()}


def griffin_lim_distance(corpus: Corpus, row: int) -> dict[str, float]:
    """Distances between a segment and the sound that Griffin-Lim makes from its picture.

    ``error_db`` compares the waveforms; ``spectral_db`` is the log-spectral distance of their pictures.
    """
    one, original = corpus.take([row]), corpus.sound(row)
    invented = griffin_lim(images(one)[0], peaks(one)[0], duration=len(original) / RATE)
    both = [torch.from_numpy(np.pad(wave, LEAD, "reflect")) for wave in (original, invented)]
    wanted, got = vowel_pictures(both, [0, 0], [len(original)] * 2)[0][:, None]
    distance = log_spectral_distance(got, wanted, np.array([wanted.shape[-1]]))
    return {"error_db": error_db(original, invented), "spectral_db": float(distance[0])}


def sounding(picture, below_db: float = 40.0) -> tuple[int, int]:
    """The first frame within ``below_db`` of a picture's loudest point, and the frame after the last.

    The same rule serves real pictures and generated ones, for which the end of the vowel is not given. Frames
    below ``SILENT`` never count; the result is (0, 0) if no frame sounds. Pixels are clipped to [0, 1] first.
    """
    loudest = np.clip(np.asarray(picture), 0, 1).reshape(np.shape(picture)[-2:])[:BINS].max(0)
    frames = np.flatnonzero(loudest >= max(loudest.max() - below_db / FLOOR_DB, SILENT))
    return (int(frames[0]), int(frames[-1]) + 1) if len(frames) else (0, 0)


def extent(picture) -> tuple[int, int]:
    """The first frame of a vowel and the frame after the last: those that sound in padded pictures, else all."""
    padded = tuple(np.shape(picture)[-2:]) == PADDED.shape
    return sounding(picture) if padded else (0, np.shape(picture)[-1])


def log_spectral_distance(one, other, frames) -> np.ndarray:
    """Log-spectral distance in dB ``(n,)``: root mean square over bins, mean over a segment's frames.

    Args:
        one, other: pictures ``(n, 1, 288, 288)``; their pixels are clipped to [0, 1] first.
        frames: number of frames of each segment ``(n,)``; the padding after them is ignored.
    """
    one, other = (np.clip(np.asarray(p)[:, 0, :BINS], 0, 1) * FLOOR_DB for p in (one, other))
    per_frame = np.sqrt(np.mean((one - other) ** 2, axis=1))
    inside = np.arange(per_frame.shape[1]) < np.asarray(frames)[:, None]
    return (per_frame * inside).sum(1) / inside.sum(1)


@cache
def _mel() -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=RATE, n_fft=FFT, n_mels=MELS)


def mel_decibels(picture, frames: slice) -> np.ndarray:
    """Decibels in mel bands ``(MELS, frames)`` of the given frames of a picture, relative to its peak."""
    picture = np.asarray(picture).reshape(-1, np.shape(picture)[-1])[:BINS, frames]
    power = 10 ** ((np.clip(picture, 0, 1) - 1) * FLOOR_DB / 10)
    return 10 * np.log10(np.maximum(_mel()[:, : len(power)] @ power, 1e-10))


def mel_cepstrum(picture, frames: slice) -> np.ndarray:
    """Mel-cepstra ``(frames, CEPSTRUM)`` of the given frames of a picture, without c0, the level."""
    nats = mel_decibels(picture, frames) * np.log(10) / 10
    return dct(nats, axis=0, norm="ortho")[1 : CEPSTRUM + 1].T


def mel_cepstral_distortion(one, other, frames) -> np.ndarray:
    """Mel-cepstral distortion of pictures in dB ``(n,)``, from c1 to c13 (Kubichek 1993).

    This is the root mean square difference of the smoothed spectral envelopes, averaged over the frames of
    each segment. ``one`` and ``other`` are pictures, ``frames`` the number of frames of each segment
    ``(n,)``.
    """
    found = []
    for a, b, count in zip(one, other, frames):
        gap = mel_cepstrum(a, slice(0, count)) - mel_cepstrum(b, slice(0, count))
        found.append(10 / np.log(10) * np.sqrt((gap**2).sum(1) / MELS).mean())
    return np.array(found)


def segmental_snr(waves, clean, frame: int = 320) -> np.ndarray:
    """Segmental signal-to-noise ratio of waveforms in dB ``(n,)``: the mean over frames of 20 ms.

    Each frame's ratio is clipped to [-10, 35] dB. ``waves`` may be longer than their ``clean`` versions.
    """
    found = []
    for wave, truth in zip(waves, clean):
        parts = max(len(truth) // frame, 1)
        errors = np.array_split(wave[: len(truth)] - truth, parts)
        frames = zip(np.array_split(truth, parts), errors)
        ratios = [np.sum(t**2) / max(np.sum(e**2), 1e-12) for t, e in frames]
        found.append(np.clip(10 * np.log10(np.maximum(ratios, 1e-12)), -10, 35).mean())
    return np.array(found)


def valley(picture, low_hz: float, high_hz: float) -> float:
    """Depth in dB of the valley between two frequencies in the spectral envelope.

    The envelope is the mean power in mel bands over the frames that sound, interpolated linearly between band
    centres. The depth is negative if a single formant lies between the two frequencies. NaN if no frame
    sounds or a frequency is not finite.
    """
    import librosa

    first, last = sounding(picture)
    if last <= first or not (np.isfinite(low_hz) and np.isfinite(high_hz)):
        return np.nan
    centres = librosa.mel_frequencies(MELS + 2, fmin=0, fmax=RATE / 2)[1:-1]
    envelope = 10 * np.log10((10 ** (mel_decibels(picture, slice(first, last)) / 10)).mean(1))
    low, middle, high = np.interp([low_hz, (low_hz * high_hz) ** 0.5, high_hz], centres, envelope)
    return float(min(low, high) - middle)


def normality(values: np.ndarray) -> pd.DataFrame:
    """How far each column of ``values`` ``(n, dimensions)`` is from normal, after it is standardized.

    Returns:
        One row for each column: ``ks``, the Kolmogorov-Smirnov distance to N(0, 1), ``skew`` and excess
        ``kurtosis``. Samples of a normal distribution do not give exactly 0 either, so compare with such
        samples.
    """
    scaled = (values - values.mean(0)) / np.maximum(values.std(0), 1e-12)
    distance = stats.ks_1samp(scaled, stats.norm.cdf, axis=0).statistic
    return pd.DataFrame({"ks": distance, "skew": stats.skew(scaled), "kurtosis": stats.kurtosis(scaled)})


def two_sample_auc(real: np.ndarray, normal: np.ndarray, groups, seed: int = 0) -> pd.Series:
    """AUC of a classifier that separates ``real`` rows from ``normal`` ones, for each group; 0.5 is chance.

    Gradient-boosted trees are fitted in up to eight folds of groups, and score groups that they were not
    fitted on. The area under the ROC curve compares a group's real rows with all normal rows of the same
    fold.

    Args:
        real, normal: features ``(n, d)``; row k of both belongs to the same token.
        groups: the group (speaker) of each row ``(n,)``.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    groups, found = np.asarray(groups), {}
    for fitted, scored in GroupKFold(min(8, len(np.unique(groups)))).split(real, groups=groups):
        trees = HistGradientBoostingClassifier(
            max_iter=60, min_samples_leaf=min(20, len(fitted) // 4 or 1), random_state=seed
        )
        trees.fit(np.concatenate([real[fitted], normal[fitted]]), np.repeat([1, 0], len(fitted)))
        of_normal = trees.predict_proba(normal[scored])[:, 1]
        for group in np.unique(groups[scored]):
            of_real = trees.predict_proba(real[scored][groups[scored] == group])[:, 1]
            truth = np.repeat([1, 0], [len(of_real), len(of_normal)])
            found[group] = float(roc_auc_score(truth, np.concatenate([of_real, of_normal])))
    return pd.Series(found).sort_index()


def patch_features(scales, patches: int, seed: int = 0) -> np.ndarray:
    """Seven statistics ``(n * patches, 7)`` of patches of at most 64 neighbouring numbers, in token order.

    They are the mean, standard deviation, skewness, kurtosis and largest magnitude, and the correlations of
    neighbours along time and along frequency. A scale is chosen with a probability proportional to its size.

    Args:
        scales: fields ``(n, channels, frequency, time)`` of the same tokens.
        patches: patches of each token.
    """
    rng, fields = np.random.default_rng(seed), [np.asarray(scale, dtype=np.float64) for scale in scales]
    sizes = np.array([field[0].size for field in fields], dtype=float)
    rows = []
    for token in range(len(fields[0])):
        for _ in range(patches):
            field = fields[rng.choice(len(fields), p=sizes / sizes.sum())][token]
            wide = min(8, field.shape[2])
            tall = min(64 if wide == 1 else 8, field.shape[1])
            extent = (min(field.shape[0], max(1, 64 // (tall * wide))), tall, wide)
            starts = [int(rng.integers(whole - part + 1)) for whole, part in zip(field.shape, extent)]
            patch = field[tuple(slice(start, start + part) for start, part in zip(starts, extent))]
            scaled = (patch - patch.mean()) / max(patch.std(), 1e-9)
            moments = [patch.mean(), patch.std(), (scaled**3).mean(), (scaled**4).mean(), np.abs(patch).max()]
            rows.append([*moments, _neighbours(patch, 2), _neighbours(patch, 1)])
    return np.array(rows)


def _neighbours(patch: np.ndarray, axis: int) -> float:
    """Correlation of neighbours along an axis of a patch; 0 if it has no neighbours or does not vary."""
    left, right = np.delete(patch, -1, axis), np.delete(patch, 0, axis)
    if left.size < 2 or left.std() < 1e-9 or right.std() < 1e-9:
        return 0.0
    return float(((left - left.mean()) * (right - right.mean())).mean() / (left.std() * right.std()))


def span(vectors) -> np.ndarray:
    """Coordinates ``(n, n)`` of n vectors in their own span, which preserve distances and angles exactly.

    For a linear classifier they are as good as all 82,944 dimensions, whose covariance would take 51 GB.
    """
    vectors = np.asarray(vectors, dtype=np.float64).reshape(len(vectors), -1)
    values, rotation = np.linalg.eigh(vectors @ vectors.T)
    return rotation * np.sqrt(np.clip(values, 0, None))


def shrinkage_lda(points, labels):
    """A fitted LDA with equal priors and Ledoit-Wolf covariances, in the span of the points ``(n, d)``.

    The covariance is shrunk toward a multiple of the identity. scikit-learn's ``shrinkage="auto"`` would
    first standardize the coordinates, so directions in which points hardly differ would count as much as the
    others.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    classes = len(np.unique(labels))
    priors = np.full(classes, 1 / classes)
    lda = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=LedoitWolf(), priors=priors)
    return make_pipeline(PCA(random_state=0), lda).fit(points, labels)
