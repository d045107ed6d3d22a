"""A small run of all notebooks, the book made of it, and its pages in a browser."""

import base64
import os
import re
import shutil
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from conftest import KILLS, until_done
from vowelstudy.book import build_book
from vowelstudy.results import load_results

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
    assert [f"notebooks/{name}" for name in load_results(build)] == [
        p for p in CHAPTERS if p.startswith("notebooks/")
    ]


def test_what_others_wrote_comes_with_their_licence(build):
    for name in ("mathjax/LICENSE", "widgets/embed.js.LICENSE.txt", "scripts/bootstrap.js.LICENSE.txt"):
        assert (build / "html/_static" / name).stat().st_size > 100


class Loaded(HTMLParser):
    """Collects the addresses that a page loads by itself: scripts, styles, pictures, sounds, frames, fonts."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        loads = tag != "a" and not (
            tag == "link" and attributes.get("rel") in ("canonical", "license", "next", "prev")
        )
        if loads:
            self.addresses += [
                attributes[name] for name in ("src", "href", "srcset", "poster") if attributes.get(name)
            ]


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
    tab.on(
        "request", lambda request: problems.append(request.url) if not is_local(request.url, server) else None
    )
    tab.goto(server + page, wait_until="networkidle")
    assert tab.title()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    # ipywidgets' Image takes no alt text: its caption has to say what it shows.
    assert tab.evaluate("document.querySelectorAll('img:not([alt])').length") == 0
    buttons = tab.locator(".vf-sound button.vf-play")
    if buttons.count():
        buttons.first.click()
        sound = buttons.first.locator("xpath=following-sibling::audio")
        assert sound.evaluate(
            "a => new Promise(ok => { a.onended = () => ok(true); if (a.ended) ok(true); })"
        )
        link = tab.locator(".vf-sound a.vf-save").first
        box = link.bounding_box()
        assert min(box["width"], box["height"]) >= 24
        link.focus()
        with tab.expect_download() as download:
            tab.keyboard.press("Enter")
        assert download.value.suggested_filename == link.get_attribute("download")
        encoded = sound.get_attribute("src").partition(",")[2]
        assert Path(download.value.path()).read_bytes() == base64.b64decode(encoded)
    tab.close()
    assert not problems


def is_local(url, server):
    return url.startswith((server, "data:", "blob:"))


class Links(HTMLParser):
    """Collects where the links of a page lead, and what can be led to."""

    def __init__(self):
        super().__init__()
        self.links, self.anchors = [], set()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])


def make_book(ready, build):
    os.chdir(HOME)
    ready.set()
    build_book(build, address="https://github.com/someone/study")


@pytest.fixture(scope="module")
def linked(build, processes, tmp_path_factory):
    """The pages of the book of a known repository, after its making was killed at random moments."""
    folder = tmp_path_factory.mktemp("linked") / "build"
    shutil.copytree(build, folder, ignore=shutil.ignore_patterns("stage-*", "codes", "models"))

    def files():
        return {path.relative_to(folder) for path in (folder / "html").rglob("*")}

    there = files()

    def whole_or_none():
        assert files() in (there, set())

    until_done(processes, make_book, (folder,), KILLS // 3, 25, whole_or_none)
    assert files() == there and not list(folder.glob("stage-*"))
    return folder / "html"


@pytest.mark.long
def test_with_the_repository_known_pages_can_be_edited_and_chapters_launched(build, linked):
    def outward(html, page):
        parser = Links()
        parser.feed((html / page).read_text(encoding="utf-8"))
        return [link for link in parser.links if re.match("https://(github.com|mybinder|colab)", link)]

    assert not outward(build / "html", "notebooks/01_data.html")
    edited = "https://github.com/someone/study/edit/main/"
    launched = (
        "https://mybinder.org/v2/gh/someone/study/main?urlpath=lab/tree/notebooks/01_data.ipynb",
        "https://colab.research.google.com/github/someone/study/blob/main/notebooks/01_data.ipynb",
    )
    assert {f"{edited}notebooks/01_data.ipynb", *launched} < set(outward(linked, "notebooks/01_data.html"))
    assert f"{edited}book/run.md" in outward(linked, "book/run.html")


def test_every_link_within_the_book_leads_somewhere(build):
    html = build / "html"
    read = {}
    for page in PAGES:
        read[(html / page).resolve()] = parser = Links()
        parser.feed((html / page).read_text(encoding="utf-8"))
    dead = []
    for page, parser in read.items():
        for link in parser.links:
            place, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:|//", place):
                continue
            target = (page.parent / unquote(place)).resolve() if place else page
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (
                anchor and target in read and unquote(anchor) not in read[target].anchors
            ):
                dead.append(f"{page.name}: {link}")
    assert not dead


def test_the_archive_has_the_sounds_that_the_pages_play(build):
    intro = (build / "html/book/intro.html").read_text(encoding="utf-8")
    with zipfile.ZipFile(build / "html/book" / re.search(r'href="([^"]+/sounds\.zip)"', intro)[1]) as archive:
        packed = {
            (name.partition("/")[0], archive.read(name))
            for name in archive.namelist()
            if name.endswith(".wav")
        }
    played = set()
    for page in CHAPTERS:
        text = (build / "html" / f"{page}.html").read_text(encoding="utf-8")
        clips = re.findall('data:audio/wav;base64,([^"]+)', text)
        played |= {(page.removeprefix("notebooks/"), base64.b64decode(clip)) for clip in clips}
    assert played and packed == played


@pytest.mark.parametrize("page", PAGES)
def test_a_page_without_its_sounds_is_light(build, page):
    text = (build / "html" / page).read_text(encoding="utf-8")
    pictures = sum(file.stat().st_size for name in set(re.findall(r'src="([^":]+\.(?:png|svg))"', text))
                   if (file := (build / "html" / page).parent / name).is_file())  # fmt: skip
    assert len(re.sub(r"data:audio/[^\"]+", "", text)) + pictures < 1.5e6


@pytest.mark.long
@pytest.mark.parametrize("theme", ("light", "dark"))
@pytest.mark.parametrize("page", PAGES)
def test_page_without_eyes_or_mouse(server, browser, page, theme):
    """axe-core finds nothing critical or serious in what the page itself says; the theme's frame around it is not ours."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    tab.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
    tab.goto(server + page, wait_until="networkidle")
    tab.add_style_tag(content="* { animation: none !important; transition: none !important }")
    tab.evaluate("document.querySelectorAll('details').forEach((folded) => (folded.open = true))")
    found = (
        axe.Axe().run(tab, context="article.bd-article", options={"preload": False}).response["violations"]
    )
    tab.close()
    wrong = [
        (one["id"], one["nodes"][0]["html"][:300])
        for one in found
        if one["impact"] in ("critical", "serious")
    ]
    assert not wrong


@pytest.mark.parametrize(
    "page", ("notebooks/05_interpolation.html", "notebooks/10_verdicts.html", "book/explorer.html")
)
def test_on_paper_there_is_nothing_to_press_and_night_is_day(server, browser, page):
    tab = browser.new_page(viewport={"width": 794, "height": 1123})  # A4
    tab.add_init_script("localStorage.setItem('mode', 'dark'); localStorage.setItem('theme', 'dark')")
    tab.goto(server + page, wait_until="networkidle")
    background = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(background) != "rgb(255, 255, 255)"
    tab.emulate_media(media="print")
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate(background) == "rgb(255, 255, 255)"
    controls = (
        "button, input, select, .vf-save, .vf-play, .noUi-base, .bd-sidebar-primary, .bd-sidebar-secondary"
    )
    assert not [one for one in tab.locator(controls).all() if one.is_visible()]
    wide = "[...document.querySelectorAll('article table, article pre, article img')].filter((e) => e.scrollWidth > e.parentElement.clientWidth + 1).length"
    assert tab.evaluate(wide) == 0
    tab.emulate_media(media="screen")
    tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate(background) != "rgb(255, 255, 255)"
    tab.close()
