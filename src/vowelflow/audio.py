"""Audio: pictures and phases -> sound, by overlap-add or Griffin-Lim."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import pad

from .base import FFT, HOP, LEAD, RATE, InputError, frames_in
from .spectrogram import BINS, FLOOR_DB, VOWEL, hann, observation_of, stft

MOMENTUM = 0.99  # of Griffin-Lim, as in librosa


def phases_at(phase: torch.Tensor, own: float, duration: float) -> torch.Tensor:
    """Phases of a ``VOWEL`` picture of ``own`` seconds for another ``duration``, by a phase vocoder.

    Each bin keeps the frequency that its phase has from frame to frame (Flanagan and Golden 1966).
    """
    here, there = (torch.from_numpy(np.diff(VOWEL.centres(round(RATE * one)))) for one in (own, duration))
    bins = 2 * np.pi * torch.arange(len(phase))[:, None] / FFT
    turned = phase.diff(dim=1) - bins * here
    frequency = bins + (turned - 2 * np.pi * (turned / (2 * np.pi)).round()) / here.clamp_min(1)
    return torch.cat([phase[:, :1], phase[:, :1] + (frequency * there).cumsum(1)], 1)


def magnitude(picture: torch.Tensor, peak: float = 1.0) -> torch.Tensor:
    """Picture ``(..., side, frames)`` -> linear magnitude ``(..., bins, frames)``; 0 dB is ``peak``.

    Pixels are clamped to [0, 1]; pixels of 0 are silence, not -80 dB.
    """
    picture = torch.as_tensor(picture, dtype=torch.float32)
    picture = picture[..., : observation_of(tuple(picture.shape[-2:])).bins, :].clamp(0, 1)
    return torch.where(picture > 0, peak * 10 ** ((picture - 1) * FLOOR_DB / 20), 0.0)


def to_audio(
    picture, phase, peak: float = 1.0, frames: int | None = None, duration: float | None = None
) -> np.ndarray:
    """Picture and phase -> waveform, float32 at 16 kHz.

    Weighted overlap-add (Griffin and Lim 1984, equation 6): a segment's magnitude and phase give it back.

    Args:
        picture: ``(side, frames)`` or ``(1, side, frames)``.
        phase: ``(bins, frames)`` in radians; ``phases_at`` gives those of another duration.
        peak: magnitude of 0 dB.
        frames: 1 ms frames of a padded picture to use; a segment's own count leaves out the padding.
        duration: in seconds; a ``VOWEL`` picture needs it, and a padded one may have it instead of ``frames``.

    Raises:
        InputError: other shapes, a peak that is no magnitude, or a length that the observation does not have.
    """
    magnitudes, phase = magnitude(picture, peak), torch.as_tensor(phase, dtype=torch.float32)
    centres, samples = _checked_centres(picture, peak, frames, duration)
    if phase.shape != magnitudes.shape[-2:]:
        raise InputError(
            f"a phase is {tuple(magnitudes.shape[-2:])}, as its picture, not {tuple(phase.shape)}"
        )
    spectrum = torch.polar(magnitudes.reshape(phase.shape), phase)
    return _overlap_add(spectrum[:, : len(centres)], centres, samples)


def griffin_lim(
    picture, peak: float = 1.0, iterations: int = 32, frames: int | None = None, duration: float | None = None
) -> np.ndarray:
    """Waveform of a picture without a phase, by Griffin-Lim from a constant seed.

    With the momentum of Perraudin, Balazs and Sondergaard (2013). Other arguments as for ``to_audio``.
    """
    wanted = magnitude(picture, peak)
    centres, samples = _checked_centres(picture, peak, frames, duration)
    wanted = wanted.reshape(wanted.shape[-2:])[:, : len(centres)]
    turns = torch.from_numpy(np.random.default_rng(0).random(wanted.shape, dtype=np.float32))
    spectrum, before = torch.polar(wanted, 2 * np.pi * turns), torch.zeros_like(wanted)
    for _ in range(iterations):
        wave = torch.from_numpy(_overlap_add(spectrum, centres, samples))
        now = stft(pad(wave, (LEAD, LEAD)), centres).T[: len(wanted)]
        ahead = now - MOMENTUM / (1 + MOMENTUM) * before
        spectrum, before = wanted * ahead / ahead.abs().clamp_min(1e-16), now
    return _overlap_add(spectrum, centres, samples)


def _checked_centres(
    picture, peak: float, frames: int | None, duration: float | None
) -> tuple[np.ndarray, int]:
    """Centres of a picture's frames, and samples of its sound; ``InputError`` as in ``to_audio``."""
    shape = np.shape(picture)
    observation = observation_of(shape[-2:])
    if np.prod(shape) != np.prod(shape[-2:]):
        raise InputError(f"give one picture, not {tuple(shape)}")
    if not 0 <= peak < np.inf:
        raise InputError(f"a peak is a magnitude, 0 or more, not {peak}")
    samples = round(RATE * duration) if duration is not None and np.isfinite(duration) else -1
    if observation.even:
        if not observation.fits(samples):
            shortest, longest = observation.shortest / RATE, observation.longest / RATE
            raise InputError(
                f"a {observation.name} picture lasts {shortest:g} to {longest:g} s, not duration={duration}"
            )
        return observation.centres(samples), samples
    if frames is None:
        frames = observation.frames if duration is None else frames_in(samples)
    frames = int(frames)
    if not 1 <= frames <= observation.frames:
        raise InputError(f"frames are 1 to {observation.frames}, not {frames}")
    return observation.centres(HOP * frames), HOP * frames


def _overlap_add(spectrum: torch.Tensor, centres: np.ndarray, samples: int) -> np.ndarray:
    """The sound ``(samples,)`` of spectra ``(bins, frames)`` at these centres.

    Spectra without the bin at 8 kHz get the value there that best makes the 112 points outside the window
    vanish; for the spectra of a sound, this is exact.
    """
    window = hann()
    added = torch.fft.irfft(spectrum, n=FFT, dim=0).T
    if len(spectrum) < BINS:
        highest = torch.tensor([1.0, -1.0]).repeat(FFT // 2)
        outside = (window == 0) * highest
        added = added - (added @ outside / outside.square().sum())[:, None] * highest
    places = torch.from_numpy(centres)[:, None] + torch.arange(FFT)  # the window's middle is at FFT // 2
    sums = (
        torch.zeros(samples + 2 * FFT).index_add_(0, places.flatten(), part.flatten())
        for part in (added * window, (window**2).expand_as(added))
    )
    sound, weight = (part[FFT // 2 : FFT // 2 + samples] for part in sums)
    return (sound / weight).numpy()
