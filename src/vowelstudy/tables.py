"""Tables of findings and verdicts for the book, the README and ``verdicts.json``."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML

from vowelflow.base import build_folder, save_atomically

from .evidence import (
    OTHER_SEED,
    OWN_DIRECTIONS,
    WITH_SHARED,
    all_findings,
    full_results,
    is_stale,
    results_folder,
)
from .experiments import CLAIMS
from .folds import Setting
from .results import estimate_text, glue_all, markdown, read_json, write_json
from .statistics import NO, NOT_REPRODUCED, REPRODUCED, UNDECIDED, YES

SIGNS = {REPRODUCED: "✓", NOT_REPRODUCED: "✗", YES: "✓", NO: "✗", UNDECIDED: "?"}  # beside the words
ASKED = {"effect": "is it there?", "flow": "does it need the flow?"}
PICTURE = (
    "Each claim's number against the hardest null and against the hardest simple method, with intervals over "
    "speakers, in margins, before Holm's correction"
)
MARKS = ("<!-- verdicts: generated -->", "<!-- end of verdicts -->")


def _word(row: dict) -> str:
    stale = ", but stale: the measurement or the flow has changed since" if row.get("stale") else ""
    return f"{SIGNS[row['answer']]} {row['answer']}{stale}"


def hardest(row: dict) -> tuple[str, dict] | None:
    """Name and row of the baseline with the smallest difference; None if there is none."""
    ranked = [pair for pair in row["baselines"].items() if pair[1]["difference"]["estimate"] is not None]
    return min(ranked, key=lambda pair: pair[1]["difference"]["estimate"], default=None)


def table(findings: list[dict], link: str | None = None, primary: bool | None = None) -> pd.DataFrame:
    """A row for each finding: claim, question, answer, test, our estimate and the hardest baseline's.

    Args:
        link: where the pages of the chapters are, if claims should link to them.
        primary: whether to show the primary findings only, or the others only; all if None.
    """
    rows = []
    for row in (one for one in findings if primary in (None, one["primary"])):
        best, claim = hardest(row), row["statement"]
        rows.append({
            "claim": claim if link is None else f"[{claim}]({link}{row['notebook']}.html)",
            "question": ASKED[row["question"]], "answer": _word(row),
            "test": f"{row['part']}: {row['metric']} ({row['better']} is better)" if row["metric"] else "-",
            "ours": estimate_text(row),
            "hardest baseline": "-" if best is None else f"{best[0]}: {estimate_text(best[1])}",
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
    """One finding in HTML: the question, a table of the method and its baselines, and the answer."""
    own = row["method"]
    if not row["metric"]:  # a claim that cannot be tested here
        return f"<p><strong>{_word(row)}</strong>: {html.escape(row['reason'])}.</p>"
    others = {f"({name})": one for name, one in row["beside"].items()}
    others |= {f"({own}, by {name} alone)": {"estimate": one} for name, one in row["judges"].items()}
    others |= {f"({own}, {name})": one for name, one in row["seeds"].items()}
    lines = [(own, row, None), *((name, one, one["difference"]) for name, one in row["baselines"].items())]
    body = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{estimate_text(one)}</td>"
        f"<td>{estimate_text(gap) if gap else ''}</td></tr>"
        for name, one, gap in [*lines, *((name, one, None) for name, one in others.items())]
    )
    head = "<tr><th>method</th><th>estimate</th><th>better than the baseline by</th></tr>"
    title = (
        f"{ASKED[row['question']].capitalize()} {row['part']}: {row['metric']}; {row['better']} is better, "
        f"margin {row['margin']}, n = {row['n']}, {row['speakers']} speakers, 95 % intervals over speakers"
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
    """A sentence that says whether this run and the full protocol give the same answers."""
    if full is None:
        return "There are no full results for this corpus and flow; this run is all there is."
    old = (
        " The full results are stale: the measurement or the flow has changed since." if full["stale"] else ""
    )
    both = [{row["question"]: row for row in one["findings"] if row["primary"]} for one in (here, full)]
    if all(row["answer"] == both[1].get(name, row)["answer"] for name, row in both[0].items()):
        return f"This run and the full protocol agree.{old}"
    answers = [", ".join(row["answer"] for row in one.values()) for one in both]
    n = full["findings"][0]["n"]
    return f"This run says: {answers[0]}. The full protocol, with n = {n}, says: {answers[1]}.{old}"


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

    It has all findings, null checks and provenances. ``seeds`` of a finding has its results with other seeds,
    with other seeds of the flow, with directions of the corpus's own speakers, and with the sentences that
    all speakers read, where these were measured. If another seed gives another answer, the answer is
    *undecided*.
    """
    others = _beside(folder)

    def extended(row: dict) -> dict:
        key = row["claim"], row["part"], row["question"]
        seeds = {name: rows[key] for name, rows in others.items() if key in rows}
        turned = [name for name, one in seeds.items() if "seed" in name and one["answer"] != row["answer"]]
        if turned and row["answer"] != UNDECIDED:
            reason = f"{row['answer']} here, but {seeds[turned[0]]['answer']} with {turned[0]}"
            row = row | {"answer": UNDECIDED, "reason": reason}
        return row | {"seeds": seeds}

    return _write(folder / "verdicts.json", full_results(folder), extended)


