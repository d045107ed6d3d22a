"""The generated corpus: the same every time, labelled rightly, and true to its own factors."""

import numpy as np
import parselmouth
import pytest

from vowelflow import klatt
from vowelflow.base import FRAMES, HOP, LEAD, RATE, InputError
from vowelflow.corpus import COLUMNS, VOWELS

FACTORS = ["f0", "f0_slope", "vocal_tract_cm", "f1", "f2", "f3", "f4", "f1_move", "f2_move", "duration_ms"]
FACTORS += ["open_phase", "tilt_db", "breath_db", "speed", "level_db"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("klatt")


@pytest.fixture(autouse=True)
def cache(folder, monkeypatch):
    monkeypatch.setenv("VOWELFLOW_CACHE", str(folder))


@pytest.fixture(scope="module")
def corpus(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOWELFLOW_CACHE", str(folder))
        return klatt.klatt_corpus(4, 2)


def at_middle(corpus, measure):
    """``measure(sound, row, time)`` at the middle of every vowel, (n, ...)."""
    sounds = (parselmouth.Sound(corpus.clip(k).astype(float), RATE) for k in range(len(corpus)))
    rows = corpus.table.itertuples()
    middles = (LEAD + (corpus.table.end - corpus.table.start) / 2) / RATE
    return np.array([measure(*one) for one in zip(sounds, rows, middles, strict=True)])


def test_table(corpus):
    table = corpus.table
    assert list(table.columns) == [*COLUMNS[:-1], "path", "crc", *FACTORS, "place"]
    assert all(table[name].dtype == float for name in FACTORS)
    assert table.groupby(["speaker", "phone"]).size().tolist() == [2] * (4 * len(VOWELS))
    assert sorted(table.speaker.unique()) == ["f00", "f01", "m00", "m01"]
    assert (table.speaker.str[0] == table.sex).all()
    assert table.utterance.is_unique and table.path.is_unique
    np.testing.assert_allclose(table.end - table.start, table.duration_ms * RATE / 1000)
    assert (table.end - table.start).between(40 * 16, FRAMES * HOP).all()
    assert table.groupby("speaker").vocal_tract_cm.nunique().eq(1).all()


def test_two_generations_are_equal_and_keyed_by_token():
    first, again, other, more = (
        list(klatt._generate(*what)) for what in ((4, 1, 3), (4, 1, 3), (4, 1, 4), (6, 2, 3))
    )
    assert [row for row, _ in first] == [row for row, _ in again]
    assert all(np.array_equal(one, two) for (_, one), (_, two) in zip(first, again, strict=True))
    assert not any(np.array_equal(one, two) for (_, one), (_, two) in zip(first, other, strict=True))
    longer = {row["utterance"]: clip for row, clip in more}  # more speakers and tokens leave these alone
    assert all(np.array_equal(longer[row["utterance"]], clip) for row, clip in first)


def test_sound_reaches_past_the_vowel_and_never_clips(corpus):
    for index in range(4):
        rng = np.random.default_rng([0, index, 1])
        factors = klatt._token("fm"[index % 2], "aa", klatt._speaker("fm"[index % 2], rng), rng)
        sound = klatt._synthesize(factors, rng)
        edge = klatt.SILENCE + klatt.CONTEXT
        start, end = edge, len(sound) - edge
        loud = np.sqrt(np.mean(sound[start:end] ** 2))
        near = np.sqrt(np.mean([*sound[start - 200 : start] ** 2, *sound[end : end + 200] ** 2]))
        far = np.sqrt(np.mean([*sound[:300] ** 2, *sound[-300:] ** 2]))
        assert far * 100 < near * 10 < loud * 10  # a fading voice, then 20 dB less
        jump = abs(np.diff(sound))  # a click is a jump where the voice is weak
        assert max(jump[:480].max(), jump[end + 400 :].max()) < 0.3 * jump[start:end].max()
        assert max(jump[:start].max(), jump[end:].max()) < 1.1 * jump[start:end].max()
    assert 0.05 < max(abs(corpus.clip(k)).max() for k in range(len(corpus))) < 1
    assert all(corpus.clip(k).dtype == np.float32 for k in range(3))


def test_formants_are_where_the_table_says(corpus):
    def formants(sound, row, time):
        burg = sound.to_formant_burg(0.005, 5, 5200 if row.sex == "m" else 6200, 0.025, 50)
        return [burg.get_value_at_time(n, time) for n in (1, 2, 3)]

    measured = at_middle(corpus, formants)
    for n in (1, 2, 3):
        truth = corpus.table[f"f{n}"]
        assert np.corrcoef(truth, measured[:, n - 1])[0, 1] > 0.95
        assert np.median(np.abs(measured[:, n - 1] / truth - 1)) < 0.06


def test_pitch_is_what_the_table_says(corpus):
    def pitch(sound, row, time):
        low, high = (75, 300) if row.sex == "m" else (120, 450)
        return sound.to_pitch_ac(0.005, low, pitch_ceiling=high).get_value_at_time(time)

    assert np.median(np.abs(at_middle(corpus, pitch) / corpus.table.f0 - 1)) < 0.02


def test_cache_is_used_and_a_damaged_one_is_made_again(corpus, folder, monkeypatch):
    (path,) = folder.glob("klatt-4x2-seed0-*.zip")
    whole, expected = path.read_bytes(), corpus.clip(7).copy()
    with monkeypatch.context() as patch:
        patch.setattr(klatt, "_generate", lambda *_: pytest.fail("the cache was not used"))
        cached = klatt.klatt_corpus(4, 2)
    assert cached.table.equals(corpus.table) and np.array_equal(cached.clip(7), expected)
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for damaged in (whole[: len(whole) // 3], flipped, b""):
        path.unlink()  # the file that is mapped stays as it is
        path.write_bytes(damaged)
        assert np.array_equal(klatt.klatt_corpus(4, 2).clip(7), expected)
        assert len(path.read_bytes()) == len(whole)
    assert len(list(folder.iterdir())) == 1  # nothing temporary left


def test_an_odd_number_of_speakers_is_refused():
    with pytest.raises(InputError, match="speakers=7 is odd; give an even number"):
        klatt.klatt_corpus(speakers=7)
