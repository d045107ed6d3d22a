"""Spectrogram: segments -> 288x288 pictures and phases, and back to sound.

Paper, section 4.1: Hann window of 25 ms, hop of 1 ms, 512-point FFT, 257 bins, pictures padded
to 288x288. The paper leaves open whether the magnitude is logarithmic, how frames are placed
and how level is treated. Here: decibels below the segment's peak, clipped at -80 dB and mapped
to [0, 1], so that 0 is silence and the zero padding is silence too.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch

from .corpus import FFT, FRAMES, HOP, LEAD, Corpus, InputError, frames_in

WINDOW = 400  # samples, 25 ms
BINS = FFT // 2 + 1  # 257
SIDE = 288  # the picture is SIDE x SIDE, frequency x time
FLOOR_DB = 80.0  # range of a picture below its peak
PIXELS = SIDE * SIDE  # 82,944 dimensions
TOGETHER = 8  # clips that are transformed at once: more of them leave the processor's cache
EXCERPT = FFT + HOP * (FRAMES - 1)  # samples that 288 frames see


def frame_count(corpus: Corpus) -> np.ndarray:
    """Frames of every segment: ceil(samples / 16), which is its length in ms rounded up."""
    if not isinstance(corpus, Corpus):
        raise InputError(f"{corpus!r:.60} is no corpus; vf.load_corpus reads one")
    return frames_in(corpus.table.end - corpus.table.start).to_numpy()


def spectrum_of(wave: torch.Tensor) -> torch.Tensor:
    """Short-time spectrum of a clip, complex64 ``(257, frames)``.

    Frame k is centred on sample ``16 k + 8`` of the segment and its window sees the recording
    around it, not zeros.
    """
    window = torch.hann_window(WINDOW, device=wave.device)
    return torch.stft(wave, FFT, HOP, WINDOW, window, center=False, return_complex=True)


def _window(device="cpu") -> torch.Tensor:
    """The Hann window in the middle of a frame's ``FFT`` samples, as ``torch.stft`` places it."""
    return torch.nn.functional.pad(torch.hann_window(WINDOW, device=device), [(FFT - WINDOW) // 2] * 2)


def _levels(waves: Sequence[torch.Tensor], window: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Power in each frame and bin of some clips, in units of ``FLOOR_DB`` decibels, ``(frames, 257)`` each."""
    counts = [(len(wave) - FFT) // HOP + 1 for wave in waves]
    windowed = torch.empty(sum(counts), FFT, device=window.device)
    for wave, part in zip(waves, windowed.split(counts)):
        torch.mul(wave.unfold(0, FFT, HOP), window, out=part)
    squares = torch.view_as_real(torch.fft.rfft(windowed)).square_()
    return (squares[..., 0] + squares[..., 1]).log10_().mul_(10 / FLOOR_DB).split(counts)


def pictures_of(waves: Sequence[torch.Tensor], gains_db=None, shifts=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips -> pictures ``(n, 1, 288, 288)`` in [0, 1] and peaks ``(n,)``, on the device of the clips.

    The peak is the largest magnitude of the segment, which its picture is relative to; what
    follows the segment's own frames is silence. A silent segment has peak 0 and an empty
    picture. For training, ``gains_db`` raise levels before they are cut to the picture's
    80 dB, and ``shifts`` move segments by so many frames into their padding.
    """
    device = waves[0].device
    window = _window(device)
    pictures, peaks = torch.empty(len(waves), 1, SIDE, SIDE, device=device), []
    groups = (_levels(waves[first : first + TOGETHER], window) for first in range(0, len(waves), TOGETHER))
    for k, levels in enumerate(chain.from_iterable(groups)):
        peaks.append(levels.amax().item())
        gain = 0.0 if gains_db is None else gains_db[k] / FLOOR_DB
        first = 0 if shifts is None else shifts[k]
        inside = pictures[k, 0].zero_()[:BINS, first : first + len(levels)]
        torch.clamp(levels.sub_(max(peaks[-1], -4.0) - 1 - gain).T, 0, 1, out=inside)
    return pictures, 10 ** (torch.tensor(peaks) * FLOOR_DB / 20)


def central(pictures: torch.Tensor, starts, frames: int) -> torch.Tensor:
    """``frames`` columns of each picture, from its own start: ``(n, 1, 288, frames)``; a whole one stays as it is."""
    if frames == FRAMES:
        return pictures
    return torch.stack([picture[..., first : first + frames] for picture, first in zip(pictures, map(int, starts))])


def long_enough(corpus: Corpus, frames: int) -> Corpus:
    """The segments that have a middle of so many frames; for whole pictures, all."""
    return corpus if frames == FRAMES else corpus.take(np.flatnonzero(frame_count(corpus) >= frames))


def batches(
    corpus: Corpus, noise=None, batch: int = 8, device="cpu", frames: int = FRAMES
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pictures and peaks as ``pictures_of`` makes them, ``batch`` segments at a time.

    Of ``long_enough`` segments, ``frames`` may ask for the middle alone.

    ``noise(key, clip, length)`` may replace the clip of a segment, of which ``length`` samples
    from ``LEAD`` on are the segment itself, by a noisy one; ``key`` names the segment.

    Raises:
        InputError: no segment at all, or no segment at a time.
    """
    if not isinstance(corpus, Corpus):
        raise InputError(f"{corpus!r:.60} is no corpus; vf.load_corpus reads one")
    if not isinstance(batch, int | np.integer) or batch < 1:
        raise InputError(f"batches hold at least one segment, not {batch}")
    if noise is not None and not callable(noise):
        raise InputError(f"{noise!r:.60} makes no noise; vf.add_noise makes what does")
    for first in range(0, max(len(corpus), 1), batch):
        rows = range(first, min(first + batch, len(corpus)))
        pictures, peaks = pictures_of([torch.from_numpy(wave).to(device) for wave in _heard(corpus, rows, noise)])
        yield central(pictures, (frame_count(corpus)[rows] - frames) // 2, frames), peaks


def _heard(corpus: Corpus, rows: Sequence[int], noise) -> list[np.ndarray]:
    """The clips of segments, with noise where that is wanted."""
    if not len(corpus):
        raise InputError(f"no segment of {corpus.name} is left to look at; a filter or a split kept none")
    clips = corpus.clips(rows)
    if noise is None:
        return clips
    segments = corpus.table.iloc[list(rows)].itertuples()
    return [noise(f"{one.utterance} {one.start}", clip, one.end - one.start) for one, clip in zip(segments, clips)]


def images(corpus: Corpus, noise=None, frames: int = FRAMES) -> torch.Tensor:
    """Pictures of all segments, float32 ``(n, 1, 288, frames)`` in [0, 1], frequency x time.

    They take 330 KB each; ``batches`` makes them a few at a time.
    """
    if not isinstance(corpus, Corpus):
        raise InputError(f"{corpus!r:.60} is no corpus; vf.load_corpus reads one")
    return next(batches(corpus, noise, batch=len(corpus) or 1, frames=frames))[0]


def peaks(corpus: Corpus) -> torch.Tensor:
    """Largest magnitude of every segment, ``(n,)``: the level a picture leaves out."""
    return torch.cat([peak for _, peak in batches(corpus)])


def phases(corpus: Corpus, noise=None) -> torch.Tensor:
    """Phases of all segments in radians, float32 ``(n, 257, 288)``.

    After a segment's own frames they are those of its mirror image, to and fro: a picture that
    was made longer than the segment still has its voice.
    """
    if not isinstance(corpus, Corpus):
        raise InputError(f"{corpus!r:.60} is no corpus; vf.load_corpus reads one")
    waves = (np.pad(wave, (0, EXCERPT - len(wave)), "reflect") for wave in _heard(corpus, range(len(corpus)), noise))
    return torch.stack([spectrum_of(torch.from_numpy(wave)).angle() for wave in waves])


def magnitude(picture: torch.Tensor, peak: float = 1.0) -> torch.Tensor:
    """Picture ``(..., 288, 288)`` -> linear magnitude ``(..., 257, 288)``; 0 dB is ``peak``.

    Pixels are clamped to [0, 1]; those that are 0 are silence, not -80 dB.
    """
    if not isinstance(picture, torch.Tensor | np.ndarray):
        raise InputError(f"a picture is a tensor or an array, not a {type(picture).__name__}")
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

    Raises:
        InputError: other shapes, or a peak that is no magnitude.
    """
    if (
        not isinstance(peak, int | float | np.number | torch.Tensor)
        or torch.as_tensor(peak).numel() != 1
        or not 0 <= peak < np.inf
    ):
        raise InputError(f"a peak is a magnitude, 0 or more, not {peak}")
    if not isinstance(frames, int | np.integer | torch.Tensor) or torch.as_tensor(frames).numel() != 1:
        raise InputError(f"frames are 1 to {FRAMES}, not {frames}")
    if not isinstance(phase, torch.Tensor | np.ndarray):
        raise InputError(f"a phase is a tensor or an array, not a {type(phase).__name__}")
    magnitudes, phase = magnitude(picture, peak), torch.as_tensor(phase, dtype=torch.float32)
    if magnitudes.numel() != BINS * FRAMES or phase.shape != (BINS, FRAMES) or not 1 <= frames <= FRAMES:
        raise InputError(
            f"pictures {tuple(magnitudes.shape)}, phases {tuple(phase.shape)}, {frames} frames;"
            f" give one picture, its phase ({BINS}, {FRAMES}), and 1 to {FRAMES} frames"
        )
    return _overlap_add(torch.polar(magnitudes.reshape(BINS, FRAMES), phase), frames)


def _overlap_add(spectrum: torch.Tensor, frames: int) -> np.ndarray:
    window = _window()
    pieces = torch.fft.irfft(spectrum[:, :frames], n=FFT, dim=0) * window[:, None]
    weights = (window**2)[:, None].expand(-1, frames)
    length = FFT + HOP * (frames - 1)
    fold = {"output_size": (1, length), "kernel_size": (1, FFT), "stride": (1, HOP)}
    added, weight = (torch.nn.functional.fold(part[None], **fold).flatten() for part in (pieces, weights))
    kept = slice(LEAD, LEAD + HOP * frames)
    return (added[kept] / weight[kept]).numpy()


def griffin_lim(picture, peak: float = 1.0, iterations: int = 32, frames: int = FRAMES) -> np.ndarray:
    """Waveform of a picture that has no phase, by librosa's Griffin-Lim, seeded: repeatable; ``InputError`` as of ``to_audio``."""
    import librosa

    if not isinstance(peak, int | float | np.number | torch.Tensor) or torch.as_tensor(peak).numel() != 1:
        raise InputError(f"a peak is a magnitude, 0 or more, not {peak}")
    if any(
        not isinstance(one, int | np.integer | torch.Tensor) or torch.as_tensor(one).numel() != 1
        for one in (frames, iterations)
    ):
        raise InputError(f"frames and iterations are whole numbers, not {frames} and {iterations}")
    if not 0 <= peak < np.inf or not 1 <= frames <= FRAMES or iterations < 0:
        raise InputError(
            f"peak {peak}, {frames} frames, {iterations} iterations: a peak is 0 or more, frames are 1 to {FRAMES}"
        )
    spectrum = magnitude(picture, peak).reshape(BINS, FRAMES)[:, :frames].numpy()
    wave = librosa.griffinlim(
        spectrum, n_iter=iterations, hop_length=HOP, win_length=WINDOW, n_fft=FFT, center=False, random_state=0
    )
    return wave[LEAD : LEAD + HOP * frames].astype(np.float32)


def quantize(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] -> their 256 levels, uint8: q = min(floor(256 x), 255)."""
    return (pictures * 256).floor().clamp(0, 255).to(torch.uint8)


def restore(levels: torch.Tensor) -> torch.Tensor:
    """Levels -> pictures in [0, 1], at the middle of each level; level 0 stays silence."""
    return torch.where(levels > 0, (levels + 0.5) / 256, 0.0)


def add_noise(snr_db: float, seed: int = 0, kind: str = "white", voices: Corpus | None = None):
    """Noise at a signal-to-noise ratio over the segment, for ``batches``, ``images`` and ``phases``.

    The noise of a segment depends on (seed, segment) alone: no two segments share theirs, and
    the same segment meets the same noise at every ratio.

    Args:
        kind: "white"; "pink", with power falling as 1 / f; or "babble", eight segments of ``voices`` at once, each repeated
            and from another place of its own, of equal power.

    Raises:
        InputError: another kind, babble of nobody, a ratio that is not a finite number, or no seed.
    """
    if not isinstance(kind, str) or kind not in ("white", "pink", "babble"):
        raise InputError(f"noise is white, pink or babble, not {kind!r}")
    if kind == "babble" and (not isinstance(voices, Corpus) or not voices):
        raise InputError("babble is made of voices: give a corpus of them")
    if not isinstance(snr_db, int | float | np.number) or not np.isfinite(snr_db):
        raise InputError(f"a signal-to-noise ratio is a finite number of dB, not {snr_db!r}")
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**32):
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**32 - 1}")

    def noisy(key: str, clip: np.ndarray, length: int) -> np.ndarray:
        rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
        noise = rng.standard_normal(len(clip)).astype(np.float32)
        if kind == "pink":
            noise = _pink(noise)
        elif kind == "babble":
            noise = sum(_one_voice(voices, len(clip), rng) for _ in range(8))
        inside = slice(LEAD, LEAD + length)
        power = np.mean(clip[inside] ** 2) / 10 ** (snr_db / 10)
        if kind != "white":  # whose power is 1
            power = power / max(float(np.mean(noise[inside] ** 2)), 1e-12)
        return clip + np.sqrt(power, dtype=np.float32) * noise

    return noisy


def _pink(noise: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(noise)
    return np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)).clip(1)), len(noise)).astype(np.float32)


def _one_voice(voices: Corpus, length: int, rng: np.random.Generator) -> np.ndarray:
    sound = voices.sound(int(rng.integers(len(voices))))
    sound = np.resize(np.concatenate([sound, sound[::-1]]), length + len(sound))  # to and fro: no clicks
    start = int(rng.integers(len(sound) - length))
    return sound[start : start + length] / max(float(np.sqrt(np.mean(sound**2))), 1e-6)
