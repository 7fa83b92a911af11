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
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # One net for all tasks cannot get below 2.9, as benchmarks/results/sinusoid.json has it.
    assert float(done.stdout.split()[-1]) < 2.3
