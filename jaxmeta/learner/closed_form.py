"""What heads solved in closed form share: learning is over where it starts, so that `steps = 0`.

Examples count by their weights, so that one of weight 0 is as good as absent. A class without
support has the log-probability -inf: a prototype infinitely far away, a column of weights that is
infinite. A query of such a class counts nothing and is told in aux, so that tasks of fewer classes
go with those of more.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmeta.base import Examples, Learner
from jaxmeta.learner._criteria import classes, cross_entropy
from jaxmeta.process import no_penalty


def unit(x: Float[Array, "n D"]) -> Float[Array, "n D"]:
    """Rows of length 1, with a derivative at zero."""
    return x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-12)


def class_sums(
    examples: Examples, ways: int
) -> tuple[Float[Array, "ways D"], Float[Array, " ways"]]:
    """Of every class the sum of its rows by their weights, and the sum of the weights."""
    own = members(examples, ways)
    return own.T @ examples.x, own.sum(0)


def members(examples: Examples, ways: int) -> Float[Array, "n ways"]:
    """How much each example counts in each class: its weight (1 without weights) in its own. Under
    jit a label that is no class makes its row NaN, unless the example counts nothing."""
    known, counting = classes(examples, ways), examples.counting
    own = jnp.where(
        known[:, None], jax.nn.one_hot(examples.y, ways, dtype=examples.x.dtype), jnp.nan
    )
    if counting is None:
        return own
    counting = counting.astype(own.dtype)
    return jnp.where((known | (counting != 0))[:, None], counting[:, None] * own, 0)


def without(scores: Float[Array, "n ways"], absent) -> Float[Array, "n ways"]:
    """The scores, -inf for the classes that have no support."""
    return jnp.where(absent[None], -jnp.inf, scores)


def or_infinite(weights, present):
    """What a class is known by, infinite for one without support."""
    return jnp.where(present, weights, jnp.inf)


def parted(phi, axis):
    """phi with 0 for infinite classes, and which these are."""
    absent = jnp.isposinf(phi).all(axis)
    return jnp.where(jnp.expand_dims(absent, axis), 0, phi), absent


def rows(x):
    """Returns x, refusing what is not `[n, D]`."""
    if x.ndim != 2:
        raise ValueError(
            f"a head solved in closed form needs inputs [n, D], got shape {x.shape}; put an "
            "encoder before it with representation(model)"
        )
    return x


def solved(solve, logits, inputs=rows) -> Learner:
    """The learner whose phi is `solve(support)` and stays there, judged by cross entropy of
    `logits(phi, x)`; its aux tells which queries are "unsupported" `[n]`, of a class without
    support, and count nothing.

    `inputs` gives back the x of support and query, or refuses it.
    """

    def start(key, task):
        if not jnp.issubdtype(task.support.y.dtype, jnp.integer):
            raise ValueError(
                "a head of classes needs labels that are integers, got dtype "
                f"{task.support.y.dtype}; for real targets take jaxmeta.learner.ridge_regression, "
                "or gradient steps on squared_error"
            )
        return solve(task.support._replace(x=inputs(task.support.x)))

    def predict(key, phi, batch):
        return logits(phi, inputs(batch.x))

    def loss(key, phi, batch):
        return supported_cross_entropy(predict(key, phi, batch), batch)

    return Learner(start, loss, no_penalty, optax.set_to_zero(), steps=0, predict=predict)


def supported_cross_entropy(scores: Float[Array, "n ways"], batch: Examples):
    """`cross_entropy` of the examples whose class has a score; the others, of score -inf, count
    nothing and are told in aux."""
    unsupported = (
        jnp.isneginf(scores) & (batch.y[:, None] == jnp.arange(scores.shape[1])[None])
    ).any(1)
    weight = jnp.asarray(1, scores.dtype) if batch.weight is None else batch.weight
    value, aux = cross_entropy(scores, batch._replace(weight=jnp.where(unsupported, 0, weight)))
    return value, aux | {"unsupported": unsupported}
