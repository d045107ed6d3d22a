"""Links: check every address in the prose with Sphinx's linkcheck builder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .run import StudyError

PLACES = ("README.md", "CONTRIBUTING.md", "book/*.md", "book/references.bib", "notebooks/*.ipynb")
ADDRESS = re.compile(r"https?://[^\s<>\"'`)\]}|\\]+")
DOI = re.compile(r"^\s*doi\s*=\s*[{\"]\s*([^}\"\s]+)", re.MULTILINE | re.IGNORECASE)
EXCLUDED = re.compile(r"//localhost|ADDRESS|OWNER")  # the reader's own machine, and placeholders
# One worker tries HEAD for each address and, if that is refused, GET. It waits if a server asks it to.
SETTINGS = ("workers=1", "timeout=20", "anchors=0", "rate_limit_timeout=120")


def outside_links(home: Path) -> dict[str, list[str]]:
    """Every web address and DOI in ``PLACES``, with the names of the files that contain it."""
    found = {}
    for path in sorted(path for place in PLACES for path in home.glob(place)):
        text = path.read_text(encoding="utf-8")
        addresses = [address.rstrip(".,;:") for address in ADDRESS.findall(text)]
        if path.suffix == ".bib":
            addresses += [f"https://doi.org/{doi}" for doi in DOI.findall(text)]
        for address in dict.fromkeys(addresses):
            found.setdefault(address, []).append(path.name)
    return {address: files for address, files in sorted(found.items()) if not EXCLUDED.search(address)}


def check_links(home: Path) -> None:
    """Request every address once, and print its status and its files.

    Sites that refuse automatic requests (403), such as publishers, are shown as "refused" and do not count as
    dead.

    Raises:
        StudyError: Sphinx failed, or an address is dead.
    """
    links, dead = outside_links(home), 0
    settings = [part for setting in SETTINGS for part in ("-D", f"linkcheck_{setting}")]
    with tempfile.TemporaryDirectory() as name:
        page = "\n".join(f"- `link <{address}>`__" for address in links)
        Path(name, "index.rst").write_text(f"Links\n=====\n\n{page}\n", encoding="utf-8")
        command = [sys.executable, "-m", "sphinx", "-C", "-b", "linkcheck", *settings, name, f"{name}/out"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not (output := Path(name, "out/output.json")).is_file():
            raise StudyError(f"Sphinx could not check the links:\n{done.stderr.strip()}")
        answers = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    answers = {answer["uri"]: answer for answer in answers if answer["status"] != "rate-limited"}
    for address, files in links.items():
        answer = answers.get(address, {"status": "timeout", "info": ""})
        status = answer["status"]
        if status in ("broken", "timeout"):
            status = "refused" if answer["info"].startswith("403") else "dead"
        dead += status == "dead"
        print(f"{status:10} {address}  {answer['info']}  ({', '.join(files)})")
    if dead:
        raise StudyError(f"{dead} of {len(links)} links are dead")
