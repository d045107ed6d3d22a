"""How fast speech becomes pictures, against a loop over librosa, and how much memory it takes.

    python benchmarks/data.py --corpus timit-sample --root DIR     speed
    python benchmarks/data.py --stream 100000                      memory, of so many klatt segments

All sides make the same padded pictures of the same segments, which is checked. Runs are interleaved,
medians are reported, and results are added to ``benchmarks/data.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import librosa
import numpy as np
import torch

from vowelflow.base import FFT, HOP, LEAD, RATE, frames_in
from vowelflow.corpus import VOWELS
from vowelflow.klatt import klatt_corpus
from vowelflow.readers import load_corpus
from vowelflow.spectrogram import BINS, FLOOR_DB, SIDE, WINDOW, batches, usable
from vowelflow.store import cut

RESULTS = Path(__file__).with_suffix(".json")


def ours(name: str, root: Path) -> Iterator[torch.Tensor]:
    """From the folder to an epoch of padded pictures, in batches."""
    for pictures, _ in batches(usable(load_corpus(name, root), "padded"), observation="padded"):
        yield pictures


def librosa_loop(root: Path, whole_files: bool) -> Iterator[torch.Tensor]:
    """The same as one writes it with librosa: every vowel of every label file, in batches as large as ours.

    A file is loaded once and cut (``whole_files``), or each segment is loaded by itself.
    """
    made = []
    for label in sorted(root.rglob("*.phn")):
        path = label.with_suffix(".wav")
        sound = librosa.load(path, sr=RATE)[0] if whole_files else None
        for line in label.read_text().splitlines():
            start, end, phone = line.split()
            if phone not in VOWELS:
                continue
            start, end = int(start), int(end)
            if whole_files:
                wave = cut(sound, start, end)
            else:
                samples = FFT + HOP * (frames_in(end - start) - 1)
                offset, duration = (start - LEAD + 0.5) / RATE, (samples + 0.5) / RATE
                wave = librosa.load(path, sr=RATE, offset=offset, duration=duration)[0]
            made.append(librosa_picture(wave))
            if len(made) == 8:
                yield torch.stack(made)
                made = []
    if made:
        yield torch.stack(made)


def librosa_picture(wave: np.ndarray) -> torch.Tensor:
    magnitude = np.abs(librosa.stft(wave, n_fft=FFT, hop_length=HOP, win_length=WINDOW, center=False))
    picture = librosa.amplitude_to_db(magnitude, ref=np.max, amin=1e-10, top_db=FLOOR_DB) / FLOOR_DB + 1
    return torch.from_numpy(np.pad(picture, ((0, SIDE - BINS), (0, SIDE - picture.shape[1]))))[None]


def compare(name: str, root: Path, repeats: int) -> dict:
    """Seconds for an epoch, from the folder on; medians over interleaved runs."""
    os.environ["VOWELFLOW_CACHE"] = tempfile.mkdtemp()  # empty, so that the first load is one
    start = time.perf_counter()
    segments = len(load_corpus(name, root))
    first = time.perf_counter() - start
    sides = {
        "ours": lambda: ours(name, root),
        "librosa_loop_whole_files": lambda: librosa_loop(root, whole_files=True),
        "librosa_loop_by_segment": lambda: librosa_loop(root, whole_files=False),
    }
    made = {side: torch.cat(list(run())) for side, run in sides.items()}
    difference = max(float((made[side] - made["ours"]).abs().max()) for side in sides)
    assert difference < 1e-3, f"the sides differ by {difference}"
    seconds = {side: [] for side in sides}
    for _ in range(repeats):
        for side, run in sides.items():
            start = time.perf_counter()
            for _pictures in run():
                pass
            seconds[side].append(time.perf_counter() - start)
    slower = {side: np.array(times) / seconds["ours"] for side, times in seconds.items() if side != "ours"}
    return {
        "segments": segments,
        "first_load_s": first,
        "seconds": {side: float(np.median(times)) for side, times in seconds.items()},
        "times_as_fast_as": {side: float(np.median(ratios)) for side, ratios in slower.items()},
        "least_and_most": {
            side: [float(ratios.min()), float(ratios.max())] for side, ratios in slower.items()
        },
        "largest_difference": difference,
        "runs": repeats,
    }


def anonymous_mb() -> float:
    """Resident memory of this process that is not mapped from files, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def stream(segments: int) -> dict:
    """Stream the padded pictures of a klatt corpus of at least so many segments."""
    start = time.perf_counter()
    corpus = klatt_corpus(speakers=2 * -(-segments // 80), tokens=8).take(range(segments))
    loaded, total, seen, most = time.perf_counter() - start, 0.0, 0, anonymous_mb()
    before, start = most, time.perf_counter()
    for pictures, _ in batches(corpus, observation="padded"):
        total += pictures.mean().item() * len(pictures)
        seen += len(pictures)
        most = max(most, anonymous_mb())
    return {
        "segments": seen,
        "load_s": loaded,
        "stream_s": time.perf_counter() - start,
        "anonymous_mb_before": before,
        "anonymous_mb_most": most,
        "mean_pixel": total / seen,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", default="timit-sample", help="timit or timit-sample")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--stream", type=int, metavar="N")
    options = parser.parse_args()
    machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    if options.stream:
        found = {"stream": stream(options.stream) | machine}
    else:
        if not options.root:
            parser.error("--root is needed: the folder with the recordings")
        found = {options.corpus: compare(options.corpus, options.root, options.repeats) | machine}
    results = (json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}) | found
    print(json.dumps(results, indent=1))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
