import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import pandas as pd
import pytest
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, safe_open

from vowelflow import checkpoint, devices, training
from vowelflow.augmentation import rows_of_step, training_batch
from vowelflow.base import InputError, TrainingError
from vowelflow.checkpoint import file_hash, glow_config, load_model
from vowelflow.glow import Glow
from vowelflow.profiles import PROFILES, Profile, profile_named
from vowelflow.spectrogram import frame_count, images, usable
from vowelflow.training import MAX_CHECKPOINTS, PATIENCE, checkpoints, train

SMOKE, PADDED = PROFILES["smoke"], PROFILES["smoke-padded"]
LONG = replace(SMOKE, iterations=60, eval_interval=4)  # for what is interrupted


def weights(folder):
    return file_hash(folder / "model.safetensors")


def state(folder):
    """All that the newest checkpoint holds, but the time it took."""
    path = checkpoints(folder)[-1]
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["run"])
    return load_file(path), {name: value for name, value in told.items() if name != "seconds"}


def log(folder):
    """The rows of a log, but how fast it went."""
    return [row.split(",")[:4] for row in (folder / "log.csv").read_text().splitlines()]


def same(one, other):
    (tensors, told), (others, also_told) = state(one), state(other)
    assert told == also_told and tensors.keys() == others.keys()
    assert all(torch.equal(value, others[name]) for name, value in tensors.items())
    assert weights(one) == weights(other) and log(one) == log(other)


def keep_training(folder, ready):
    """A process of its own that trains, or goes on, until it is done or killed."""
    from vowelflow.klatt import klatt_corpus

    speech = klatt_corpus(speakers=8, tokens=2)
    torch.set_num_threads(
        1
    )  # sums of two threads round otherwise, and a run chooses their number by what is faster
    ready.set()
    train(speech, folder, LONG, seed=1, resume=True)


