"""Training: pictures and a profile -> weights. One loop on Lightning Fabric, with a log and exact resume.

All random numbers of a step (its pictures, their augmentation and noise) are drawn from (seed, step). A
training that was stopped and resumed therefore takes the same steps, and processes share a batch without
communication.
"""

from __future__ import annotations

import json
import math
import platform
import re
import signal
import sys
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .augmentation import training_batch
from .base import InputError, OtherTrainingError, TrainingError, locked, save_atomically
from .checkpoint import (
    glow_config,
    load_model,
    model_folder,
    read_config,
    read_tensors,
    save_model,
    write_tensors,
)
from .corpus import Corpus
from .devices import choose_arithmetic, compile_where_it_pays, processor_name, start_fabric
from .glow import Glow
from .initialise import fit_last_prior, initialise
from .profiles import PROFILES, Profile
from .spectrogram import Observation, images, quantize, usable

MAX_CHECKPOINTS = 3  # older ones are removed
PATIENCE = 5  # steps in a row without a finite gradient, before training gives up
VERSIONS = ("torch", "numpy", "lightning-fabric", "safetensors")  # written to config.json
# Attributes of a training in its checkpoints, and older names of them and of profile fields.
STATE = ("step", "seconds", "best_bits", "best_step", "bits", "skipped", "failures", "autocast")
RENAMED = {
    "heard": "bits", "in_a_row": "failures", "pieces": "accumulate", "look": "eval_interval",
    "looked_at": "eval_pictures", "fitted_to": "prior_pictures",
}  # fmt: skip
REMOVED = (("gain_db", 0.0), ("shift", 0))  # fields of older profiles that no training used


def train(
    corpus: Corpus,
    folder: Path,
    profile: Profile = PROFILES["vowel"],
    seed: int = 0,
    minutes: float = math.inf,
    resume: bool = False,
    devices: int = 1,
    nodes: int = 1,
    start_from: str | Path | None = None,
) -> Glow:
    """Train a flow on the train speakers of a corpus and save it.

    Each evaluation adds a row to ``log.csv`` in ``folder`` (step, bits per dimension of train and validation
    speakers, steps skipped so far, pictures per second, seconds) and writes ``checkpoint-STEP.safetensors``. At
    the end, ``model.safetensors`` gets the weights and ``config.json`` their settings. SIGINT and SIGTERM end
    the training after the current step, with a checkpoint. A step whose gradient is not finite is skipped.

    Args:
        minutes: time limit, which includes saving; at least one step is taken.
        resume: continue from the newest readable checkpoint in ``folder``; start if there is none.
        devices: GPUs of each node, or processes where there is no GPU, that share each batch.
        nodes: machines, each with this number of devices.
        start_from: a model, as ``load_model`` takes it, whose weights are the first ones.

    Returns:
        The flow with the averaged weights that cost validation speakers least.

    Raises:
        InputError: no train speakers; a folder that holds a training, or with ``resume`` a different one; a
            model of another shape to start from; devices that are not available or cannot share a batch.
        TrainingError: too many steps in a row without a finite gradient.
        KeyboardInterrupt: a signal asked to stop.
    """
    clock, folder, corpus = _Clock(minutes), Path(folder), usable(corpus, profile.observation)
    if not len(corpus.split["train"]):
        raise InputError(f"{corpus.name} has no train speakers to learn from; give more speakers")
    origin = _load_origin(start_from, profile) if start_from else None
    fabric = start_fabric(devices, nodes, profile)
    lock = locked(folder, "training") if fabric.is_global_zero else nullcontext()
    with lock, _stop_signals() as signals:
        run = _Training(corpus, profile, seed, folder, fabric, origin)
        run.restore(resume)
        run.prepare()
        ending = run.take_steps(clock, signals)
        if run.chief and ending in ("finished", "out of time"):
            run.save_weights(folder, *run.chosen, until=clock.end - 2 * clock.longest["save"])
        fabric.barrier()  # a process that exits early can end the others
    if ending == "failed":
        raise TrainingError(
            f"no finite gradient in {run.failures} steps in a row, the last of them step {run.step - 1};"
            f" {folder} holds the checkpoints. Train again with a learning rate below {profile.learning_rate:g}"
        )
    if ending == "stopped" or signals:
        raise KeyboardInterrupt(
            f"stopped after step {run.step} of {profile.iterations}, which is saved in {folder}; the same"
            " command with --resume continues"
        )
    return run.chosen[0]


