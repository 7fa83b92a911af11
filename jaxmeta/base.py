"""The types: what a task, a learner, a bias, a bilevel problem and an estimator are.

Axis letters: `T` tasks, `K` inner steps, `n` examples. Every role is a NamedTuple of pure
functions; configuration is closed over, what changes is state, what is only reported is info.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxmeta._pickle import by_value


class Examples(NamedTuple):
    """Labelled examples: the usual support and query of supervised tasks.

    Args:
      x: Inputs, `[n, ...]`.
      y: Targets, `[n]` integer labels or `[n, ...]` values.
      reference: None, or `[n]` booleans: the examples that normalisation may look at and that no
        loss counts (see `jaxmeta.inductive`).
      weight: None, or `[n]` numbers from 0 up: how much each counts. A loss is a mean by weight; an
        example of weight 0 is padding, whose values change nothing as long as what a model makes of
        them is finite, so that tasks of unequal ways and shots have one shape.
      index: None, or `[n]` integers: which examples of the data these are.
    """

    x: Array
    y: Array
    reference: Bool[Array, " n"] | None = None
    weight: Float[Array, " n"] | None = None
    index: Int[Array, " n"] | None = None

    @property
    def normalising(self) -> Bool[Array, " n"] | None:
        """Which examples normalisation may look at; None for all of them. A weight above 0 changes
        no statistics."""
        if self.weight is None:
            return self.reference
        present = self.weight > 0
        return present if self.reference is None else present & self.reference

    @property
    def counting(self) -> Float[Array, " n"] | None:
        """How much each example counts in a loss; None for all alike."""
        if self.reference is None:
            return self.weight
        return ~self.reference if self.weight is None else jnp.where(self.reference, 0, self.weight)


class Task(NamedTuple):
    """One point of the task distribution; a sampler is `key -> Task`.

    Args:
      support: What the low level learns from, any pytree.
      query: What the high level is judged on, any pytree.
      node: The task's place in the hierarchy, a scalar integer; 0 where there is none.
      weight: None, or a scalar from 0 up: how much the task counts in the mean over tasks.
      index: None, or a scalar integer: which task of the data this is.
    """

    support: PyTree
    query: PyTree
    node: Any = 0
    weight: Float[Array, ""] | None = None
    index: Int[Array, ""] | None = None


@by_value
class Learner(NamedTuple):
    """The low level: `phi_0 = start(key, task)`, then `steps` times
    `phi <- phi + update(d(loss + penalty)/d(phi))`.

    Args:
      start: `(key, task) -> phi`, where learning begins.
      loss: `(key, phi, batch) -> (scalar, aux)`, what is measured.
      penalty: `(phi, phi_0) -> scalar`, what is preferred; added to the loss on the support.
      update: An `optax.GradientTransformation`, how it moves.
      steps: How long it learns, a non-negative integer. Zero means no adaptation.
      sees: `(key, support, step) -> batch`, what a step sees of the support, `step` being how many
        were taken before it (all of them where the end of learning looks back at the support); None
        for the support as it is. Acts in `jaxmeta.process` alone: starts and losses are given what
        was seen.
      predict: `(key, phi, batch) -> [n, ...]`, what it says of the inputs of a batch, whose labels
        it does not look at: logits of classes, or values. None for a learner that cannot say.
    """

    start: Callable[[Key[Array, ""], Task], PyTree]
    loss: Callable[[Key[Array, ""], PyTree, PyTree], tuple[Array, Any]]
    penalty: Callable[[PyTree, PyTree], Array]
    update: optax.GradientTransformation
    steps: int
    sees: Callable[[Key[Array, ""], PyTree, Int[Array, ""] | int], PyTree] | None = None
    predict: Callable[[Key[Array, ""], PyTree, PyTree], Array] | None = None


@by_value
class Bias(NamedTuple):
    """The high level: a parameterised endomorphism of learners.

    Args:
      init: `(key, task, learner) -> theta`, a plain pytree.
      shape: `(theta, task, learner) -> Learner`, the learner as the bias makes it.
    """

    init: Callable[[Key[Array, ""], Task, Learner], PyTree]
    shape: Callable[[PyTree, Task, Learner], Learner]


class Count(NamedTuple):
    """A part of phi that counts inner steps. It is nobody's to claim or to move: the process counts
    on.

    Args:
      begun: Steps begun, the one under way among them.
      done: Steps that have been taken.
    """

    begun: Int[Array, ""]
    done: Int[Array, ""]


class Position(NamedTuple):
    """Where low-level learning stands after k steps.

    Args:
      start: `phi_0`, which penalties look back to.
      phi: `phi_k`.
      memory: What the learner's update remembers, such as momenta.
    """

    start: PyTree
    phi: PyTree
    memory: PyTree


class Trajectory(NamedTuple):
    """What the low level went through in K steps. Parts that nobody reads cost nothing once
    compiled.

    Args:
      start: `phi_0`.
      end: `phi_K`.
      path: `phi_1 ... phi_K`, stacked on a leading axis `[K, ...]`.
      losses: `[K]`, the loss on the support before each step, penalty excluded.
      aux: What the loss returned beside its value, stacked `[K, ...]`.
    """

    start: PyTree
    end: PyTree
    path: PyTree
    losses: Array
    aux: Any


def query_loss(key, learner: Learner, trajectory: Trajectory, task: Task):
    """The usual outer objective: the learner's own loss on the query, at the end of learning."""
    return learner.loss(key, trajectory.end, task.query)


