"""Training: pictures and a profile -> weights. One loop, with a log and an exact resume.

Every random choice of a step, its pictures and its dequantization noise, is drawn from
(seed, step), so a run that was stopped and resumed takes the very steps it would have taken.
"""

from __future__ import annotations

import csv
import json
import math
import platform
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from .corpus import FRAMES, Corpus, InputError, save_atomically
from .glow import Glow, GlowConfig, file_hash, load_model, shelves
from .spectrogram import SIDE, frame_count, images, pictures_of, quantize


@dataclass(frozen=True)
class Profile:
    """What a training run may choose."""

    glow: GlowConfig = GlowConfig()
    iterations: int = 3_500  # optimizer steps, the horizon of the schedule
    batch: int = 8  # pictures a step
    learning_rate: float = 1e-3
    warmup: int = 200  # steps of linear rise; then a cosine down to nothing
    clip: float = 50.0  # largest norm of a gradient, of bits per dimension times 100
    average: float = 0.995  # of the exponential moving average of weights that analysis uses
    autocast: bool = True  # bfloat16 in the coupling networks, in training only
    checkpoint: int = 0  # steps whose inner activations are computed again rather than kept; 0 keeps all
    look: int = 250  # steps between looks at the validation speakers, and checkpoints
    looked_at: int = 32  # validation pictures at each look
    gain_db: float = 0.0  # augmentation: levels go up or down by up to so much before they are cut to 80 dB
    shift: int = 0  # augmentation: segments begin up to so many ms later, as far as their padding allows


# A profile is a few overrides of the defaults above.
PROFILES = {
    "cpu": Profile(),
    "smoke": Profile(GlowConfig(levels=2, steps=1, hidden=(4, 4)), iterations=6, batch=2, look=3, looked_at=2),
    # the defaults of the implementation the paper used, since the paper states none
    "paper": Profile(
        GlowConfig(levels=3, steps=32, hidden=(512, 512, 512), scale="sigmoid"),
        iterations=50_000,
        batch=16,
        checkpoint=4,
    ),
}


def profile_named(name: str) -> Profile:
    """The profile of this name, or ``InputError``."""
    if name not in PROFILES:
        raise InputError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]


def train(
    corpus: Corpus,
    folder: Path,
    profile: Profile = PROFILES["cpu"],
    seed: int = 0,
    minutes: float = math.inf,
    resume: bool = False,
    show: Callable = tqdm,
) -> Glow:
    """Train a flow on the corpus's train speakers and save it, with everything to go on from.

    Writes into ``folder``: ``log.csv`` (step, bits per dimension of training and validation
    speakers, seconds), ``checkpoint.safetensors`` at every look, and, when it ends or ``minutes``
    have passed, the averaged weights ``model.safetensors`` with ``config.json``.

    Returns:
        The flow with averaged weights, ready for analysis.

    Raises:
        InputError: no train speakers; ``resume`` without a fitting checkpoint; a log-likelihood
            that is no longer finite.
    """
    folder = Path(folder)
    speech = corpus.split["train"]
    if not len(speech):
        raise InputError(f"{corpus.name} has no train speakers to learn from; give more speakers")
    watched = corpus.held_out("valid").draw(profile.looked_at, by=("split",))
    watched = quantize(images(watched)) if len(watched) else torch.empty(0, 1, SIDE, SIDE)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = untrained_flow(corpus, profile, seed).train().requires_grad_(True).to(device)
    average = deepcopy(model).requires_grad_(False)
    compile_where_it_pays(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=profile.learning_rate)
    done, spent = 0, 0.0
    if resume:
        done, spent = _resume(folder, model, average, optimizer, _identity(corpus, profile, seed))
    else:
        save_atomically(folder / "log.csv", lambda path: path.write_text("step,train,valid,seconds\n"))
    began, heard = time.monotonic() - spent, []
    bar = show(range(done, profile.iterations), initial=done, total=profile.iterations, desc="training", unit="step")
    for step in bar:
        y = _batch(speech, profile, seed, step, device)
        for group in optimizer.param_groups:
            group["lr"] = profile.learning_rate * _schedule(step, profile)
        likelihood = model.log_likelihood(y, profile.autocast, profile.checkpoint)
        bits = 8 - likelihood.mean() / math.log(2) / y[0].numel()
        if not torch.isfinite(bits):
            raise InputError(
                f"bits per dimension is {bits.item()} at step {step}; resume from {folder} with a lower rate"
            )
        optimizer.zero_grad(set_to_none=True)
        (100 * bits).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), profile.clip)
        optimizer.step()
        keep = min(profile.average, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), [weight.detach() for weight in model.parameters()], 1 - keep)
        heard.append(bits.item())
        done = step + 1
        late = time.monotonic() - began > 60 * minutes
        if done % profile.look == 0 or done == profile.iterations or late:
            valid = _mean_bits(average, watched)
            spent = time.monotonic() - began
            _log(folder, done, np.mean(heard), valid, spent)
            _save_checkpoint(folder, model, average, optimizer, done, spent, _identity(corpus, profile, seed))
            bar.set_postfix(train=f"{np.mean(heard):.3f}", valid=f"{valid:.3f}")
            heard = []
        if late:
            break
    _save_model(folder, average, corpus, profile, seed, done, spent)
    return average.eval().requires_grad_(False)


