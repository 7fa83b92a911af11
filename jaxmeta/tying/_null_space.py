"""All equivariant maps between two representations, as a null space. Axis letters: `a` inputs, `b`
outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxmeta.tying._operator import matrix
from jaxmeta.tying._tying import Tying
from jaxmeta.tying._within import inside

# entries of the constraints up to which a singular value decomposition is taken, as in EMLP
_DENSE = 30_000_000


def equivariant_basis(generators, solve=None, tolerance: float = 1e-8) -> Float[np.ndarray, "ab m"]:
    r"""An orthonormal basis Q of the kernels that commute with every generator.

    $$ \{W : R_{in}^\top W = W R_{out}^\top\}, \qquad y = x W $$

    A group element's matrices $\rho(h)$ and an infinitesimal generator's $d\rho(A)$ obey the same
    equation, so that both may stand in one list; it is EMLP's
    $\rho_{out} W^\top \rho_{in}^{-1} = W^\top$ without the inverse.

    Args:
      generators: Pairs `(R_in [a, a], R_out [b, b])` of matrices, at least one.
      solve: `(generators, tolerance) -> Q`; default `by_svd` where the constraints have up to 3e7
        entries, else `by_projection`.
      tolerance: Relative size below which a singular value counts as 0.

    Returns:
      `[a * b, m]`, kernels flattened row by row.

    Raises:
      ValueError: For matrices that do not fit together, or are not finite.

    Example:
      >>> turn = np.roll(np.eye(4), 1, axis=0)
      >>> equivariant_basis([(turn, turn)]).shape  # circular convolutions
      (16, 4)

    Paper: Finzi, Welling and Wilson, A practical method for constructing equivariant multilayer
    perceptrons, ICML 2021.
    """
    pairs = [tuple(np.asarray(part, float) for part in pair) for pair in generators]
    if not pairs:
        raise ValueError(
            "generators must be at least one pair of matrices, got none; the identity constrains "
            "nothing"
        )
    a, b = (part.shape[0] if part.ndim else 0 for part in pairs[0])
    for place, (inner, outer) in enumerate(pairs):
        if inner.shape != (a, a) or outer.shape != (b, b):
            raise ValueError(
                f"generator {place} must be matrices of shapes {(a, a)} and {(b, b)}, got "
                f"{inner.shape} and {outer.shape}; one group acts on one space of inputs and one "
                "of outputs"
            )
        if not (np.isfinite(inner).all() and np.isfinite(outer).all()):
            raise ValueError(
                f"generator {place} must be finite, got NaN or infinity; look at how it was made"
            )
    if solve is None:
        solve = by_svd if len(pairs) * (a * b) ** 2 <= _DENSE else by_projection
    return solve(pairs, tolerance)


def by_svd(pairs, tolerance: float) -> np.ndarray:
    """The null space by a dense singular value decomposition of the constraints."""
    a, b = len(pairs[0][0]), len(pairs[0][1])
    rows = [np.kron(inner.T, np.eye(b)) - np.kron(np.eye(a), outer) for inner, outer in pairs]
    _, values, right = np.linalg.svd(np.concatenate(rows), full_matrices=False)
    return right[values <= tolerance * max(values[0], 1)].T


def by_projection(pairs, tolerance: float, first: int = 32) -> np.ndarray:
    r"""The null space by a Krylov method, in matrix products alone: random kernels less their part
    in the row space.

    $P x = x - K^+ K x$, with $K^+ K x$ from LSMR; more of them are taken until they no longer are
    independent.
    """
    from scipy.sparse.linalg import LinearOperator, lsmr

    a, b = len(pairs[0][0]), len(pairs[0][1])
    size = a * b

    def forward(x):
        kernel = x.reshape(a, b)
        return np.concatenate(
            [(inner.T @ kernel - kernel @ outer.T).reshape(-1) for inner, outer in pairs]
        )

    def backward(y):
        parts = y.reshape(len(pairs), a, b)
        return sum(
            inner @ part - part @ outer for (inner, outer), part in zip(pairs, parts)
        ).reshape(-1)

    def projected(x):
        row_space, stopped, *_ = lsmr(
            constraints, forward(x), atol=1e-15, btol=1e-15, conlim=0, maxiter=10 * size
        )
        if stopped == 7:  # the limit of iterations
            raise ValueError(
                f"by_projection must converge, got no solution in {10 * size} steps; take by_svd"
            )
        return x - row_space

    constraints = LinearOperator(
        (len(pairs) * size, size), matvec=forward, rmatvec=backward, dtype=float
    )
    rng = np.random.default_rng(0)
    basis, tried, more = np.zeros((size, 0)), 0, first
    while True:
        more = min(more, size - tried)
        drawn = rng.normal(size=(size, more))
        drawn = np.stack([projected(x) for x in drawn.T], axis=1)
        # Both columns and basis to working precision: what is left of a dependent draw is the
        # solver's error.
        left, values, _ = np.linalg.svd(np.concatenate([basis, drawn], axis=1), full_matrices=False)
        basis = (
            left[:, values > np.sqrt(tolerance) * max(values[0], 1e-300)]
            if values[0] > tolerance
            else basis
        )
        tried += more
        if basis.shape[1] < tried or tried == size:
            return basis
        more = tried


def null_space(generators, shape: Sequence[int] | None = None, solve=None) -> Tying:
    r"""The free parameters of an equivariant linear layer, $vec(W) = Q \phi$.

    Args:
      generators, solve: As in `equivariant_basis`.
      shape: Of the leaf; default `(a, b)`. A bias `[b]` is the kernel of the trivial
        representation, `R_in = [[1]]` (`[[0]]` for an infinitesimal generator).

    Returns:
      A `Tying` of single arrays that begins at the projection $Q^\top vec(W)$ of an example.

    Raises:
      ValueError: Where no kernel but 0 is equivariant, and as `equivariant_basis`.

    Paper: Finzi, Welling and Wilson, ICML 2021.
    """
    generators = list(generators)
    basis = equivariant_basis(generators, solve)
    if not basis.shape[1]:
        raise ValueError(
            "an equivariant kernel must be other than 0, got generators that allow none; "
            "check that inputs and outputs transform under one group"
        )
    operator = matrix(basis)
    shape = tuple(len(part) for part in generators[0]) if shape is None else shape
    return inside(operator, shape, operator.transpose)
