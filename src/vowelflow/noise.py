"""Noise at a signal-to-noise ratio: white, pink, or babble of other segments."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from .base import LEAD, InputError

if TYPE_CHECKING:
    from .corpus import Corpus


def add_noise(snr_db: float, seed: int = 0, kind: str = "white", voices: Corpus | None = None):
    """Noise at a signal-to-noise ratio over the segment, for ``batches``, ``images`` and ``phases``.

    The noise depends on (seed, segment) alone: no two segments share it, and it is the same at every ratio.

    Args:
        kind: "white"; "pink", with power falling as 1 / f; or "babble", eight random segments of
            ``voices`` at once, of equal power, each repeated.

    Raises:
        InputError: another kind, babble without voices, or a ratio that is not a finite number.
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
            spectrum = np.fft.rfft(noise) / np.sqrt(np.arange(len(noise) // 2 + 1).clip(1))
            noise = np.fft.irfft(spectrum, len(noise)).astype(np.float32)
        elif kind == "babble":
            noise = sum(_one_voice(voices, len(clip), rng) for _ in range(8))
        inside = slice(LEAD, LEAD + length)
        power = np.mean(clip[inside] ** 2) / 10 ** (snr_db / 10)
        if kind != "white":  # white noise has power 1
            power = power / max(float(np.mean(noise[inside] ** 2)), 1e-12)
        return clip + np.sqrt(power, dtype=np.float32) * noise

    return noisy


def _one_voice(voices: Corpus, length: int, rng: np.random.Generator) -> np.ndarray:
    sound = voices.sound(int(rng.integers(len(voices))))
    sound = np.resize(np.concatenate([sound, sound[::-1]]), length + len(sound))  # back and forth: no clicks
    start = int(rng.integers(len(sound) - length))
    return sound[start : start + length] / max(float(np.sqrt(np.mean(sound**2))), 1e-6)
