"""The README's Python runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_first_example_learns():
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.S).group(1)
    assert len(code.splitlines()) <= 14
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    value = float(re.search(r"\(Array\(([0-9.e+-]+)", done.stdout).group(1))
    assert value < 3.0  # the variance of a sinusoid of the largest amplitude is 12.5, of the mean one 3.3
