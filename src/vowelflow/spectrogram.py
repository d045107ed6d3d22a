"""Spectrogram: segments -> pictures and phases, and back to sound.

Paper, section 4.1: Hann window of 25 ms, hop of 1 ms, 512-point FFT, 257 bins, pictures padded
to 288x288. The paper leaves open whether the magnitude is logarithmic, how frames are placed
and how level is treated. Here: decibels below the segment's peak, clipped at -80 dB and mapped
to [0, 1], so that 0 is silence and the zero padding is silence too.

Two thirds of such a picture is padding. The study's own observation, ``VOWEL``, has none: the same
window and transform at 96 places spread evenly over the segment, whatever its duration.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from .base import FFT, FRAMES, HOP, LEAD, LONGEST, RATE, InputError, frames_in

if TYPE_CHECKING:
    from .corpus import Corpus

WINDOW = 400  # samples, 25 ms
BINS = FFT // 2 + 1  # 257
SIDE = 288  # the padded picture is SIDE x SIDE, frequency x time
FLOOR_DB = 80.0  # range of a picture below its peak
PIXELS = SIDE * SIDE  # 82,944 dimensions
MOMENTUM = 0.99  # of Griffin-Lim, as librosa has it
TOGETHER = 8  # clips that are transformed at once: more of them leave the processor's cache
EXCERPT = FFT + HOP * (FRAMES - 1)  # samples that 288 frames see


@dataclass(frozen=True)
class Observation:
    """How a segment becomes a picture ``(1, side, frames)``, frequency x time.

    Row k is bin k of the transform, at 31.25 k Hz; rows above the last bin are zeros.

    Attributes:
        even: frames are spread evenly over the segment, each centred in its share of the duration.
            Otherwise frames are 1 ms apart, and zeros follow the segment's end.
        shortest, longest: samples that a segment may have.
    """

    name: str
    side: int
    frames: int
    even: bool
    shortest: int
    longest: int

    @property
    def bins(self) -> int:
        """Rows that are bins of the transform."""
        return min(self.side, BINS)

    @property
    def shape(self) -> tuple[int, int]:
        return self.side, self.frames

    def centres(self, samples: int) -> np.ndarray:
        """Where the windows of a segment of so many samples are centred, in samples from its start."""
        if not self.even:
            return HOP * np.arange(frames_in(samples)) + HOP // 2
        return ((np.arange(self.frames) + 0.5) * samples / self.frames).astype(int)


VOWEL = Observation("vowel", 256, 96, True, WINDOW // 2, LONGEST)
PADDED = Observation("padded", SIDE, FRAMES, False, 1, HOP * FRAMES)
CROP = Observation("crop", SIDE, 64, False, HOP * 63 + 1, HOP * FRAMES)  # the middle 64 ms of a padded picture
OBSERVATIONS = {one.name: one for one in (VOWEL, PADDED, CROP)}


def observation_named(name: str | Observation) -> Observation:
    """The observation of this name, such as "vowel" or "padded"; ``InputError`` if there is none."""
    if isinstance(name, Observation):
        return name
    if name not in OBSERVATIONS:
        raise InputError(f"no observation {name!r}; there are {', '.join(OBSERVATIONS)}")
    return OBSERVATIONS[name]


def observation_of(shape: tuple[int, int]) -> Observation:
    """The observation whose pictures have this shape; ``InputError`` if there is none."""
    for one in OBSERVATIONS.values():
        if one.shape == tuple(shape):
            return one
    sizes = ", ".join(f"{one.side}x{one.frames} ({one.name})" for one in OBSERVATIONS.values())
    raise InputError(f"no observation is {'x'.join(map(str, shape))}, frequency x time; there are {sizes}")


def frame_count(corpus: Corpus) -> np.ndarray:
    """Frames of every segment: ceil(samples / 16), which is its length in ms rounded up."""
    return frames_in(corpus.table.end - corpus.table.start).to_numpy()


def _frames_at(wave: torch.Tensor, centres: np.ndarray, fft: int = FFT) -> torch.Tensor:
    """Windowed frames ``(frames, fft)`` of a clip, centred on samples of its segment; the window is 25/32 of ``fft``."""
    wave = torch.nn.functional.pad(wave, (fft // 2, fft // 2))  # the window is zero there, or sees past the recording
    return wave.unfold(0, fft, 1)[torch.from_numpy(LEAD + centres).to(wave.device)] * _window(wave.device, fft)


def evenly_seen(
    waves: Sequence[torch.Tensor], starts: Sequence[int], samples: Sequence[int], ffts: Sequence[int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips -> pictures ``(n, 1, 256, 96)`` in [0, 1] and peaks ``(n,)``: the ``VOWEL`` observation.

    For training, the segment may begin ``starts`` samples later and have fewer ``samples``, and may be seen by a
    transform of another even length: one of 512 r points sees what 512 points see of a recording played r times as
    fast, so F0 and formants are r times as high. Bins that lie above 8 kHz then are those below it, mirrored.
    """
    pictures, peaks = torch.empty(len(waves), 1, *VOWEL.shape, device=waves[0].device), []
    for k, wave in enumerate(waves):
        fft = ffts[k] if ffts is not None else FFT
        squares = torch.view_as_real(torch.fft.rfft(_frames_at(wave, starts[k] + VOWEL.centres(samples[k]), fft)))
        levels = squares.square_().sum(-1).log10_().mul_(10 / FLOOR_DB)
        if levels.shape[1] < VOWEL.side:
            levels = torch.cat([levels, levels[:, 1:-1].flip(1)], 1)
        levels = levels[:, : VOWEL.side]
        peaks.append(levels.amax().item())
        torch.clamp(levels.sub_(max(peaks[-1], -4.0) - 1).T, 0, 1, out=pictures[k, 0])
    return pictures, 10 ** (torch.tensor(peaks) * FLOOR_DB / 20)


