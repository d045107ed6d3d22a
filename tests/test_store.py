"""A file of clips is complete or refused."""

import zipfile

import numpy as np
import pytest

from vowelflow.base import LEAD, InputError
from vowelflow.readers import load_corpus
from vowelflow.store import cut, read_clips, write_clips

ROW = {"corpus": "one", "utterance": "u", "speaker": "s", "sex": "f", "phone": "aa", "word": "null"}
ROW |= {"start": 0, "end": 9}
ABOUT = {"name": "one", "labels": ["aa"], "split": {"s": "train"}, "left_out": [["one", "why", "aa", "f", 2]]}
ABOUT |= {"facts": {}}


@pytest.fixture
def written(tmp_path):
    clips = [np.array([-32768, -1, 0, 32767], np.int16), np.array([0.5, -3.0, 1e-4]), np.zeros(2)]
    write_clips(
        tmp_path / "some.zip", ((ROW | {"path": f"{k}"}, clip) for k, clip in enumerate(clips)), ABOUT
    )
    return tmp_path / "some.zip", clips


def test_what_was_written_is_read(written):
    path, clips = written
    corpus = read_clips(path)
    assert np.array_equal(corpus.clip(0), clips[0] / np.float32(32768))  # 16-bit sound comes back exactly
    assert np.abs(corpus.clip(1) - clips[1]).max() <= 3 / 32767  # other sound is neither clipped nor lost
    assert (corpus.clip(2) == 0).all() and corpus.clip(2).dtype == np.float32
    assert corpus.table.word.tolist() == ["null"] * 3 and corpus.table.split.tolist() == ["train"] * 3
    assert corpus.table.crc.nunique() == 3 and corpus.left_out.to_dict("list")["count"] == [2]
    assert np.array_equal(corpus.take([2, 0]).clip(1), corpus.clip(0))


@pytest.mark.parametrize("place", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_refused(written, place):
    content = written[0].read_bytes()
    written[0].write_bytes(content[: int(place * len(content))])
    with pytest.raises(InputError, match="some.zip: not a usable file of clips .*; make it again"):
        read_clips(written[0])


def test_no_changed_byte_is_read_as_good(written):
    """Whatever byte is changed, the file is refused or what is read is what was written."""
    path, whole, good = written[0], written[0].read_bytes(), read_clips(written[0])
    expected = [good.clip(k).copy() for k in range(3)]
    refused = 0
    for place in range(len(whole)):
        path.unlink()  # the mapped file stays as it is
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            corpus = read_clips(path)
        except InputError:
            refused += 1
            continue
        assert corpus.table.equals(good.table) and all(
            np.array_equal(corpus.clip(k), expected[k]) for k in range(3)
        )
    assert refused > 0.8 * len(whole)


@pytest.mark.parametrize("drop", ["sound.i16", "manifest.json"])
def test_a_missing_part_is_noticed(written, drop, tmp_path):
    with zipfile.ZipFile(written[0]) as old, zipfile.ZipFile(tmp_path / "less.zip", "w") as new:
        for name in old.namelist():
            if name != drop:
                new.writestr(name, old.read(name))
    with pytest.raises(InputError, match="not a usable file of clips"):
        read_clips(tmp_path / "less.zip")


def test_a_file_of_another_layout_is_refused(written, monkeypatch):
    monkeypatch.setattr("vowelflow.store.LAYOUT", [16_000, 512, 16, 256])
    with pytest.raises(InputError, match="it is of another version"):
        read_clips(written[0])


def test_a_packed_copy_is_refused_since_it_cannot_be_mapped(written, tmp_path):
    with (
        zipfile.ZipFile(written[0]) as old,
        zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(InputError, match="not a usable file of clips"):
        read_clips(tmp_path / "packed.zip")


def test_a_saved_file_is_a_corpus_elsewhere(timit_folder, tmp_path):
    corpus = load_corpus("timit-sample", timit_folder)
    copy = tmp_path / "carried"
    copy.write_bytes(corpus.sounds["timit-sample"].path.read_bytes())
    carried = load_corpus("timit-sample", copy)
    assert carried.fingerprint == corpus.fingerprint and np.array_equal(carried.clip(3), corpus.clip(3))
    assert load_corpus("auto", copy).name == "timit-sample"
    assert set(load_corpus("timit-sample", copy, "iy").table.phone) == {"iy"}
    assert carried.left_out.equals(corpus.left_out)
    only = load_corpus("timit-sample", copy, "iy")
    assert (only.left_out[only.left_out.phone == "aa"].reason == "other phones and silences").all()
    with pytest.raises(InputError, match="holds timit-sample, not timit"):
        load_corpus("timit", copy)
    with pytest.raises(InputError, match="was saved without eh; save it again"):
        load_corpus("timit-sample", copy, "aa,eh")


def test_cut_takes_the_context_and_zeros_only_where_there_is_none():
    sound = np.arange(1, 5001, dtype=np.int16)
    inside = cut(sound, 1000, 1100)
    assert len(inside) == 512 + 16 * 6 and np.array_equal(
        inside, sound[1000 - LEAD : 1000 - LEAD + len(inside)]
    )
    edge = cut(sound, 0, 16)
    assert (edge[:LEAD] == 0).all() and edge[LEAD] == 1 and len(edge) == 512
    end = cut(sound, 4990, 5000)
    assert end[LEAD + 9] == 5000 and (end[LEAD + 10 :] == 0).all()
