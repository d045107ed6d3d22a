"""Speech for the tests: a small synthetic corpus, and a folder laid out as TIMIT with invented tones."""

import multiprocessing
import os
import random
import signal
import zipfile

import nbformat
import numpy as np
import pytest
import soundfile

RATE = 16_000


def pytest_xdist_make_scheduler(config, log):
    """With several processes, the tests of a file stay in one of them, and so do those of the book, which share a study."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "book" if "/book/" in nodeid else nodeid.split("::")[0]

    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Tests leave the user's cache alone, and fetch nothing unless they say from where."""
    os.environ["VOWELFLOW_OFFLINE"] = "1"
    folder = tmp_path_factory.mktemp("cache")
    os.environ["VOWELFLOW_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def klatt(cache):
    from vowelflow.klatt import klatt_corpus

    return klatt_corpus(speakers=8, tokens=2)


@pytest.fixture
def hasty(monkeypatch):
    """Fits of a card's discriminator would take minutes; its numbers are tested where it is."""
    monkeypatch.setattr("vowelstudy.discriminator.STEPS", 2)


def write_utterance(folder, name, sound, phones, words=(), format="WAV", suffix=".wav"):
    """One utterance with its label files; ``phones`` and ``words`` are (start, end, label)."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}{suffix}", sound, RATE, format=format, subtype="PCM_16")
    for ending, rows in ((".phn", phones), (".wrd", words)):
        (folder / f"{name}{ending}").write_text("".join(f"{a} {b} {label}\n" for a, b, label in rows))


KILLS = int(os.environ.get("VOWELFLOW_KILLS", "6"))  # of what takes seconds to start
PARAMETERS = 'corpus = "auto"\nroot = None\nprofile = "cpu"\nseed = 0'  # of a notebook


def write_notebook(path, *cells, parameters=PARAMETERS):
    """A notebook of code cells as a study runs them, the parameters cell first."""
    node = nbformat.v4.new_notebook()
    node.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    node.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    node.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(node, path)


def packed_sample(home):
    """The sample's folder ``timit`` with one utterance each of two invented speakers; returns its archive ``timit.zip`` as NLTK packs it."""
    for sex in "fm":
        phones = [(0, 2000, "aa"), (2000, 4000, "iy"), (4000, 8000, "h#")]
        sound = 0.1 * np.random.default_rng(0).standard_normal(8000)
        write_utterance(home / "timit" / f"dr1-{sex}ab00", "si1", sound, phones)
    with zipfile.ZipFile(home / "timit.zip", "w") as file:
        for path in sorted((home / "timit").rglob("*")):
            file.write(path, path.relative_to(home))
    return (home / "timit.zip").read_bytes()


@pytest.fixture
def timit_folder(tmp_path):
    """Eight speakers in the layout of the sample, two sentences each, one of them an SA sentence."""
    rng = np.random.default_rng(0)
    for index in range(8):
        folder = tmp_path / "corpus" / f"dr{index + 1}-{'fm'[index % 2]}ab{index}0"
        for name in ("sa1", "si100"):
            sound = 0.1 * rng.standard_normal(RATE)
            phones = [
                (0, 2000, "h#"),
                (2000, 4000, "aa"),
                (4000, 5600, "s"),
                (5600, 8000, "iy"),
                (8000, 16000, "h#"),
            ]
            write_utterance(folder, name, sound, phones, [(1500, 6000, "one"), (6000, 9000, "two")])
    return tmp_path / "corpus"


def text_grid(tiers, end, short=False):
    """A TextGrid as Praat writes it; ``tiers`` are names and intervals (start, end, label) in seconds."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    if short:
        lines += ["0", f"{end}", "<exists>", f"{len(tiers)}"]
        for name, rows in tiers.items():
            lines += ['"IntervalTier"', f'"{name}"', "0", f"{end}", f"{len(rows)}"]
            lines += [part for a, b, label in rows for part in (f"{a}", f"{b}", f'"{label}"')]
        return "\n".join(lines) + "\n"
    lines += ["xmin = 0", f"xmax = {end}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for k, (name, rows) in enumerate(tiers.items(), 1):
        lines += [f"    item [{k}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {end}", f"        intervals: size = {len(rows)}"]
        for n, (a, b, label) in enumerate(rows, 1):
            lines += [f"        intervals [{n}]:", f"            xmin = {a}", f"            xmax = {b}"]
            lines += [f'            text = "{label}"']
    return "\n".join(lines) + "\n"


PHONES = [
    (0, 0.2, ""),
    (0.2, 0.3, "AA1"),
    (0.3, 0.4, "S"),
    (0.4, 0.52, "IY0"),
    (0.52, 0.6, "spn"),
    (0.6, 1.0, "sil"),
]
WORDS = [(0, 0.2, ""), (0.2, 0.55, "one"), (0.55, 1.0, "")]


@pytest.fixture
def libri_folder(tmp_path):
    """Four speakers in the layout of LibriSpeech and its published alignments, two of them for test."""
    rng, home = np.random.default_rng(0), tmp_path / "libri"
    lines = ["; a comment", ";ID  |SEX| SUBSET"]
    for speaker, sex, part in (
        (11, "F", "train-clean-100"),
        (12, "M", "train-clean-100"),
        (21, "F", "test-other"),
        (22, "M", "test-other"),
    ):
        lines.append(f"{speaker}   | {sex} | {part} | 25.03 | Somebody")
        place = f"{part}/{speaker}/7"
        (home / "LibriSpeech" / place).mkdir(parents=True)
        (home / "alignments" / place).mkdir(parents=True)
        for number in range(2):
            name = f"{speaker}-7-{number:04d}"
            soundfile.write(
                home / "LibriSpeech" / place / f"{name}.flac", 0.1 * rng.standard_normal(RATE), RATE
            )
            grid = text_grid({"words": WORDS, "phones": PHONES}, 1.0, short=number == 1)
            (home / "alignments" / place / f"{name}.TextGrid").write_text(grid)
    (home / "LibriSpeech" / "SPEAKERS.TXT").write_text("\n".join(lines) + "\n")
    return home


@pytest.fixture
def own_folder(tmp_path):
    """A user's own recordings: four speakers, a TextGrid each beside a sound, and speakers.csv."""
    rng, home = np.random.default_rng(0), tmp_path / "own"
    for speaker in ("ann", "bob", "cleo", "dan"):
        (home / speaker).mkdir(parents=True)
        soundfile.write(home / speaker / "list1.wav", 0.1 * rng.standard_normal(RATE), RATE)
        (home / speaker / "list1.TextGrid").write_text(text_grid({"phones": PHONES}, 1.0))
    (home / "speakers.csv").write_text("speaker,sex\nann,f\nbob,m\ncleo,f\ndan,m\n")
    return home


@pytest.fixture(scope="session")
def processes():
    """Processes that start at once, since what they import has been imported: by a server that all tests share."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "vowelflow.training",
            "vowelflow.klatt",
            "vowelflow.readers",
            "lightning_fabric",
            "papermill",
            "pooch",
            "requests",
        ]
    )
    return context


def until_done(processes, target, arguments, kills, longest, check):
    """Runs ``target`` in processes that are killed at random moments, ``kills`` times in all, and at last left alone."""
    chance = random.Random(0)
    while True:
        ready = processes.Event()
        process = processes.Process(target=target, args=(ready, *arguments))
        process.start()
        assert ready.wait(60)
        process.join(chance.uniform(0, longest) if kills else 120)
        process.kill()
        process.join()
        kills -= process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
        check()
        if process.exitcode == 0 and kills <= 0:
            return
