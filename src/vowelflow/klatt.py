"""The synthetic corpus: five vowels of synthetic speakers, with the true factors of every token.

Praat's KlattGrid (Weenink 2009, doi:10.21437/Interspeech.2009-722), called through praat-parselmouth, makes
the sound: a glottal source filtered by a cascade of formants. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
import pandas as pd
from tqdm import tqdm

from .base import RATE, InputError
from .corpus import VOWELS, Corpus, cache_dir, split_by_speaker
from .store import VERSION, cached_clips, cut

# Averages of Hillenbrand, Getty, Clark and Wheeler (1995), "Acoustic characteristics of American
# English vowels", JASA 97(5), 3099-3111, Table V: duration in ms, then F0, F1, F2, F3, F4 in Hz.
TARGETS = {
    "aa": {"m": (267, 123, 768, 1333, 2522, 3687), "f": (323, 215, 936, 1551, 2815, 4299)},
    "ae": {"m": (278, 123, 588, 1952, 2601, 3624), "f": (332, 215, 669, 2349, 2972, 4290)},
    "iy": {"m": (243, 138, 342, 2322, 3000, 3657), "f": (306, 227, 437, 2761, 3372, 4352)},
    "ow": {"m": (265, 129, 497, 910, 2459, 3384), "f": (326, 217, 555, 1035, 2828, 3927)},
    "uh": {"m": (192, 133, 469, 1122, 2434, 3400), "f": (249, 230, 519, 1225, 2827, 4052)},
}
# Without a source, the values below are our own modelling, not measurements.
SPOKEN = 0.4  # duration in running speech relative to the isolated words of the table
SHORTEST, LONGEST = 40, 280  # ms; a padded picture holds 288
# F1 and F2 at the end relative to the start: "ow" glides to a closer, backer vowel, the others move a little.
MOVEMENT = {
    "aa": (0.97, 1.03),
    "ae": (1.06, 0.93),
    "iy": (0.97, 1.02),
    "ow": (0.82, 0.82),
    "uh": (0.97, 1.05),
}
# Vocal tract in cm, the textbook value for men and 15 % less for women. A uniform tube of this length has F5
# and above at (2 n - 1) c / 4 L: eight formants below 8 kHz for an average man, seven for a woman.
TRACT = {"m": 17.5, "f": 15.0}
SOUND_SPEED = 35_400  # cm/s, in warm and humid air
VOICE = {"m": (0.60, 4.0, -30.0), "f": (0.68, 6.5, -26.0)}  # open phase, tilt in dB at 3 kHz, breath in dB
CONTEXT, SILENCE = 480, 400  # samples before and after a vowel: 30 ms of fading voice, then 25 ms of silence
NOISE = 0.001  # standard deviation of the background noise; a source at level 0 dB swings by about 1
LEVEL = 0.12  # waveform of a source at level 0 dB that swings to 1; the loudest tokens swing six times as far
OVERSAMPLED = 2 * RATE  # glottal pulses have no upper limit: at 16 kHz they would alias
# Raise it when the same seed gives other sounds. It is the ``crc`` of all tokens, in place of a checksum,
# since sounds may differ in their last bit between machines.
RECIPE = 1


def klatt_corpus(speakers: int = 48, tokens: int = 8, seed: int = 0) -> Corpus:
    """Generate the corpus, or load it from the cache: ``speakers`` x 5 vowels x ``tokens``; half are women.

    The table has the true factors as more columns: ``f0``, ``f1`` to ``f4`` (Hz, at the vowel's middle),
    ``f0_slope`` (semitones over the vowel), ``f1_move`` and ``f2_move`` (ratio, end to start),
    ``vocal_tract_cm``, ``duration_ms``, ``open_phase`` (share of the glottal cycle), ``tilt_db`` (source loss
    at 3 kHz), ``breath_db`` (noise relative to voice, at the source), ``speed`` (1 is average) and
    ``level_db`` (of the source; one scale for the whole corpus).

    Raises:
        InputError: an odd number of speakers.
    """
    if speakers % 2:
        raise InputError(f"speakers={speakers} is odd; give an even number, half women and half men")
    # Another recipe or another version of Praat makes other sounds, so both are part of the file's name.
    recipe = hashlib.sha256(f"{RECIPE} {VERSION} {version('praat-parselmouth')}".encode()).hexdigest()[:10]
    path = cache_dir() / f"klatt-{speakers}x{tokens}-seed{seed}-{recipe}.zip"
    names = pd.DataFrame(map(_name, range(speakers)), columns=["sex", "speaker"])
    note = f"synthetic, {speakers} speakers, {tokens} tokens of each vowel, seed {seed}"
    about = {"name": "klatt", "labels": VOWELS, "split": split_by_speaker(names, seed), "left_out": []}
    about["facts"] = {"licence": "generated here: no restriction", "note": note}
    return cached_clips(path, lambda: _generate(speakers, tokens, seed), about)


def _name(index: int) -> tuple[str, str]:
    """Sex and name of a speaker; women and men alternate."""
    sex = "fm"[index % 2]
    return sex, f"{sex}{index // 2:02d}"


def _generate(speakers: int, tokens: int, seed: int) -> Iterator[tuple[dict, np.ndarray]]:
    """Row and clip of each token."""
    from parselmouth.praat import run

    print("making the synthetic corpus, once", file=sys.stderr, flush=True)
    items = [(index, item) for index in range(speakers) for item in range(len(VOWELS) * tokens)]
    for index, item in tqdm(items, desc="klatt", unit="vowel", leave=False, disable=None):
        sex, speaker = _name(index)
        token, phone = item // len(VOWELS), VOWELS[item % len(VOWELS)]
        # One generator per speaker and one per token, with keys of equal length since trailing zeros do not
        # count. More speakers or more tokens leave the earlier ones unchanged.
        voice = _speaker(sex, np.random.default_rng([seed, index, 0]))
        rng = np.random.default_rng([seed, index, item + 1])
        factors = _token(sex, phone, voice, rng)
        sound = LEVEL * _synthesize(factors, rng)
        start, end = SILENCE + CONTEXT, len(sound) - SILENCE - CONTEXT
        name = f"{speaker}_{phone}{token:02d}"
        row = {"corpus": "klatt", "utterance": name, "speaker": speaker, "sex": sex, "phone": phone}
        row |= {"word": "", "start": start, "end": end, "path": name, "crc": RECIPE}
        yield row | factors, cut(sound, start, end)
    run("random_initializeSafelyAndUnpredictably ()")  # resets Praat's own generator


def _normal(rng: np.random.Generator, mean: float = 0.0, deviation: float = 1.0) -> float:
    """A normal draw clipped at 2.5 deviations, so that formants keep their order and levels are bounded."""
    return float(mean + deviation * np.clip(rng.standard_normal(), -2.5, 2.5))


def _speaker(sex: str, rng: np.random.Generator) -> dict[str, float]:
    """The factors that are the same for all tokens of a speaker."""
    open_phase, tilt, breath = VOICE[sex]
    return {
        "formants": np.exp(_normal(rng, 0, 0.045)),  # factor of all formants, the inverse of length
        "f0": np.exp(_normal(rng, 0, 0.13)),
        "speed": np.exp(_normal(rng, 0, 0.12)),
        "open_phase": _normal(rng, open_phase, 0.05),
        "tilt_db": max(_normal(rng, tilt, 2.5), 0.5),
        "breath_db": _normal(rng, breath, 3),
        "level_db": _normal(rng, 0, 1.5),
    }


def _token(sex: str, phone: str, voice: dict, rng: np.random.Generator) -> dict[str, float]:
    """The true factors of one token, as in the table."""
    duration, f0, *formants = TARGETS[phone][sex]
    spreads = (0.03, 0.025, 0.015, 0.015)
    formants = [f * voice["formants"] * np.exp(_normal(rng, 0, s)) for f, s in zip(formants, spreads)]
    moves = [move * np.exp(_normal(rng, 0, 0.03)) for move in MOVEMENT[phone]]
    duration = np.clip(duration * SPOKEN / voice["speed"] * np.exp(_normal(rng, 0, 0.2)), SHORTEST, LONGEST)
    factors = {
        "f0": f0 * voice["f0"] * np.exp(_normal(rng, 0, 0.05)),
        "f0_slope": _normal(rng, -1.0, 1.5),
        "vocal_tract_cm": TRACT[sex] / voice["formants"],
        **{f"f{n}": formant for n, formant in enumerate(formants, 1)},
        "f1_move": moves[0],
        "f2_move": moves[1],
        "duration_ms": round(duration * RATE / 1000) * 1000 / RATE,  # a whole number of samples
        "open_phase": voice["open_phase"] + _normal(rng, 0, 0.015),
        "tilt_db": max(voice["tilt_db"] + _normal(rng, 0, 0.8), 0.0),
        "breath_db": voice["breath_db"] + _normal(rng, 0, 1),
        "speed": voice["speed"],
        "level_db": voice["level_db"] + _normal(rng, 0, 1.5),
    }
    return {name: float(value) for name, value in factors.items()}


def _synthesize(factors: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """(samples,) float64 at 16 kHz: silence, fading-in voice, the vowel, fading-out voice, silence."""
    from parselmouth.praat import call, run

    length = round(factors["duration_ms"] * RATE / 1000)
    samples = length + 2 * (CONTEXT + SILENCE)
    silence, context, vowel = SILENCE / RATE, CONTEXT / RATE, length / RATE
    start, middle, end = silence + context, silence + context + vowel / 2, silence + context + vowel
    # The tube's higher resonances, well beyond 8 kHz, since their skirts shape the lower ones.
    spacing = SOUND_SPEED / 2 / factors["vocal_tract_cm"]
    higher = [spacing * (n - 0.5) for n in range(5, int(0.96 * RATE / spacing + 0.5) + 1)]
    formants = [factors[f"f{n}"] for n in (1, 2, 3, 4)] + higher
    grid = call("Create KlattGrid", "vowel", 0, samples / RATE, len(formants), 0, 0, 0, 0, 0, 0)

    def add(tier: str, *points: tuple[float, float], formant: tuple = ()) -> None:
        for time, value in points:
            call(grid, f"Add {tier} point", *formant, time, float(value))

    slope = 2 ** (factors["f0_slope"] / 24)  # ratio of F0, middle to end
    add("pitch", (start, factors["f0"] / slope), (middle, factors["f0"]), (end, factors["f0"] * slope))
    add("flutter", (middle, 0.15))  # no voice is perfectly periodic
    add("open phase", (middle, factors["open_phase"]))
    add("collision phase", (middle, 0.012))  # the folds close fast but not instantly
    add("spectral tilt", (middle, factors["tilt_db"]))
    # Ramp, onset, crest, decline and ramp, in dB; 94 dB is an amplitude of one pascal.
    times = (silence - 0.006, silence, start, start + 0.3 * vowel, end, end + context, end + context + 0.006)
    shape = np.array([-90, -26, -3, 0, -5, -28, -90]) + 94 + factors["level_db"]
    add("voicing amplitude", *zip(times, shape, strict=True))
    add("breathiness amplitude", *zip(times, shape + factors["breath_db"], strict=True))
    # In the context F1 falls, as towards any consonant, and F2 moves towards a random locus.
    loci = np.exp(rng.uniform(np.log(0.4), np.log(0.65), size=2)) * factors["f3"]
    for n, frequency in enumerate(formants, 1):
        points = [(middle, frequency)]
        if n <= 2:
            half = np.sqrt(factors[f"f{n}_move"])
            edges = np.array([frequency / half, frequency * half])
            before, after = 0.75 * edges if n == 1 else np.sqrt(loci * edges)
            points += [(silence, before), (start, edges[0]), (end, edges[1]), (end + context, after)]
        add("oral formant frequency", *points, formant=(n,))
        # Closed-glottis bandwidth after Fant (1985), "The vocal tract in your pocket calculator", at most
        # 400 Hz, since the formula is not valid beyond.
        x = frequency / 500
        bandwidth = min(15 / x**2 + 20 * np.sqrt(x) + 5 * x**2, 400)
        add("oral formant bandwidth", (middle, bandwidth), formant=(n,))
    run(f"random_initializeWithSeedUnsafelyButPredictably ({rng.integers(2**31)})")
    ranges = [1, len(formants)] + [1, 0] * 7  # oral; none of the seven other kinds
    source = ["yes", "yes", "no", "yes", "yes", "Powers in tiers", "yes", "no", "yes"]
    sound = call(grid, "To Sound (special)", 0, 0, OVERSAMPLED, "no", *source, "Cascade", *ranges, "no")
    wave = sound.resample(RATE, 50).values[0, :samples]
    return wave + NOISE * rng.standard_normal(samples)
