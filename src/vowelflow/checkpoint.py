"""Checkpoint: weights and their configuration on disk -> a flow, and where they are looked for."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .base import InputError, save_atomically
from .glow import Glow, GlowConfig

# Shape of a flow whose config.json does not say these: before there were tails, and a choice of squeezes.
FIRST_EDITION = {"prior": 0, "tail": None, "rows": False, "last": 3}


def file_hash(*paths: Path) -> str:
    """SHA-256 of a file, or of several one after another, hex."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()


def load_model(name: str | Path, models: Path | None = None) -> Glow:
    """Load reference weights: a name under ``models/``, or a folder that holds them.

    Raises:
        InputError: no such model, a damaged or altered weight file, or weights of another shape.
    """
    folder = model_folder(name, models)
    about = folder / "config.json"
    if about.is_file() and sum(map(about.read_bytes().count, b"[{")) > 500:  # which could exhaust the stack
        raise InputError(f"{about} is not a model's configuration (nested too deep); fetch it again")
    try:
        config = json.loads(about.read_text())
        glow = glow_config(config)
        expected = config["sha256"]
    except FileNotFoundError:
        known = {path.parent.name for base in shelves(models) for path in base.glob("*/config.json")}
        known = ", ".join(sorted(known)) or "none"
        raise InputError(f"no model {str(name)!r}: neither a folder with config.json, nor one of {known}") from None
    except InputError as error:
        raise InputError(f"{about}: {error}; fetch it again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{about} is not a model's configuration ({error!r}); fetch it again") from None
    if any(
        not isinstance(config.get(name, kind()), kind)
        or (kind is list and not all(isinstance(one, str) for one in config.get(name, ())))
        for name, kind in (("vowels", list), ("speakers", dict), ("segments", dict), ("profile", dict))
    ):
        raise InputError(f"{about}: vowels, speakers, segments or profile are not as train writes them; fetch it again")
    weights, files = folder / "model.safetensors", sorted(folder.glob("model*.safetensors"))  # large ones are split
    if not files or file_hash(*files) != expected:
        raise InputError(f"{weights} is missing or is not the file that config.json names; fetch it again")
    asked = sum(2 * steps * width**2 for steps, width in zip(glow.steps, glow.hidden))
    if asked > sum(file.stat().st_size for file in files):  # before memory is asked for
        raise InputError(f"{about} asks for {glow.steps} steps of widths {glow.hidden}, too much for {weights}")
    model = Glow(glow)
    try:
        model.load_state_dict({name: value for file in files for name, value in load_file(file).items()})
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"{weights} does not fit its config.json: {error}") from None
    _orthonormalise(model)
    return model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")


def save_model(folder: Path, model: Glow, about: dict, most: int | None = None) -> None:
    """Write ``model.safetensors``, weights rounded to 16 bits, and ``config.json`` with ``about``; ``model`` is rounded, too.

    Weights of more than ``most`` bytes go to ``model-1.safetensors`` and so on.
    """
    state = model.state_dict()
    halves = {name for name, _ in model.named_parameters()} | {name for name in state if _orthonormal(name)}
    tensors = {name: (value.half() if name in halves else value).cpu().contiguous() for name, value in state.items()}
    parts, size = [{}], 0
    for name, value in tensors.items():
        size += value.nbytes
        if most and size > most:
            parts, size = [*parts, {}], value.nbytes
        parts[-1][name] = value
    names = [f"model-{number}" for number in range(1, len(parts) + 1)] if len(parts) > 1 else ["model"]
    files = [write_tensors(folder / f"{name}.safetensors", part) for name, part in zip(names, parts)]
    model.load_state_dict(tensors)
    _orthonormalise(model)
    config = json.dumps(about | {"sha256": file_hash(*files)}, indent=2) + "\n"
    save_atomically(folder / "config.json", lambda path: path.write_text(config))


def _orthonormal(name: str) -> bool:
    return name.endswith(("rotation", "axes.vectors"))


@torch.no_grad()
def _orthonormalise(model: Glow) -> None:
    """Rotations and axes are kept in 16 bits; Newton's steps make their rows orthonormal in 64."""
    for name, rows in model.named_buffers():
        if _orthonormal(name):
            for _ in range(4):
                rows.copy_(1.5 * rows - 0.5 * rows @ rows.T @ rows)


def write_tensors(path: Path, tensors: dict, about: dict | None = None) -> Path:
    """Write a safetensors file at once; ``OSError`` with its number if it cannot be written."""
    try:
        return save_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=about))
    except SafetensorError as error:  # a full disk, for one
        number = int(found[1]) if (found := re.search(r"os error (\d+)", str(error))) else errno.EIO
        raise OSError(number, f"not written: {error}", str(path)) from None


def glow_config(config: dict) -> GlowConfig:
    """The shape of a flow, from its ``config.json``."""
    shape = {
        "side": 288,
        "frames": config["glow"].get("side", 288),
        "coupling": 2.0,
        "scale": "tanh",
        "reach": 8.0,
        "tail": None,
        "axes": 0,  # flows from before there were any do not say it
    } | config["glow"]
    levels = shape.pop("levels", len(shape["hidden"]))
    if "squeeze" not in shape:
        shape |= {"squeeze": [(2, 2)] * levels} | FIRST_EDITION
    shape["hidden"], shape["squeeze"] = tuple(shape["hidden"]), tuple(map(tuple, shape["squeeze"]))
    steps = shape["steps"]  # once the same number for all levels
    shape["steps"] = tuple(steps) if isinstance(steps, list) else (steps,) * len(shape["hidden"])
    numbers = (
        *shape["steps"],
        shape["side"],
        shape["frames"],
        *shape["hidden"],
        *(one for pair in shape["squeeze"] for one in pair),
    )
    if not all(isinstance(number, int) and number >= 1 for number in numbers):
        raise InputError(f"steps, side, frames, widths and squeeze are whole numbers of at least 1, not {shape}")
    if (
        shape["scale"] not in ("tanh", "sigmoid")
        or not (shape["tail"] is None or shape["tail"] > 0)
        or not min(shape["reach"], shape["coupling"]) > 0
    ):
        raise InputError(f"scale is tanh or sigmoid, tail, reach and coupling are above 0 or tail is null, not {shape}")
    return GlowConfig(**shape)


def model_folder(name: str | Path, models: Path | None = None) -> Path:
    """Where the weights of this name are: a folder itself, or one under ``models/`` or ``build/models/``."""
    places = [Path(name), *(base / name for base in shelves(models))]
    return next((place for place in places if (place / "config.json").is_file()), places[0])


def models_folder() -> Path:
    """``models/`` of the working folder, or of the checkout that this package is installed from."""
    here = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]]
    return next((base / "models" for base in here if (base / "models").is_dir()), Path("models"))


def shelves(models: Path | None = None) -> list[Path]:
    """Where weights are looked for: those that come with the study, then those that were trained here."""
    return [models or models_folder(), Path(os.environ.get("VOWELFLOW_BUILD") or "build") / "models"]
