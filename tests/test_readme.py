"""The README's Python runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.slow
def test_the_first_example_learns():
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.S).group(1)
    assert len(code.splitlines()) <= 14
    code += """
from jaxmeta.evaluation import evaluate
key, sample = jax.random.key(3), jm.sinusoids(shots=10)
print(evaluate(key, bilevel, fitted.theta, sample, 500).summary["loss"].mean)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # One net for all tasks cannot get below 2.9, as benchmarks/results/sinusoid.json has it.
    assert float(done.stdout.split()[-1]) < 2.3


@pytest.mark.slow
def test_the_example_of_hierarchies_derives_and_tests_trees():
    code = re.search(r"## Hierarchies.*?```python\n(.*?)```", README.read_text(), re.S).group(1)
    assert len(code.splitlines()) <= 14
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # Ten digits a tree, the accuracy behind the last of them; one in ten is chance.
    accuracies = [float(line.split()[-1]) for line in done.stdout.splitlines() if "." in line]
    assert len(accuracies) == 3 and len(done.stdout.splitlines()) == 30
    assert min(accuracies) > 0.6


def test_the_example_of_tying_serves_every_node():
    code = re.search(r"## Tying.*?```python\n(.*?)```", README.read_text(), re.S).group(1)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["(5,", "20,", "2)", "0.0"], (
        "no differences yet, so that nothing is preferred otherwise"
    )
