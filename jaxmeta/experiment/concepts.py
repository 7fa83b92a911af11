"""The concepts of a data set: features, and draws of few examples.

`n` examples, `d` features, `C` classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxmeta import hierarchy as jh
from jaxmeta.base import Examples
from jaxmeta.data import Dataset, folds as people_folds

PARTS, TEST = (1, 2, 3), 1200  # folds of the training examples; most examples of a test


class Folded(NamedTuple):
    """Training examples, scaled: x `[n, d]`, y `[n]` from 0 to C-1, fold `[n]` in 1, 2, 3 of the
    inner cross-validation."""

    x: Float[np.ndarray, "n d"]
    y: Int[np.ndarray, " n"]
    fold: Int[np.ndarray, " n"]

    def examples(self, where=slice(None)) -> Examples:
        """Those of some rows, or all."""
        return Examples(self.x[where], self.y[where])


def only(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """A data set of some of its classes, in the order in which it has them.

    Raises:
      ValueError: for a name that is no class.
    """
    for name in names:
        if name not in dataset.class_names:
            close = difflib.get_close_matches(name, dataset.class_names, 1)
            meant = (
                f"; did you mean {close[0]!r}?"
                if close
                else f"; it has {', '.join(dataset.class_names[:20])}"
            )
            raise ValueError(f"'{dataset.name}' has no class {name!r}{meant}")
    kept = np.flatnonzero(np.isin(dataset.class_names, list(names)))
    rows = np.flatnonzero(np.isin(dataset.labels, kept))
    splits = (
        dataset.splits if dataset.by == "group" else {"all": np.arange(len(kept), dtype=np.int32)}
    )
    return dataset.taken(
        rows,
        labels=np.searchsorted(kept, dataset.labels[rows]).astype(np.int32),
        splits=splits,
        class_names=tuple(dataset.class_names[each] for each in kept),
    )


def features(dataset: Dataset) -> Float[np.ndarray, "n d"]:
    """Of a window each channel's mean, deviation, least, greatest, mean change and log energy in 8
    bands; of an image its pixels, of more than 10,000 images 50 principal components of the pixels
    (of all images, without labels)."""
    x = dataset.inputs.astype(np.float32)
    if dataset.inputs.dtype == np.uint8:
        x = x.reshape(len(x), -1) / 255
        if dataset.name == "digits":  # as scikit-learn has them, 8x8
            x = (
                x.reshape(-1, 28, 28)[:, 2:26, 2:26]
                .reshape(-1, 8, 3, 8, 3)
                .mean((2, 4))
                .reshape(len(x), -1)
            )
        if len(x) > 10_000:
            _, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
            x = x @ vectors[:, -50:].astype(np.float32)
        return x
    spectrum = np.abs(np.fft.rfft(x - x.mean(1, keepdims=True), axis=1))[:, 1:] ** 2
    spectrum = spectrum[:, : spectrum.shape[1] // 8 * 8]
    bands = np.log(spectrum.reshape(len(x), 8, -1, x.shape[2]).mean(2) + 1e-3).reshape(len(x), -1)
    return np.concatenate(
        [x.mean(1), x.std(1), x.min(1), x.max(1), np.abs(np.diff(x, axis=1)).mean(1), bands], 1
    )


def drawn(
    dataset: Dataset, x: Float[np.ndarray, "n d"], shots: int, seed: int
) -> tuple[Folded, Examples]:
    """Training examples of three folds, and test examples, scaled by the training examples.

    Where a split separates people, parts are people: one part in four is the test, the others the
    folds.

    Args:
      dataset: Whose labels and groups.
      x: Its features.
      shots: Training examples of each class, a third from each fold; fewer where there are fewer.
      seed: Of `numpy.random.default_rng`.
    """
    rng, y = np.random.default_rng(seed), dataset.labels
    if dataset.by == "group":
        parts = np.zeros(len(y), int)
        for part, fold in enumerate(people_folds(dataset.groups, 4, seed, y)):
            parts[fold.test] = part
    else:
        parts = rng.integers(0, 4, len(y))
        if len(np.unique(parts * len(dataset.class_names) + y)) < 4 * len(
            dataset.class_names
        ):  # some class lacks a part
            parts = jh.stratified_folds(y, 4, seed)
    rows = []
    for part in PARTS:
        for label in range(len(dataset.class_names)):
            there = rng.permutation(np.flatnonzero((parts == part) & (y == label)))
            rows.append(there[: (shots + part - 1) // 3])
    rows = np.concatenate(rows)
    test = rng.permutation(np.flatnonzero(parts == 0))[:TEST]
    mean, deviation = x[rows].mean(0), x[rows].std(0) + 1e-6
    return (
        Folded((x[rows] - mean) / deviation, y[rows], parts[rows]),
        Examples((x[test] - mean) / deviation, y[test]),
    )
