"""Why an outer step is not finite: looked for in the step that failed, and only there."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from jaxmeta._pytree import constants, merge, moving, paths
from jaxmeta.base import Bilevel, Task
from jaxmeta.process import loss_and_aux, outcome, walk

_GROWN = 10.0  # times the first inner loss: no learning, however noisy, goes there
_FAR = 1e3  # times the largest initial weight


class Seen(NamedTuple):
    """What was seen of one task from theta to its outer loss.

    Args:
      start: The largest element of phi_0.
      losses: `[K + 1]`, the loss on the support at phi_0, ..., phi_K.
      largest: The largest element of those phi_k that are finite.
      slopeless: Like phi, whether the loss had a value and no finite derivative in the leaf, at
        some step.
      rootless: Like phi, whether the update has no finite derivative in the leaf where its gradient
        is exactly zero.
      outer: The outer loss.
      judging: Like phi, whether its derivative in the leaf is finite.
    """

    start: Array
    losses: Array
    largest: Array
    slopeless: PyTree
    rootless: PyTree
    outer: Array
    judging: PyTree


def cause(key, bilevel: Bilevel, theta: PyTree, task: Task) -> str | None:
    """Why the outer loss of this task or its derivative is not finite, and what to do; None where
    that was not found."""
    if bad := not_finite(theta):
        return (
            f"theta's '{bad[0]}' holds NaN or infinity before the step; begin from finite "
            "parameters"
        )
    if bad := not_finite(task):
        return f"the task's '{bad[0]}' holds NaN or infinity; repair or drop such examples"
    try:  # With the task's values at hand, labels that are no class are refused.
        jax.eval_shape(lambda theta: outcome(key, bilevel, theta, task), theta)
    except ValueError as error:
        return str(error)
    return _of(jax.device_get(jax.jit(lambda *given: look(key, bilevel, *given))(theta, task)))


def _of(seen: Seen) -> str | None:
    steps = len(seen.losses) - 1
    slope, root, judging = (
        next((path for path, flag in zip(paths(tree), jax.tree.leaves(tree)) if flag), None)
        for tree in (seen.slopeless, seen.rootless, jax.tree.map(np.logical_not, seen.judging))
    )
    sound = np.isfinite(seen.losses)
    last = steps if sound.all() else int(sound.argmin())  # the first that is not finite, or the end
    low = "try a smaller inner learning rate or fewer inner steps"
    if not np.isfinite(seen.start):
        return (
            "phi_0, where learning begins, is not finite though theta is; look at the model's init "
            "and at the bias"
        )
    if not sound[0]:
        return (
            "the loss on the support is not finite at phi_0; look for a division, a logarithm or a "
            "root of zero in it"
        )
    first, highest = seen.losses[0], seen.losses[sound].max()
    grown = highest - first > (_GROWN - 1) * max(abs(first), 1e-6) or seen.largest > _FAR * (
        1 + seen.start
    )
    diverged = (
        f"learning diverges, the loss on the support going from {first:.3g} to "
        f"{seen.losses[last]:.3g} in {last} of {steps} inner steps; {low}"
    )
    if not sound.all() and (grown or not slope):
        return diverged
    if slope:
        return (
            f"the loss on the support has a value but no finite derivative in '{slope}'; look for "
            "a root, a norm or an absolute value at zero in it, and add a small number within"
        )
    if not np.isfinite(seen.outer):
        return (
            diverged
            if grown
            else (
                "the outer loss is not finite at the end of learning, which is; look for a "
                "division, a logarithm or a root of zero in it"
            )
        )
    if judging:
        return (
            f"the outer loss has a value but no finite derivative in '{judging}'; look for a root, "
            "a norm or an absolute value at zero in it, and add a small number within"
        )
    if root:
        return (
            f"the inner update has no derivative where the gradient of '{root}' is exactly zero, "
            "as Adam's root has none; take jaxmeta.adam, or give the optax update an eps_root "
            "above 0"
        )
    return diverged if grown else None


def not_finite(tree: PyTree) -> list[str]:
    """The paths of the leaves that hold NaN or infinity."""
    return [
        path
        for path, leaf in zip(paths(tree), jax.tree.leaves(tree))
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
        and not np.isfinite(jax.device_get(leaf)).all()
    ]


def look(key, bilevel: Bilevel, theta: PyTree, task: Task) -> Seen:
    """Goes through one task as `outcome` does, and keeps what tells the causes apart."""
    key_process, key_outer = jax.random.split(key)
    learner = bilevel.bias.shape(theta, task, bilevel.learner)
    keys = jax.random.split(key_process)
    trajectory, (_, *watched) = walk(*keys, learner._replace(update=_watched(learner.update)), task)
    end, _ = loss_and_aux(learner, keys[1], trajectory.end, task.support)

    def outer(moved):
        phi = merge(moved, constants(trajectory.end))
        return bilevel.outer(key_outer, learner, trajectory._replace(end=phi), task)[0]

    value, slope = jax.value_and_grad(outer)(moving(trajectory.end))
    largest, slopeless, rootless = watched
    size = _size(trajectory.end)
    largest = jnp.where(jnp.isfinite(size), jnp.maximum(size, largest), largest)
    return Seen(
        _size(trajectory.start),
        jnp.append(trajectory.losses, end),
        largest,
        slopeless,
        rootless,
        value,
        jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), slope),
    )


def _size(phi):
    """The largest element; NaN where there is one."""
    return jnp.stack(
        [jnp.zeros(()), *(jnp.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(moving(phi)))]
    ).max()


def _watched(update: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The update, remembering beside its own memory how large phi became and in which leaves
    derivatives were missing."""
    update = optax.with_extra_args_support(update)

    def init(phi):
        nowhere = jax.tree.map(lambda leaf: jnp.zeros((), bool), phi)
        return update.init(phi), _size(phi), nowhere, nowhere

    def watch(grads, memory, phi=None, **more: Any):
        inner, largest, slopeless, rootless = memory
        updates, new = update.update(grads, inner, phi, **more)
        _, along = jax.jvp(
            lambda grads: update.update(grads, inner, phi, **more)[0],
            (grads,),
            (jax.tree.map(jnp.ones_like, grads),),
        )
        usual = jnp.isfinite(more["value"]) & jnp.isfinite(_size(phi))
        slopeless = jax.tree.map(
            lambda seen, grad: seen | (usual & ~jnp.isfinite(grad).all()), slopeless, grads
        )
        rootless = jax.tree.map(
            lambda seen, grad, d: seen | (usual & (~jnp.isfinite(d) & (grad == 0)).any()),
            rootless,
            grads,
            along,
        )
        largest = jnp.where(jnp.isfinite(_size(phi)), jnp.maximum(largest, _size(phi)), largest)
        return updates, (new, largest, slopeless, rootless)

    return optax.GradientTransformationExtraArgs(init, watch)
