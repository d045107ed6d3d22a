"""A small run of all notebooks, the book made of it, and its pages in a browser."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from vowelflow.study import load_results

HOME = Path(__file__).resolve().parents[2]
TOC = yaml.safe_load((HOME / "book/_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
PAGES = [f"{page}.html" for page in (TOC["root"], *CHAPTERS)]

pytestmark = pytest.mark.book


def test_every_page_is_there_and_says_what_it_was_made_from(build):
    assert (build / "html/index.html").is_file()
    for page in PAGES:
        text = (build / "html" / page).read_text(encoding="utf-8")
        assert "Pictures and sounds made from klatt, profile smoke" in text


def test_every_notebook_wrote_its_numbers(build):
    assert [f"notebooks/{name}" for name in load_results(build)] == [p for p in CHAPTERS if p.startswith("notebooks/")]


class Loaded(HTMLParser):
    """Collects the addresses that a page loads by itself: scripts, styles, pictures, sounds, frames, fonts."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        loads = tag != "a" and not (tag == "link" and attributes.get("rel") in ("canonical", "license", "next", "prev"))
        if loads:
            self.addresses += [attributes[name] for name in ("src", "href", "srcset", "poster") if attributes.get(name)]


@pytest.mark.parametrize("page", PAGES)
def test_page_loads_nothing_from_elsewhere(build, page):
    parser = Loaded()
    parser.feed((build / "html" / page).read_text(encoding="utf-8"))
    assert parser.addresses
    assert not [one[:200] for one in parser.addresses if one.startswith(("http:", "https:", "//"))]


@pytest.mark.parametrize("page", PAGES)
def test_page_in_a_browser(server, browser, page):
    """No error in the console, no request to another host, no sideways scroll on a phone, sounds that play."""
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    problems = []
    tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda request: problems.append(request.url) if not is_local(request.url, server) else None)
    tab.goto(server + page, wait_until="networkidle")
    assert tab.title()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    # ipywidgets' Image takes no alt text: its caption has to say what it shows.
    assert tab.evaluate("document.querySelectorAll('img:not([alt])').length") == 0
    buttons = tab.locator("button.vf-play")
    if buttons.count():
        buttons.first.click()
        sound = buttons.first.locator("xpath=following-sibling::audio")
        assert sound.evaluate("a => new Promise(ok => { a.onended = () => ok(true); if (a.ended) ok(true); })")
    tab.close()
    assert not problems


def is_local(url, server):
    return url.startswith((server, "data:", "blob:"))
