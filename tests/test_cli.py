"""The command line and the Makefile that calls it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from vowelstudy import cli
from vowelstudy import run as study

HOME = Path(__file__).resolve().parents[1]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from vowelstudy.cli import main\n"
        "try: main(['study', '--help'])\n"
        "except SystemExit: print([name for name in ('torch', 'librosa', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_folder_that_is_not_there_is_an_error_not_a_traceback(capsys, tmp_path):
    assert cli.main(["corpus", "timit", "--root", str(tmp_path / "nowhere")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("vowelflow: error: ") and "nowhere" in message and "Traceback" not in message


def test_a_failed_study_exits_with_1(capsys, monkeypatch):
    def fail(*arguments):
        raise study.StudyError("01_data.ipynb failed in cell In [4]")

    monkeypatch.setattr(study, "run_study", fail)
    assert cli.main(["study"]) == 1
    assert capsys.readouterr().err == "vowelflow: 01_data.ipynb failed in cell In [4]\n"


def test_only_builds_no_book(monkeypatch):
    calls = []
    monkeypatch.setattr(study, "run_study", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr("vowelstudy.book.build_book", lambda **options: calls.append("book"))
    assert cli.main(["study", "--only", "01_data", "--seed", "4"]) == 0
    assert calls == [("auto", None, "cpu", 4, "01_data")]


@pytest.mark.skipif(shutil.which("make") is None or os.name == "nt", reason="needs make and a POSIX shell")
def test_make_hands_paths_with_spaces_and_quotes_on(tmp_path):
    program = tmp_path / "bin/vowelflow"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    (tmp_path / ".ready").touch()
    root = '/media/my disk/it\'s "here"'
    command = ["make", "--silent", "study", f"VENV={tmp_path}", "CORPUS=timit", f"ROOT={root}"]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["study", "--corpus", "timit", "--profile", "cpu", "--root", root]


def test_corpus_tells_what_is_there_and_saves_it_as_one_file(
    timit_folder, klatt, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("vowelflow.readers.klatt_corpus", lambda: klatt)
    saved = tmp_path / "carried.zip"
    assert cli.main(["corpus", "timit-sample", "--root", str(timit_folder), "--save", str(saved)]) == 0
    first = capsys.readouterr().out
    assert "32 segments, 8 speakers" in first and "formants in Hz" in first and f"saved: {saved}" in first
    assert cli.main(["corpus", "timit-sample", "--root", str(saved)]) == 0
    again = capsys.readouterr().out
    assert (
        again.split("fingerprint")[1].split("saved")[0].strip()
        == first.split("fingerprint")[1].split("saved")[0].strip()
    )
    assert cli.main(["corpus", "timit-sample", "--root", str(saved), "--vowels", "all"]) == 2
    assert "was saved without ah" in capsys.readouterr().err
    assert cli.main(["corpus", "klatt", "--save", str(saved)]) == 2
    assert "klatt is made anywhere" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    assert cli.main(["corpus", "timit-sample", "--root", str(saved), "--save", str(tmp_path / "folder")]) == 2
    assert "vowelflow: error: " in capsys.readouterr().err


def test_a_cache_that_cannot_be_is_named(timit_folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VOWELFLOW_CACHE", str(tmp_path / "file"))
    assert cli.main(["corpus", "timit-sample", "--root", str(timit_folder)]) == 2
    assert "no place for a cache (File exists); name another in VOWELFLOW_CACHE" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-5", "many", "2.5"])
def test_steps_are_counted_from_one(capsys, value):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", f"--steps={value}"])
    assert stopped.value.code == 2 and "is not a whole number of at least 1" in capsys.readouterr().err


def test_train_leaves_weights_a_log_and_its_figure(klatt, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda name, root, phones: klatt)
    command = ["train", "--profile", "smoke", "--steps", "2", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    assert (
        '"steps": 2,' in (tmp_path / "config.json").read_text()
        and "validation" in (tmp_path / "curve.svg").read_text()
    )
    assert (tmp_path / "log.csv").read_text().splitlines()[-1].startswith("2,")
    told = f"weights, log, its figure and checkpoints: {tmp_path}\nstep 2 of 2; the training is finished"
    assert capsys.readouterr().out.strip().endswith(told)
    assert cli.main(command) == 2 and "holds a training already" in capsys.readouterr().err
    assert cli.main([*command, "--resume"]) == 0
    brief = [*command[: command.index("--out")], "--out", str(tmp_path / "brief"), "--minutes", "0.0001"]
    assert (
        cli.main(brief) == 0
        and "step 1 of 2; time is up: the same command with --resume" in capsys.readouterr().out
    )


@pytest.mark.long
def test_a_reference_model_is_trained_and_measured_by_its_recipe(klatt, hasty, monkeypatch, tmp_path, capsys):
    from vowelstudy import references

    recipe = references.Recipe("klatt", "aa,iy", "smoke", iterations=3)
    monkeypatch.setitem(references.RECIPES, "smoke-two", recipe)
    monkeypatch.setattr(references, "load_corpus", lambda *given: klatt.filter(phone=["aa", "iy"]))
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path))
    assert cli.main(["train", "smoke-two"]) == 0
    config = json.loads((tmp_path / "models/smoke-two/config.json").read_text())
    assert config["steps"] == 3 and config["fingerprint"] == recipe.speech().fingerprint
    small = ["--draws", "1", "--tokens", "3", "--samples", "2", "--lines", "1"]
    assert cli.main(["measure", "smoke-two", *small]) == 0 and "# smoke-two" in capsys.readouterr().out
    assert cli.main(["train", "smoke-two", "--vowels", "all"]) == 2
    assert (
        "the recipe of smoke-two sets corpus, vowels and profile; leave them out" in capsys.readouterr().err
    )
    assert cli.main(["train", "martian"]) == 2
    assert "no reference model 'martian'; there are speech, " in capsys.readouterr().err
    (tmp_path / "models/smoke-two").rename(tmp_path / "models/own")
    speech = recipe.speech()
    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda name, root, labels: speech)
    assert cli.main(["measure", "own", *small]) == 0  # of the corpus that its config names
    told = capsys.readouterr().out
    assert "the card: " in told and told.strip().endswith(str(Path("own") / "metrics.json"))


@pytest.mark.long
def test_export_writes_the_files_of_the_page(klatt, monkeypatch, tmp_path, capsys):
    from vowelstudy.references import reference_model

    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda *given: klatt)
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path))
    _, folder = reference_model(klatt, "smoke")
    assert cli.main(["export", str(folder), "--page", "--corpus", "klatt"]) == 0
    assert f"{tmp_path / 'explorer' / 'codes.bin'}, " in capsys.readouterr().out
    assert json.loads((tmp_path / "explorer/explorer.json").read_text())["corpus"] == "klatt"


def test_a_training_that_gives_up_or_is_stopped_says_so(klatt, monkeypatch, tmp_path, capsys):
    from vowelflow import training
    from vowelflow.base import TrainingError

    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda name, root, phones: klatt)
    for error, code in ((TrainingError("no gradient"), 1), (KeyboardInterrupt("stopped after step 3"), 130)):

        def give_up(*given, error=error, **more):
            raise error

        monkeypatch.setattr(training, "train", give_up)
        assert cli.main(["train", "--profile", "smoke", "--out", str(tmp_path)]) == code
        assert str(error) in capsys.readouterr().err


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0 and capsys.readouterr().out == f"vowelflow {metadata.version('vowelflow')}\n"


def test_evidence_measures_writes_and_renews_the_readme(klatt, monkeypatch, tmp_path, capsys):
    from vowelstudy import protocol
    from vowelstudy import tables as verdicts
    from vowelstudy.references import reference_model

    (tmp_path / "notebooks").mkdir()
    (tmp_path / "models").mkdir()
    shutil.copy(HOME / "models/judges-klatt.safetensors", tmp_path / "models")
    (tmp_path / "_config.yml").touch()
    (tmp_path / "README.md").write_text("\n".join(verdicts.MARKS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda name, root: klatt)
    monkeypatch.setattr(protocol, "FULL", protocol.SMOKE)
    _, flow = reference_model(klatt, "smoke")
    assert cli.main(["evidence", "--corpus", "klatt", "--flow", str(flow), "--claim", "likelihood"]) == 0
    assert f"the flow: {flow.name}; directions from other speakers" in capsys.readouterr().out
    assert ("klatt", flow.name) in verdicts.load_verdicts(tmp_path)
    assert f"{flow.name} on klatt" in (tmp_path / "README.md").read_text()
    own = ["evidence", "--corpus", "klatt", "--flow", str(flow), "--claim", "likelihood", "--own-directions"]
    before = (tmp_path / "results/klatt/smoke-klatt/likelihood.json").read_bytes()
    assert cli.main(own) == 0
    assert (tmp_path / "results/klatt/smoke-klatt-own-directions/likelihood.json").is_file()
    assert (tmp_path / "results/klatt/smoke-klatt/likelihood.json").read_bytes() == before


@pytest.mark.parametrize("name, labels", [("klatt", "five"), ("librispeech", "all")])
def test_judges_are_fitted_and_say_how_well_they_hear(klatt, monkeypatch, tmp_path, capsys, name, labels):
    from vowelstudy import judges

    asked = []
    speech = replace(klatt, name=name)
    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda *given: asked.append(given) or speech)
    monkeypatch.setattr(judges, "STEPS", 2)
    out = tmp_path / f"judges-{'klatt' if name == 'klatt' else 'speech'}.safetensors"
    assert cli.main(["judges", name, "--out", str(out)]) == 0
    accuracy = judges.load_judges(name, tmp_path).about["accuracy"]
    assert f"{out}: accuracy on test speakers' tokens {accuracy}" in capsys.readouterr().out
    assert asked == [(name, None, labels)] and set(accuracy) == {"phone", "sex"}


@pytest.mark.parametrize("minutes", ["0", "-3", "nan", "soon"])
def test_minutes_are_above_zero(minutes, capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--minutes", minutes])
    assert f"'{minutes}' is not a number above 0" in capsys.readouterr().err


def test_measure_and_export_need_a_flow(capsys, tmp_path):
    for command in (["measure", "martian", "--corpus", "klatt"], ["export", "martian"]):
        assert cli.main(command) == 2
        assert "no model 'martian'" in capsys.readouterr().err


@pytest.mark.long
def test_measure_writes_the_card_and_says_it(klatt, hasty, tmp_path, capsys, monkeypatch):
    from vowelflow.training import PROFILES, train

    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda *given: klatt)
    train(klatt, tmp_path / "flow", PROFILES["smoke"])
    small = ["--draws", "1", "--tokens", "3", "--samples", "2", "--lines", "1"]
    assert cli.main(["measure", str(tmp_path / "flow"), "--corpus", "klatt", *small]) == 0
    assert (tmp_path / "flow/README.md").read_text() in capsys.readouterr().out
    assert "3 tokens" in (tmp_path / "flow/README.md").read_text()
    small[small.index("3")] = "2"
    assert cli.main(["measure", str(tmp_path / "flow"), "--corpus", "klatt", *small]) == 2
    assert "metrics.json is of 3 tokens, and 2 would replace them: ask for as many" in capsys.readouterr().err


def test_export_puts_both_kinds_beside_each_other(tmp_path, capsys, monkeypatch):
    from vowelflow import export

    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path))
    written = []

    def write(model, folder, half):
        folder.mkdir(parents=True)
        (folder / "encode.onnx").write_bytes(b"0" * 200_000)
        written.append((str(folder), half))
        return {"encode": 2e-5}

    monkeypatch.setattr(export, "export", write)
    model = str(HOME / "models/speech")
    assert cli.main(["export", model]) == cli.main(["export", model, "--half"]) == 0
    assert written == [
        (str(tmp_path / "onnx/speech"), False),
        (str(tmp_path / "onnx/speech-half"), True),
    ]
    assert "speech/encode.onnx, 0.2 MB: within 2e-05 of torch" in capsys.readouterr().out


@pytest.mark.parametrize("seed", ["-1", "0.5", "2147483648", "one"])
@pytest.mark.parametrize("command", ["study", "train", "evidence"])
def test_seeds_are_what_every_library_takes(command, seed, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--seed", seed])
    assert left.value.code == 2
    assert f"'{seed}' is not a whole number from 0 to 2147483647" in capsys.readouterr().err


@pytest.mark.long
def test_a_file_where_a_folder_is_wanted_is_told_and_kept(tmp_path, klatt, monkeypatch, capsys):
    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda *given: klatt)
    monkeypatch.setattr("vowelstudy.judges.fit_judges", lambda corpus: pytest.fail("minutes for nothing"))
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for command in (
        ["train", "--corpus", "klatt", "--profile", "smoke", "--steps", "1", "--out", str(file)],
        ["train", "--corpus", "klatt", "--profile", "smoke", "--steps", "1", "--out", str(file / "flow")],
        ["export", "speech", "--out", str(file)],
        ["measure", str(file)],
        ["judges", "klatt", "--out", str(tmp_path)],
    ):
        assert cli.main(command) == 2
        told = capsys.readouterr().err
        assert str(tmp_path) in told and "name a folder where a folder is wanted" in told
    assert file.read_text() == "mine" and list(tmp_path.iterdir()) == [file]


def test_export_of_a_page_keeps_what_is_not_its_own(klatt, tmp_path, tmp_path_factory, monkeypatch, capsys):
    from vowelstudy.references import reference_model

    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path_factory.mktemp("build")))
    _, flow = reference_model(klatt, "smoke")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda *given: klatt)
    (tmp_path / "thesis.tex").write_text("mine")
    assert cli.main(["export", str(flow), "--page", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path / 'thesis.tex'} is not a file of an explorer's page" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_saved_corpus_replaces_no_other_file(timit_folder, tmp_path, capsys):
    (tmp_path / "speakers.csv").write_text("speaker,sex")
    command = ["corpus", "timit-sample", "--root", str(timit_folder), "--vowels", "aa,iy", "--save"]
    assert cli.main([*command, str(tmp_path / "speakers.csv")]) == 2
    assert "speakers.csv is there and no file of clips" in capsys.readouterr().err
    assert (tmp_path / "speakers.csv").read_text() == "speaker,sex"


def test_a_home_that_nobody_has_is_told(capsys):
    assert cli.main(["corpus", "timit", "--root", "~nobody-of-this-name/timit"]) == 2
    assert "Give a whole path instead of ~" in capsys.readouterr().err


def test_the_shipped_judges_are_not_fitted_on_who_is_tested(klatt, monkeypatch, capsys):
    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda *given: replace(klatt, name="timit-sample"))
    monkeypatch.setattr("vowelstudy.judges.fit_judges", lambda corpus: pytest.fail("on people under test"))
    assert cli.main(["judges", "timit-sample"]) == 2
    assert "name another place with --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [{"vowels": 5}, {"vowels": [1]}, {"profile": "x"}, {"speakers": []}, {"segments": None}],
    ids=str,
)
def test_a_changed_configuration_is_told_by_every_command(change, tmp_path, capsys):
    for file in (HOME / "models/speech").iterdir():
        shutil.copy(file, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    for command in (["measure", str(tmp_path)], ["export", str(tmp_path)]):
        assert cli.main(command) == 2
        assert (
            "config.json: vowels, speakers, segments or profile are not as train" in capsys.readouterr().err
        )
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "metrics.json").write_text("{")
    assert cli.main(["measure", str(tmp_path), "--corpus", "klatt"]) == 2
    assert "metrics.json holds no numbers of a card; remove it" in capsys.readouterr().err


def test_what_is_named_wrong_is_told_before_anything_is_read_or_trained(klatt, monkeypatch, tmp_path, capsys):
    assert cli.main(["evidence", "--corpus", str(tmp_path), "--claim", "colour"]) == 2
    assert "no claim 'colour'; there are gaussian" in capsys.readouterr().err
    monkeypatch.setattr("vowelflow.readers.load_corpus", lambda name, root, phones: klatt)
    assert (
        cli.main(["train", "--profile", "smoke", "--vowels", "aa,zz", "--out", str(tmp_path / "flow")]) == 2
    )
    assert "no segment of klatt is labelled zz; leave it out of --vowels" in capsys.readouterr().err
    assert not (tmp_path / "flow").exists()
