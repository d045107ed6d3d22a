"""A plug that is pulled: killed at any moment, the next run ends as if nothing had been, and nothing half made is taken for whole."""

import hashlib
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nbformat
import numpy as np
import pytest

from conftest import KILLS, packed_sample, until_done, write_notebook

CHAPTER = """
import time
from vowelstudy.results import load_results, write_results
time.sleep(0.2)
write_results("{name}", {{"before": sorted(load_results())[:{number}], "seed": seed}})
"""


def study(ready, home):
    from vowelstudy.run import run_study

    os.chdir(home)
    ready.set()
    run_study("klatt", profile="smoke")


@pytest.mark.long
def test_a_study_that_is_killed_between_and_inside_notebooks(processes, tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_config.yml").touch()
    names = ["01_one", "02_two"]
    for number, name in enumerate(names):
        write_notebook(tmp_path / f"notebooks/{name}.ipynb", CHAPTER.format(name=name, number=number))

    def whole():
        for path in (tmp_path / "build/notebooks").glob("*.ipynb"):
            if not path.name.endswith(".partial.ipynb"):
                node = nbformat.read(path, as_version=4)
                assert "source" in node.metadata.vowelflow and node.cells[-1].execution_count
        for path in (tmp_path / "build/results").glob("[0-9]*.json"):
            assert json.loads(path.read_text())["numbers"]["seed"] == 0

    until_done(processes, study, (tmp_path,), KILLS, 6, whole)
    made = sorted(path.name for path in (tmp_path / "build/notebooks").iterdir())
    assert made == ["01_one.ipynb", "02_two.ipynb"]  # and no half-run copy
    found = json.loads((tmp_path / "build/results/02_two.json").read_text())["numbers"]
    assert found == {"before": ["01_one"], "seed": 0}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder with the sample of two invented speakers, and its archive."""
    home = tmp_path_factory.mktemp("recordings")
    packed_sample(home)
    return home


def build_cache(ready, folder, recordings):
    os.environ["VOWELFLOW_CACHE"] = str(folder)
    from vowelflow.readers import load_corpus

    ready.set()
    speech = load_corpus("timit-sample", recordings / "timit")
    total = sum(float(np.abs(speech.clip(row)).sum()) for row in range(len(speech)))
    (folder / "telling").write_text(json.dumps([speech.fingerprint, total]))
    os.replace(folder / "telling", folder / "told")


@pytest.mark.long
def test_a_cache_whose_making_is_killed(processes, recordings, tmp_path):
    told = []

    def start_again():
        if (tmp_path / "told").exists():
            told.append((tmp_path / "told").read_text())
            for path in (path for path in tmp_path.rglob("*") if path.is_file()):
                path.unlink()

    until_done(processes, build_cache, (tmp_path, recordings), 0, 0, start_again)
    until_done(processes, build_cache, (tmp_path, recordings), 20, 0.2, start_again)
    assert len(set(told)) == 1


@pytest.fixture(scope="module")
def slow_server(recordings):
    """The address of an archive that arrives in pieces over half a second, and its checksum."""
    content = (recordings / "timit.zip").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            for part in range(10):
                time.sleep(0.05)
                self.wfile.write(content[part * len(content) // 10 : (part + 1) * len(content) // 10])

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as here:
        here.daemon_threads = True
        here.handle_error = lambda *_: None  # of those whose reader was killed
        threading.Thread(target=here.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{here.server_port}/timit.zip", "md5:" + hashlib.md5(content).hexdigest()
        here.shutdown()


def download(ready, folder, address, checksum):
    os.environ |= {"VOWELFLOW_CACHE": str(folder), "no_proxy": "127.0.0.1"}
    for name in ("VOWELFLOW_OFFLINE", "TIMIT_SAMPLE_ROOT"):
        os.environ.pop(name, None)
    from vowelflow import fetch
    from vowelflow.readers import load_corpus

    fetch.SAMPLE_ADDRESS, fetch.SAMPLE_HASH = address, checksum
    ready.set()
    (folder / "telling").write_text(str(len(load_corpus("timit-sample"))))
    os.replace(folder / "telling", folder / "told")


@pytest.mark.long
def test_a_download_that_is_killed(processes, slow_server, tmp_path):
    import shutil

    def all_or_nothing():
        sample = tmp_path / "timit-sample"
        if sample.exists():
            assert len(list(sample.rglob("*.wav"))) == 2
            shutil.rmtree(sample)
        shutil.rmtree(tmp_path / "clips", ignore_errors=True)
        if (tmp_path / "told").exists():
            assert (tmp_path / "told").read_text() == "4"
            (tmp_path / "told").unlink()

    until_done(processes, download, (tmp_path, *slow_server), 20, 1.0, all_or_nothing)
