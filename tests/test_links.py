"""Outside links: all are found, asked as a browser would, and a dead one is told."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vowelflow.base import repository
from vowelstudy import cli
from vowelstudy.links import outside_links


class Answers(BaseHTTPRequestHandler):
    """``/NUMBER`` answers with that status; ``/get`` takes no HEAD, ``/moved`` leads to ``/200``."""

    asked = []

    def do_HEAD(self):
        self.asked.append((self.command, self.path))
        if self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "/200")
        else:
            self.send_response(
                {"/get": 405 if self.command == "HEAD" else 200}.get(self.path) or int(self.path[1:])
            )
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Answers, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def home(tmp_path, monkeypatch):
    for folder in ("book", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_config.yml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_addresses_are_found_in_all_that_is_prose(home):
    (home / "README.md").write_text(
        "at http://localhost:8000; see [it](https://a.org/x_y), <https://b.org/>."
    )
    (home / "book/run.md").write_text("`--url https://ADDRESS/` and https://a.org/x_y.\n")
    (home / "notebooks/01_data.ipynb").write_text('{"source": ["# https://c.org/d\\n", "(http://e.org)"]}')
    (home / "book/references.bib").write_text("@a{b, url = {https://f.org},\n  doi = {10.1/2(3)}\n}")
    assert outside_links(home) == {
        "http://e.org": ["01_data.ipynb"],
        "https://a.org/x_y": ["README.md", "run.md"],
        "https://b.org/": ["README.md"],
        "https://c.org/d": ["01_data.ipynb"],
        "https://doi.org/10.1/2(3)": ["references.bib"],
        "https://f.org": ["references.bib"],
    }


def test_the_study_names_the_paper():
    assert "https://arxiv.org/abs/1910.13288" in outside_links(repository())


def test_living_links_pass_whether_moved_or_closed_to_head_or_to_robots(home, server, capsys):
    (home / "README.md").write_text(" ".join(f"{server}/{page}" for page in ("200", "moved", "get", "403")))
    assert cli.main(["links"]) == 0
    told = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert [one for one, _ in told] == ["working", "refused", "working", "redirected"]
    assert ("GET", "/get") in Answers.asked and ("GET", "/200") not in Answers.asked


def test_a_dead_link_is_told_with_its_file_and_fails(home, server, capsys):
    (home / "book/run.md").write_text(f"[gone]({server}/404) and [there]({server}/200), twice: {server}/200")
    assert cli.main(["links"]) == 1
    said = capsys.readouterr()
    (line,) = [line for line in said.out.splitlines() if line.startswith("dead")]
    assert "/404" in line and "404 Client Error" in line and "(run.md)" in line
    assert (
        said.err == "vowelflow: 1 of 2 links are dead\n" and len(Answers.asked) == 3
    )  # a HEAD each, and a GET


def test_a_server_that_is_not_there_is_dead(home, server, capsys):
    (home / "README.md").write_text("http://127.0.0.1:9/nobody")
    assert cli.main(["links"]) == 1
    assert capsys.readouterr().out.startswith("dead       http://127.0.0.1:9/nobody")
