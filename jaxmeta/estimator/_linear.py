"""Solvers of `H x = b` by products with H, the Hessian of low-level learning: what an implicit
derivative costs.

A `Solver` is `(key, product, b) -> (x, iterations)`, where `product(v) = H v` on vectors `[D]`, H
is `[D, D]`, symmetric unless `product.symmetric` says that it is not, and `iterations` is how many
products it took. None raises where it fails: the residual is for the caller to look at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxmeta import _check

Vector = Float[Array, " D"]
Solver = Callable[
    [Key[Array, ""], Callable[[Vector], Vector], Vector], tuple[Vector, Int[Array, ""] | int]
]


class Product(NamedTuple):
    """`v -> H v`.

    Args:
      times: The product.
      symmetric: Whether H is.
    """

    times: Callable[[Vector], Vector]
    symmetric: bool = True

    def __call__(self, v):
        return self.times(v)


def cg(iterations: int = 16, damping: float = 0.0) -> Solver:
    """Conjugate gradients on `(H + damping I) x = b`: after j iterations the best x in span(b, Hb,
    ..., H^{j-1} b).

    The error falls as `((sqrt(c) - 1) / (sqrt(c) + 1))^j`, c the condition number. One product an
    iteration. It stops early, with the x it has, at the residual that rounding leaves and where a
    direction has no positive curvature.

    Args:
      iterations: At most so many, at least 1.
      damping: Added to the curvature, at least 0; it biases x and helps where H is ill-conditioned
        or indefinite.

    Returns:
      A `Solver` for positive definite H, which refuses by ValueError one that is not symmetric.

    Reference: Hestenes and Stiefel, 1952; Rajeswaran et al., Meta-learning with implicit gradients,
    NeurIPS 2019 (5 iterations).
    """
    _check.whole_number("iterations of cg", iterations, least=1)
    _check.number("damping of cg", damping, least=0)

    def solve(key, product, b):
        _check_symmetric("cg", product)
        size = _power_of_two(b)  # without it the squares of small numbers are 0
        b = b / size
        square = b @ b
        floor = jnp.finfo(b.dtype).eps ** 2 * square

        def step(_, carry):
            x, residual, direction, square, taken = carry
            along = product(direction) + damping * direction
            curvature = direction @ along
            going = (square > floor) & (curvature > 0)
            # Both denominators are made safe: a branch not taken must not make a derivative of this
            # one nan.
            length = jnp.where(going, square / jnp.where(going, curvature, 1), 0)
            x, residual = x + length * direction, residual - length * along
            fresh = residual @ residual
            turned = residual + fresh / jnp.where(going, square, 1) * direction
            return x, residual, jnp.where(going, turned, direction), fresh, taken + going

        # A fixed number of steps is a scan, which reverse mode goes through.
        x, *_, taken = jax.lax.fori_loop(
            0, iterations, step, (jnp.zeros_like(b), b, b, square, jnp.zeros((), int))
        )
        return size * x, taken

    return solve


def neumann(terms: int = 16, rate: float = 0.1) -> Solver:
    """The truncated Neumann series, `x = rate sum_{j < terms} (I - rate H)^j b`, which tends to
    `H^-1 b`.

    What is missing is `(I - rate H)^terms H^-1 b`: it vanishes if all eigenvalues of H are between
    0 and 2 / rate, and is the derivative through the last `terms` steps of gradient descent.
    `terms - 1` products.

    Args:
      terms: At least 1; with 1 it is `identity(rate)`.
      rate: Above 0; the inner learning rate is the natural one.

    Returns:
      A `Solver`.

    Reference: Lorraine, Vicol and Duvenaud, Optimizing millions of hyperparameters by implicit
    differentiation, AISTATS 2020.
    """
    _check.whole_number("terms of neumann", terms, least=1)
    _check.number("rate of neumann", rate, above=0)

    def solve(key, product, b):
        return jax.lax.fori_loop(
            1, terms, lambda _, x: x - rate * product(x) + rate * b, rate * b
        ), terms - 1

    return solve


def identity(rate: float = 1.0) -> Solver:
    """The inverse Hessian replaced by a multiple of the identity, `x = rate b`. No product.

    Args:
      rate: Above 0; the inner learning rate makes it the derivative through the last step of
        gradient descent.

    Returns:
      A `Solver`.

    Reference: Luketina et al., Scalable gradient-based tuning of continuous regularization
    hyperparameters, ICML 2016.
    """
    return neumann(1, rate)


def nystrom(rank: int = 10, damping: float = 0.01) -> Solver:
    """H approximated from a few of its columns, C `[D, rank]`, and inverted by Woodbury's identity.

    `x = (damping I + C W^-1 C')^-1 b = b / damping - C (W + C'C / damping)^-1 C'b /
    damping^2`, W `[rank, rank]` being the rows of C that the columns stand for. Exact up to the
    damping where H has no more than that rank. `rank` products at once, memory `[D, rank]`, a solve
    of size rank.

    Args:
      rank: How many columns, drawn at random without replacement; at least 1, at most D.
      damping: Above 0.

    Returns:
      A `Solver`, which refuses by ValueError a rank above D, and an H that is not symmetric.

    Reference: Hataya and Yamada, Nyström method for accurate and scalable implicit differentiation,
    AISTATS 2023.
    """
    _check.whole_number("rank of nystrom", rank, least=1)
    _check.number("damping of nystrom", damping, above=0)

    def solve(key, product, b):
        _check_symmetric("nystrom", product)
        if rank > b.size:
            raise ValueError(
                f"rank of nystrom must be at most the {b.size} low-level parameters, got {rank}; "
                "give fewer, or use direct()"
            )
        chosen = jax.random.choice(key, b.size, (rank,), replace=False)
        columns = _columns(product, chosen, b)
        small = columns[:, chosen] + columns @ columns.T / damping
        # Of least norm: columns that depend on one another, such as those of dead units, leave it
        # singular.
        inner, *_ = jnp.linalg.lstsq(small, columns @ b)
        return (b - columns.T @ inner / damping) / damping, rank

    return solve


def direct() -> Solver:
    """All of H, and `x = H^-1 b` by elimination. D products at once, memory `[D, D]`, time D^3: for
    small problems.

    Returns:
      A `Solver`; x is not finite where H is singular.
    """

    def solve(key, product, b):
        columns = _columns(product, jnp.arange(b.size), b)
        return jnp.linalg.solve(columns if _symmetric(product) else columns.T, b), b.size

    return solve


def _power_of_two(b):
    """One as large as the largest entry, so that a division by it rounds nothing; 1 of zeros."""
    _, exponent = jnp.frexp(jax.lax.stop_gradient(jnp.max(jnp.abs(b))))
    return jnp.ldexp(jnp.ones((), b.dtype), exponent)


def _symmetric(product) -> bool:
    return getattr(product, "symmetric", True)


def _check_symmetric(name: str, product) -> None:
    if not _symmetric(product):
        raise ValueError(
            f"{name} needs a symmetric Hessian, got the Jacobian of a loss with a derivative rule "
            "of its own (a jax.custom_vjp or jax.custom_jvp), which may have none; take direct() "
            "or neumann(), or unrolled()"
        )


def _columns(product, chosen, b):
    """Columns of H, as rows `[rank, D]`."""
    return jax.vmap(product)(jax.nn.one_hot(chosen, b.size, dtype=b.dtype))
