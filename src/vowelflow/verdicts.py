"""Verdicts: findings -> the tables of the book, of the README and of ``verdicts.json``."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML

from .claims import CLAIMS, OTHER_SEED, WITH_SHARED, all_findings, dumps, full_results, is_stale, results_folder
from .corpus import save_atomically
from .evidence import Bench
from .findings import VERDICTS
from .study import build_folder

SIGNS = dict(zip(VERDICTS, ("✓", "◐", "✗", "?")))  # beside the words, never instead of them
PICTURE = "Each claim's number beside the baseline that is hardest to beat, with its interval over speakers, in margins, before Holm's correction"
MARKS = ("<!-- verdicts: generated -->", "<!-- end of verdicts -->")


def told(value, ends=None) -> str:
    """A number with its interval, as every table has it."""
    if value is None:
        return "-"
    return _short(value) if ends is None else f"{_short(value)} ({_short(ends[0])} to {_short(ends[1])})"


def _short(value: float) -> str:
    return (f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}").replace("-0.000", "0.000")


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
            "ours": told(row["estimate"], row["interval"]),
            "best baseline": "-" if best is None else f"{best[0]}: {told(best[1]['estimate'], best[1]['interval'])}",
        })  # fmt: skip
    return pd.DataFrame(rows)


def show(result: dict) -> HTML:
    """The findings of one claim with every baseline, for the chapter that measures it; exploratory ones folded away."""
    primary, others = ([one for one in result["findings"] if one["primary"] is kind] for kind in (True, False))
    shown = "".join(map(_finding, primary))
    if others:
        shown += (
            f"<details><summary>Exploratory: {len(others)} more</summary>{''.join(map(_finding, others))}</details>"
        )
    return HTML(shown)


def _finding(row: dict) -> str:
    title = f"{row['part']}: {row['metric']}; {row['better']} is better, margin {row['margin']}, {row['n']} items, {row['clusters']} clusters"
    lines = [(row["contestant"], told(row["estimate"], row["interval"]), "")]
    for name, one in row["baselines"].items():
        gap = one["difference"]
        lines.append((name, told(one["estimate"], one["interval"]), told(gap["estimate"], gap["interval"])))
    lines += [(f"({name})", told(one["estimate"], one["interval"]), "") for name, one in row["beside"].items()]
    if shared := row.get("with_shared"):
        told_of = told(shared["estimate"], shared["interval"])
        lines.append((f"({row['contestant']}, with sentences that everybody says)", told_of, ""))
    for seed, other in (row.get("seeds") or {}).items():
        lines.append((f"({row['contestant']}, seed {seed})", told(other["estimate"], other["interval"]), ""))
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return (
        f'<p class="vf-what">{html.escape(title)}</p><table class="vf-finding"><thead><tr><th>contestant</th><th>estimate</th>'
        f"<th>better than it by</th></tr></thead><tbody>{cells}</tbody></table><p><strong>{SIGNS[row['verdict']]} "
        f"{html.escape(row['verdict'])}</strong>: {html.escape(row['reason'])}.</p>"
    )


def dashed(frame: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """The numbers of a table as texts, with a dash where there is none."""
    return frame.astype(float).map(
        lambda value: f"{round(value, digits) + 0:.{digits}f}" if np.isfinite(value) else "-"
    )


def intervals(found: dict[str, dict] | None) -> pd.DataFrame:
    """A row each of what ``judges.interval`` found; no row of None."""
    rows = {}
    for name, one in (found or {}).items():
        ends = None if one["low"] is None else (one["low"], one["high"])
        rows[name] = [told(one["estimate"], ends), one["clusters"]]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "clusters"])


def agreement(here: dict, full: dict | None) -> str:
    """Whether a small run and the full protocol come to the same verdicts, in a sentence."""
    if full is None:
        return "There are no full results for this corpus and flow; this run is all there is."
    small, large = (next(row["verdict"] for row in one["findings"] if row["primary"]) for one in (here, full))
    when = " They are stale: the measurement or the flow has changed since they were made." if full["stale"] else ""
    if small == large:
        return f"This run and the full protocol agree: {large}.{when}"
    return f"This run says: {small}. The full protocol, with {full['findings'][0]['n']} items, says: {large}.{when}"


def full_of(bench: Bench) -> dict[str, dict]:
    """The full protocol's results for what a bench is of, by claim, corrected over all claims; none if they are of other recordings."""
    found = full_results(results_folder(bench.corpus, bench.flow))
    rows = all_findings(found)
    return {
        name: one | {"findings": [row for row in rows if row["claim"] == name]}
        for name, one in found.items()
        if one["provenance"]["fingerprint"] == bench.corpus.fingerprint
    }


def write_verdicts(folder: Path) -> Path:
    """``verdicts.json`` beside the full results of a corpus and a flow: all rows, and their null checks.

    Rows have ``with_shared``, what comes of all sentences, and ``seeds``, what comes of other seeds, where that was measured.
    """
    shared = _by_part(folder.with_name(folder.name + WITH_SHARED))
    start = folder.name + OTHER_SEED
    seeds = {path.name.removeprefix(start): _by_part(path) for path in sorted(folder.parent.glob(f"{start}*"))}

    def with_beside(row):
        place = row["claim"], row["part"]
        others = {seed: rows[place] for seed, rows in seeds.items() if place in rows}
        return row | {"with_shared": shared.get(place), "seeds": others}

    return _write(folder / "verdicts.json", full_results(folder), with_beside)


def _by_part(folder: Path) -> dict[tuple[str, str], dict]:
    """What is told beside of each claim's parts."""
    keys = ("estimate", "interval", "n", "clusters", "verdict")
    return {(row["claim"], row["part"]): {key: row[key] for key in keys} for row in all_findings(full_results(folder))}


def over_seeds(findings: list[dict]) -> str:
    """How many primary verdicts another seed changes, in a sentence; which decides on dequantization noise, pairs, samples and shuffles."""
    tried = [(row, other) for row in findings if row["primary"] for other in (row.get("seeds") or {}).values()]
    if not tried:
        return "No other seed has been tried."
    changed = sorted({row["claim"] for row, other in tried if row["verdict"] != other["verdict"]})
    said = f"it changes that of {', '.join(changed)}" if changed else "it changes none"
    return f"{len(tried)} primary verdicts were reached with another seed, too: {said}."


def write_run(results: dict[str, dict]) -> Path:
    """The same of what the chapters of this run measured, by claim: ``results/verdicts.json`` of the build folder."""
    return _write(build_folder() / "results" / "verdicts.json", results)


def _write(path: Path, results: dict[str, dict], told_of: Callable[[dict], dict] = dict) -> Path:
    content = {
        "findings": list(map(told_of, all_findings(results))),
        "null": {name: one["null"] for name, one in results.items() if one["null"]},
        "provenance": {name: one["provenance"] for name, one in results.items()},
    }  # fmt: skip
    return save_atomically(path, lambda file: file.write_text(dumps(content), encoding="utf-8"))


def load_verdicts(home: Path) -> dict[tuple[str, str], dict]:
    """All ``verdicts.json`` under ``results/``, by corpus and flow, real speech first; rows say whether they are ``stale``."""
    found = {}
    files = (home / "results").glob("*/*/verdicts.json")
    for file in sorted(files, key=lambda one: ("klatt" in one.parts, one)):
        content = json.loads(file.read_text(encoding="utf-8"))
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


def markdown(frame: pd.DataFrame) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in frame.itertuples(index=False)
    ]
    return "\n".join(lines)


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
