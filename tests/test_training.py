from dataclasses import replace

import pytest
import torch

from vowelflow.corpus import InputError
from vowelflow.glow import file_hash, load_model
from vowelflow.spectrogram import frame_count
from vowelflow.training import PROFILES, _batch, _draw, profile_named, reference_model, train

SMOKE = PROFILES["smoke"]


def weights(folder):
    return file_hash(folder / "model.safetensors")


def test_a_resumed_run_equals_one_that_was_never_stopped(klatt, tmp_path):
    train(klatt, tmp_path / "whole", SMOKE, seed=1)
    stops = iter([None] * 4)

    def interrupted(steps, **kwargs):
        from tqdm import tqdm

        class Bar(tqdm):
            def __iter__(self):
                for step in super().__iter__():
                    if next(stops, "stop") == "stop":
                        raise KeyboardInterrupt
                    yield step

        return Bar(steps, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        train(klatt, tmp_path / "cut", SMOKE, seed=1, show=interrupted)
    train(klatt, tmp_path / "cut", SMOKE, seed=1, resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    cut, whole = ((tmp_path / name / "log.csv").read_text().splitlines() for name in ("cut", "whole"))
    assert [row.rsplit(",", 1)[0] for row in cut[-1:]] == [row.rsplit(",", 1)[0] for row in whole[-1:]]
    assert [row.split(",")[0] for row in cut] == [row.split(",")[0] for row in whole]


def test_the_seed_decides(klatt, tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        train(klatt, tmp_path / name, replace(SMOKE, iterations=2), seed=seed)
    assert weights(tmp_path / "one") == weights(tmp_path / "again") != weights(tmp_path / "two")


def test_training_lowers_bits_on_speakers_it_did_not_see(klatt, tmp_path):
    from vowelflow.spectrogram import images

    test = images(klatt.filter(split="test").take(range(8)))
    short = train(klatt, tmp_path / "short", replace(SMOKE, iterations=1))
    longer = train(klatt, tmp_path / "longer", replace(SMOKE, iterations=60, look=60, warmup=1, average=0.9))
    assert longer.bits_per_dim(test, 1).mean() < short.bits_per_dim(test, 1).mean() - 0.2


def test_every_epoch_has_every_picture_once():
    seen = sum((_draw(7, 2, 0, step) for step in range(7)), [])
    assert sorted(seen[:7]) == sorted(seen[7:]) == list(range(7)) and seen[:7] != seen[7:]


def test_minutes_stop_in_time_with_everything_saved(klatt, tmp_path):
    train(klatt, tmp_path, SMOKE, minutes=0)
    assert (tmp_path / "log.csv").read_text().splitlines()[-1].startswith("1,")
    assert load_model(tmp_path).initialised and (tmp_path / "checkpoint.safetensors").is_file()
    train(klatt, tmp_path, SMOKE, resume=True)
    assert (tmp_path / "log.csv").read_text().splitlines()[-1].startswith(f"{SMOKE.iterations},")
    train(klatt, tmp_path, SMOKE, resume=True)  # nothing is left to do
    assert f'"steps": {SMOKE.iterations},' in (tmp_path / "config.json").read_text()


def test_what_cannot_be_resumed(klatt, tmp_path):
    with pytest.raises(InputError, match="is not there; start without resume"):
        train(klatt, tmp_path, SMOKE, resume=True)
    train(klatt, tmp_path, replace(SMOKE, iterations=1))
    with pytest.raises(InputError, match="of another corpus, profile or seed"):
        train(klatt, tmp_path, SMOKE, resume=True)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half a file")
    with pytest.raises(InputError, match="cannot be read"):
        train(klatt, tmp_path, replace(SMOKE, iterations=1), resume=True)


def test_no_train_speakers_and_no_such_profile(klatt, tmp_path):
    with pytest.raises(InputError, match="no train speakers"):
        train(klatt.filter(split="test"), tmp_path, SMOKE)
    with pytest.raises(InputError, match="no profile 'huge'; there are cpu, smoke, paper"):
        profile_named("huge")


def test_reference_weights_must_be_of_this_very_corpus(klatt, tmp_path, monkeypatch):
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path))
    _, trained = reference_model(klatt, "smoke")
    assert trained == tmp_path / "models" / "smoke-klatt"
    before = weights(trained)
    assert reference_model(klatt, "smoke")[1] == trained and weights(trained) == before
    part = klatt.filter(phone=["aa", "ae"])
    reference_model(part, "smoke")
    assert weights(trained) != before


def test_augmentation_changes_what_is_seen_and_a_run_can_still_be_resumed(klatt, tmp_path):
    plain, varied = SMOKE, replace(SMOKE, gain_db=6.0, shift=40)
    speech = klatt.filter(split="train")
    one, other = (_batch(speech, profile, 0, 5) for profile in (plain, varied))
    assert one.shape == other.shape and ((one >= 0) & (one < 1) & (other >= 0) & (other < 1)).all()
    assert not torch.equal(one, other) and torch.equal(other, _batch(speech, varied, 0, 5))
    anywhere = _batch(speech, replace(plain, shift=288), 0, 5)
    columns = [(picture[0, :257] > 1 / 256).any(0).nonzero().flatten() for picture in anywhere]
    assert max(int(seen[0]) for seen in columns) > 0
    for row, seen in zip(_draw(len(speech), plain.batch, 0, 5), columns, strict=True):
        assert len(seen) == frame_count(speech)[row]  # moved as a whole, and nothing cut off at the end
    train(klatt, tmp_path / "whole", varied)
    train(klatt, tmp_path / "cut", varied, minutes=0)
    train(klatt, tmp_path / "cut", varied, resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    with pytest.raises(InputError, match="another corpus, profile or seed"):
        train(klatt, tmp_path / "cut", plain, resume=True)


def test_the_paper_profile_has_no_augmentation():
    assert PROFILES["paper"].gain_db == PROFILES["paper"].shift == 0
