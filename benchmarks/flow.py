"""What training the main flow costs: beside another library, in other precisions, with other threads, beside other work.

    pip install -e '.[bench]'
    python benchmarks/flow.py                  on this machine's processor: five minutes
    python benchmarks/flow.py --device cuda    on its GPU: the training step, compiled, as a share of the card's peak

Every side runs in a process of its own, and they take turns, so that what else the machine does meets all of them; a
number is the median over rounds, a ratio the median of the ratios of each round. Results go to ``benchmarks/flow.json``.

The peer is Glow of normflows in the nearest shape that it can express: as many levels and steps and the same widths, the
same pictures of 256x96, and squeezes of 2x2 alone, twice before the first level. It has no biases by row, no tails and
no priors at splits, so it computes less.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import re
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).with_suffix(".json")
BFLOAT16_PEAK = {"H100": 989.4e12, "H200": 989.4e12}  # dense operations a second, by the maker's data sheets


@dataclass(frozen=True)
class Side:
    """One way to take a training step, or to decode."""

    flow: str  # "ours", "first" (the first edition's, of padded pictures), "normflows"
    batch: int = 4
    autocast: bool = False
    threads: int = 1
    spin: bool = False  # whether threads that wait spin, as libgomp's do by default
    decode: bool = False
    device: str = "cpu"


def build(side: Side):
    """A function that takes one step."""
    import torch

    from vowelflow.glow import Glow
    from vowelflow.initialise import initialise
    from vowelflow.klatt import klatt_corpus
    from vowelflow.spectrogram import dequantize, images
    from vowelflow.training import PROFILES, compile_where_it_pays

    torch.set_num_threads(side.threads)
    torch.manual_seed(0)
    profile = first_edition() if side.flow == "first" else PROFILES["vowel"]
    corpus = klatt_corpus(speakers=4, tokens=2 + side.batch // 20)
    first = dequantize(images(corpus.take(range(max(side.batch, 8))), observation=profile.observation))
    pictures = first[: side.batch].to(side.device)
    if side.flow == "normflows":
        model = normflows_like(profile.glow)
        with torch.no_grad():
            model.log_prob(first, None)  # its actnorm starts from the first batch
        likelihood = lambda: model.log_prob(pictures, None)  # noqa: E731
    else:
        model = Glow(profile.glow)
        initialise(model, first)
        model.to(side.device)
        compile_where_it_pays(model)
        likelihood = lambda: model.log_likelihood(pictures, side.autocast)  # noqa: E731
    if side.decode:
        code = torch.randn(side.batch, profile.glow.size)
        return torch.no_grad()(lambda: model.inverse(code)), model
    optimizer = torch.optim.Adam(model.parameters(), 1e-5, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        (-likelihood().mean() / profile.glow.size).backward()
        optimizer.step()

    return step, model


def first_edition():
    """The profile of the first edition's main flow: smaller, of padded pictures."""
    from vowelflow.glow import GlowConfig
    from vowelflow.profiles import Profile

    glow = GlowConfig(
        288, 288, ((2, 2),) * 5, 8, (16, 32, 64, 96, 128), prior=0, tail=None, frequency_bias=False, axes=0,
        last_kernel=3, coupling=2.0,
    )  # fmt: skip
    return Profile(glow)


