"""How the end of learning is judged, beside the query's loss: outer objectives
`(key, learner, trajectory, task) -> (scalar, aux)`. Axis letters: `K` inner steps."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta._curvature import hessian
from jaxmeta._pytree import constants, merge, moving
from jaxmeta._sums import weighted_mean
from jaxmeta.base import Position, asked, asking, query_loss
from jaxmeta.process import advance, loss_and_aux, view


def multi_step(weights: Float[Array, " K"], outer: Callable = query_loss) -> Callable:
    r"""Every step is judged and not the last alone: $\sum_k w_k\, outer(\phi_k)$.

    Args:
      weights: `[K]`, of the positions after step 1, ..., K; see `annealed_weights`. May be traced.
      outer: What judges a position.

    Returns:
      An outer objective; its aux is that of the last position.

    Raises:
      ValueError: While tracing, for another number of weights than of inner steps.

    Reference: Antoniou, Edwards and Storkey, How to train your MAML, ICLR 2019.
    """

    def judged(key, learner, trajectory, task):
        if jnp.shape(weights) != trajectory.losses.shape:
            raise ValueError(
                f"multi_step needs a weight for each of the {len(trajectory.losses)} inner steps, "
                f"got shape {jnp.shape(weights)}; give [{len(trajectory.losses)}] of them"
            )
        values, aux = jax.lax.map(
            lambda phi: outer(key, learner, trajectory._replace(end=phi), task), trajectory.path
        )
        return jnp.sum(jnp.asarray(weights, values.dtype) * values), jax.tree.map(
            lambda leaf: leaf[-1], aux
        )

    return asking(judged, outer)


def annealed_weights(steps: int, share: Float[Array, ""], floor: float = 0.0) -> Float[Array, " K"]:
    r"""Weights for `multi_step` between all alike and the last alone:
    $w_k = (1 - s)/K + s\,[k = K]$.

    Args:
      steps: K.
      share: s, from 0 to 1 - floor; clipped. May be traced.
      floor: What of its weight 1/K an earlier step keeps at least, from 0 to 1. In the paper 0, in
        the authors' code 0.03.

    >>> annealed_weights(4, 0.5).tolist()
    [0.125, 0.125, 0.125, 0.625]
    """
    _check.whole_number("steps", steps, least=1)
    if not 0 <= _check.number("floor", floor, least=0) <= 1:
        raise ValueError(
            f"the floor of the weights must be from 0 to 1, got {floor}; it is the share of 1/K "
            "that is kept"
        )
    share = jnp.clip(jnp.asarray(share, float), 0, 1 - floor)
    return (1 - share) / steps + share * (jnp.arange(steps) == steps - 1)


def regularised(outer: Callable = query_loss) -> Callable:
    r"""What the low level prefers, the high level is to prefer as well:
    $outer(\phi_K) + penalty(\phi_K, \phi_0)$.

    Args:
      outer: What judges the end of learning.

    Returns:
      An outer objective; its aux has the "penalty" beside the other's.
    """

    def judged(key, learner, trajectory, task):
        value, aux = outer(key, learner, trajectory, task)
        penalty = _check.scalar(
            "the penalty of a learner", learner.penalty(trajectory.end, trajectory.start)
        )
        return value + penalty.astype(value.dtype), {**aux, "penalty": penalty}

    return asking(judged, outer)


def squared_distance(key, learner, phi, target, task):
    r"""$\frac{1}{2} |\phi - \tilde\phi|^2$, in phi itself."""
    return optax.tree.norm(optax.tree.sub(moving(phi), moving(target)), squared=True) / 2


def divergence(key, learner, phi, target, task):
    r"""$KL(p_{\tilde\phi} \,\|\, p_\phi)$ of the classes' probabilities, a mean over the query's
    examples; for learners that predict logits."""
    at_target, at_phi = (
        jax.nn.log_softmax(learner.predict(key, each, task.query)) for each in (target, phi)
    )
    return weighted_mean(
        jnp.sum(jnp.exp(at_target) * (at_target - at_phi), axis=1), task.query.counting
    )


def bootstrapped(
    steps: int, distance: Callable = squared_distance, outer: Callable = query_loss
) -> Callable:
    r"""Bootstrapped metagradients: the end of learning is drawn to where more learning would take
    it.

    $$ d(\phi_K, \mathrm{stop}(\tilde\phi)), \qquad
       \tilde\phi = \phi_K \text{ after } L - 1 \text{ steps more on the support
       and one on the query} $$

    The further steps begin with an empty memory of the optimiser, and nothing is differentiated
    through them. The query is as `outer` shows it to the learner: with an inductive one it is
    normalised by the support in the target's step too.

    Args:
      steps: L, at least 1.
      distance: `(key, learner, phi, target, task) -> scalar`: `squared_distance`, or `divergence`
        of what the two predict.
      outer: Reported in aux as "outer", beside its own aux; not descended.

    Returns:
      An outer objective. Its derivative holds the target constant.

    Raises:
      ValueError: For fewer steps than 1.

    Reference: Flennerhag et al., Bootstrapped meta-learning, ICLR 2022.
    """
    _check.whole_number("steps of the bootstrap", steps, least=1)

    def judged(key, learner, trajectory, task):
        key_support, key_query, key_distance, key_outer = jax.random.split(key, 4)
        start, end = jax.lax.stop_gradient((trajectory.start, trajectory.end))
        position = Position(start, end, learner.update.init(moving(end)))
        position, _ = advance(key_support, learner, task, position, steps - 1, before=learner.steps)
        # The query is nothing that the learner's own steps see.
        shown = task._replace(query=asked(outer, task))
        position, _ = advance(
            key_query, learner._replace(sees=None), task._replace(support=shown.query), position, 1
        )
        target = jax.lax.stop_gradient(position.phi)
        value, aux = outer(key_outer, learner, trajectory, task)
        return (
            _check.scalar(
                "the distance of a bootstrap",
                distance(key_distance, learner, trajectory.end, target, shown),
            ),
            {**aux, "outer": value},
        )

    return asking(judged, outer)


def evidence(
    examples: int = 1, curvature: Callable = hessian, of: Callable = lambda result: result[0]
) -> Callable:
    r"""The negative log evidence of the support by Laplace's method, a share for each example.

    $$ -\tfrac1n \log p(D) \approx L(\phi_K) + p(\phi_K, \phi_0)
       + \tfrac{1}{2n} \log\det n \nabla^2 (L + p) $$

    with L the mean negative log likelihood of n examples and p a standard normal prior's negative
    logarithm over n, without its constant, as `jaxmeta.tying.relaxed` has it; a prior that theta
    changes must have its normaliser in the penalty. Exact where L is quadratic and phi_K the
    minimum: learn to the end. No query is needed. Matrices `[d, d]` in phi's size are built.

    Args:
      examples: n, what the loss is a mean over; 1 for one that is a sum.
      curvature: `(f, phi) -> (v -> H v)`, of what `of` picks: `jaxmeta.evaluation.hessian`, or
        `gauss_newton(measure)`.
      of: `(value, aux) -> f`: the loss itself, or the outputs that the learner's criterion leaves
        in aux.

    Returns:
      An outer objective; nan where the curvature is not positive definite: learn for longer, or
      take `gauss_newton`.

    Raises:
      ValueError: For fewer examples than 1.

    References: MacKay, A practical Bayesian framework for backpropagation networks, 1992; Immer et
    al., Scalable marginal likelihood estimation for model selection in deep learning, ICML 2021.
    """
    _check.whole_number("examples", examples, least=1)

    def judged(key, learner, trajectory, task):
        flat, unravel = ravel_pytree(moving(trajectory.end))
        support = view(key, learner, task, learner.steps).support

        def whole(flat):
            return merge(unravel(flat), constants(trajectory.end))

        def penalty(flat):
            return learner.penalty(whole(flat), trajectory.start)

        value, aux = loss_and_aux(learner, key, trajectory.end, support)
        fit = curvature(lambda flat: of(loss_and_aux(learner, key, whole(flat), support)), flat)
        prior = hessian(penalty, flat)
        matrix = examples * jax.vmap(lambda v: fit(v) + prior(v))(
            jnp.eye(flat.size, dtype=flat.dtype)
        )
        log_determinant = 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(matrix))))
        return value + penalty(flat) + log_determinant / (2 * examples), aux

    return judged