def asked(outer: Callable, task: Task) -> PyTree:
    """The batch by which an outer objective judges the end of learning: the task's query, unless
    the objective says otherwise by an attribute `asks`, `task -> batch`, as `jaxmeta.inductive`
    does. What it puts beside the query comes before it."""
    asks = getattr(outer, "asks", None)
    return task.query if asks is None else asks(task)


def asking(judged: Callable, outer: Callable) -> Callable:
    """The outer objective `judged`, which asks what the one that it is made of asks."""
    judged.asks = getattr(outer, "asks", None)
    return judged


@by_value
class Bilevel(NamedTuple):
    """A bilevel problem: minimise over theta the mean over tasks of `outer` at the end of the
    learning it shapes.

    Args:
      bias: The high level.
      learner: The low level, before the bias shapes it.
      outer: `(key, shaped learner, trajectory, task) -> (scalar, aux)`.
    """

    bias: Bias
    learner: Learner
    outer: Callable[[Key[Array, ""], Learner, Trajectory, Task], tuple[Array, Any]] = query_loss

    def init(self, key, task: Task) -> PyTree:
        """Theta for this problem, from one example task."""
        return self.bias.init(key, task, self.learner)


class Estimate(NamedTuple):
    """The outer loss and its derivative in theta.

    Args:
      loss: Mean outer loss over the tasks, by their weights, a scalar.
      grad: Like theta.
      info: Report only. `losses` is `[T]`, the outer loss of each task; `aux` what `outer`
        returned, stacked `[T, ...]`; what else there is to know of a road (residuals, iterations)
        stands beside them, `[T, ...]` too.
    """

    loss: Array
    grad: PyTree
    info: dict[str, Any]


@by_value
class Estimator(NamedTuple):
    """How the derivative of the outer loss in theta is obtained. Stateless estimators carry `()`.

    Args:
      init: `(key, bilevel, theta, tasks) -> state`; tasks have a leading axis `T`.
      estimate: `(key, bilevel, theta, tasks, state) -> (Estimate, state)`.
    """

    init: Callable[..., PyTree]
    estimate: Callable[..., tuple[Estimate, PyTree]]


@by_value
class Algorithm(NamedTuple):
    """A named method: a bilevel problem and the road by which its derivative returns."""

    bilevel: Bilevel
    estimator: Estimator
