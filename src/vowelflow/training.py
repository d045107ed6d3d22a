"""Training: pictures and a profile -> weights. One loop on Lightning Fabric, with a log and an exact resume.

Every random choice of a step, its pictures and all their noise, is drawn from (seed, step), so a
run that was stopped and resumed takes the very steps it would have taken, and several processes
agree on what is whose without a word.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import math
import os
import platform
import re
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import load_file
from tqdm import tqdm

from .checkpoint import load_model, model_folder, save_model, write_tensors
from .corpus import FRAMES, HOP, Corpus, InputError, TrainingError, frames_in, save_atomically
from .glow import Glow, GlowConfig
from .spectrogram import (
    RATE,
    Observation,
    add_noise,
    central,
    evenly_seen,
    faster,
    images,
    observation_of,
    pictures_of,
    quantize,
    usable,
)

KEPT = 3  # checkpoints, the newest ones
PATIENCE = 5  # steps in a row without a finite gradient, before training gives up
RECORDED = ("torch", "numpy", "lightning-fabric", "safetensors")  # versions told beside the weights


@dataclass(frozen=True)
class Profile:
    """What a training run may choose."""

    glow: GlowConfig = GlowConfig()
    iterations: int = 12_500  # optimizer steps, the horizon of the schedule
    batch: int = 4  # pictures a step, over all devices
    pieces: int = 1  # in which a device goes through its share of a batch (gradient accumulation)
    optimizer: str = "Adam"  # or Adamax
    learning_rate: float = 1.5e-3
    warmup: int = 100  # steps of linear rise
    decay: float = 1.0  # the share of the steps, at the end, over which the rate falls to nothing by a cosine
    clip: float = 100.0  # largest norm of a gradient, of bits per dimension times 100
    average: float = 0.9995  # of the exponential moving average of weights that analysis uses
    autocast: bool | None = None  # bfloat16 in the coupling networks, in training only; None: where it is faster
    checkpoint: int = 0  # steps whose inner activations are computed again rather than kept; 0 keeps all
    look: int = 500  # steps between looks at the validation speakers, and checkpoints
    looked_at: int = 128  # validation pictures at each look
    fitted_to: int = 10_000  # train tokens, at most, that the last prior is fitted to at the end
    snapshots: tuple[int, ...] = ()  # numbers of pictures after which averaged weights are saved beside the others
    # Augmentation. Aligners work in steps of 10 ms, and hand labels differ by as much.
    trim: int = 9  # segments end up to so many ms earlier, and in ``VOWEL`` pictures begin later, by a fifth at most
    speed: float = 0.0  # of ``VOWEL`` pictures: F0 and formants are up to this share higher or lower
    gain_db: float = 0.0  # of padded pictures: levels go up or down by up to so much before they are cut to 80 dB
    shift: int = 0  # of padded pictures: segments begin up to so many ms later, as far as their padding allows
    noise_db: tuple[float, float] | None = None  # half of the pictures get white noise, at a ratio between these

    @property
    def observation(self) -> Observation:
        return observation_of((self.glow.side, self.glow.frames))


# A profile is a few overrides of the defaults above.
VOWEL_PROFILE = Profile(speed=0.05)
# What the first edition of the study was measured with: smaller flows of padded pictures, without tails.
FIRST_GLOW = GlowConfig(
    288, 288, ((2, 2),) * 5, 8, (16, 32, 64, 96, 128), prior=0, tail=None, rows=False, axes=0, last=3, coupling=2.0
)  # fmt: skip
CPU = Profile(
    FIRST_GLOW, 24_000, batch=2, learning_rate=3e-3, warmup=400, clip=50.0, average=0.999, looked_at=64
)  # fmt: skip
PROFILES = {
    "vowel": VOWEL_PROFILE,
    "vowel-noise": replace(VOWEL_PROFILE, noise_db=(0.0, 20.0)),  # hears noise, for the paper's section 4.5
    "padded": replace(VOWEL_PROFILE, glow=GlowConfig(
        288, 288, squeeze=((2, 8), (2, 2), (2, 2), (2, 1), (2, 1), (3, 1), (1, 3), (3, 1)),
        steps=(8, 8, 8, 8, 4, 4, 4, 4), hidden=(64, 128, 128, 128, 96, 96, 64, 64),
    ), speed=0),
    "cpu": CPU,
    "cpu-noise": replace(CPU, noise_db=(0.0, 20.0)),
    "cpu-crop": replace(CPU, glow=replace(CPU.glow, frames=64)),  # sees the middle 64 ms, and no padding
    "smoke": replace(
        CPU, glow=replace(FIRST_GLOW, squeeze=((2, 2),) * 2, steps=1, hidden=(4, 4)), iterations=6, look=3, looked_at=2,
        autocast=False,
    ),
    # The shape and optimizer that the implementation the paper used has by default, since the paper states none.
    # It differs in schedule (Noam), batch (48), clipping (by value 5, then norm 100) and noise (Gaussian).
    "paper": Profile(
        replace(FIRST_GLOW, squeeze=((2, 2),) * 3, steps=32, hidden=(512, 512, 512), scale="sigmoid"),
        iterations=50_000,
        batch=16,
        learning_rate=1e-3,
        checkpoint=4,
    ),
}  # fmt: skip


def profile_named(name: str) -> Profile:
    """The profile of this name, or ``InputError``."""
    if name not in PROFILES:
        raise InputError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]


def train(
    corpus: Corpus,
    folder: Path,
    profile: Profile = VOWEL_PROFILE,
    seed: int = 0,
    minutes: float = math.inf,
    resume: bool = False,
    devices: int = 1,
    nodes: int = 1,
    show: Callable = tqdm,
    start_from: str | Path | None = None,
) -> Glow:
    """Train a flow on the corpus's train speakers and save it, with everything to go on from.

    Writes into ``folder``: ``log.csv`` (step, bits per dimension of training and validation speakers,
    steps skipped so far, pictures a second, seconds) and ``checkpoint-STEP.safetensors`` at every look;
    and at the end, or before ``minutes`` have passed, or when asked to stop by SIGINT or SIGTERM, a last
    checkpoint and, unless so asked, the weights ``model.safetensors`` with their ``config.json``. A step
    whose gradient is not finite changes nothing. A call takes one step at least.

    Args:
        minutes: stop in time for everything to be saved within so many.
        resume: go on from the newest checkpoint in ``folder`` that can be read; without any, start.
        devices: GPUs of a node, or processes where there is none, that share each batch.
        nodes: machines, each with as many devices.
        start_from: a model, as ``load_model`` takes it, whose weights training begins with, with a fresh optimizer:
            for when its checkpoints are gone, or for a variant of it.

    Returns:
        The flow with averaged weights, as they were when validation speakers cost least.

    Raises:
        InputError: no train speakers; a folder that holds a training already, or with ``resume`` a different one;
            a model of another shape to start from; devices that are not there, or cannot share a batch.
        TrainingError: too many steps in a row without a finite gradient.
        KeyboardInterrupt: it was asked to stop.
    """
    clock, folder = _Clock(minutes), Path(folder)
    # A twentieth of the time is left for the last prior.
    fitting = 3 * minutes if profile.glow.axes and minutes < math.inf else 0.0
    corpus = usable(corpus, profile.observation)
    speech = corpus.split["train"]
    if not len(speech):
        raise InputError(f"{corpus.name} has no train speakers to learn from; give more speakers")
    origin = _Origin.of(start_from, profile) if start_from else None
    fabric = _fabric(devices, nodes, profile)
    chief = fabric.is_global_zero  # the process that looks and writes
    with alone(folder, "training") if chief else nullcontext(), _asked_to_stop() as asked:
        model = load_model(origin.folder) if origin else untrained_flow(corpus, profile, seed)
        run = _Run(model.to(fabric.device), profile, _identity(corpus, profile, seed, origin))
        run.restore(folder, resume)
        if fabric.all_reduce(torch.tensor(float(run.step))) != run.step:
            raise InputError(
                f"processes see different checkpoints in {folder}; it must be one folder that all nodes share"
            )
        way = settle(run, _batch(speech, profile, seed, run.step), fabric)
        compile_where_it_pays(run.model)
        model, optimizer = fabric.setup(run.model, run.optimizer)
        model.mark_forward_method("log_likelihood")
        if chief:
            watched, log = _watched(corpus, profile), _Log(folder, run.step, profile.batch)
            with clock.measure("save"):
                run.save(folder)
        in_a_log = show is tqdm and not sys.stderr.isatty()  # where a bar would be one endless line
        bar = show(
            range(run.step, profile.iterations),
            initial=run.step,
            total=profile.iterations,
            desc="training",
            unit="step",
            mininterval=0.5,
            disable=in_a_log or not chief,
        )
        earlier, stopped, late, hopeless = run.seconds, False, False, False
        for step in bar:
            with clock.measure("step"):
                for group in optimizer.param_groups:
                    group["lr"] = profile.learning_rate * _schedule(step, profile)
                bits = _gradient(fabric, model, _batch(speech, profile, seed, step, fabric), run)
                norm = fabric.clip_gradients(model, optimizer, max_norm=profile.clip, error_if_nonfinite=False)
                late = not clock.allows(
                    "step", "step", "look", "save", "save", spare=fitting
                )  # the rest of this one, another
                told = torch.stack([bits, norm, *bits.new_tensor([bool(asked), late])])
                bits, norm, stopped, late = fabric.all_reduce(told).tolist()
                taken = math.isfinite(bits + norm)
                if taken:
                    optimizer.step()
                else:
                    bar.write(
                        f"step {step}: {bits:g} bits per dimension, gradient of norm {norm:g}; skipped", sys.stderr
                    )
                optimizer.zero_grad(set_to_none=True)
                run.count(bits, taken)
            run.seconds = earlier + clock.passed()
            look, hopeless = run.step % profile.look == 0 or run.step == profile.iterations, run.in_a_row >= PATIENCE
            if look:
                with clock.measure("look"):
                    valid = fabric.broadcast(_mean_bits(run.average, watched) if chief else None)
                run.keep_best(valid)
                if chief:
                    told = log.write(run, valid)
                    bar.set_postfix_str(told)
                    if in_a_log:
                        print(f"step {run.step} of {profile.iterations}: {told}", file=sys.stderr, flush=True)
                run.heard = []
            if chief and run.pictures(origin) in profile.snapshots:
                about = _about(run, run.step, corpus, seed, fabric, way, origin)
                snapshot = deepcopy(run.average)
                fit_axes(snapshot, speech, profile, seed)
                save_model(folder / f"{run.pictures(origin) // 1000}k", snapshot, about)
            if chief and (look or stopped or late or hopeless):
                with clock.measure("save"):
                    run.save(folder)
            if stopped or late or hopeless:
                break
        if chief and not (stopped or hopeless):
            best, step = run.chosen
            fit_axes(best, speech, profile, seed, clock.end - 2 * clock.longest["save"])
            save_model(folder, best, _about(run, step, corpus, seed, fabric, way, origin))
        fabric.barrier()  # a process that leaves early may take the others with it
    if hopeless:
        raise TrainingError(
            f"no finite gradient in {run.in_a_row} steps in a row, the last of them step {run.step - 1}; {folder} holds the"
            f" checkpoints. Train anew with a lower learning rate than {profile.learning_rate:g}"
        )
    if stopped or asked:
        raise KeyboardInterrupt(
            f"stopped after step {run.step} of {profile.iterations}, which is saved in {folder}; the same command with --resume goes on"
        )
    return run.chosen[0]


class _Run:
    """What a training is at one moment: all that a checkpoint holds."""

    def __init__(self, model: Glow, profile: Profile, identity: str):
        self.model = model.train().requires_grad_(True)
        self.average, self.best = (deepcopy(model).eval().requires_grad_(False) for _ in range(2))
        kinds = {"Adam": partial(torch.optim.Adam, fused=True), "Adamax": torch.optim.Adamax}
        self.optimizer = kinds[profile.optimizer](model.parameters(), lr=profile.learning_rate)
        self.profile, self.identity = profile, identity
        self.autocast = profile.autocast  # None until ``settle`` has found what is faster
        self.step, self.seconds = 0, 0.0
        self.best_bits, self.best_step = math.inf, 0  # no look yet
        self.heard: list[float] = []  # bits of each step since the last look
        self.skipped, self.in_a_row = 0, 0  # steps without a finite gradient

    def count(self, bits: float, taken: bool) -> None:
        """One more step, which the averaged weights follow if it was taken."""
        if taken:
            keep = min(self.profile.average, (self.step + 1) / (self.step + 10))
            weights = [weight.detach() for weight in self.model.parameters()]
            torch._foreach_lerp_(list(self.average.parameters()), weights, 1 - keep)
            self.heard.append(bits)
        self.step += 1
        self.skipped += not taken
        self.in_a_row = 0 if taken else self.in_a_row + 1

    def pictures(self, origin: _Origin | None, step: int | None = None) -> int:
        """How many pictures weights have learned from until now, or until a step, those of the model they started from included."""
        step = self.step if step is None else step
        return self.profile.batch * step + (origin.pictures if origin else 0)

    def keep_best(self, bits: float) -> None:
        """Keep the averaged weights if validation speakers never cost less."""
        if bits < self.best_bits:
            self.best_bits, self.best_step = bits, self.step
            self.best.load_state_dict(self.average.state_dict())

    @property
    def chosen(self) -> tuple[Glow, int]:
        """The best averaged weights and their step; where no look has told which are best, the newest."""
        return (self.best, self.best_step) if math.isfinite(self.best_bits) else (self.average, self.step)

    def save(self, folder: Path) -> None:
        """Write ``checkpoint-STEP.safetensors``, and remove all but the newest few."""
        parts = {"model": self.model, "average": self.average, "best": self.best}
        tensors = {f"{part}/{name}": value for part, flow in parts.items() for name, value in flow.state_dict().items()}
        for place, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{place}/{name}": value for name, value in state.items()}
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        about = {"identity": self.identity, "run": json.dumps({name: getattr(self, name) for name in RESTORED})}
        about["sha256"] = _digest(tensors)
        path = folder / f"checkpoint-{self.step:07d}.safetensors"
        write_tensors(path, tensors, about)
        for old in [*checkpoints(folder)[:-KEPT], *folder.glob(".checkpoint-*")]:  # the latter a kill left half written
            old.unlink()

    def restore(self, folder: Path, resume: bool) -> None:
        """Become what the newest checkpoint that can be read says; without any, stay at the start."""
        there = checkpoints(folder)
        if there and not resume:
            raise InputError(
                f"{folder} holds a training already, {there[-1].name}; go on with --resume (resume=True), or use another folder"
            )
        if (folder / "model.safetensors").exists() and not there:
            raise InputError(f"{folder} holds a trained flow, and no checkpoint to go on from; use another folder")
        path, about, tensors = _newest(folder)
        if not path:
            if there:
                raise InputError(f"no checkpoint in {folder} can be read; remove them, and start without resume")
            return
        if about["identity"] != self.identity:
            raise InputError(f"{path} was made with {_other(about['identity'], self.identity)}; use another folder")
        for part in ("model", "average", "best"):
            getattr(self, part).load_state_dict(_under(tensors, part))
        state = self.optimizer.state_dict()
        for name, value in _under(tensors, "adam").items():
            place, key = name.split("/")
            state["state"].setdefault(int(place), {})[key] = value
        self.optimizer.load_state_dict(state)
        for name, value in json.loads(about["run"]).items():
            setattr(self, name, value)


RESTORED = ("step", "seconds", "best_bits", "best_step", "heard", "skipped", "in_a_row", "autocast")


@dataclass(frozen=True)
class _Origin:
    """The model that a training starts from."""

    folder: Path
    sha256: str
    pictures: int  # that it has learned from

    @classmethod
    def of(cls, name: str | Path, profile: Profile) -> _Origin:
        """``InputError`` if there is no such model, or it is of another shape or observation than the profile's flow."""
        folder, theirs = model_folder(name), load_model(name).config
        if theirs != profile.glow:
            differing = [
                f"{field} {getattr(theirs, field)} (not {value})"
                for field, value in asdict(profile.glow).items()
                if getattr(theirs, field) != value
            ]
            pictures = observation_of((theirs.side, theirs.frames)).name
            raise InputError(
                f"{folder} is a flow of {pictures!r} pictures with {', '.join(differing)}, and this training is of"
                f" {profile.observation.name!r} pictures; choose the profile that it was trained with"
            )
        config = json.loads((folder / "config.json").read_text())
        learned = config.get("pictures", config.get("steps", 0) * config.get("profile", {}).get("batch", 1))
        return cls(folder, config["sha256"], learned)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(Path(folder).glob("checkpoint-*.safetensors"))


