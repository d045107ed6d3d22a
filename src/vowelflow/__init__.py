"""vowelflow: a reproducible study of unsupervised speech factorization with a normalizing flow."""

import os
from importlib import import_module

# Threads of libgomp that wait spin for a while, which on a busy machine makes a step take 30 times as long. It reads this
# when torch is loaded, so it is set before, for the command line and every notebook's kernel.
for _name, _value in (("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "0"), ("KMP_BLOCKTIME", "0")):
    os.environ.setdefault(_name, _value)

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
    "Code": "glow",
    "load_model": "checkpoint",
    "train": "training",
    "reference_model": "references",
    "profile_named": "training",
    "direction": "factors",
    "line": "factors",
    "great_circle": "factors",
    "write_results": "study",
}
_ROOMS = (
    "spectrogram", "glow", "checkpoint", "training", "factors", "baselines", "judges", "cards", "evidence", "claims", "verdicts",
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
