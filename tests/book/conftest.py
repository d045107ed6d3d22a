"""A small run of all notebooks, the book made of it, a server for its pages and a browser to open them."""

import functools
import shutil
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vowelstudy.book import build_book
from vowelstudy.run import run_study

HOME = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """The build folder of a smoke study; notebooks that fail, and warnings of the book, fail here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(HOME)
        folder = tmp_path_factory.mktemp("build")
        run_study(corpus="klatt", profile="smoke", build=folder)
        build_book(folder)
    return folder


@contextmanager
def serving(folder):
    """Serves a folder on this machine; gives its address."""
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=folder)) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()


@pytest.fixture(scope="session")
def server(build):
    """The address of the book."""
    with serving(build / "html") as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