@pytest.fixture(scope="module")
def never_stopped(processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    ready = processes.Event()
    process = processes.Process(target=keep_training, args=(folder, ready))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    return folder


@pytest.mark.long
def test_twenty_kills_at_random_moments_change_nothing(processes, never_stopped, tmp_path):
    kills, runs, chance = 0, 0, random.Random(0)
    while kills < 20:
        runs += 1
        folder, exitcode = tmp_path / str(runs), None
        while exitcode != 0:
            ready = processes.Event()
            process = processes.Process(target=keep_training, args=(folder, ready))
            process.start()
            assert ready.wait(60)
            process.join(chance.uniform(0.05, 1.2))
            process.kill()
            process.join()
            exitcode = process.exitcode
            kills += exitcode == -signal.SIGKILL
            assert exitcode in (0, -signal.SIGKILL)
        same(folder, never_stopped)
        assert not list(folder.glob(".checkpoint-*"))  # what a kill left half written


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_who_is_asked_to_stop_saves_first(asked, processes, never_stopped, tmp_path):
    ready = processes.Event()
    process = processes.Process(target=keep_training, args=(tmp_path, ready))
    process.start()
    while not (tmp_path / "log.csv").is_file() or len(log(tmp_path)) < 2:
        time.sleep(0.01)
    os.kill(process.pid, asked)
    process.join(60)
    assert process.exitcode == 1 and not (tmp_path / "model.safetensors").exists()
    stopped = state(tmp_path)[1]["step"]
    assert 0 < stopped < LONG.iterations and len(checkpoints(tmp_path)) <= MAX_CHECKPOINTS
    last = processes.Process(target=keep_training, args=(tmp_path, ready))
    last.start()
    last.join(60)
    same(tmp_path, never_stopped)


def test_the_seed_decides(klatt, tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        train(klatt, tmp_path / name, replace(SMOKE, iterations=2), seed=seed)
    assert weights(tmp_path / "one") == weights(tmp_path / "again") != weights(tmp_path / "two")


def test_training_lowers_bits_on_speakers_it_did_not_see(klatt, tmp_path):
    test = images(klatt.filter(split="test").take(range(8)))
    short = train(klatt, tmp_path / "short", replace(SMOKE, iterations=1))
    longer = train(
        klatt, tmp_path / "longer", replace(SMOKE, iterations=60, eval_interval=60, warmup=1, average=0.9)
    )
    assert longer.bits_per_dim(test, 1).mean() < short.bits_per_dim(test, 1).mean() - 0.2


def test_every_epoch_has_every_picture_once():
    seen = sum((rows_of_step(7, 2, 0, step) for step in range(7)), [])
    assert sorted(seen[:7]) == sorted(seen[7:]) == list(range(7)) and seen[:7] != seen[7:]


def test_minutes_stop_in_time_with_everything_saved(klatt, tmp_path):
    train(klatt, tmp_path / "slots", SMOKE, minutes=0)
    tensors, told = state(tmp_path / "slots")
    assert told["step"] == 1 and not math.isfinite(told["best_bits"])
    first = load_model(
        tmp_path / "slots"
    ).state_dict()  # the only weights there are so far, and not those of the start
    assert all(torch.allclose(first[name], tensors[f"average/{name}"], atol=1e-3) for name in first)
    assert any(
        not torch.equal(first[name], tensors[f"best/{name}"].half().to(first[name].dtype)) for name in first
    )
    train(klatt, tmp_path / "slots", SMOKE, minutes=0, resume=True)
    assert state(tmp_path / "slots")[1]["step"] == 2
    train(klatt, tmp_path / "slots", SMOKE, resume=True)
    train(klatt, tmp_path / "slots", SMOKE, resume=True)  # nothing is left to do
    assert f'"steps": {SMOKE.iterations},' in (tmp_path / "slots" / "config.json").read_text()
    train(klatt, tmp_path / "one", SMOKE)
    same(tmp_path / "slots", tmp_path / "one")
    began = time.monotonic()
    train(klatt, tmp_path / "late", replace(SMOKE, iterations=10_000, eval_interval=5), minutes=0.1)
    assert time.monotonic() - began < 6 and state(tmp_path / "late")[1]["step"] > 5


def test_a_training_is_neither_overwritten_nor_mixed_with_another(klatt, tmp_path):
    train(klatt, tmp_path, replace(SMOKE, iterations=1))
    with pytest.raises(InputError, match="holds a training already; continue it with --resume"):
        train(klatt, tmp_path, replace(SMOKE, iterations=1))
    with pytest.raises(InputError, match=r"was made with steps 1 \(not 6\); use another folder"):
        train(klatt, tmp_path, SMOKE, resume=True)
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another training runs in"):
        train(klatt, tmp_path, replace(SMOKE, iterations=1), resume=True)
    for path in checkpoints(tmp_path):
        path.unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for resume, text in (
        (True, "without a readable checkpoint; use another folder"),
        (False, "holds a training"),
    ):
        with pytest.raises(InputError, match=text):
            train(klatt, tmp_path, SMOKE, resume=resume)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_checkpoints_are_few_and_a_damaged_one_is_passed_over(klatt, tmp_path):
    profile = replace(SMOKE, eval_interval=1)
    train(klatt, tmp_path / "whole", profile)
    train(klatt, tmp_path / "cut", profile)
    kept = checkpoints(tmp_path / "cut")
    assert [path.name for path in kept] == [f"checkpoint-000000{step}.safetensors" for step in (4, 5, 6)]
    content = kept[-1].read_bytes()
    for damaged in (
        content[: len(content) // 2],
        content[:-9] + bytes(9),
    ):  # the latter has another last number or two
        kept[-1].write_bytes(damaged)
        with open(tmp_path / "cut/log.csv", "ab") as log:
            log.write(b"5,6.5\0\0\xff\n\n")  # as a machine leaves it that lost power
        with pytest.warns(UserWarning, match="checkpoint-0000006.safetensors cannot be read"):
            train(klatt, tmp_path / "cut", profile, resume=True)
        same(tmp_path / "cut", tmp_path / "whole")
    for path in checkpoints(tmp_path / "cut"):
        path.write_bytes(b"half a file")
    with (
        warnings.catch_warnings(),
        pytest.raises(InputError, match="holds a training without a readable checkpoint"),
    ):
        warnings.simplefilter("ignore")
        train(klatt, tmp_path / "cut", profile, resume=True)


def unlucky(monkeypatch, calls):
    """Let the likelihood of these calls be no number."""
    count, likelihood = iter(range(10_000)), Glow.log_likelihood

    def sometimes(self, *args, **kwargs):
        found = likelihood(self, *args, **kwargs)
        return found * math.nan if self.training and next(count) in calls else found

    monkeypatch.setattr(Glow, "log_likelihood", sometimes)


def test_a_step_without_a_finite_gradient_changes_nothing(klatt, tmp_path, monkeypatch, capsys):
    unlucky(monkeypatch, {2, 3})
    train(klatt, tmp_path, replace(SMOKE, eval_interval=1))
    told = capsys.readouterr().err
    assert "step 2: nan bits per dimension" in told and "step 3: nan" in told and told.count("skipped") == 2
    rows = [row.split(",") for row in (tmp_path / "log.csv").read_text().splitlines()[1:]]
    assert [row[1] == "nan" for row in rows] == [False, False, True, True, False, False]
    assert rows[1][2] == rows[2][2] == rows[3][2] != rows[4][2] and rows[-1][3] == "2"
    assert all(torch.isfinite(value).all() for value in state(tmp_path)[0].values())


def test_training_gives_up_with_a_checkpoint_and_a_reason(klatt, tmp_path, monkeypatch):
    unlucky(monkeypatch, set(range(1, 100)))
    with pytest.raises(
        TrainingError,
        match=f"in {PATIENCE} steps in a row, the last of them step {PATIENCE}; .*learning rate below",
    ):
        train(klatt, tmp_path, replace(SMOKE, iterations=50, eval_interval=50))
    tensors, told = state(tmp_path)
    assert told["step"] == PATIENCE + 1 and told["failures"] == PATIENCE and told["bits"]
    with pytest.raises(TrainingError, match=f"in {PATIENCE + 1} steps in a row"):  # and again at once
        train(klatt, tmp_path, replace(SMOKE, iterations=50, eval_interval=50), resume=True)
    assert all(torch.isfinite(value).all() for value in tensors.values())
    assert not (tmp_path / "model.safetensors").exists()


EXACT = replace(SMOKE, batch=4, eval_interval=1)


def curve(folder):
    return [float(row[1]) for row in log(folder)[1:]]


def test_a_batch_in_parts_costs_the_same(klatt, tmp_path):
    train(klatt, tmp_path / "whole", EXACT)
    train(klatt, tmp_path / "parts", replace(EXACT, accumulate=2))
    assert curve(tmp_path / "parts") == pytest.approx(curve(tmp_path / "whole"), abs=2e-5)
    assert curve(tmp_path / "whole")[0] != curve(tmp_path / "whole")[-1]


def test_two_processes_at_half_the_batch_each_cost_the_same(klatt, tmp_path):
    train(klatt, tmp_path / "one", EXACT)
    script = tmp_path / "shared.py"
    script.write_text(
        "from dataclasses import replace\nfrom pathlib import Path\n"
        "from vowelflow.klatt import klatt_corpus\nfrom vowelflow.training import PROFILES, train\n"
        "import torch.distributed\n"
        "profile = replace(PROFILES['smoke'], batch=4, eval_interval=1)\n"
        f"train(klatt_corpus(speakers=8, tokens=2), Path({str(tmp_path / 'two')!r}), profile, devices=2)\n"
        "assert torch.distributed.get_backend() == 'gloo' and torch.distributed.get_world_size() == 2\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), abs=1e-4)
    tensors, others = state(tmp_path / "two")[0], state(tmp_path / "one")[0]
    for name, value in tensors.items():
        other = others[name]
        if name.startswith(
            "adam/"
        ):  # a gradient's sums in another order differ, and six steps make that grow
            assert (value.double() - other.double()).norm() <= 0.01 * other.double().norm() + 1e-3, name
        else:
            assert torch.allclose(value, other, rtol=1e-3, atol=1e-3), name
    assert "2 processes" in json.loads((tmp_path / "two" / "config.json").read_text())["machine"]


def test_a_slot_counts_the_work_that_is_still_to_come(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    clock = training._Clock(1)

    def work(kind, seconds):
        with clock.measure(kind):
            now[0] += seconds

    work("step", 2), work("save", 3), work("step", 1)
    assert clock.allows("step", "step", "save", "evaluation")  # an evaluation: as long as ten steps
    now[0] = 33
    assert clock.allows("step", "step", "save") and not clock.allows("step", "step", "save", "evaluation")
    work("evaluation", 5)
    assert clock.allows("step", "step", "save", "evaluation")
    now[0] = 53.1
    assert clock.allows("step", "save") and not clock.allows("step", "step", "save")


def test_a_full_disk_is_told_and_harms_nothing(klatt, tmp_path, monkeypatch):
    train(klatt, tmp_path, SMOKE, minutes=0)

    def full(*given, **more):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left.*checkpoint-0000001.safetensors"):
        train(klatt, tmp_path, SMOKE, resume=True)
    monkeypatch.undo()
    train(klatt, tmp_path, SMOKE, resume=True)
    train(klatt, tmp_path / "whole", SMOKE)
    same(tmp_path, tmp_path / "whole")


def test_tasks_that_nobody_asked_for_do_not_train_each_for_itself(klatt, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(InputError, match="4 tasks were started, for 1 devices on 1 nodes; start one task"):
        train(klatt, tmp_path, SMOKE)
    assert not list(tmp_path.iterdir())


def test_devices_that_cannot_share_a_batch(klatt, tmp_path):
    for given in ({"devices": 3}, {"devices": 0}, {"devices": 2, "nodes": 2}):
        with pytest.raises(InputError, match="a batch of 2 pictures cannot be shared by"):
            train(klatt, tmp_path, SMOKE, **given)


def test_all_settings_stand_beside_the_weights(klatt, tmp_path):
    profile = replace(SMOKE, noise_db=(0.0, 10.0))
    model = train(klatt, tmp_path, profile, seed=3)
    config = json.loads((tmp_path / "config.json").read_text())
    told = {
        name: tuple(value) if isinstance(value, list) else value for name, value in config["profile"].items()
    }
    assert Profile(glow_config(config), **told) == profile
    assert config["observation"] == "vowel" and config["pictures"] == 12 and config["started_from"] is None
    assert config["fingerprint"] == klatt.fingerprint and config["seed"] == 3
    assert config["versions"]["lightning-fabric"] and config["versions"]["torch"] == torch.__version__
    stored = load_file(tmp_path / "model.safetensors")
    whole = {name: value.dtype for name, value in stored.items() if value.dtype != torch.float16}
    axes = {f"axes.{name}": torch.float32 for name in ("mean", "log_scale", "log_deviation")}
    assert whole == axes | {"initialised": torch.bool} and "axes.vectors" in stored
    loaded = load_model(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_the_weights_are_those_that_cost_validation_speakers_least(klatt, tmp_path, monkeypatch):
    bits = iter([5.0, 3.0, 4.0])
    monkeypatch.setattr(training, "_mean_bits", lambda *given: next(bits))
    train(klatt, tmp_path, replace(SMOKE, eval_interval=2))
    assert state(tmp_path)[1]["best_bits"] == 3.0
    averages = load_file(tmp_path / "checkpoint-0000004.safetensors")
    for name, value in load_file(tmp_path / "model.safetensors").items():
        if not name.startswith("axes."):  # these are fitted to the codes of these weights
            assert torch.equal(value, averages[f"average/{name}"].to(value.dtype)), name


@pytest.mark.parametrize("profile", [SMOKE, PADDED], ids=["vowel", "padded"])
def test_noise_is_seen(klatt, profile):
    speech = klatt.split["train"]
    noisy = replace(profile, batch=64, noise_db=(0.0, 5.0))
    clean, loud = (
        training_batch(speech, replace(noisy, noise_db=None), 0, 3),
        training_batch(speech, noisy, 0, 3),
    )
    changed = [not torch.equal(one, other) for one, other in zip(clean, loud)]
    assert 15 < sum(changed) < 49
    floors = [
        (picture[0, :257] > 1 / 256).float().mean() for picture in (clean[changed][0], loud[changed][0])
    ]
    assert floors[1] > floors[0]


def test_no_train_speakers_and_no_such_profile(klatt, tmp_path):
    with pytest.raises(InputError, match="no train speakers"):
        train(klatt.filter(split="test"), tmp_path, SMOKE)
    with pytest.raises(
        InputError,
        match="no profile 'huge'; there are vowel, vowel-noise, padded, smoke, smoke-padded, paper",
    ):
        profile_named("huge")


def test_augmentation_changes_what_is_seen_and_a_run_can_still_be_resumed(klatt, tmp_path):
    plain, varied = replace(SMOKE, trim=0), replace(SMOKE, noise_db=(0.0, 20.0))
    speech = klatt.filter(split="train")
    one, other = (training_batch(speech, profile, 0, 5) for profile in (plain, varied))
    assert one.shape == other.shape and ((one >= 0) & (one < 1) & (other >= 0) & (other < 1)).all()
    assert not torch.equal(one, other) and torch.equal(other, training_batch(speech, varied, 0, 5))
    train(klatt, tmp_path / "whole", varied)
    train(klatt, tmp_path / "cut", varied, minutes=0)
    train(klatt, tmp_path / "cut", varied, resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    with pytest.raises(InputError, match=r"was made with .*trim 9 \(not 0\)"):
        train(klatt, tmp_path / "cut", plain, resume=True)


def test_segments_end_anywhere_within_a_step_of_an_aligner(klatt):
    speech = klatt.filter(split="train")
    profile, lost = replace(PADDED, batch=64), []
    plain, trimmed = (training_batch(speech, one, 0, 0) for one in (replace(profile, trim=0), profile))
    for row, whole, cut in zip(rows_of_step(len(speech), 64, 0, 0), plain, trimmed, strict=True):
        frames = int((cut[0, :257] > 1 / 256).any(0).nonzero().max()) + 1
        lost.append(frame_count(speech)[row] - frames)
        level = (
            (cut - whole)[..., : frames - 25].abs().max()
        )  # a peak may lie in what was cut off; noise is the same
        assert level < 0.2
    assert set(lost) == set(range(10))  # none to nine ms, and every one of them in 64 draws


def test_pictures_without_padding_are_seen_whole_and_varied(klatt):
    speech = klatt.split["train"]
    plain, rows = replace(SMOKE, trim=0, speed=0, batch=8), rows_of_step(len(speech), 8, 0, 3)
    seen, wanted = training_batch(speech, plain, 0, 3), images(speech.take(rows), observation="vowel")
    assert seen.shape == (8, 1, 256, 96)
    noise = seen - (wanted * 256).floor().clamp(max=255) / 256
    assert ((noise >= 0) & (noise <= 1 / 256)).all() and noise.std() == pytest.approx(
        12**-0.5 / 256, rel=0.01
    )
    varied = replace(plain, trim=9, speed=0.06, noise_db=(0.0, 20.0))
    other = training_batch(speech, varied, 0, 3)
    assert torch.equal(other, training_batch(speech, varied, 0, 3)) and not torch.equal(other, seen)
    assert ((other >= 0) & (other < 1)).all() and other.amax((1, 2, 3)).min() > 255 / 256


def test_a_training_may_start_from_a_model(klatt, tmp_path):
    train(klatt, tmp_path / "first", SMOKE, seed=1)
    before = load_model(tmp_path / "first")
    after = train(klatt, tmp_path / "on", replace(SMOKE, learning_rate=1e-12), start_from=tmp_path / "first")
    assert all(
        torch.allclose(one, other, atol=1e-3) for one, other in zip(before.parameters(), after.parameters())
    )
    first, config = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("first", "on"))
    looks = pd.read_csv(tmp_path / "on/log.csv")
    assert (
        config["pictures"] == first["pictures"] + SMOKE.batch * looks.step[looks.valid.idxmin()]
        and config["steps"] == 6
    )
    assert config["started_from"] == {"model": "first", "sha256": weights(tmp_path / "first")}
    train(klatt, tmp_path / "cut", SMOKE, minutes=0, start_from=tmp_path / "first")
    train(klatt, tmp_path / "cut", SMOKE, resume=True, start_from=tmp_path / "first")
    train(klatt, tmp_path / "whole", SMOKE, start_from=tmp_path / "first")
    same(tmp_path / "cut", tmp_path / "whole")
    with pytest.raises(InputError, match="was made with start_from .*; use another folder"):
        train(klatt, tmp_path / "cut", SMOKE, resume=True)
    with pytest.raises(
        InputError, match=r"first is a flow of 'vowel' pictures with side 256 \(not 288\).* of 'padded'"
    ):
        train(klatt, tmp_path / "other", PADDED, start_from=tmp_path / "first")
    with pytest.raises(InputError, match="no model 'nothing'"):
        train(klatt, tmp_path / "other", SMOKE, start_from="nothing")


def test_snapshots_are_averages_on_the_way(klatt, tmp_path):
    profile = replace(SMOKE, eval_interval=1, iterations=3, batch=500, trim=0, speed=0, snapshots=(1000,))
    speech = usable(klatt, "vowel")
    train(speech, tmp_path, profile)
    config = json.loads((tmp_path / "1k/config.json").read_text())
    assert config["pictures"] == 1000 and config["steps"] == 2
    averages = load_file(tmp_path / "checkpoint-0000002.safetensors")
    for name, value in load_model(tmp_path / "1k").named_parameters():
        assert torch.equal(value, averages[f"average/{name}"].half().float()), name


def test_the_rate_rises_stays_and_falls():
    profile = replace(SMOKE, iterations=100, warmup=10, decay=0.4)
    rates = [training.schedule(step, profile) for step in range(100)]
    assert (
        rates[0] == 0.1 and rates[9:60] == [1.0] * 51 and rates[80] == pytest.approx(0.5) and rates[99] < 0.01
    )
    assert all(later <= earlier for earlier, later in zip(rates[10:], rates[11:]))


class OneProcess:
    device, world_size, is_global_zero = torch.device("cpu"), 1, True

    @staticmethod
    def broadcast(value):
        return value


@pytest.mark.parametrize("has_it", [False, True])
def test_the_faster_precision_is_taken_and_kept(klatt, monkeypatch, has_it):
    """Without instructions for bfloat16 it is not even tried; with them, the clock decides."""
    slow = {}

    def likelihood(self, y, autocast, checkpoint):
        slow[autocast] = slow.get(autocast, 0) + 1
        time.sleep(0.01 if autocast else 0.05)
        return sum(weight.sum() for weight in self.parameters()).expand(2)

    monkeypatch.setattr(Glow, "log_likelihood", likelihood)
    monkeypatch.setattr(devices, "has_bfloat16", lambda: has_it)
    model, before = training.untrained_flow(klatt, SMOKE).requires_grad_(True), torch.get_num_threads()
    found = devices.choose_arithmetic(model, None, 0, lambda: torch.rand(2, 1, 256, 96), OneProcess)
    torch.set_num_threads(before)
    assert found["precision"] == ("bfloat16" if has_it else "float32")
    assert slow.get(True, 0) == (3 if has_it else 0)
    monkeypatch.setenv("OMP_NUM_THREADS", str(before))
    again = devices.choose_arithmetic(model, has_it, 0, lambda: pytest.fail("nothing to choose"), OneProcess)
    assert again["precision"] == found["precision"]  # as in a resumed training


def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise():
    show = "import os, vowelflow; print(os.environ['GOMP_SPINCOUNT'] if 'GOMP_SPINCOUNT' in os.environ else 'unset')"
    plain = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    for more, wanted in (
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "unset"),
    ):
        done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, env=plain | more)
        assert done.stdout.strip() == wanted, done.stderr
