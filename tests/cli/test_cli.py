"""The command as a process: what it prints, where, and with which exit code."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest

# As small as can be: digits have 5, 2 and 3 classes in their splits, and the MLP compiles at once.
SMALL = [
    "--data",
    "digits",
    "--ways",
    "2",
    "--queries",
    "2",
    "--model",
    "mlp",
    "--width",
    "8",
    "--tasks",
    "2",
    "--episodes",
    "8",
]


@pytest.fixture(scope="module")
def jaxmeta(tmp_path_factory):
    """`jaxmeta(*arguments) -> (exit code, standard output, standard error)`, in a process of its
    own."""
    return functools.partial(processes.jaxmeta, cwd=tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def trained(jaxmeta, tmp_path_factory):
    """A run of 20 meta-batches, and what the command printed."""
    out = tmp_path_factory.mktemp("runs") / "a"
    code, stdout, stderr = jaxmeta("train", *SMALL, "--steps", 20, "--out", out, "--json")
    assert code == 0, stderr
    return out, json.loads(stdout)  # the whole of standard output is one JSON value


# Runs the command for each list of arguments that it reads, in one process: what starts slowly
# starts once.
MANY = """
import contextlib, io, json, sys, traceback
from jaxmeta.cli import main
answers = []
for arguments in json.load(sys.stdin):
    sys.argv, out, err = ["jaxmeta", *arguments], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
        except BaseException:
            code = 1
            traceback.print_exc()
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


def in_one_process(*cases):
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        input=json.dumps([list(map(str, case)) for case in cases]),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_refusal(answer, sentence: str):
    """The sentence by which the command refuses: alone on standard error, exit code 2, no
    traceback."""
    code, stdout, stderr = answer
    lines = [line for line in stderr.splitlines() if line and line != "jaxmeta: starting"]
    assert (code, stdout, len(lines)) == (2, "", 1), stderr
    assert lines[0].startswith("jaxmeta: ")
    assert sentence in lines[0]


def test_training_leaves_results_and_a_picture(trained):
    out, printed = trained
    for name in ("trained", "untrained", "from_scratch", "raw_means"):
        assert 0 <= printed[name]["accuracy"] <= 1
    assert Path(printed["report"]).read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "results.json").read_text())["trained"] == printed["trained"]
    assert printed["configuration"]["model"] == "mlp"


def test_evaluation_of_a_run(trained, jaxmeta):
    code, stdout, stderr = jaxmeta(
        "evaluate", trained[0], "--ways", 3, "--shots", 2, "--episodes", 10, "--json"
    )
    assert code == 0, stderr
    printed = json.loads(stdout)
    assert (printed["ways"], printed["shots"], printed["episodes"]) == (3, 2, 10)
    assert printed["head"] == "extended from 2 to 3 outputs"
    assert 0 <= printed["accuracy"]["mean"] <= 1


def test_a_run_is_tested_at_another_inner_rate(trained):
    shared = ["evaluate", trained[0], "--episodes", 10, "--json"]
    answers = in_one_process(
        [*shared, "--inner-rate", 0, "--inner-steps", 3],
        [*shared, "--inner-steps", 0],
        [*shared, "--inner-steps", 3],
    )
    assert [code for code, _, _ in answers] == [0, 0, 0], answers
    still, unlearned, learned = (json.loads(printed) for _, printed, _ in answers)
    assert (still["inner_rate"], learned["inner_rate"]) == (
        0,
        trained[1]["configuration"]["inner_rate"],
    )
    assert still["loss"] == pytest.approx(unlearned["loss"]) and still["loss"] != pytest.approx(
        learned["loss"]
    )


@pytest.mark.slow
def test_a_run_is_resumed_without_its_settings(trained, jaxmeta):
    out, _ = trained
    code, stdout, stderr = jaxmeta(
        "train", "--resume", "--out", out, "--steps", 24, "--episodes", 8, "--json"
    )
    assert code == 0, stderr
    assert "resumed after step 20" in stderr
    assert json.loads(stdout)["steps"] == 24
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 24


BAD = [
    (["--ways", "6"], "6-way episodes"),
    (["--ways", "1"], "--ways"),
    (["--ways", "-1"], "--ways"),
    (["--shots", "500"], "500 shots"),
    (["--shots", "0"], "--shots"),
    (["--queries", "0"], "--queries"),
    (["--evaluation-ways", "4"], "4-way episodes"),
    (["--algorithm", "protonett"], "did you mean 'protonet'"),
    (["--data", "digitz"], "did you mean 'digits'"),
    (["--model", "conv5"], "did you mean 'conv4'"),
    (["--model", "conv1d"], "is not for inputs of shape"),
    (["--norm", "bach"], "did you mean 'batch'"),
    (["--algorithm", "boil", "--evaluation-ways", "3"], "does not adapt"),
    (["--inner-rate", "-0.1"], "--inner-rate"),
    (["--inner-rate", "nan"], "inner"),
    (["--outer-rate", "0"], "outer_rate must be above 0"),
    (["--inner-steps", "-1"], "--inner-steps"),
    (["--steps", "0"], "--steps"),
    (["--steps", "many"], "--steps"),
    (["--tasks", "0"], "--tasks"),
    (["--episodes", "0"], "--episodes"),
    (["--seed", "-1"], "--seed"),
    (["--out", "/dev/null/run"], "/dev/null/run"),
    (["--algoritm", "maml"], "--algorithm"),
    (["--rotations", "--data", "watch", "--model", "conv1d"], "rotations"),
    (["--warps", "--data", "watch", "--model", "conv1d"], "warps are of images"),
]


