"""How alike two representations of the same examples are, and what untrained and label-shuffled
nets would say.

Axis letters: `n` examples, `d`, `e` features of the first and the second representation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta._sums import widened


def unbiased_hsic(first: Float[Array, "n n"], second: Float[Array, "n n"]) -> Float[Array, ""]:
    r"""The Hilbert-Schmidt independence criterion of two kernels, without bias.

    With zeros on the diagonals,
    $$ \frac{1}{n(n-3)} \Big[ \mathrm{tr}(KL) + \frac{1'K1 \, 1'L1}{(n-1)(n-2)}
       - \frac{2}{n-2} 1'KL1 \Big]. $$

    Args:
      first, second: Kernels K and L of the same n examples, n at least 4, symmetric.

    Raises:
      ValueError: For fewer than 4 examples.

    >>> import jax.numpy as jnp
    >>> float(unbiased_hsic(jnp.eye(5), jnp.ones((5, 5))))
    0.0

    Paper: Song et al., "Feature selection via dependence maximization", 2012, equation 5.
    """
    n = _check.whole_number("the number of examples of unbiased_hsic", len(first), least=4)
    first, second = (kernel - jnp.diag(jnp.diag(kernel)) for kernel in (first, second))
    rows = first.sum(0), second.sum(0)
    trace = (first * second).sum()
    whole = rows[0].sum() * rows[1].sum() / ((n - 1) * (n - 2))
    return (trace + whole - 2 / (n - 2) * rows[0] @ rows[1]) / (n * (n - 3))


def biased_hsic(first: Float[Array, "n n"], second: Float[Array, "n n"]) -> Float[Array, ""]:
    """The same with bias: `tr(K H L H) / (n - 1)^2`, `H = I - 11'/n`; it rises with the features
    where n is small.

    Paper: Gretton et al., "Measuring statistical dependence with Hilbert-Schmidt norms", 2005.
    """
    first, second = (kernel - kernel.mean(0, keepdims=True) for kernel in (first, second))
    return jnp.vdot(first, second.T) / (len(first) - 1) ** 2


def cka(
    first: Float[Array, "n d"], second: Float[Array, "n e"], hsic: Callable = unbiased_hsic
) -> Float[Array, ""]:
    r"""Centred kernel alignment of two representations, with linear kernels `K = Z Z'`.

    $$ \mathrm{HSIC}(K, L) / \sqrt{\mathrm{HSIC}(K, K) \, \mathrm{HSIC}(L, L)} $$

    It does not see orthogonal maps, a common scale and translations. Without bias, representations
    that have nothing in common get 0 on average (it may be negative); with bias they get more, the
    more features there are an example.

    Args:
      first, second: Features of the same examples; n at least 4.
      hsic: `(K, L) -> scalar`: `unbiased_hsic` or `biased_hsic`.

    Returns:
      A scalar of at most 1; nan where a representation is constant.

    Raises:
      ValueError: If the two are not of the same examples, or too few.

    >>> import jax.numpy as jnp
    >>> z = jnp.array([[0.0, 1.0], [2.0, 1.0], [1.0, 3.0], [4.0, 0.0], [3.0, 3.0]])
    >>> round(float(cka(z, 3 * z[:, ::-1])), 4)
    1.0

    Paper: Kornblith et al., "Similarity of neural network representations revisited", 2019; without
    bias: Nguyen et al., "Do wide and deep networks learn the same things?", 2021.
    """
    kernels = [z @ z.T for z in map(_centred, paired(first, second))]
    across, *within = (hsic(kernels[i], kernels[j]) for i, j in ((0, 1), (0, 0), (1, 1)))
    return across / jnp.sqrt(within[0] * within[1])


def svcca(
    first: Float[Array, "n d"], second: Float[Array, "n e"], keep: float = 0.99
) -> Float[Array, ""]:
    r"""The mean canonical correlation of the leading singular directions of two representations.

    With left singular vectors U, V of the centred features, as many as hold a fraction `keep` of
    the variance,
    $$ \frac{1}{\min(k, l)} \sum_i \sigma_i(U_k' V_l). $$

    Args:
      first, second: Features of the same examples. With n no larger than the directions kept it is
        1 for any two.
      keep: Fraction of the variance kept, in (0, 1]; at 1, all directions that are not zero are
        kept and no invertible linear map is seen.

    Raises:
      ValueError: If the two are not of the same examples, or `keep` is not in (0, 1].

    >>> import jax.numpy as jnp
    >>> z = jnp.array([[0.0, 1.0], [2.0, 1.0], [1.0, 3.0], [4.0, 0.0], [3.0, 3.0]])
    >>> round(float(svcca(z, z @ jnp.array([[2.0, 1.0], [0.0, 1.0]]), keep=1.0)), 4)
    1.0

    Paper: Raghu et al., "SVCCA: singular vector canonical correlation analysis", 2017.
    """
    if not 0 < keep <= 1:
        raise ValueError(
            f"keep must be a fraction of the variance in (0, 1], got {keep}; give for example 0.99"
        )
    bases, sizes = zip(*(_leading(_centred(z), keep) for z in paired(first, second)))
    return jnp.linalg.svd(bases[0].T @ bases[1], compute_uv=False).sum() / jnp.minimum(*sizes)


def cosines(first: Float[Array, "n d"], second: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """The cosine of each of one set of vectors with each of another; nan for a vector of zeros.

    >>> import jax.numpy as jnp
    >>> cosines(jnp.eye(2), jnp.array([[0.0, 3.0]])).tolist()
    [[0.0], [1.0]]
    """
    first, second = (z / jnp.linalg.norm(z, axis=1, keepdims=True) for z in (first, second))
    return first @ second.T


class Overlap(NamedTuple):
    """What `mutual_neighbours` found.

    Args:
      value: The mean share of common neighbours, from 0 to 1.
      chance: Its expectation for unrelated representations, `k / (n - 1)`.
    """

    value: Float[Array, ""]
    chance: float


def mutual_neighbours(
    first: Float[Array, "n d"],
    second: Float[Array, "n e"],
    k: int = 10,
    similarity: Callable = cosines,
) -> Overlap:
    r"""How many of its k nearest neighbours an example has in common in two representations: the
    mean of `|A_i & B_i| / k`.

    Args:
      first, second: Features of the same examples.
      k: Neighbours, from 1 to n - 1; an example is none of its own.
      similarity: `(z, z) -> [n, n]`, larger for nearer.

    Returns:
      An `Overlap`, with its chance level; nan where a similarity is, as of a vector of zeros.

    Raises:
      ValueError: If the two are not of the same examples, or have no k neighbours.

    >>> import jax.numpy as jnp
    >>> z = jnp.array([[0.0, 1.0], [2.0, 1.0], [1.0, 3.0], [4.0, 0.5], [3.0, 3.0]])
    >>> value, chance = mutual_neighbours(z, 2 * z, k=2)
    >>> float(value), chance
    (1.0, 0.5)

    Paper: Huh et al., "The platonic representation hypothesis", 2024.
    """
    first, second = paired(first, second)
    n = _check.whole_number("the number of examples", len(first), least=2)
    if _check.whole_number("k", k, least=1) >= n:
        raise ValueError(
            f"k must be less than the number of examples, got k = {k} of {n}; give fewer neighbours"
        )

    def nearest(z):
        alike = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, similarity(z, z))
        # NaN would count as nearest.
        return jnp.where(
            jnp.isnan(alike).any(), jnp.nan, jax.nn.one_hot(jax.lax.top_k(alike, k)[1], n).sum(1)
        )

    return Overlap((nearest(first) * nearest(second)).sum(1).mean() / k, k / (n - 1))


class Controls(NamedTuple):
    """A measure of trained nets beside the same of nets that learned nothing and of nets that
    learned nothing to learn.

    Args:
      trained, untrained, shuffled: What the measure gave of each.
    """

    trained: Any
    untrained: Any
    shuffled: Any


def controls(measure: Callable, trained: tuple, untrained: tuple, shuffled: tuple) -> Controls:
    """The measure of a pair (or any arguments) of trained nets, and of its two controls.

    What architecture and inputs alone give is in `untrained`; what optimisation adds without
    anything to learn is in `shuffled`. Only what the trained nets have beyond both was learned of
    the concepts.

    Args:
      measure: `(*pair) -> value`, any pytree.
      trained: Its arguments of trained nets, for example the features of two seeds.
      untrained: The same of the nets as initialised, of the same seeds.
      shuffled: The same of nets trained in the same way on shuffled labels.

    >>> controls(lambda a, b: a - b, (5, 1), (2, 1), (1, 1))
    Controls(trained=4, untrained=1, shuffled=0)
    """
    return Controls(*(measure(*arguments) for arguments in (trained, untrained, shuffled)))


def paired(first, second):
    """The two as arrays, in float32 at least; refuses what is not features of the same examples."""
    first, second = widened((jnp.asarray(first), jnp.asarray(second)))
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise ValueError(
            "representations must be [n, features] of the same n examples, got shapes "
            f"{first.shape} and {second.shape}; flatten the features of an example and encode the "
            "same examples by both"
        )
    return first, second


def _centred(z):
    return z - z.mean(0, keepdims=True)


def _leading(z, keep):
    """Left singular vectors, zeroed beyond the fraction kept, and how many were kept."""
    left, sizes, _ = jnp.linalg.svd(z, full_matrices=False)
    variance = jnp.cumsum(sizes**2) / jnp.sum(sizes**2)
    before = jnp.concatenate([jnp.zeros(1, z.dtype), variance[:-1]])
    kept = (before < keep) & (sizes > max(z.shape) * jnp.finfo(z.dtype).eps * sizes[0])
    return jnp.where(kept[None], left, 0), kept.sum()