def compile_where_it_pays(model: Glow) -> None:
    """On a GPU, with the C compiler that Triton needs, run steps compiled: once for each level, not for each step."""
    if next(model.parameters()).is_cuda and (shutil.which("cc") or shutil.which("gcc")):
        model.through = torch.compile(model.through, fullgraph=True)


def untrained_flow(corpus: Corpus, profile: Profile, seed: int = 0) -> Glow:
    """The flow as training starts from it: the null of every claim.

    Couplings do nothing yet; actnorm is set from the first batch of train speakers.
    """
    speech = corpus.split["train"]
    torch.manual_seed(seed)
    model = Glow(profile.glow)
    model.initialise(_batch(speech, replace(profile, gain_db=0, shift=0), seed, 0))
    return model.eval().requires_grad_(False)


def _batch(speech: Corpus, profile: Profile, seed: int, step: int, device="cpu") -> torch.Tensor:
    """The dequantized pictures that a step sees, made on the device that trains."""
    rows = _draw(len(speech), profile.batch, seed, step)
    rng = np.random.default_rng([seed, step, 1])
    gains = rng.uniform(-profile.gain_db, profile.gain_db, len(rows))
    room = np.minimum(FRAMES - frame_count(speech.take(rows)), profile.shift)
    shifts = rng.integers(0, room, endpoint=True)
    pictures, _ = pictures_of([torch.from_numpy(clip).to(device) for clip in speech.clips(rows)], gains, shifts)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    noise = torch.rand(pictures.shape, generator=generator).to(device)
    return (quantize(pictures) + noise) / 256


def _draw(count: int, batch: int, seed: int, step: int) -> list[int]:
    """Which of ``count`` pictures a step sees: the next ``batch`` of an endless run of shuffled epochs."""
    places = np.arange(step * batch, (step + 1) * batch)
    epochs = places // count
    order = {epoch: np.random.default_rng([seed, int(epoch)]).permutation(count) for epoch in set(epochs)}
    return [int(order[epoch][place % count]) for epoch, place in zip(epochs, places, strict=True)]


def _schedule(step: int, profile: Profile) -> float:
    rise = min(1.0, (step + 1) / max(profile.warmup, 1))
    return rise * 0.5 * (1 + math.cos(math.pi * step / profile.iterations))


def _mean_bits(model: Glow, levels: torch.Tensor) -> float:
    if not len(levels):
        return math.nan
    return model.bits_per_dim((levels + 0.5) / 256, draws=1).mean().item()


def _log(folder: Path, step: int, train: float, valid: float, seconds: float) -> None:
    with open(folder / "log.csv", "a", newline="") as file:
        csv.writer(file).writerow([step, f"{train:.5f}", f"{valid:.5f}", f"{seconds:.1f}"])


