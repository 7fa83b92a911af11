"""The record of a method."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

BUILDERS = "jaxmeta.experiment._builders"


class Level(NamedTuple):
    """The low level of a method: `ways`, the inner `rate`, the inner `steps`; `classes` and `shots`
    there are in training."""

    ways: int
    rate: float
    steps: int
    classes: int
    shots: int


class Method(NamedTuple):
    """A method: the one source of truth about it, for commands, tables, presets and docs.

    What builds is a function, or "module:name" of one, which is imported when it is used, so that a
    record needs no jax.

    Args:
      build: `(model, level, over, outer) -> Algorithm`, where `model(outputs)` makes the net.
      learned: What the high level owns, in words.
      derivative: How the outer loss's derivative reaches it, in words.
      paper: Where it was published.
      ours: What deviates from the paper or its authors' code, in a sentence or two; "" where
        nothing is known to. What all have in common is not repeated: outer rates, budgets and tasks
        a meta-batch are ours, and normalisation is by the data at hand.
      inner_rate: Default step size of the low level on images and on windows; 0 where it takes no
        steps.
      inner_steps: Default inner steps in training.
      evaluation_steps: Default inner steps in evaluation.
      tasks: Default episodes a meta-batch.
      shots: Default support examples a class in training on images and on windows; evaluation has 1
        unless told.
      outer_rate: Default step size of the high level.
      optimiser: The outer optimiser, `(rate, steps) -> optax transformation`.
      image_model: Default model of images.
      norm: Default normalisation.
      extends: Whether a head can be given more outputs than it was trained with (see
        `at_other_ways`).
      sample: The sampler of training tasks,
        `(pool, ways, shots, queries, **variants) -> (key -> Task)`.
    """

    build: Callable | str
    learned: str
    derivative: str
    paper: str
    ours: str
    inner_rate: tuple[float, float] = (0.4, 0.1)
    inner_steps: int = 1
    evaluation_steps: int = 3
    tasks: int = 16
    shots: tuple[int, int] = (1, 1)
    outer_rate: float = 2e-3
    optimiser: Callable | str = f"{BUILDERS}:constant_adam"
    image_model: str = "conv4"
    norm: str = "batch"
    extends: bool = True
    sample: Callable | str = "jaxmeta.tasks:episodes"


def ours(**records: dict) -> dict[str, Method]:
    """The records of our methods by name, each built by the function of its name."""
    return {name: Method(build=f"{BUILDERS}:{name}", **fields) for name, fields in records.items()}
