"""The command as a process: what it prints, where, and with which exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# As small as can be: digits have 5, 2 and 3 classes in their splits, and the MLP compiles at once.
SMALL = ["--data", "digits", "--ways", "2", "--queries", "2", "--model", "mlp", "--width", "8", "--tasks", "2",
         "--episodes", "8"]


@pytest.fixture(scope="module")
def jaxmeta(tmp_path_factory):
    """`jaxmeta(*arguments) -> (exit code, standard output, standard error)`, in a process of its own."""
    folder = tmp_path_factory.mktemp("work")

    def run(*arguments):
        done = subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    return run


def command(*arguments):
    return [sys.executable, "-c", "from jaxmeta.cli import main; main()", *map(str, arguments)]


@pytest.fixture(scope="module")
def trained(jaxmeta, tmp_path_factory):
    """A run of 20 meta-batches, and what the command printed."""
    out = tmp_path_factory.mktemp("runs") / "a"
    code, stdout, stderr = jaxmeta("train", *SMALL, "--steps", 20, "--out", out, "--json")
    assert code == 0, stderr
    return out, json.loads(stdout)  # the whole of standard output is one JSON value


def refused(jaxmeta, *arguments) -> str:
    """The sentence by which the command refuses: alone on standard error, exit code 2, no traceback."""
    code, stdout, stderr = jaxmeta(*arguments)
    lines = [line for line in stderr.splitlines() if line and line != "jaxmeta: starting"]
    assert (code, stdout, len(lines)) == (2, "", 1), stderr
    assert lines[0].startswith("jaxmeta: ")
    return lines[0]


def test_training_leaves_results_and_a_picture(trained):
    out, printed = trained
    for name in ("trained", "untrained", "from_scratch", "raw_means"):
        assert 0 <= printed[name]["accuracy"] <= 1
    assert Path(printed["report"]).read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "results.json").read_text())["trained"] == printed["trained"]
    assert printed["configuration"]["model"] == "mlp"


def test_evaluation_of_a_run(trained, jaxmeta):
    code, stdout, stderr = jaxmeta("evaluate", trained[0], "--ways", 3, "--shots", 2, "--episodes", 10, "--json")
    assert code == 0, stderr
    printed = json.loads(stdout)
    assert (printed["ways"], printed["shots"], printed["episodes"]) == (3, 2, 10)
    assert printed["head"] == "extended from 2 to 3 outputs"
    assert 0 <= printed["accuracy"]["mean"] <= 1


def test_a_run_is_resumed_without_its_settings(trained, jaxmeta):
    out, _ = trained
    code, stdout, stderr = jaxmeta("train", "--resume", "--out", out, "--steps", 24, "--episodes", 8, "--json")
    assert code == 0, stderr
    assert "resumed after step 20" in stderr
    assert json.loads(stdout)["steps"] == 24
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 24
    assert "ways 2, got 3" in refused(jaxmeta, "train", "--resume", "--out", out, "--ways", 3)
    assert "already holds a run" in refused(jaxmeta, "train", *SMALL, "--out", out)


@pytest.mark.parametrize("arguments, sentence", [
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
    (["--inner-rate", "nan"], "inner_rate must be"),
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
])
def test_a_bad_option_of_train_is_refused_in_one_sentence(jaxmeta, tmp_path, arguments, sentence):
    assert sentence in refused(jaxmeta, "train", *SMALL, "--out", tmp_path / "run", *arguments)
    assert not (tmp_path / "run" / "configuration.json").exists()


def test_bad_options_of_the_other_commands_are_refused(trained, jaxmeta, tmp_path):
    out, _ = trained
    assert "holds no run" in refused(jaxmeta, "evaluate", tmp_path)
    assert "4-way episodes" in refused(jaxmeta, "evaluate", out, "--ways", 4)
    assert "has no split 'tset'" in refused(jaxmeta, "evaluate", out, "--split", "tset")
    assert "choose data of the same shape" in refused(jaxmeta, "evaluate", out, "--data", "watch")
    assert "did you mean 'digits'" in refused(jaxmeta, "data", "show", "digit")
    assert "/dev/null" in refused(jaxmeta, "data", "show", "digits", "--out", "/dev/null/a.png")
    assert "'evaluat'" in refused(jaxmeta, "evaluat")
    assert "--out" in refused(jaxmeta, "train")


@pytest.mark.parametrize("arguments, words", [
    ([], ["train", "evaluate", "algorithms", "data", "jaxmeta train --algorithm maml"]),
    (["train", "--help"], ["--ways", "--resume", "--json", "jaxmeta train --resume"]),
    (["evaluate", "--help"], ["--episodes", "jaxmeta evaluate runs/a"]),
    (["data"], ["list", "prepare", "show"]),
    (["algorithms"], ["maml", "Finn et al., ICML 2017", "r2d2"]),
    (["data", "list"], ["glyphs", "omniglot", "person"]),
    (["--version"], ["jaxmeta 0."]),
])
def test_help_and_tables(jaxmeta, arguments, words):
    code, stdout, stderr = jaxmeta(*arguments)
    assert code == 0, stderr
    for word in words:
        assert word in stdout


def test_help_does_not_import_jax():
    program = "import sys, jaxmeta.cli; assert not {'jax', 'numpy', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_data_is_shown_and_counted(jaxmeta, tmp_path):
    code, stdout, stderr = jaxmeta("data", "show", "digits", "--out", tmp_path / "digits.png", "--json")
    assert code == 0, stderr
    printed = json.loads(stdout)
    assert {which: part["classes"] for which, part in printed["splits"].items()} == {"train": 5, "validation": 2, "test": 3}
    assert (tmp_path / "digits.png").stat().st_size > 10_000


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_resume(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(command("train", *SMALL, "--steps", 10**6, "--out", out), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
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
