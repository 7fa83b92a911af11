"""The main job on real data, end to end, through the command."""

import json
import os

import pytest
from processes import jaxmeta


@pytest.mark.slow
@pytest.mark.parametrize("name", ["omniglot", "hapt"])
def test_meta_training_on_real_data_beats_chance(name, cache, tmp_path):
    if not os.environ.get("JAXMETA_DATA"):
        pytest.skip("JAXMETA_DATA is not set: no real data to learn from")
    code, stdout, stderr = jaxmeta(
        "train",
        "--algorithm",
        "protonet",
        "--data",
        name,
        "--ways",
        5,
        "--shots",
        1,
        "--width",
        8,
        "--steps",
        60,
        "--tasks",
        4,
        "--episodes",
        60,
        "--validate-every",
        30,
        "--out",
        tmp_path / "run",
        "--json",
        timeout=None,
        env=os.environ | {"JAXMETA_CACHE": str(cache)},
    )
    assert code == 0, stderr
    results = json.loads(stdout)
    assert results["trained"]["accuracy"] - results["trained"]["half"] > 0.3  # chance is 0.2
    assert (tmp_path / "run" / "report.png").stat().st_size > 10_000
