"""Affinity by held-out confusion: concepts are close that a classifier takes for one another.

Axis letters: `C` concepts, `n` examples.
"""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmeta import _extras, _index
from jaxmeta.base import Examples
from jaxmeta.hierarchy._affinity import symmetrised
from jaxmeta.hierarchy._class_data import checked


def held_out_scores(
    key, examples: Examples, estimator=None, folds: int = 5, groups: Int[Array, " n"] | None = None
):
    """Every example's scores by a model fitted without the example's fold.

    Args:
      key: Shuffles examples, or groups, into folds.
      examples: x `[n, ...]`, y `[n]`, 0 to C-1.
      estimator: Any scikit-learn regressor of several outputs, onto one-hot labels; default: ridge
        on standardised features, whose scores estimate the probability of each concept.
      folds: How many.
      groups: Examples of one group (a person, say) share a fold.

    Returns:
      `[n, C]`.

    Raises:
      ValueError: for what `by_class` refuses, or a concept of fewer examples (groups) than two
        folds need.
    """
    with _extras.needed("a confusion affinity"):
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    x, y, names = checked(examples)
    apart = y if groups is None else np.unique(np.stack([y, np.asarray(groups)]), axis=1)[0]
    fewest = int(np.argmin(np.bincount(apart)))
    if folds < 2 or np.bincount(apart)[fewest] < folds:
        raise ValueError(
            f"folds must be from 2 to the {'examples' if groups is None else 'groups'} of every "
            f"concept, got {folds} for concept {names[fewest]} with {np.bincount(apart)[fewest]}; "
            "take fewer folds"
        )
    estimator = make_pipeline(StandardScaler(), Ridge(1.0)) if estimator is None else estimator
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    split = (StratifiedKFold if groups is None else StratifiedGroupKFold)(
        folds, shuffle=True, random_state=seed
    )
    x = x.reshape(len(x), -1)
    scores = cross_val_predict(
        estimator, x, np.eye(len(names))[y], cv=list(split.split(x, y, groups))
    )
    if not np.isfinite(scores).all():
        wrong = int(np.argmin(np.isfinite(scores).all(axis=1)))
        raise ValueError(
            f"held-out scores must be finite, got {scores[wrong].tolist()} for example {wrong}; "
            "take another estimator"
        )
    return scores


def confusion_counts(
    y_true: Int[np.ndarray, " n"], y_pred: Int[np.ndarray, " n"], concepts: int
) -> Float[np.ndarray, "C C"]:
    """Row: true, column: predicted; leaves.

    Raises:
      ValueError: for leaves that are not 0 to C-1, or of unlike numbers.

    >>> confusion_counts([0, 1, 1], [0, 0, 1], 2).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    y_true, y_pred = (
        np.asarray(
            _index.checked(name, np.asarray(leaves), concepts, "number concepts as tree.leaf does")
        )
        for name, leaves in {"y_true": y_true, "y_pred": y_pred}.items()
    )
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"y_true and y_pred must have one entry an example, got shapes {y_true.shape} and "
            f"{y_pred.shape}; give both of the same examples"
        )
    table = np.zeros((concepts, concepts))
    np.add.at(table, (y_true, y_pred), 1)
    return table


def confusion_affinity(
    key, examples: Examples, predicted: Int[Array, " n"] | None = None, **options
) -> Float[np.ndarray, "C C"]:
    r"""The share of one concept's examples that is taken for the other, averaged over both
    directions.

    $$ a_{ij} = (F_{ij} + F_{ji}) / 2, \qquad F_{ij} = P(\hat y = j | y = i), \qquad a_{ii} = 0 $$

    Args:
      key: See `held_out_scores`.
      examples: x `[n, ...]` (ignored where predictions are given), y `[n]`, 0 to C-1.
      predicted: `[n]`, labels by a model that was not fitted on these examples; default the best of
        `held_out_scores`'s scores.
      options: Of `held_out_scores`.

    >>> import numpy as np
    >>> y = np.array([0, 0, 1, 1])
    >>> confusion_affinity(None, Examples(np.zeros((4, 1)), y), np.array([0, 1, 1, 1])).tolist()
    [[0.0, 0.25], [0.25, 0.0]]
    """
    _, y, names = checked(examples)
    predicted = (
        held_out_scores(key, examples, **options).argmax(1) if predicted is None else predicted
    )
    counts = confusion_counts(y, predicted, len(names))
    rates = counts / counts.sum(1, keepdims=True)
    np.fill_diagonal(rates, 0)
    return symmetrised(rates)
