"""Results: JSON files of numbers, and numbers as text for tables and chapters."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

from vowelflow.base import InputError, build_folder, repository, save_atomically

DIGITS = 6  # significant digits of a float in a result file


def write_results(notebook: str, numbers: dict, build: str | Path | None = None, **provenance) -> Path:
    """Write the numbers of one notebook to ``results/<notebook>.json`` of the build folder.

    Args:
        notebook: its name, such as ``01_data``.
        numbers: names to numbers, texts, or nested lists and dicts of them. Entries called ``seconds`` are left out
            at every level, because they differ between runs.
        provenance: what the numbers come from: corpus, fingerprints, profile, seed.

    Raises:
        InputError: a number is not finite.
    """
    content = {"notebook": notebook, "numbers": _without_seconds(numbers), "provenance": provenance}
    return write_json(build_folder(build) / "results" / f"{notebook}.json", content)


def load_results(build: str | Path | None = None) -> dict[str, dict]:
    """The results that ``write_results`` wrote, by notebook: dicts of notebook, numbers, provenance."""
    files = sorted((build_folder(build) / "results").glob("[0-9][0-9]_*.json"))
    return {file.stem: read_json(file) for file in files}


def benchmark(name: str) -> dict:
    """The latest results of ``benchmarks/<name>.py``."""
    return read_json(repository() / "benchmarks" / f"{name}.json")


def read_json(path: Path) -> dict:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content, digits: int | None = DIGITS, sort: bool = True) -> Path:
    """Write numbers, texts, and nested lists and dicts of them as JSON. Readers never see a half-written file.

    Args:
        content: numpy arrays and numbers are converted.
        digits: significant digits of a float; None keeps all.
        sort: whether keys are sorted; otherwise they keep their order.

    Raises:
        InputError: a number is not finite; the message says where it is.
    """
    plain = _plain(content, path.stem, digits)
    text = json.dumps(plain, indent=1, sort_keys=sort, ensure_ascii=False) + "\n"
    return save_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def _plain(value, name: str, digits: int | None):
    if hasattr(value, "tolist"):  # numpy arrays and numbers
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{name}.{key}", digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{index}]", digits) for index, item in enumerate(value)]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise InputError(f"{name} is {value}; a result is a finite number, or None if there is none")
    return value if digits is None else float(f"{value:.{digits}g}")


def _without_seconds(value):
    if isinstance(value, dict):
        return {key: _without_seconds(item) for key, item in value.items() if key != "seconds"}
    return [_without_seconds(item) for item in value] if isinstance(value, list | tuple) else value


def estimate_text(row: dict | None, digits: int = 3) -> str:
    """An estimate with its interval, such as ``0.123 (0.100 to 0.150)``; a dash if there is no estimate.

    Args:
        row: ``estimate``, with the ends of its interval as ``low`` and ``high`` or as the pair ``interval``. The ends
            are None if there is no interval.
        digits: decimals. Numbers of more than five digits get three significant digits instead.
    """
    if row is None or row["estimate"] is None:
        return "-"
    low, high = row.get("interval") or (row.get("low"), row.get("high"))
    if low is None:
        return _short(row["estimate"], digits)
    return f"{_short(row['estimate'], digits)} ({_short(low, digits)} to {_short(high, digits)})"


def _short(value: float, digits: int) -> str:
    if abs(value) >= 10 ** (5 - digits):
        return f"{value:.3g}"
    return f"{round(value, digits) + 0:.{digits}f}"  # + 0 turns -0.0 into 0.0


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, without its index."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    for row in table.itertuples(index=False):
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines)


def glue_all(values: dict, prefix: str = "") -> None:
    """Glue values for the text of a chapter, which shows them with ``{glue:text}`` and their name after ``prefix``.

    Numbers of numpy and torch are converted, so that the text can format them.
    """
    from myst_nb import glue

    for name, value in values.items():
        glue(prefix + name, value.item() if hasattr(value, "item") else value, display=False)
