"""vowelflow: a normalizing flow from spectrograms of vowels to Gaussian codes, and all it takes to train one.

The package ``vowelstudy`` tests what its codes are worth.
"""

import os
from importlib import import_module

# Threads that wait at a barrier spin before they sleep. By default they spin so long that a step of two threads beside
# other work takes 5 to 30 times as long; a short spin costs an idle machine a few per cent. OpenMP reads these when
# torch is loaded, so they are set here: for the command line, and for the kernel of every notebook.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # GCC's library
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM's and Intel's, milliseconds

# Where each public name is. Modules are imported on first use, so that the command line and light notebooks start at once.
_MODULES = (
    "base", "checkpoint", "corpus", "export", "glow", "klatt", "latent", "profiles", "readers", "spectrogram", "training"
)  # fmt: skip
_MEMBERS = {
    "base": ("InputError",),
    "corpus": ("ALL_VOWELS", "VOWELS", "Corpus", "padding_share"),
    "readers": ("load_corpus",),
    "spectrogram": (
        "OBSERVATIONS", "Observation", "batches", "dequantize", "frame_count", "images", "peaks", "phases", "usable"
    ),
    "audio": ("griffin_lim", "phases_at", "to_audio"),
    "noise": ("add_noise",),
    "glow": ("Glow", "GlowConfig"),
    "checkpoint": ("load_model",),
    "profiles": ("profile_named",),
    "training": ("train",),
    "latent": ("Code", "direction", "great_circle", "line"),
}  # fmt: skip
_HOMES = {name: module for module, names in _MEMBERS.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
