"""Verdicts: findings -> the tables of the book, of the README and of ``verdicts.json``."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML

from vowelflow.base import build_folder, save_atomically

from .evidence import OTHER_SEED, WITH_SHARED, all_findings, full_results, is_stale, results_folder
from .experiments import CLAIMS
from .folds import Setting
from .results import estimate_text, glue_all, markdown, read_json, write_json
from .statistics import VERDICTS

SIGNS = dict(zip(VERDICTS, ("✓", "◐", "✗", "?")))  # beside the words, never instead of them
PICTURE = "Each claim's number beside the baseline that is hardest to beat, with its interval over speakers, in margins, before Holm's correction"
MARKS = ("<!-- verdicts: generated -->", "<!-- end of verdicts -->")


def _word(row: dict) -> str:
    stale = ", but stale: the measurement or the flow has changed since" if row.get("stale") else ""
    return f"{SIGNS[row['verdict']]} {row['verdict']}{stale}"


def best_baseline(row: dict) -> tuple[str, dict] | None:
    """The baseline that does best."""
    ranked = [(name, one) for name, one in row["baselines"].items() if one["estimate"] is not None]
    sign = 1 if row["better"] == "more" else -1
    return max(ranked, key=lambda pair: sign * pair[1]["estimate"], default=None)


def table(findings: list[dict], link: str | None = None, primary: bool | None = None) -> pd.DataFrame:
    """A row a finding: what was asked, our number, the best baseline's, and the verdict; of primary ones, or of the others."""
    rows = []
    for row in (one for one in findings if primary in (None, one["primary"])):
        best = best_baseline(row)
        rows.append({
            "claim": row["statement"] if link is None else f"[{row['statement']}]({link}{row['notebook']}.html)",
            "verdict": _word(row),
            "test": f"{row['part']}: {row['metric']} ({row['better']} is better)" if row["metric"] else "-",
            "ours": estimate_text(row),
            "best baseline": "-" if best is None else f"{best[0]}: {estimate_text(best[1])}",
        })  # fmt: skip
    return pd.DataFrame(rows)


def show(result: dict) -> HTML:
    """The findings of one claim with every baseline, for the chapter that measures it; exploratory ones folded away."""
    primary, others = (
        [one for one in result["findings"] if one["primary"] is kind] for kind in (True, False)
    )
    shown = "".join(map(_finding, primary))
    if others:
        shown += f"<details><summary>Exploratory: {len(others)} more</summary>{''.join(map(_finding, others))}</details>"
    return HTML(shown)


def _finding(row: dict) -> str:
    title = f"{row['part']}: {row['metric']}; {row['better']} is better, margin {row['margin']}, {row['n']} items, {row['clusters']} clusters"
    lines = [(row["method"], estimate_text(row), "")]
    for name, one in row["baselines"].items():
        gap = one["difference"]
        lines.append((name, estimate_text(one), estimate_text(gap)))
    lines += [(f"({name})", estimate_text(one), "") for name, one in row["beside"].items()]
    if shared := row.get("with_shared"):
        lines.append((f"({row['method']}, with sentences that everybody says)", estimate_text(shared), ""))
    for seed, other in (row.get("seeds") or {}).items():
        lines.append((f"({row['method']}, seed {seed})", estimate_text(other), ""))
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in lines
    )
    return (
        f'<p class="vf-what">{html.escape(title)}</p><table class="vf-finding"><thead><tr><th>method</th><th>estimate</th>'
        f"<th>better than it by</th></tr></thead><tbody>{cells}</tbody></table><p><strong>{SIGNS[row['verdict']]} "
        f"{html.escape(row['verdict'])}</strong>: {html.escape(row['reason'])}.</p>"
    )


def dashed(frame: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """The numbers of a table as texts, with a dash where there is none."""
    return frame.astype(float).map(
        lambda value: f"{round(value, digits) + 0:.{digits}f}" if np.isfinite(value) else "-"
    )


def intervals(found: dict[str, dict] | None) -> pd.DataFrame:
    """A row each of what ``statistics.interval`` found; no row of None."""
    rows = {name: [estimate_text(one), one["clusters"]] for name, one in (found or {}).items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "clusters"])


def agreement(here: dict, full: dict | None) -> str:
    """Whether a small run and the full protocol come to the same verdicts, in a sentence."""
    if full is None:
        return "There are no full results for this corpus and flow; this run is all there is."
    small, large = (next(row["verdict"] for row in one["findings"] if row["primary"]) for one in (here, full))
    when = (
        " They are stale: the measurement or the flow has changed since they were made."
        if full["stale"]
        else ""
    )
    if small == large:
        return f"This run and the full protocol agree: {large}.{when}"
    return f"This run says: {small}. The full protocol, with {full['findings'][0]['n']} items, says: {large}.{when}"


def full_of(setting: Setting) -> dict[str, dict]:
    """The full protocol's results for a setting, by claim, corrected over all claims; none if they are of other recordings."""
    found = full_results(results_folder(setting.corpus, setting.flow))
    rows = all_findings(found)
    return {
        name: one | {"findings": [row for row in rows if row["claim"] == name]}
        for name, one in found.items()
        if one["provenance"]["fingerprint"] == setting.corpus.fingerprint
    }


