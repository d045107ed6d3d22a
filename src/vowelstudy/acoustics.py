"""Acoustics: what phoneticians measure of a vowel, of pictures whose phase Griffin-Lim invents, alike for real and made ones."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import pad

from vowelflow.audio import griffin_lim
from vowelflow.base import LEAD, RATE
from vowelflow.corpus import Corpus
from vowelflow.spectrogram import FLOOR_DB, Observation, observation_of, stft

from .measures import extent

ITERATIONS = 16  # of Griffin-Lim; F1, F2 and F0 of real vowels then change by less than 0.5 %
CEILINGS = np.arange(4500.0, 6501.0, 250.0)  # Hz, formant ceilings to choose from
CEILING = 5250.0  # Hz, without a speaker; Praat's advice is 5000 for men and 5500 for women
FEWEST, MOST = 8, 40  # tokens that a speaker's ceiling is chosen by
PITCH_HZ = (75.0, 500.0)
TIMES = np.linspace(0.2, 0.8, 13)  # shares of the duration at which formants are measured
# Medians over three stretches: a few percent of single values are another formant. On `timit-sample` they name 88.9 %
# of vowels, single values at 1/4, 1/2 and 3/4 name 88.7 %, and one median of the middle half names 87.3 %.
STRETCHES = {"start": slice(0, 5), "middle": slice(4, 9), "end": slice(8, 13)}
COLUMNS = (
    "f0", *(f"f{k}_{third}" for k in (1, 2, 3) for third in STRETCHES), "hnr", "mismatch",
    "tilt", "coherence", "coherence_8", "flux", "ripple", "roughness", "spread", "level", "silent",
)  # fmt: skip
MANY = 200  # pictures for which other processes are worth their start


def sound_of(picture, samples: int) -> np.ndarray:
    """The sound of one picture ``(..., side, frames)``, float32 at 16 kHz, with Griffin-Lim's phase.

    Args:
        samples: duration of an evenly framed picture. A padded picture has its own: the frames that sound.
    """
    observation = observation_of(tuple(picture.shape[-2:]))
    if observation.even:
        return griffin_lim(picture, iterations=ITERATIONS, duration=samples / RATE)
    part = _sounding_part(picture, observation)
    frames = part.shape[-1]
    if not frames:
        return np.zeros(0, np.float32)
    return griffin_lim(pad(part, (0, observation.frames - frames)), iterations=ITERATIONS, frames=frames)


def _sounding_part(picture, observation: Observation) -> torch.Tensor:
    """The frames of a padded picture that sound, or all frames of another: ``(side, frames)``."""
    picture = torch.as_tensor(picture).reshape(observation.shape)
    first, last = extent(picture)
    return picture[:, first:last]


def speaker_ceilings(corpus: Corpus) -> dict[str, float]:
    """The formant ceiling of each speaker in Hz: that by which formants of the same vowel differ least.

    By the variance of log F1 plus that of log F2 within vowels, after Escudero et al. (2009), "A cross-dialect
    acoustic description of vowels: Brazilian and European Portuguese", JASA 126(3), 1379-1393, who choose a ceiling for
    each vowel of each speaker. Here all vowels of a speaker share one. A speaker who has fewer than ``FEWEST`` tokens of repeated
    vowels gets ``CEILING``. The label of sex is not used.
    """
    drawn = corpus.draw(MOST, by=("speaker",))
    rows = drawn.table.groupby("speaker").indices
    tokens = [([drawn.sound(row) for row in own], drawn.table.phone.to_numpy()[own]) for own in rows.values()]
    return dict(zip(rows, _in_parallel(_ceiling, tokens, len(drawn))))


def _ceiling(waves: list[np.ndarray], phones: np.ndarray) -> float:
    repeated = pd.Series(phones).duplicated(keep=False).to_numpy()
    if repeated.sum() < FEWEST:
        return CEILING
    sounds = [(_praat(wave), len(wave)) for wave, again in zip(waves, repeated) if again]
    variances = []
    for ceiling in CEILINGS:
        tracks = [_formants(sound, samples, ceiling)[:2, 2:-2] for sound, samples in sounds]
        values = pd.DataFrame([_median(track) for track in tracks])
        variances.append((values - values.groupby(phones[repeated]).transform("mean")).pow(2).mean().sum())
    return float(CEILINGS[np.argmin(variances)])


def measurements(pictures: torch.Tensor, samples, ceilings) -> pd.DataFrame:
    """A row of measures for each of the pictures ``(n, 1, side, frames)``; NaN where Praat finds none.

    Of the sound: ``f0`` and ``f1_start`` to ``f3_end``, natural logarithms of Hz, in thirds of the vowel that overlap;
    ``hnr``, the ratio of harmonics to noise in dB; ``mismatch``, how far its spectra are from the picture, in dB:
    pictures of no sound at all have high ones. Of the picture, over frames that sound: ``tilt``, dB per octave;
    ``coherence``, the correlation of neighbouring frames, and ``coherence_8`` of frames 8 apart, after the mean
    spectrum is taken off; ``flux``, the mean change from frame to frame in dB; ``ripple``, the mean change from bin to
    bin in dB, and ``roughness`` along frequency, that of the change; ``spread``, the standard deviation of pixels in
    dB, ``level``, their mean below the peak; ``silent``, the share of pixels at 0.

    Args:
        samples: duration of each picture ``(n,)``; ignored for padded pictures.
        ceilings: formant ceiling of each picture ``(n,)``, Hz.
    """
    rows = [(picture.numpy(), int(s), float(c)) for picture, s, c in zip(pictures, samples, ceilings)]
    return pd.DataFrame(_in_parallel(_measures, rows, len(rows)), columns=COLUMNS, dtype=float)


def _measures(picture: np.ndarray, samples: int, ceiling: float) -> dict[str, float]:
    observation = observation_of(picture.shape[-2:])
    picture = torch.from_numpy(picture).clamp(0, 1)
    wave = sound_of(picture, samples)
    if not wave.any():
        return {}
    pixels = _sounding_part(picture, observation)[: observation.bins].numpy()
    spectra = stft(pad(torch.from_numpy(wave), (LEAD, LEAD)), observation.centres(len(wave))).abs()
    levels = 1 + 20 / FLOOR_DB * np.log10(spectra.numpy().T[: len(pixels)] + 1e-9)
    mismatch = FLOOR_DB * np.sqrt(np.mean((levels.clip(0, 1) - pixels) ** 2))
    return _of_sound(wave, ceiling) | {"mismatch": mismatch} | _of_picture(pixels * FLOOR_DB)


def _of_sound(wave: np.ndarray, ceiling: float) -> dict[str, float]:
    sound, times, (low, high) = _praat(wave), _times(len(wave)), PITCH_HZ
    tracks = _formants(sound, len(wave), ceiling)
    pitch = sound.to_pitch(time_step=0.005, pitch_floor=low, pitch_ceiling=high)
    # Windows of one period instead of Praat's usual 4.5, which are longer than most vowels.
    harmonicity = sound.to_harmonicity_cc(time_step=0.005, minimum_pitch=low)
    hnr = np.array([harmonicity.get_value(time) for time in times])
    return {
        "f0": _median(np.log([pitch.get_value_at_time(time) for time in times[2:-2]])),
        **{
            f"f{k}_{third}": _median(tracks[k - 1, part])
            for k in (1, 2, 3)
            for third, part in STRETCHES.items()
        },
        "hnr": _median(np.where(hnr > -200, hnr, np.nan)),  # Praat's -200 dB is silence
    }


def _of_picture(decibels: np.ndarray) -> dict[str, float]:
    """Measures of the frames that sound, ``(bins, frames)`` in dB above the floor."""
    octaves, spectrum = np.log2(np.arange(4, len(decibels))), decibels.mean(1)
    changes, steps = np.diff(decibels, axis=1), np.diff(decibels, axis=0)
    rest = decibels - spectrum[:, None]
    power = max((rest**2).mean(), 1e-9)
    return {
        "tilt": np.polyfit(octaves, spectrum[4:], 1)[0],
        "coherence": (rest[:, 1:] * rest[:, :-1]).mean() / power if changes.size else np.nan,
        "coherence_8": (rest[:, 8:] * rest[:, :-8]).mean() / power if rest.shape[1] > 8 else np.nan,
        "flux": np.abs(changes).mean() if changes.size else np.nan,
        "ripple": np.abs(steps).mean(),
        "roughness": np.abs(np.diff(steps, axis=0)).mean(),
        "spread": decibels.std(),
        "level": decibels.mean() - FLOOR_DB,
        "silent": (decibels == 0).mean(),
    }


def _praat(wave: np.ndarray):
    """Praat's sound, with 20 ms of silence around it: its windows do not fit into a short vowel."""
    import parselmouth

    return parselmouth.Sound(np.pad(wave, RATE // 50).astype(np.float64), RATE)


def _times(samples: int) -> np.ndarray:
    return 0.02 + TIMES * samples / RATE


def _formants(sound, samples: int, ceiling: float) -> np.ndarray:
    """Natural logarithms of F1 to F3 in Hz at ``TIMES``, ``(3, 13)``, by Burg's method, five below the ceiling."""
    burg = sound.to_formant_burg(time_step=max(samples / RATE / 20, 0.001), maximum_formant=ceiling)
    return np.log([[burg.get_value_at_time(k, time) for time in _times(samples)] for k in (1, 2, 3)])


def _median(values: np.ndarray) -> np.ndarray:
    """Median over the last axis of what is not NaN; NaN if all are."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        return np.nanmedian(values, -1)


def _in_parallel(measure, rows: list[tuple], many: int) -> list:
    """``measure(*row)`` of all rows, in several processes if these are worth their start."""
    if many < MANY:
        return [measure(*row) for row in rows]
    from joblib import Parallel, delayed

    parts = np.array_split(np.arange(len(rows)), min(len(rows), 16))
    found = Parallel(n_jobs=-1)(delayed(_part)(measure, [rows[k] for k in part]) for part in parts)
    return [one for part in found for one in part]


def _part(measure, rows: list[tuple]) -> list:
    torch.set_num_threads(1)
    return [measure(*row) for row in rows]
