"""What was tried before the reference flows were trained: short runs, judged on validation speakers.

    python benchmarks/trials.py --root LibriSpeech [NAME ...]

Every trial sees the same number of pictures of the train speakers of ``cpu-speech``, with a schedule of its own
length, and is judged by the bits per dimension of validation speakers, as their segments are labelled and 3 ms shorter: labels lie
on a grid of 10 ms. Results go to ``trials.json``, one at a
time; a trial that is there already is left out.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from vowelflow.corpus import HOP, save_atomically
from vowelflow.glow import GlowConfig
from vowelflow.references import RECIPES
from vowelflow.spectrogram import pictures_of
from vowelflow.training import Profile, train

PICTURES = 2_800
BASE = Profile(average=0.99, looked_at=96)
GLOW = GlowConfig()
TRIALS = {
    "base: batch 2, rate 3e-3, 5 levels of 8 steps": BASE,
    "batch 8": replace(BASE, batch=8),
    "batch 4": replace(BASE, batch=4),
    "batch 1": replace(BASE, batch=1),
    "rate 1e-3": replace(BASE, learning_rate=1e-3),
    "rate 2e-3": replace(BASE, learning_rate=2e-3),
    "rate 4e-3": replace(BASE, learning_rate=4e-3),
    "4 steps a level": replace(BASE, glow=replace(GLOW, steps=4)),
    "12 steps a level": replace(BASE, glow=replace(GLOW, steps=12)),
    "4 levels": replace(BASE, glow=replace(GLOW, levels=4, hidden=(16, 32, 64, 96))),
    "widths 24 to 128": replace(BASE, glow=replace(GLOW, hidden=(24, 48, 96, 128, 128))),
    "scale sigmoid": replace(BASE, glow=replace(GLOW, scale="sigmoid")),
    "couplings see all": replace(BASE, glow=replace(GLOW, reach=1e9)),
    "couplings see half": replace(BASE, glow=replace(GLOW, reach=4.0)),
    "levels up or down by 6 dB": replace(BASE, gain_db=6.0),
    "ends as they are labelled": replace(BASE, trim=0),
    "begins up to 16 ms later": replace(BASE, shift=16),
}


def multiplications(glow: GlowConfig) -> float:
    """Multiply-adds of one inverse, in units of 1e9: those of its convolutions."""
    total, channels, places = 0, 1, glow.size
    for level, hidden in enumerate(glow.hidden):
        channels, places = 4 * channels, places // 4
        coupling = 9 * channels // 2 * hidden + hidden**2 + 9 * hidden * channels
        total += places * glow.steps * (coupling + channels**2)
        channels //= 2 if level < glow.levels - 1 else 1
    return total / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--root", help="the folder of LibriSpeech")
    options = parser.parse_args()
    torch.set_num_threads(1)
    speech = RECIPES["cpu-speech"].speech(options.root)
    path = Path(__file__).with_name("trials.json")
    for name in options.names or TRIALS:
        found = json.loads(path.read_text()) if path.is_file() else {"pictures": PICTURES, "trials": {}}
        if name in found["trials"]:
            continue
        steps = PICTURES // TRIALS[name].batch
        profile = replace(TRIALS[name], iterations=steps, look=steps, warmup=steps // 14)
        with tempfile.TemporaryDirectory() as folder:
            model = train(speech, Path(folder), profile)
            log = pd.read_csv(Path(folder) / "log.csv")
        valid = speech.held_out("valid").draw(BASE.looked_at, by=("split",))
        shorter, _ = pictures_of([torch.from_numpy(clip[: -3 * HOP]) for clip in valid.clips(range(len(valid)))])
        found["trials"][name] = {
            "valid": float(log.valid.iloc[-1]),
            "shorter": model.bits_per_dim(shorter, 1).mean().item(),
            "steps": steps,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "gigamultiplications": round(multiplications(profile.glow), 2),
        }
        found |= {"fingerprint": speech.fingerprint}
        save_atomically(path, lambda temporary: temporary.write_text(json.dumps(found, indent=2) + "\n"))  # noqa: B023
        print(name, found["trials"][name], flush=True)


if __name__ == "__main__":
    main()
