"""Train a large flow on a GPU in minutes, with torch, numpy, safetensors and lazy_loader only: see gpu.sh.

The learning rate's schedule follows the elapsed time, so that it ends with the time on any GPU. ``OUT`` gets the weights
in 16 bits, in files under 16 MB, ``config.json``, ``log.csv``, ``metrics.json`` and ``samples.png``, a page of 48
samples above 48 real tokens of validation speakers.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import math
import struct
import sys
import time
import zlib
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from vowelflow.base import InputError
from vowelflow.checkpoint import save_model
from vowelflow.glow import Glow, GlowConfig, through
from vowelflow.initialise import fit_last_prior, initialise
from vowelflow.spectrogram import (
    OBSERVATIONS,
    faster,
    observation_of,
    pictures_of,
    quantize,
    vowel_pictures,
)

CLIPS = Path("build/clips.npz")
DROPPED = 2  # lowest bits of a sample, which are not packed: they lie below the 80 dB of a picture
SHARD = 15_000_000  # bytes of a weight file
SHAPES = {
    "vowel": GlowConfig(steps=(12,) * 4 + (8,) * 4, hidden=(128, 256, 384, 384) + (256,) * 4, prior=128),
    # the shape in the implementation that the paper used
    "padded": GlowConfig(
        288, 288, ((2, 2),) * 3, 32, (512,) * 3, prior=0, tail=None, frequency_bias=False, axes=0, last_kernel=3, scale="sigmoid"
    ),
}  # fmt: skip
SMOKE = {"steps": 1, "hidden": 8, "prior": 4}
RATES = {"vowel": 1e-3, "padded": 1e-3}
AVERAGE = 0.999
SPEED = 0.1  # `vowel`: F0 and formants are up to this share higher or lower, against overfitting
EVAL_PICTURES = 256  # validation pictures


def pack(root: str | None, path: Path) -> None:
    """Write the clips of LibriSpeech's train and validation speakers as compressed second differences."""
    from vowelstudy.references import RECIPES

    speech = RECIPES["speech"].speech(root)
    speech = speech.filter(split=["train", "valid"])
    parts = [
        np.round(clip * 32768 / 2**DROPPED).astype(np.int32) for clip in speech.clips(range(len(speech)))
    ]
    folded = np.concatenate([_fold(np.diff(np.diff(part, prepend=0), prepend=0)) for part in parts])
    halves = [lzma.compress((folded >> shift).astype(np.uint8).tobytes(), preset=6) for shift in (0, 8)]
    about = {"corpus": speech.name, "fingerprint": speech.fingerprint, "licence": speech.licence}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        low=np.frombuffer(halves[0], np.uint8),
        high=np.frombuffer(halves[1], np.uint8),
        lengths=np.array([len(part) for part in parts], np.int32),
        samples=(speech.table.end - speech.table.start).to_numpy(np.int32),
        valid=(speech.table.split == "valid").to_numpy(),
        speakers=speech.table.speaker.to_numpy(str),
        phones=speech.table.phone.to_numpy(str),
        about=json.dumps(about),
    )
    print(f"{path}: {len(parts):,} clips, {path.stat().st_size / 1e6:.1f} MB")


def _fold(values: np.ndarray) -> np.ndarray:
    """Signed numbers as unsigned ones, small where they are near 0."""
    return np.where(values < 0, -2 * values - 1, 2 * values).astype(np.uint16)


