"""Spectrogram: segments -> pictures and phases, and back to sound.

Paper, section 4.1: Hann window of 25 ms, hop of 1 ms, 512-point FFT, 257 bins, pictures padded to 288x288.
The paper does not say whether magnitudes are logarithmic or how level is treated. Here pixels are decibels
below the segment's peak, clipped at -80 dB and mapped to [0, 1], so that silence and padding are both 0.

Two thirds of such a picture is padding. The study's own observation, ``VOWEL``, has none: the same window and
transform, at 96 frames spread evenly over the segment, whatever its duration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import pad

from .base import FFT, FRAMES, HOP, LEAD, LONGEST, RATE, InputError, frames_in

if TYPE_CHECKING:
    from .corpus import Corpus

WINDOW = 400  # samples, 25 ms
BINS = FFT // 2 + 1  # 257
SIDE = 288  # rows of a padded picture
FLOOR_DB = 80.0  # range of a picture below its peak
EXCERPT = FFT + HOP * (FRAMES - 1)  # samples under the windows of 288 frames


@dataclass(frozen=True)
class Observation:
    """How a segment becomes a picture ``(side, frames)``, frequency x time.

    Row k is bin k of the transform, at 31.25 k Hz; rows above the last bin are zeros.
    """

    name: str
    side: int
    frames: int
    even: bool  # frames are spread evenly over the segment; otherwise they are 1 ms apart and zeros follow
    shortest: int  # samples that a segment may have
    longest: int

    @property
    def bins(self) -> int:
        """Number of rows that are bins of the transform."""
        return min(self.side, BINS)

    @property
    def shape(self) -> tuple[int, int]:
        return self.side, self.frames

    def centres(self, samples: int) -> np.ndarray:
        """Centres of the windows, in samples from the start of a segment of ``samples`` samples."""
        if self.even:
            return ((np.arange(self.frames) + 0.5) * samples / self.frames).astype(int)
        return HOP * np.arange(frames_in(samples)) + HOP // 2

    def fits(self, samples: np.ndarray) -> np.ndarray:
        """Whether segments of so many samples are neither too short nor too long."""
        return (samples >= self.shortest) & (samples <= self.longest)


VOWEL = Observation("vowel", 256, 96, True, WINDOW // 2, LONGEST)
PADDED = Observation("padded", SIDE, FRAMES, False, 1, HOP * FRAMES)
OBSERVATIONS = {one.name: one for one in (VOWEL, PADDED)}


def observation_of(key: str | tuple[int, int] | Observation) -> Observation:
    """The observation with a name, such as "vowel", or a shape of pictures; else ``InputError``."""
    for one in OBSERVATIONS.values():
        if key in (one, one.name, one.shape):
            return one
    there = ", ".join(f"{one.name} ({one.side}x{one.frames})" for one in OBSERVATIONS.values())
    raise InputError(f"no observation {key!r}, frequency x time; there are {there}")


def _samples(corpus: Corpus) -> np.ndarray:
    return (corpus.table.end - corpus.table.start).to_numpy()


def frame_count(corpus: Corpus) -> np.ndarray:
    """Frames of every padded picture: ceil(samples / 16), the duration in ms, rounded up."""
    return frames_in(_samples(corpus))


def hann(device="cpu", fft: int = FFT) -> torch.Tensor:
    """Hann window of 25/32 of ``fft`` samples, with zeros on both sides, as in ``torch.stft``."""
    width = round(fft * WINDOW / FFT)
    before = (fft - width) // 2
    return pad(torch.hann_window(width, device=device), (before, fft - width - before))


def stft(wave: torch.Tensor, centres: np.ndarray, fft: int = FFT) -> torch.Tensor:
    """Spectra ``(frames, fft // 2 + 1)``, complex64, of a clip at ``centres`` of its segment.

    The segment begins at sample ``LEAD`` of the clip: windows include the recording around it, not zeros.
    """
    wave = pad(wave, (fft // 2, fft // 2))  # the window is zero there, or longer than the clip
    frames = wave.unfold(0, fft, 1)[torch.from_numpy(LEAD + centres).to(wave.device)]
    return torch.fft.rfft(frames * hann(wave.device, fft))


def spectrum_of(wave: torch.Tensor) -> torch.Tensor:
    """Short-time spectrum of a clip, complex64 ``(257, frames)``, with 1 ms between frames."""
    frames = (len(wave) - 2 * LEAD) // HOP
    return stft(wave, PADDED.centres(HOP * frames)).T


def vowel_pictures(
    waves: Sequence[torch.Tensor],
    starts: Sequence[int],
    samples: Sequence[int],
    ffts: Sequence[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips -> pictures ``(n, 1, 256, 96)`` in [0, 1] and peaks ``(n,)``: the ``VOWEL`` observation.

    For training, segments may begin ``starts`` samples later, have fewer ``samples``, and use a transform of
    512 r points, which gives what 512 points give for a recording played r times as fast: F0 and formants are
    r times as high. Bins above 8 kHz are then those below it, mirrored.
    """
    pictures, peaks = torch.empty(len(waves), 1, *VOWEL.shape, device=waves[0].device), []
    for k, wave in enumerate(waves):
        spectrum = stft(wave, starts[k] + VOWEL.centres(samples[k]), FFT if ffts is None else ffts[k])
        if spectrum.shape[1] < VOWEL.side:
            spectrum = torch.cat([spectrum, spectrum[:, 1:-1].flip(1)], 1)
        peaks.append(_draw(spectrum[:, : VOWEL.side], pictures[k, 0]))
    return pictures, 10 ** (torch.tensor(peaks) * FLOOR_DB / 20)


def pictures_of(waves: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips -> pictures ``(n, 1, 288, 288)`` in [0, 1] and peaks ``(n,)``: the ``PADDED`` observation.

    The peak is the largest magnitude; a silent segment has peak 0 and an empty picture.
    """
    pictures, peaks = torch.zeros(len(waves), 1, SIDE, SIDE, device=waves[0].device), []
    for picture, wave in zip(pictures, waves):
        spectrum = spectrum_of(wave)
        peaks.append(_draw(spectrum.T, picture[0, :BINS, : spectrum.shape[1]]))
    return pictures, 10 ** (torch.tensor(peaks) * FLOOR_DB / 20)


def _draw(spectrum: torch.Tensor, out: torch.Tensor) -> float:
    """Write pixels ``(bins, frames)`` of spectra ``(frames, bins)`` to ``out``; return the peak in 80 dB."""
    squares = torch.view_as_real(spectrum).square_()
    levels = (squares[..., 0] + squares[..., 1]).log10_().mul_(10 / FLOOR_DB)
    peak = levels.amax().item()
    torch.clamp(levels.sub_(max(peak, -4.0) - 1).T, 0, 1, out=out)
    return peak


def faster(speed: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random ``ffts`` for ``vowel_pictures``: recordings up to ``speed``, a share, faster or slower."""
    return 2 * np.round(FFT // 2 * (1 + speed * rng.uniform(-1, 1, count))).astype(int)


def usable(corpus: Corpus, observation: Observation | str) -> Corpus:
    """The segments that are not too short or too long for an observation; ``left_out`` counts the others."""
    observation, samples = observation_of(observation), _samples(corpus)
    fits = observation.fits(samples)
    if fits.all():
        return corpus
    shortest, longest = (
        f"{1000 * limit / RATE:g} ms" for limit in (observation.shortest, observation.longest)
    )
    reasons = np.where(samples < observation.shortest, f"shorter than {shortest}", f"longer than {longest}")
    dropped = corpus.table[~fits].assign(reason=reasons[~fits])
    counts = dropped.groupby(["corpus", "reason", "phone", "sex"], as_index=False).size()
    import pandas as pd  # not on the machine that trains on a GPU: it gets pictures, and no corpus

    left_out = pd.concat([corpus.left_out, counts.rename(columns={"size": "count"})], ignore_index=True)
    return replace(corpus.take(np.flatnonzero(fits)), left_out=left_out)


def _checked_samples(corpus: Corpus, observation: Observation) -> np.ndarray:
    """Durations in samples; ``InputError`` if there is no segment, or one too short or too long."""
    if not len(corpus):
        raise InputError(f"no segment of {corpus.name} is left; a filter or a split removed all")
    samples = _samples(corpus)
    rows = np.flatnonzero(~observation.fits(samples))
    if len(rows):
        one, milliseconds = corpus.table.iloc[rows[0]], 1000 * samples[rows[0]] / RATE
        raise InputError(
            f"{one.path}: segment {one.phone} at sample {one.start} of {one.utterance} lasts "
            f"{milliseconds:.1f} ms; {observation.name!r} takes {1000 * observation.shortest / RATE:g} to "
            f"{1000 * observation.longest / RATE:g} ms. vf.usable(corpus, {observation.name!r}) leaves it out"
        )
    return samples


def _clips(corpus: Corpus, rows: Sequence[int], noise) -> list[torch.Tensor]:
    """The clips of segments, with noise if there is any."""
    clips = corpus.clips(rows)
    if noise is not None:
        segments = corpus.table.iloc[list(rows)].itertuples()
        clips = [
            noise(f"{one.utterance} {one.start}", clip, one.end - one.start)
            for one, clip in zip(segments, clips)
        ]
    return [torch.from_numpy(clip) for clip in clips]


def batches(
    corpus: Corpus, noise=None, batch: int = 8, device="cpu", observation: Observation | str = VOWEL
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pictures ``(batch, 1, side, frames)`` and peaks ``(batch,)``, ``batch`` segments at a time.

    ``noise(key, clip, length)`` may replace a segment's clip by a noisy one; ``key`` names the segment, which
    is ``length`` samples from ``LEAD`` on.

    Raises:
        InputError: no segment at all, or one that is too short or too long for the observation.
    """
    observation = observation_of(observation)
    samples = _checked_samples(corpus, observation)
    for first in range(0, len(corpus), batch):
        rows = range(first, min(first + batch, len(corpus)))
        waves = [wave.to(device) for wave in _clips(corpus, rows, noise)]
        if observation.even:
            yield vowel_pictures(waves, [0] * len(rows), samples[rows])
        else:
            yield pictures_of(waves)


def images(corpus: Corpus, noise=None, observation: Observation | str = VOWEL) -> torch.Tensor:
    """All pictures, float32 ``(n, 1, side, frames)``, up to 330 KB each; arguments as for ``batches``."""
    return next(batches(corpus, noise, len(corpus), observation=observation))[0]


def peaks(corpus: Corpus, observation: Observation | str = VOWEL) -> torch.Tensor:
    """Largest magnitude of every segment, ``(n,)``: the level that pictures are relative to."""
    return torch.cat([peak for _, peak in batches(corpus, observation=observation)])


def phases(corpus: Corpus, noise=None, observation: Observation | str = VOWEL) -> torch.Tensor:
    """Phases of all segments in radians, float32 ``(n, bins, frames)``.

    After a padded segment's end they are those of its mirror image: a picture made longer stays voiced.
    """
    observation = observation_of(observation)
    samples = _checked_samples(corpus, observation)
    waves = _clips(corpus, range(len(corpus)), noise)
    if observation.even:
        spectra = (stft(wave, observation.centres(count)).T for wave, count in zip(waves, samples))
    else:
        mirrored = (np.pad(wave, (0, EXCERPT - len(wave)), "reflect") for wave in waves)
        spectra = (spectrum_of(torch.from_numpy(wave)) for wave in mirrored)
    return torch.stack([spectrum[: observation.bins].angle() for spectrum in spectra])


def quantize(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] -> their 256 levels, uint8: q = min(floor(256 x), 255)."""
    return (pictures * 256).floor().clamp(0, 255).to(torch.uint8)


def restore(levels: torch.Tensor) -> torch.Tensor:
    """Levels -> pictures in [0, 1], at the middle of each level; level 0 stays silence."""
    return torch.where(levels > 0, (levels + 0.5) / 256, 0.0)


def dequantize(pictures: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """y = (q + u) / 256 with levels q and noise u, uniform in [0, 1); ``InputError`` outside [0, 1].

    The noise of a picture depends on ``seed`` and a hash of its levels, not on the batch.
    """
    if not ((pictures >= 0) & (pictures <= 1)).all():
        raise InputError("pictures must be finite and in [0, 1], as vf.images makes them")
    levels = quantize(pictures)
    noise = torch.empty(levels.shape)
    for row, picture in enumerate(levels):
        key = hashlib.blake2b(picture.numpy().tobytes(), digest_size=8).digest()
        rng = np.random.default_rng([seed, int.from_bytes(key, "little")])
        noise[row] = torch.from_numpy(rng.random(picture.shape, dtype=np.float32))
    return (levels + noise) / 256
