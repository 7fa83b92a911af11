"""How well-conditioned learning is, before and after a tying: extreme eigenvalues of J'HJ by
Lanczos.

Axis letters: `D` free parameters, `K` Lanczos steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from jaxmeta import _check
from jaxmeta._curvature import hessian
from jaxmeta._sums import widened


class Spectrum(NamedTuple):
    """The ends of a symmetric operator's spectrum, zeros left out; nan of an operator that is zero.

    Args:
      lowest, highest: The algebraically least and greatest eigenvalue that is not zero; `lowest` is
        negative where the operator is indefinite.
      smallest: The magnitude of the eigenvalue nearest to zero that is not zero.
      condition: `max |lambda| / smallest`.
      lowest_residual, highest_residual: There is an eigenvalue within this of the one given. Where
        it is not small against the eigenvalue, more steps are needed; `lowest` converges from
        above, so that the condition number is then too small.
      smallest_residual: The same of `smallest`.
    """

    lowest: Float[Array, ""]
    highest: Float[Array, ""]
    smallest: Float[Array, ""]
    condition: Float[Array, ""]
    lowest_residual: Float[Array, ""]
    highest_residual: Float[Array, ""]
    smallest_residual: Float[Array, ""]


def spectrum(
    key,
    product: Callable,
    like: PyTree,
    steps: int,
    damping: float = 0.0,
    tolerance: float | None = None,
) -> Spectrum:
    r"""Extreme eigenvalues of a symmetric operator from K products with it: Lanczos, fully
    reorthogonalised.

    $$ A Q_K = Q_K T_K + \beta_K q_{K+1} e_K', \qquad \lambda(A) \approx \lambda(T_K), \qquad
       |\lambda - \lambda_i| \le \beta_K |s_{K i}| $$

    The start is `A v` for a Gaussian v: where A is singular the iteration stays in its range, so
    that the Ritz values of a positive semidefinite A lie between its smallest eigenvalue that is
    not zero and its largest. What rounding makes of the null space is left out by the tolerance. K
    = D steps are exact.

    Args:
      key: Draws v.
      product: `v -> A v`, linear and symmetric on pytrees.
      like: A pytree of v's structure, shapes and dtypes; of its values no use is made. Between
        products all is in float32 at least.
      steps: K, at least 1; more than D are not taken. `K D` numbers are stored.
      damping: Added to the diagonal, at least 0: the null space then counts, at `damping`.
      tolerance: Relative to the largest magnitude, below it an eigenvalue is zero; None takes
        `eps^(3/4)` of the dtype (2e-12 in float64, 6e-6 in float32).

    Raises:
      ValueError: For fewer than 1 step, or a damping or tolerance below 0.

    >>> import jax, jax.numpy as jnp
    >>> found = spectrum(
    ...     jax.random.key(0), lambda v: jnp.array([0.0, 1.0, 4.0]) * v, jnp.zeros(3), steps=3
    ... )
    >>> round(float(found.smallest), 3), round(float(found.condition), 3)
    (1.0, 4.0)

    Paper: Lanczos, 1950; reorthogonalisation and bounds: Parlett, "The symmetric eigenvalue
    problem", 1998, chapter 13.
    """
    _check.whole_number("steps", steps, least=1)
    _check.number("damping", damping, least=0)
    flat, unravel = ravel_pytree(like)
    steps, eps, own = min(steps, flat.size), jnp.finfo(flat.dtype).eps, flat.dtype
    flat = widened(flat)
    tolerance = (
        float(eps) ** 0.75 if tolerance is None else _check.number("tolerance", tolerance, least=0)
    )

    def apply(v):
        return ravel_pytree(product(unravel(v.astype(own))))[0].astype(v.dtype) + damping * v

    def step(state, index):
        basis, q, scale = state
        basis = basis.at[index].set(q)
        w = apply(q)
        alpha = q @ w
        w = w - (w @ basis.T) @ basis
        w = w - (w @ basis.T) @ basis  # twice is enough (Parlett)
        beta = jnp.linalg.norm(w)
        scale = jnp.maximum(scale, jnp.maximum(jnp.abs(alpha), beta))
        # An invariant subspace is exhausted: what follows is zero, and its Ritz values are left out
        # as zeros.
        beta = jnp.where(beta > tolerance * scale, beta, 0)
        return (basis, _over(w, beta), scale), (alpha, beta)

    start = apply(jax.random.normal(key, flat.shape, flat.dtype))
    first = (
        jnp.zeros((steps, flat.size), flat.dtype),
        _over(start, jnp.linalg.norm(start)),
        jnp.zeros((), flat.dtype),
    )
    _, (alphas, betas) = jax.lax.scan(step, first, jnp.arange(steps))
    values, vectors = jnp.linalg.eigh(
        jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)
    )
    size = jnp.abs(values)
    real = size > tolerance * size.max()
    low, high = (
        jnp.where(real, values, jnp.inf).argmin(),
        jnp.where(real, values, -jnp.inf).argmax(),
    )
    residuals = betas[-1] * jnp.abs(vectors[-1])
    near = jnp.where(real, size, jnp.inf).argmin()
    found = Spectrum(
        values[low],
        values[high],
        size[near],
        size.max() / size[near],
        residuals[low],
        residuals[high],
        residuals[near],
    )
    return jax.tree.map(lambda each: jnp.where(real.any(), each, jnp.nan), found)


class Conditioning(NamedTuple):
    """The curvature that gradient descent meets without a tying and with it.

    Args:
      before: Spectrum of H, in theta.
      after: Spectrum of J'HJ, in phi.
    """

    before: Spectrum
    after: Spectrum


def conditioning(
    key,
    loss: Callable,
    expand: Callable,
    phi: PyTree,
    steps: int = 50,
    curvature: Callable = hessian,
    damping: float = 0.0,
    tolerance: float | None = None,
) -> Conditioning:
    r"""The extreme eigenvalues of H and of J'HJ: what a tying `theta = expand(phi)` makes of a
    loss's conditioning.

    $$ J = \frac{d\,\mathrm{expand}}{d\phi}, \qquad
       H = \nabla^2_\theta L(\mathrm{expand}(\phi)), \qquad
       \kappa = \frac{\max|\lambda(J'HJ)|}{\min_{\lambda \ne 0} |\lambda(J'HJ)|} $$

    No matrix is built. For an expand that is not linear, J'HJ leaves out the curvature of expand
    itself. The condition number depends on the scale of phi's parts, as gradient descent does; it
    is over the range of J'HJ: directions in which nothing changes are not counted, unless `damping`
    is given. Of an indefinite H (see `lowest`) Lanczos finds the ends well and the eigenvalues
    nearest to zero badly: take `gauss_newton` there.

    Args:
      key: Draws the starts.
      loss: `theta -> scalar`, or what `curvature` takes.
      expand: `phi -> theta`.
      phi: Free parameters, where the curvature is taken.
      steps: K of `spectrum`, of each.
      curvature: `(loss, theta) -> (v -> H v)`: `hessian` or `gauss_newton(measure)`.
      damping, tolerance: As in `spectrum`.

    Returns:
      A `Conditioning`, before (expand the identity) and after.

    Raises:
      ValueError: As in `spectrum`.

    >>> import jax, jax.numpy as jnp
    >>> loss = lambda theta: (theta @ jnp.diag(jnp.array([1.0, 9.0])) @ theta) / 2
    >>> found = conditioning(
    ...     jax.random.key(0), loss, lambda phi: jnp.stack([phi, phi / 3]), jnp.ones(())
    ... )
    >>> round(float(found.before.condition), 3), round(float(found.after.condition), 3)
    (9.0, 1.0)
    """
    theta, forward = jax.linearize(expand, phi)
    backward = jax.linear_transpose(forward, phi)
    along = curvature(loss, theta)
    keys = jax.random.split(key)
    return Conditioning(
        spectrum(keys[0], along, theta, steps, damping, tolerance),
        spectrum(keys[1], lambda v: backward(along(forward(v)))[0], phi, steps, damping, tolerance),
    )


def _over(v, size):
    """`v / size`, and zero where size is."""
    return jnp.where(size > 0, v / jnp.where(size > 0, size, 1), 0)
