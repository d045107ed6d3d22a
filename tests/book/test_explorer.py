"""The explorer's page in a browser: what it shows and plays is what the package would, soon, and for everybody."""

import asyncio
import io
import json
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch

from vowelflow.audio import to_audio
from vowelflow.base import RATE
from vowelflow.klatt import klatt_corpus
from vowelflow.spectrogram import VOWEL
from vowelstudy import page
from vowelstudy.explorer import Explorer, Place
from vowelstudy.folds import open_setting
from vowelstudy.protocol import SMOKE

from .conftest import serving
from .firefox import opened

pytestmark = [pytest.mark.book, pytest.mark.long]


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    """The main flow, and a few synthetic tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOWELFLOW_BUILD", str(tmp_path_factory.mktemp("codes")))
        return Explorer(open_setting(klatt_corpus(), "speech", SMOKE))


@pytest.fixture(scope="module")
def site(build, explorer, tmp_path_factory):
    """The book, with that flow in its explorer."""
    folder = tmp_path_factory.mktemp("site") / "html"
    shutil.copytree(build / "html", folder)
    page.write_page(explorer, folder / "_static/explorer")
    return folder


@pytest.fixture(scope="module")
def address(site):
    with serving(site) as base:
        yield f"{base}book/explorer.html"


class Tab:
    """A page of the explorer that has loaded."""

    def __init__(self, browser, address, **options):
        self.page = browser.new_page(**options)
        self.problems, self.bytes, began = [], 0, time.monotonic()
        self.page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("response", self._count)
        self.page.goto(address)
        self.page.wait_for_function("window.vowelflowExplorer?.times.length > 0", timeout=60_000)
        self.ready = time.monotonic() - began

    def _count(self, response):
        if response.status >= 400:
            self.problems.append(response.url)
        self.bytes += int(response.headers.get("content-length", 0))

    def set(self, label, value):
        """Move a control, as a reader does, and wait for the sound."""
        self.page.get_by_label(label, exact=True).evaluate(
            "(e, value) => { e.value = value; e.dispatchEvent(new Event('input', { bubbles: true })) }",
            str(value),
        )
        self.page.wait_for_function("!vowelflowExplorer.busy && !vowelflowExplorer.late")

    def array(self, name):
        return np.array(self.page.evaluate(f"Array.from(vowelflowExplorer.{name})"), dtype=np.float32)


@pytest.fixture(scope="module")
def tab(browser, address):
    tab = Tab(browser, address, viewport={"width": 1200, "height": 900})
    yield tab
    tab.page.close()
    assert not tab.problems


def reset(tab):
    tab.page.get_by_role("button", name="Start again").click()
    tab.page.wait_for_function("!vowelflowExplorer.busy && !vowelflowExplorer.late")


def test_it_is_soon_there_and_not_large(tab):
    assert tab.ready < 15  # five on an idle machine
    assert 10e6 < tab.bytes < 30e6  # 14 of them are the engine


def test_picture_and_sound_are_the_packages(tab, explorer):
    reset(tab)
    first = next(iter(explorer.moves))
    tab.set(first, 1.2)
    tab.set("woman to man", -0.5)
    tab.set("of the rest", 0.9)
    place = Place(moves={first: 1.2, "woman to man": -0.5}, fine=0.9)
    got = tab.array("picture").reshape(VOWEL.shape)
    wanted = explorer.picture(place)[0].numpy()
    assert np.sqrt(np.mean((got - wanted) ** 2)) < 0.02
    truth = to_audio(torch.from_numpy(got), explorer.phases[0], duration=explorer.samples[0] / RATE)
    error = tab.array("raw") - truth
    assert 10 * np.log10(np.sum(error**2) / np.sum(truth**2)) < -40


def test_on_a_line_to_another_token(tab, explorer):
    reset(tab)
    tab.set("towards", 2)
    tab.set("how far", 0.5)
    wanted = explorer.picture(Place(other=2, between=0.5))[0].numpy()
    assert np.sqrt(np.mean((tab.array("picture").reshape(VOWEL.shape) - wanted) ** 2)) < 0.02


def test_a_move_takes_a_moment(tab):
    reset(tab)
    name = tab.page.evaluate("document.querySelector('[data-part=moves] input').id")
    before = tab.page.evaluate("vowelflowExplorer.times.length")
    for step in range(30):
        tab.page.evaluate(
            "([id, v]) => { const e = document.getElementById(id); e.value = v;"
            " e.dispatchEvent(new Event('input', { bubbles: true })) }",
            [name, 0.1 * (step - 15)],
        )
        tab.page.wait_for_function("!vowelflowExplorer.busy && !vowelflowExplorer.late")
    times = tab.page.evaluate("vowelflowExplorer.times")[before:]
    print(f"a move takes {statistics.median(times):.0f} ms, the page was ready after {tab.ready:.1f} s")
    assert len(times) == 30 and statistics.median(times) < 500  # 100 on two cores


def test_of_many_moves_only_the_last_is_made(tab, explorer):
    reset(tab)
    before = tab.page.evaluate("vowelflowExplorer.times.length")
    tab.page.evaluate(
        "() => { const e = document.querySelector('[data-part=moves] input');"
        " for (let k = 0; k <= 20; k++) { e.value = k / 10; e.dispatchEvent(new Event('input', { bubbles: true })) } }"
    )
    tab.page.wait_for_function("!vowelflowExplorer.busy && !vowelflowExplorer.late")
    assert tab.page.evaluate("vowelflowExplorer.times.length") - before == 2
    wanted = explorer.picture(Place(moves={next(iter(explorer.moves)): 2.0}))[0].numpy()
    assert np.sqrt(np.mean((tab.array("picture").reshape(VOWEL.shape) - wanted) ** 2)) < 0.02


def test_play_is_heard_and_nothing_clips(tab):
    reset(tab)
    tab.page.get_by_role("button", name="▶ Play").click()
    loudest = tab.page.evaluate(
        "async () => { let most = 0; const m = vowelflowExplorer.meter, d = new Float32Array(m.fftSize);"
        " for (let k = 0; k < 40; k++) { m.getFloatTimeDomainData(d); most = Math.max(most, ...d.map(Math.abs));"
        " await new Promise((ok) => setTimeout(ok, 10)) } return most }"
    )
    assert loudest > 0.01
    ranges = tab.page.locator("#explorer-app input[type=range]")
    for place in range(ranges.count()):
        reset(tab)
        label = ranges.nth(place).evaluate("e => e.labels[0].textContent")
        for end in ("min", "max"):
            tab.set(label, ranges.nth(place).get_attribute(end))
            wave = tab.array("wave")
            assert np.isfinite(wave).all() and np.abs(wave).max() < 0.95


def test_random_codes_and_invented_phases_sound(tab, explorer):
    reset(tab)
    tab.set("start from", -1)
    first = tab.array("picture")
    assert len(tab.array("wave")) == int(np.median(explorer.samples)) and np.isfinite(first).all()
    tab.set("seed of the random code", 7)
    assert not np.array_equal(first, tab.array("picture"))
    tab.set("seed of the random code", 0)
    assert np.array_equal(first, tab.array("picture"))
    reset(tab)
    own = tab.array("wave")
    tab.set("phase of the sound", "invented")
    assert np.abs(tab.array("wave")).max() > 0.05 and not np.allclose(own, tab.array("wave"))


def test_every_control_works_from_the_keyboard(tab):
    reset(tab)
    controls = tab.page.locator("#explorer-app input, #explorer-app select")
    for place in range(controls.count()):
        one = controls.nth(place)
        before = one.input_value()
        one.focus()
        tab.page.keyboard.press("ArrowDown" if one.evaluate("e => e.tagName") == "SELECT" else "ArrowUp")
        after = one.input_value()
        if before == after:  # at its end
            tab.page.keyboard.press("ArrowLeft")
            after = one.input_value()
        assert before != after, one.evaluate("e => e.labels[0].textContent")
    tab.page.get_by_role("button", name="Start again").focus()
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_function("!vowelflowExplorer.busy && !vowelflowExplorer.late")
    assert tab.page.evaluate("location.hash") == ""


def test_the_address_holds_the_state(tab, browser, address):
    reset(tab)
    tab.set("start from", 3)
    tab.set("woman to man", 1.5)
    tab.page.wait_for_function("location.hash.includes('=1.5')")
    shared = tab.page.evaluate("location.href")
    picture = tab.array("picture")
    visitor = Tab(browser, shared)
    assert np.array_equal(visitor.array("picture"), picture)
    assert visitor.page.get_by_label("woman to man").input_value() == "1.5"
    visitor.page.close()
    stranger = Tab(browser, address + "#start=99&move0=x&other=77")
    assert stranger.page.get_by_label("start from").input_value() == "0" and not stranger.problems
    stranger.page.close()


def test_picture_and_sound_can_be_saved(tab):
    reset(tab)
    with tab.page.expect_download() as saved:
        tab.page.get_by_role("button", name="Save sound").click()
    wave, rate = soundfile.read(io.BytesIO(saved.value.path().read_bytes()))
    assert rate == 16_000 and np.abs(wave - tab.array("wave")).max() < 1e-4
    with tab.page.expect_download() as saved:
        tab.page.get_by_role("button", name="Save picture").click()
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")


def test_without_eyes_or_mouse(tab):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    reset(tab)
    for theme in ("light", "dark"):
        tab.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        found = (
            axe.Axe()
            .run(tab.page, context="#explorer-app", options={"preload": False})
            .response["violations"]
        )
        wrong = [one for one in found if one["impact"] in ("critical", "serious")]
        assert not wrong, json.dumps([(one["id"], one["nodes"][0]["html"]) for one in wrong])


def test_on_a_phone(browser, address):
    phone = Tab(browser, address, viewport={"width": 390, "height": 844})
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert phone.page.locator("canvas").first.bounding_box()["width"] > 250
    phone.page.close()


def test_a_changed_file_is_told_and_not_used(browser, site, tmp_path):
    copy = tmp_path / "html"
    shutil.copytree(site, copy)
    codes = copy / "_static/explorer/codes.bin"
    data = bytearray(codes.read_bytes())
    data[1000] ^= 1
    codes.write_bytes(bytes(data))
    with serving(copy) as base:
        page = browser.new_page()
        page.goto(f"{base}book/explorer.html")
        page.wait_for_function("window.vowelflowExplorer?.problem")
        assert (
            "codes.bin is not the file that this page was made with"
            in page.locator("#explorer-app").inner_text()
        )
        page.close()


def test_names_of_a_corpus_are_text(browser, site, tmp_path):
    hostile = '</option><img src=x onerror="window.evil = 1"><script>window.evil = 1</script>'
    copy = tmp_path / "html"
    shutil.copytree(site, copy)
    told = copy / "_static/explorer/explorer.json"
    about = json.loads(told.read_text())
    for one in (*about["tokens"], *about["moves"]):
        one["name"] += hostile
    about |= {name: hostile for name in ("corpus", "licence", "flow", "flow_licence")}
    told.write_text(json.dumps(about))
    with serving(copy) as base:
        tab = Tab(browser, f"{base}book/explorer.html")
        assert hostile in tab.page.locator("#explorer-app select").first.inner_text()
        assert hostile in tab.page.locator("#explorer-app").inner_text()
        assert tab.page.evaluate("window.evil === undefined && !document.querySelector('img[src=x]')")
        assert not tab.problems
        tab.page.close()


def test_without_scripts_and_from_a_file_it_says_what_is_missing(browser, address, site):
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(address)
    assert plain.locator("#explorer-app img").evaluate("e => e.naturalWidth") > 100
    local = browser.new_page()
    local.goto((site / "book/explorer.html").as_uri())
    local.wait_for_function("window.vowelflowExplorer?.problem")
    assert "serve the folder" in local.locator("#explorer-app").inner_text()


def test_in_firefox_too(address, explorer, tmp_path):
    program = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
    if program is None:
        pytest.skip("no firefox on this machine")

    async def look():
        async with opened(program, tmp_path) as firefox:
            await firefox.open(address)
            await firefox.until("(window.vowelflowExplorer?.times.length ?? 0) > 0")
            await firefox.value(
                "(() => { const e = document.querySelector('[data-part=moves] input'); e.value = 1.5;"
                " e.dispatchEvent(new Event('input', { bubbles: true })); return true })()"
            )
            await firefox.until("!vowelflowExplorer.busy && !vowelflowExplorer.late")
            picture = await firefox.value("Array.from(vowelflowExplorer.picture)")
            wave = await firefox.value("Array.from(vowelflowExplorer.wave)")
            return np.array(picture, dtype=np.float32).reshape(VOWEL.shape), np.array(wave), firefox.events

    with ThreadPoolExecutor(1) as apart:  # from the loop that the other browser's driver has in this thread
        picture, wave, events = apart.submit(asyncio.run, look()).result()
    wanted = explorer.picture(Place(moves={next(iter(explorer.moves)): 1.5}))[0].numpy()
    assert np.sqrt(np.mean((picture - wanted) ** 2)) < 0.02
    assert 0.01 < np.abs(wave).max() < 0.95
    errors = [
        e["params"]["text"]
        for e in events
        if e.get("method") == "log.entryAdded" and e["params"]["level"] == "error"
    ]
    asked = [e["params"]["request"]["url"] for e in events if e.get("method") == "network.beforeRequestSent"]
    base = address.rsplit("/book/", 1)[0]
    assert not errors and not [url for url in asked if not url.startswith((base, "data:", "blob:", "about:"))]
