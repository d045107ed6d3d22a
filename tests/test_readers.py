"""Readers use everything usable in a folder, and report everything else."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import PHONES, RATE, WORDS, text_grid, write_utterance
from vowelflow import readers
from vowelflow.base import LEAD, InputError
from vowelflow.readers import load_corpus
from vowelflow.spectrogram import usable
from vowelstudy import measures


def count(corpus, reason):
    rows = corpus.left_out[corpus.left_out.reason == reason]
    return int(rows["count"].sum())


def faults(corpus):
    """Problems of files; not that these small folders lack vowels and speakers."""
    return [
        problem for problem in corpus.problems if not problem.startswith(("no segment is", "no speaker is"))
    ]


# ---- good folders


def test_a_folder_of_the_sample_is_read_completely(timit_folder):
    corpus = load_corpus("timit-sample", timit_folder, phones=("aa", "iy", "ow"))
    table = corpus.table
    assert len(corpus) == 32 and faults(corpus) == [] and count(corpus, "other phones and silences") == 48
    assert table.phone.value_counts().to_dict() == {"aa": 16, "iy": 16}
    assert sorted(table.speaker.unique())[0] == "fab00" and set(table.sex) == {"f", "m"}
    place = table.index[(table.utterance == "fab00-si100") & (table.phone == "iy")][0]
    first = table.loc[place]
    assert (first.start, first.end, first.word) == (5600, 8000, "two")
    assert table.groupby("speaker").split.nunique().eq(1).all() and set(table.split) == {
        "train",
        "valid",
        "test",
    }
    assert table[table.shared].utterance.str.endswith("-sa1").all() and table.shared.sum() == 16
    whole, _ = soundfile.read(timit_folder / first.path, dtype="float32")
    assert np.array_equal(corpus.sound(place), whole[5600:8000])
    assert np.array_equal(corpus.clip(place), whole[5600 - LEAD : 8000 + LEAD])


def test_upper_case_sphere_and_the_official_split(tmp_path):
    rng, phones = np.random.default_rng(1), [(0, 3000, "AA"), (3000, 6000, "IY")]
    for part in ("TRAIN", "TEST"):
        for index in range(8):
            folder = tmp_path / "TIMIT" / part / "DR1" / f"{'FM'[index % 2]}{part[:2]}{index}0"
            write_utterance(
                folder, "SX1", 0.1 * rng.standard_normal(8000), phones, format="NIST", suffix=".WAV"
            )
            for ending in (".phn", ".wrd"):
                (folder / f"SX1{ending}").rename(folder / f"SX1{ending.upper()}")
    corpus = load_corpus("timit", tmp_path)
    table = corpus.table
    assert len(table) == 32 and set(table.phone) == {"aa", "iy"}
    assert (table.split == "test").equals(table.speaker.str.contains("te"))
    assert table[table.split == "valid"].speaker.nunique() == 2
    start = corpus.clip(0)  # of a segment at the very beginning of its recording
    assert (start[:LEAD] == 0).all() and len(start) == 512 + 16 * (188 - 1)


def test_librispeech_with_stress_digits_and_both_forms_of_textgrid(libri_folder):
    corpus = load_corpus("librispeech", libri_folder)
    table = corpus.table
    assert len(corpus) == 16 and faults(corpus) == []
    assert table.phone.value_counts().to_dict() == {"aa": 8, "iy": 8}
    first = table[(table.utterance == "11-7-0001") & (table.phone == "iy")].iloc[0]
    assert (first.speaker, first.sex, first.word, first.start, first.end) == ("11", "f", "one", 6400, 8320)
    assert (table.split == "test").equals(table.speaker.isin(["21", "22"]))
    assert count(corpus, "labelled spn: speech that the aligner could not label") == 8
    assert set(load_corpus("librispeech", libri_folder, phones="all").table.phone) == {"aa", "iy"}


def test_own_recordings_in_other_formats_and_rates(own_folder):
    rng = np.random.default_rng(3)
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    soundfile.write(own_folder / "ann" / "list1.wav", 1.5 * tone, 44_100, subtype="FLOAT")
    soundfile.write(
        own_folder / "bob" / "list1.wav", 1e-4 * rng.standard_normal(RATE), RATE, subtype="PCM_24"
    )
    (own_folder / "cleo" / "list1.TextGrid").write_text(text_grid({"MAU": PHONES}, 1.0), encoding="utf-16")
    people = "\ufeffSpeaker;Sex;split\r\nann;Female;train\r\nbob;Male;test\r\ncleo;F;train\r\ndan;M;\r\n"  # as Excel saves it
    (own_folder / "speakers.csv").write_text(people, encoding="utf-8")
    corpus = load_corpus("textgrid", own_folder)
    table = corpus.table
    assert len(corpus) == 8 and faults(corpus) == []
    assert table.groupby("speaker").split.first().to_dict() == {
        "ann": "train", "bob": "test", "cleo": "train", "dan": "train"
    }  # fmt: skip
    loud = corpus.sound(table.index[table.speaker == "ann"][0])
    expected = 1.5 * np.sin(2 * np.pi * 440 * (3200 + np.arange(len(loud))) / RATE)
    assert np.abs(loud - expected).max() < 2e-3  # resampled, and not clipped
    quiet = corpus.sound(table.index[table.speaker == "bob"][0])
    whole, _ = soundfile.read(own_folder / "bob" / "list1.wav")
    assert np.abs(quiet - whole[3200:4800]).max() < 1e-8  # 24 bits of a quiet recording survive


def test_labels_of_other_alphabets_are_kept_as_they_are(own_folder):
    rows = [(0, 0.2, "a:"), (0.2, 0.3, "ɑ"), (0.3, 1.0, "E")]
    (own_folder / "ann" / "list1.TextGrid").write_text(text_grid({"phones": rows}, 1.0), encoding="utf-8")
    assert load_corpus("textgrid", own_folder, phones="ɑ,a:").table.phone.tolist() == ["a:", "ɑ"]
    with pytest.raises(InputError, match="no segment labelled e; its labels are .*E 1"):
        load_corpus("textgrid", own_folder, phones="e")
    some = load_corpus("textgrid", own_folder, phones="ɑ,e")
    assert len(some) == 1 and some.problems[-1:] == ["no segment is labelled 'e'"]


def test_several_corpora_are_joined(timit_folder, libri_folder):
    both = load_corpus("timit-sample+librispeech", f"{timit_folder}{os.pathsep}{libri_folder}")
    assert both.table.groupby("corpus").size().to_dict() == {"librispeech": 16, "timit-sample": 32}
    alone = load_corpus("librispeech", libri_folder)
    assert np.array_equal(both.filter(corpus="librispeech").clip(3), alone.clip(3))
    for wrong in ("klatt+klatt", "auto+klatt"):
        with pytest.raises(InputError, match="cannot be joined"):
            load_corpus(wrong, timit_folder)
    assert len(load_corpus("timit-sample+librispeech", [timit_folder, libri_folder])) == 48
    with pytest.raises(InputError, match="2 corpora, but 1 folders; give one each"):
        load_corpus("timit-sample+librispeech", timit_folder)


def test_splits_do_not_depend_on_the_vowels_asked_for(timit_folder):
    only = timit_folder / "dr1-fab00"
    for name in ("sa1", "si100"):
        (only / f"{name}.phn").write_text("0 2000 h#\n2000 4000 eh\n4000 16000 h#\n")
    five, all_ = (load_corpus("timit-sample", timit_folder, phones).table for phones in ("five", "all"))
    assert all_.speaker.nunique() == five.speaker.nunique() + 1
    split = all_.groupby("speaker").split.first()
    assert five.groupby("speaker").split.first().equals(split[split.index != "fab00"])


# ---- the cache


def test_the_cache_is_used_until_a_file_changes(timit_folder, monkeypatch):
    first = load_corpus("timit-sample", timit_folder)
    with monkeypatch.context() as patch:
        patch.setattr(readers, "_rows", lambda *_: pytest.fail("the cache was not used"))
        again = load_corpus("timit-sample", timit_folder)
    assert again.table.equals(first.table) and np.array_equal(again.clip(5), first.clip(5))
    (timit_folder / "dr1-fab00" / "si100.phn").write_text("0 2000 h#\n2000 4400 aa\n4400 16000 h#\n")
    changed = load_corpus("timit-sample", timit_folder)
    assert len(changed) == 31 and changed.fingerprint != first.fingerprint


def test_a_build_that_dies_leaves_nothing_to_be_taken_for_good(timit_folder, monkeypatch, cache):
    before = set((cache / "clips").glob("*.zip")) if (cache / "clips").exists() else set()
    real, calls = readers.cut, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(readers, "cut", dies)
        with pytest.raises(KeyboardInterrupt):
            load_corpus("timit-sample", timit_folder)
    assert set((cache / "clips").iterdir()) == before
    assert len(load_corpus("timit-sample", timit_folder)) == 32


# ---- what is wrong with one utterance: it is named, counted and skipped, and the rest is used


def phn(text):
    return lambda folder: (folder / "si100.phn").write_text(text)


def raw_phn(content):
    return lambda folder: (folder / "si100.phn").write_bytes(content)


def sound(samples, rate=RATE, **options):
    return lambda folder: soundfile.write(folder / "si100.wav", samples, rate, format="WAV", **options)


def raw_sound(change):
    return lambda folder: (folder / "si100.wav").write_bytes(change((folder / "si100.wav").read_bytes()))


def flac_cut_short(folder):
    soundfile.write(folder / "x.flac", 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    (folder / "si100.wav").write_bytes((folder / "x.flac").read_bytes()[:9000])
    (folder / "x.flac").unlink()


def folder_for_sound(folder):
    (folder / "si100.wav").unlink()
    (folder / "si100.wav").mkdir()


ONE_BAD = {
    "a folder for a sound": (folder_for_sound, "needs one sound of its name, but there are: none"),
    "8 kHz": (sound(np.zeros(8000), 8000), "8000 Hz"),
    "44.1 kHz, labels count samples": (sound(np.zeros(44_100), 44_100), "44100 Hz"),
    "stereo": (sound(np.zeros((RATE, 2))), "2 channels"),
    "no sound in the file": (raw_sound(lambda content: b"not a sound"), "not a usable sound"),
    "header alone": (raw_sound(lambda content: content[:44]), "0 s; a recording needs"),
    "half a header": (raw_sound(lambda content: content[:20]), "not a usable sound"),
    "sound cut in half": (raw_sound(lambda content: content[: len(content) // 2]), "they are no pair"),
    "flac cut in the middle": (flac_cut_short, "si100.wav: "),
    "samples that are not numbers": (sound(np.full(RATE, np.nan), subtype="FLOAT"), "not finite or enormous"),
    "enormous samples": (sound(np.full(RATE, 1e21), subtype="FLOAT"), "not finite or enormous"),
    "words for times": (phn("0 2000 h#\ntwo three aa\n"), "line 2: 'two three aa' is not 'start end label'"),
    "fractions for times": (phn("0.0 0.5 aa\n"), "line 1"),
    "a label missing": (phn("0 2000\n"), "line 1: '0 2000' is not"),
    "backwards": (phn("4000 2000 aa\n"), "'4000 2000 aa' is not 'start end label'"),
    "beyond the end": (phn("0 99000 aa\n"), "labels end at 6.19 s, the sound at 1.00 s"),
    "enormous times": (phn("0 99999999999999999999999 aa\n"), "line 1"),
    "zeros in the labels": (raw_phn(b"0 2000 h#\0\n"), "not a text; save it in UTF-8"),
    "UTF-16 without its mark": (raw_phn("0 2000 h#\n".encode("utf-16-le")), "not a text"),
    "random bytes": (raw_phn(np.random.default_rng(0).bytes(500)), "si100.phn"),
}


@pytest.mark.parametrize("damage, said", ONE_BAD.values(), ids=ONE_BAD.keys())
def test_one_bad_utterance_is_named_and_the_rest_is_used(timit_folder, damage, said):
    damage(timit_folder / "dr1-fab00")
    corpus = load_corpus("timit-sample", timit_folder)
    assert len(corpus) == 30 and len(faults(corpus)) == 1
    assert count(corpus, "utterances that could not be used") == 1
    assert (
        said in faults(corpus)[0] and "si100" in faults(corpus)[0] and faults(corpus)[0].endswith("skipped")
    )
    assert str(timit_folder) not in faults(corpus)[0]


def test_of_two_copies_of_an_utterance_the_first_good_one_is_used(timit_folder):
    shutil.copytree(timit_folder / "dr1-fab00", timit_folder / "more" / "dr1-fab00")
    raw_sound(lambda content: b"")(timit_folder / "dr1-fab00")
    corpus = load_corpus("timit-sample", timit_folder)
    assert len(corpus) == 32 and len(faults(corpus)) == 2
    assert faults(corpus)[0].startswith("dr1-fab00/si100.wav: not a usable sound")
    assert (
        faults(corpus)[1]
        == "more/dr1-fab00/sa1.phn: the same utterance as dr1-fab00/sa1.phn, which is used; skipped"
    )


STILL_GOOD = {
    "byte-order mark and Windows line ends": lambda old: b"\xef\xbb\xbf" + old.replace(b"\n", b"\r\n"),
    "old Mac line ends": lambda old: old.replace(b"\n", b"\r"),
    "UTF-16 with its mark": lambda old: old.decode().encode("utf-16"),
    "tabs and blank lines": lambda old: b"\n\n" + old.replace(b" ", b"\t") + b"\n",
    "no line end at the end": lambda old: old.rstrip(),
    "lines in another order": lambda old: b"\n".join(reversed(old.split(b"\n"))),
    "Latin-1 in a word": lambda old: old,
}


@pytest.mark.parametrize("change", STILL_GOOD.values(), ids=STILL_GOOD.keys())
def test_odd_but_readable_labels_lose_nothing(timit_folder, change):
    label = timit_folder / "dr1-fab00" / "si100.phn"
    label.write_bytes(change(label.read_bytes()))
    label.with_suffix(".wrd").write_bytes("1500 16000 café\n".encode("latin-1"))
    corpus = load_corpus("timit-sample", timit_folder)
    assert len(corpus) == 32 and faults(corpus) == [] and "café" in set(corpus.table.word)


SEGMENTS = {
    "overlapping": ("0 2000 h#\n2000 4000 aa\n3500 5600 iy\n5600 16000 h#\n", "overlaps another label", 2),
    "one within another": (
        "0 15000 h#\n2000 4000 aa\n5000 6000 s\n6500 8000 iy\n",
        "overlaps another label",
        2,
    ),
    "no length": ("0 2000 h#\n2000 2000 aa\n2000 2010 iy\n2010 16000 h#\n", "shorter than 1 ms", 2),
    "no known phone": (
        "0 2000 h#\n2000 4000 axx\n4000 16000 h#\n",
        "labels that are no phone of this corpus",
        1,
    ),
    "a little past the end": ("0 14000 h#\n14000 16500 aa\n", "runs past the end of the sound", 1),
}


@pytest.mark.parametrize("text, reason, left", SEGMENTS.values(), ids=SEGMENTS.keys())
def test_segments_that_cannot_be_used_are_counted(timit_folder, text, reason, left):
    phn(text)(timit_folder / "dr1-fab00")
    corpus = load_corpus("timit-sample", timit_folder)
    assert count(corpus, reason) == left and len(corpus) == 30 and faults(corpus) == []
    assert f"{reason}" in corpus.summary()


def test_a_second_just_fits_and_zeros_are_no_vowel(timit_folder):
    folder = timit_folder / "dr1-fab00"
    write_utterance(folder, "si100", np.zeros(RATE), [(0, 3000, "aa"), (3000, 16000, "h#")])
    sound = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)
    write_utterance(folder.parent / "dr2-mab10", "si100", sound, [(0, 16000, "aa"), (16000, 32001, "iy")])
    corpus = load_corpus("timit-sample", timit_folder)
    assert (
        len(corpus) == 29 and count(corpus, "nothing but zeros") == count(corpus, "longer than 1000 ms") == 1
    )
    assert (corpus.table.end - corpus.table.start).max() == RATE


GRIDS = {
    "no TextGrid": ("just words\n", "not a usable TextGrid"),
    "empty": ("", "not a usable TextGrid"),
    "no phones": (text_grid({"words": WORDS, "tones": PHONES}, 1.0), "0 of its tiers (words, tones) could be the phones"),
    "two speakers in one": (text_grid({"a - phones": PHONES, "b - phones": PHONES}, 1.0), "2 of its tiers (a - phones, b - phones) could be the phones; name one of them phones"),
    "cut in the middle": (text_grid({"phones": PHONES}, 1.0)[:600], "11-7-0000.TextGrid: "),
    "short form cut": (text_grid({"phones": PHONES}, 1.0, short=True)[:150], "has a gap or overlap at"),
    "times that go back": (text_grid({"phones": [(0, 0.5, "AA"), (0.5, 0.4, "S"), (0.4, 1, "")]}, 1.0), "has a gap or overlap at"),
    "intervals that overlap": (text_grid({"phones": [(0, 0.5, "AA"), (0.3, 1, "S")]}, 1.0), "has a gap or overlap at"),
    "a gap": (text_grid({"phones": [(0, 0.5, "AA"), (0.7, 1, "S")]}, 1.0), "has a gap or overlap at"),
    "words for times": (text_grid({"phones": [("soon", 0.5, "AA"), (0.5, 1, "S")]}, 1.0), "not a usable TextGrid"),
    "of a longer recording": (text_grid({"phones": [(0, 0.5, "AA"), (0.5, 3, "S")]}, 3), "labels end at 3.00 s"),
    "of a shorter recording": (text_grid({"phones": [(0, 0.2, "AA"), (0.2, 0.5, "S")]}, 0.5), "labels end at 0.50 s"),
    "JSON of something else": ('{"tiers": 3}', "not a usable TextGrid"),
}  # fmt: skip


@pytest.mark.parametrize("text, said", GRIDS.values(), ids=GRIDS.keys())
def test_a_bad_textgrid_is_named_and_the_rest_is_used(libri_folder, text, said):
    (libri_folder / "alignments/train-clean-100/11/7/11-7-0000.TextGrid").write_text(text)
    corpus = load_corpus("librispeech", libri_folder)
    assert len(corpus) == 14 and len(faults(corpus)) == 1
    assert said in faults(corpus)[0] and "11-7-0000" in faults(corpus)[0]


def test_librispeech_with_parts_missing(libri_folder):
    speakers = libri_folder / "LibriSpeech" / "SPEAKERS.TXT"
    speakers.write_text(speakers.read_text().replace("12   | M", "13   | M"))
    (libri_folder / "alignments/test-other/21/7/21-7-0000.TextGrid").unlink()
    (libri_folder / "LibriSpeech/test-other/22/7/22-7-0001.flac").unlink()
    corpus = load_corpus("librispeech", libri_folder)
    assert len(corpus) == 8 and set(corpus.table.speaker) == {"11", "21", "22"}
    said = "\n".join(faults(corpus))
    assert said.count("speaker 12 is not in SPEAKERS.TXT with F or M; add a line; skipped") == 2
    assert "21-7-0000.flac: no labels for this recording; skipped" in said
    assert "22-7-0001.TextGrid: needs one sound of its name, but there are: none" in said
    assert len(faults(corpus)) == 4
    speakers.unlink()
    with pytest.raises(InputError, match="no SPEAKERS.TXT in it or below; it comes with LibriSpeech"):
        load_corpus("librispeech", libri_folder)


TABLES = {
    "no table": (None, "needs one speakers.csv with the columns speaker and sex, but has none"),
    "no sex": ("speaker,sex\nann,\n", "line 2: speaker 'ann', sex '', split ''; give each speaker once"),
    "another sex": ("speaker,sex\nann,x\n", "sex 'x'"),
    "no such split": ("speaker,sex,split\nann,f,dev\n", "split 'dev'"),
    "other columns": (
        "name,age\nann,33\n",
        "its first line is 'name,age'; it needs the columns speaker and sex",
    ),
    "twice": ("speaker,sex\nann,f\nann,f\n", "line 3: speaker 'ann'.*give each speaker once"),
    "empty": ("", "its first line is ''; it needs the columns"),
    "a huge field": (f"speaker,sex\n{'a' * 200_000},f\n", "not a table"),
}


@pytest.mark.parametrize("text, said", TABLES.values(), ids=TABLES.keys())
def test_a_bad_table_of_speakers_stops_with_the_line(own_folder, text, said):
    (own_folder / "speakers.csv").unlink() if text is None else (own_folder / "speakers.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        load_corpus("textgrid", own_folder)


def test_two_tables_of_speakers_are_refused(own_folder):
    (own_folder / "ann" / "speakers.csv").write_text("speaker,sex\nann,m\n")
    with pytest.raises(
        InputError, match=r"needs one speakers.csv .*, but has .*speakers.csv and .*speakers.csv"
    ):
        load_corpus("textgrid", own_folder)


def test_sessions_of_a_speaker_keep_their_own_sounds(own_folder):
    for session in ("s1", "s2"):
        shutil.copytree(own_folder / "ann", own_folder / session / "ann")
    (own_folder / "s1" / "ann" / "list1.TextGrid").write_text("broken")
    soundfile.write(own_folder / "s2" / "ann" / "list1.wav", np.full(RATE, 0.25), RATE)
    corpus = load_corpus("textgrid", own_folder)
    assert (
        len(corpus) == 10
        and len(faults(corpus)) == 1
        and faults(corpus)[0].startswith("s1/ann/list1.TextGrid")
    )
    second = corpus.table.index[corpus.table.path == "s2/ann/list1.wav"]
    assert len(second) == 2 and (corpus.sound(second[0]) == 0.25).all()


def test_labels_in_a_tree_of_their_own_find_the_one_sound_of_their_name(own_folder):
    for speaker in ("ann", "bob"):
        (own_folder / "aligned" / speaker).mkdir(parents=True)
        (own_folder / speaker / "list1.TextGrid").rename(own_folder / "aligned" / speaker / "list1.TextGrid")
    assert len(load_corpus("textgrid", own_folder)) == 8
    shutil.copytree(own_folder / "ann", own_folder / "again" / "ann")
    (problem,) = faults(load_corpus("textgrid", own_folder))
    assert "needs one sound of its name, but there are: again/ann/list1.wav, ann/list1.wav" in problem


def test_faulty_words_cost_no_vowel(timit_folder, own_folder):
    (timit_folder / "dr1-fab00" / "si100.wrd").write_text("1500 6000\n")
    corpus = load_corpus("timit-sample", timit_folder)
    assert len(corpus) == 32 and faults(corpus) == [
        "dr1-fab00/si100.wrd, line 1: '1500 6000' is not 'start end label' in whole samples with start <= end;"
        " correct it; its words are not used"
    ]
    grid = text_grid({"phones": PHONES, "words": [(0, 0.5, "one"), (0.7, 1.0, "two")]}, 1.0)
    (own_folder / "ann" / "list1.TextGrid").write_text(grid)
    corpus = load_corpus("textgrid", own_folder)
    assert len(corpus) == 8 and faults(corpus)[0].endswith("its words are not used")


def test_the_converted_copies_of_some_timits_are_found(timit_folder):
    folder = timit_folder / "dr1-fab00"
    (folder / "si100.wav").rename(folder / "si100.wav.wav")
    shutil.copy(folder / "sa1.wav", folder / "sa1.wav.wav")
    corpus = load_corpus("timit-sample", timit_folder)
    assert len(corpus) == 32 and faults(corpus) == []


def test_a_folder_that_is_no_speaker_is_named(own_folder):
    (own_folder / "dan").rename(own_folder / "daniel")
    corpus = load_corpus("textgrid", own_folder)
    assert len(corpus) == 6
    assert "in no folder named after a speaker (ann, bob, cleo, dan)" in faults(corpus)[0]


def test_names_that_differ_in_case_or_in_how_accents_are_spelt_are_the_same(own_folder):
    (own_folder / "ann").rename(own_folder / "A\u0308nne")  # as some systems write it
    (own_folder / "bob" / "list1.wav").rename(own_folder / "bob" / "List1.WAV")
    (own_folder / "speakers.csv").write_text(
        "speaker,sex\n\u00c4nne,f\nBOB,m\ncleo,f\ndan,m\n", encoding="utf-8"
    )
    corpus = load_corpus("textgrid", own_folder)
    assert len(corpus) == 8 and set(corpus.table.speaker) == {"\u00c4nne", "BOB", "cleo", "dan"}


def test_sounds_and_labels_may_lie_in_folders_of_a_speaker(own_folder):
    for speaker in ("ann", "bob"):
        (own_folder / speaker / "wav").mkdir()
        (own_folder / speaker / "list1.wav").rename(own_folder / speaker / "wav" / "list1.wav")
    corpus = load_corpus("textgrid", own_folder)
    assert len(corpus) == 8 and faults(corpus) == []


def test_too_few_speakers_to_evaluate_on_are_told(own_folder):
    for speaker in ("bob", "cleo", "dan"):
        shutil.rmtree(own_folder / speaker)
    assert sorted(problem[:31] for problem in load_corpus("textgrid", own_folder).problems) == [
        "no segment is labelled 'ae'", "no segment is labelled 'ow'", "no segment is labelled 'uh'",
        "no speaker is left for test: it", "no speaker is left for valid: i",
    ]  # fmt: skip


def test_a_subset_without_test_speakers_is_split_like_any_other_corpus(libri_folder):
    shutil.rmtree(libri_folder / "LibriSpeech" / "test-other")
    shutil.rmtree(libri_folder / "alignments" / "test-other")
    moved = libri_folder.parent / "test-clean-and-more"
    libri_folder.rename(moved)
    table = load_corpus("librispeech", moved).table
    assert table.groupby("speaker").split.first().to_dict() == {
        "11": "train",
        "12": "train",
    }  # too few to cut any off


def test_a_speaker_in_two_parts_is_for_training(libri_folder):
    for kind, ending in (("LibriSpeech", "flac"), ("alignments", "TextGrid")):
        old = libri_folder / kind / f"test-other/21/7/21-7-0000.{ending}"
        new = libri_folder / kind / f"train-clean-100/21/7/21-7-0000.{ending}"
        new.parent.mkdir(parents=True)
        old.rename(new)
    corpus = load_corpus("librispeech", libri_folder)
    assert corpus.table[corpus.table.speaker == "21"].split.unique() == ["train"]
    assert "speaker 21 has several parts" in faults(corpus)[0]


# ---- folders


def test_folders_that_are_no_use(tmp_path, timit_folder):
    with pytest.raises(InputError, match="nowhere: no such folder; give the folder of the corpus"):
        load_corpus("timit-sample", tmp_path / "nowhere")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(InputError, match="no .phn file in it or below"):
        load_corpus("timit-sample", tmp_path / "hollow")
    with pytest.raises(InputError, match="no segment labelled oy; its labels are h# 32, aa 16, s 16, iy 16"):
        load_corpus("timit-sample", timit_folder, phones=("oy",))
    shutil.move(timit_folder / "dr1-fab00", tmp_path / "alone" / "whoever")
    with pytest.raises(InputError, match="its labels are none; 2 problems:\n.*named <sex><initials>"):
        load_corpus("timit", tmp_path / "alone")


def test_links_are_followed_and_loops_are_not(timit_folder, tmp_path):
    outside = tmp_path / "elsewhere"
    shutil.move(timit_folder / "dr1-fab00", outside)
    (timit_folder / "dr1-fab00").symlink_to(outside)
    (timit_folder / "dr2-mab10" / "round").symlink_to(timit_folder)
    (timit_folder / "a-link").symlink_to(timit_folder / "dr2-mab10")  # sorts before what it leads to
    (timit_folder / "dr3-fab20" / "si999.phn").symlink_to(tmp_path / "gone")
    (timit_folder / "dr4-mab30" / "._si100.phn").write_bytes(b"\0\5\26\7")
    os.mkfifo(timit_folder / "dr5-fab40" / "si999.wav")
    corpus = load_corpus("timit-sample", timit_folder)
    assert len(corpus) == 32
    assert faults(corpus) == [
        "dr3-fab20/si999.phn: no file that can be opened; skipped",
        "dr5-fab40/si999.wav: no file that can be opened; skipped",
    ]


def closed(function, place):
    """The function, as it behaves when a place may not be read; root may read everything, so it is simulated."""

    def refusing(path):
        if Path(path) == place:
            raise PermissionError(13, "Permission denied", str(path))
        return function(path)

    return refusing


def test_a_folder_that_cannot_be_listed_is_told(timit_folder, monkeypatch):
    monkeypatch.setattr(os, "scandir", closed(os.scandir, timit_folder / "dr1-fab00"))
    corpus = load_corpus("timit-sample", timit_folder)
    assert len(corpus) == 28 and faults(corpus) == [
        "dr1-fab00: cannot be opened (Permission denied); skipped"
    ]


def test_a_huge_folder_without_labels_is_left_early(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MOST_FILES", 50)
    for index in range(60):
        (tmp_path / f"{index}.jpg").touch()
    with pytest.raises(InputError, match="more than 50 files, none with labels; give another folder"):
        load_corpus("timit", tmp_path)


def test_labels_of_many_megabytes_are_not_read(timit_folder, monkeypatch):
    monkeypatch.setattr("vowelflow.layouts.LARGEST_TEXT", 1000)
    (timit_folder / "dr1-fab00" / "si100.phn").write_text("0 1 aa\n" * 1000)
    (problem,) = faults(load_corpus("timit-sample", timit_folder))
    assert "MB of labels; give the right file" in problem


def test_a_name_that_cannot_be_shown_is_told_and_costs_nothing_else(timit_folder):
    shutil.copy(
        timit_folder / "dr1-fab00" / "sa1.wav", os.fsencode(timit_folder / "dr1-fab00") + b"/caf\xe9.wav"
    )
    corpus = load_corpus("timit-sample", timit_folder)
    assert len(corpus) == 32 and "caf\\udce9.wav': its name cannot be printed" in faults(corpus)[0]
    corpus.summary().encode()


def test_labels_that_cannot_be_read_are_reported_and_read_once_they_can(timit_folder, monkeypatch):
    label = timit_folder / "dr1-fab00" / "si100.phn"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", closed(Path.read_bytes, label))
        (problem,) = faults(load_corpus("timit-sample", timit_folder))
    assert problem == "dr1-fab00/si100.phn: cannot be read (Permission denied); make it readable; skipped"
    label.chmod(0o600)
    assert len(load_corpus("timit-sample", timit_folder)) == 32


def test_the_sample_and_the_whole_of_timit_are_not_joined(timit_folder):
    whole = timit_folder.parent / "whole"
    for folder in timit_folder.iterdir():
        shutil.copytree(folder, whole / "TRAIN" / folder.name[4:])
    with pytest.raises(InputError, match="timit-sample and timit hold the same recordings; take one of them"):
        load_corpus("timit-sample+timit", [timit_folder, whole])


# ---- names


def test_names(monkeypatch, timit_folder):
    monkeypatch.delenv("TIMIT_ROOT", raising=False)
    with pytest.raises(
        InputError, match="no corpus 'timmy'; there are auto, timit, timit-sample, librispeech, textgrid"
    ):
        load_corpus("timmy")
    with pytest.raises(InputError, match="timit needs the folder of its recordings.*TIMIT_ROOT"):
        load_corpus("timit")
    with pytest.raises(InputError, match="klatt is generated and takes no folder"):
        load_corpus("klatt", timit_folder)
    for phones in ("", [], ["aa", ""]):
        with pytest.raises(InputError, match="names no label; give five, all"):
            load_corpus("timit-sample", timit_folder, phones)


def test_auto_says_what_it_took_and_why(
    monkeypatch, timit_folder, libri_folder, own_folder, tmp_path_factory
):
    for name in ("TIMIT_ROOT", "TIMIT_SAMPLE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    given = load_corpus("auto", timit_folder)
    assert given.name == "timit-sample" and "root was given" in given.note
    assert load_corpus("auto", libri_folder).name == "librispeech"
    assert load_corpus("auto", own_folder).name == "textgrid"
    sample = load_corpus("timit-sample", timit_folder)
    monkeypatch.setattr("vowelflow.readers.klatt_corpus", lambda: sample)
    assert "neither TIMIT nor its sample" in load_corpus("auto").note
    monkeypatch.setenv("TIMIT_ROOT", str(timit_folder))
    with pytest.raises(
        InputError, match="holds timit-sample, not timit, and its licence is another; use timit-sample"
    ):
        load_corpus("auto")
    (timit_folder / "TRAIN").mkdir()
    for folder in timit_folder.glob("dr*"):
        folder.rename(timit_folder / "TRAIN" / folder.name[4:])
    found = load_corpus("auto")
    assert found.name == "timit" and "found on this machine" in found.note
    monkeypatch.setenv("TIMIT_ROOT", str(timit_folder / "gone"))
    with pytest.raises(
        InputError, match="TIMIT_ROOT names .*gone, which is not there; correct it or unset it"
    ):
        load_corpus("auto")
    with pytest.raises(InputError, match="holds none of timit, timit-sample, librispeech, textgrid"):
        load_corpus("auto", tmp_path_factory.mktemp("empty"))


# ---- real speech, where it is at hand


def labelled(corpus, sex):
    """Wanted labels of a sex: those kept, and those that were too long to keep."""
    kept = corpus.table[corpus.table.sex == sex].groupby("phone").size()
    long = corpus.left_out[(corpus.left_out.reason == "longer than 1000 ms") & (corpus.left_out.sex == sex)]
    return kept.add(long.groupby("phone")["count"].sum(), fill_value=0).astype(int).to_dict()


@pytest.mark.skipif(
    "TIMIT_SAMPLE" not in os.environ, reason="TIMIT_SAMPLE does not name the folder of the sample"
)
def test_the_real_sample_has_its_known_counts():
    corpus = load_corpus("timit-sample", os.environ["TIMIT_SAMPLE"])
    assert labelled(corpus, "f") == {"aa": 52, "ae": 70, "iy": 125, "ow": 37, "uh": 10}
    assert labelled(corpus, "m") == {"aa": 51, "ae": 78, "iy": 134, "ow": 50, "uh": 4}
    assert len(corpus) == 611 and corpus.table.speaker.nunique() == 16 and faults(corpus) == []
    assert ((corpus.table.end - corpus.table.start) <= 288 * 16).all() and corpus.table.shared.sum() == 188
    trips = [measures.round_trip(corpus, row) for row in range(len(corpus))]
    assert max(trip["float"] for trip in trips) < -60 and max(trip["eight_bit"] for trip in trips) < -45


@pytest.mark.skipif(
    "LIBRISPEECH_EXCERPT" not in os.environ, reason="LIBRISPEECH_EXCERPT does not name its folder"
)
def test_the_real_excerpt_has_its_known_counts():
    corpus = load_corpus("librispeech", os.environ["LIBRISPEECH_EXCERPT"])
    women, men = labelled(corpus, "f"), labelled(corpus, "m")
    assert {phone: women[phone] + men[phone] for phone in women} == {
        "aa": 525, "ae": 1044, "iy": 1341, "ow": 441, "uh": 137
    }  # fmt: skip
    speakers = corpus.table.drop_duplicates("speaker")
    assert faults(corpus) == [] and len(speakers) == 261 and (speakers.split == "test").sum() == 10
    seen = usable(corpus, "vowel")
    trips = [measures.round_trip(seen, row) for row in range(0, len(seen), 8)]
    assert max(trip["float"] for trip in trips) < -60 and max(trip["eight_bit"] for trip in trips) < -45
