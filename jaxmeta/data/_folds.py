"""Folds that no group straddles: whole people, or whole stretches of a recording.

Neighbouring windows of a recording share samples and circumstances; with one in training and the
next in the test, a test measures memory (Hammerla and Plötz, Let's (not) stick together: pairwise
similarity biases cross-validation in activity recognition, UbiComp 2015). The folds of a `Dataset`
go by its groups, or its recordings or bouts; who has windows in the order of recording cuts them by
`meta_segments`.

`n` examples, `G` groups, `C` classes, `P` parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Fold(NamedTuple):
    """Indices of examples, sorted: `train`, `validation`, `test`."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def folds(groups, k: int, seed: int = 0, labels=None) -> tuple[Fold, ...]:
    """Returns k folds over whole groups: each example is once in a test, once in a validation and
    else in training.

    The validation of a fold is the test of the next one. Parts are balanced by `assigned`.

    Args:
      groups: [n] integers: who or what an example belongs to; below 0 stands for in no fold.
      k: How many, at least 3.
      seed: Of `numpy.random.default_rng`.
      labels: [n] integers: classes to spread evenly; by default only sizes are evened.

    Raises:
      ValueError: for fewer than 3 folds, fewer groups than folds, or arrays of another form.

    >>> [fold.test.tolist() for fold in folds([7, 7, 4, 4, 9, 9], 3)]
    [[4, 5], [2, 3], [0, 1]]
    """
    if not isinstance(k, (int, np.integer)) or k < 3:
        raise ValueError(
            f"k must be at least 3, a part each for training, validation and test, got {k!r}; give "
            "more folds"
        )
    parts = assigned(groups, np.full(k, 1 / k), seed, labels)
    return tuple(_fold(parts, (part + 1) % k, part) for part in range(k))


def group_split(
    groups, shares: Sequence[float] = (0.6, 0.2, 0.2), seed: int = 0, labels=None
) -> Fold:
    """Returns one split over whole groups.

    Args:
      groups: As for `folds`.
      shares: Of the examples, for training, validation and test; they add up to 1.
      seed: As for `folds`.
      labels: As for `folds`.

    Raises:
      ValueError: as `folds`; for shares that are not three above 0 that add up to 1.

    >>> group_split([0, 0, 0, 1, 2])
    Fold(train=array([0, 1, 2]), validation=array([4]), test=array([3]))
    """
    if len(shares) != 3:
        raise ValueError(
            f"shares must be three, for training, validation and test, got {shares}; give one for "
            "each"
        )
    return _fold(assigned(groups, shares, seed, labels), 1, 2)


def assigned(groups, shares: Sequence[float], seed: int = 0, labels=None) -> np.ndarray:
    """Returns the part of each example, [n] int, -1 where its group is below 0.

    Groups are shuffled, and the largest comes first. Each goes where it most reduces the squared
    error `sum_pc ((n_pc - shares_p n_c) / n_c)^2` of the counts `n_pc` of part and class; none
    stays empty (ours; for equal shares and one class the longest-processing-time rule).

    Args:
      groups: As for `folds`.
      shares: [P], of the examples; they add up to 1.
      seed: As for `folds`.
      labels: As for `folds`.

    Raises:
      ValueError: as `folds` and `group_split`.
    """
    groups, shares = _integers("groups", groups), np.asarray(shares, float)
    if shares.ndim != 1 or not (shares > 0).all() or not np.isclose(shares.sum(), 1):
        raise ValueError(
            f"shares must be above 0 and add up to 1, got {shares.tolist()}; give proportions of "
            "the examples"
        )
    labels = np.zeros(len(groups), int) if labels is None else _integers("labels", labels)
    if labels.shape != groups.shape:
        raise ValueError(
            f"labels must be one an example, {len(groups)}, got {len(labels)}; give those of the "
            "same examples"
        )
    inside = groups >= 0
    names, group = np.unique(groups[inside], return_inverse=True)
    if len(names) < len(shares):
        raise ValueError(
            f"groups must be at least as many as the {len(shares)} parts, got {len(names)}; "
            "ask for fewer parts, or cut recordings by meta_segments"
        )
    classes, label = np.unique(labels[inside], return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group, label), 1)
    total = counts.sum(0)
    wanting = np.outer(shares, total)
    places = np.full(len(names), -1)
    order = np.random.default_rng(seed).permutation(len(names))
    for left, one in zip(
        range(len(names), 0, -1), order[np.argsort(-counts[order].sum(1), kind="stable")]
    ):
        gain = wanting @ (
            counts[one] / total**2
        )  # the group's own square is the same in every part
        empty = ~np.isin(np.arange(len(shares)), places)
        if left == empty.sum():
            gain[~empty] = -np.inf
        places[one] = np.argmax(gain)
        wanting[places[one]] -= counts[one]
    parts = np.full(len(groups), -1)
    parts[inside] = places[group]
    return parts


def meta_segments(recordings, length: int, gap: int = 0) -> np.ndarray:
    """Returns the stretch of each example, [n] int from 0, for use as groups; -1 for those in a
    gap.

    A stretch is `length` examples of one recording, one after another; the last `gap` of them are
    left out where the recording goes on, so that between two stretches lie at least that many.

    Args:
      recordings: [n] integers, of the examples in the order of recording: which recording each
        belongs to.
      length: Of a stretch with its gap, in examples.
      gap: In examples: for windows that overlap by half 1 will do, for circumstances more.

    Raises:
      ValueError: for a length that the gap fills, or recordings that are no integers.

    >>> meta_segments([5, 5, 5, 5, 5, 8, 8], length=3, gap=1).tolist()
    [0, 0, -1, 1, 1, 2, 2]
    """
    recordings = _integers("recordings", recordings)
    if not 0 <= gap < length:
        raise ValueError(
            f"gap must be at least 0 and below length, got {gap} of {length}; give longer stretches"
        )
    n = len(recordings)
    starts = np.r_[True, recordings[1:] != recordings[:-1]][:n]
    run = np.cumsum(starts)
    within = (np.arange(n) - np.flatnonzero(starts)[run - 1]) % length
    following = np.arange(n) - within + length  # where the next stretch would start
    goes_on = (following < n) & (run[np.minimum(following, n - 1)] == run)
    stretches = np.cumsum(within == 0) - 1
    return np.where(goes_on & (within >= length - gap), -1, stretches)


def _fold(parts: np.ndarray, validation: int, test: int) -> Fold:
    chosen = (parts >= 0) & (parts != validation) & (parts != test)
    return Fold(*(np.flatnonzero(where) for where in (chosen, parts == validation, parts == test)))


def _integers(what: str, ids) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not ids.size:
        raise ValueError(
            f"{what} must be integers [n], got {ids.dtype} {list(ids.shape)}; give ids, for "
            "example by np.unique(names, return_inverse=True)"
        )
    return ids.astype(np.int64)
