"""What a flow of the paper's shape costs here and in other libraries: time, and memory for activations.

    pip install -e '.[bench]'
    python benchmarks/flow.py                          two peers, on this machine's processor
    python benchmarks/flow.py --device cuda --steps 32 --batch 16

All sides are Glow with K steps on each of L = 3 levels, actnorm, 1x1 convolutions in LU form, and coupling
networks of 3x3, 1x1 and 3x3 convolutions with 512 channels and the scale sigmoid(s + 2), given the same
pictures of klatt. What differs is small beside the networks: our split-off scales have learned priors, and
the lower bound of a scale is e^-2 here, 0 in normflows, 0.001 in nflows. "Checkpointed" is what the paper
profile does; the peers offer nothing like it, and are compared as they are.

Runs are interleaved, each side in a process of its own; a ratio is the median over rounds of peer / ours.
Results go to ``benchmarks/flow.json``. Peak memory is what an operation takes beyond the model, the optimizer
and all gradients; a flow that keeps its activations peaks before most gradients are there, so what is said of
the peers, and of ours where it keeps them, is up to their size too little.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vowelflow.glow import Glow, GlowConfig, dequantize
from vowelflow.klatt import klatt_corpus
from vowelflow.spectrogram import SIDE, images
from vowelflow.training import PROFILES, compile_where_it_pays

RESULTS = Path(__file__).with_suffix(".json")
PAPER = PROFILES["paper"]
LEVELS, HIDDEN = PAPER.glow.levels, PAPER.glow.hidden[0]
BFLOAT16_PEAK = {"H100": 989.4e12, "H200": 989.4e12}  # dense operations a second, by the maker's data sheets
SIDES = ("ours", "normflows", "nflows")
OPERATIONS = ("train_float32", "train_bfloat16", "train_checkpointed", "encode", "decode", "sample")


class Ours:
    def __init__(self, steps: int, pictures: torch.Tensor):
        self.model = Glow(replace(PAPER.glow, steps=steps))
        self.model.initialise(pictures.cpu())
        self.model.to(pictures.device)
        compile_where_it_pays(self.model)

    def loss(self, pictures, autocast, checkpoint=0):
        return -self.model.log_likelihood(pictures, autocast, checkpoint).mean()

    def encode(self, pictures):
        return self.model.flat(pictures)

    def decode(self, code):
        return self.model.inverse(code)

    def sample(self, count):
        return self.model.inverse(torch.randn(count, SIDE**2, device=self.model.top.device))


class Peer:
    """A library's model; under autocast everything of it is, as its users write it."""

    def loss(self, pictures, autocast):
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=autocast):
            return -self.log_likelihood(pictures).mean()


class Normflows(Peer):
    def __init__(self, steps: int, pictures: torch.Tensor):
        import normflows

        priors, flows, merges = [], [], []
        for level in reversed(range(LEVELS)):  # the coarsest first
            channels, side = 4 * 2**level, SIDE // 2 ** (level + 1)
            blocks = [normflows.flows.GlowBlock(channels, HIDDEN) for _ in range(steps)]
            flows.append([*blocks, normflows.flows.Squeeze()])
            leaves = channels if level == LEVELS - 1 else channels // 2
            priors.append(normflows.distributions.DiagGaussian((leaves, side, side), trainable=False))
            merges += [normflows.flows.Merge()] if level < LEVELS - 1 else []
        self.model = normflows.MultiscaleFlow(priors, flows, merges, class_cond=False).to(pictures.device)
        self.log_likelihood = lambda pictures: self.model.log_prob(pictures, None)
        with torch.no_grad():
            self.log_likelihood(pictures)  # its actnorm starts from the first batch

    def encode(self, pictures):
        return self.model.inverse_and_log_det(pictures)[0]

    def decode(self, code):
        return self.model.forward_and_log_det(code)[0]

    def sample(self, count):
        return self.model.sample(count)[0]


class Nflows(Peer):
    def __init__(self, steps: int, pictures: torch.Tensor):
        from nflows import distributions, flows, transforms

        class Network(nn.Sequential):  # its own convolutional networks are residual, so it is given this one
            def forward(self, x, context=None):
                return super().forward(x)

        def network(into, out):
            last = nn.Conv2d(HIDDEN, out, 3, padding=1)
            nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
            first, middle = nn.Conv2d(into, HIDDEN, 3, padding=1), nn.Conv2d(HIDDEN, HIDDEN, 1)
            return Network(first, nn.ReLU(), middle, nn.ReLU(), last)

        whole, shape = transforms.MultiscaleCompositeTransform(LEVELS), (1, SIDE, SIDE)
        for _ in range(LEVELS):
            squeeze = transforms.SqueezeTransform()
            shape = squeeze.get_output_shape(*shape)
            mask = torch.arange(shape[0]) >= shape[0] // 2
            layers = [squeeze]
            for _ in range(steps):
                layers += [transforms.ActNorm(shape[0]), transforms.OneByOneConvolution(shape[0])]
                layers += [transforms.AffineCouplingTransform(mask, network)]
            shape = whole.add_transform(transforms.CompositeTransform(layers), shape)
        self.model = flows.Flow(whole, distributions.StandardNormal([SIDE**2])).to(pictures.device)
        self.log_likelihood = self.model.log_prob
        with torch.no_grad():
            self.log_likelihood(pictures)

    def encode(self, pictures):
        return self.model.transform_to_noise(pictures)

    def decode(self, code):
        return self.model._transform.inverse(code)[0]

    def sample(self, count):
        return self.model.sample(count)


