"""Checkpoint: weights and their configuration on disk -> a flow, and the folders of models."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from .base import InputError, build_folder, repository, save_atomically
from .glow import Glow, GlowConfig

# Values of keys that older files lack; the second, of those without "squeeze".
OLDER = {"side": 288, "coupling": 2.0, "scale": "tanh", "input_bound": 8.0, "tail": None, "axes": 0}
OLDEST = {"prior": 0, "tail": None, "frequency_bias": False, "last_kernel": 3}
ORTHONORMAL = ("rotation", "axes.vectors")  # ends of the names of buffers with orthonormal rows
RENAMED = {"reach": "input_bound", "rows": "frequency_bias", "last": "last_kernel"}  # older keys


def file_hash(*paths: Path) -> str:
    """SHA-256 of one file, or of several in sequence, as hexadecimal digits."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def load_model(name: str | Path, models: Path | None = None) -> Glow:
    """Load a flow by its name under ``models/`` or ``build/models/``, or from a folder.

    Raises:
        InputError: no such model, a damaged or altered file, or weights of another shape.
    """
    folder = model_folder(name, models)
    try:
        config = read_config(folder)
    except FileNotFoundError:
        found = {path.parent.name for base in search_path(models) for path in base.glob("*/config.json")}
        names = ", ".join(sorted(found)) or "none"
        raise InputError(f"no model {str(name)!r}: neither a folder of a model, nor one of {names}") from None
    glow, weights = glow_config(config), folder / "model.safetensors"
    files = sorted(folder.glob("model*.safetensors"))  # large weights are split
    if not files or file_hash(*files) != config["sha256"]:
        raise InputError(f"{weights} is missing or is not the file that config.json names; fetch it again")
    least = sum(2 * steps * width**2 for steps, width in zip(glow.steps, glow.hidden))  # bytes
    if least > sum(file.stat().st_size for file in files):  # checked before the memory is allocated
        shape = f"{glow.steps} steps of widths {glow.hidden}"
        raise InputError(f"{folder / 'config.json'} asks for {shape}, too much for {weights}")
    model = Glow(glow)
    try:
        model.load_state_dict({name: value for file in files for name, value in load_file(file).items()})
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"{weights} does not fit its config.json: {error}") from None
    _orthonormalise(model)
    return model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")


def read_config(folder: Path) -> dict:
    """The ``config.json`` of a model; ``InputError`` if it is not as ``save_model`` writes it."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        glow_config(config), config["sha256"]
    except InputError as error:
        raise InputError(f"{path}: {error}; fetch it again") from None
    except (AttributeError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not a model's configuration ({error!r}); fetch it again") from None
    kinds = {"vowels": list, "speakers": dict, "segments": dict, "profile": dict}
    right = all(isinstance(config.get(key, kind()), kind) for key, kind in kinds.items())
    if not right or not all(isinstance(vowel, str) for vowel in config.get("vowels", [])):
        raise InputError(
            f"{path}: vowels, speakers, segments or profile are not as train writes them; fetch it again"
        )
    return config


def save_model(folder: Path, model: Glow, about: dict, max_bytes: int | None = None) -> None:
    """Write ``model.safetensors`` and, with ``about``, ``config.json``. Weights become 16 bits, also in ``model``.

    Weights of more than ``max_bytes`` are split into ``model-1.safetensors`` and so on.
    """
    state = model.state_dict()
    rounded = {name for name, _ in model.named_parameters()} | {
        name for name in state if name.endswith(ORTHONORMAL)
    }
    tensors = {name: value.half() if name in rounded else value for name, value in state.items()}
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    parts, size = [{}], 0
    for name, value in tensors.items():
        size += value.nbytes
        if max_bytes and size > max_bytes:
            parts, size = [*parts, {}], value.nbytes
        parts[-1][name] = value
    names = [f"model-{number}" for number in range(1, len(parts) + 1)] if len(parts) > 1 else ["model"]
    files = [write_tensors(folder / f"{name}.safetensors", part) for name, part in zip(names, parts)]
    model.load_state_dict(tensors)
    _orthonormalise(model)
    config = json.dumps(about | {"sha256": file_hash(*files)}, indent=2) + "\n"
    save_atomically(folder / "config.json", lambda path: path.write_text(config))


@torch.no_grad()
def _orthonormalise(model: Glow) -> None:
    """Make the rows of rotations and axes, 16 bits in files, orthonormal in 64 bits by Newton's iteration."""
    for name, rows in model.named_buffers():
        if name.endswith(ORTHONORMAL):
            for _ in range(4):
                rows.copy_(1.5 * rows - 0.5 * rows @ rows.T @ rows)


def write_tensors(path: Path, tensors: dict, about: dict | None = None) -> Path:
    """Write a safetensors file atomically; ``OSError`` with its number if it cannot be written.

    The texts ``about`` become metadata, with a hash of the tensors, which the format lacks.
    """
    metadata = about and about | {"sha256": _digest(tensors)}
    try:
        return save_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
    except SafetensorError as error:  # for example, a full disk
        number = int(found[1]) if (found := re.search(r"os error (\d+)", str(error))) else errno.EIO
        raise OSError(number, f"not written: {error}", str(path)) from None


def read_tensors(path: Path) -> tuple[dict, dict]:
    """Metadata and tensors of a file by ``write_tensors``; ``InputError`` if it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
        if about["sha256"] != _digest(tensors):
            raise ValueError("its content has changed")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from None
    return about, tensors


def _digest(tensors: dict) -> str:
    """SHA-256 of the names and contents of tensors."""
    parts = (name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def glow_config(config: dict) -> GlowConfig:
    """The shape of a flow, from its ``config.json``; ``InputError`` if a value is out of range."""
    shape = OLDER | {RENAMED.get(key, key): value for key, value in config["glow"].items()}
    shape.setdefault("frames", shape["side"])
    levels = shape.pop("levels", len(shape["hidden"]))
    if "squeeze" not in shape:
        shape |= {"squeeze": [(2, 2)] * levels} | OLDEST
    if not isinstance(shape["steps"], list | tuple):  # in older files, the number in each level
        shape["steps"] = [shape["steps"]] * len(shape["hidden"])
    shape |= {name: tuple(shape[name]) for name in ("hidden", "steps")}
    shape["squeeze"] = tuple(map(tuple, shape["squeeze"]))
    numbers = [*shape["steps"], *shape["hidden"], *chain(*shape["squeeze"]), shape["side"], shape["frames"]]
    if not all(isinstance(number, int) and number >= 1 for number in numbers):
        raise InputError(f"steps, sizes, widths and squeeze are whole numbers of at least 1, not {shape}")
    tail = 1 if shape["tail"] is None else shape["tail"]
    if (
        shape["scale"] not in ("tanh", "sigmoid")
        or not min(tail, shape["input_bound"], shape["coupling"]) > 0
    ):
        raise InputError(f"scale is tanh or sigmoid, and bounds are above 0 (tail may be null), not {shape}")
    return GlowConfig(**shape)


def model_folder(name: str | Path, models: Path | None = None) -> Path:
    """The folder of a model: ``name`` itself, or one of this name under ``models/`` or ``build/models/``."""
    folders = [Path(name), *(base / name for base in search_path(models))]
    return next((folder for folder in folders if (folder / "config.json").is_file()), folders[0])


def models_folder() -> Path:
    """The folder of the models that come with the study."""
    return repository() / "models"


def search_path(models: Path | None = None) -> list[Path]:
    """The folders of models: those that come with the study, and those that were trained here."""
    return [models or models_folder(), build_folder() / "models"]
