from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vowelflow.base import InputError, save_atomically
from vowelflow.corpus import COLUMNS, LEFT_OUT, join, split_by_speaker


def test_filter_take_and_draw(klatt):
    assert set(klatt.filter(phone="aa").table.phone) == {"aa"}
    assert set(klatt.filter(phone=["aa", "uh"], sex="f").table.sex) == {"f"}
    drawn = klatt.draw(1, by=("phone", "sex"), seed=3)
    assert len(drawn) == 10 and not drawn.table.duplicated(["phone", "sex"]).any()
    assert drawn.table.path.tolist() == klatt.draw(1, by=("phone", "sex"), seed=3).table.path.tolist()
    with pytest.raises(InputError, match="no column 'vowel'; there are corpus"):
        klatt.filter(vowel="aa")


@pytest.mark.parametrize(
    "speakers, counts", [(24, (15, 3, 6)), (8, (5, 1, 2)), (4, (2, 1, 1)), (2, (1, 0, 1)), (1, (1, 0, 0))]
)
def test_split_is_by_speaker_and_the_same_for_both_sexes(speakers, counts):
    names = [f"{sex}{k}" for sex in "fm" for k in range(speakers)]
    table = pd.DataFrame({"speaker": names * 2, "sex": [name[0] for name in names] * 2})
    table["split"] = table.speaker.map(split_by_speaker(table))
    assert table.groupby("speaker").split.nunique().eq(1).all()
    for sex in "fm":
        found = table[table.sex == sex].drop_duplicates("speaker").split.value_counts()
        assert tuple(found.get(part, 0) for part in ("train", "valid", "test")) == counts
    assert split_by_speaker(table) == split_by_speaker(table.sample(frac=1, random_state=0))


def test_fingerprint_follows_labels_and_not_where_files_are(klatt):
    moved = klatt.take(range(len(klatt)))
    moved.table["path"] = "elsewhere/" + moved.table.path
    assert moved.fingerprint == klatt.fingerprint
    for column, value in (("end", 9999), ("crc", 7)):
        other = klatt.take(range(len(klatt)))
        other.table.loc[0, column] = value
        assert other.fingerprint != klatt.fingerprint


def test_the_three_splits_hold_everybody_once(klatt):
    parts = klatt.split
    assert list(parts) == ["train", "valid", "test"] and sum(map(len, parts.values())) == len(klatt)
    speakers = [set(part.table.speaker) for part in parts.values()]
    assert all(speakers) and len(set.union(*speakers)) == sum(map(len, speakers))


def test_columns_and_summary(klatt):
    assert list(klatt.table.columns[: len(COLUMNS)]) == list(COLUMNS)
    text = klatt.summary()
    assert "80 segments, 8 speakers" in text and "left out: nothing" in text and "problems: 0" in text
    assert "licence: generated here" in text and klatt.fingerprint in text


def test_joined_corpora_keep_their_origin_and_tell_speakers_apart(klatt):
    other = replace(
        klatt,
        name="twin",
        table=klatt.table.assign(corpus="twin", crc=range(80)),
        sounds={"twin": klatt.sounds["klatt"]},
        left_out=pd.DataFrame([("twin", "too short", "aa", "f", 3)], columns=LEFT_OUT),
    )
    both = join([klatt, other])
    assert len(both) == 160 and both.table.speaker.nunique() == 16 and both.name == "klatt+twin"
    assert both.table.groupby("corpus").size().to_dict() == {"klatt": 80, "twin": 80}
    assert set(both.filter(corpus="twin").table.speaker) == {f"twin:{name}" for name in klatt.table.speaker}
    assert "3  twin: too short (most: aa 3)" in both.summary()
    assert np.array_equal(both.clip(85), klatt.clip(5)) and not both.table.shared.any()
    assert "twin: synthetic" in both.note and both.table.groupby("speaker").split.nunique().eq(1).all()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "kept.txt"
    save_atomically(path, lambda file: file.write_text("old"))

    def fails(file):
        file.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_atomically(path, fails)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_held_out_leaves_out_shared_sentences(klatt):
    marked = klatt.take(range(len(klatt)))
    marked.table["shared"] = np.arange(len(klatt)) % 2 == 0
    assert len(marked.held_out("test")) < len(marked.filter(split="test")) == len(klatt.held_out("test"))