def _newest(folder: Path) -> tuple[Path | None, dict, dict]:
    """The newest checkpoint that can be read, what it is about, and its tensors."""
    for path in reversed(checkpoints(folder)):
        try:
            with safe_open(path, "pt") as file:
                about, tensors = file.metadata(), load_file(path)
            if about["sha256"] != _digest(tensors) or json.loads(about["run"]).keys() != set(RESTORED):
                raise ValueError("it is not as it was written")
            return path, about, tensors
        except Exception as error:  # safetensors has no common exception of its own
            warnings.warn(f"{path} cannot be read ({error}); going back to the one before", stacklevel=4)
    return None, {}, {}


def _digest(tensors: dict) -> str:
    """SHA-256 of the names and contents of some tensors: safetensors keeps none of its own."""
    parts = (name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def can_go_on(folder: Path, corpus: Corpus, profile: Profile, seed: int) -> bool:
    """Whether ``train`` with these could go on in this folder, or start there."""
    path, about, _ = _newest(folder)
    if path:
        return about["identity"] == _identity(corpus, profile, seed)
    return not checkpoints(folder) and not (folder / "model.safetensors").exists()


def _under(tensors: dict, part: str) -> dict:
    return {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}


class _Clock:
    """A time slot, and the longest that each kind of work has taken in it."""

    def __init__(self, minutes: float):
        self.began = time.monotonic()
        self.end, self.longest = self.began + 60 * minutes, {}

    def passed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.longest[kind] = max(self.longest.get(kind, 0.0), time.monotonic() - began)

    def allows(self, *kinds: str, spare: float = 0.0) -> bool:
        """Whether there is time for all of these, and ``spare`` seconds; what has not been measured yet is taken to be like ten steps."""
        unknown = 10 * self.longest.get("step", 0.0)
        return time.monotonic() + sum(self.longest.get(kind, unknown) for kind in kinds) < self.end - spare


class _Log:
    """``log.csv``: a row a look. Rows after the step that a run goes on from are dropped."""

    def __init__(self, folder: Path, step: int, batch: int):
        self.path, self.batch = folder / "log.csv", batch
        rows = self.path.read_text(errors="replace").splitlines() if step and self.path.is_file() else []
        rows = [
            "step,train,valid,skipped,pictures_per_second,seconds",
            *(r for r in rows if re.fullmatch(r"\d+(,[\d.naif-]+){5}", r) and int(r.split(",")[0]) <= step),
        ]  # a machine that lost power may have left half a row
        save_atomically(self.path, lambda path: path.write_text("\n".join(rows) + "\n"))
        self.since = step, time.monotonic()

    def write(self, run: _Run, valid: float) -> str:
        """One row; returns what to show of it."""
        now, train = time.monotonic(), np.mean(run.heard) if run.heard else math.nan
        rate = self.batch * (run.step - self.since[0]) / (now - self.since[1])
        self.since = run.step, now
        with open(self.path, "a", newline="") as file:
            row = [run.step, f"{train:.5f}", f"{valid:.5f}", run.skipped, f"{rate:.1f}", f"{run.seconds:.1f}"]
            csv.writer(file, lineterminator="\n").writerow(row)
        return f"bits {train:.3f}, unseen speakers {valid:.3f}, {rate:.0f} pictures/s"


def _fabric(devices: int, nodes: int, profile: Profile):
    """Lightning Fabric over these devices, its processes launched."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", "Grad strides do not match"
    )  # of 1x1 kernels, whose order in memory is no one's matter
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    shares, tasks = devices * nodes * profile.pieces, os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))
    if min(devices, nodes, profile.pieces) < 1 or profile.batch % shares:
        raise InputError(
            f"a batch of {profile.batch} pictures cannot be shared by {devices} devices on {nodes} nodes in "
            f"{profile.pieces} pieces each; choose numbers whose product divides it"
        )
    if tasks not in ("1", str(devices * nodes)):
        raise InputError(
            f"{tasks} tasks were started, and {devices} devices on {nodes} nodes asked for; let devices times nodes be"
            " the number of tasks, or start one task"
        )
    accelerator, strategy = "cuda" if torch.cuda.is_available() else "cpu", "ddp" if devices * nodes > 1 else "auto"
    try:
        fabric = Fabric(accelerator=accelerator, strategy=strategy, devices=devices, num_nodes=nodes)
        fabric.launch()
    except (MisconfigurationException, RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"devices={devices}, nodes={nodes} cannot be had here: {error}") from None
    return fabric


@contextmanager
def alone(folder: Path, work: str) -> Iterator[None]:
    """Keep other processes that do such work out of a folder. The lock ends with the process, however it ends.

    Raises:
        InputError: another is in there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(f"another {work} is at work in {folder}; wait for it, or use another folder") from None


@contextmanager
def _asked_to_stop() -> Iterator[list]:
    """A list that is empty until a signal asks to stop: the step at hand is finished and saved first.

    SIGINT, SIGTERM, and SIGUSR1, which cluster schedulers send as a warning. A second one acts as it always does.
    """
    asked, before = [], {}

    def restore():
        for name, handler in before.items():
            signal.signal(name, handler)

    def note(number, _):
        asked.append(number)
        restore()

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
            if hasattr(signal, name):
                before[getattr(signal, name)] = signal.signal(getattr(signal, name), note)
    try:
        yield asked
    finally:
        restore()


def compile_where_it_pays(model: Glow) -> None:
    """On a GPU, with the C compiler that Triton needs, run steps compiled: once for each level, not for each step."""
    if next(model.parameters()).is_cuda and (shutil.which("cc") or shutil.which("gcc")):
        model.through = torch.compile(model.through, fullgraph=True)


def untrained_flow(corpus: Corpus, profile: Profile, seed: int = 0) -> Glow:
    """The flow as training starts from it: the null of every claim.

    Couplings do nothing yet; actnorm is set from the first batch of train speakers.
    """
    speech = usable(corpus.split["train"], profile.observation)
    torch.manual_seed(seed)
    model = Glow(profile.glow)
    first = profile.batch if profile.glow.tail is None else 64  # principal axes want more pictures
    plain = replace(profile, gain_db=0, shift=0, trim=0, speed=0, noise_db=None, batch=first)
    model.initialise(_batch(speech, plain, seed, 0))
    return model.eval().requires_grad_(False)


def fit_axes(model: Glow, speech: Corpus, profile: Profile, seed: int = 0, until: float = math.inf) -> None:
    """Fit the last prior of a flow that has axes to as many of these tokens as the profile says or as there is time for.

    Args:
        until: the moment of ``time.monotonic`` at which to stop.
    """
    plain = replace(profile, gain_db=0, shift=0, trim=0, speed=0, batch=8)  # noise stays: it is what the flow learned

    def batches():
        for step in range(math.ceil(min(len(speech), profile.fitted_to) / plain.batch)):
            if time.monotonic() > until:
                return
            yield _batch(speech, plain, seed, step)

    if model.axes:
        model.fit_axes(batches())


def settle(run: _Run, y: torch.Tensor, fabric) -> dict:
    """Choose the number of threads and, unless the run began with one or the profile says it, the precision.

    On a processor, bfloat16 is tried only where it has instructions for it, and threads only where the user has
    not said how many. Each way is timed on one step, so the work of others counts, and no more is tried after five seconds.

    Returns:
        What was chosen, and the seconds of each way that was tried.
    """
    if fabric.device.type != "cpu":
        run.autocast = True if run.autocast is None else run.autocast
        return {"precision": PRECISION[run.autocast]}
    most = torch.get_num_threads()
    threads = [most] if most == 1 or "OMP_NUM_THREADS" in os.environ or fabric.world_size > 1 else [1, most]
    precisions = [False, True] if has_bfloat16() else [False]
    if run.autocast is not None:
        precisions = [run.autocast]
    ways, spent, began = [(count, autocast) for autocast in precisions for count in threads], {}, time.monotonic()
    if len(ways) > 1:
        model = deepcopy(run.model)
        for count, autocast in ways:
            torch.set_num_threads(count)
            for _ in range(3):  # the first makes what is made once
                start = time.monotonic()
                model.log_likelihood(y, autocast, run.profile.checkpoint).mean().backward()
                seconds = time.monotonic() - start
                spent[count, autocast] = min(seconds, spent.get((count, autocast), math.inf))
            if time.monotonic() - began > 5 * (1 - 1 / len(ways)):
                break
    count, autocast = fabric.broadcast(min(spent, key=spent.get) if spent else ways[0])
    torch.set_num_threads(count)
    run.autocast = autocast
    tried = {
        f"{PRECISION[autocast]}, {count} threads": round(seconds, 4) for (count, autocast), seconds in spent.items()
    }
    if fabric.is_global_zero:
        print(
            f"training in {PRECISION[autocast]} with {count} threads; seconds a step: {tried or 'not tried'}",
            file=sys.stderr,
        )
    return {"precision": PRECISION[autocast], "threads": count, "seconds_a_step": tried}


PRECISION = {False: "float32", True: "bfloat16"}


def has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16; without them it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags))


