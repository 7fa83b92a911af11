"""Which estimator to take: roads back to the bias, side by side on one problem.

Axis letters: `T` tasks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta import _check
from jaxmeta._pytree import moving
from jaxmeta._sums import widened
from jaxmeta.base import Bilevel, Estimator
from jaxmeta.estimator import closeness, unrolled


class Road(NamedTuple):
    """What was found of one estimator.

    Args:
      name: As given.
      cosine: Of the angle between an estimate and the exact gradient, the mean over draws.
      relative_error: `|grad - exact| / |exact|`, the mean over draws.
      bias: The same of the mean estimate: what no number of draws would take away. Of n draws it is
        still about `sqrt(variance / n)` where there is none.
      variance: `E|grad - E grad|^2 / |exact|^2` over draws; 0 for estimators that draw nothing.
      milliseconds: Median of an estimate, compilation apart.
      compile_seconds: Tracing and compiling.
      bytes: Peak of temporary memory, from the compiled program.
      refusal: Why the estimator does not take the problem, else None; the numbers are then nan.
    """

    name: str
    cosine: float = float("nan")
    relative_error: float = float("nan")
    bias: float = float("nan")
    variance: float = float("nan")
    milliseconds: float = float("nan")
    compile_seconds: float = float("nan")
    bytes: float = float("nan")
    refusal: str | None = None


class Comparison(NamedTuple):
    """The roads of `compare`, in the order given; printed as a table, drawn by
    `jaxmeta.report.draw_comparison`."""

    roads: tuple[Road, ...]

    def __str__(self):
        heads = ("cosine", "rel. error", "bias", "variance", "ms", "compile s", "MB")
        lines = [f"{'estimator':28s}" + "".join(f"{head:>11s}" for head in heads)]
        for name, *numbers, size, refusal in self.roads:
            shown = "".join(f"{number:11.3g}" for number in (*numbers, size / 1e6))
            lines.append(f"{name:28.28s}" + (f"  refused: {refusal}" if refusal else shown))
        return "\n".join(lines)


@_check.takes(
    {
        "key": _check.key,
        "bilevel": _check.bilevel,
        "tasks": _check.task,
        "estimators": _check.estimators,
    }
)
def compare(
    key,
    estimators: Mapping[str, Estimator],
    bilevel: Bilevel,
    theta,
    tasks,
    exact: Estimator | None = None,
    draws: int = 8,
    rounds: int = 5,
) -> Comparison:
    """Measures estimators against the exact gradient of one problem: error, variance, time and
    memory.

    Every draw has a key, the same for all estimators and for the exact one, on the same tasks. An
    estimator that carries a state goes on with it from draw to draw. Times are taken in turns, one
    of each estimator a round.

    Args:
      key: Draws the keys.
      estimators: By name.
      bilevel: The problem.
      theta: Where the gradient is taken.
      tasks: A batch, `[T, ...]`.
      exact: What is taken as exact; default `unrolled()`, which is so for losses with derivative
        rules of their own too.
      draws: Estimates of each, at least 1.
      rounds: Times of each, at least 1.

    Returns:
      A `Comparison`. An estimator that refuses the problem by ValueError stands there with what it
      said.
    """
    _check.whole_number("draws", draws, least=1)
    _check.whole_number("rounds", rounds, least=1)
    keys = jax.random.split(key, draws)
    theta = jax.tree.map(jnp.asarray, theta)
    truths, _, _ = _measured(unrolled() if exact is None else exact, bilevel, theta, tasks, keys)
    size = float(optax.tree.norm(_mean(truths)))
    found, runs = {}, {}
    for name, estimator in estimators.items():
        try:
            grads, about, runs[name] = _measured(estimator, bilevel, theta, tasks, keys)
        except ValueError as error:
            found[name] = Road(name, refusal=str(error))
            continue
        near = [closeness(grad, truth) for grad, truth in zip(grads, truths)]
        mean = _mean(grads)
        spread = [
            float(optax.tree.norm(optax.tree.sub(grad, mean), squared=True)) for grad in grads
        ]
        found[name] = Road(
            name,
            *(
                float(np.mean([each[what] for each in near]))
                for what in ("cosine", "relative_error")
            ),
            bias=float(closeness(mean, _mean(truths))["relative_error"]),
            variance=sum(spread) / max(1, draws - 1) / size**2,
            **about,
        )
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(1e3 * (time.perf_counter() - begin))
    return Comparison(
        tuple(
            road._replace(milliseconds=statistics.median(times[name])) if name in times else road
            for name, road in found.items()
        )
    )


def _measured(estimator: Estimator, bilevel, theta, tasks, keys):
    """The gradients of all keys, what compiling told, and the program to be timed."""
    state = estimator.init(keys[0], bilevel, theta, tasks)

    def one(key, theta, tasks, state):
        estimate, state = estimator.estimate(key, bilevel, theta, tasks, state)
        return estimate.grad, state

    begin = time.perf_counter()
    program = jax.jit(one).lower(keys[0], theta, tasks, state).compile()
    about = {
        "compile_seconds": time.perf_counter() - begin,
        "bytes": program.memory_analysis().temp_size_in_bytes,
    }
    first, grads = state, []
    for key in keys:
        grad, state = program(key, theta, tasks, state)
        grads.append(widened(moving(grad)))
    return grads, about, lambda: program(keys[0], theta, tasks, first)


def _mean(trees):
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)
