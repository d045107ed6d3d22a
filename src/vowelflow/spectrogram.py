"""Spectrogram: segments -> 288x288 pictures and phases, and back to sound.

Paper, section 4.1: Hann window of 25 ms, hop of 1 ms, 512-point FFT, 257 bins, pictures padded
to 288x288. The paper leaves open whether the magnitude is logarithmic, how frames are placed
and how level is treated. Here: decibels below the segment's peak, clipped at -80 dB and mapped
to [0, 1], so that 0 is silence and the zero padding is silence too.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import torch

from .corpus import FRAMES, HOP, Corpus, InputError

FFT = 512
WINDOW = 400  # samples, 25 ms
BINS = FFT // 2 + 1  # 257
SIDE = 288  # the picture is SIDE x SIDE, frequency x time
FLOOR_DB = 80.0  # range of a picture below its peak
PIXELS = SIDE * SIDE  # 82,944 dimensions
LEAD = FFT // 2 - HOP // 2  # samples of context before the first sample of a segment
EXCERPT = FFT + HOP * (FRAMES - 1)  # samples that 288 frames see


def frame_count(corpus: Corpus) -> np.ndarray:
    """Frames of every segment: ceil(samples / 16), which is its length in ms rounded up."""
    return -(-(corpus.table.end - corpus.table.start) // HOP).to_numpy()


def spectra(corpus: Corpus, noise=None, batch: int = 64) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """Complex short-time spectra of the segments, in batches.

    Frame k is centred on sample ``start + 16 k + 8`` and its window sees the recording around
    the segment, not zeros; frames go on after the segment's end. ``noise(key, excerpt, length)``
    may replace the excerpt of a segment, of which ``length`` samples from ``LEAD`` on are the
    segment itself, by a noisy one; ``key`` names the segment.

    Yields:
        (spectrum, frames): complex64 ``(batch, 257, 288)``, and the segments' own frames ``(batch,)``.

    Raises:
        InputError: no segment at all.
    """
    if not len(corpus):
        raise InputError(f"no segment of {corpus.name} is left to look at; a filter or a split kept none")
    frames = frame_count(corpus)
    for first in range(0, len(corpus), batch):
        rows = range(first, min(first + batch, len(corpus)))
        excerpts = [_excerpt(corpus, row) for row in rows]
        if noise is not None:
            segments = corpus.table.iloc[list(rows)].itertuples()
            excerpts = [
                noise(f"{segment.utterance} {segment.start}", excerpt, segment.end - segment.start)
                for segment, excerpt in zip(segments, excerpts, strict=True)
            ]
        waves = torch.from_numpy(np.stack(excerpts))
        spectrum = torch.stft(waves, FFT, HOP, WINDOW, torch.hann_window(WINDOW), center=False, return_complex=True)
        yield spectrum, frames[rows.start : rows.stop]


def _excerpt(corpus: Corpus, row: int) -> np.ndarray:
    """The samples that the 288 frames of a segment see; zeros only where the recording ends."""
    segment = corpus.table.iloc[row]
    sound = corpus.read_sound(segment.path)
    begin = segment.start - LEAD
    inside = sound[max(begin, 0) : begin + EXCERPT]
    before = max(-begin, 0)
    return np.pad(inside, (before, EXCERPT - before - len(inside)))


def to_picture(spectrum: torch.Tensor, frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Complex spectra ``(n, 257, 288)`` -> pictures ``(n, 1, 288, 288)`` in [0, 1] and peaks ``(n,)``.

    What follows a segment's own ``frames`` is silence. The peak is the largest magnitude of the segment, which the picture is relative to; a silent
    segment has peak 0 and an empty picture.
    """
    inside = torch.arange(FRAMES) < torch.from_numpy(frames)[:, None]
    magnitude = spectrum.abs() * inside[:, None]
    peak = magnitude.amax((1, 2))
    relative = magnitude / peak.clamp_min(1e-20)[:, None, None]
    decibel = 20 * torch.log10(relative.clamp_min(10 ** (-FLOOR_DB / 20)))
    picture = torch.nn.functional.pad(decibel / FLOOR_DB + 1, (0, 0, 0, SIDE - BINS))
    return picture[:, None], peak


def images(corpus: Corpus, noise=None) -> torch.Tensor:
    """Pictures of all segments, float32 ``(n, 1, 288, 288)`` in [0, 1], frequency x time."""
    return torch.cat([to_picture(*part)[0] for part in spectra(corpus, noise)])


