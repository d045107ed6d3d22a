"""vowelstudy: what the paper claims of the codes of a flow, put to the test. The flow itself is the package ``vowelflow``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules={
        "acoustics", "baselines", "book", "cards", "controls", "detector", "discriminator", "evaluation", "evidence", "experiments", "explorer", "figures", "folds", "judges", "links", "measures",
        "methods", "page", "pairs", "protocol", "realism", "references", "results", "run", "sounds", "statistics", "tables", "tokens",
        "vae", "warping",
    },
    submod_attrs={"references": ["reference_model"], "results": ["write_results"]},
)  # fmt: skip
