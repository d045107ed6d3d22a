"""Places where work is hard: a disk that fills, a folder that cannot be written to, no home, odd names, two at once."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from conftest import write_notebook
from vowelflow.base import InputError, build_folder
from vowelstudy.book import build_book
from vowelstudy.results import load_results
from vowelstudy.run import run_study

PROGRAM = shutil.which("vowelflow", path=Path(sys.executable).parent)
TRAIN = ["train", "--corpus", "timit-sample", "--profile", "smoke", "--steps", "2"]


@functools.cache
def can_mount() -> bool:
    """Whether this user may mount file systems in a namespace of its own, as Linux lets most."""
    mount = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(mount, capture_output=True).returncode == 0


def run(command, shell='exec "$@"', folder=None, **variables):
    """Runs ``vowelflow`` on one thread, by a shell that may mount; gives its exit code and all it said."""
    space = ["unshare", "--mount", "--map-root-user"] if "mount" in shell else []
    program = [*space, "sh", "-c", shell, "sh", PROGRAM, *map(str, command)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "VOWELFLOW_OFFLINE": "1"} | variables
    environment = {name: text for name, text in environment.items() if text is not None}
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.long
def test_a_disk_that_fills_at_any_point_of_a_training(timit_folder, tmp_path):
    if not can_mount():
        pytest.skip("no file system can be mounted here")
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir(), kept.mkdir()
    full_then_free = f"""
        mount -t tmpfs -o size=$SIZE none {small}; "$@"; code=$?
        mount -o remount,size=64m {small}; "$@" --resume || exit 9
        cp {small}/out/model.safetensors {kept}/$SIZE; exit $code
    """
    codes = {}
    for size in ("4k", "96k", "64m"):
        command = [*TRAIN, "--root", timit_folder, "--out", small / "out"]
        codes[size], told = run(command, full_then_free, SIZE=size, VOWELFLOW_CACHE=str(small / "cache"))
        assert (
            codes[size] == 0
            or "No space left on device" in told
            and "make room and run the same command again" in told
        )
        assert (kept / size).read_bytes() == (kept / "4k").read_bytes()
    assert codes == {"4k": 2, "96k": 2, "64m": 0}


@pytest.fixture
def small_study(tmp_path):
    """A repository of one notebook, in a folder whose name has a space, letters with marks, and others."""
    home = tmp_path / "naïve étude 母音"
    (home / "notebooks").mkdir(parents=True)
    (home / "_config.yml").touch()
    write = "from vowelstudy.results import write_results\nwrite_results('01_one', {'root': root})"
    write_notebook(home / "notebooks/01_one.ipynb", write)
    return home


def only_chapter(root):
    return ["study", "--corpus", "timit-sample", "--root", root, "--profile", "smoke", "--only", "01_one"]


def test_a_checkout_that_cannot_be_written_to(small_study, timit_folder, tmp_path):
    if not can_mount():
        pytest.skip("no file system can be mounted here")
    read_only = 'mount --bind "$PWD" "$PWD" && mount -o remount,bind,ro "$PWD" && cd "$PWD" && exec "$@"'
    code, told = run(only_chapter(timit_folder), read_only, small_study)
    assert code == 2 and "Read-only file system" in told and "VOWELFLOW_BUILD for results" in told
    code, told = run(
        only_chapter(timit_folder), read_only, small_study, VOWELFLOW_BUILD=str(tmp_path / "elsewhere")
    )
    assert code == 0, told
    assert load_results(tmp_path / "elsewhere")["01_one"]["numbers"] == {"root": "../corpus"}


def test_no_home(small_study, timit_folder, tmp_path):
    nowhere = dict.fromkeys(
        ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "MPLCONFIGDIR")
    )
    code, told = run(
        only_chapter(timit_folder), folder=small_study, HOME="/proc/nobody", VOWELFLOW_CACHE=None, **nowhere
    )
    assert code == 2 and "no place for a cache" in told and "VOWELFLOW_CACHE" in told
    cache = str(tmp_path / "cache")
    code, told = run(
        only_chapter(timit_folder), folder=small_study, HOME="/proc/nobody", VOWELFLOW_CACHE=cache, **nowhere
    )
    assert code == 0, told


def test_two_studies_in_one_folder(small_study, timit_folder, monkeypatch):
    monkeypatch.chdir(small_study)
    build = build_folder()
    build.mkdir()
    with FileLock(build / ".lock"):
        for work in (lambda: run_study("timit-sample", timit_folder, "smoke", only="01_one"), build_book):
            with pytest.raises(
                InputError, match="another study runs in .*build; wait for it, or use another folder"
            ):
                work()
    assert list(run_study("timit-sample", timit_folder, "smoke", only="01_one")) == ["01_one"]
