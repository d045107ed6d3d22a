"""Fetching the sample, against a server on this machine."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import packed_sample
from vowelflow import fetch
from vowelflow.base import InputError
from vowelflow.readers import load_corpus


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The sample as NLTK packs it, with two invented speakers."""
    return packed_sample(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def server(archive, monkeypatch, tmp_path):
    """A server whose behaviour a test sets: ``server.answers`` is taken one by one, the last for good."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            what = here.answers.pop(0) if len(here.answers) > 1 else here.answers[0]
            here.asked.append((self.command, what))
            if what == "silent":
                return here.over.wait(30)
            self.send_response(404 if what == "missing" else 200)
            content = b"" if what == "missing" else archive if what != "other" else archive[:-1] + b"x"
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if what == "cut" else content)

        def log_message(self, *arguments):
            pass

    here = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.daemon_threads = True
    here.answers, here.asked, here.over = ["good"], [], threading.Event()
    threading.Thread(target=here.serve_forever, daemon=True).start()
    monkeypatch.setattr(fetch, "SAMPLE_ADDRESS", f"http://127.0.0.1:{here.server_port}/timit.zip")
    monkeypatch.setattr(fetch, "SAMPLE_HASH", "md5:" + hashlib.md5(archive).hexdigest())
    monkeypatch.setattr(fetch, "TIMEOUT", (1, 1))
    monkeypatch.setattr(fetch, "PATIENCE", 2)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setenv("VOWELFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("VOWELFLOW_OFFLINE", "TIMIT_ROOT", "TIMIT_SAMPLE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    yield here
    here.over.set()
    here.shutdown()
    here.server_close()


def cached(tmp_path):
    """What is in the cache, temporary files included."""
    return sorted(path.name for path in (tmp_path / "cache").iterdir() if path.name != "clips")


def test_a_good_file_is_fetched_once_and_its_licence_shown_once(server, tmp_path, capsys):
    corpus = load_corpus("timit-sample")
    assert len(corpus) == 4 and cached(tmp_path) == ["timit-sample"]
    said = capsys.readouterr().err
    assert said.count("Non-Commercial, ShareAlike") == 1 and server.asked == [("GET", "good")]
    assert len(load_corpus("timit-sample")) == 4 and len(server.asked) == 1
    assert "Non-Commercial" not in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["cut", "other", "silent", "missing"])
def test_a_fault_that_passes_is_tried_again(server, tmp_path, fault):
    server.answers = [fault, fault, "good"]
    assert len(load_corpus("timit-sample")) == 4
    assert [what for _, what in server.asked] == [fault, fault, "good"] and cached(tmp_path) == [
        "timit-sample"
    ]


@pytest.mark.parametrize(
    "fault, said",
    [("cut", "could not be fetched"), ("other", "md5"), ("silent", "timed out"), ("missing", "404")],
)
def test_a_fault_that_stays_is_told_with_the_remedy_and_leaves_nothing(server, tmp_path, fault, said):
    server.answers = [fault]
    start = time.monotonic()
    with pytest.raises(InputError, match=said) as error:
        load_corpus("timit-sample")
    assert "fetch it by hand, unpack it, and give the folder: --root DIR, or TIMIT_SAMPLE_ROOT" in str(
        error.value
    )
    assert len(server.asked) == 3 and time.monotonic() - start < 10 and cached(tmp_path) == []


def test_auto_takes_the_sample_where_it_can_be_had(server):
    assert "was fetched" in load_corpus("auto").note
    assert "found on this machine" in load_corpus("auto").note and len(server.asked) == 2


@pytest.mark.parametrize("fault", ["silent", "missing", "gone", "offline"])
def test_auto_soon_goes_on_without_a_network(server, monkeypatch, klatt, fault):
    monkeypatch.setattr("vowelflow.readers.klatt_corpus", lambda: klatt)
    server.answers = [fault]
    if fault == "gone":
        monkeypatch.setattr(fetch, "SAMPLE_ADDRESS", "http://127.0.0.1:9/timit.zip")
    if fault == "offline":
        monkeypatch.setenv("VOWELFLOW_OFFLINE", "1")
    start = time.monotonic()
    corpus = load_corpus("auto")
    assert corpus.name == "klatt" and "could be fetched" in corpus.note and time.monotonic() - start < 4


def test_the_real_patience_is_under_ten_seconds():
    assert fetch.PATIENCE < 10


def test_a_name_server_that_never_answers_does_not_hold_auto(server, monkeypatch):
    import requests

    def head(*_, **__):
        server.over.wait(30)
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", head)
    start = time.monotonic()
    assert not fetch.can_be_fetched() and time.monotonic() - start < 3


def test_several_that_fetch_at_once_do_not_disturb_one_another(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: fetch.fetch_sample("licence"), range(8)))
    assert (
        len(set(folders)) == 1
        and cached(tmp_path) == ["timit-sample"]
        and len(load_corpus("timit-sample")) == 4
    )
