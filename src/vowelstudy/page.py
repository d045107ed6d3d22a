"""Page: the files with which the book's page explores a flow in the reader's browser, without a kernel."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import colormaps

from vowelflow.base import FFT, RATE, InputError, save_atomically
from vowelflow.checkpoint import file_hash
from vowelflow.export import export
from vowelflow.spectrogram import FLOOR_DB, VOWEL, WINDOW

from .explorer import Explorer
from .figures import LISTENING_RMS, spectrograms
from .results import read_json, write_json

FILES = ("explorer", "still", "decode", "encode", "codes", "moves", "phases", "check")


def write_page(explorer: Explorer, folder: Path) -> dict[str, int]:
    """Write ``explorer.json`` and the files that it lists with sizes and SHA-256. Files of an earlier page are replaced.

    - ``decode.onnx``: the flow, with weights of 16 bits.
    - ``codes.bin``: codes of tokens, float16.
    - ``moves.bin`` and ``phases.bin``: one signed byte for each number.
    - ``check.bin``: the first token's picture as torch decodes it, one byte for each pixel. The browser compares its own.
    - ``still.png``: shown when scripts are off.

    Returns:
        Bytes of each file.

    Raises:
        InputError: the flow cannot be exported (see ``export``), or the folder holds other files.
    """
    folder = Path(folder)
    old_files = list(folder.iterdir()) if folder.is_dir() else []
    if others := [
        path for path in old_files if path.name.lstrip(".").split(".")[0].split("-")[0] not in FILES
    ]:
        raise InputError(f"{others[0]} is not a file of an explorer's page; name an empty or a new folder")
    for path in old_files:  # of an earlier page, or of an interrupted run
        path.unlink()
    export(explorer.model, folder, half=True)
    (folder / "encode.onnx").unlink()
    codes = explorer.codes.half()
    decoded = explorer.model.decode(codes[:1].float())[0, 0].clamp(0, 1)
    moves = torch.cat(list(explorer.moves.values())).numpy()
    scales = np.abs(moves).max(1) / 127
    arrays = {
        "codes": codes.numpy(), "moves": np.round(moves / scales[:, None]).astype(np.int8),
        "phases": np.round(explorer.phases.numpy() * 127 / np.pi).astype(np.int8),
        "check": np.round(decoded.numpy() * 255).astype(np.uint8),
    }  # fmt: skip
    for name, array in arrays.items():
        save_atomically(folder / f"{name}.bin", lambda path, array=array: path.write_bytes(array.tobytes()))
    still = spectrograms(explorer.model.decode(codes[:5].float()), explorer.names[:5])
    still.savefig(folder / "still.png", dpi=100)
    plt.close(still)
    write_json(folder / "explorer.json", _description(explorer, folder, scales), digits=None, sort=False)
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def _description(explorer: Explorer, folder: Path, scales: np.ndarray) -> dict:
    """What the page's script needs to know, and the files of ``folder``."""
    corpus, trained = explorer.setting.corpus, read_json(explorer.setting.folder / "config.json")
    files = sorted(path for path in folder.iterdir() if path.suffix in (".onnx", ".bin"))
    return {
        "corpus": corpus.name, "licence": corpus.licence, "flow": explorer.setting.flow,
        "flow_licence": trained["licence"], "synthetic": corpus.name == "klatt",
        "tokens": [{"name": name, "samples": count} for name, count in zip(explorer.names, explorer.samples)],
        "moves": [{"name": name, "scale": scale} for name, scale in zip(explorer.moves, scales)],
        "size": explorer.codes.shape[1], "top": explorer.model.top_size,
        "picture": {"frames": VOWEL.frames, "bins": VOWEL.bins, "floor_db": FLOOR_DB},
        "sound": {
            "rate": RATE, "fft": FFT, "window": WINDOW, "rms": LISTENING_RMS,
            "samples": int(np.median(explorer.samples)),  # of a random code
        },
        "colours": colormaps["magma"](np.arange(256), bytes=True)[:, :3],  # red, green and blue
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in files},
    }  # fmt: skip
