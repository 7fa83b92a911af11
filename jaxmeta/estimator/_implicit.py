r"""At the end of learning: differentiating the condition that it meets instead of the way it went.

With $F(\theta, \phi_0, \phi)$ the loss on the support plus the penalty,
$\partial F / \partial \phi = 0$ makes $\phi$ a function of theta, and

$$ \frac{d}{d\theta} outer = \frac{\partial\, outer}{\partial \theta}
   - \Bigl(\frac{\partial^2 F}{\partial \theta\, \partial \phi}\Bigr)^T v, \qquad
   H v = \frac{\partial\, outer}{\partial \phi}, \qquad H = \frac{\partial^2 F}{\partial \phi^2}, $$

where theta acts through the loss, the penalty and the start that the penalty looks back to. The
estimators here differ in how they get v and in how they take the mixed derivative. Where a loss has
derivative rules of its own, H is the transposed Jacobian of what these make of `dF / d phi`, and
need not be symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from jaxmeta import _check, process
from jaxmeta._programs import run
from jaxmeta._pytree import constants, merge, moving
from jaxmeta.base import Bilevel, Estimator, Learner
from jaxmeta.estimator._estimate import estimate_over, estimator, idle_leaves
from jaxmeta.estimator._gradients import Jacobian, recomputing
from jaxmeta.estimator._linear import Product, Solver, cg, identity
from jaxmeta.parallel import Mapper, over_tasks
from jaxmeta.process import judged


def implicit(
    solver: Solver = cg(16), tolerance: float = 1e-3, over: Mapper | None = None
) -> Estimator:
    r"""The derivative where learning ends, by the implicit function theorem: right where
    `d F / d phi = 0`.

    `d outer / d theta = partial_theta outer - (d2F / d theta d phi)' H^-1 d outer / d phi`, with F
    the loss on the support plus the penalty and H its Hessian in phi. No step of the learning is
    stored, and none but the end matters: the outer objective may look at the start and the end of
    the trajectory. A loss that draws random numbers is taken with one key, drawn once for F and all
    its derivatives. The estimate is differentiable in turn, by unrolling the learning.

    How far from right the derivative d is at phi_K is predicted from where a Newton step would end
    learning, $|d(\phi_K) - d(\hat\phi)| / |d(\hat\phi)|$ with
    $\hat\phi = \phi_K - H^{-1} dF/d\phi$, which does not depend on where learning began. It takes
    two solves more, and costs nothing in a compiled program that does not look at it.

    Args:
      solver: Of `H v = b`, such as `cg`, `neumann`, `nystrom`, `direct` or `identity`. Products
        with H are forward over reverse; with a loss that has derivative rules of its own, reverse
        over reverse, and only for the solvers that need no symmetry, `direct` and `neumann`.
      tolerance: The error up to which a task counts as converged, above 0.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`, whose info has, `[T]`: "residual", `|H v - b| / |b|` of the solve,
      computed anew, with no damping; "iterations", the products with H that it took;
      "stationarity", `|d F / d phi|` at the end over that at the start, which says how far learning
      came and not what is left; "error", the predicted error; "converged", whether that and the
      residuals of the solves are at most the tolerance. Where it is not, the derivative is not to
      be trusted. With a solver that takes no products, `identity`, nothing is known of the error,
      and both are absent.

    Raises:
      ValueError: From `init`, for leaves of theta that act on neither loss nor penalty at the end:
        on where learning began without a proximal term, or on its update (step sizes,
        preconditioners; thresholds of proximal steps, which move the end to where no gradient
        vanishes). Their derivative would be zero by construction. For an outer objective that looks
        at the path or the losses on the way. While tracing, for `cg` and `nystrom` with a loss that
        has derivative rules of its own.

    References: Rajeswaran et al., Meta-learning with implicit gradients, NeurIPS 2019; Lorraine,
    Vicol and Duvenaud, AISTATS 2020.
    """
    _check.number("tolerance", tolerance, above=0)

    def solve(key, end: End, cotangent):
        jacobian = Jacobian.at(end.objective, end.phi)

        def solved(times, right):
            b, unravel = ravel_pytree(right)
            product = Product(lambda v: ravel_pytree(times(unravel(v)))[0], jacobian.symmetric)
            x, iterations = solver(key, product, b)
            return unravel(x), _ratio(product(x) - b, b), iterations

        v, residual, iterations = solved(jacobian.transposed, cotangent)

        def remaining():
            step, off, _ = solved(jacobian.along, optax.tree.scale(-1, end.slope))
            return step, (residual <= tolerance) & (off <= tolerance)

        known = not (isinstance(iterations, int) and iterations == 0)
        return (
            v,
            {"residual": residual, "iterations": jnp.asarray(iterations)},
            remaining if known else None,
        )

    return at_the_end(solve, recomputing, over, tolerance)


def t1t2(rate: float = 1.0, over: Mapper | None = None) -> Estimator:
    """As `implicit`, with `rate I` for the inverse Hessian: the derivative through one last step of
    gradient descent.

    Args:
      rate: Above 0, the step size of the low level.
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      A stateless `Estimator`, whose info has "residual", "iterations" and "stationarity" as that of
      `implicit`.

    Reference: Luketina et al., Scalable gradient-based tuning of continuous regularization
    hyperparameters, ICML 2016.
    """
    return implicit(identity(rate), over=over)


class End(NamedTuple):
    """Where the learning of one task ended.

    Args:
      objective: `phi -> F`, at this theta.
      phi: `phi_K`.
      slope: `d F / d phi` there.
      learner: As shaped.
      memory: What its update remembers there.
    """

    objective: Callable[[PyTree], Any]
    phi: PyTree
    slope: PyTree
    learner: Learner
    memory: PyTree


def at_the_end(solve, gradient, over: Mapper | None, tolerance: float = 0.0) -> Estimator:
    """The estimator that gets v from `solve(key, end, d outer / d phi) -> (v, report, remaining)`
    and pulls it back to theta through `gradient`, which stands for `jax.grad` as in
    `jaxmeta.trajectory`. `remaining() -> (step, sound)` is what is left to where the slope
    vanishes, and whether v and it were found; None where nothing is known of it."""
    over = over_tasks() if over is None else over

    def init(key, bilevel: Bilevel, theta, tasks):
        task = jax.tree.map(lambda leaf: leaf[0], tasks)
        key_learn, key_theta, key_way = jax.random.split(key, 3)
        keys = _split(key_learn)
        walked, _ = run(lambda theta: _learn(keys, bilevel, theta, task), theta)
        start, objective, outer = _parts(keys, bilevel, task, walked)
        first, last = moving(walked.start), moving(walked.end)

        def conditions(theta):
            first = start(theta)
            slope = jax.grad(objective, argnums=2)(theta, first, last)
            return slope, outer(theta, first, last, walked)[0]

        idle = idle_leaves(key_theta, conditions, theta)
        if idle:
            raise ValueError(
                "a derivative at the end of learning knows only ends where the gradient of loss "
                f"plus penalty vanishes, got theta's leaf '{idle[0]}', on which neither depends "
                "there; compose a learned start with proximal(...), use unrolled() or "
                "truncated(...), or keep that bias with fixed(...)"
            )

        def of_the_way(way):
            path, losses = way
            return outer(
                theta,
                first,
                last,
                walked._replace(path=merge(path, constants(walked.path)), losses=losses),
            )[0]

        way = moving(walked.path), walked.losses
        if len(idle_leaves(key_way, of_the_way, way)) < len(jax.tree.leaves(way)):
            raise ValueError(
                "a derivative at the end of learning needs an outer objective of the start and "
                "the end alone, got one that looks at the path or the losses on the way; judge "
                "the end, or use unrolled()"
            )
        return ()

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        def one(theta, batched):
            key, task = batched
            keys = _split(key)
            walked, memory = _learn(keys, bilevel, theta, task)
            start, objective, outer = _parts(keys, bilevel, task, walked)
            last = moving(walked.end)
            first, of_theta = jax.vjp(start, theta)
            learner = bilevel.bias.shape(theta, task, bilevel.learner)

            def at(phi):
                (loss, aux), (explicit, explicit_first, cotangent) = jax.value_and_grad(
                    outer, argnums=(0, 1, 2), has_aux=True
                )(theta, first, phi, walked)
                slope, pull = jax.vjp(
                    lambda theta, first: gradient(lambda phi: objective(theta, first, phi))(phi),
                    theta,
                    first,
                )
                end = End(lambda phi: objective(theta, first, phi), phi, slope, learner, memory)
                v, report, remaining = solve(keys.solve, end, cotangent)
                mixed, mixed_first = pull(v)
                (through_first,) = of_theta(optax.tree.sub(explicit_first, mixed_first))
                grad = optax.tree.add(optax.tree.sub(explicit, mixed), through_first)
                stationarity = _ratio(slope, jax.grad(end.objective)(first))
                return (
                    grad,
                    {"losses": loss, "aux": aux, "stationarity": stationarity, **report},
                    remaining,
                )

            grad, each, remaining = at(last)
            if remaining is not None:
                step, sound = remaining()
                right = at(optax.tree.add(last, step))[0]
                error = _ratio(optax.tree.sub(grad, right), right)
                each |= {"error": error, "converged": sound & (error <= tolerance)}
            return grad, each

        return estimate_over(over, one, key, theta, tasks, tasks.weight), state

    return estimator(init, estimate)


class _Keys(NamedTuple):
    start: Any
    steps: Any
    outer: Any
    loss: Any
    solve: Any


def _split(key) -> _Keys:
    """The keys of one task. The first three are those of `jaxmeta.outcome`: the same learning and
    the same loss."""
    key_process, key_outer = jax.random.split(key)
    return _Keys(
        *jax.random.split(key_process), key_outer, *jax.random.split(jax.random.fold_in(key, 2))
    )


def _learn(keys: _Keys, bilevel: Bilevel, theta, task):
    """The ordinary process: its trajectory, and what the update remembers at its end."""
    return process.walk(
        keys.start, keys.steps, bilevel.bias.shape(theta, task, bilevel.learner), task
    )


def _parts(keys: _Keys, bilevel: Bilevel, task, walked):
    """What the derivative is made of: `start(theta)`, `objective(theta, phi_0, phi)`, which is F on
    what the end of learning sees of the support, and `outer(theta, phi_0, phi, trajectory)`, the
    outer loss with these for its start and end. phi_0 and phi are without constants."""
    fixed, fixed_first = constants(walked.end), constants(walked.start)

    def shaped(theta):
        return bilevel.bias.shape(theta, task, bilevel.learner)

    def start(theta):
        return moving(process.started(keys.start, shaped(theta), task))

    def objective(theta, first, phi):
        learner = shaped(theta)
        seen = process.view(keys.loss, learner, task, learner.steps)
        return process.objective(
            keys.loss, learner, merge(first, fixed_first), merge(phi, fixed), seen
        )[0]

    def outer(theta, first, phi, walked):
        walked = walked._replace(start=merge(first, fixed_first), end=merge(phi, fixed))
        return judged(keys.outer, bilevel, shaped(theta), walked, task)

    return start, objective, outer


def _ratio(tree, reference):
    """`|tree| / |reference|`, 0 where both are nothing."""
    norm = optax.tree.norm(reference)
    return optax.tree.norm(tree) / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)
