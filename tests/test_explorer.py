"""Places of the explorer, the reader's own recordings, and widgets in a live kernel."""

import io
import json

import nbformat
import numpy as np
import pytest
import soundfile
import torch
from nbclient import NotebookClient

from vowelflow.base import InputError
from vowelflow.spectrogram import VOWEL, WINDOW
from vowelstudy.explorer import OWN, Explorer, Place, moves_of
from vowelstudy.folds import open_setting
from vowelstudy.page import write_page
from vowelstudy.protocol import SMOKE
from vowelstudy.references import reference_model
from vowelstudy.tokens import codes_of


@pytest.fixture(scope="module")
def explorer(klatt, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOWELFLOW_BUILD", str(tmp_path_factory.mktemp("explorer")))
        _, folder = reference_model(klatt, "smoke")
        yield Explorer(open_setting(klatt, folder, SMOKE))


def test_tokens_are_of_people_whom_nothing_was_fitted_on(explorer):
    table = explorer.setting.tokens.table
    assert set(table.speaker.iloc[explorer.rows]) <= set(table.speaker.iloc[explorer.fold.evaluation])
    assert len(set(explorer.names)) == len(explorer.names)


def test_a_place_that_is_nowhere_else_is_the_token(explorer):
    code = explorer.codes[[0]]
    assert torch.equal(explorer.code(Place()), code)
    assert torch.allclose(explorer.code(Place(other=1, between=1.0)), explorer.codes[[1]], atol=1e-6)
    name, move = next(iter(explorer.moves.items()))
    assert torch.allclose(explorer.code(Place(moves={name: -2.0})), code - 2 * move)
    top = explorer.model.top_size
    kept = explorer.code(Place(fine=0.0))
    assert torch.equal(kept[:, :top], code[:, :top]) and not kept[:, top:].any()
    drawn = [explorer.code(Place(start=None, seed=seed, temperature=0.5)) for seed in (1, 1, 2)]
    assert torch.equal(*drawn[:2]) and not torch.equal(*drawn[1:]) and abs(drawn[0].std() - 0.5) < 0.01


def test_the_direction_of_vowel_is_that_of_the_chapters(explorer):
    from vowelstudy.experiments.directions import contrast
    from vowelstudy.methods import flow_method

    tokens, method = explorer.setting.tokens, flow_method(explorer.model)
    fit = tokens.rows(explorer.fold.fit, phone=["aa", "ae"])
    wanted = method.displacement(method.vectors(tokens, fit), contrast(tokens.table.iloc[fit], "phone"))
    assert torch.allclose(explorer.moves["aa to ae"], wanted, atol=1e-5)


def test_principal_directions_are_a_deviation_long(explorer):
    tokens, fold = explorer.setting.tokens, explorer.fold
    codes = codes_of(explorer.model, tokens, 0)[fold.fit]
    first, second = (moves_of(tokens, fold, 1, 0)[f"principal direction {k}"][0] for k in (1, 2))
    scores = (codes - codes.mean(0)) @ (first / first.norm())
    assert scores.std(correction=0).item() == pytest.approx(first.norm().item(), rel=1e-3)
    assert abs(torch.cosine_similarity(first, second, dim=0)) < 1e-3 and first.norm() >= second.norm()


def test_readings_are_numbers_and_sounds_do_not_clip(explorer):
    far = Place(moves=dict.fromkeys(explorer.moves, 3.0))
    for place in (Place(), Place(true_phase=False), Place(start=None), far):
        picture = explorer.picture(place)
        sound = explorer.sound(place, picture)
        assert np.isfinite(sound).all() and 0 < np.abs(sound).max() <= 0.9
    found = explorer.readings(Place(), explorer.picture(Place()))
    assert sum(found["vowel"].values()) == pytest.approx(1) and 0.5 < found["squared norm / d"] < 2
    assert {"ms", "f1", "f2", "f3"} == set(found["tracks"]) and len(found["tracks"])


def wav(samples, rate=16_000):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


def test_a_vowel_of_ones_own(explorer):
    token = explorer.setting.tokens.corpus.sound(int(explorer.rows[0]))
    explorer.record(wav(token))
    code, phase, samples = explorer.start(Place(start=OWN))
    assert samples == len(token) == explorer.samples[0] and phase.shape == VOWEL.shape
    centres = VOWEL.centres(samples)
    inside = (centres >= WINDOW // 2) & (centres < samples - WINDOW // 2)  # windows see nothing but the token
    own = explorer.setting.tokens.pictures[explorer.rows[0]]
    same = (explorer.model.decode(code)[0] - own).abs()[0, :, inside]
    assert inside.any() and same.mean() < 0.02
    turned = (phase - explorer.phases[0])[:, inside][own[0, :, inside] > 0.5]
    assert turned.cos().min() > 0.99
    explorer.record(wav(np.repeat(token, 3), 48_000))
    assert explorer.own[2] == samples


@pytest.mark.parametrize(
    "sound, message",
    [
        (b"rubbish", "no sound file"),
        (wav(np.zeros((2000, 2))), "2 channels; use a recording with one"),
        (wav(np.ones(200) * 0.1), "12 ms; cut one vowel out, of 30 to 1000 ms"),
        (wav(np.ones(16_001) * 0.1), "1000 ms; cut one vowel out"),
        (wav(np.zeros(2000)), "125 ms; cut one vowel out"),
    ],
)
def test_what_is_no_vowel_is_refused(explorer, sound, message):
    with pytest.raises(InputError, match=message):
        explorer.record(sound)


def test_the_files_of_the_page_are_what_they_say(explorer, tmp_path):
    import hashlib

    (tmp_path / "page").mkdir()
    for left in (".decode-x1y2.onnx", "codes.bin"):  # by a page whose making was killed
        (tmp_path / "page" / left).write_bytes(b"half")
    sizes = write_page(explorer, tmp_path / "page")
    names = "explorer.json still.png decode.onnx codes.bin moves.bin phases.bin check.bin"
    assert set(sizes) == set(names.split())
    about = json.loads((tmp_path / "page/explorer.json").read_text())
    for name, file in about["files"].items():
        data = (tmp_path / "page" / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
        assert sizes[name] == len(data)
    codes = np.fromfile(tmp_path / "page/codes.bin", np.float16).reshape(len(about["tokens"]), about["size"])
    assert np.abs(codes - explorer.codes.numpy()).max() < 0.01
    moves = np.fromfile(tmp_path / "page/moves.bin", np.int8).reshape(len(about["moves"]), about["size"])
    for move, one in zip(moves, about["moves"]):
        wanted = explorer.moves[one["name"]].numpy()
        assert np.abs(move * one["scale"] - wanted).max() <= one["scale"]


LIVE = """
from datetime import datetime
import vowelstudy as vs
from vowelflow.klatt import klatt_corpus
klatt = klatt_corpus(speakers=8, tokens=2)
setting = vs.run.open_setting(klatt, "smoke")
explorer = vs.explorer.Explorer(setting)
display(explorer.widget.box)
===
shown = explorer.widget
assert shown.wait() and not shown.problems
first = shown.image.value, shown.audio.value
name = next(iter(explorer.moves))
calls = []
original = shown._show
shown._show = lambda place: (calls.append(place), original(place))
for step in range(20):
    shown.moves[name].value = step / 10
assert shown.wait()
place = calls[-1]
print(len(calls) < 20, place.moves[name] == 1.9, shown.image.value != first[0], shown.audio.value != first[1])
===
shown.start.value = None
shown.phase.value = False
shown.between.value = 0.5
assert shown.wait()
print(shown.place().start is None, "squared norm" in shown.readings.value, not shown.problems)
shown.upload.value = ({"name": "a.wav", "type": "audio/wav", "size": 1, "content": memoryview(b"x"), "last_modified": datetime.now()},)
print("no sound file" in shown.status.value)
import io, soundfile
from vowelstudy.explorer import OWN
file = io.BytesIO()
soundfile.write(file, setting.tokens.corpus.sound(int(explorer.rows[1])), 16_000, format="WAV")
own = {"name": "b.wav", "type": "audio/wav", "size": 1, "content": memoryview(file.getvalue()), "last_modified": datetime.now()}
for _ in range(2):
    shown.upload.value = ()
    shown.upload.value = (own,)
    assert shown.wait()
print(shown.place().start == OWN, [value for _, value in shown.start.options].count(OWN), shown.status.value == "")
shown._show = lambda place: 1 / 0
shown.moves[name].value = 1.0
assert shown.wait()
print(shown.problems == [repr(ZeroDivisionError("division by zero"))], "ZeroDivisionError" in shown.status.value)
shown._show = original
shown.reset.click()
assert shown.wait()
print(shown.place() == vs.explorer.Place(other=1), bytes(shown.image.value)[:4])
shown.save.click()
print(shown.status.value)
"""


def test_widgets_in_a_live_kernel(tmp_path, klatt, monkeypatch):
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path / "build"))
    monkeypatch.delenv("VOWELFLOW_UNATTENDED", raising=False)
    node = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(part.strip()) for part in LIVE.split("===")]
    )
    node.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(node, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert node.cells[0].outputs[-1].data["application/vnd.jupyter.widget-view+json"]
    said = [
        "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")
        for cell in node.cells
    ]
    assert said[1].split() == ["True"] * 4
    wanted = ["True True True", "True", "True 1 True", "True True", "True b'\\x89PNG'"]
    assert said[2].split("\n")[:5] == wanted
    assert len(list((tmp_path / "explored").iterdir())) == 2
