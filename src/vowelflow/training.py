"""Training: pictures and a profile -> weights. One loop on Lightning Fabric, with a log and an exact resume.

Every random choice of a step, its pictures and all their noise, is drawn from (seed, step), so a
run that was stopped and resumed takes the very steps it would have taken, and several processes
agree on what is whose without a word.
"""

from __future__ import annotations

import csv
import errno
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
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from .corpus import FRAMES, HOP, Corpus, InputError, TrainingError, save_atomically
from .glow import Glow, GlowConfig, file_hash
from .spectrogram import add_noise, central, frame_count, images, long_enough, pictures_of, quantize

KEPT = 3  # checkpoints, the newest ones
PATIENCE = 5  # steps in a row without a finite gradient, before training gives up
RECORDED = ("torch", "numpy", "lightning-fabric", "safetensors")  # versions told beside the weights


@dataclass(frozen=True)
class Profile:
    """What a training run may choose."""

    glow: GlowConfig = GlowConfig()
    iterations: int = 24_000  # optimizer steps, the horizon of the schedule
    batch: int = 2  # pictures a step, over all devices; each has 82,944 pixels to learn from
    pieces: int = 1  # in which a device goes through its share of a batch (gradient accumulation)
    learning_rate: float = 3e-3
    warmup: int = 400  # steps of linear rise; then a cosine down to nothing
    clip: float = 50.0  # largest norm of a gradient, of bits per dimension times 100
    average: float = 0.999  # of the exponential moving average of weights that analysis uses
    autocast: bool = True  # bfloat16 in the coupling networks, in training only
    checkpoint: int = 0  # steps whose inner activations are computed again rather than kept; 0 keeps all
    look: int = 500  # steps between looks at the validation speakers, and checkpoints
    looked_at: int = 64  # validation pictures at each look
    gain_db: float = 0.0  # augmentation: levels go up or down by up to so much before they are cut to 80 dB
    shift: int = 0  # augmentation: segments begin up to so many ms later, as far as their padding allows
    # Aligners work in steps of 10 ms. A flow that never met a vowel with an odd number of frames finds its end impossible.
    trim: int = 9  # segments end up to so many ms earlier
    noise_db: tuple[float, float] | None = None  # half of the pictures get white noise, at a ratio between these


# A profile is a few overrides of the defaults above.
CPU = Profile()
PROFILES = {
    "cpu": CPU,
    "cpu-noise": replace(CPU, noise_db=(0.0, 20.0)),  # hears noise, for the paper's section 4.5
    "cpu-crop": replace(CPU, glow=replace(CPU.glow, frames=64)),  # sees the middle 64 ms, and no padding
    "smoke": Profile(GlowConfig(levels=2, steps=1, hidden=(4, 4)), iterations=6, batch=2, look=3, looked_at=2),
    # the defaults of the implementation the paper used, since the paper states none
    "paper": Profile(
        GlowConfig(levels=3, steps=32, hidden=(512, 512, 512), scale="sigmoid"),
        iterations=50_000,
        batch=16,
        learning_rate=1e-3,
        checkpoint=4,
    ),
}


def profile_named(name: str) -> Profile:
    """The profile of this name, or ``InputError``."""
    if not isinstance(name, str) or name not in PROFILES:
        raise InputError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]