def _gradient(fabric, model, y: torch.Tensor, run: _Run) -> torch.Tensor:
    """Bits per dimension of this device's share of a batch, whose gradient is left in the weights."""
    profile = run.profile
    pieces, total = y.chunk(profile.pieces), 0.0
    for place, piece in enumerate(pieces):
        with fabric.no_backward_sync(model, enabled=place < len(pieces) - 1):
            likelihood = model.log_likelihood(piece, run.autocast, profile.checkpoint)
            bits = (8 - likelihood.mean() / math.log(2) / piece[0].numel()) / len(pieces)
            fabric.backward(100 * bits)
        total = total + bits.detach()
    return total


def _batch(speech: Corpus, profile: Profile, seed: int, step: int, fabric=None) -> torch.Tensor:
    """The dequantized pictures of a step, or this device's share of them, made on the device that trains.

    Everything random is drawn for the whole batch, so it does not matter how many devices share it.
    """
    rows, seen = _draw(len(speech), profile.batch, seed, step), profile.observation
    rng = np.random.default_rng([seed, step, 1])
    samples = (speech.table.end - speech.table.start).to_numpy()[rows]
    noisy, ratios = rng.random(len(rows)) < 0.5, rng.uniform(*(profile.noise_db or (0, 0)), len(rows))
    rank, ranks, device = (fabric.global_rank, fabric.world_size, fabric.device) if fabric else (0, 1, "cpu")
    mine = np.arange(len(rows)).reshape(ranks, -1)[rank]
    clips = speech.clips([rows[place] for place in mine])
    if profile.noise_db:
        clips = [
            add_noise(ratios[place], seed)(f"{step} {place}", clip, samples[place]) if noisy[place] else clip
            for place, clip in zip(mine, clips)
        ]
    look = _look_evenly if seen.even else _look_padded
    pictures = look(clips, samples, mine, profile, rng, device)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    noise = torch.rand(len(rows), 1, *seen.shape, generator=generator)
    return (quantize(pictures) + noise[mine].to(device)) / 256