def _identity(corpus: Corpus, profile: Profile, seed: int) -> str:
    """What a checkpoint must share with the run that resumes it."""
    return json.dumps([asdict(profile), corpus.fingerprint, seed])


def _save_checkpoint(folder, model, average, optimizer, step, spent, identity) -> None:
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in average.state_dict().items()}
    for place, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam/{place}/{name}": value for name, value in state.items()}
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    about = {"step": str(step), "seconds": str(spent), "identity": identity}
    save_atomically(folder / "checkpoint.safetensors", lambda path: save_file(tensors, path, metadata=about))


def _resume(folder, model, average, optimizer, identity) -> tuple[int, float]:
    """Restore a checkpoint; returns its step and the seconds spent so far."""
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        raise InputError(f"{path} is not there; start without resume")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
        tensors = load_file(path)
    except Exception as error:  # safetensors has no common exception of its own
        raise InputError(f"{path} cannot be read ({error}); start without resume") from None
    if about["identity"] != identity:
        raise InputError(f"{path} is of another corpus, profile or seed; use another folder")
    parts = {"model": {}, "average": {}, "adam": {}}
    for name, value in tensors.items():
        part, rest = name.split("/", 1)
        parts[part][rest] = value
    model.load_state_dict(parts["model"])
    average.load_state_dict(parts["average"])
    state = optimizer.state_dict()
    for name, value in parts["adam"].items():
        place, key = name.split("/")
        state["state"].setdefault(int(place), {})[key] = value
    optimizer.load_state_dict(state)
    _drop_log_after(folder / "log.csv", int(about["step"]))
    return int(about["step"]), float(about["seconds"])


def _drop_log_after(path: Path, step: int) -> None:
    head, *rows = path.read_text().splitlines()
    kept = [head, *(row for row in rows if int(row.split(",")[0]) <= step)]
    save_atomically(path, lambda temporary: temporary.write_text("\n".join(kept) + "\n"))


def _save_model(folder: Path, model: Glow, corpus: Corpus, profile: Profile, seed: int, steps: int, spent: float):
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    weights = save_atomically(folder / "model.safetensors", lambda path: save_file(tensors, path))
    split = corpus.table.groupby("split").speaker.unique()
    config = {
        "corpus": corpus.name,
        "fingerprint": corpus.fingerprint,
        "licence": corpus.licence,
        "vowels": sorted(corpus.table.phone.unique()),
        "speakers": {name: sorted(speakers) for name, speakers in split.items()},
        "glow": asdict(profile.glow),
        "profile": asdict(replace(profile, glow=None)),
        "seed": seed,
        "steps": steps,
        "minutes": round(spent / 60, 1),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {'cuda' if torch.cuda.is_available() else 'cpu'}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "sha256": file_hash(weights),
    }
    config["profile"].pop("glow")
    save_atomically(folder / "config.json", lambda path: path.write_text(json.dumps(config, indent=2) + "\n"))


def reference_model(
    corpus: Corpus, profile: str = "cpu", seed: int = 0, models: Path | None = None
) -> tuple[Glow, Path]:
    """The flow that a study of this corpus uses, and the folder it came from.

    Weights under ``models/<profile>-<corpus>`` are taken when they were trained on this very
    corpus (its fingerprint is in their config) in the profile's shape, else those of an earlier run under
    ``build/models``, else a flow is trained there.
    """
    wanted = profile_named(profile)
    name, places = f"{profile}-{corpus.name}", shelves(models)
    for folder in (place / name for place in places):
        if (folder / "config.json").is_file():
            config = json.loads((folder / "config.json").read_text())
            shape = {**asdict(wanted.glow), "hidden": list(wanted.glow.hidden)}
            if (config["fingerprint"], config["seed"], config["glow"]) == (corpus.fingerprint, seed, shape):
                return load_model(folder), folder
    trained = places[-1] / name
    train(corpus, trained, wanted, seed)
    return load_model(trained), trained