def write_verdicts(folder: Path) -> Path:
    """``verdicts.json`` beside the full results of a corpus and a flow: all rows, and their null checks.

    Rows have ``with_shared``, what comes of all sentences, and ``seeds``, what comes of other seeds, where that was measured.
    """
    shared = _by_part(folder.with_name(folder.name + WITH_SHARED))
    start = folder.name + OTHER_SEED
    seeds = {
        path.name.removeprefix(start): _by_part(path) for path in sorted(folder.parent.glob(f"{start}*"))
    }

    def with_beside(row):
        place = row["claim"], row["part"]
        others = {seed: rows[place] for seed, rows in seeds.items() if place in rows}
        return row | {"with_shared": shared.get(place), "seeds": others}

    return _write(folder / "verdicts.json", full_results(folder), with_beside)


def _by_part(folder: Path) -> dict[tuple[str, str], dict]:
    """What is reported separately for each part of a claim."""
    keys = ("estimate", "interval", "n", "clusters", "verdict")
    return {
        (row["claim"], row["part"]): {key: row[key] for key in keys}
        for row in all_findings(full_results(folder))
    }


def over_seeds(findings: list[dict]) -> str:
    """How many primary verdicts another seed changes, in a sentence; which decides on dequantization noise, pairs, samples and shuffles."""
    tried = [
        (row, other) for row in findings if row["primary"] for other in (row.get("seeds") or {}).values()
    ]
    if not tried:
        return "No other seed has been tried."
    changed = sorted({row["claim"] for row, other in tried if row["verdict"] != other["verdict"]})
    said = f"it changes that of {', '.join(changed)}" if changed else "it changes none"
    return f"{len(tried)} primary verdicts were reached with another seed, too: {said}."


def write_run(results: dict[str, dict]) -> Path:
    """The same of what the chapters of this run measured, by claim: ``results/verdicts.json`` of the build folder."""
    return _write(build_folder() / "results" / "verdicts.json", results)


def _write(path: Path, results: dict[str, dict], extended: Callable[[dict], dict] = dict) -> Path:
    content = {
        "findings": list(map(extended, all_findings(results))),
        "null": {name: one["null"] for name, one in results.items() if one["null"]},
        "provenance": {name: one["provenance"] for name, one in results.items()},
    }  # fmt: skip
    return write_json(path, content)


def load_verdicts(home: Path) -> dict[tuple[str, str], dict]:
    """All ``verdicts.json`` under ``results/``, by corpus and flow, real speech first; rows say whether they are ``stale``."""
    found = {}
    files = (home / "results").glob("*/*/verdicts.json")
    for file in sorted(files, key=lambda one: ("klatt" in one.parts, one)):
        content = read_json(file)
        stale = {name for name, one in content["provenance"].items() if is_stale(one, CLAIMS[name])}
        content["findings"] = [row | {"stale": row["claim"] in stale} for row in content["findings"]]
        found[file.parent.parent.name, file.parent.name] = content
    return found


def readme_table(found: dict[tuple[str, str], list[dict]]) -> str:
    """The README's table: every claim's primary verdict, a column a corpus and flow, from their rows."""
    rows = []
    for claim in CLAIMS.values():
        row = {"section": claim.section, "the paper's claim": claim.statement}
        for (corpus, flow), findings in found.items():
            primary = next((one for one in findings if one["claim"] == claim.id and one["primary"]), None)
            row[f"{flow} on {corpus}"] = _word(primary) if primary else "not measured yet"
        rows.append(row)
    return markdown(pd.DataFrame(rows))


def renew_readme(home: Path) -> Path:
    """Put ``readme_table`` between the two marks of the README, and draw ``results/verdicts.svg``, which stands above it."""
    from .figures import forest, save_vector

    found = {key: content["findings"] for key, content in load_verdicts(home).items()}
    if found:
        save_vector(forest(found), home / "results" / "verdicts.svg")
    path = home / "README.md"
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(MARKS[0])
    tail = rest.split(MARKS[1])[1]
    picture = f"![{PICTURE}](results/verdicts.svg)\n\n" if found else ""
    fresh = f"{head}{MARKS[0]}\n{picture}{readme_table(found)}\n{MARKS[1]}{tail}"
    return save_atomically(path, lambda file: file.write_text(fresh, encoding="utf-8"))


def glue_finding(result: dict, full: dict | None, prefix: str) -> None:
    """Glue the primary finding of a claim for the text of its chapter.

    The estimates of the method and of all baselines under the first word of their names, in lower case; ``verdict``; and
    ``agrees``, whether the full protocol says the same.
    """
    row = result["findings"][0]
    estimates = {row["method"]: row["estimate"]}
    estimates |= {name: one["estimate"] for name, one in (row["baselines"] | row["beside"]).items()}
    first = {name: name.split()[0].strip(",").replace("-", "_").lower() for name in estimates}
    values = {first[name]: value for name, value in reversed(estimates.items())}
    glue_all(values | {"verdict": row["verdict"], "agrees": agreement(result, full)}, prefix)
