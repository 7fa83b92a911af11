"""The house: who imports whom, what is public, and that data need no jax."""

import ast
import builtins
import dis
import importlib
import pkgutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxmeta

ROOT, TESTS = Path(jaxmeta.__file__).parent, Path(__file__).parent.parent

# Floors, from the ground up: a module imports from its own room and from floors below.
FLOORS = [
    {"_extras", "_lazy", "_pickle", "_registry"},
    {"base", "data"},
    {
        "_check",
        "_curvature",
        "_index",
        "_kronecker",
        "_linear",
        "_programs",
        "_pytree",
        "_random",
        "_sums",
    },
    {"_inner_objective", "_judged"},
    {"parallel", "process"},
    {"_episodes", "learner", "models", "objective"},
    {"hierarchy"},
    {"tying"},
    {"tasks"},
    {"bias"},
    {"estimator"},
    {"algorithms", "evaluation"},
    {"training"},
    {"experiment"},
    {"report"},
    {"_cli"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imports(path: Path):
    package = ["jaxmeta", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "jaxmeta":
                yield from (f"jaxmeta.{alias.name}" for alias in node.names)
            else:
                yield module


def test_imports_form_the_documented_order():
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for name in imports(path):
            if name.startswith("jaxmeta."):
                other = name.split(".")[1]
                if other in FLOOR and other != room:
                    assert FLOOR[other] < FLOOR[room], f"{path} imports {name}"


def test_no_room_imports_a_private_module_of_another():
    """What two rooms need has a public home, or one below them all."""
    found = []
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for name in [node.module, *(f"{node.module}.{each.name}" for each in node.names)]:
                    parts = name.split(".")
                    if len(parts) > 2 and parts[0] == "jaxmeta" and parts[2].startswith("_"):
                        if parts[1] != own and (own, parts[1]) != ("cli", "_cli"):
                            found.append(f"{path}:{node.lineno} {name}")
    assert not found


def test_no_file_holds_two_concepts():
    long = {
        str(path): lines
        for path in ROOT.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 300
    }
    assert not long


def test_every_public_name_is_there_and_documented():
    for name in jaxmeta.__all__:
        assert getattr(jaxmeta, name).__doc__, name
    with pytest.raises(AttributeError, match="nonsense"):
        jaxmeta.nonsense  # noqa: B018


def test_every_public_function_of_every_folder_is_documented():
    for folder in (
        "bias",
        "estimator",
        "learner",
        "tasks",
        "models",
        "training",
        "evaluation",
        "data",
        "report",
    ):
        module = importlib.import_module(f"jaxmeta.{folder}")
        for name in module.__all__:
            assert getattr(module, name).__doc__, f"{folder}.{name}"


def test_every_public_name_loads_and_is_written_once():
    """What editors read and what is loaded are the same lines."""
    for path in [ROOT / "__init__.py", *ROOT.glob("*/__init__.py")]:
        if path.parent.name == "_cli":
            continue
        module = importlib.import_module(
            ".".join(["jaxmeta", *path.parent.relative_to(ROOT).parts])
        )
        block = next(node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If))
        names = [alias.asname for node in block.body for alias in node.names]
        assert sorted(names) == sorted(set(names)) == dir(module) == module.__all__
        assert all(getattr(module, name) is not None for name in names)


def test_every_global_name_exists():
    """Names that are looked up when a function runs; a linter cannot tell them from the axes in
    annotations of shapes."""
    missing = {}
    for each in pkgutil.walk_packages(jaxmeta.__path__, "jaxmeta."):
        if each.name == "jaxmeta.__main__":
            continue
        module = importlib.import_module(each.name)
        codes = [compile(Path(module.__file__).read_text(), module.__file__, "exec")]
        for code in codes:
            codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
            for step in dis.get_instructions(code):
                name = step.argval
                if step.opname == "LOAD_GLOBAL" and not (
                    name in vars(module) or hasattr(builtins, name)
                ):
                    missing[f"{each.name}: {name}"] = code.co_name
    assert not missing


def test_importing_a_folder_imports_no_jax():
    code = """
import sys
sys.modules["jax"] = None
import jaxmeta, jaxmeta.algorithms, jaxmeta.hierarchy, jaxmeta.training
print(len(dir(jaxmeta.algorithms)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) > 20, done.stderr


def test_data_import_no_jax():
    code = (
        "import sys; sys.modules['jax'] = None; import jaxmeta.data; "
        "print(len(jaxmeta.data.catalogue()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) > 3, done.stderr


def test_no_test_draws_from_a_module_s_generator():
    """Its data would depend on which tests ran before it; a constant is drawn by `problems.normal`,
    the rest from `rng`."""
    makers = {"default_rng", "RandomState", "Generator", "Random", "seed"}
    for path in TESTS.rglob("*.py"):
        for statement in ast.parse(path.read_text()).body:
            if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                continue
            used = [
                node.value for node in ast.walk(statement) if isinstance(node, ast.Attribute)
            ]  # default_rng(0).normal
            kept = [
                node
                for node in ast.walk(statement)
                if isinstance(node, ast.Call) and node not in used
            ]
            assert not makers & {ast.unparse(node.func).split(".")[-1] for node in kept}, (
                f"{path}:{statement.lineno}"
            )
