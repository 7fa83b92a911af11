"""A method and a model of a user's own, from a module that the command is given."""

import json

import pytest
from processes import jaxmeta as command

from jaxmeta._registry import Registry
from jaxmeta.experiment import METHODS, Method

PLUGIN = """
import jaxmeta as jm
from jaxmeta.experiment import METHODS, MODELS, Method, Net


def slow_maml(model, level, over, outer):
    import optax

    learner = jm.gradient(model(level.ways), update=optax.sgd(level.rate), steps=level.steps)
    return jm.maml(learner, over=over, outer=outer)


def tiny(outputs, width, norm):
    return jm.models.mlp([width], outputs)


METHODS.register("slow_maml", Method(
    slow_maml, learned="initialisation", derivative="through all inner steps", paper="mine",
    ours="the rate", inner_rate=(0.01, 0.01), image_model="tiny"))
MODELS.register("tiny", Net(tiny, (3,)))
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    return tmp_path


def test_a_method_of_ones_own_trains_and_is_judged_by_the_command(folder):
    code, stdout, stderr = command(
        "--plugin",
        "mine",
        "train",
        "-a",
        "slow_maml",
        "--data",
        "digits",
        "--ways",
        "2",
        "--steps",
        "2",
        "--episodes",
        "5",
        "--width",
        "4",
        "--tasks",
        "2",
        "--out",
        "run",
        "--json",
        cwd=folder,
    )
    assert code == 0, stderr
    assert json.loads(stdout)["configuration"]["model"] == "tiny"
    code, stdout, stderr = command(
        "--plugin", "mine", "evaluate", "run", "--episodes", "5", "--json", cwd=folder
    )
    assert code == 0, stderr
    code, stdout, _ = command("--plugin", "mine", "algorithms", "--json", cwd=folder)
    assert json.loads(stdout)["slow_maml"]["ours"] == "the rate"
    code, _, stderr = command("evaluate", "run", cwd=folder)
    assert code == 2 and "there is no algorithm 'slow_maml'" in stderr


def test_a_plugin_that_is_not_there_is_refused(folder):
    code, _, stderr = command("--plugin", "yours", "algorithms", cwd=folder)
    assert code == 2 and "a plugin must be a module that can be imported, got 'yours'" in stderr


def test_a_name_is_taken_once_and_by_a_record():
    registry = Registry("algorithm", METHODS, Method)
    with pytest.raises(ValueError, match="the algorithm 'maml' is there already; choose another"):
        registry.register("maml", METHODS["anil"])
    with pytest.raises(ValueError, match="the algorithm 'mine' must be a Method, got int"):
        registry.register("mine", 3)
    assert registry.register("maml", METHODS["maml"]) is METHODS["maml"]
    registry.register("mine", METHODS["anil"])
    assert "mine" in registry and "mine" not in METHODS and len(registry) == len(METHODS) + 1