def _look_evenly(clips, samples, mine, profile: Profile, rng, device) -> torch.Tensor:
    """``VOWEL`` pictures of this device's clips, augmented: both ends moved inwards, and speech up to ``speed`` faster or slower."""
    most = np.minimum(profile.trim * RATE // 1000, np.minimum(samples // 5, samples - profile.observation.shortest))
    starts, ends = rng.integers(0, most, endpoint=True), rng.integers(0, most // 2, endpoint=True)
    ffts = faster(profile.speed, len(samples), rng)
    waves = [torch.from_numpy(clip).to(device) for clip in clips]
    return evenly_seen(waves, starts[mine], (samples - starts - ends)[mine], ffts[mine])[0]


def _look_padded(clips, samples, mine, profile: Profile, rng, device) -> torch.Tensor:
    """Padded pictures, or their middles, of this device's clips, augmented: ends trimmed, louder or quieter, moved into the padding."""
    frames, counts = profile.glow.frames, frames_in(samples)
    gains = rng.uniform(-profile.gain_db, profile.gain_db, len(samples))
    spare = counts - (frames if frames < FRAMES else 1)
    trims = rng.integers(0, np.minimum(spare, profile.trim), endpoint=True)
    counts = counts - trims
    shifts = rng.integers(0, np.minimum(FRAMES - counts, profile.shift), endpoint=True)
    waves = [torch.from_numpy(clip[: len(clip) - HOP * trims[place]]).to(device) for place, clip in zip(mine, clips)]
    starts = (counts - frames) // 2 + shifts
    return central(pictures_of(waves, gains[mine], shifts[mine])[0], starts[mine], frames)


def _draw(count: int, batch: int, seed: int, step: int) -> list[int]:
    """Which of ``count`` pictures a step sees: the next ``batch`` of an endless run of shuffled epochs."""
    places = np.arange(step * batch, (step + 1) * batch)
    epochs = places // count
    order = {epoch: np.random.default_rng([seed, int(epoch)]).permutation(count) for epoch in set(epochs)}
    return [int(order[epoch][place % count]) for epoch, place in zip(epochs, places, strict=True)]


def _schedule(step: int, profile: Profile) -> float:
    """The learning rate of a step, as a share of the profile's: a linear rise, then constant, then down to nothing."""
    rise = min(1.0, (step + 1) / max(profile.warmup, 1))
    fallen = max(0.0, 1 - (1 - step / profile.iterations) / profile.decay)
    return rise * 0.5 * (1 + math.cos(math.pi * fallen))


def _watched(corpus: Corpus, profile: Profile) -> torch.Tensor:
    """Levels of the pictures of validation speakers that every look sees."""
    speech = corpus.held_out("valid").draw(profile.looked_at, by=("split",))
    return quantize(images(speech, observation=profile.observation)) if len(speech) else torch.empty(0)


def _mean_bits(model: Glow, levels: torch.Tensor) -> float:
    if not len(levels):
        return math.nan
    return model.bits_per_dim((levels + 0.5) / 256, draws=1).mean().item()


def _identity(corpus: Corpus, profile: Profile, seed: int, origin: _Origin | None = None) -> str:
    """What a checkpoint must share with the run that resumes it."""
    return json.dumps([asdict(profile), corpus.fingerprint, seed, origin.sha256 if origin else ""])


def _other(theirs: str, mine: str) -> str:
    """What one identity has and another has not, in words."""
    (profile, corpus, seed, *start), (own_profile, own_corpus, own_seed, own_start) = (
        json.loads(theirs),
        json.loads(mine),
    )
    differing = [f"{'steps' if name == 'iterations' else name} {profile.get(name)} (not {value})" for name, value in own_profile.items() if profile.get(name) != value]  # fmt: skip
    differing += [f"a corpus of fingerprint {corpus} (not {own_corpus})"] if corpus != own_corpus else []
    differing += [f"seed {seed} (not {own_seed})"] if seed != own_seed else []
    differing += ["another model to start from"] if start != [own_start] else []
    return ", ".join(differing)


def _about(run: _Run, step: int, corpus: Corpus, seed: int, fabric, way: dict, origin: _Origin | None) -> dict:
    """All settings that the weights of a step were made with."""
    split = corpus.table.groupby("split").speaker.unique()
    where = torch.cuda.get_device_name() if fabric.device.type == "cuda" else _processor()
    profile = asdict(run.profile)
    return {
        "corpus": corpus.name,
        "fingerprint": corpus.fingerprint,
        "licence": corpus.licence,
        "observation": run.profile.observation.name,
        "vowels": sorted(corpus.table.phone.unique()),
        "speakers": {name: sorted(speakers) for name, speakers in split.items()},
        "segments": corpus.table.split.value_counts().to_dict(),
        "glow": profile.pop("glow"),
        "profile": profile,
        "seed": seed,
        "steps": run.step,
        "pictures": run.pictures(origin, step),
        "started_from": {"model": origin.folder.name, "sha256": origin.sha256} if origin else None,
        "minutes": round(run.seconds / 60, 1),
        "machine": where + (f", {fabric.world_size} processes" if fabric.world_size > 1 else ""),
        "arithmetic": way,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in RECORDED},
    }


def _processor() -> str:
    """The processor's name where the system says it, and how many threads compute."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M) if os.path.exists("/proc/cpuinfo") else None  # fmt: skip
    threads = torch.get_num_threads()
    return f"{found[1] if found else platform.machine()}, {threads} thread{'s' * (threads > 1)}"
