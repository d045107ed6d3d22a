"""vowelflow: a reproducible study of unsupervised speech factorization with a normalizing flow."""

import os
from importlib import import_module

# Threads that wait at a barrier spin before they sleep, by default for so long that two of them beside other work make a
# step take 5 to 30 times as long. A short spin costs an idle machine a few per cent. OpenMP's libraries read this when torch is
# loaded, so it is set here: for the command line, and for every notebook's kernel.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # of GCC's library
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # of LLVM's and Intel's, milliseconds

_HOMES = {
    "load_corpus": "readers",
    "Corpus": "corpus",
    "InputError": "corpus",
    "VOWELS": "corpus",
    "ALL_VOWELS": "corpus",
    "padding_share": "corpus",
    "batches": "spectrogram",
    "images": "spectrogram",
    "phases": "spectrogram",
    "peaks": "spectrogram",
    "phases_at": "spectrogram",
    "usable": "spectrogram",
    "Observation": "spectrogram",
    "OBSERVATIONS": "spectrogram",
    "frame_count": "spectrogram",
    "to_audio": "spectrogram",
    "griffin_lim": "spectrogram",
    "add_noise": "spectrogram",
    "Glow": "glow",
    "GlowConfig": "glow",
    "dequantize": "glow",
    "Code": "latent",
    "load_model": "checkpoint",
    "train": "training",
    "reference_model": "references",
    "profile_named": "training",
    "direction": "latent",
    "line": "latent",
    "great_circle": "latent",
    "write_results": "study",
}
_ROOMS = (
    "spectrogram", "glow", "checkpoint", "training", "latent", "pairs", "baselines", "judges", "cards", "evidence", "claims", "verdicts",
    "figures", "explorer", "page", "study",
)  # fmt: skip
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    """Import on first use, so that the command line and light notebooks start at once."""
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
