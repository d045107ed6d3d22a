"""How fast speech becomes pictures, against a loop over librosa, and how much memory it takes.

    python benchmarks/data.py --corpus timit-sample --root DIR     speed
    python benchmarks/data.py --stream 100000                      memory, of so many klatt segments

Both sides make the same pictures of the same segments, which is checked. Runs are interleaved,
medians are reported, and results are added to ``benchmarks/data.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import librosa
import numpy as np
import torch

from vowelflow.clips import cut
from vowelflow.klatt import klatt_corpus
from vowelflow.readers import load_corpus
from vowelflow.spectrogram import batches, frame_count

RESULTS = Path(__file__).with_suffix(".json")


def ours(name: str, root: str) -> torch.Tensor:
    """From the folder to an epoch of pictures."""
    corpus = load_corpus(name, root)
    return torch.cat([pictures for pictures, _ in batches(corpus)])


def loop_over_librosa(table, frames, root: str) -> np.ndarray:
    """The same pictures as one would write them with librosa, from labels that are already parsed."""
    pictures = np.zeros((len(table), 1, 288, 288), np.float32)
    sounds = {}
    for k, row in enumerate(table.itertuples()):
        if row.path not in sounds:
            sounds = {row.path: librosa.load(Path(root, row.path), sr=16_000)[0]}
        clip = cut(sounds[row.path], row.start, row.end)
        magnitude = np.abs(librosa.stft(clip, n_fft=512, hop_length=16, win_length=400, center=False))
        decibels = librosa.amplitude_to_db(magnitude, ref=np.max, amin=1e-10, top_db=80)
        pictures[k, 0, :257, : frames[k]] = decibels / 80 + 1
    return pictures


def compare(name: str, root: str, repeats: int) -> dict:
    start = time.perf_counter()
    corpus = load_corpus(name, root)
    first = time.perf_counter() - start
    frames = frame_count(corpus)
    difference = np.abs(ours(name, root).numpy() - loop_over_librosa(corpus.table, frames, root)).max()
    assert difference < 1e-3, f"the two sides differ by {difference}"
    seconds = {"ours": [], "librosa": []}
    for _ in range(repeats):
        for side, run in (
            ("ours", lambda: ours(name, root)),
            ("librosa", lambda: loop_over_librosa(corpus.table, frames, root)),
        ):
            start = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - start)
    medians = {side: float(np.median(times)) for side, times in seconds.items()}
    return {
        "segments": len(corpus),
        "first_load_s": first,
        **{f"{side}_s": median for side, median in medians.items()},
        "ratio": medians["librosa"] / medians["ours"],
        "ratios": [slow / fast for slow, fast in zip(seconds["librosa"], seconds["ours"])],
        "largest_difference": float(difference),
        "runs": repeats,
    }


def anonymous_mb() -> float:
    """Resident memory of this process that is not mapped from files, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def stream(segments: int) -> dict:
    """Stream the pictures of a klatt corpus of at least so many segments."""
    start = time.perf_counter()
    corpus = klatt_corpus(speakers=2 * -(-segments // 80), tokens=8).take(range(segments))
    loaded, total, seen, most = time.perf_counter() - start, 0.0, 0, anonymous_mb()
    before, start = most, time.perf_counter()
    for pictures, _ in batches(corpus):
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="timit-sample")
    parser.add_argument("--root")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--stream", type=int, metavar="N")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    if options.stream:
        results["stream"] = stream(options.stream) | machine
    else:
        if not options.root:
            parser.error("--root is needed: the folder with the recordings")
        results[options.corpus] = compare(options.corpus, options.root, options.repeats) | machine
    print(json.dumps(results, indent=1))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