def unpack(path: Path) -> dict:
    """The content of a file by ``pack``; ``clips`` is a list of float32 tensors."""
    if not path.is_file():
        raise InputError(
            f"{path} is not there; make it where the study is installed: tools/gpu.sh pack --root LIBRISPEECH"
        )
    with np.load(path) as file:
        found = dict(file)
    low, high = (
        np.frombuffer(lzma.decompress(found.pop(name).tobytes()), np.uint8) for name in ("low", "high")
    )
    folded = low.astype(np.int32) + 256 * high.astype(np.int32)
    steps = np.where(folded % 2, -(folded + 1) // 2, folded // 2)
    parts = np.split(steps, np.cumsum(found["lengths"])[:-1])
    scale = 2**DROPPED / 32768
    found["clips"] = [torch.from_numpy((part.cumsum().cumsum() * scale).astype(np.float32)) for part in parts]
    return found | {"about": json.loads(str(found["about"]))}


class Pictures:
    """Dequantized pictures of clips, made on the device."""

    def __init__(self, found: dict, kind: str, device: str):
        self.seen, samples = OBSERVATIONS[kind], found["samples"]
        fits = (samples >= self.seen.shortest) & (samples <= self.seen.longest)
        self.rows = {
            name: np.flatnonzero(fits & part)
            for name, part in (("train", ~found["valid"]), ("valid", found["valid"]))
        }
        self.clips = [clip.to(device) for clip in found["clips"]]
        self.samples = samples

    def of(self, rows, rng: np.random.Generator | None = None) -> torch.Tensor:
        """Pictures of these segments; with ``rng``, ends move inwards by up to 9 ms and speech is faster or slower."""
        waves, samples = [self.clips[row] for row in rows], self.samples[rows]
        most = np.minimum(144, samples // 5) * (rng is not None)
        starts, ends = (rng.integers(0, most, endpoint=True) for _ in range(2)) if rng else (most, most)
        if self.seen.even:
            ffts = faster(SPEED, len(rows), rng) if rng else None
            pictures, _ = vowel_pictures(waves, starts, samples - starts - ends // 2, ffts)
        else:
            cut = [wave[: len(wave) - 16 * (end // 16)] for wave, end in zip(waves, ends)]
            pictures, _ = pictures_of(cut)
        levels = quantize(pictures)
        return (levels + torch.rand(levels.shape, device=levels.device)) / 256


def largest_batch(model: Glow, shape: tuple[int, int], checkpoint: int) -> int:
    """The batch that takes at most 60 % of the free memory, a power of two up to 128, by the peak for two pictures."""
    free, _ = torch.cuda.mem_get_info()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model.log_likelihood(torch.rand(2, 1, *shape, device="cuda"), True, checkpoint).mean().backward()
    each = (torch.cuda.max_memory_allocated() - before) / 2
    model.zero_grad(set_to_none=True)
    fits = int(0.6 * free / each)
    if fits < 1:
        raise InputError(
            f"the card has {free / 2**30:.1f} GiB free, and one picture takes {each / 2**30:.1f}; use a larger one"
        )
    return 2 ** min(int(math.log2(fits)), 7)


def train(out: Path, kind: str, minutes: float, smoke: bool, clips: Path, seed: int = 0) -> None:
    began, device = time.monotonic(), "cpu" if smoke else "cuda"
    if not smoke and not torch.cuda.is_available():
        raise InputError("no GPU is here; --smoke tries the script on a processor")
    found, config = unpack(clips), SHAPES[kind]
    if smoke:
        widths = (SMOKE["hidden"],) * len(config.hidden)
        config = replace(
            config, steps=SMOKE["steps"], hidden=widths, prior=SMOKE["prior"] * bool(config.prior)
        )
    torch.manual_seed(seed)
    rng, checkpoint = np.random.default_rng(seed), 0 if kind == "vowel" else 4
    pictures, model = Pictures(found, kind, device), Glow(config)
    train_rows, valid_rows = pictures.rows["train"], pictures.rows["valid"][:EVAL_PICTURES]
    initialise(model, pictures.of(rng.choice(train_rows, 64)).cpu())
    model.to(device)
    batch = (
        2 if smoke else largest_batch(model, observation_of((config.side, config.frames)).shape, checkpoint)
    )
    if not smoke:
        model.through = torch.compile(model.through)
        torch.backends.cuda.matmul.allow_tf32 = False
    average = deepcopy(model).eval().requires_grad_(False)
    average.through = model.through
    best, least = average, math.inf
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    levels = pictures.of(valid_rows)
    out.mkdir(parents=True, exist_ok=True)
    # The time until now is part of the limit, and so is half a minute at the end to evaluate, sample and save.
    start, end = time.monotonic(), began + 60 * minutes - (1 if smoke else 40)
    recent, order, step, evaluated = [], [], 0, start
    print(
        f"{sum(weight.numel() for weight in model.parameters()):,} parameters, batches of {batch} on {device}",
        flush=True,
    )
    with open(out / "log.csv", "w", newline="") as file:
        log = csv.writer(file, lineterminator="\n")
        log.writerow(["step", "train", "valid", "pictures_per_second", "seconds"])
        while (now := time.monotonic()) < end or step < 2:
            share = min((now - start) / max(end - start, 1e-9), 1.0)
            rate = RATES[kind] * min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * share))
            for group in optimizer.param_groups:
                group["lr"] = rate
            if len(order) < batch:
                order = [*order, *rng.permutation(train_rows)]
            rows, order = order[:batch], order[batch:]
            likelihood = model.log_likelihood(pictures.of(rows, rng), not smoke, checkpoint)
            bits = 8 - likelihood.mean() / math.log(2) / config.size
            bits.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if torch.isfinite(norm):
                optimizer.step()
                keep = min(AVERAGE, (step + 1) / (step + 10))
                torch._foreach_lerp_(
                    list(average.parameters()), [w.detach() for w in model.parameters()], 1 - keep
                )
            optimizer.zero_grad(set_to_none=True)
            recent.append(bits.detach())
            step += 1
            if time.monotonic() - evaluated > 20 or step == 1:
                valid = mean_bits(average, levels, batch)
                if valid < least:
                    best, least = deepcopy(average), valid
                speed = batch * len(recent) / (time.monotonic() - evaluated)
                log.writerow(
                    [
                        step,
                        f"{torch.stack(recent).mean().item():.4f}",
                        f"{valid:.4f}",
                        f"{speed:.1f}",
                        f"{now - start:.0f}",
                    ]
                )
                file.flush()
                print(
                    f"step {step}: bits {valid:.3f} on validation speakers, {speed:.0f} pictures/s",
                    flush=True,
                )
                recent, evaluated = [], time.monotonic()
    if mean_bits(average, levels, batch) < least:
        best = average
    about = found["about"] | {
        "observation": kind,
        "vowels": sorted(set(found["phones"])),
        "speakers": {name: sorted(set(found["speakers"][rows])) for name, rows in pictures.rows.items()},
        "segments": {name: len(rows) for name, rows in pictures.rows.items()},
        "glow": asdict(config),
        "profile": {
            "batch": batch,
            "learning_rate": RATES[kind],
            "average": AVERAGE,
            "checkpoint": checkpoint,
        },
        "seed": seed,
        "steps": step,
        "pictures": step * batch,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "machine": "a processor" if smoke else torch.cuda.get_device_name(),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__},
    }
    best.through = through  # not compiled: any batch
    if best.axes:
        batches = np.array_split(train_rows, math.ceil(len(train_rows) / 64))
        fit_last_prior(best, (pictures.of(rows) for rows in batches))
    save_model(out, best, about, SHARD)
    samples = best.inverse(torch.randn(48, config.size, device=device)).cpu()
    metrics = {
        "bits_per_dim": mean_bits(best, levels, batch),
        "samples": {
            "outside_share": ((samples < -0.1) | (samples > 1.1)).float().mean().item(),
            "largest": samples.abs().max().item(),
        },
        "peak_memory_gib": 0 if smoke else torch.cuda.max_memory_allocated() / 2**30,
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    write_png(out / "samples.png", torch.cat([samples, levels[:48].cpu()]))
    name = "speech-gpu" if kind == "vowel" else "paper-speech"
    print(
        f"{metrics}\nAll of {out} belongs in models/{name}/; then: vowelflow measure {name} --root LIBRISPEECH"
    )


@torch.no_grad()
def mean_bits(model: Glow, y: torch.Tensor, batch: int) -> float:
    """Bits per dimension of dequantized pictures, in float32."""
    nats = torch.cat([model.log_likelihood(part) for part in y.split(batch)]).mean().item()
    return 8 - nats / math.log(2) / model.config.size


def write_png(path: Path, pictures: torch.Tensor, columns: int = 24) -> None:
    """Pictures ``(n, 1, side, frames)``, low frequencies at the bottom, as one gray PNG."""
    tiles = np.pad(
        (pictures[:, 0].flip(1).clamp(0, 1) * 255).byte().numpy(),
        ((0, -len(pictures) % columns), (0, 4), (0, 4)),
    )
    rows = tiles.reshape(-1, columns, *tiles.shape[1:]).transpose(0, 2, 1, 3)
    page = rows.reshape(rows.shape[0] * rows.shape[1], -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = np.pad(page, ((0, 0), (1, 0))).tobytes()  # a 0 before each line: no filter
    header = struct.pack(">IIBBBBB", page.shape[1], page.shape[0], 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", help="a folder; or pack, to write the file of clips")
    parser.add_argument("kind", nargs="?", choices=sorted(SHAPES), default="vowel")
    parser.add_argument("minutes", nargs="?", type=float, default=8.0)
    parser.add_argument("--smoke", action="store_true", help="a tiny flow on a processor")
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--root", help="of pack: the folder of LibriSpeech")
    options = parser.parse_args()
    try:
        if options.out == "pack":
            pack(options.root, options.clips)
        else:
            train(Path(options.out), options.kind, options.minutes, options.smoke, options.clips)
    except InputError as error:
        print(f"gpu: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
