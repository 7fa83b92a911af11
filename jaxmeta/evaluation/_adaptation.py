"""How well a bias lets its learner learn held-out tasks.

Axis letters: `E` episodes, `K` inner steps, `T` tasks.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxmeta import _check
from jaxmeta._episodes import (
    default_over,
    each_episode,
    outcomes,
    partial,
    scalars,
    tried,
    whole_numbers,
    with_steps,
)
from jaxmeta._programs import shared
from jaxmeta.base import Bilevel
from jaxmeta.evaluation._statistics import Interval, interval
from jaxmeta.parallel import Mapper
from jaxmeta.process import learned


class Result(NamedTuple):
    """What an evaluation measured.

    Args:
      values: Name to `[E]`, one value an episode: 'loss', and every scalar that the outer objective
        returns beside it.
      summary: Name to the mean over the episodes, by the weights of their tasks, and its 95 %
        interval.
    """

    values: dict[str, np.ndarray]
    summary: dict[str, Interval]


_takes = _check.takes({"key": _check.key, "bilevel": _check.bilevel})


@_takes
def evaluate(
    key: Key[Array, ""],
    bilevel: Bilevel,
    theta: PyTree,
    sample,
    episodes: int = 600,
    over: Mapper | None = None,
    steps: int | None = None,
) -> Result:
    """Learns held-out tasks from theta and judges each: `outer_e(phi_K(theta))` for e = 1 to E.

    The episodes depend on the key alone: the same key gives the same episodes to every theta and
    bilevel problem, for paired comparisons (`paired_difference`), whatever the number of devices.

    Args:
      key: Of the episodes.
      bilevel: The problem; its bias shapes the learner.
      theta: What was learned across tasks.
      sample: `key -> Task`. A `jax.tree_util.Partial`, as `jaxmeta.episodes` gives, hands its
        arrays to the compiled program as arguments; what a plain function closes over is compiled
        in.
      episodes: E, at least 1.
      over: How tasks are mapped, from `over_tasks`.
      steps: K inner steps instead of the learner's own.

    Returns:
      A `Result`, on the host.

    Raises:
      ValueError: If episodes or steps are not whole numbers, sample is not a function that gives
        Tasks, or its first task has labels that are no class of the model.

    >>> import jax, optax, jaxmeta as jm
    >>> learner = jm.Learner(
    ...     lambda key, task: 0.0,
    ...     lambda key, phi, b: ((phi - b) ** 2, {}),
    ...     jm.no_penalty,
    ...     optax.sgd(0.25),
    ...     steps=1,
    ... )
    >>> sample = lambda key: jm.Task(support=3.0, query=3.0)
    >>> evaluate(
    ...     jax.random.key(0), jm.maml(learner).bilevel, jax.numpy.float32(1), sample, episodes=2
    ... ).summary["loss"]
    Interval(mean=1.0, half=0.0, count=2)
    """
    episodes, steps = whole_numbers(episodes, steps)
    sample = tried(key, bilevel, theta, partial(sample), episodes)
    return summarised(
        outcomes(
            key,
            theta,
            sample,
            bilevel=bilevel,
            episodes=episodes,
            over=over or default_over,
            steps=steps,
        )
    )


@_takes
def curve(
    key: Key[Array, ""],
    bilevel: Bilevel,
    theta: PyTree,
    sample,
    episodes: int = 600,
    steps: int = 10,
    over: Mapper | None = None,
) -> Result:
    """The outer loss if learning had ended after 0, 1, ..., K inner steps: what adaptation buys.

    Args:
      key, bilevel, theta, sample, episodes, over: As in `evaluate`; the same key gives the same
        episodes.
      steps: K, at least 0; it may go beyond the learner's own steps.

    Returns:
      A `Result` whose values are `[E, K + 1]` and whose summary has a list of K + 1 intervals for
      each name.

    Raises:
      ValueError: As `evaluate`.
    """
    episodes, steps = whole_numbers(episodes, steps)
    sample = tried(key, bilevel, theta, partial(sample), episodes)
    values = _curves(
        key,
        theta,
        sample,
        bilevel=bilevel,
        episodes=episodes,
        over=over or default_over,
        steps=steps,
    )
    values, weight = jax.device_get(values)
    return Result(
        values,
        {
            name: [interval(each[:, k], weight) for k in range(each.shape[1])]
            for name, each in values.items()
        },
    )


def summarised(outcomes) -> Result:
    """The `Result` of a compiled evaluation's outcomes on the device: name to `[E]`, and the tasks'
    weights, `[E]` or None."""
    values, weight = jax.device_get(outcomes)
    return Result(values, {name: interval(each, weight) for name, each in values.items()})


@shared
def _curves(key, theta, sample, *, bilevel, episodes, over, steps):
    bilevel = with_steps(bilevel, steps)

    def one(key, theta, task):
        learner, walked, key_outer = learned(key, bilevel, theta, task)
        points = jax.tree.map(
            lambda first, rest: jnp.concatenate([first[None], rest]), walked.start, walked.path
        )

        def judged(phi):  # as if learning had ended here
            return scalars(*bilevel.outer(key_outer, learner, walked._replace(end=phi), task))

        return jax.lax.map(judged, points), task.weight

    return each_episode(key, theta, sample, episodes, over, one)
