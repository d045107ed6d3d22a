"""Tables of findings and verdicts for the book, the README and ``verdicts.json``."""

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

SIGNS = dict(zip(VERDICTS, ("✓", "◐", "✗", "?")))  # shown next to the words, never instead of them
PICTURE = (
    "Each claim's number beside the baseline that is hardest to beat, with its interval over speakers, "
    "in margins, before Holm's correction"
)
MARKS = ("<!-- verdicts: generated -->", "<!-- end of verdicts -->")


def _word(row: dict) -> str:
    stale = ", but stale: the measurement or the flow has changed since" if row.get("stale") else ""
    return f"{SIGNS[row['verdict']]} {row['verdict']}{stale}"


def best_baseline(row: dict) -> tuple[str, dict] | None:
    """Name and estimate of the best baseline; None if there is none."""
    ranked = [(name, one) for name, one in row["baselines"].items() if one["estimate"] is not None]
    sign = 1 if row["better"] == "more" else -1
    return max(ranked, key=lambda pair: sign * pair[1]["estimate"], default=None)


def table(findings: list[dict], link: str | None = None, primary: bool | None = None) -> pd.DataFrame:
    """A row for each finding: claim, verdict, test, our estimate and the best baseline's.

    Args:
        link: where the pages of the chapters are, if claims should link to them.
        primary: whether to show the primary findings only, or the others only; all if None.
    """
    rows = []
    for row in (one for one in findings if primary in (None, one["primary"])):
        best, claim = best_baseline(row), row["statement"]
        rows.append({
            "claim": claim if link is None else f"[{claim}]({link}{row['notebook']}.html)",
            "verdict": _word(row),
            "test": f"{row['part']}: {row['metric']} ({row['better']} is better)" if row["metric"] else "-",
            "ours": estimate_text(row),
            "best baseline": "-" if best is None else f"{best[0]}: {estimate_text(best[1])}",
        })  # fmt: skip
    return pd.DataFrame(rows)


def show(result: dict) -> HTML:
    """The findings of one claim with all baselines, for its chapter; exploratory findings are folded away."""
    shown = "".join(_finding(row) for row in result["findings"] if row["primary"])
    others = [_finding(row) for row in result["findings"] if not row["primary"]]
    if others:
        summary = f"<summary>Exploratory: {len(others)} more</summary>"
        shown += f"<details>{summary}{''.join(others)}</details>"
    return HTML(shown)


def _finding(row: dict) -> str:
    """One finding in HTML: a table of the method and its baselines, and the verdict."""
    own, shared = row["method"], row.get("with_shared")
    others = {f"({name})": one for name, one in row["beside"].items()}
    others |= {f"({own}, with the sentences that all speakers read)": shared} if shared else {}
    others |= {f"({own}, seed {seed})": one for seed, one in (row.get("seeds") or {}).items()}
    lines = [(own, row, None), *((name, one, one["difference"]) for name, one in row["baselines"].items())]
    body = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{estimate_text(one)}</td>"
        f"<td>{estimate_text(gap) if gap else ''}</td></tr>"
        for name, one, gap in [*lines, *((name, one, None) for name, one in others.items())]
    )
    head = "<tr><th>method</th><th>estimate</th><th>better than the baseline by</th></tr>"
    title = (
        f"{row['part']}: {row['metric']}; {row['better']} is better, margin {row['margin']}, "
        f"{row['n']} items, {row['clusters']} clusters"
    )
    return (
        f'<p class="vf-what">{html.escape(title)}</p>'
        f'<table class="vf-finding"><thead>{head}</thead><tbody>{body}</tbody></table>'
        f"<p><strong>{_word(row)}</strong>: {html.escape(row['reason'])}.</p>"
    )


def dashed(frame: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """The numbers of a table as text with ``digits`` decimals, and a dash where there is no number."""

    def text(value: float) -> str:
        return f"{round(value, digits) + 0:.{digits}f}" if np.isfinite(value) else "-"

    return frame.astype(float).map(text)


def intervals(found: dict[str, dict] | None) -> pd.DataFrame:
    """A row for each result of ``statistics.interval``; an empty table for None."""
    rows = {name: [estimate_text(one), one["clusters"]] for name, one in (found or {}).items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "clusters"])


def agreement(here: dict, full: dict | None) -> str:
    """A sentence that says whether this run and the full protocol have the same verdict."""
    if full is None:
        return "There are no full results for this corpus and flow; this run is all there is."
    small, large = (next(row["verdict"] for row in one["findings"] if row["primary"]) for one in (here, full))
    stale = (
        " The full results are stale: the measurement or the flow has changed since." if full["stale"] else ""
    )
    if small == large:
        return f"This run and the full protocol agree: {large}.{stale}"
    n = full["findings"][0]["n"]
    return f"This run says: {small}. The full protocol, with {n} items, says: {large}.{stale}"