def train(
    corpus: Corpus,
    folder: Path,
    profile: Profile = CPU,
    seed: int = 0,
    minutes: float = math.inf,
    resume: bool = False,
    devices: int = 1,
    nodes: int = 1,
    show: Callable = tqdm,
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

    Returns:
        The flow with averaged weights, as they were when validation speakers cost least.

    Raises:
        InputError: no train speakers; no seed; a folder that holds a training already, or with ``resume`` a
            different one; devices that are not there, or cannot share a batch.
        TrainingError: too many steps in a row without a finite gradient.
        KeyboardInterrupt: it was asked to stop.
    """
    if not isinstance(corpus, Corpus) or not isinstance(profile, Profile):
        raise InputError(
            f"{corpus!r:.60} and {profile!r:.60}: give a corpus, as of vf.load_corpus, and a profile, as of vf.profile_named"
        )
    if not isinstance(minutes, int | float) or math.isnan(minutes) or not isinstance(folder, str | os.PathLike):
        raise InputError(f"{minutes!r:.60} minutes in {folder!r:.60}: give a number and a folder")
    if not (isinstance(seed, int | np.integer) and 0 <= seed < 2**31):
        raise InputError(f"seed {seed!r}: give a whole number from 0 to {2**31 - 1}")
    clock, folder = _Clock(minutes), Path(folder)
    speech = long_enough(corpus.split["train"], profile.glow.frames)
    if not len(speech):
        raise InputError(f"{corpus.name} has no train speakers to learn from; give more speakers")
    fabric = _fabric(devices, nodes, profile)
    chief = fabric.is_global_zero  # the process that looks and writes
    with alone(folder, "training") if chief else nullcontext(), _asked_to_stop() as asked:
        run = _Run(untrained_flow(corpus, profile, seed).to(fabric.device), profile, _identity(corpus, profile, seed))
        run.restore(folder, resume)
        if fabric.all_reduce(torch.tensor(float(run.step))) != run.step:
            raise InputError(
                f"processes see different checkpoints in {folder}; it must be one folder that all nodes share"
            )
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
                bits = _gradient(fabric, model, _batch(speech, profile, seed, step, fabric), profile)
                norm = fabric.clip_gradients(model, optimizer, max_norm=profile.clip, error_if_nonfinite=False)
                late = not clock.allows("step", "step", "look", "save", "save")  # the rest of this one, and another
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
            if chief and (look or stopped or late or hopeless):
                with clock.measure("save"):
                    run.save(folder)
            if stopped or late or hopeless:
                break
        if chief and not (stopped or hopeless):
            _save_model(folder, run, corpus, profile, seed, fabric)
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
    return run.chosen


class _Run:
    """What a training is at one moment: all that a checkpoint holds."""

    def __init__(self, model: Glow, profile: Profile, identity: str):
        self.model = model.train().requires_grad_(True)
        self.average, self.best = (deepcopy(model).eval().requires_grad_(False) for _ in range(2))
        self.optimizer = torch.optim.Adam(model.parameters(), lr=profile.learning_rate, fused=True)
        self.profile, self.identity = profile, identity
        self.step, self.seconds, self.best_bits = 0, 0.0, math.inf
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

    def keep_best(self, bits: float) -> None:
        """Keep the averaged weights if validation speakers never cost less."""
        if bits < self.best_bits:
            self.best_bits = bits
            self.best.load_state_dict(self.average.state_dict())

    @property
    def chosen(self) -> Glow:
        """The best averaged weights; where no look has told which are, the newest."""
        return self.best if math.isfinite(self.best_bits) else self.average

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
        _write(path, tensors, about)
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


RESTORED = ("step", "seconds", "best_bits", "heard", "skipped", "in_a_row")


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


def _write(path: Path, tensors: dict, about: dict | None = None) -> Path:
    try:
        return save_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=about))
    except SafetensorError as error:  # a full disk, for one
        number = int(found[1]) if (found := re.search(r"os error (\d+)", str(error))) else errno.EIO
        raise OSError(number, f"not written: {error}", str(path)) from None


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

    def allows(self, *kinds: str) -> bool:
        """Whether there is time for all of these; what has not been measured yet is taken to be like ten steps."""
        unknown = 10 * self.longest.get("step", 0.0)
        return time.monotonic() + sum(self.longest.get(kind, unknown) for kind in kinds) < self.end


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
    speech = long_enough(corpus.split["train"], profile.glow.frames)
    torch.manual_seed(seed)
    model = Glow(profile.glow)
    model.initialise(_batch(speech, replace(profile, gain_db=0, shift=0, trim=0, noise_db=None), seed, 0))
    return model.eval().requires_grad_(False)


def _gradient(fabric, model, y: torch.Tensor, profile: Profile) -> torch.Tensor:
    """Bits per dimension of this device's share of a batch, whose gradient is left in the weights."""
    pieces, total = y.chunk(profile.pieces), 0.0
    for place, piece in enumerate(pieces):
        with fabric.no_backward_sync(model, enabled=place < len(pieces) - 1):
            likelihood = model.log_likelihood(piece, profile.autocast, profile.checkpoint)
            bits = (8 - likelihood.mean() / math.log(2) / piece[0].numel()) / len(pieces)
            fabric.backward(100 * bits)
        total = total + bits.detach()
    return total


def _batch(speech: Corpus, profile: Profile, seed: int, step: int, fabric=None) -> torch.Tensor:
    """The dequantized pictures of a step, or this device's share of them, made on the device that trains.

    Everything random is drawn for the whole batch, so it does not matter how many devices share it.
    """
    rows = _draw(len(speech), profile.batch, seed, step)
    rng = np.random.default_rng([seed, step, 1])
    gains = rng.uniform(-profile.gain_db, profile.gain_db, len(rows))
    counts = frame_count(speech.take(rows))
    spare = counts - (profile.glow.frames if profile.glow.frames < FRAMES else 1)
    trims = rng.integers(0, np.minimum(spare, profile.trim), endpoint=True)
    counts = counts - trims
    shifts = rng.integers(0, np.minimum(FRAMES - counts, profile.shift), endpoint=True)
    noisy, ratios = rng.random(len(rows)) < 0.5, rng.uniform(*(profile.noise_db or (0, 0)), len(rows))
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    noise = torch.rand(len(rows), 1, profile.glow.side, profile.glow.frames, generator=generator)
    rank, ranks, device = (fabric.global_rank, fabric.world_size, fabric.device) if fabric else (0, 1, "cpu")
    mine = np.arange(len(rows)).reshape(ranks, -1)[rank]
    clips = [clip[: len(clip) - HOP * trims[place]] for place, clip in zip(mine, speech.clips([rows[k] for k in mine]))]
    if profile.noise_db:
        clips = [
            add_noise(ratios[place], seed)(f"{step} {place}", clip, counts[place] * HOP) if noisy[place] else clip
            for place, clip in zip(mine, clips)
        ]
    waves = [torch.from_numpy(clip).to(device) for clip in clips]
    starts = (counts - profile.glow.frames) // 2 + shifts
    pictures = central(pictures_of(waves, gains[mine], shifts[mine])[0], starts[mine], profile.glow.frames)
    return (quantize(pictures) + noise[mine].to(device)) / 256


def _draw(count: int, batch: int, seed: int, step: int) -> list[int]:
    """Which of ``count`` pictures a step sees: the next ``batch`` of an endless run of shuffled epochs."""
    places = np.arange(step * batch, (step + 1) * batch)
    epochs = places // count
    order = {epoch: np.random.default_rng([seed, int(epoch)]).permutation(count) for epoch in set(epochs)}
    return [int(order[epoch][place % count]) for epoch, place in zip(epochs, places, strict=True)]


def _schedule(step: int, profile: Profile) -> float:
    rise = min(1.0, (step + 1) / max(profile.warmup, 1))
    return rise * 0.5 * (1 + math.cos(math.pi * step / profile.iterations))


def _watched(corpus: Corpus, profile: Profile) -> torch.Tensor:
    """Levels of the pictures of validation speakers that every look sees."""
    speech = long_enough(corpus.held_out("valid"), profile.glow.frames).draw(profile.looked_at, by=("split",))
    return quantize(images(speech, frames=profile.glow.frames)) if len(speech) else torch.empty(0)


def _mean_bits(model: Glow, levels: torch.Tensor) -> float:
    if not len(levels):
        return math.nan
    return model.bits_per_dim((levels + 0.5) / 256, draws=1).mean().item()


def _identity(corpus: Corpus, profile: Profile, seed: int) -> str:
    """What a checkpoint must share with the run that resumes it."""
    return json.dumps([asdict(profile), corpus.fingerprint, seed])


def _other(theirs: str, mine: str) -> str:
    """What one identity has and another has not, in words."""
    (profile, corpus, seed), (own_profile, own_corpus, own_seed) = json.loads(theirs), json.loads(mine)
    differing = [f"{'steps' if name == 'iterations' else name} {profile.get(name)} (not {value})" for name, value in own_profile.items() if profile.get(name) != value]  # fmt: skip
    differing += [f"a corpus of fingerprint {corpus} (not {own_corpus})"] if corpus != own_corpus else []
    differing += [f"seed {seed} (not {own_seed})"] if seed != own_seed else []
    return ", ".join(differing)


def _save_model(folder: Path, run: _Run, corpus: Corpus, profile: Profile, seed: int, fabric) -> None:
    """The best averaged weights, rounded to 16 bits, and all settings they were made with."""
    model = run.chosen
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half())
    halves = {name for name, _ in model.named_parameters()}
    tensors = {
        name: (value.half() if name in halves else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    weights = _write(folder / "model.safetensors", tensors)
    split = corpus.table.groupby("split").speaker.unique()
    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name() if fabric.device.type == "cuda" else f"{threads} thread{'s' * (threads > 1)}"
    config = {
        "corpus": corpus.name,
        "fingerprint": corpus.fingerprint,
        "licence": corpus.licence,
        "vowels": sorted(corpus.table.phone.unique()),
        "speakers": {name: sorted(speakers) for name, speakers in split.items()},
        "segments": corpus.table.split.value_counts().to_dict(),
        "glow": asdict(profile.glow),
        "profile": {name: value for name, value in asdict(profile).items() if name != "glow"},
        "seed": seed,
        "steps": run.step,
        "minutes": round(run.seconds / 60, 1),
        "machine": f"{platform.machine()}, {where}"
        + (f", {fabric.world_size} processes" if fabric.world_size > 1 else ""),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in RECORDED},
        "sha256": file_hash(weights),
    }
    save_atomically(folder / "config.json", lambda path: path.write_text(json.dumps(config, indent=2) + "\n"))
