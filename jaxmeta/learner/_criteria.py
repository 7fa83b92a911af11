"""What is measured of a prediction: `(prediction, examples) -> (scalar, aux)`."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmeta.base import Examples


def cross_entropy(logits: Float[Array, "n ways"], examples: Examples):
    """Mean of `-log softmax(logits)[y]` over the examples, in nats.

    Returns:
      `(scalar, {"accuracy": scalar})`. Examples marked as reference count in neither.

    Raises:
      ValueError: If the labels are not integers, or logits are not `[n, ways]` for n labels.

    >>> import jax.numpy as jnp
    >>> value, aux = cross_entropy(jnp.zeros((2, 4)), Examples(None, jnp.array([0, 1])))
    >>> round(float(value), 4), float(aux["accuracy"])
    (1.3863, 0.5)
    """
    if not jnp.issubdtype(examples.y.dtype, jnp.integer):
        raise ValueError(f"labels must be integers from 0 to ways - 1, got dtype {examples.y.dtype}; convert them with "
                         "astype(int), or use squared_error for real targets")
    if logits.ndim != 2 or examples.y.shape != logits.shape[:1]:
        raise ValueError(f"cross_entropy needs logits [n, ways] and labels [n], got shapes {logits.shape} and "
                         f"{examples.y.shape}; let the model return one row of logits an example")
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, examples.y)
    hits = (logits.argmax(-1) == examples.y).astype(losses.dtype)
    return _mean(losses, examples), {"accuracy": _mean(hits, examples)}


def squared_error(prediction: Array, examples: Examples):
    """Mean of `(prediction - y)^2` over examples and outputs, in the square of y's unit.

    Raises:
      ValueError: If prediction and targets differ in shape.
    """
    if prediction.shape != examples.y.shape:
        raise ValueError(f"predictions must have the shape of the targets, {examples.y.shape}, got {prediction.shape}; "
                         "change the model's outputs or reshape y")
    errors = (prediction - examples.y) ** 2
    return _mean(errors.reshape(errors.shape[0], -1).mean(-1), examples), {}


def _mean(values, examples):
    if examples.reference is None:
        return values.mean()
    counted = (~examples.reference).astype(values.dtype)
    return (values * counted).sum() / counted.sum()