def faster(speed: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths of transforms for ``evenly_seen`` that see ``count`` recordings up to ``speed``, a share, faster or slower."""
    return 2 * np.round(FFT // 2 * (1 + speed * rng.uniform(-1, 1, count))).astype(int)


def spectrum_of(wave: torch.Tensor) -> torch.Tensor:
    """Short-time spectrum of a clip, complex64 ``(257, frames)``.

    Frame k is centred on sample ``16 k + 8`` of the segment and its window sees the recording
    around it, not zeros.
    """
    window = torch.hann_window(WINDOW, device=wave.device)
    return torch.stft(wave, FFT, HOP, WINDOW, window, center=False, return_complex=True)


def _window(device="cpu", fft: int = FFT) -> torch.Tensor:
    """The Hann window, 25/32 of a frame's ``fft`` samples, in their middle, as ``torch.stft`` places it."""
    width = round(fft * WINDOW / FFT)
    before = (fft - width) // 2
    return torch.nn.functional.pad(torch.hann_window(width, device=device), (before, fft - width - before))


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


def usable(corpus: Corpus, observation: Observation | str) -> Corpus:
    """The segments that are neither too short nor too long for an observation; ``left_out`` counts the others."""
    observation = observation_named(observation)
    import pandas as pd

    samples = (corpus.table.end - corpus.table.start).to_numpy()
    fits = (samples >= observation.shortest) & (samples <= observation.longest)
    if fits.all():
        return corpus
    shortest, longest = (f"{1000 * limit / RATE:g} ms" for limit in (observation.shortest, observation.longest))
    reasons = np.where(samples < observation.shortest, f"shorter than {shortest}", f"longer than {longest}")
    dropped = corpus.table[~fits].assign(reason=reasons[~fits])
    counts = dropped.groupby(["corpus", "reason", "phone", "sex"], as_index=False).size()
    left_out = pd.concat([corpus.left_out, counts.rename(columns={"size": "count"})], ignore_index=True)
    return replace(corpus.take(np.flatnonzero(fits)), left_out=left_out)


def batches(
    corpus: Corpus, noise=None, batch: int = 8, device="cpu", observation: Observation | str = PADDED
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pictures ``(batch, 1, side, frames)`` and peaks ``(batch,)``, ``batch`` segments at a time.

    ``noise(key, clip, length)`` may replace the clip of a segment, of which ``length`` samples
    from ``LEAD`` on are the segment itself, by a noisy one; ``key`` names the segment.

    Raises:
        InputError: no segment at all, or one that is too short or too long for the observation.
    """
    observation, samples = observation_named(observation), (corpus.table.end - corpus.table.start).to_numpy()
    _check_durations(corpus, samples, observation)
    for first in range(0, max(len(corpus), 1), batch):
        rows = range(first, min(first + batch, len(corpus)))
        waves = [torch.from_numpy(wave).to(device) for wave in _heard(corpus, rows, noise)]
        if observation.even:
            yield evenly_seen(waves, [0] * len(rows), samples[rows])
        else:
            pictures, peaks = pictures_of(waves)
            yield central(pictures, (frames_in(samples[rows]) - observation.frames) // 2, observation.frames), peaks


def _check_durations(corpus: Corpus, samples: np.ndarray, observation: Observation) -> None:
    for row in np.flatnonzero((samples < observation.shortest) | (samples > observation.longest))[:1]:
        one, window = corpus.table.iloc[row], 1000 * WINDOW / RATE
        raise InputError(
            f"{one.path}: segment {one.phone} at sample {one.start} of {one.utterance} lasts {1000 * samples[row] / RATE:.1f} ms;"
            f" {observation.name!r} takes {1000 * observation.shortest / RATE:g} to {1000 * observation.longest / RATE:g} ms with its"
            f" window of {window:g} ms. vf.usable(corpus, {observation.name!r}) leaves such segments out"
        )


def _heard(corpus: Corpus, rows: Sequence[int], noise) -> list[np.ndarray]:
    """The clips of segments, with noise where that is wanted."""
    if not len(corpus):
        raise InputError(f"no segment of {corpus.name} is left to look at; a filter or a split kept none")
    clips = corpus.clips(rows)
    if noise is None:
        return clips
    segments = corpus.table.iloc[list(rows)].itertuples()
    return [noise(f"{one.utterance} {one.start}", clip, one.end - one.start) for one, clip in zip(segments, clips)]


def images(corpus: Corpus, noise=None, observation: Observation | str = PADDED) -> torch.Tensor:
    """Pictures of all segments, float32 ``(n, 1, side, frames)`` in [0, 1], frequency x time.

    A padded one takes 330 KB; ``batches`` makes them a few at a time, and says what is raised.
    """
    return next(batches(corpus, noise, len(corpus) or 1, observation=observation))[0]


def peaks(corpus: Corpus, observation: Observation | str = PADDED) -> torch.Tensor:
    """Largest magnitude of every segment, ``(n,)``: the level a picture leaves out."""
    return torch.cat([peak for _, peak in batches(corpus, observation=observation)])


def phases(corpus: Corpus, noise=None, observation: Observation | str = PADDED) -> torch.Tensor:
    """Phases of all segments in radians, float32 ``(n, bins, frames)``, at the segments' own durations.

    After a padded segment's own frames they are those of its mirror image, to and fro: a picture that
    was made longer than the segment still has its voice.
    """
    observation, samples = observation_named(observation), (corpus.table.end - corpus.table.start).to_numpy()
    _check_durations(corpus, samples, observation)
    waves = _heard(corpus, range(len(corpus)), noise)
    if observation.even:
        centres = map(observation.centres, samples)
        spectra = (torch.fft.rfft(_frames_at(torch.from_numpy(wave), at)).T for wave, at in zip(waves, centres))
    else:
        padded = (np.pad(wave, (0, EXCERPT - len(wave)), "reflect") for wave in waves)
        spectra = (spectrum_of(torch.from_numpy(wave)) for wave in padded)
    return torch.stack([spectrum[: observation.bins].angle() for spectrum in spectra])


def phases_at(phase: torch.Tensor, own: float, duration: float) -> torch.Tensor:
    """The phases of a ``VOWEL`` picture of ``own`` seconds, advanced for frames of another ``duration`` (a phase vocoder).

    Each bin keeps the frequency that its phase had from frame to frame (Flanagan and Golden 1966).
    """
    here, there = (torch.from_numpy(np.diff(VOWEL.centres(round(RATE * one)))) for one in (own, duration))
    bins = 2 * np.pi * torch.arange(len(phase))[:, None] / FFT
    turned = phase.diff(dim=1) - bins * here
    frequency = bins + (turned - 2 * np.pi * (turned / (2 * np.pi)).round()) / here.clamp_min(1)
    return torch.cat([phase[:, :1], phase[:, :1] + (frequency * there).cumsum(1)], 1)


def magnitude(picture: torch.Tensor, peak: float = 1.0) -> torch.Tensor:
    """Picture ``(..., side, frames)`` -> linear magnitude ``(..., bins, frames)``; 0 dB is ``peak``.

    Pixels are clamped to [0, 1]; those that are 0 are silence, not -80 dB.
    """
    picture = torch.as_tensor(picture, dtype=torch.float32)
    picture = picture[..., : observation_of(picture.shape[-2:]).bins, :].clamp(0, 1)
    return torch.where(picture > 0, peak * 10 ** ((picture - 1) * FLOOR_DB / 20), 0.0)


def to_audio(picture, phase, peak: float = 1.0, frames: int | None = None, duration: float | None = None) -> np.ndarray:
    """Picture and phase -> waveform, float32 at 16 kHz.

    Inverse short-time transform by weighted overlap-add, normalised by the windows that are
    there, so the true magnitude and phase of a segment give its samples back (Griffin and Lim 1984, equation 6).

    Args:
        picture: ``(side, frames)`` or ``(1, side, frames)``.
        phase: ``(bins, frames)`` in radians; ``phases_at`` makes those of another duration.
        peak: magnitude of 0 dB.
        frames: of a padded picture, how many to keep, of 1 ms each; give the segment's own count to leave out its padding.
        duration: of a ``VOWEL`` picture, seconds over which its frames are spread evenly.

    Raises:
        InputError: other shapes, a peak that is no magnitude, or a length that the observation does not have.
    """
    magnitudes, phase = magnitude(picture, peak), torch.as_tensor(phase, dtype=torch.float32)
    centres = _centres_for(picture, peak, frames, duration)
    if phase.shape != magnitudes.shape[-2:]:
        raise InputError(f"a phase is {tuple(magnitudes.shape[-2:])}, as its picture, not {tuple(phase.shape)}")
    spectrum = torch.polar(magnitudes.reshape(phase.shape), phase)
    return _overlap_add(spectrum[:, : len(centres[0])], *centres)


def _centres_for(picture, peak: float, frames: int | None, duration: float | None) -> tuple[np.ndarray, int]:
    """Where the frames of a sound to be made are centred, and how many samples it has."""
    shape = np.shape(picture)
    seen = observation_of(shape[-2:])
    if np.prod(shape) != np.prod(shape[-2:]):
        raise InputError(f"give one picture, not {tuple(shape)}")
    if not 0 <= peak < np.inf:
        raise InputError(f"a peak is a magnitude, 0 or more, not {peak}")
    if seen.even:
        samples = round(RATE * duration) if duration is not None and np.isfinite(duration) else -1
        if not seen.shortest <= samples <= seen.longest:
            raise InputError(
                f"a {seen.name} picture sounds for {seen.shortest / RATE:g} to {seen.longest / RATE:g} s, not duration={duration}"
            )
        return seen.centres(samples), samples
    frames = seen.frames if frames is None else int(frames)
    if not 1 <= frames <= seen.frames:
        raise InputError(f"frames are 1 to {seen.frames}, not {frames}")
    return seen.centres(HOP * frames), HOP * frames


def _overlap_add(spectrum: torch.Tensor, centres: np.ndarray, samples: int) -> np.ndarray:
    """The sound of a segment, from its spectra ``(bins, frames)`` at these places.

    Without a bin at 8 kHz, each frame gets the one that makes it vanish, as nearly as it can, where its window is zero:
    a frame has 512 points and its window 400, so for the spectra of a sound this is exact.
    """
    window = _window()
    pieces = torch.fft.irfft(spectrum, n=FFT, dim=0).T
    if len(spectrum) < BINS:
        highest = torch.tensor([1.0, -1.0]).repeat(FFT // 2)
        outside = (window == 0) * highest
        pieces = pieces - (pieces @ outside / outside.square().sum())[:, None] * highest
    pieces = pieces * window
    places = torch.from_numpy(centres)[:, None] + torch.arange(FFT)  # the window's middle is at FFT // 2
    added, weight = (
        torch.zeros(samples + 2 * FFT).index_add_(0, places.flatten(), part.flatten())
        for part in (pieces, (window**2).expand_as(pieces))
    )
    kept = slice(FFT // 2, FFT // 2 + samples)
    return (added[kept] / weight[kept]).numpy()


def griffin_lim(
    picture, peak: float = 1.0, iterations: int = 32, frames: int | None = None, duration: float | None = None
) -> np.ndarray:
    """Waveform of a picture that has no phase, by Griffin-Lim, seeded: repeatable.

    With the momentum of Perraudin, Balazs and Sondergaard (2013). ``frames``, ``duration`` and errors as of ``to_audio``.
    """
    centres, samples = _centres_for(picture, peak, frames, duration)
    wanted = magnitude(picture, peak)
    wanted = wanted.reshape(wanted.shape[-2:])[:, : len(centres)]
    turns = torch.from_numpy(np.random.default_rng(0).random(wanted.shape, dtype=np.float32))
    spectrum, before = torch.polar(wanted, 2 * np.pi * turns), torch.zeros_like(wanted)
    for _ in range(iterations):
        wave = torch.from_numpy(_overlap_add(spectrum, centres, samples))
        around = torch.nn.functional.pad(wave, (LEAD, LEAD))
        now = torch.fft.rfft(_frames_at(around, centres)).T[: len(wanted)]
        faster = now - MOMENTUM / (1 + MOMENTUM) * before
        spectrum, before = wanted * faster / faster.abs().clamp_min(1e-16), now
    return _overlap_add(spectrum, centres, samples)


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
    if kind not in ("white", "pink", "babble"):
        raise InputError(f"noise is white, pink or babble, not {kind!r}")
    if kind == "babble" and not voices:
        raise InputError("babble is made of voices: give a corpus of them")
    if not np.isfinite(snr_db):
        raise InputError(f"a signal-to-noise ratio is a finite number of dB, not {snr_db!r}")

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
