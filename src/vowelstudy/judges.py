"""Judges: measures that do not belong to the flow, and the statistics of the study."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import torch
from scipy import stats
from scipy.fft import dct

from vowelflow.audio import griffin_lim, to_audio
from vowelflow.base import FFT, FRAMES, HOP, LEAD, RATE, InputError, frames_in
from vowelflow.corpus import Corpus
from vowelflow.spectrogram import BINS, FLOOR_DB, SIDE, pictures_of, quantize, restore, spectrum_of

MELS, CEPSTRUM = 40, 13  # mel bands, and coefficients that are kept of their cosine transform
SILENT = 0.05  # of full scale in a picture: 76 dB below it
CEILING_HZ = {"f": 5500.0, "m": 5000.0}  # Praat's usual formant ceilings


def formants(wave: np.ndarray, sex: str) -> dict[str, float]:
    """F0 and the first three formants of a vowel, Hz, medians over its middle half.

    Praat's autocorrelation pitch and Burg formants (five below the ceiling of the sex); NaN
    where Praat finds none.
    """
    import parselmouth

    sound = parselmouth.Sound(np.pad(wave, RATE // 50).astype(np.float64), RATE)
    middle = np.linspace(0.25, 0.75, 9) * len(wave) / RATE + 0.02
    burg = sound.to_formant_burg(time_step=0.005, maximum_formant=CEILING_HZ[sex])
    found = {f"f{k}": np.array([burg.get_value_at_time(k, t) for t in middle]) for k in (1, 2, 3)}
    pitch = sound.to_pitch(time_step=0.005, pitch_floor=75.0, pitch_ceiling=500.0)
    found["f0"] = np.array([pitch.get_value_at_time(t) for t in middle])
    return {
        name: float(np.nanmedian(v)) if np.isfinite(v).any() else float("nan") for name, v in found.items()
    }


def vowel_space(corpus: Corpus, per_group: int = 20, seed: int = 0) -> pd.DataFrame:
    """F0 to F3 in Hz of up to ``per_group`` segments of each vowel and sex: columns phone, sex, f1, f2, f3, f0."""
    drawn = corpus.draw(per_group, seed=seed)
    measured = [formants(drawn.sound(row), sex) for row, sex in enumerate(drawn.table.sex)]
    return pd.concat([drawn.table[["phone", "sex"]], pd.DataFrame(measured)], axis=1)


def error_db(original: np.ndarray, back: np.ndarray) -> float:
    """Energy of ``back - original`` over that of ``original``, dB; ``back`` may be longer."""
    return float(10 * np.log10(np.sum((back[: len(original)] - original) ** 2) / np.sum(original**2)))


def round_trip(corpus: Corpus, row: int) -> dict[str, float]:
    """``error_db`` of a segment that became a picture and a sound again with its true phase.

    ``float`` for the picture as it is, ``eight_bit`` for its 256 levels.
    """
    wave, original = torch.from_numpy(corpus.clip(row)), corpus.sound(row)
    (pictures, (peak,)), phase = pictures_of([wave]), spectrum_of(wave).angle()
    frames = phase.shape[1]
    phase = torch.nn.functional.pad(phase, (0, FRAMES - frames))
    kinds = {"float": pictures[0], "eight_bit": restore(quantize(pictures[0]))}
    return {name: error_db(original, to_audio(one, phase, peak, frames)) for name, one in kinds.items()}


def griffin_lim_distance(corpus: Corpus, row: int) -> dict[str, float]:
    """How far Griffin-Lim's sound of a segment's picture is from the segment.

    ``error_db`` of the waveform, and ``spectral_db``, the log-spectral distance of the two sounds' pictures.
    """
    original, (pictures, (peak,)) = corpus.sound(row), pictures_of([torch.from_numpy(corpus.clip(row))])
    frames = frames_in(len(original))
    invented = griffin_lim(pictures[0], peak, frames=frames)
    both = [np.pad(wave, LEAD, "reflect") for wave in (original, invented[: len(original)])]
    wanted, got = (pictures_of([torch.from_numpy(wave.astype(np.float32))])[0] for wave in both)
    count = np.array([(len(both[0]) - FFT) // HOP + 1])
    return {
        "error_db": error_db(original, invented),
        "spectral_db": float(log_spectral_distance(got, wanted, count)[0]),
    }


def sounding(picture, below_db: float = 40.0) -> tuple[int, int]:
    """First frame, and the one after the last, within ``below_db`` of a picture's loudest point.

    One rule for real pictures and drawn ones, of which nobody knows where the vowel ends. A frame
    under ``SILENT`` never sounds; (0, 0) where none does. The picture is clamped to [0, 1] first.
    """
    loudest = np.clip(np.asarray(picture), 0, 1).reshape(-1, SIDE, SIDE)[0, :BINS].max(0)
    frames = np.flatnonzero(loudest >= max(loudest.max() - below_db / FLOOR_DB, SILENT))
    return (int(frames[0]), int(frames[-1]) + 1) if len(frames) else (0, 0)


def picture_formants(picture, sex: str, shortest: int = 30) -> dict[str, float]:
    """``formants`` of a picture's sounding frames, with a phase invented by Griffin-Lim.

    The true phase would bring its own speech along. NaN where fewer than ``shortest`` frames sound.
    """
    first, last = sounding(picture)
    if last - first < shortest:
        return dict.fromkeys(("f0", "f1", "f2", "f3"), float("nan"))
    cut = torch.roll(torch.as_tensor(picture), -first, dims=-1)
    return formants(griffin_lim(cut, iterations=16, frames=last - first), sex)


def log_spectral_distance(one, other, frames) -> np.ndarray:
    """Root-mean-square difference in dB over bins, mean over a segment's own frames, ``(n,)``.

    Args:
        one, other: pictures ``(n, 1, 288, 288)``; clamped to [0, 1] first.
        frames: ``(n,)`` frames of each segment; padding does not count.
    """
    one, other = (np.clip(np.asarray(p)[:, 0, :BINS], 0, 1) * FLOOR_DB for p in (one, other))
    per_frame = np.sqrt(np.mean((one - other) ** 2, axis=1))
    inside = np.arange(per_frame.shape[1]) < np.asarray(frames)[:, None]
    return (per_frame * inside).sum(1) / inside.sum(1)


@cache
def _mel() -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=RATE, n_fft=FFT, n_mels=MELS)


def _mel_power(picture, frames: slice) -> np.ndarray:
    """Power in mel bands ``(MELS, frames)``, relative to the picture's peak."""
    decibels = (
        np.clip(np.asarray(picture).reshape(-1, np.shape(picture)[-1])[:BINS, frames], 0, 1) - 1
    ) * FLOOR_DB
    return np.maximum(_mel() @ 10 ** (decibels / 10), 1e-10)


