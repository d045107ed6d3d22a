"""Links: every outside address that the prose names -> whether it still answers. Sphinx's linkcheck asks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .study import StudyError

PLACES = ("README.md", "CONTRIBUTING.md", "book/*.md", "book/references.bib", "notebooks/*.ipynb")
ADDRESS = re.compile(r"https?://[^\s<>\"'`)\]}|\\]+")
DOI = re.compile(r"^\s*doi\s*=\s*[{\"]\s*([^}\"\s]+)", re.MULTILINE | re.IGNORECASE)
NOT_OUTSIDE = re.compile(r"//localhost|ADDRESS|OWNER")  # one's own machine, and what a reader fills in
# One worker asks one address after the other, with HEAD and, where that is refused, GET; a server that says "too many
# requests" is given the time it asks for.
SETTINGS = ("linkcheck_workers=1", "linkcheck_timeout=20", "linkcheck_anchors=0", "linkcheck_rate_limit_timeout=120")


def outside_links(home: Path) -> dict[str, list[str]]:
    """Every http address and DOI in the book's pages, notebooks, bibliography and the repository's own, with its files."""
    found = {}
    for path in sorted(path for place in PLACES for path in home.glob(place)):
        text = path.read_text(encoding="utf-8")
        dois = DOI.findall(text) if path.suffix == ".bib" else []
        for address in [one.rstrip(".,;:") for one in ADDRESS.findall(text)] + [
            f"https://doi.org/{one}" for one in dois
        ]:
            files = found.setdefault(address, [])
            if path.name not in files:
                files.append(path.name)
    return {address: files for address, files in sorted(found.items()) if not NOT_OUTSIDE.search(address)}


def check_links(home: Path) -> None:
    """Ask every outside address once, and print a line for each: what it answered, and where it stands.

    One that refuses robots (403), as publishers do, is shown, and not taken for dead.

    Raises:
        StudyError: there are dead ones.
    """
    links, dead = outside_links(home), 0
    with tempfile.TemporaryDirectory() as name:
        page = "\n".join(f"- `link <{address}>`__" for address in links)
        Path(name, "index.rst").write_text(f"Links\n=====\n\n{page}\n", encoding="utf-8")
        settings = [part for setting in SETTINGS for part in ("-D", setting)]
        command = [sys.executable, "-m", "sphinx", "-C", "-b", "linkcheck", *settings, name, f"{name}/out"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not (output := Path(name, "out/output.json")).is_file():
            raise StudyError(f"Sphinx could not check the links:\n{done.stderr.strip()}")
        answers = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    answers = {answer["uri"]: answer for answer in answers if answer["status"] != "rate-limited"}
    for address, files in links.items():
        answer = answers.get(address, {"status": "timeout", "info": ""})
        status = "dead" if answer["status"] in ("broken", "timeout") else answer["status"]
        status = "refused" if status == "dead" and answer["info"].startswith("403") else status
        dead += status == "dead"
        print(f"{status:10} {address}  {answer['info']}  ({', '.join(files)})")
    if dead:
        raise StudyError(f"{dead} of {len(links)} links are dead")
