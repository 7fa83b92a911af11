"""Whether a planted tying was found again. Axis letters: `d` tied entries, `m` free ones."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from jaxmeta import _check, _extras


def subspace_distance(
    found: Float[np.ndarray, "d m"], planted: Float[np.ndarray, "d k"], tolerance: float = 1e-6
) -> float:
    r"""How far apart what two linear tyings can express is: $|Q Q^\top - U U^+|_F$, of projectors
    onto their column spaces.

    0 for the same space, $\sqrt{2k}$ for orthogonal ones of dimension k, and $\sqrt{m - k}$ for a
    planted one inside.

    Args:
      found, planted: Operators, any matrices.
      tolerance: Singular values of at most this times the largest count as 0.

    Raises:
      ValueError: For matrices of other numbers of rows, or not finite.

    >>> round(subspace_distance(np.array([[2.0], [2.0]]), np.array([[1.0], [1.0]])), 6)
    0.0
    >>> round(subspace_distance(np.eye(2)[:, :1], np.eye(2)[:, 1:]) ** 2, 6)
    2.0
    """
    found, planted = np.asarray(found, float), np.asarray(planted, float)
    if found.ndim != 2 or planted.ndim != 2 or found.shape[0] != planted.shape[0]:
        raise ValueError(
            f"operators must be [d, m] and [d, k], got shapes {found.shape} and {planted.shape}; "
            "flatten the entries that are tied to one axis in the same order"
        )
    if not (np.isfinite(found).all() and np.isfinite(planted).all()):
        raise ValueError(
            "operators must be finite, got NaN or infinity; look at how they were learned"
        )
    bases = []
    for each in (found, planted):
        left, values, _ = np.linalg.svd(each, full_matrices=False)
        bases.append(left[:, values > tolerance * max(values.max(initial=0), 1e-300)])
    cosines = np.linalg.norm(bases[0].T @ bases[1]) ** 2
    return float(np.sqrt(max(bases[0].shape[1] + bases[1].shape[1] - 2 * cosines, 0)))


def group_agreement(
    rows: Float[np.ndarray, "d m"], labels: Int[np.ndarray, " d"], seed: int = 0
) -> float:
    """Whether entries that a planted tying makes one have one row in a learned operator: the
    adjusted Rand index of clusters.

    Rows are clustered by k-means into as many groups as there are labels. 1 for the same groups,
    about 0 for random ones.

    Args:
      rows: U, the entries' rows.
      labels: The planted group of every entry, such as `jaxmeta.tying.orbit_labels` flattened.
      seed: Of k-means, the best of ten.

    Raises:
      ValueError: If there is not one label a row, or the rows are not finite.

    >>> group_agreement(np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 1.1]]), np.array([5, 3, 5]))
    1.0
    """
    with _extras.needed("comparing partitions"):
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_rand_score

    rows, labels = np.asarray(rows, float), np.asarray(labels)
    _check.whole_number("seed", seed)
    if rows.ndim != 2 or labels.shape != rows.shape[:1]:
        raise ValueError(
            f"rows must be [d, m] and labels [d], got shapes {rows.shape} and {labels.shape}; give "
            "one label a row"
        )
    if not np.isfinite(rows).all():
        raise ValueError("rows must be finite, got NaN or infinity; look at how they were learned")
    found = KMeans(
        len(np.unique(labels)), n_init=10, max_iter=100_000, random_state=seed
    ).fit_predict(rows)
    return float(adjusted_rand_score(labels, found))
