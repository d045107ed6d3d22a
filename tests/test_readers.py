import os
import shutil

import numpy as np
import pytest
import soundfile

from conftest import RATE, write_utterance
from vowelflow.corpus import InputError
from vowelflow.readers import load_corpus


def test_a_folder_of_the_sample_is_read_completely(timit_folder):
    corpus = load_corpus("timit-sample", timit_folder, phones=("aa", "iy", "ow"))
    table = corpus.table
    assert len(corpus) == 32 and corpus.problems == []
    assert table.phone.value_counts().to_dict() == {"aa": 16, "iy": 16}
    assert sorted(table.speaker.unique())[0] == "fab00" and set(table.sex) == {"f", "m"}
    first = table[(table.utterance == "fab00-si100") & (table.phone == "iy")].iloc[0]
    assert (first.start, first.end, first.word) == (5600, 8000, "two")
    assert table.groupby("speaker").split.nunique().eq(1).all() and set(table.split) == {"train", "valid", "test"}
    assert table[table.shared].utterance.str.endswith("-sa1").all() and table.shared.sum() == 16
    assert corpus.read_sound(first.path).shape == (RATE,)


def test_upper_case_sphere_and_the_official_split(tmp_path):
    rng, phones = np.random.default_rng(1), [(0, 3000, "AA"), (3000, 6000, "IY")]
    for part in ("TRAIN", "TEST"):
        for index in range(8):
            folder = tmp_path / "TIMIT" / part / "DR1" / f"{'FM'[index % 2]}{part[:2]}{index}0"
            write_utterance(folder, "SX1", 0.1 * rng.standard_normal(8000), phones, format="NIST", suffix=".WAV")
            for ending in (".phn", ".wrd"):
                (folder / f"SX1{ending}").rename(folder / f"SX1{ending.upper()}")
    table = load_corpus("timit", tmp_path).table
    assert len(table) == 32 and set(table.phone) == {"aa", "iy"}
    assert (table.split == "test").equals(table.speaker.str.contains("te"))
    assert table[table.split == "valid"].speaker.nunique() == 2


def long_vowel(folder):
    write_utterance(folder, "si100", np.zeros(RATE), [(0, 289 * 16 - 15, "aa"), (8000, 8000 + 288 * 16, "iy")])


def test_segments_over_288_ms_are_discarded_and_counted(timit_folder):
    long_vowel(timit_folder / "dr1-fab00")
    corpus = load_corpus("timit-sample", timit_folder)
    assert len(corpus) == 31 and len(corpus.problems) == 1
    assert "aa of 288 ms is over 288 ms, discarded" in corpus.problems[0] and "si100" in corpus.problems[0]


def no_sound(folder):
    (folder / "si100.wav").unlink()


def other_rate(folder):
    soundfile.write(folder / "si100.wav", np.zeros(8000), 8000)


def stereo(folder):
    soundfile.write(folder / "si100.wav", np.zeros((RATE, 2)), RATE)


def rubbish(folder):
    (folder / "si100.wav").write_bytes(b"not a sound")


def empty(folder):
    (folder / "si100.wav").write_bytes(b"")


def words_for_times(folder):
    (folder / "si100.phn").write_text("0 2000 h#\ntwo three aa\n")


def short_line(folder):
    (folder / "si100.phn").write_text("0 2000\n")


def backwards(folder):
    (folder / "si100.phn").write_text("4000 2000 aa\n")


def beyond(folder):
    (folder / "si100.phn").write_text("0 99000 aa\n")


@pytest.mark.parametrize(
    "damage, said",
    [
        (no_sound, "no sound file of the same name"), (other_rate, "8000 Hz"), (stereo, "2 channels"),
        (rubbish, "not a sound that can be read"), (empty, "not a sound that can be read"),
        (words_for_times, "line 2: 'two three aa' is not 'start end label'"), (short_line, "line 1"),
        (backwards, "times 4000 to 2000 do not rise"), (beyond, "labels end at 99000, the sound at 16000"),
    ],
)  # fmt: skip
def test_one_bad_utterance_is_named_and_the_rest_is_used(timit_folder, damage, said):
    damage(timit_folder / "dr1-fab00")
    corpus = load_corpus("timit-sample", timit_folder)
    assert len(corpus) == 30 and len(corpus.problems) == 1
    assert said in corpus.problems[0] and "si100" in corpus.problems[0] and "skipped" in corpus.problems[0]


def test_byte_order_mark_and_windows_line_ends(timit_folder):
    label = timit_folder / "dr1-fab00" / "si100.phn"
    label.write_bytes(b"\xef\xbb\xbf" + label.read_bytes().replace(b"\n", b"\r\n"))
    assert len(load_corpus("timit-sample", timit_folder)) == 32


def test_folders_that_are_no_use(tmp_path, timit_folder):
    with pytest.raises(InputError, match="nowhere: no such folder; give the folder of timit-sample"):
        load_corpus("timit-sample", tmp_path / "nowhere")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(InputError, match="not laid out as TIMIT is"):
        load_corpus("timit-sample", tmp_path / "hollow")
    with pytest.raises(InputError, match="no segment labelled oy; its labels are aa, h#, iy, s"):
        load_corpus("timit-sample", timit_folder, phones=("oy",))
    shutil.move(timit_folder / "dr1-fab00", tmp_path / "alone" / "whoever")
    with pytest.raises(InputError, match="no utterance could be used. First problem: .*named <sex><initials>"):
        load_corpus("timit-sample", tmp_path / "alone")


def test_names(monkeypatch, timit_folder):
    monkeypatch.delenv("TIMIT_ROOT", raising=False)
    with pytest.raises(InputError, match="no corpus 'timmy'; there are auto, timit, timit-sample, klatt"):
        load_corpus("timmy")
    with pytest.raises(InputError, match="timit needs the folder"):
        load_corpus("timit")
    with pytest.raises(InputError, match="klatt is generated and takes no folder"):
        load_corpus("klatt", timit_folder)


def test_auto_says_what_it_took_and_why(monkeypatch, timit_folder):
    monkeypatch.delenv("TIMIT_ROOT", raising=False)
    given = load_corpus("auto", timit_folder)
    assert given.name == "timit-sample" and "root was given" in given.note
    monkeypatch.setattr("vowelflow.readers.klatt_corpus", lambda: load_corpus("timit-sample", timit_folder))
    assert "neither TIMIT nor its sample" in load_corpus("auto").note
    monkeypatch.setenv("TIMIT_ROOT", str(timit_folder))
    found = load_corpus("auto")
    assert found.name == "timit" and "found on this machine" in found.note


@pytest.mark.skipif("TIMIT_SAMPLE" not in os.environ, reason="TIMIT_SAMPLE does not name the folder of the sample")
def test_the_real_sample_has_its_known_counts():
    corpus = load_corpus("timit-sample", os.environ["TIMIT_SAMPLE"])
    counts = corpus.table.groupby(["phone", "sex"]).size().to_dict()
    women = {"aa": 52, "ae": 70, "iy": 125, "ow": 37, "uh": 10}
    men = {"aa": 51, "ae": 78, "iy": 134, "ow": 50, "uh": 4}
    assert counts == {(p, "f"): n for p, n in women.items()} | {(p, "m"): n for p, n in men.items()}
    assert corpus.table.speaker.nunique() == 16 and corpus.problems == []
    assert ((corpus.table.end - corpus.table.start) <= 288 * 16).all() and corpus.table.shared.sum() == 188
