"""Task2Vec: concepts embedded by what a probe network's parameters mean to them.

Axis letters: `C` concepts, `n` examples, `h` features of the body, `P` units of the body.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from jaxmeta import _check
from jaxmeta._sums import widened
from jaxmeta.base import Examples
from jaxmeta.hierarchy._affinity import checked_affinity
from jaxmeta.hierarchy._class_data import checked
from jaxmeta.hierarchy._one_vs_rest import fit_heads
from jaxmeta.models import Model

_ADAM = optax.adam(1e-3)


def task2vec_affinity(
    key,
    examples: Examples,
    body: Model,
    params: PyTree | None = None,
    steps: int = 200,
    shots: int = 16,
    optimiser: optax.GradientTransformation = _ADAM,
    strength: float = 1e-2,
) -> Float[np.ndarray, "C C"]:
    """`fisher_affinity` of `fisher_embedding`, of each concept against the rest.

    Args:
      key: Draws the probe, where it is trained here.
      examples: x `[n, ...]`, y `[n]`, 0 to C-1.
      body: The probe, `[n, ...] -> [n, h]`.
      params: The probe's parameters, in the paper from a large data set; default: trained here on
        all concepts together.
      steps: Updates of that training.
      shots: Examples of each concept an update.
      optimiser: Of that training.
      strength: See `fisher_embedding`.

    Raises:
      ValueError: for what `by_class` refuses.
    """
    if params is None:
        params, _, _ = fit_heads(key, examples, body, steps, shots, optimiser, steps, _nothing)
    return fisher_affinity(fisher_embedding(examples, body, params, strength))


def fisher_embedding(
    examples: Examples, body: Model, params: PyTree, strength: float = 1e-2
) -> Float[Array, "C P"]:
    r"""The diagonal of the probe's Fisher information after a logistic head was fitted, for each
    concept against the rest.

    $$ F_c = E_x E_{y \sim p_c(y | x)} [(\nabla_\theta \log p_c(y | x))^2] = E_x\, p_c (1
       - p_c) (\nabla_\theta f_c(x))^2 $$

    The expectation over y is exact; x counts half for the concept and half for the rest (ours). As
    in the paper F is averaged over the inputs of a unit (all axes of a kernel but the last).
    Vectors are left out: offsets, which the authors' code leaves out too, and a normalisation's
    scales, which it counts.

    Args:
      examples: x `[n, ...]`, y `[n]`, 0 to C-1.
      body: The probe, `[n, ...] -> [n, h]`.
      params: Its parameters.
      strength: Of the penalty `strength |w|^2 / 2` under which heads are fitted, by Newton steps to
        the end.

    Returns:
      `[C, P]`; NaN for a concept whose head has no end after 200 steps, which `fisher_affinity`
      refuses.

    Paper: Achille et al., Task2Vec: task embedding for meta-learning, ICCV 2019.
    """
    _check.number("strength", strength, above=0)
    x, y, names = checked(examples)
    return _embedding(params, x, y, body, len(names), strength)


def fisher_affinity(embedding: Float[Array, "C P"]) -> Float[np.ndarray, "C C"]:
    r"""The cosine between two embeddings, each as a share of both: 1 less the paper's symmetric
    distance.

    $$ a_{ij} = \cos\!\left(\frac{h_i}{h_i + h_j},\ \frac{h_j}{h_i + h_j}\right) $$

    A unit that is of no use to either, such as a dead one, has share 0 in both and counts for
    nothing.

    >>> fisher_affinity([[1.0, 3.0], [3.0, 1.0]]).round(6).tolist()
    [[1.0, 0.6...], [0.6..., 1.0]]
    """
    h = widened(jnp.asarray(embedding))

    def row(one):
        both = one[None] + h
        share, other = (part / jnp.where(both == 0, 1, both) for part in (one[None], h))
        return (share * other).sum(1) / jnp.sqrt((share**2).sum(1) * (other**2).sum(1))

    return checked_affinity(jax.lax.map(row, h))


@functools.partial(jax.jit, static_argnames=("body", "concepts"))
def _embedding(params, x, y, body, concepts, strength):
    features = widened(body.apply(params, x))
    features = jnp.concatenate([features, jnp.ones((len(x), 1), features.dtype)], 1)
    own = (y[None] == jnp.arange(concepts)[:, None]).astype(features.dtype)
    counts = own.sum(1, keepdims=True)
    weights = (own / counts + (1 - own) / (len(x) - counts)) / 2  # [C, n]
    heads = jax.vmap(_logistic, (None, 0, 0, None))(features, own, weights, strength)
    variance = _variance(heads @ features.T)

    def add(total, one):
        x, share = one  # share [C]
        grads = jax.jacrev(lambda params: heads[:, :-1] @ body.apply(params, x[None])[0])(params)
        return [
            t + (g**2 * share.reshape(-1, *(1,) * (g.ndim - 1))).mean(tuple(range(1, g.ndim - 1)))
            for t, g in zip(total, _kernels(grads, 1))
        ], ()

    zero = [
        jnp.zeros((concepts, leaf.shape[-1]), jnp.promote_types(leaf.dtype, features.dtype))
        for leaf in _kernels(params, 0)
    ]
    total, _ = jax.lax.scan(add, zero, (x, (weights * variance).T))
    return jnp.concatenate(total, 1)


def _kernels(params, extra):
    return [leaf for leaf in jax.tree.leaves(params) if leaf.ndim - extra >= 2]


def _logistic(features, y, weights, strength, most: int = 200):
    """Weighted logistic regression of labels 0 or 1 by damped Newton steps until none of them
    descends any more, the offset (last) unpunished but for a trace; NaN where `most` steps do not
    suffice."""
    ridge = strength * jnp.ones(features.shape[1], features.dtype).at[-1].set(1e-3)
    side = 2 * y - 1  # probabilities near 1 by those near 0: what is left of 1 has no digits

    def value(w):
        return (weights * jax.nn.softplus(-side * (features @ w))).sum() + (ridge * w**2).sum() / 2

    def step(state):
        w, least, _, count = state
        logit = features @ w
        grad = ridge * w - features.T @ (weights * side * jax.nn.sigmoid(-side * logit))
        curve = weights * _variance(logit)
        hessian = (features * curve[:, None]).T @ features + jnp.diag(ridge)
        towards = jnp.linalg.solve(hessian, grad)
        lengths = 0.5 ** jnp.arange(8, dtype=w.dtype)
        tried = w[None] - lengths[:, None] * towards[None]
        values = jax.vmap(value)(tried)
        values = jnp.where(jnp.isnan(values), jnp.inf, values)
        best = jnp.argmin(values)
        descends, rounding = values[best] < least, 8 * jnp.finfo(w.dtype).eps * least
        # Where values no longer tell, the last whole step still doubles the digits.
        w = jnp.where(descends, tried[best], jnp.where(values[0] <= least + rounding, tried[0], w))
        w = jnp.where(
            values[best] <= least + rounding, w, jnp.nan
        )  # no descent along a direction that descends: no solution
        return w, jnp.minimum(values[best], least), descends, count + 1

    start = jnp.zeros(features.shape[1], features.dtype)
    w, _, descends, _ = jax.lax.while_loop(
        lambda state: state[2] & (state[3] < most), step, (start, value(start), True, 0)
    )
    return jnp.where(descends, jnp.nan, w)


def _variance(logit):
    """p (1 - p), with all its digits where p is near 1."""
    return jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)


def _nothing(losses, shared, heads):
    return ()
