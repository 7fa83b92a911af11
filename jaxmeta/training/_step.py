"""Outer steps, several in one compiled program.

Axis letters: `T` tasks, `L` steps that one call can take.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from jaxmeta import _check
from jaxmeta._episodes import scalars
from jaxmeta._programs import run
from jaxmeta._pytree import constants, merge, moving, paths
from jaxmeta._sums import weighted_mean
from jaxmeta.base import Algorithm
from jaxmeta.training._diagnosis import not_finite
from jaxmeta.training._state import TrainState

# Of implicit estimates: whether learning and the solve got where they should. "error" and
# "converged" take two solves more, in programs that look at them.
_TOLD = ("stationarity", "residual")


class Report(NamedTuple):
    """What one call reports to the host.

    Args:
      steps: How many steps were taken.
      finite: False if a further step was tried and came out non-finite; the state is then the one
        before it.
      metrics: Name to `[L]`, means over the tasks of each step; what lies beyond `steps` is not
        used.
    """

    steps: Array
    finite: Array
    metrics: dict[str, Array]


def draw_tasks(source, key, place, tasks: int | None) -> PyTree:
    """T tasks: drawn from a sampler, or the batch at a place of `[L, T, ...]` where tasks is
    None."""
    if tasks is None:
        return jax.tree.map(lambda leaf: leaf[place], source)
    return jax.vmap(source)(jax.random.split(key, tasks))


def step_keys(key, step):
    """The keys of one outer step, for the tasks and for the estimate: by its number, so that a
    resumed run has them."""
    return jax.random.split(jax.random.fold_in(key, step))


def given(theta: PyTree, like: PyTree) -> PyTree:
    """The parameters to begin from, in the dtypes of those that would be drawn; refuses what has
    another structure, and NaN."""
    cure = "give what bilevel.init, an earlier fit or restore_theta gives for the same problem"
    _check.same_structure("theta", like, theta, cure)
    for path, leaf, wanted in zip(paths(like), jax.tree.leaves(theta), jax.tree.leaves(like)):
        got = jnp.result_type(leaf)
        real = any(jnp.issubdtype(got, kind) for kind in (jnp.floating, jnp.integer))
        if got != wanted.dtype and not (real and jnp.issubdtype(wanted.dtype, jnp.inexact)):
            raise ValueError(f"theta at '{path}' must be {wanted.dtype}, got {got}; {cure}")
    if bad := not_finite(theta):
        raise ValueError(f"theta at '{bad[0]}' must be finite, got NaN or infinity; {cure}")
    return jax.tree.map(lambda leaf, wanted: jnp.asarray(leaf, wanted.dtype), theta, like)


def initial_state(
    key, algorithm: Algorithm, optimiser, tasks: PyTree, theta: PyTree | None = None
) -> TrainState:
    """The state before the first step, from one batch of tasks; theta is drawn where none is
    given."""
    key_theta, key_estimator = jax.random.split(key)
    theta = (
        theta
        if theta is not None
        else run(algorithm.bilevel.init, key_theta, jax.tree.map(lambda leaf: leaf[0], tasks))
    )
    # A weakly typed leaf would come back strongly typed from the first step and compile everything
    # again.
    theta = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), theta)
    estimator = run(algorithm.estimator.init, key_estimator, algorithm.bilevel, theta, tasks)
    state = TrainState(jnp.zeros((), jnp.int32), theta, optimiser.init(moving(theta)), estimator)
    return jax.tree.map(
        jnp.array, state
    )  # Copies: the state is donated, and leaves may be shared within it.


def outer_steps(
    algorithm: Algorithm, optimiser: optax.GradientTransformation, tasks: int | None, capacity: int
):
    """The function that takes outer steps: `theta <- theta + optimiser(d/d(theta) mean_t outer_t)`,
    up to L times.

    How many is an argument of the compiled program, so that calls cut short by a validation or a
    checkpoint compile nothing. A step whose loss, gradient or outcome is not finite changes nothing
    and ends the call.

    Args:
      algorithm: What to train.
      optimiser: Acts on theta.
      tasks: T where the source is a sampler, None where it is batches `[L, T, ...]`.
      capacity: L.

    Returns:
      `(state, key, source, count) -> (state, Report)`, not yet jitted.
    """
    optimiser = optax.with_extra_args_support(optimiser)

    def step(state: TrainState, key, source, place):
        key_tasks, key_estimate = step_keys(key, state.step)
        batch = draw_tasks(source, key_tasks, place, tasks)
        estimate, estimator = algorithm.estimator.estimate(
            key_estimate, algorithm.bilevel, state.theta, batch, state.estimator
        )
        grad, moved = moving(estimate.grad), moving(state.theta)
        more = {
            "value": estimate.loss,
            "grad": grad,
        }  # Optimisers such as reduce_on_plateau ask for these.
        updates, inner = optimiser.update(grad, state.optimiser, moved, **more)
        moved = optax.apply_updates(moved, updates)
        new = TrainState(state.step + 1, merge(moved, constants(state.theta)), inner, estimator)
        finite = jnp.stack(
            [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((estimate.loss, grad, moved))]
        ).all()
        state = jax.tree.map(lambda a, b: jnp.where(finite, a.astype(b.dtype), b), new, state)
        metrics = jax.vmap(scalars)(estimate.info["losses"], estimate.info["aux"])
        metrics |= {name: estimate.info[name] for name in _TOLD if name in estimate.info}
        return (
            state,
            finite,
            jax.tree.map(lambda column: weighted_mean(column, batch.weight), metrics),
        )

    def call(state: TrainState, key, source, count):
        _, _, shapes = jax.eval_shape(step, state, key, source, count)
        empty = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)

        def body(carry):
            state, report = carry
            state, finite, metrics = step(state, key, source, report.steps)
            log = jax.tree.map(
                lambda rows, row: rows.at[report.steps].set(row), report.metrics, metrics
            )
            return state, Report(report.steps + finite, finite, log)

        # A scan has a fixed length; this one ends early and takes any number of steps with one
        # compilation.
        return jax.lax.while_loop(
            lambda carry: carry[1].finite & (carry[1].steps < count),
            body,
            (state, Report(jnp.zeros((), jnp.int32), jnp.array(True), empty)),
        )

    return call
