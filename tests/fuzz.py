"""Coverage-guided fuzzing of what reads files from outside; not part of the tests, for it takes as long as it is given.

    pip install atheris
    python tests/fuzz.py textgrid -max_total_time=1200 inputs/    (an empty folder, for the inputs that reach new code)

A target may refuse what it reads with an InputError; whatever else it raises is a finding.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np
from safetensors.torch import save

from conftest import text_grid

with atheris.instrument_imports(include=["vowelflow", "praatio", "safetensors", "csv", "json", "zipfile"]):
    from vowelflow import checkpoint, glow, layouts, store
    from vowelflow.base import InputError
    from vowelstudy import judges

HOME = Path(__file__).resolve().parents[1]
PLACE = Path(tempfile.mkdtemp())
SMALL = {"levels": 2, "steps": 1, "hidden": [4, 4], "side": 8}
WEIGHTS = save(glow.Glow(checkpoint.glow_config({"glow": SMALL})).state_dict())
NAMES = "glow sha256 levels squeeze steps hidden side frames prior tail rows scale reach another".split()


def labels(data):
    written("one.phn", data, layouts.read_phn)


def textgrid(data):
    written("one.TextGrid", data, lambda path: layouts.read_textgrid(path, []))


def speakers(data):
    written("speakers.csv", data, layouts.read_speakers)


def config(data):
    """Any text, or, as bytes of chance are seldom JSON, a configuration with some of its values replaced."""
    if not data.startswith(b"{"):
        draw = atheris.FuzzedDataProvider(data)
        about = {"glow": dict(SMALL), "sha256": hash_of(WEIGHTS)}
        for _ in range(draw.ConsumeIntInRange(1, 4)):
            inside = about["glow"]
            if draw.ConsumeProbability() < 0.3 or not isinstance(inside, dict):
                inside = about
            inside[draw.PickValueInList(NAMES)] = value(draw)
        data = json.dumps(about).encode()
    (PLACE / "model.safetensors").write_bytes(WEIGHTS)
    written("config.json", data, lambda path: checkpoint.load_model(PLACE))


def value(draw):
    """A value of a JSON file; seldom a good one."""
    plain = [None, True, "", "tanh", {}, [], float("nan"), float("inf")]
    plain += [0, 1, 2, 4, 8, -1, 10**9, 10**400, 0.5]
    kind = draw.ConsumeIntInRange(0, 3)
    if kind == 0:
        return [value(draw) for _ in range(draw.ConsumeIntInRange(0, 3))]
    return draw.ConsumeInt(4) if kind == 1 else draw.PickValueInList(plain)


def weights(data):
    """Weights whose hash is right, so that nothing but their content can be at fault."""
    (PLACE / "config.json").write_text(json.dumps({"glow": SMALL, "sha256": hash_of(data)}))
    written("model.safetensors", data, lambda path: checkpoint.load_model(PLACE))


def ears(data):
    written("judges-speech.safetensors", data, lambda path: judges.load_judges("timit-sample", PLACE))


def clip_file(data):
    written("corpus.zip", data, store.read_clips)


def examples():
    """What each target reads well, for the fuzzer to start from."""
    rows = {"phones": [(0, 0.1, "AA1"), (0.1, 0.2, "sil")], "words": [(0, 0.2, "one")]}
    row = {"corpus": "own", "utterance": "u", "speaker": "s", "sex": "f", "phone": "aa", "word": ""}
    row |= {"start": 0, "end": 400, "path": "p.wav", "shared": False}
    facts = {"licence": "free", "problems": []}
    about = {"name": "own", "labels": ["aa"], "facts": facts, "left_out": [], "split": {"s": "train"}}
    store.write_clips(PLACE / "example.zip", [(row, np.arange(400, dtype=np.int16))], about)
    return {
        "labels": [b"0 2260 h#\n2260 4149 sh\n"],
        "textgrid": [text_grid(rows, 0.2, short).encode() for short in (False, True)],
        "speakers": [b"speaker,sex,split\nann,f,train\nbob,m,test\n"],
        "config": [json.dumps({"glow": SMALL, "sha256": hash_of(WEIGHTS)}).encode(), bytes(64)],
        "weights": [WEIGHTS],
        "ears": [(HOME / "models/judges-klatt.safetensors").read_bytes()],
        "clip_file": [(PLACE / "example.zip").read_bytes()],
    }


def hash_of(data):
    return hashlib.sha256(data).hexdigest()


def written(name, data, read):
    path = PLACE / name
    path.write_bytes(data)
    try:
        read(path)
    except InputError:
        pass


TARGETS = {one.__name__: one for one in (labels, textgrid, speakers, config, weights, ears, clip_file)}

if __name__ == "__main__":
    start = Path(tempfile.mkdtemp())
    for number, content in enumerate(examples()[sys.argv[1]]):
        (start / str(number)).write_bytes(content)
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(start)], TARGETS[sys.argv[1]])
    atheris.Fuzz()
