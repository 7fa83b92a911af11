"""Affinities that need no training: distances of class embeddings, and transfers of linear encoders
in closed form.

Memory beyond the result does not grow with C^2: sources pass one by one. Axis letters: `C`
concepts, `m` examples of a concept, `d` features, `k` components.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmeta import _check, _extras
from jaxmeta._sums import widened
from jaxmeta.base import Examples
from jaxmeta.hierarchy._affinity import checked_affinity
from jaxmeta.hierarchy._class_data import ByClass, by_class


@jax.jit
def _distances(rows):
    return jax.lax.map(lambda row: jnp.sqrt(((row[None] - rows) ** 2).sum(1)), rows)


def embedding_affinity(key, rows: Float[Array, "C d"]) -> Float[np.ndarray, "C C"]:
    """Minus the Euclidean distance between embeddings of concepts, such as `class_means` or the
    rows of a last layer.

    Args:
      key: Consumed by nothing; every affinity has one.
      rows: One embedding a concept, its trailing axes flattened; scale them to length 1 for a
        distance of angles.

    >>> embedding_affinity(None, [[0.0, 0.0], [3.0, 4.0]]).tolist()
    [[-0.0, -5.0], [-5.0, -0.0]]
    """
    rows = widened(jnp.asarray(rows))
    return checked_affinity(-_distances(rows.reshape(rows.shape[0], -1)), len(rows))


def unchanged(data: ByClass, means):
    """The means as they are: Euclidean distances."""
    return means


def whitened(data: ByClass, means):
    """The means in the coordinates where the pooled covariance within classes, shrunk by Ledoit and
    Wolf's rule, is the identity: distances become Mahalanobis'."""
    with _extras.needed("shrinkage of covariances"):
        from sklearn.covariance import ledoit_wolf

    within = np.concatenate(
        [
            x[:count].reshape(count, -1) - mean[None]
            for x, count, mean in zip(data.x, data.counts, means)
        ]
    )
    covariance, _ = ledoit_wolf(within.astype(float), assume_centered=True)
    return np.linalg.solve(np.linalg.cholesky(covariance), means.T).T


def class_means(examples: Examples, scale: Callable = unchanged) -> Float[np.ndarray, "C d"]:
    """Every concept's mean, in the coordinates of `scale`: `unchanged`, or `whitened` for
    Mahalanobis' distance.

    Raises:
      ValueError: for what `by_class` refuses.

    >>> class_means(Examples(np.array([[1.0], [3.0], [9.0]]), np.array([0, 0, 1]))).tolist()
    [[2.0], [9.0]]
    """
    data = by_class(examples)
    means = data.x.reshape(*data.x.shape[:2], -1).sum(1) / data.counts[:, None].astype(data.x.dtype)
    return scale(data, means)


def linear_transfer_affinity(
    key,
    train: Examples,
    held: Examples,
    components: int = 8,
    budget: int | None = None,
    strength: float = 1e-3,
) -> Float[np.ndarray, "C C"]:
    r"""The transfer affinity of linear encoders, in closed form (ours): how much of a target
    another's subspace tells.

    The encoder of a concept is its first k principal components U; it stays, and a target's decoder
    is ridge regression from the codes of b examples to the examples. The affinity is the share of
    the held-out variance that is explained:

    $$ a_{ij} = \mathrm{clip}\Big(1 - \frac{E |x - \mu_j - D_{ij} U_i^T (x - \mu_j)|^2}{E |x
       - \mu_j|^2},\ 0,\ 1\Big) $$

    with $\mu_j$ the mean of the b examples.

    Args:
      key: Consumed by nothing; every affinity has one.
      train: x `[n, ...]`, y `[n]`, 0 to C-1.
      held: Examples of the same concepts, on which it is judged.
      components: k, fewer than features.
      budget: b, the first of each concept; default all.
      strength: The ridge, as a share of the codes' mean variance.

    Returns:
      `[source, target]`.
    """
    _check.whole_number("components", components, least=1)
    _check.number("strength", strength, above=0)
    data = by_class(train)
    held = by_class(held, len(data.counts))
    data, held = (ByClass(one.x.reshape(*one.x.shape[:2], -1), one.counts) for one in (data, held))
    if components >= data.x.shape[2]:
        raise ValueError(
            f"components must be fewer than the {data.x.shape[2]} features, got {components}"
        )
    if budget is not None:
        _check.whole_number("budget", budget, least=2)
        data = ByClass(data.x[:, :budget], np.minimum(data.counts, budget))
    return checked_affinity(linear_transfers(data, held, components, strength))


@functools.partial(jax.jit, static_argnames="components")
def linear_transfers(data: ByClass, held: ByClass, components: int, strength):
    """The program of all pairs, sources one by one."""

    def centred(x, count, mean):
        return jnp.where(
            (jnp.arange(x.shape[1])[None] < count[:, None])[..., None], x - mean[:, None], 0
        )

    mean = data.x.sum(1) / data.counts[:, None].astype(data.x.dtype)
    x, h = centred(data.x, data.counts, mean), centred(held.x, held.counts, mean)
    total = (h**2).sum((1, 2))

    def encoder(rows):
        return jnp.linalg.svd(rows, full_matrices=False)[2][:components].T

    def source(rows):
        codes = jnp.einsum("cmd,dk->cmk", x, (basis := encoder(rows)))
        gram = jnp.einsum("cmk,cml->ckl", codes, codes)
        ridge = (
            strength * jnp.trace(gram, axis1=1, axis2=2) / basis.shape[1] + jnp.finfo(x.dtype).tiny
        )
        decoder = jnp.linalg.solve(
            gram + ridge[:, None, None] * jnp.eye(basis.shape[1], dtype=x.dtype)[None],
            jnp.einsum("cmk,cmd->ckd", codes, x),
        )
        error = h - jnp.einsum("cmk,ckd->cmd", jnp.einsum("cmd,dk->cmk", h, basis), decoder)
        return jnp.clip(1 - (error**2).sum((1, 2)) / total, 0, 1)

    return jax.lax.map(source, x)
