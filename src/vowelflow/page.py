"""Page: an explorer -> the files with which the book's own page explores a flow, in the reader's browser and without a kernel."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from .corpus import FFT, FRAMES, HOP, LEAD, RATE, InputError, save_atomically
from .explorer import Explorer
from .export import export
from .figures import LISTENING_RMS, spectrograms
from .spectrogram import BINS, FLOOR_DB, WINDOW

FILES = ("explorer", "still", "decode", "encode", "codes", "moves", "phases", "check")


def write_page(explorer: Explorer, folder: Path) -> dict[str, int]:
    """Write ``explorer.json`` and what it names, each with its size and SHA-256, into ``folder``, in place of those of another.

    ``decode.onnx``, the flow with weights of 16 bits; ``codes`` of tokens, float16; ``moves`` and ``phases``, a signed byte a number;
    ``check``, the picture of the first token as torch decodes it, a byte a pixel, for a browser to see that it computes the same; and
    ``still.png``, for who has no scripts.

    Returns:
        Bytes of each file.

    Raises:
        InputError: the flow cannot be exported (see ``export``), or the folder holds something else.
    """
    folder = Path(folder)
    there = list(folder.iterdir()) if folder.is_dir() else []
    if others := [path for path in there if path.name.lstrip(".").split(".")[0].split("-")[0] not in FILES]:
        raise InputError(f"{others[0]} is not of a page of the explorer; name an empty folder, or a new one")
    for old in there:  # of a page before, or of one whose making was killed
        old.unlink()
    export(explorer.model, folder, half=True)
    (folder / "encode.onnx").unlink()
    codes = explorer.codes.half()
    decoded = explorer.model.decode(codes[:1].float())[0, 0, :BINS].clamp(0, 1)
    moves = torch.cat(list(explorer.moves.values())).numpy()
    scales = np.abs(moves).max(1) / 127
    data = {
        "codes": codes.numpy(), "moves": np.round(moves / scales[:, None]).astype(np.int8),
        "phases": np.round(explorer.phases.numpy() * 127 / np.pi).astype(np.int8),
        "check": np.round(decoded.numpy() * 255).astype(np.uint8),
    }  # fmt: skip
    for name, array in data.items():
        save_atomically(folder / f"{name}.bin", lambda path, array=array: path.write_bytes(array.tobytes()))
    still = spectrograms(explorer.model.decode(codes[:5].float()), explorer.names[:5])
    still.savefig(folder / "still.png", dpi=100)
    plt.close(still)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".onnx", ".bin"))
    corpus, trained = explorer.bench.corpus, json.loads((explorer.bench.folders[0] / "config.json").read_text())
    about = {
        "corpus": corpus.name, "licence": corpus.licence, "flow": explorer.bench.flow, "flow_licence": trained["licence"], "synthetic": corpus.name == "klatt",
        "tokens": [{"name": n, "frames": int(count)} for n, count in zip(explorer.names, explorer.frames)],
        "moves": [{"name": n, "scale": float(s)} for n, s in zip(explorer.moves, scales)], "size": codes.shape[1], "top": explorer.model.top_size,
        "picture": {"side": explorer.model.config.side, "frames": FRAMES, "bins": BINS, "floor_db": FLOOR_DB},
        "sound": {"rate": RATE, "fft": FFT, "hop": HOP, "window": WINDOW, "lead": LEAD, "rms": LISTENING_RMS},
        "colours": _colours(),
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in files},
    }  # fmt: skip
    text = json.dumps(about, indent=1, ensure_ascii=False)
    save_atomically(folder / "explorer.json", lambda path: path.write_text(text, encoding="utf-8"))
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def _colours() -> list[list[int]]:
    """256 colours of pictures, red, green and blue."""
    from matplotlib import colormaps

    return (colormaps["magma"](np.arange(256), bytes=True)[:, :3]).tolist()
