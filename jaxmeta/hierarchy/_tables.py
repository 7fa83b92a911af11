"""Examples as node models take them: moments of those trained on, padded classes of those scored.

`C` classes, `n` examples of a class and tile, `d` features.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta._sums import summing_dtype
from jaxmeta.hierarchy._nodes import Moments, moments


def class_moments(train, concepts=None) -> tuple[Moments, tuple]:
    """The moments of training examples, and the classes; refuses as `node_scores` says."""
    x, y = checked("train", *train)
    names = np.unique(y) if concepts is None else np.array(sorted(concepts))
    _same_classes("train", names, y)
    if len(names) < 2:
        raise ValueError(
            f"a hierarchy needs at least two classes, got {names.tolist()}; give examples of "
            "another"
        )
    return _moments(x, (names[:, None] == y).astype(x.dtype)), tuple(names.tolist())


def tables(train, validation, concepts=None, tile: int = 128):
    """Moments of the training examples; validation examples `[C, tiles, n, d]` with weights 0 or 1;
    the classes."""
    fit_on, names = class_moments(train, concepts)
    x, y = checked("validation", *validation)
    size = fit_on.means.shape[1]
    if x.shape[1] != size:
        raise ValueError(
            f"validation must have the {size} features of train, got {x.shape[1]}; give both the "
            "same"
        )
    _same_classes("validation", np.array(names), y)
    x = x.astype(fit_on.means.dtype)
    counts = [int((y == name).sum()) for name in names]
    tile = min(tile, max(counts))
    tiles = -(-max(counts) // tile)
    rows = np.zeros((len(names), tiles * tile, size), x.dtype)
    weight = np.zeros((len(names), tiles * tile), x.dtype)
    for place, (name, count) in enumerate(zip(names, counts)):
        rows[place, :count], weight[place, :count] = x[y == name], 1
    shape = (len(names), tiles, tile)
    return (
        fit_on,
        jnp.asarray(rows.reshape(*shape, size)),
        jnp.asarray(weight.reshape(shape)),
        names,
    )


_moments = jax.jit(moments)


def _same_classes(name, names, there):
    lacking, foreign = np.setdiff1d(names, there).tolist(), np.setdiff1d(there, names).tolist()
    if lacking:
        raise ValueError(
            f"{name} must hold examples of every class, got none of {lacking}; add some or leave "
            "these out"
        )
    if foreign:
        raise ValueError(
            f"{name} must hold no class besides {names.tolist()}, got {foreign}; leave these out "
            "or train on them"
        )


def checked(name, features, labels):
    """Features `[n, d]` in float32 at least, and labels `[n]`; refuses others, and what is not
    finite."""
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name} must be features [n, d] and labels [n], got {features.shape} and "
            f"{labels.shape}; flatten the features"
        )
    kind = summing_dtype(features.dtype) if jnp.issubdtype(features.dtype, jnp.floating) else float
    features = features.astype(jax.dtypes.canonicalize_dtype(kind))
    bad = np.argwhere(~np.isfinite(features))
    if bad.size:
        raise ValueError(
            f"{name} must be finite, got {features[tuple(bad[0])]} at example {bad[0, 0]}, feature "
            f"{bad[0, 1]}; leave the example out or fill it in"
        )
    return features, labels
