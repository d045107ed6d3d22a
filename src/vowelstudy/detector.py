"""Detector: is it speech? A published network that the study did not train says so of sounds.

Silero VAD (Silero Team 2021, https://github.com/snakers4/silero-vad, MIT) detects voices in recordings. It is lenient
with blurred pictures, which discriminators recognise, and does not take noise or upside-down vowels for speech.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from .acoustics import sound_of

WINDOW, CONTEXT = 512, 64  # samples of a window, and before it, that the network gets at 16 kHz
SILENCE = 1600  # samples of silence before the vowel
TIMES = 4  # a vowel is repeated: alone it is shorter than what the network was trained on
LEVEL = 0.2  # root mean square of the vowel
# 5 % of 150 vowels of training speakers are below it, with Griffin-Lim's phase. Of the controls made from
# them, 5 % of the upside-down ones are above it, 21 % of means of 8 tokens, and no PCA-Gaussian picture or noise.
LIMIT = 0.48


@cache
def _network():
    """The network's session. The package itself is not imported, because it would look for torchaudio."""
    import onnxruntime

    (folder,) = importlib.util.find_spec("silero_vad").submodule_search_locations
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(Path(folder) / "data/silero_vad.onnx"), options, providers=["CPUExecutionProvider"]
    )


def of_pictures(pictures: Iterable, samples: Sequence[int]) -> dict[str, float]:
    """Mean ``probability`` of speech of pictures with these durations, and the ``share of speech`` among them."""
    found = speech_probability([sound_of(picture, count) for picture, count in zip(pictures, samples)])
    return {"probability": float(found.mean()), "share of speech": float((found > LIMIT).mean())}


def speech_probability(sounds: Sequence[np.ndarray]) -> np.ndarray:
    """Probability of speech of each sound at 16 kHz, ``(n,)``; it is speech above ``LIMIT``.

    The sound, at a root mean square of ``LEVEL``, is repeated ``TIMES`` times after a silence. The probability is the
    mean over the windows of 32 ms that the repeated sound is in; the network remembers what came before.
    """
    clips = []
    for sound in sounds:
        loud = np.sqrt(np.mean(np.square(sound))) if len(sound) else 0
        clips.append(np.concatenate([np.zeros(SILENCE), np.tile(LEVEL / max(loud, 1e-9) * sound, TIMES)]))
    first = SILENCE // WINDOW
    counts = np.array([max(-(-len(clip) // WINDOW), first + 1) for clip in clips])
    padded = np.zeros((len(clips), CONTEXT + WINDOW * counts.max()), np.float32)
    for row, clip in zip(padded, clips):
        row[CONTEXT : CONTEXT + len(clip)] = clip
    state, totals = np.zeros((2, len(clips), 128), np.float32), np.zeros(len(clips))
    for k in range(counts.max()):
        part = padded[:, WINDOW * k : WINDOW * (k + 1) + CONTEXT]
        found, state = _network().run(None, {"input": part, "state": state, "sr": np.array(16_000)})
        totals += found[:, 0] * ((k >= first) & (k < counts))
    return totals / (counts - first)