def mel_cepstrum(picture, frames: slice) -> np.ndarray:
    """Mel-cepstra ``(frames, CEPSTRUM)`` of some frames of a picture: c1 and on, so that level does not count."""
    return dct(np.log(_mel_power(picture, frames)), axis=0, norm="ortho")[1 : CEPSTRUM + 1].T


def mel_envelope(picture, frames: slice, frequencies) -> np.ndarray:
    """Mean power of some frames in dB at some frequencies, Hz, linear between the centres of mel bands."""
    import librosa

    centres = librosa.mel_frequencies(MELS + 2, fmin=0, fmax=RATE / 2)[1:-1]
    return np.interp(frequencies, centres, 10 * np.log10(_mel_power(picture, frames).mean(1)))


def mel_cepstral_distortion(one, other, frames) -> np.ndarray:
    """dB, mean over a segment's own frames, ``(n,)``, of c1 to c13 (Kubichek 1993): root mean square of smooth envelopes."""
    found = []
    for a, b, count in zip(one, other, frames):
        gap = mel_cepstrum(a, slice(0, count)) - mel_cepstrum(b, slice(0, count))
        found.append(10 / np.log(10) * np.sqrt((gap**2).sum(1) / MELS).mean())
    return np.array(found)


def segmental_snr(waves, clean, frame: int = 320) -> np.ndarray:
    """Mean over frames of 20 ms of the ratio of ``clean`` to its error, dB, each within -10 and 35, ``(n,)``."""
    found = []
    for wave, truth in zip(waves, clean):
        parts = max(len(truth) // frame, 1)
        errors = np.array_split(wave[: len(truth)] - truth, parts)
        ratios = [
            np.sum(t**2) / max(np.sum(e**2), 1e-12) for t, e in zip(np.array_split(truth, parts), errors)
        ]
        found.append(np.clip(10 * np.log10(np.maximum(ratios, 1e-12)), -10, 35).mean())
    return np.array(found)


def valley(picture, low_hz: float, high_hz: float) -> float:
    """How far, in dB, the spectral envelope sags between two frequencies: above 0 where both have a formant of their own.

    The mean power over the part that sounds, in mel bands. One formant that has moved between the two has no valley.
    """
    first, last = sounding(picture)
    if last <= first or not (np.isfinite(low_hz) and np.isfinite(high_hz)):
        return float("nan")
    at_low, middle, at_high = mel_envelope(
        picture, slice(first, last), [low_hz, (low_hz * high_hz) ** 0.5, high_hz]
    )
    return float(min(at_low, at_high) - middle)


def normality(values: np.ndarray) -> pd.DataFrame:
    """How far from normal each column is, after centring and scaling it by its own moments.

    Args:
        values: ``(n, dimensions)``.

    Returns:
        One row a column: Kolmogorov-Smirnov distance to N(0, 1), skewness, excess kurtosis.
        None of them is 0 for a sample of true normal draws either: compare with such draws.
    """
    scaled = (values - values.mean(0)) / np.maximum(values.std(0), 1e-12)
    distance = stats.ks_1samp(scaled, stats.norm.cdf, axis=0).statistic
    return pd.DataFrame(
        {"ks": distance, "skew": stats.skew(scaled), "kurtosis": stats.kurtosis(scaled)},
    )


def two_sample_auc(real: np.ndarray, normal: np.ndarray, groups, seed: int = 0) -> pd.Series:
    """How well a classifier tells each group's ``real`` rows from its ``normal`` ones: 0.5 is not at all.

    Gradient-boosted trees on the rows given, one of each kind a token, which score groups (speakers) they were not
    fitted on; area under the ROC curve of a group's real rows against all normal rows that the same trees scored.
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
    """What patches of 64 neighbouring numbers look like, ``(n patches, 7)``: seven moments, in the order of the tokens.

    Of each token, ``patches`` at places drawn by ``seed``, the finer scales in proportion to their size. Mean, deviation,
    skewness, kurtosis, the largest magnitude, and correlations of neighbours along time and along frequency.

    Args:
        scales: fields ``(n, channels, frequency, time)`` of the same tokens.
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
    """Correlation of neighbours along an axis of a patch; 0 where there are none."""
    left, right = np.delete(patch, -1, axis), np.delete(patch, 0, axis)
    if left.size < 2 or left.std() < 1e-9 or right.std() < 1e-9:
        return 0.0
    return float(((left - left.mean()) * (right - right.mean())).mean() / (left.std() * right.std()))


def span(vectors) -> np.ndarray:
    """Coordinates ``(n, n)`` of n vectors in their own span, distances and angles kept exactly.

    Linear classifiers see no more of 82,944 dimensions than this, and a covariance of the whole
    would take 51 GB.
    """
    vectors = np.asarray(vectors, dtype=np.float64).reshape(len(vectors), -1)
    values, rotation = np.linalg.eigh(vectors @ vectors.T)
    return rotation * np.sqrt(np.clip(values, 0, None))


def lda_predictions(points, labels, groups, folds: int = 8) -> np.ndarray:
    """Labels that shrinkage LDA predicts for tokens of groups it was not fitted on.

    Leave-one-group-out, or ``folds`` folds of groups where there are more; see ``shrinkage_lda``.

    Args:
        points: ``(n, d)``; for codes and pictures use ``span`` first.

    Raises:
        InputError: fewer than two groups or two classes.
    """
    from sklearn.model_selection import GroupKFold

    labels, groups = np.asarray(labels), np.asarray(groups)
    count = len(np.unique(groups))
    if count < 2 or len(np.unique(labels)) < 2:
        raise InputError(f"{count} groups and {len(np.unique(labels))} classes; two of each are needed")
    predicted = labels.copy()
    for fitted, tested in GroupKFold(min(folds, count)).split(points, groups=groups):
        if len(np.unique(labels[fitted])) < 2:
            raise InputError(
                f"without {groups[tested][0]} only the class {labels[fitted][0]} is left; give more groups"
            )
        predicted[tested] = shrinkage_lda(points[fitted], labels[fitted]).predict(points[tested])
    return predicted


def shrinkage_lda(points, labels):
    """LDA with equal priors and Ledoit-Wolf covariances, in the span of the tokens it is fitted on.

    The covariance is shrunk to a multiple of the identity in the coordinates as they are.
    scikit-learn's ``shrinkage="auto"`` would standardize them first, and so let a direction in
    which the tokens hardly differ count as much as one in which they do.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    classes = len(np.unique(labels))
    priors = np.full(classes, 1 / classes)
    lda = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=LedoitWolf(), priors=priors)
    return make_pipeline(PCA(random_state=0), lda).fit(points, labels)
