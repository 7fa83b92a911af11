"""Neural collapse: how near the last features and the read-out are to one direction a class, and to
a tree of classes.

Axis letters: `C` classes, `n` examples, `d` features.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import rankdata
from jaxtyping import Array, Float, Int

from jaxmeta import _index
from jaxmeta._sums import widened
from jaxmeta.evaluation._similarity import cosines


class Collapse(NamedTuple):
    """Departures from neural collapse, each 0 where it is complete.

    Args:
      within: NC1, variance within classes over that between them.
      norms: NC2, standard deviation over mean of the norms of the class means.
      angles: NC2, the mean of `|cos + 1 / (C - 1)|` over pairs of class means.
      duality: NC3, distance of read-out and class means, each of norm 1; its square is what Papyan
        et al. draw.
      disagreement: NC4, share of examples where the read-out does not say the nearest class mean.
    """

    within: Float[Array, ""]
    norms: Float[Array, ""]
    angles: Float[Array, ""]
    duality: Float[Array, ""]
    disagreement: Float[Array, ""]


def neural_collapse(
    z: Float[Array, "n d"], y: Int[Array, " n"], kernel: Float[Array, "d C"], bias=None
) -> Collapse:
    r"""The four marks of neural collapse, of features and the linear read-out `z W + b` on them.

    With class means $\mu_c$ centred on their mean, columns of M, and $\Sigma_W$ the covariance
    within classes,
    $$ NC_1 = \mathrm{tr}(\Sigma_W \Sigma_B^+) / C, \quad \Sigma_B = M M' / C, \qquad
       NC_2: |\mu_c| \text{ equal}, \; \cos(\mu_c, \mu_k) = -1 / (C - 1), $$
    $$ NC_3 = |W / |W|_F - M / |M|_F|_F, \qquad
       NC_4 = P(\arg\max_c (zW + b)_c \ne \arg\min_c |z - \mu_c|). $$

    Args:
      z: Features before the read-out.
      y: Labels from 0 to C - 1. A class without examples makes the result nan, and so, under jit,
        does another label.
      kernel: W, the read-out's kernel (`params["head"]["kernel"]`); C of at least 2 is its last
        axis.
      bias: b, `[C]`; None is zero.

    Raises:
      ValueError: If features, labels and read-out do not fit one another, or for labels that are
        known and not 0 to C - 1.

    >>> import jax.numpy as jnp
    >>> z = jnp.array([[1.0], [1.0], [-1.0]])
    >>> found = neural_collapse(z, jnp.array([0, 0, 1]), jnp.array([[3.0, -3.0]]))
    >>> all(mark < 1e-6 for mark in found)
    True

    Paper: Papyan, Han and Donoho, "Prevalence of neural collapse during the terminal phase of deep
    learning training", 2020.
    """
    z, y, kernel = widened((jnp.asarray(z), jnp.asarray(y), jnp.asarray(kernel)))
    if (
        kernel.ndim != 2
        or kernel.shape[1] < 2
        or z.ndim != 2
        or z.shape[1] != len(kernel)
        or y.shape != z.shape[:1]
    ):
        raise ValueError(
            "neural_collapse needs features [n, d], labels [n] and a kernel [d, C] with C at "
            f"least 2, got shapes {z.shape}, {y.shape} and {kernel.shape}; give the features that "
            "the read-out takes"
        )
    classes = kernel.shape[1]
    scores = z @ kernel if bias is None else z @ kernel + jnp.reshape(bias, (1, classes))
    z, means = _centred_means(z, y, classes)
    # Of C centred means at most C - 1 directions are not zero; the last is what rounding left.
    directions, sizes, _ = jnp.linalg.svd(means.T, full_matrices=False)
    directions, sizes = directions[:, : classes - 1], sizes[: classes - 1]
    spread = jnp.mean(((z - means[y]) @ directions) ** 2, axis=0)
    real = sizes > max(means.shape) * jnp.finfo(z.dtype).eps * sizes[0]
    norms = jnp.linalg.norm(means, axis=1)
    pairs = jnp.triu_indices(classes, 1)
    nearest = jnp.sum((z[:, None] - means[None]) ** 2, axis=-1).argmin(1)
    found = Collapse(
        within=jnp.where(real, spread / jnp.where(real, sizes, 1) ** 2, 0).sum(),
        norms=norms.std() / norms.mean(),
        angles=jnp.abs(cosines(means, means)[pairs] + 1 / (classes - 1)).mean(),
        duality=jnp.linalg.norm(
            kernel / jnp.linalg.norm(kernel) - means.T / jnp.linalg.norm(means)
        ),
        disagreement=jnp.mean(scores.argmax(1) != nearest, dtype=z.dtype),
    )
    known = jnp.isfinite(means).all() & ~jnp.isnan(scores).any()
    return jax.tree.map(lambda mark: jnp.where(known, mark, jnp.nan), found)


class HierarchicalCollapse(NamedTuple):
    """How the class means follow a tree; 1 is perfect agreement, nan where all pairs stand alike
    (as in neural collapse).

    Args:
      pearson: Correlation over pairs of classes of `1 - cos` and the tree's distance, the
        cophenetic correlation.
      spearman: The same of ranks.
      cosines: Of the centred class means, `[C, C]`.
    """

    pearson: Float[Array, ""]
    spearman: Float[Array, ""]
    cosines: Float[Array, "C C"]


def hierarchical_collapse(
    z: Float[Array, "n d"], y: Int[Array, " n"], distances: Float[Array, "C C"]
) -> HierarchicalCollapse:
    """Whether class means stand to one another as a tree says: their cosines against its distances
    (ours).

    Args:
      z: Features.
      y: Labels from 0 to C - 1. A class without examples makes the result nan, and so, under jit,
        does another label.
      distances: Of each two classes in the tree, symmetric, for example the height of their lowest
        common ancestor; C at least 3.

    Raises:
      ValueError: If the distances are not a square of at least 3, z and y do not fit, or for labels
        that are known and not 0 to C - 1.

    >>> import jax.numpy as jnp
    >>> z = jnp.array([[3.0, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]])
    >>> tree = jnp.array([[0, 1, 2, 2], [1, 0, 2, 2], [2, 2, 0, 1], [2, 2, 1, 0]])
    >>> bool(hierarchical_collapse(z, jnp.arange(4), tree).pearson > 0.9)
    True

    Paper: Sokal and Rohlf, "The comparison of dendrograms by objective methods", 1962 (cophenetic
    correlation).
    """
    z, y, distances = widened((jnp.asarray(z), jnp.asarray(y), jnp.asarray(distances)))
    if distances.ndim != 2 or len(distances) < 3 or distances.shape[0] != distances.shape[1]:
        raise ValueError(
            f"distances must be [C, C] with C at least 3, got shape {distances.shape}; give "
            "those of a tree's leaves"
        )
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise ValueError(
            f"features must be [n, d] and labels [n], got shapes {z.shape} and {y.shape}; flatten "
            "the features"
        )
    means = _centred_means(z, y, len(distances))[1]
    alike = cosines(means, means)
    pairs = jnp.triu_indices(len(distances), 1)
    # Computed cosines that ought to be equal are not: those that agree to half the digits are taken
    # as tied.
    apart = jnp.round(1 - alike[pairs], jnp.finfo(z.dtype).precision // 2 + 1)
    heights = distances[pairs].astype(z.dtype)
    ranks = rankdata(apart), rankdata(heights)
    return HierarchicalCollapse(
        jnp.corrcoef(apart, heights)[0, 1], jnp.corrcoef(*ranks)[0, 1], alike
    )


def _centred_means(z, y, classes):
    """Features and class means `[C, d]`, both less the mean of the class means."""
    _index.checked("labels", y, classes, "number the classes from 0")
    z = _index.or_nan(z, y, classes)
    z = z - z.mean(0, keepdims=True)  # first, for the digits
    held = jax.nn.one_hot(y, classes, axis=0, dtype=z.dtype)
    means = held @ z / held.sum(1, keepdims=True)
    centre = means.mean(0, keepdims=True)
    return z - centre, means - centre
