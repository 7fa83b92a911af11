"""jaxmeta: functional metalearning in JAX.

A **bias** (high level) shapes a **learner** (low level); a **task** supplies the learner's data; an
**estimator** says how the outcome's derivative reaches the bias; a **hierarchy** says which tasks
and concepts share which part of it, and a **tying** says how the shared part becomes each node's
parameters.

A learner has five places, and a budget, that a bias can touch, and a voice. This is the whole
taxonomy of metalearning:

| field     | meaning                           | what acts on it                                  |
|-----------|-----------------------------------|--------------------------------------------------|
| `start`   | where low-level learning begins   | `initialisation` (MAML), `representation` (ANIL) |
| `sees`    | what a step sees of the support   | example weights, distilled data, minibatches     |
| `loss`    | what is measured                  | `shared` (BOIL's head), `context` (CAVIA)        |
| `penalty` | what is preferred                 | `proximal` (iMAML)                               |
| `update`  | how it moves                      | `step_sizes` (Meta-SGD), `preconditioner`        |
| `steps`   | how long it learns                | evaluation budgets, curricula                    |
| `predict` | what it says of unlabelled inputs | evaluation, calibration, a user's own use        |

`hyperparameters` sets whatever a learner is made with. An algorithm is a bilevel problem and an
estimator (`jaxmeta.algorithms`). The process takes its gradient and its scan as arguments:
estimators that go through it differ in these two alone, in how inner gradients are differentiated
and in what of the steps is stored. Tasks are mapped in one place (`jaxmeta.parallel`). Imports go
one way: base <- process, parallel <- learner, models, objective <- hierarchy <- tying <- tasks <-
bias <- estimator <- algorithms, evaluation <- training <- experiment <- report <- cli.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "jaxmeta.base": (
        "Algorithm",
        "Bias",
        "Bilevel",
        "Estimate",
        "Estimator",
        "Examples",
        "Learner",
        "Task",
        "Trajectory",
        "query_loss",
    ),
    "jaxmeta.process": (
        "adapt",
        "advance",
        "begin",
        "no_penalty",
        "outcome",
        "predict",
        "trajectory",
    ),
    "jaxmeta.parallel": ("over_tasks", "task_mesh"),
    "jaxmeta._programs": ("cache",),
    "jaxmeta._pytree": ("everything", "excluding", "named", "take"),
    "jaxmeta.algorithms": (
        "anil",
        "boil",
        "cavia",
        "fomaml",
        "imaml",
        "maml",
        "meta_curvature",
        "meta_sgd",
        "protonet",
        "r2d2",
        "reptile",
    ),
    "jaxmeta.bias": (
        "batch_by_step",
        "compose",
        "context",
        "element",
        "fixed",
        "hyperparameters",
        "initialisation",
        "minibatches",
        "momentum",
        "preconditioner",
        "proximal",
        "representation",
        "seen",
        "shared",
        "step_sizes",
    ),
    "jaxmeta.estimator": (
        "auto",
        "binomial",
        "cg",
        "each_step",
        "evolution",
        "finite_difference",
        "first_order",
        "forward",
        "implicit",
        "linearising",
        "mixed",
        "neumann",
        "nres",
        "nystrom",
        "one_step",
        "pes",
        "rebuilding",
        "recomputing",
        "reversible",
        "sama",
        "saving",
        "segments",
        "t1t2",
        "truncated",
        "unrolled",
    ),
    "jaxmeta.learner": (
        "adam",
        "cross_entropy",
        "gradient",
        "prototypes",
        "ridge",
        "ridge_regression",
        "squared_error",
    ),
    "jaxmeta.tasks": (
        "episodes",
        "inductive",
        "pool",
        "quadratics",
        "rotations",
        "sinusoids",
        "stream",
    ),
    "jaxmeta.evaluation": ("compare",),
    "jaxmeta.training": ("fit",),
}
_FOLDERS = (
    "algorithms",
    "bias",
    "data",
    "estimator",
    "evaluation",
    "hierarchy",
    "learner",
    "models",
    "report",
    "tasks",
    "training",
    "tying",
)
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_HOME) + list(_FOLDERS)


def __getattr__(name: str):
    # Loaded when asked for: the data need no jax, and the command's help comes at once.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _FOLDERS:
        return importlib.import_module(f"jaxmeta.{name}")
    raise AttributeError(
        f"module 'jaxmeta' has no attribute '{name}'"
        + ("" if name.startswith("_") else _meant(name))
    )


def _meant(name: str) -> str:
    """Where a name lives that is not at the top, or the names most like it."""
    import difflib

    modules = {folder: importlib.import_module(f"jaxmeta.{folder}") for folder in _FOLDERS}
    public = {
        folder: getattr(module, "__all__", None)
        or [
            each
            for each, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__
        ]
        for folder, module in modules.items()
    }
    homes = [f"jaxmeta.{folder}.{name}" for folder, names in public.items() if name in names]
    if homes:
        return f"; it is {' or '.join(homes)}"
    known = {each.lower(): each for each in _HOME} | {
        each.lower(): f"{folder}.{each}"
        for folder, names in public.items()
        for each in names
        if not each.startswith("_") and each not in _HOME
    }
    close = difflib.get_close_matches(name.lower(), known, 2, 0.7)
    return (
        f"; did you mean {' or '.join(f'jaxmeta.{known[each]}' for each in close)}?"
        if close
        else ""
    )


def __dir__():
    return __all__
