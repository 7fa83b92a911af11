r"""How the low level's gradient is taken, and so how it is differentiated in turn: replacements for
`jax.grad`.

The inner gradient g(phi, c) = d L(phi, c) / d phi, c being all else that L reads (theta, the
support), has a symmetric Jacobian H in phi. So the pull-back of a cotangent v is a derivative of
gradients in the direction v, forward over reverse, not the transpose of a derivative, which has to
store the whole backward pass:

$$ (H v,\; (\partial g / \partial c)^T v) = \tfrac{d}{de} \nabla_{(\phi, c)} L(\phi
   + e v, c) |_{e = 0}. $$

The gradient gets a forward derivative of its own, a `linear_map` with this pull-back as its
transpose: unlike a `custom_vjp`, that leaves forward mode and all further derivatives as they are.

A loss with a derivative rule of its own that is not the derivative of its value (gradient reversal,
clipping on the way back) has a field g that is no gradient, and no symmetric Jacobian. Wherever the
traced objective has a rule that is not believed (see `_rules`), all gradients here but `constant`
are `jax.grad`, which is right and slower.

Reference: Kemaev et al., Scalable meta-learning via mixed-mode differentiation (MixFlow-MG), ICML
2025.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _check
from jaxmeta._linear import Program, closed, linear_map, replaced, with_derivative
from jaxmeta.estimator._rules import believed

Gradient = Callable
"""Stands for `jax.grad`: `gradient(objective, has_aux=True)(phi) -> (grads, aux)`."""


def constant(objective, has_aux: bool = False):
    """The gradient held constant: its derivative is zero, which leaves the Hessians out."""

    def gradient(phi):
        result = jax.grad(objective, has_aux=has_aux)(jax.lax.stop_gradient(phi))
        return (
            (jax.lax.stop_gradient(result[0]), result[1])
            if has_aux
            else jax.lax.stop_gradient(result)
        )

    return gradient


def recomputing(objective, has_aux: bool = False):
    """Forward over reverse, all computed again when the derivative returns: only phi and what the
    objective closes over are stored in between."""
    return _symmetric(_recomputing(_along), objective, has_aux)


def linearising(objective, has_aux: bool = False):
    """Forward over reverse, linearised when the gradient is taken: nothing is computed again when
    the derivative returns, and what the linear map needs of the objective and its gradient is
    stored in between."""
    return _symmetric(_linearising, objective, has_aux)


def finite_difference(size: float = 0.01) -> Gradient:
    """A gradient pulled back by central differences, `(slope(phi + e v) - slope(phi - e v)) / 2 e`
    with `e = size / |v|`.

    Two gradients more and no second derivative; off by O(e^2), and by round-off over e. Differences
    see what moves within `jax.lax.stop_gradient`, which derivatives do not. Exact in forward mode,
    and, as `jax.grad`, where the objective has derivative rules of its own.

    Args:
      size: How far phi is moved, in phi's unit, above 0.

    Reference: Liu, Simonyan and Yang, DARTS, ICLR 2019, equation 8.
    """
    _check.number("size of a finite difference", size, above=0)

    def pull(slope, phi, v):
        norm = optax.tree.norm(v)
        e = size / jnp.where(norm > 0, norm, 1)
        ahead, behind = (
            slope([x + (way * e).astype(x.dtype) * d for x, d in zip(phi, v)]) for way in (1, -1)
        )
        return jax.tree.map(lambda a, b: (a - b) / (2 * e).astype(a.dtype), ahead, behind)

    derive = _recomputing(pull)
    return lambda objective, has_aux=False: _symmetric(derive, objective, has_aux)


class Jacobian(NamedTuple):
    """That of the gradient of an objective: its Hessian, but no symmetric matrix where the
    objective has derivative rules of its own.

    Args:
      along: `v -> J v`.
      transposed: `v -> J' v`.
      symmetric: Whether both are the same.
    """

    along: Callable
    transposed: Callable
    symmetric: bool

    @classmethod
    def at(cls, objective, phi) -> Jacobian:
        """At `phi`; one linearisation serves all products."""
        run, *_ = closed(objective, phi)
        if believed(run.jaxpr):
            _, along = jax.linearize(jax.grad(objective), phi)
            return cls(along, along, True)
        _, pull = jax.vjp(jax.grad(objective), phi)
        # J is the transpose of its transpose, since what has a way back alone has no forward
        # derivative.
        _, push = jax.vjp(lambda v: pull(v)[0], jax.tree.map(jnp.zeros_like, phi))
        return cls(lambda v: push(v)[0], lambda v: pull(v)[0], False)


class _Objective(NamedTuple):
    """An objective as `run(*phi, *rest) -> (value, *aux)`, phi being all that comes before the
    rest."""

    run: Program

    @property
    def count(self) -> int:
        return self.run.count

    def slope(self, args, moving=()):
        """`phi -> ((d value / d phi, d value / d args[i] for i in moving), aux)`."""

        def value(phi, others):
            value, *aux = self.run(*phi, *replaced(args, moving, others)[self.count :])
            return value, aux

        return lambda phi: jax.grad(value, argnums=(0, 1), has_aux=True)(
            phi, [args[i] for i in moving]
        )


def _symmetric(derive, objective, has_aux):
    """`derive(objective, args, others) -> (grads, aux, forward, backward, fixed)`: the gradient,
    and the `linear_map` of its tangent from those of phi and of the arguments in the places
    `others`."""

    def value_and_aux(phi):
        value, aux = objective(phi) if has_aux else (objective(phi), ())
        return _check.scalar("what is differentiated", value), aux

    def gradient(phi):
        leaves, structure = jax.tree.flatten(phi)
        run, rest, (_, aux) = closed(value_and_aux, phi)
        if not believed(run.jaxpr):
            return jax.grad(objective, has_aux=has_aux)(phi)
        this, count = _Objective(run), run.count

        def gradient_and_aux(*args):
            (grads, _), aux = this.slope(args)(list(args[:count]))
            return [*grads, *aux]

        def rule(args, moving, dots):
            dots = dict(zip(moving, dots))
            others = [i for i in moving if i >= count]
            grads, aux, forward, backward, fixed = derive(this, args, others)
            turned = (
                [dots.get(i, jnp.zeros_like(args[i])) for i in range(count)],
                [dots[i] for i in others],
            )
            # Where nobody asks for the derivative of aux, nothing of it is left once compiled.
            _, beside = jax.jvp(
                lambda *values: run(*replaced(args, moving, values))[1:],
                [args[i] for i in moving],
                [dots[i] for i in moving],
            )
            return [*grads, *aux], [
                *linear_map(forward, backward, turned, *fixed, like=grads),
                *beside,
            ]

        results = with_derivative(gradient_and_aux, rule)(*leaves, *rest)
        grads = jax.tree.unflatten(structure, results[:count])
        return (
            (grads, jax.tree.unflatten(jax.tree.structure(aux), results[count:]))
            if has_aux
            else grads
        )

    return gradient


def _along(slope, phi, v):
    return jax.jvp(slope, (phi,), (v,))[1]


def _recomputing(pull):
    def derive(objective: _Objective, args, others):
        count = objective.count

        def backward(v, *args):
            return pull(lambda phi: objective.slope(args, others)(phi)[0], list(args[:count]), v)

        def forward(dots, *args):
            def grads(phi, values):
                return objective.slope(replaced(args, others, values))(phi)[0][0]

            return jax.jvp(grads, (list(args[:count]), [args[i] for i in others]), dots)[1]

        (grads, _), aux = objective.slope(args)(list(args[:count]))
        return grads, aux, forward, backward, args

    return derive


def _linearising(objective: _Objective, args, others):
    phi = list(args[: objective.count])
    (grads, _), along, aux = jax.linearize(objective.slope(args, others), phi, has_aux=True)
    run, stored, shape = closed(along, phi)
    phi = [
        jax.ShapeDtypeStruct(x.shape, x.dtype) for x in phi
    ]  # What is returned closes over no tracer.

    def backward(v, *stored):
        return jax.tree.unflatten(jax.tree.structure(shape), run(*v, *stored))

    def forward(dots, *stored):
        straight, _ = backward(dots[0], *stored)
        if not others:
            return straight
        (cross,) = jax.linear_transpose(lambda v: backward(v, *stored)[1], phi)(dots[1])
        return jax.tree.map(jnp.add, straight, cross)

    return grads, aux, forward, backward, stored
