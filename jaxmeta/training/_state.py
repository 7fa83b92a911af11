"""What training carries from step to step, and what it hands back."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Int, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything that the next outer step depends on, beside the key.

    Args:
      step: Outer steps taken, a scalar integer.
      theta: The high level's parameters.
      optimiser: State of the optax optimiser.
      estimator: State of the estimator; `()` for stateless ones.
    """

    step: Int[Array, ""]
    theta: PyTree
    optimiser: PyTree
    estimator: PyTree


class Metric(NamedTuple):
    """By what the best theta is told from the others, on the validation episodes.

    Args:
      name: 'loss', or a scalar that the outer objective returns beside it, such as 'accuracy'.
      better: `(new, old) -> bool`: `operator.gt` where more is better, `operator.lt` where less is.
    """

    name: str
    better: Callable[[float, float], bool]


def metric(name: str) -> Metric:
    """The metric of that name: less is better if 'loss' or 'error' is in the name, else more is.

    >>> metric("loss").better(0.1, 0.2), metric("accuracy").better(0.1, 0.2)
    (True, False)
    """
    lower = any(word in name for word in ("loss", "error"))
    return Metric(name, operator.lt if lower else operator.gt)


class Best(NamedTuple):
    """The best theta so far: `step` it was reached after, `value` of the metric, and `theta`
    itself."""

    step: int
    value: float
    theta: PyTree


class Fitted(NamedTuple):
    """What `fit` made; it can be pickled.

    Args:
      state: After the last step taken.
      theta: The best theta by the validation metric; the last where there was no validation.
      best: The best value of the metric and its step, as a `Best`; None where there was no
        validation.
      history: The records of `metrics.jsonl`, dicts in order.
      folder: The run's folder, or None.
      seconds: Of running, compilation left out, earlier sessions of a resumed run included.
      compile_seconds: Of compiling, in this session.
    """

    state: TrainState
    theta: PyTree
    best: Best | None
    history: list[dict[str, Any]]
    folder: Path | None
    seconds: float
    compile_seconds: float
