"""vowelflow: a reproducible study of unsupervised speech factorization with a normalizing flow."""

from importlib import import_module

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
    "frame_count": "spectrogram",
    "to_audio": "spectrogram",
    "griffin_lim": "spectrogram",
    "add_noise": "spectrogram",
    "Glow": "glow",
    "GlowConfig": "glow",
    "dequantize": "glow",
    "Code": "glow",
    "load_model": "glow",
    "train": "training",
    "reference_model": "references",
    "profile_named": "training",
    "direction": "factors",
    "line": "factors",
    "great_circle": "factors",
    "write_results": "study",
}
_ROOMS = (
    "spectrogram", "glow", "training", "factors", "baselines", "judges", "cards", "evidence", "claims", "verdicts",
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