def _load_origin(name: str | Path, profile: Profile) -> tuple[Glow, dict]:
    """The model to start from, and its ``config.json``; ``InputError`` if it does not fit the profile."""
    model, folder = load_model(name), model_folder(name)
    if model.config != profile.glow:
        raise InputError(
            f"{folder} is a flow of {replace(profile, glow=model.config).observation.name!r} pictures with"
            f" {_differences(asdict(model.config), asdict(profile.glow))}, and this training is of"
            f" {profile.observation.name!r} pictures; choose the profile it was trained with"
        )
    return model, {"name": folder.name} | read_config(folder)


class _Training:
    """The state of a training: three flows, the optimizer, and the attributes that ``STATE`` names.

    Attributes:
        average, best: the flow with averaged weights, and as it was at the best evaluation.
        bits: bits per dimension in each step since the last evaluation.
        failures: steps in a row without a finite gradient.
        chief: whether this is the process that evaluates and writes.
    """

    def __init__(self, corpus: Corpus, profile: Profile, seed: int, folder: Path, fabric, origin=None):
        self.corpus, self.profile, self.seed, self.folder, self.fabric = corpus, profile, seed, folder, fabric
        self.speech, self.chief = corpus.split["train"], fabric.is_global_zero
        model, self.origin = origin or (_initial_flow(self.speech, profile, seed), {})
        self.model = model.to(fabric.device).train().requires_grad_(True)
        self.average, self.best = (deepcopy(model).eval().requires_grad_(False) for _ in range(2))
        optimizers = {"Adam": partial(torch.optim.Adam, fused=True), "Adamax": torch.optim.Adamax}
        self.optimizer = optimizers[profile.optimizer](model.parameters(), lr=profile.learning_rate)
        # What a checkpoint must have in common with the training that resumes it.
        self.identity = json.dumps([asdict(profile), corpus.fingerprint, seed, self.origin.get("sha256", "")])
        self.autocast = profile.autocast  # None until ``prepare`` has found what is faster
        self.step, self.seconds, self.skipped, self.failures = 0, 0.0, 0, 0
        self.bits, self.best_bits, self.best_step = [], math.inf, 0

    def prepare(self) -> None:
        """Choose precision and threads, compile on a GPU, and start or continue the log."""
        if self.fabric.all_reduce(torch.tensor(float(self.step))) != self.step:
            raise InputError(f"processes see different checkpoints in {self.folder}; all nodes must share it")
        batch = partial(training_batch, self.speech, self.profile, self.seed, self.step)
        self.arithmetic = choose_arithmetic(
            self.model, self.autocast, self.profile.checkpoint, batch, self.fabric
        )
        self.autocast = self.arithmetic["precision"] == "bfloat16"
        compile_where_it_pays(self.model)
        self.wrapped, self.stepper = self.fabric.setup(self.model, self.optimizer)
        self.wrapped.mark_forward_method("log_likelihood")
        if self.chief:
            speech = self.corpus.held_out("valid").draw(self.profile.eval_pictures, by=("split",))
            observation = self.profile.observation
            self.levels = quantize(images(speech, observation=observation)) if len(speech) else torch.empty(0)
            _start_log(self.folder / "log.csv", self.step)
        self.logged = self.step, time.monotonic()

    def take_steps(self, clock: _Clock, signals: list) -> str:
        """Take the remaining steps; returns "finished", or why not: "out of time", "stopped" or "failed"."""
        if self.chief:
            with clock.measure("save"):
                self.save()
        total, before, ending = self.profile.iterations, self.seconds, "finished"
        # The last prior gets a twentieth of the time.
        spare = (clock.end - clock.start) / 20 if self.model.axes and clock.end < math.inf else 0.0
        disable = None if self.chief else True  # None: the bar is shown in a terminal only
        steps = range(self.step, total)
        bar = tqdm(steps, "training", total, initial=self.step, unit="step", mininterval=0.5, disable=disable)
        for step in bar:
            with clock.measure("step"):
                bits, norm = self.gradient(step)
                # Time for the rest of this step and another one, and for what follows them.
                late = not clock.allows("step", "step", "evaluation", "save", "save", spare=spare)
                numbers = torch.stack([bits, norm, *bits.new_tensor([bool(signals), late])])
                bits, norm, stopped, late = self.fabric.all_reduce(numbers).tolist()
                self.update(bits, norm)
            self.seconds = before + time.monotonic() - clock.start
            if self.failures >= PATIENCE or stopped or late:
                ending = "failed" if self.failures >= PATIENCE else "stopped" if stopped else "out of time"
            evaluation = self.step % self.profile.eval_interval == 0 or self.step == total
            if evaluation:
                with clock.measure("evaluation"):
                    self.evaluate(bar)
            if self.chief and self.pictures(self.step) in self.profile.snapshots:
                folder = self.folder / f"{self.pictures(self.step) // 1000}k"
                self.save_weights(folder, deepcopy(self.average), self.step)
            if self.chief and (evaluation or ending != "finished"):
                with clock.measure("save"):
                    self.save()
            if ending != "finished":
                break
        return ending

    def gradient(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the gradient of a step; returns this device's bits per dimension and the norm."""
        profile, total = self.profile, 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = profile.learning_rate * schedule(step, profile)
        parts = training_batch(self.speech, profile, self.seed, step, self.fabric).chunk(profile.accumulate)
        for place, y in enumerate(parts):
            with self.fabric.no_backward_sync(self.wrapped, enabled=place < len(parts) - 1):
                likelihood = self.wrapped.log_likelihood(y, self.autocast, profile.checkpoint)
                bits = (8 - likelihood.mean() / math.log(2) / y[0].numel()) / len(parts)
                self.fabric.backward(100 * bits)
            total = total + bits.detach()
        clip = {"max_norm": profile.clip, "error_if_nonfinite": False}
        return total, self.fabric.clip_gradients(self.wrapped, self.stepper, **clip)

    def update(self, bits: float, norm: float) -> None:
        """Change the weights and their average, if the gradient is finite."""
        finite = math.isfinite(bits + norm)
        if finite:
            self.stepper.step()
            decay = min(self.profile.average, (self.step + 1) / (self.step + 10))
            weights = [weight.detach() for weight in self.model.parameters()]
            torch._foreach_lerp_(list(self.average.parameters()), weights, 1 - decay)
            self.bits.append(bits)
        elif self.chief:
            text = f"step {self.step}: {bits:g} bits per dimension, gradient of norm {norm:g}; skipped"
            tqdm.write(text, sys.stderr)
        self.stepper.zero_grad(set_to_none=True)
        self.step += 1
        self.skipped += not finite
        self.failures = 0 if finite else self.failures + 1

    def evaluate(self, bar: tqdm) -> None:
        """Evaluate the averaged weights on validation speakers, keep the best, and log."""
        valid = self.fabric.broadcast(_mean_bits(self.average, self.levels) if self.chief else None)
        if valid < self.best_bits:
            self.best_bits, self.best_step = valid, self.step
            self.best.load_state_dict(self.average.state_dict())
        if self.chief:
            now, train = time.monotonic(), np.mean(self.bits) if self.bits else math.nan
            rate = self.profile.batch * (self.step - self.logged[0]) / (now - self.logged[1])
            self.logged = self.step, now
            with open(self.folder / "log.csv", "a", newline="") as file:
                file.write(
                    f"{self.step},{train:.5f},{valid:.5f},{self.skipped},{rate:.1f},{self.seconds:.1f}\n"
                )
            text = f"bits {train:.3f}, validation speakers {valid:.3f}, {rate:.0f} pictures/s"
            bar.set_postfix_str(text)
            if bar.disable:
                print(f"step {self.step} of {self.profile.iterations}: {text}", file=sys.stderr, flush=True)
        self.bits = []

    def pictures(self, step: int) -> int:
        """The number of pictures that the weights at a step have learned from."""
        before = self.origin.get("steps", 0) * self.origin.get("profile", {}).get("batch", 1)  # older files
        return self.profile.batch * step + self.origin.get("pictures", before)

    @property
    def chosen(self) -> tuple[Glow, int]:
        """The best averaged weights and their step; before the first evaluation, the newest."""
        return (self.best, self.best_step) if math.isfinite(self.best_bits) else (self.average, self.step)

    def save_weights(self, folder: Path, model: Glow, step: int, until: float = math.inf) -> None:
        """Fit the last prior of a flow and save it, with the settings it depends on."""
        fit_axes(model, self.speech, self.profile, self.seed, until)
        save_model(folder, model, self.about(step))

    def save(self) -> None:
        """Write ``checkpoint-STEP.safetensors``, and remove all but the newest checkpoints."""
        flows = {"model": self.model, "average": self.average, "best": self.best}
        tensors = {
            f"{flow}/{name}": value for flow in flows for name, value in flows[flow].state_dict().items()
        }
        for place, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{place}/{name}": value for name, value in state.items()}
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        about = {"identity": self.identity, "run": json.dumps({name: getattr(self, name) for name in STATE})}
        write_tensors(self.folder / f"checkpoint-{self.step:07d}.safetensors", tensors, about)
        unfinished = self.folder.glob(".checkpoint-*")  # by a training that was killed
        for old in [*checkpoints(self.folder)[:-MAX_CHECKPOINTS], *unfinished]:
            old.unlink()

    def restore(self, resume: bool) -> None:
        """Take the state of the newest readable checkpoint, if the folder holds a training."""
        folder = self.folder
        if not checkpoints(folder) and not (folder / "model.safetensors").exists():
            return
        if not resume:
            raise InputError(
                f"{folder} holds a training already; continue it with --resume (resume=True) or use another folder"
            )
        path, about, tensors = _newest(folder)
        theirs, ours = (_settings(identity) for identity in (about["identity"], self.identity))
        if theirs != ours:
            raise OtherTrainingError(
                f"{path} was made with {_differences(theirs, ours)}; use another folder (--out)"
            )
        parts = defaultdict(dict)
        for name, value in tensors.items():
            part, _, name = name.partition("/")
            parts[part][name] = value
        for flow in ("model", "average", "best"):
            getattr(self, flow).load_state_dict(parts[flow])
        optimizer = self.optimizer.state_dict()
        for name, value in parts["adam"].items():
            place, key = name.split("/")
            optimizer["state"].setdefault(int(place), {})[key] = value
        self.optimizer.load_state_dict(optimizer)
        for name, value in json.loads(about["run"]).items():
            setattr(self, RENAMED.get(name, name), value)

    def about(self, step: int) -> dict:
        """``config.json`` for the weights of a step: all settings that they depend on."""
        corpus, profile, origin = self.corpus, asdict(self.profile), self.origin
        gpu, processes = self.fabric.device.type == "cuda", self.fabric.world_size
        machine = torch.cuda.get_device_name() if gpu else processor_name()
        return {
            **described(corpus, self.profile.observation),
            "glow": profile.pop("glow"),
            "profile": profile,
            "seed": self.seed,
            "steps": self.step,
            "pictures": self.pictures(step),
            "started_from": {"model": origin["name"], "sha256": origin["sha256"]} if origin else None,
            "minutes": round(self.seconds / 60, 1),
            "machine": machine + (f", {processes} processes" if processes > 1 else ""),
            "arithmetic": self.arithmetic,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
        }


def described(corpus: Corpus, observation: Observation) -> dict:
    """What ``config.json`` says of the speech that a model was trained on."""
    return {
        "corpus": corpus.name,
        "fingerprint": corpus.fingerprint,
        "licence": corpus.licence,
        "observation": observation.name,
        "vowels": sorted(corpus.table.phone.unique()),
        "speakers": {name: sorted(of) for name, of in corpus.table.groupby("split").speaker.unique().items()},
        "segments": corpus.table.split.value_counts().to_dict(),
    }


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(Path(folder).glob("checkpoint-*.safetensors"))


def _newest(folder: Path) -> tuple[Path, dict, dict]:
    """The newest readable checkpoint, its metadata and tensors; ``OtherTrainingError`` if there is none."""
    for path in reversed(checkpoints(folder)):
        try:
            return path, *read_tensors(path)
        except InputError as error:
            warnings.warn(f"{error}; using the checkpoint before it", stacklevel=4)
    raise OtherTrainingError(f"{folder} holds a training without a readable checkpoint; use another folder")


def _settings(identity: str) -> dict:
    """The identity of a training as a flat dict with today's names."""
    profile, corpus, seed, *origin = json.loads(identity)
    profile = {RENAMED.get(name, name): value for name, value in profile.items()}
    profile = {name: value for name, value in profile.items() if (name, value) not in REMOVED}
    glow = {f"glow {name}": value for name, value in asdict(glow_config(profile)).items()}
    profile |= glow | {"glow": None, "steps": profile.pop("iterations"), "corpus": corpus, "seed": seed}
    return profile | {"start_from": "".join(origin) or None}


def _differences(theirs: dict, ours: dict) -> str:
    """The settings that differ, with both values."""
    return ", ".join(
        f"{name} {theirs.get(name)} (not {ours[name]})" for name in ours if theirs.get(name) != ours[name]
    )


class _Clock:
    """A time limit, and the longest time in seconds that each kind of work has taken."""

    def __init__(self, minutes: float):
        self.start, self.longest = time.monotonic(), {}
        self.end = self.start + 60 * minutes

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.longest[kind] = max(self.longest.get(kind, 0.0), time.monotonic() - start)

    def allows(self, *kinds: str, spare: float = 0.0) -> bool:
        """Whether there is time for this work and ``spare`` seconds; unmeasured work counts as ten steps."""
        unknown = 10 * self.longest.get("step", 0.0)
        return time.monotonic() + sum(self.longest.get(kind, unknown) for kind in kinds) < self.end - spare


def _start_log(path: Path, step: int) -> None:
    """Start ``log.csv``, or keep its rows up to a step; a power failure may have left incomplete ones."""
    lines = path.read_text(errors="replace").splitlines() if step and path.is_file() else []
    lines = [line for line in lines if re.fullmatch(r"\d+(,[\d.naif-]+){5}", line)]
    lines = [line for line in lines if int(line.split(",")[0]) <= step]
    text = "\n".join(["step,train,valid,skipped,pictures_per_second,seconds", *lines, ""])
    save_atomically(path, lambda file: file.write_text(text))


@contextmanager
def _stop_signals() -> Iterator[list]:
    """A list that receives the first signal that asks to stop; a second one acts as usual.

    These are SIGINT, SIGTERM, and SIGUSR1, which cluster schedulers send as a warning.
    """
    received = []
    with ExitStack() as handlers:  # closing it restores the usual ones

        def receive(number, _):
            received.append(number)
            handlers.close()

        if threading.current_thread() is threading.main_thread():  # others cannot set handlers
            for name in {"SIGINT", "SIGTERM", "SIGUSR1"}.intersection(dir(signal)):  # Windows has no SIGUSR1
                number = getattr(signal, name)
                handlers.callback(signal.signal, number, signal.getsignal(number))
                signal.signal(number, receive)
        yield received


def untrained_flow(corpus: Corpus, profile: Profile, seed: int = 0) -> Glow:
    """The flow at the start of training: actnorm is set, and couplings are the identity."""
    return _initial_flow(usable(corpus.split["train"], profile.observation), profile, seed)


def _initial_flow(speech: Corpus, profile: Profile, seed: int) -> Glow:
    torch.manual_seed(seed)
    model = Glow(profile.glow)
    batch = profile.batch if profile.glow.tail is None else 64  # principal axes need more pictures
    plain = replace(profile, batch=batch, trim=0, speed=0, noise_db=None)
    initialise(model, training_batch(speech, plain, seed, 0))
    return model.eval().requires_grad_(False)


def fit_axes(model: Glow, speech: Corpus, profile: Profile, seed: int = 0, until: float = math.inf) -> None:
    """Fit the last prior of a flow that has axes to pictures that are read before ``until`` (monotonic time)."""
    profile = replace(profile, batch=8, trim=0, speed=0)  # noise stays: the flow has learned it
    count = min(len(speech), profile.prior_pictures)
    steps = takewhile(lambda _: time.monotonic() <= until, range(math.ceil(count / 8)))
    if model.axes:
        fit_last_prior(model, (training_batch(speech, profile, seed, step) for step in steps))


def schedule(step: int, profile: Profile) -> float:
    """The learning rate of a step, relative to the profile's: a linear rise, constant, a cosine to 0."""
    rise = min(1.0, (step + 1) / max(profile.warmup, 1))
    fallen = max(0.0, 1 - (1 - step / profile.iterations) / profile.decay)
    return rise * 0.5 * (1 + math.cos(math.pi * fallen))


def _mean_bits(model: Glow, levels: torch.Tensor) -> float:
    """Mean bits per dimension of pictures, given as levels; NaN if there are none."""
    return model.bits_per_dim((levels + 0.5) / 256, draws=1).mean().item() if len(levels) else math.nan