def _beside(folder: Path) -> dict[str, dict]:
    """Results that are reported beside those of a folder, in words, each by claim, part and question."""
    found = {}
    for path in sorted(folder.parent.glob(f"{folder.name}-*")):
        name = path.name.removeprefix(folder.name)
        words = {
            WITH_SHARED: "with shared sentences",
            OWN_DIRECTIONS: "with directions of the corpus's own speakers",
        }
        if name.startswith(OTHER_SEED):
            words[name] = f"sampling seed {name.removeprefix(OTHER_SEED)}"
        if name.removeprefix("-seed-").isdecimal():
            words[name] = f"flow {path.name}"
        if name in words:
            keys, rows = ("estimate", "interval", "n", "speakers", "answer"), all_findings(full_results(path))
            found[words[name]] = {
                (row["claim"], row["part"], row["question"]): {key: row[key] for key in keys} for row in rows
            }
    return found


def over_seeds(findings: list[dict]) -> str:
    """A sentence that says how many primary answers change with another seed of sampling or of the flow."""
    primary = [row for row in findings if row["primary"]]
    tried = [(row, other) for row in primary for name, other in row["seeds"].items() if "seed" in name]
    if not tried:
        return "No other seed has been tried."
    changed = sorted(
        {f"{row['claim']} ({row['question']})" for row, other in tried if row["answer"] != other["answer"]}
    )
    effect = f"it changes {', '.join(changed)}" if changed else "it changes none"
    return f"{len(tried)} primary answers were measured with another seed, too: {effect}."


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
    """The README's table: the two answers for each claim, with a pair of columns for each corpus and flow."""
    rows = []
    for claim in CLAIMS.values():
        row = {"section": claim.section, "the paper's claim": claim.statement}
        for (corpus, flow), findings in found.items():
            for question, text in ASKED.items():
                one = _primary(findings, claim.id, question)
                row[f"{flow} on {corpus}: {text}"] = _word(one) if one else "-"
        rows.append(row)
    return markdown(pd.DataFrame(rows))


def _primary(findings: list[dict], claim: str, question: str) -> dict | None:
    rows = [
        row for row in findings if row["primary"] and (row["claim"], row["question"]) == (claim, question)
    ]
    return rows[0] if rows else None


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
    """Glue the primary findings of a claim for the text of its chapter.

    The estimates of the method and of all baselines are glued under the first word of their names in lower
    case, the answers as ``effect`` and ``flow_needed`` with their reasons, and the sentence of ``agreement``
    as ``agrees``.
    """
    rows = [row for row in result["findings"] if row["primary"]]
    estimates = {rows[0]["method"]: rows[0]["estimate"]}
    for row in rows:
        estimates |= {name: one["estimate"] for name, one in (row["baselines"] | row["beside"]).items()}
    first = {name: name.split()[0].strip(",").replace("-", "_").lower() for name in estimates}
    values = {first[name]: value for name, value in reversed(estimates.items())}
    names = {"effect": "effect", "flow": "flow_needed"}
    values |= {key: "not asked" for name in names.values() for key in (name, f"{name}_reason")}
    for row in rows:
        name = names[row["question"]]
        values |= {name: row["answer"], f"{name}_reason": row["reason"]}
    glue_all(values | {"agrees": agreement(result, full)}, prefix)