@pytest.fixture(scope="module")
def answers_to_bad(tmp_path_factory):
    out = tmp_path_factory.mktemp("bad") / "run"
    answers = in_one_process(*(["train", *SMALL, "--out", out, *arguments] for arguments, _ in BAD))
    assert not (out / "configuration.json").exists()
    return answers


@pytest.mark.parametrize(
    "number", range(len(BAD)), ids=[" ".join(arguments) for arguments, _ in BAD]
)
def test_a_bad_option_of_train_is_refused_in_one_sentence(answers_to_bad, number):
    check_refusal(answers_to_bad[number], BAD[number][1])


def test_bad_options_of_the_other_commands_are_refused(trained, tmp_path):
    out, _ = trained
    cases = {
        ("evaluate", tmp_path): "holds no run",
        ("evaluate", out, "--ways", 4): "4-way episodes",
        ("evaluate", out, "--split", "tset"): "has no split 'tset'",
        ("evaluate", out, "--data", "watch"): "choose data of the same shape",
        ("data", "show", "digit"): "did you mean 'digits'",
        ("data", "show", "digits", "--out", "/dev/null/a.png"): "/dev/null",
        ("train", "--resume", "--out", out, "--ways", 3): "ways 2, got 3",
        ("train", *SMALL, "--out", out): "already holds a run",
        ("evaluat",): "'evaluat'",
        ("train",): "--out",
    }
    for answer, sentence in zip(in_one_process(*cases), cases.values()):
        check_refusal(answer, sentence)


def test_what_a_record_does_not_say_is_not_filled_in(trained, tmp_path):
    """A run of `jaxmeta.fit` without a configuration, one whose record has open ends, and one of
    before settings were added."""
    out, _ = trained
    whole = json.loads((out / "configuration.json").read_text())
    later = {"reflections", "warps", "evaluation_rate"}
    records = {
        "fit": {"fit": whole["fit"]},
        "some": {"fit": whole["fit"], "ways": 2, "algorithm": "maml"},
        "open": {**whole, "inner_steps": None},
        "old": {name: whole[name] for name in whole if name not in later},
    }
    for name, record in records.items():
        shutil.copytree(out, tmp_path / name)
        (tmp_path / name / "configuration.json").write_text(json.dumps(record))
    shared = ["--episodes", 10, "--json"]
    fit, some, open_, resumed, old, new = in_one_process(
        *(["evaluate", tmp_path / name, *shared] for name in ("fit", "some", "open")),
        ["train", "--resume", "--out", tmp_path / "open"],
        *(["evaluate", folder, *shared] for folder in (tmp_path / "old", out)),
    )
    check_refusal(
        fit, "must say all that its run was made with, got nothing for algorithm, data, model and"
    )
    check_refusal(some, "got nothing for data, model, width and")
    for answer in (open_, resumed):
        check_refusal(answer, "got nothing for inner_steps;")
    assert old[0] == new[0] == 0, old
    assert json.loads(old[1]) == {**json.loads(new[1]), "run": str(tmp_path / "old")}


def test_an_error_within_keeps_its_traceback(tmp_path):
    program = (
        "import jaxmeta.data; jaxmeta.data.load = lambda name: 1 / 0\n"
        "from jaxmeta.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "train", "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr and "Traceback" in done.stderr


HELP = [
    ([], ["train", "evaluate", "algorithms", "data", "jaxmeta train --algorithm maml"]),
    (["train", "--help"], ["--ways", "--resume", "--json", "jaxmeta train --resume"]),
    (["evaluate", "--help"], ["--episodes", "jaxmeta evaluate runs/a"]),
    (["data"], ["list", "prepare", "show"]),
    (["algorithms"], ["maml", "Finn et al., ICML 2017", "r2d2"]),
    (["data", "list"], ["glyphs", "omniglot", "person"]),
    (["--version"], ["jaxmeta 0."]),
    (["data", "list", "--json"], ['"by": "group"']),
]


def test_help_and_tables():
    for (code, stdout, stderr), (_, words) in zip(
        in_one_process(*(arguments for arguments, _ in HELP)), HELP
    ):
        assert code == 0, stderr
        for word in words:
            assert word in stdout


def test_help_does_not_import_jax():
    program = (
        "import sys, jaxmeta.cli; assert not {'jax', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_data_is_shown_and_counted(jaxmeta, tmp_path):
    code, stdout, stderr = jaxmeta(
        "data", "show", "digits", "--out", tmp_path / "digits.png", "--json"
    )
    assert code == 0, stderr
    printed = json.loads(stdout)
    assert {which: part["classes"] for which, part in printed["splits"].items()} == {
        "train": 5,
        "validation": 2,
        "test": 3,
    }
    assert (tmp_path / "digits.png").stat().st_size > 10_000


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_resume(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        processes.command("train", *SMALL, "--steps", 10**6, "--out", out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    for line in process.stderr:
        if "compiled in" in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert f"resume with: jaxmeta train --resume --out {out}" in stderr
    assert "Traceback" not in stderr
    assert any((out / "checkpoints").iterdir())
