"""What only some users need: absent, the core trains all the same and the rest says what to
install."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jaxmeta import _extras

ROOT = Path(__file__).parents[2]
WITHOUT = f"""
import sys
for name in {sorted(_extras._EXTRAS)}:
    sys.modules[name] = None
import tempfile
import jax, optax
import jaxmeta as jm
"""


def run(code: str):
    return subprocess.run([sys.executable, "-c", WITHOUT + code], capture_output=True, text=True)


def test_maml_trains_without_any_extra():
    done = run("""
learner = jm.gradient(jm.models.mlp([8], 1), jm.squared_error, optax.sgd(0.01))
folder = tempfile.mkdtemp() + "/run"
jm.fit(jax.random.key(0), jm.maml(learner), jm.sinusoids(5, 5), optax.adam(1e-3), 3, tasks=2,
       folder=folder)
import os
print(*sorted(os.listdir(folder)))
""")
    assert done.returncode == 0, done.stderr
    wanted = {"checkpoints", "configuration.json", "environment.json", "metrics.jsonl"}
    assert set(done.stdout.split()) == wanted  # and no TensorBoard events


@pytest.mark.parametrize(
    "call, what, package, extra",
    [
        ("jm.hierarchy.HierarchicalClassifier", "HierarchicalClassifier", "sklearn", "trees"),
        ("jm.hierarchy.Tree.star(3).networkx()", "a networkx graph", "networkx", "trees"),
        (
            "jm.report.draw_tree(jm.hierarchy.Tree.star(3), 'x.png')",
            "a picture",
            "matplotlib",
            "pictures",
        ),
        (
            "jm.data.load('digits', cache=tempfile.mkdtemp())",
            "the set 'digits'",
            "sklearn",
            "trees",
        ),
        ("jm.data.load('watch', cache=tempfile.mkdtemp())", "the set 'watch'", "seglearn", "data"),
    ],
)
def test_a_missing_extra_is_named(call, what, package, extra):
    done = run(f"""
try:
    {call}
except ImportError as error:
    print(error)
""")
    sentence = (
        f"{what} needs {package}, which is not installed; run: pip install 'jaxmeta[{extra}]'"
    )
    assert done.stdout.strip() == sentence, done.stderr


def test_every_extra_is_one_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(_extras._EXTRAS.values()) <= set(project["optional-dependencies"])
    assert len(project["dependencies"]) <= 16
    named = {"sklearn": "scikit-learn"}
    for package, extra in _extras._EXTRAS.items():
        brought = " ".join(project["optional-dependencies"][extra])
        assert named.get(package, package) in brought
