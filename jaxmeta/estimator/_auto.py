"""Choosing how to go through the unrolled process under a budget of memory."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from jaxmeta import _check
from jaxmeta._pytree import nbytes
from jaxmeta.base import Bilevel, Estimator
from jaxmeta.estimator._binomial import binomial
from jaxmeta.estimator._cost import flops
from jaxmeta.estimator._estimate import stateless
from jaxmeta.estimator._gradients import linearising, recomputing
from jaxmeta.estimator._remat import each_step, rebuilding, saving, segments, storing
from jaxmeta.estimator._unrolled import unrolled
from jaxmeta.parallel import divisor, over_tasks
from jaxmeta.process import begin

# What it costs to write a byte of fresh temporaries and to read it, in multiplications: 70 GFLOP/s
# against 5 GB/s, both ways, on a core (benchmarks/README.md). Accelerators have more of both, in
# about this ratio for float32.
_FLOPS_A_BYTE = 30


class Choice(NamedTuple):
    """One way through the unrolled process.

    Args:
      name: In words.
      estimator: That goes this way.
      flops: Of its products of matrices and convolutions, from the program.
      bytes: Of temporaries, from the compiled program.
    """

    name: str
    estimator: Estimator
    flops: float
    bytes: int

    @property
    def cost(self) -> float:
        """What a step is expected to take, in multiplications."""
        return self.flops + _FLOPS_A_BYTE * self.bytes


def auto(budget: int, mesh: Mesh | None = None) -> Estimator:
    """As `unrolled`, in the way that is expected to be fastest among those whose temporaries fit
    the budget.

    The ways differ in how the inner gradient is differentiated, in what of the steps is stored, and
    in how many tasks are taken at a time; the derivative is the same. The choice is made when the
    estimate is traced, see `plan`, and depends on shapes alone.

    Args:
      budget: Bytes of temporaries on a device, above 0.
      mesh: Devices to share the tasks out over, from `task_mesh`.

    Returns:
      A stateless `Estimator`. Tracing it raises ValueError where no way fits, with the least memory
      that does.
    """
    _check.number("budget", budget, above=0)

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        return plan(budget, bilevel, theta, tasks, mesh).estimator.estimate(
            key, bilevel, theta, tasks, state
        )

    return Estimator(stateless, estimate)


def plan(budget: int, bilevel: Bilevel, theta, tasks, mesh: Mesh | None = None) -> Choice:
    """The `Choice` of `auto`, for looking at.

    Ways are tried in the order of what they compute again. Each is compiled for its temporaries,
    with fewer tasks at a time if they do not fit, until the multiplications alone of the next
    exceed what the best so far is expected to cost.

    Args:
      budget: Bytes of temporaries on a device.
      bilevel: The problem.
      theta: The high level's parameters; shapes are enough.
      tasks: A batch, `[T, ...]`; shapes are enough.
      mesh: As in `auto`.

    Raises:
      ValueError: Where no way fits.
    """
    theta, tasks = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(jax.numpy.shape(x), jax.numpy.result_type(x)), (theta, tasks)
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    best, least = None, None
    for name, remat, gradient in _ways(budget, bilevel, theta, tasks):

        def run(key, theta, tasks, chunk=None, remat=remat, gradient=gradient):
            estimate, _ = unrolled(remat, gradient, over_tasks(chunk, mesh)).estimate(
                key, bilevel, theta, tasks, ()
            )
            return estimate.loss, estimate.grad

        work = flops(run, key, theta, tasks)
        if best is not None and work >= best.cost:
            break
        chunk = None
        while True:
            compiled = (
                jax.jit(run, static_argnames="chunk")
                .lower(key, theta, tasks, chunk=chunk)
                .compile()
            )
            used = compiled.memory_analysis().temp_size_in_bytes
            label = name if chunk is None else f"{name}, {chunk} tasks at a time"
            found = Choice(label, unrolled(remat, gradient, over_tasks(chunk, mesh)), work, used)
            least = found if least is None or used < least.bytes else least
            if used <= budget or chunk == 1:
                break
            # Temporaries grow with the tasks taken at a time, so this many should fit.
            most = chunk or jax.tree.leaves(tasks)[0].shape[0] // (mesh.size if mesh else 1)
            chunk = divisor(most, max(1, min(most // 2, math.floor(most * budget / used))))
        if used <= budget and (best is None or found.cost < best.cost):
            best = found
    if best is None:
        raise ValueError(
            f"the temporaries must fit a budget of {budget / 1e6:.1f} MB, got at least "
            f"{least.bytes / 1e6:.1f} MB ({least.name}); give that much, fewer inner steps or "
            "smaller tasks, or take an estimator that stores no steps: truncated, implicit or "
            "forward"
        )
    return best


def _ways(budget, bilevel: Bilevel, theta, tasks):
    """`(name, plan of memory, gradient)` of every way worth trying for this many steps."""
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tasks)

    lengths = []

    def first(theta, task):
        learner = bilevel.bias.shape(theta, task, bilevel.learner)
        lengths.append(learner.steps)  # a number of Python's, known while the shapes are found
        return begin(jax.random.key(0), learner, task)

    position = jax.eval_shape(first, theta, one)
    (length,), carry = lengths, nbytes((position.phi, position.memory))
    yield "linearised, all stored", storing, linearising
    if length > 1 and any(x.ndim > 1 for x in jax.tree.leaves(position.phi)):
        yield "linearised, parameters rebuilt", rebuilding(), linearising
    yield "mixed, all stored", storing, recomputing
    if length < 2:
        return
    yield "mixed, carries and gradients stored", saving("inner_gradient"), recomputing
    yield "linearised in segments", segments(), linearising
    for levels in range(1, 5):
        size = math.ceil(length ** (1 / (levels + 1)))
        if size > 1:
            yield (
                f"mixed, {levels} levels of {size} segments, steps recomputed",
                segments(*[size] * levels, within=each_step),
                recomputing,
            )
    slots = min(length - 1, budget // (2 * max(1, carry)))
    if slots > 0:
        yield f"mixed, binomial with {slots} slots", binomial(slots), recomputing
