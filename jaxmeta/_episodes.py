"""The compiled runner of episodes: tasks are sampled, learned and judged, in blocks that fit the
memory; what training's validation and evaluation share.

Axis letters: `E` episodes, `K` inner steps.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxmeta import _check
from jaxmeta._programs import run, shared
from jaxmeta._pytree import nbytes, paths
from jaxmeta.base import Bilevel
from jaxmeta.parallel import over_tasks
from jaxmeta.process import outcome

_BLOCK = 2**27  # bytes of tasks sampled at a time
default_over = over_tasks()


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


def tried(key, bilevel, theta, sample, episodes):
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
    return each_episode(
        key,
        theta,
        sample,
        episodes,
        over,
        lambda key, theta, task: (scalars(*outcome(key, bilevel, theta, task)), task.weight),
    )


def each_episode(key, theta, sample, episodes, over, one):
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


def whole_numbers(episodes, steps):
    return (
        _check.whole_number("episodes", episodes, least=1),
        None if steps is None else _check.whole_number("steps", steps),
    )