def side_named(name: str, steps: int, pictures: torch.Tensor):
    torch.manual_seed(0)
    return {"ours": Ours, "normflows": Normflows, "nflows": Nflows}[name](steps, pictures)


def pictures_for(batch: int, device: str) -> torch.Tensor:
    corpus = klatt_corpus(speakers=4, tokens=2 + batch // 20)
    return dequantize(images(corpus.take(range(batch)))).to(device)


def train_step(side, optimizer, pictures, *how) -> None:
    optimizer.zero_grad(set_to_none=True)
    side.loss(pictures, *how).backward()
    optimizer.step()


def operations(side, optimizer, pictures, code) -> dict:
    """What is measured, each ready to be called."""
    return {
        "train_float32": partial(train_step, side, optimizer, pictures, False),
        "train_bfloat16": partial(train_step, side, optimizer, pictures, True),
        "train_checkpointed": partial(train_step, side, optimizer, pictures, True, PAPER.checkpoint),
        "encode": partial(side.encode, pictures),
        "decode": partial(side.decode, code),
        "sample": partial(side.sample, len(pictures)),
    }


def times(steps: int, batch: int, device: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every operation of every side, in turns; the first round warms up and is dropped.

    A side works in a process of its own, as its users run it: what one leaves in memory slows another.
    """
    context, workers, sizes = multiprocessing.get_context("spawn"), {}, {}
    for name in SIDES:
        here, there = context.Pipe()
        context.Process(target=work, args=(there, name, steps, batch, device), daemon=True).start()
        workers[name], sizes[name] = here, here.recv()
    assert max(sizes.values()) < 1.02 * min(sizes.values()), f"not the same size: {sizes} parameters"
    seconds = {operation: {name: [] for name in SIDES} for operation in OPERATIONS}
    for _ in range(rounds + 1):
        for operation in OPERATIONS:
            for name in SIDES if operation != "train_checkpointed" else SIDES[:1]:
                workers[name].send(operation)
                seconds[operation][name].append(workers[name].recv())
    for pipe in workers.values():
        pipe.send(None)
    return {operation: {name: spent[1:] for name, spent in of.items()} for operation, of in seconds.items()}


def work(pipe, name: str, steps: int, batch: int, device: str) -> None:
    """Say how many parameters a side has, then run the operations that are asked for and say how long each took."""
    warnings.filterwarnings("ignore", "torch.(lu|triangular_solve) is deprecated")
    pictures = pictures_for(batch, device)
    side = side_named(name, steps, pictures)
    optimizer = torch.optim.Adam(side.model.parameters(), 1e-5)
    with torch.no_grad():
        runs = operations(side, optimizer, pictures, side.encode(pictures))
    pipe.send(sum(weight.numel() for weight in side.model.parameters()))
    while operation := pipe.recv():
        with torch.set_grad_enabled(operation.startswith("train")):
            pipe.send(_timed(runs[operation], device))


def _timed(run, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory(name: str, operation: str, steps: int, device: str) -> float:
    """Peak MB of an operation on one picture, beyond what the model, its gradients and the optimizer take."""
    pictures = pictures_for(1, device)
    side = side_named(name, steps, pictures)
    optimizer = torch.optim.Adam(side.model.parameters(), 1e-5)
    training = operation.startswith("train")
    with torch.set_grad_enabled(training):
        given = side.encode(pictures.detach()) if operation == "decode" else None
        run = operations(side, optimizer, pictures, given)[operation]
        run()  # whatever is made once is made now: the optimizer's state, kernels, caches
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            rest = torch.cuda.memory_allocated()
            run()
            peak = torch.cuda.max_memory_allocated()
        else:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # the kernel's high-water mark starts again from here
            rest = _status("VmRSS")
            run()
            peak = _status("VmHWM")
    gradients = sum(weight.numel() * weight.element_size() for weight in side.model.parameters()) if training else 0
    return (peak - rest - gradients) / 1e6


def _status(key: str) -> int:
    """Bytes, from what Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def memory_apart(name: str, operation: str, steps: int, device: str) -> float:
    """``memory``, of a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, operation, "--steps", str(steps), "--device", device]
    exact = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed memory goes back at once, so that what is counted is in use
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | exact)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.splitlines()[-1])


def memories(device: str, steps: tuple[int, int]) -> dict:
    """MB of a training step at two K, and of the other operations at the smaller one."""
    few, many = steps

    def of(operation, sides=SIDES):
        return {name: {k: memory_apart(name, operation, k, device) for k in steps} for name in sides}

    exact, mixed, ours = of("train_float32"), of("train_bfloat16"), of("train_checkpointed", ["ours"])["ours"]
    return {
        "ratio": exact["normflows"][many] / ours[many],  # as each trains by default
        "ratio_same_precision": mixed["normflows"][many] / ours[many],
        "ratio_same_precision_kept": mixed["normflows"][many] / mixed["ours"][many],
        "growth": ours[many] / ours[few] - 1,
        "checkpoint": PAPER.checkpoint,
        "steps": steps,
        "train_float32_mb": exact,
        "train_bfloat16_mb": {"ours, checkpointed": ours, **mixed},
        "other_operations_mb": {
            operation: {name: memory_apart(name, operation, few, device) for name in SIDES}
            for operation in ("encode", "decode", "sample")
        },
    }


def cpu_profile(rounds: int) -> dict:
    """Milliseconds of the default profile's flow, one picture at a time."""
    pictures = pictures_for(1, "cpu")
    torch.manual_seed(0)
    model = Glow(GlowConfig())
    model.initialise(pictures)
    spent = {"encode_ms": [], "decode_ms": []}
    with torch.no_grad():
        for _ in range(rounds):
            spent["encode_ms"].append(1e3 * _timed(partial(model, pictures), "cpu"))
            spent["decode_ms"].append(1e3 * _timed(partial(model.inverse, torch.randn(1, SIDE**2)), "cpu"))
    return {name: float(np.median(values)) for name, values in spent.items()}


def summary(seconds: dict, batch: int) -> dict:
    """Medians and ratios of what ``times`` returned."""

    def against(operation, peers_do=None):
        ours, peers = np.array(seconds[operation]["ours"]), seconds[peers_do or operation]
        found = {"seconds": {name: float(np.median(values)) for name, values in seconds[operation].items() if values}}
        for name in SIDES[1:]:
            ratios = np.array(peers[name]) / ours
            spread = {"ratio": float(np.median(ratios)), "least": float(ratios.min()), "most": float(ratios.max())}
            found[name] = spread
        return found | {"ratio": found["normflows"]["ratio"]}

    rows = {operation: against(operation) for operation in OPERATIONS if operation != "train_checkpointed"}
    rows["train_checkpointed"] = against("train_checkpointed", "train_bfloat16")
    kept, again = (np.array(seconds[operation]["ours"]) for operation in ("train_bfloat16", "train_checkpointed"))
    return {
        "train_step": {
            "ratio": against("train_bfloat16", "train_float32")["ratio"],  # in each side's own precision
            "ratio_same_precision": rows["train_bfloat16"]["ratio"],
            "ratio_float32": rows["train_float32"]["ratio"],
            "ratio_checkpointed": against("train_checkpointed", "train_float32")["ratio"],
            "ratio_same_precision_checkpointed": rows["train_checkpointed"]["ratio"],
            "price_of_checkpointing": float(np.median(again / kept)) - 1,
            "pictures_a_second": batch / float(np.median(again)),
            "float32": rows["train_float32"],
            "bfloat16": rows["train_bfloat16"],
            "checkpointed": rows["train_checkpointed"],
        },
        **{operation: rows[operation] for operation in ("encode", "decode", "sample")},
    }


def share_of_peak(steps: int, batch: int, pictures_a_second: float) -> dict:
    """Useful operations a second, as a share of the card's peak (Chowdhery et al. 2022: no recomputation counted)."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = Glow(replace(PAPER.glow, steps=steps))
        with FlopCounterMode(display=False) as counter:
            model.log_likelihood(torch.empty(1, 1, SIDE, SIDE)).sum().backward()
    achieved = counter.get_total_flops() * pictures_a_second
    card = torch.cuda.get_device_name()
    peak = next((peak for name, peak in BFLOAT16_PEAK.items() if name in card), None)
    return {"card": card, "flops_a_second": achieved, "share_of_bfloat16_peak": peak and achieved / peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=2, help="K of the timed model; default 2")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory-of", nargs=2, metavar=("SIDE", "OPERATION"), help="of one, at --steps; in MB")
    parser.add_argument("--memory-steps", type=int, nargs=2, default=(8, 32), help="the two K of the memory table")
    options = parser.parse_args()
    if options.memory_of:
        print(memory(*options.memory_of, options.steps, options.device))
        return
    seconds = times(options.steps, options.batch, options.device, options.rounds)
    found = {
        "model": {"levels": LEVELS, "steps": options.steps, "hidden": HIDDEN, "batch": options.batch},
        **summary(seconds, options.batch),
        "memory": memories(options.device, options.memory_steps),
        "rounds": options.rounds,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "amx": torch.cpu._is_amx_tile_supported(),
        "torch": torch.__version__,
    }
    if options.device == "cuda":
        found |= share_of_peak(options.steps, options.batch, found["train_step"]["pictures_a_second"])
    else:
        found["cpu_profile"] = cpu_profile(options.rounds)
    results = (json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}) | (
        found if options.device == "cpu" else {"cuda": found}
    )
    print(json.dumps(results, indent=1))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