def full_of(setting: Setting) -> dict[str, dict]:
    """Results of the full protocol for a setting, by claim, corrected over all claims.

    Results that were measured on other recordings are left out.
    """
    found = full_results(results_folder(setting.corpus, setting.flow))
    rows = all_findings(found)
    return {
        name: one | {"findings": [row for row in rows if row["claim"] == name]}
        for name, one in found.items()
        if one["provenance"]["fingerprint"] == setting.corpus.fingerprint
    }


def write_verdicts(folder: Path) -> Path:
    """Write ``verdicts.json`` into the folder with the full results of a corpus and a flow.

    It has all findings, null checks and provenances. If they were measured, each finding has ``with_shared``,
    its result with the sentences that all speakers read, and ``seeds``, its results with other seeds.
    """
    shared, start = _by_part(folder.with_name(folder.name + WITH_SHARED)), folder.name + OTHER_SEED
    others = {
        path.name.removeprefix(start): _by_part(path) for path in sorted(folder.parent.glob(f"{start}*"))
    }

    def extended(row: dict) -> dict:
        part = row["claim"], row["part"]
        seeds = {seed: rows[part] for seed, rows in others.items() if part in rows}
        return row | {"with_shared": shared.get(part), "seeds": seeds}

    return _write(folder / "verdicts.json", full_results(folder), extended)


def _by_part(folder: Path) -> dict[tuple[str, str], dict]:
    """The results in a folder, by claim and part."""
    keys, rows = ("estimate", "interval", "n", "clusters", "verdict"), all_findings(full_results(folder))
    return {(row["claim"], row["part"]): {key: row[key] for key in keys} for row in rows}


def over_seeds(findings: list[dict]) -> str:
    """A sentence that says how many primary verdicts change with another seed.

    The seed decides the dequantization noise, pairs, samples and shuffles.
    """
    primary = [row for row in findings if row["primary"]]
    tried = [(row, other) for row in primary for other in (row.get("seeds") or {}).values()]
    if not tried:
        return "No other seed has been tried."
    changed = sorted({row["claim"] for row, other in tried if row["verdict"] != other["verdict"]})
    effect = f"it changes that of {', '.join(changed)}" if changed else "it changes none"
    return f"{len(tried)} primary verdicts were measured with another seed, too: {effect}."


def write_run(results: dict[str, dict]) -> Path:
    """Write ``results/verdicts.json`` of the build folder from the results of this run, by claim."""
    return _write(build_folder() / "results" / "verdicts.json", results)


def _write(path: Path, results: dict[str, dict], extended: Callable[[dict], dict] = dict) -> Path:
    null = {name: one["null"] for name, one in results.items() if one["null"]}
    provenance = {name: one["provenance"] for name, one in results.items()}
    findings = [extended(row) for row in all_findings(results)]
    return write_json(path, {"findings": findings, "null": null, "provenance": provenance})


def load_verdicts(home: Path) -> dict[tuple[str, str], dict]:
    """All ``verdicts.json`` under ``results/`` by corpus and flow, real speech first; rows have ``stale``."""
    found = {}
    files = (home / "results").glob("*/*/verdicts.json")
    for file in sorted(files, key=lambda one: ("klatt" in one.parts, one)):
        content = read_json(file)
        stale = {name for name, one in content["provenance"].items() if is_stale(one, CLAIMS[name])}
        content["findings"] = [row | {"stale": row["claim"] in stale} for row in content["findings"]]
        found[file.parent.parent.name, file.parent.name] = content
    return found


def readme_table(found: dict[tuple[str, str], list[dict]]) -> str:
    """The README's table: the primary verdict of each claim, with a column for each corpus and flow."""
    rows = []
    for claim in CLAIMS.values():
        row = {"section": claim.section, "the paper's claim": claim.statement}
        for (corpus, flow), findings in found.items():
            primary = next((one for one in findings if one["claim"] == claim.id and one["primary"]), None)
            row[f"{flow} on {corpus}"] = _word(primary) if primary else "not measured yet"
        rows.append(row)
    return markdown(pd.DataFrame(rows))


def renew_readme(home: Path) -> Path:
    """Update the table between the ``MARKS`` of the README, and the figure ``results/verdicts.svg``."""
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

    The estimates of the method and of all baselines are glued under the first word of their names in lower
    case, the verdict as ``verdict``, and the sentence of ``agreement`` as ``agrees``.
    """
    row = result["findings"][0]
    estimates = {row["method"]: row["estimate"]}
    estimates |= {name: one["estimate"] for name, one in (row["baselines"] | row["beside"]).items()}
    first = {name: name.split()[0].strip(",").replace("-", "_").lower() for name in estimates}
    values = {first[name]: value for name, value in reversed(estimates.items())}
    glue_all(values | {"verdict": row["verdict"], "agrees": agreement(result, full)}, prefix)
