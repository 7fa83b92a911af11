"""Reverse mode by undoing the steps of learning."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmeta import _check, process
from jaxmeta._linear import closed
from jaxmeta._pytree import constants, counted, counts, merge, moving, paths
from jaxmeta.base import Bilevel, Estimator, Learner, Trajectory
from jaxmeta.bias import Momentum
from jaxmeta.estimator._binomial import with_reverse
from jaxmeta.estimator._estimate import estimate_over, estimator, stateless
from jaxmeta.estimator._fixed_point import Args, Number, Run, schedule
from jaxmeta.estimator._gradients import Gradient, linearising
from jaxmeta.parallel import Mapper, over_tasks


def reversible(
    phi: float = 8.0,
    momenta: float = 4.0,
    gradient: Gradient = linearising,
    over: Mapper | None = None,
) -> Estimator:
    """Reverse mode that stores no steps: they are undone, in fixed point, on the way back (see
    `momentum`).

    `m <- decay m + g_k, phi <- phi + update(m)` on whole numbers of 32 bits, of 64 where phi is in
    double precision, so that learning is rounded to `phi / 2^30` in phi and, at the finest,
    `momenta / 2^30` in the momenta. All of theta is differentiated, whatever it acts through;
    second derivatives store all steps. The outer objective may look at the start and the end of the
    trajectory.

    Args:
      phi: So large, in phi's unit, every element of phi may become in size. Above 0.
      momenta: So large, in the gradient's unit, every element of the momenta may become. Above 0.
      gradient: What the low level differentiates its objective with, as in `unrolled`; one step's
        storage at a time.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`, whose info has, `[T]`: "inside", whether phi and momenta stayed
      within what their words can hold and were finite, else loss and gradient are nan; and "exact",
      whether the way back ended at the very bits of the start. It does where the compiled program's
      gradients are the same, bit for bit, on both ways, which nothing promises; a difference grows
      by `1 / decay` a step. Memory is that of one step, and of `log2(1 / decay)` bits an element
      and step.

    Raises:
      ValueError: If the learner's update is not momentum first (compose `momentum(decay)` last); if
        what follows it remembers more than counts, or asks for phi; if the outer objective looks at
        the path or the losses on the way.

    Reference: Maclaurin, Duvenaud and Adams, Gradient-based hyperparameter optimization through
    reversible learning, ICML 2015.
    """
    _check.number("phi, the size that parameters stay below,", phi, above=0)
    _check.number("momenta, the size that momenta stay below,", momenta, above=0)
    over = over_tasks() if over is None else over

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        def one(theta, batched):
            key, task = batched

            def judged(theta, witness):
                # The keys of `jaxmeta.outcome`: the same learning and the same loss.
                key_process, key_outer = jax.random.split(key)
                learner = bilevel.bias.shape(theta, task, bilevel.learner)
                walked, inside = _learn(
                    key_process, learner, task, witness, gradient, (phi, momenta)
                )
                _check_outer(lambda walked: bilevel.outer(key_outer, learner, walked, task), walked)
                loss, aux = process.judged(key_outer, bilevel, learner, walked, task)
                return loss * jnp.where(inside, 1, jnp.nan).astype(loss.dtype), (aux, inside)

            (loss, (aux, inside)), (grad, wrong) = jax.value_and_grad(
                judged, argnums=(0, 1), has_aux=True
            )(theta, jnp.zeros(()))
            return grad, {"losses": loss, "aux": aux, "inside": inside, "exact": wrong == 0}

        return estimate_over(over, one, key, theta, tasks, tasks.weight), state

    return estimator(stateless, estimate)


def _learn(key, learner: Learner, task, witness, gradient, sizes):
    """The `Trajectory` without its way, of which there are shapes alone, and whether all stayed
    within the sizes. The cotangent of the witness, a number, is how many numbers of the start the
    way back did not find."""
    steps = _check.whole_number("steps of a learner", learner.steps)
    update = _momentum(learner)
    if not steps:
        return process.trajectory(key, learner, task), jnp.asarray(True)
    key_start, key_steps = jax.random.split(key)
    whole = process.started(key_start, learner, task)
    start, fixed = moving(whole), constants(whole)
    memory = update.rest.init(start)
    _check_memory(memory)

    def slope(phi, key, *step):
        seen = process.view(key, learner, task, *step) if step else task
        there = counted(fixed, *(each + 1 for each in step), *step)
        return gradient(
            lambda phi: process.objective(key, learner, whole, merge(phi, there), seen),
            has_aux=True,
        )(phi)[0]

    def move(momenta, memory):
        return update.rest.update(momenta, memory)

    numbered = learner.sees is not None or counts(whole)
    given = [jax.random.split(key_steps, steps), *([jnp.arange(steps)] if numbered else [])]
    slope, of_slope, _ = closed(slope, start, *(each[0] for each in given))
    try:
        move, of_move, _ = closed(move, start, memory)
    except ValueError as error:
        raise ValueError(
            "reversible() needs an update that makes what it adds to phi of the momenta alone, "
            "got one that fails without phi; give weight decay as a penalty, or use "
            "mixed(binomial(slots))"
        ) from error
    phi, structure = jax.tree.flatten(start)
    args = Args(phi, witness, given, jax.tree.leaves(memory), of_slope, of_move)
    run = Run(
        slope,
        move,
        jax.tree.structure(args),
        [Number(x.dtype) for x in phi],
        *schedule(steps, update.decay),
        update.decay,
        *sizes,
    )
    *end, inside = with_reverse(run.chain, run.reverse, len(phi), run.plain)(
        *jax.tree.leaves(args)
    )[: len(phi) + 1]
    way = jax.eval_shape(lambda: process.trajectory(key, learner, task))
    return way._replace(
        start=whole, end=merge(jax.tree.unflatten(structure, end), counted(fixed, steps, steps))
    ), inside


def _momentum(learner: Learner) -> Momentum:
    update = getattr(learner.update, "update", None)
    if not isinstance(update, Momentum):
        raise ValueError(
            "reversible() needs a learner whose update is momentum first, got another; compose "
            "momentum(decay) last, as in compose(initialisation(), momentum(0.9)), with an update "
            "of its own such as sgd(rate)"
        )
    return update


def _check_memory(memory):
    for path, leaf in zip(paths(memory), jax.tree.leaves(memory)):
        if jnp.shape(leaf) or not jnp.issubdtype(jnp.result_type(leaf), jnp.integer):
            raise ValueError(
                "reversible() stores at every step what the update after the momentum remembers, "
                f"which must be counts alone, got shape {jnp.shape(leaf)} and dtype "
                f"{jnp.result_type(leaf)} at '{path}'; take an update without averages, such as "
                "sgd(rate), or use mixed(binomial(slots))"
            )


def _check_outer(outer, walked: Trajectory):
    way = walked.path, walked.losses, walked.aux

    def judged(way):
        path, losses, aux = way
        return outer(walked._replace(path=path, losses=losses, aux=aux))

    program = jax.make_jaxpr(judged)(way).jaxpr
    read = [v for eqn in program.eqns for v in eqn.invars] + program.outvars
    if any(v is w for v in program.invars for w in read):
        raise ValueError(
            "reversible() needs an outer objective of the start and the end alone, got one that "
            "looks at the path, the losses or aux on the way; judge the end, or use unrolled()"
        )