def phases(corpus: Corpus, noise=None) -> torch.Tensor:
    """Phases of all segments in radians, float32 ``(n, 257, 288)``; they go on after a segment's end."""
    return torch.cat([spectrum.angle() for spectrum, _ in spectra(corpus, noise)])


def peaks(corpus: Corpus) -> torch.Tensor:
    """Largest magnitude of every segment, ``(n,)``: the level a picture leaves out."""
    return torch.cat([to_picture(*part)[1] for part in spectra(corpus)])


def magnitude(picture: torch.Tensor, peak: float = 1.0) -> torch.Tensor:
    """Picture ``(..., 288, 288)`` -> linear magnitude ``(..., 257, 288)``; 0 dB is ``peak``.

    Pixels are clamped to [0, 1]; those that are 0 are silence, not -80 dB.
    """
    picture = torch.as_tensor(picture, dtype=torch.float32)
    if picture.shape[-2:] != (SIDE, SIDE):
        raise InputError(f"a picture is {SIDE}x{SIDE}, frequency x time, not {tuple(picture.shape)}")
    picture = picture[..., :BINS, :].clamp(0, 1)
    return torch.where(picture > 0, peak * 10 ** ((picture - 1) * FLOOR_DB / 20), 0.0)


def to_audio(picture, phase, peak: float = 1.0, frames: int = FRAMES) -> np.ndarray:
    """Picture and phase -> waveform, float32 at 16 kHz, ``16 * frames`` samples.

    Inverse short-time transform by weighted overlap-add, normalised by the windows that are
    there, so the true magnitude and phase of a segment's own ``frames`` give its samples back
    exactly (Griffin and Lim 1984, equation 6).

    Args:
        picture: ``(288, 288)`` or ``(1, 288, 288)``.
        phase: ``(257, 288)`` in radians.
        peak: magnitude of 0 dB.
        frames: frames to keep; give the segment's own count to leave out its padding.
    """
    return _overlap_add(torch.polar(magnitude(picture, peak).reshape(BINS, FRAMES), torch.as_tensor(phase)), frames)


def _overlap_add(spectrum: torch.Tensor, frames: int) -> np.ndarray:
    window = torch.nn.functional.pad(torch.hann_window(WINDOW), [(FFT - WINDOW) // 2] * 2)
    pieces = torch.fft.irfft(spectrum[:, :frames], n=FFT, dim=0) * window[:, None]
    weights = (window**2)[:, None].expand(-1, frames)
    length = FFT + HOP * (frames - 1)
    fold = {"output_size": (1, length), "kernel_size": (1, FFT), "stride": (1, HOP)}
    added, weight = (torch.nn.functional.fold(part[None], **fold).flatten() for part in (pieces, weights))
    kept = slice(LEAD, LEAD + HOP * frames)
    return (added[kept] / weight[kept]).numpy()


def griffin_lim(picture, peak: float = 1.0, iterations: int = 32, frames: int = FRAMES) -> np.ndarray:
    """Waveform of a picture that has no phase, by librosa's Griffin-Lim, seeded: repeatable."""
    import librosa

    spectrum = magnitude(picture, peak).reshape(BINS, FRAMES)[:, :frames].numpy()
    wave = librosa.griffinlim(
        spectrum, n_iter=iterations, hop_length=HOP, win_length=WINDOW, n_fft=FFT, center=False, random_state=0
    )
    return wave[LEAD : LEAD + HOP * frames].astype(np.float32)


def quantize(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] -> their 256 levels, uint8: q = min(floor(256 x), 255)."""
    return (pictures * 256).floor().clamp(0, 255).to(torch.uint8)


def add_noise(snr_db: float, seed: int = 0):
    """White noise at a signal-to-noise ratio over the segment, for ``spectra`` and ``images``.

    The noise of a segment depends on (seed, segment) alone: no two segments share theirs, and
    the same segment meets the same noise at every ratio.
    """

    def noisy(key: str, excerpt: np.ndarray, length: int) -> np.ndarray:
        rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
        noise = rng.standard_normal(len(excerpt)).astype(np.float32)
        power = np.mean(excerpt[LEAD : LEAD + length] ** 2) / 10 ** (snr_db / 10)
        return excerpt + np.sqrt(power, dtype=np.float32) * noise

    return noisy