def normflows_like(glow):
    """normflows' Glow of the nearest shape: it squeezes by 2x2 only, so it has levels as long as both sides are even."""
    import normflows as nf

    priors, flows, merges = [], [], []
    levels = min(len(glow.hidden), math.gcd(glow.side, glow.frames).bit_length() - 2)
    for level in reversed(range(levels)):  # the coarsest first
        channels, shrunk = 16 * 2**level, 4 * 2**level
        shape = (glow.side // shrunk, glow.frames // shrunk)
        blocks = [nf.flows.GlowBlock(channels, glow.hidden[level]) for _ in range(glow.steps[level])]
        flows.append([*blocks, *[nf.flows.Squeeze()] * (1 if level else 2)])
        leaves = channels if level == levels - 1 else channels // 2
        priors.append(nf.distributions.DiagGaussian((leaves, *shape), trainable=False))
        merges += [nf.flows.Merge()] if level < levels - 1 else []
    return nf.MultiscaleFlow(priors, flows, merges, class_cond=False)


def work(pipe, side: Side) -> None:
    """Build a side, then take a step whenever asked and say how long it took."""
    warnings.filterwarnings("ignore", "torch.(lu|triangular_solve) is deprecated")
    step, model = build(side)
    step()
    pipe.send(sum(weight.numel() for weight in model.parameters()))
    while pipe.recv():
        began = time.perf_counter()
        step()
        if side.device == "cuda":
            import torch

            torch.cuda.synchronize()
        pipe.send(time.perf_counter() - began)


def take_turns(sides: dict[str, Side], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each side in each round; the first two rounds do not count."""
    context, pipes = multiprocessing.get_context("spawn"), {}
    for name, side in sides.items():
        os.environ |= {
            "OMP_NUM_THREADS": str(side.threads),
            "GOMP_SPINCOUNT": "300000" if side.spin else "1000",
        }
        pipes[name], other = context.Pipe()
        context.Process(target=work, args=(other, side), daemon=True).start()
    for name, pipe in pipes.items():
        print(f"{name}: {pipe.recv():,} parameters", flush=True)
    seconds = {name: [] for name in sides}
    for _ in range(rounds + 2):
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    return {name: np.array(spent[2:]) for name, spent in seconds.items()}


def busy() -> None:
    """Other work, on one core."""
    while True:
        pass


def on_a_processor(rounds: int) -> dict:
    from vowelflow.devices import has_bfloat16
    from vowelflow.training import PROFILES

    steps = {
        "ours, float32": Side("ours"),
        "normflows, float32": Side("normflows"),
        "ours, batch 16": Side("ours", 16),
        "normflows, batch 16": Side("normflows", 16),
        "first edition, float32": Side("first", 2),
    }
    if has_bfloat16():
        steps |= {
            "ours, bfloat16": Side("ours", autocast=True),
            "first edition, bfloat16": Side("first", 2, True),
        }
    threads = {
        "1 thread": Side("ours"),
        "2 threads": Side("ours", threads=2),
        "2 threads that spin": Side("ours", threads=2, spin=True),
    }
    taken = take_turns(steps, rounds)
    idle = take_turns(threads, rounds)
    other = multiprocessing.get_context("spawn").Process(target=busy, daemon=True)
    other.start()
    beside = take_turns(threads, max(rounds // 3, 3))
    other.terminate()
    decode = take_turns({"decode": Side("ours", 1, decode=True)}, rounds)["decode"]
    middle = {name: float(np.median(spent)) for name, spent in {**taken}.items()}
    each = {name: steps[name].batch / seconds for name, seconds in middle.items()}
    ours = max(each[name] for name in each if re.fullmatch("ours, (float32|bfloat16)", name))
    first = max(each[name] for name in each if name.startswith("first edition"))
    pixels = first_edition().glow.size / PROFILES["vowel"].glow.size
    return {
        "seconds_a_step": middle,
        "pictures_a_second": each,
        "times_as_fast_as_normflows": {
            "batch 4": ratio(taken["normflows, float32"], taken["ours, float32"]),
            "batch 16": ratio(taken["normflows, batch 16"], taken["ours, batch 16"]),
        },
        "pictures_a_second_of_first_edition": ours / first,
        "pixels_a_second_of_first_edition": ours / first / pixels,
        "threads_idle": {name: float(np.median(spent)) for name, spent in idle.items()},
        "threads_beside_other_work": {name: float(np.median(spent)) for name, spent in beside.items()},
        "decode_ms": 1000 * float(np.median(decode)),
        "bfloat16_instructions": has_bfloat16(),
    }


def ratio(peer: np.ndarray, ours: np.ndarray) -> dict:
    each = peer / ours
    return {"ratio": float(np.median(each)), "least": float(each.min()), "most": float(each.max())}


def on_a_gpu(rounds: int, batch: int) -> dict:
    """Pictures a second of a compiled step, and useful operations as a share of the card's peak (Chowdhery et al. 2022)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from vowelflow.glow import Glow, GlowConfig

    seconds = float(np.median(take_turns({"ours": Side("ours", batch, True, device="cuda")}, rounds)["ours"]))
    with torch.device("meta"):
        model, config = Glow(), GlowConfig()
        with FlopCounterMode(display=False) as counter:
            model.log_likelihood(torch.empty(1, 1, config.side, config.frames)).sum().backward()
    card, achieved = torch.cuda.get_device_name(), counter.get_total_flops() * batch / seconds
    peak = next((peak for name, peak in BFLOAT16_PEAK.items() if name in card), None)
    return {
        "card": card,
        "batch": batch,
        "pictures_a_second": batch / seconds,
        "share_of_bfloat16_peak": peak and achieved / peak,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=64, help="of a GPU; default 64")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    import torch

    from vowelflow.devices import processor_name

    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if options.device == "cpu":  # all of it is measured anew, but for the GPU's part
        found = {name: found[name] for name in found.keys() & {"cuda"}}
    if options.device == "cuda":
        found["cuda"] = on_a_gpu(options.rounds, options.batch)
    else:
        found |= on_a_processor(options.rounds)
        found |= {
            "machine": re.sub(", [0-9]+ threads?$", "", processor_name()),
            "cores": os.cpu_count(),
            "rounds": options.rounds,
        }
        found |= {"torch": torch.__version__, "python": platform.python_version()}
    print(json.dumps(found, indent=1))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
