"""Speech for the tests: a small synthetic corpus, and a folder laid out as TIMIT with invented tones."""

import os

import numpy as np
import pytest
import soundfile

RATE = 16_000


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Tests leave the user's cache alone."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["VOWELFLOW_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def klatt(cache):
    from vowelflow.klatt import klatt_corpus

    return klatt_corpus(speakers=8, tokens=2)


def write_utterance(folder, name, sound, phones, words=(), format="WAV", suffix=".wav"):
    """One utterance with its label files; ``phones`` and ``words`` are (start, end, label)."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}{suffix}", sound, RATE, format=format, subtype="PCM_16")
    for ending, rows in ((".phn", phones), (".wrd", words)):
        (folder / f"{name}{ending}").write_text("".join(f"{a} {b} {label}\n" for a, b, label in rows))


@pytest.fixture
def timit_folder(tmp_path):
    """Eight speakers in the layout of the sample, two sentences each, one of them an SA sentence."""
    rng = np.random.default_rng(0)
    for index in range(8):
        folder = tmp_path / "corpus" / f"dr{index + 1}-{'fm'[index % 2]}ab{index}0"
        for name in ("sa1", "si100"):
            sound = 0.1 * rng.standard_normal(RATE)
            phones = [(0, 2000, "h#"), (2000, 4000, "aa"), (4000, 5600, "s"), (5600, 8000, "iy"), (8000, 16000, "h#")]
            write_utterance(folder, name, sound, phones, [(1500, 6000, "one"), (6000, 9000, "two")])
    return tmp_path / "corpus"
