"""What was tried before the flows were trained: short runs at the same minutes of one core, judged on validation speakers.

    python benchmarks/trials.py --root LibriSpeech [--minutes 6] [NAME ...]

Every trial trains on the train speakers of LibriSpeech for the same processor time of one thread (what other processes
take does not count), with a schedule of its own length. It is judged by the bits per dimension of validation speakers,
by the AUC of the discriminator between their tokens and raw samples, and by how far tokens go that are moved three times
a displacement between two vowels. Results go to ``trials.json``, one at a time; a trial that is there already is left out.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vowelflow.base import save_atomically
from vowelflow.glow import GlowConfig
from vowelflow.spectrogram import images, usable
from vowelflow.training import PROFILES, train
from vowelstudy.realism import areas, views_at
from vowelstudy.references import RECIPES

BASE = PROFILES["vowel"]
GLOW = GlowConfig()
FINE = GLOW.squeeze[:3]
TRIALS = {
    "base": BASE,
    "no tails": replace(BASE, glow=replace(GLOW, tail=None)),
    "no frequencies": replace(BASE, glow=replace(GLOW, frequency_bias=False)),
    "3x3 last": replace(BASE, glow=replace(GLOW, last_kernel=3)),
    "priors of one convolution": replace(BASE, glow=replace(GLOW, prior=0)),
    "squeeze 4x4 first": replace(
        BASE, glow=replace(GLOW, squeeze=((4, 4), *FINE[1:], *((2, 1),) * 3, (2, 6), (1, 1)))
    ),
    "4 levels, to 8x3 places": replace(
        BASE, glow=replace(GLOW, squeeze=(*FINE, (4, 1)), steps=8, hidden=(64, 128, 192, 192))
    ),
    "5 levels, to 4x3 places": replace(
        BASE,
        glow=replace(
            GLOW, squeeze=(*FINE, (4, 1), (2, 1)), steps=(8, 8, 8, 6, 6), hidden=(64, 128, 160, 160, 128)
        ),
    ),
    "half of the steps of the two finest levels": replace(
        BASE, glow=replace(GLOW, steps=(4, 4, *GLOW.steps[2:]))
    ),
    "batch 2": replace(BASE, batch=2),
    "batch 8": replace(BASE, batch=8),
    "rate 7e-4": replace(BASE, learning_rate=7e-4),
    "rate 3e-3": replace(BASE, learning_rate=3e-3),
    "Adamax, rate 3e-3": replace(BASE, optimizer="Adamax", learning_rate=3e-3),
    "F0 and formants as they are": replace(BASE, speed=0),
    "F0 and formants 10 % higher or lower": replace(BASE, speed=0.1),
    "ends as they are labelled": replace(BASE, trim=0),
}
SAMPLES = 400  # pictures, and as many real tokens
FAR = 3  # times a displacement


def multiplications(glow: GlowConfig) -> float:
    """Multiply-adds of one inverse, in units of 1e9: those of its convolutions."""
    total, channels, places = 0, 1, glow.size
    for level, (steps, hidden, (rows, columns)) in enumerate(zip(glow.steps, glow.hidden, glow.squeeze)):
        channels, places = rows * columns * channels, places // (rows * columns)
        coupling = 9 * channels // 2 * hidden + hidden**2 + glow.last_kernel**2 * hidden * channels
        total += places * steps * (coupling + channels**2)
        channels //= 2 if level < len(glow.hidden) - 1 else 1
    return total / 1e9


def far(model, speech) -> dict:
    """What becomes of 10 tokens moved ``FAR`` times each displacement between two vowels: share outside [-0.1, 1.1], largest pixel."""
    from vowelstudy.evaluation import directions, spread

    codes = model.encode(images(speech.draw(10, by=("split",)), observation="vowel"))
    found = spread(
        model.decode(codes + sign * FAR * step) for step in directions(model, speech)[0] for sign in (1, -1)
    )
    return {"outside": found["outside_share"], "largest": found["largest"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--root", help="the folder of LibriSpeech")
    parser.add_argument(
        "--minutes", type=float, default=4, help="of processor time for each trial; default 4"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    speech = usable(RECIPES["speech"].speech(options.root), "vowel")
    valid = speech.held_out("valid").draw(SAMPLES, by=("split",))
    path = Path(__file__).with_name("trials.json")
    for name in options.names or TRIALS:
        found = json.loads(path.read_text()) if path.is_file() else {"minutes": options.minutes, "trials": {}}
        if name in found["trials"]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            # How many steps fit is measured first, so that the schedule ends when the time does.
            started = time.thread_time()
            train(
                speech,
                Path(folder) / "first",
                replace(TRIALS[name], iterations=40, eval_interval=40, prior_pictures=0),
            )
            steps = int(60 * options.minutes / (time.thread_time() - started) * 40)
            profile = replace(TRIALS[name], iterations=steps, eval_interval=steps, prior_pictures=3000)
            model = train(speech, Path(folder) / "trial", profile)
            log = pd.read_csv(Path(folder) / "trial" / "log.csv")
        real, lengths = images(valid, observation="vowel"), (valid.table.end - valid.table.start).to_numpy()
        seen = views_at(real, lengths), views_at(model.sample(SAMPLES), np.resize(lengths, SAMPLES))
        _, found_areas = areas(seen[0], valid.table.speaker.to_numpy(), seen[1])
        found["trials"][name] = {
            "bits": model.bits_per_dim(real, 1).mean().item(),
            "auc": found_areas["network"].mean(),
            **far(model, speech.split["valid"]),
            "pictures": steps * profile.batch,
            "pictures_a_second": steps * profile.batch / (60 * options.minutes),
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "gigamultiplications": round(multiplications(profile.glow), 2),
            "train": float(log.train.iloc[-1]),
        }
        found |= {"fingerprint": speech.fingerprint}
        save_atomically(path, lambda temporary: temporary.write_text(json.dumps(found, indent=2) + "\n"))  # noqa: B023
        print(name, found["trials"][name], flush=True)


if __name__ == "__main__":
    main()
