"""The main job on real data, end to end, through the command."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["omniglot", "hapt"])
def test_meta_training_on_real_data_beats_chance(name, tmp_path):
    if not os.environ.get("JAXMETA_DATA"):
        pytest.skip("JAXMETA_DATA is not set: no real data to learn from")
    done = subprocess.run(
        [sys.executable, "-c", "from jaxmeta.cli import main; main()", "train", "--algorithm", "protonet", "--data", name,
         "--ways", "5", "--shots", "1", "--width", "8", "--steps", "60", "--tasks", "4", "--episodes", "100",
         "--out", str(tmp_path / "run"), "--json"],
        capture_output=True, text=True, env=os.environ | {"JAXMETA_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["trained"]["accuracy"] - results["trained"]["half"] > 0.3  # chance is 0.2
    assert (tmp_path / "run" / "report.png").stat().st_size > 10_000
