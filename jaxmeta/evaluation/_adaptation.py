"""How well a bias lets its learner learn held-out tasks.

Axis letters: `E` episodes, `K` inner steps, `T` tasks.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxmeta import _check
from jaxmeta._programs import run, shared
from jaxmeta._pytree import nbytes, paths
from jaxmeta.base import Bilevel
from jaxmeta.evaluation._statistics import Interval, interval
from jaxmeta.parallel import Mapper, over_tasks
from jaxmeta.process import learned, outcome

_BLOCK = 2**27  # bytes of tasks sampled at a time
default_over = over_tasks()


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
    episodes, steps = _whole(episodes, steps)
    sample = _tried(key, bilevel, theta, partial(sample), episodes)
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
    episodes, steps = _whole(episodes, steps)
    sample = _tried(key, bilevel, theta, partial(sample), episodes)
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


def partial(sample) -> jax.tree_util.Partial:
    """A sampler as a pytree, so that a jitted function takes its arrays as arguments."""
    if not callable(sample):
        raise ValueError(
            f"sample must be a function key -> Task, got {type(sample).__name__}; give for example "
            "jaxmeta.episodes(...)"
        )
    return sample if isinstance(sample, jax.tree_util.Partial) else jax.tree_util.Partial(sample)


def metrics(key, bilevel: Bilevel, theta: PyTree, task) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of one task's `scalars`, uncompiled. What is wrong with the bias, the losses or,
    the task's values being at hand, its labels is refused here."""
    _check.sampled(task)
    return jax.eval_shape(lambda theta: scalars(*outcome(key, bilevel, theta, task)), theta)


def _tried(key, bilevel, theta, sample, episodes):
    """Returns the sampler; looks at its first task where it and the problem come together for the
    first time."""
    looked = _looked(bilevel, jax.tree.structure(sample))
    if not looked:
        first = jax.random.split(jax.random.split(key, episodes)[0])
        metrics(first[1], bilevel, theta, run(sample, first[0]))
        looked.append(True)
    return sample


@functools.lru_cache(maxsize=128)
def _looked(bilevel, sampler) -> list:
    return []


def scalars(loss, aux) -> dict[str, Array]:
    """The outer loss and the real scalars of aux, by name; the rest of aux is not a metric."""
    named = {"loss": loss}
    for name, leaf in zip(paths(aux), jax.tree.leaves(aux)):
        if jnp.shape(leaf) == () and not jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
            named.setdefault(name or "aux", jnp.asarray(leaf, jnp.result_type(loss)))
    return named


def summarised(outcomes) -> Result:
    """The `Result` of `outcomes` on the device."""
    values, weight = jax.device_get(outcomes)
    return Result(values, {name: interval(each, weight) for name, each in values.items()})


def with_steps(bilevel: Bilevel, steps: int | None) -> Bilevel:
    """The problem whose learner takes this many inner steps, whatever the bias makes of it."""
    if steps is None:
        return bilevel
    shape = bilevel.bias.shape
    bias = bilevel.bias._replace(shape=lambda *given: shape(*given)._replace(steps=steps))
    return bilevel._replace(bias=bias, learner=bilevel.learner._replace(steps=steps))


@shared
def outcomes(key, theta, sample, *, bilevel, episodes, over, steps):
    """The compiled program of `evaluate`: name to `[E]`, and the tasks' weights, `[E]` or None."""
    bilevel = with_steps(bilevel, steps)
    return _each_episode(
        key,
        theta,
        sample,
        episodes,
        over,
        lambda key, theta, task: (scalars(*outcome(key, bilevel, theta, task)), task.weight),
    )


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

    return _each_episode(key, theta, sample, episodes, over, one)


def _each_episode(key, theta, sample, episodes, over, one):
    """`one(key, theta, task)` for every episode, sampled block by block where all at once would
    fill the memory."""
    theta = jax.tree.map(jnp.asarray, theta)
    keys = jax.random.split(key, episodes)
    task = jax.eval_shape(sample, key)
    blocks = -(-episodes * max(1, nbytes(task)) // _BLOCK)
    # Whole multiples of the devices, so that a mesh never refuses a number of episodes; the surplus
    # is dropped.
    devices = jax.device_count()
    size = -(-episodes // (blocks * devices)) * devices
    blocks = -(-episodes // size)
    keys = keys[jnp.arange(blocks * size) % episodes].reshape(blocks, size)

    def block(keys):
        pairs = jax.vmap(jax.random.split)(keys)
        tasks = jax.vmap(sample)(pairs[:, 0])
        return over(
            lambda theta, batched: ((), one(batched[0], theta, batched[1])),
            theta,
            (pairs[:, 1], tasks),
        )[1]

    each = block(keys[0]) if blocks == 1 else jax.lax.map(block, keys)
    return jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[1 if blocks == 1 else 2 :])[:episodes], each
    )


def _whole(episodes, steps):
    return (
        _check.whole_number("episodes", episodes, least=1),
        None if steps is None else _check.whole_number("steps", steps),
    )
