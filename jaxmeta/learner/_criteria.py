"""What is measured of a prediction: `(prediction, examples) -> (scalar, aux)`."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jaxmeta import _check
from jaxmeta._sums import weighted_mean
from jaxmeta.base import Examples


def cross_entropy(logits: Float[Array, "n ways"], examples: Examples):
    """Mean of `-log softmax(logits)[y]` over the examples by their weights, in nats; 0 where all
    weights are 0.

    Returns:
      `(scalar, {"accuracy": scalar, "values": [n]})`, the values being those of the examples.
      Examples marked as reference count in neither mean. Under jit a label that is no class makes
      both NaN, unless its example counts nothing.

    Raises:
      ValueError: If the labels are not integers, or not below ways where they are known, or logits
        are not `[n, ways]` for n labels.

    >>> import jax.numpy as jnp
    >>> value, aux = cross_entropy(jnp.zeros((2, 4)), Examples(None, jnp.array([0, 1])))
    >>> round(float(value), 4), float(aux["accuracy"])
    (1.3863, 0.5)
    """
    if not jnp.issubdtype(examples.y.dtype, jnp.integer):
        raise ValueError(
            f"labels must be integers from 0 to ways - 1, got dtype {examples.y.dtype}; convert "
            "them with astype(int), or use squared_error for real targets"
        )
    if logits.ndim != 2 or examples.y.shape != logits.shape[:1]:
        raise ValueError(
            f"cross_entropy needs logits [n, ways] and labels [n], got shapes {logits.shape} and "
            f"{examples.y.shape}; let the model return one row of logits an example"
        )
    counting = examples.counting
    known = classes(examples, logits.shape[1])
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(known, examples.y, 0)
    )
    sound = jnp.where(known if counting is None else known | (counting == 0), 1, jnp.nan).astype(
        losses.dtype
    )
    losses = (
        losses * sound
    )  # a factor, so that derivatives are NaN too: an inner step must not go on without the example
    hits = jnp.where(logits.argmax(-1) == examples.y, sound, 0 * sound)
    return weighted_mean(losses, counting), {
        "accuracy": weighted_mean(hits, counting),
        "values": losses,
    }


def classes(examples: Examples, ways: int) -> Bool[Array, " n"]:
    """Which labels are a class of 0 to ways - 1. Where labels are known, one that is not and counts
    is refused; where weights are known, so are those below 0."""
    _check.weights("weights of examples", examples.weight)
    _check.labels(examples.y, ways, examples.counting)
    return (examples.y >= 0) & (examples.y < ways)


def squared_error(prediction: Array, examples: Examples):
    """Mean of `(prediction - y)^2` over outputs, and over examples by their weights, in the square
    of y's unit.

    Returns:
      `(scalar, {"values": [n]})`, the values being those of the examples.

    Raises:
      ValueError: If prediction and targets differ in shape.
    """
    if prediction.shape != examples.y.shape:
        raise ValueError(
            f"predictions must have the shape of the targets, {examples.y.shape}, got "
            f"{prediction.shape}; change the model's outputs or reshape y"
        )
    _check.weights("weights of examples", examples.weight)
    errors = (prediction - examples.y) ** 2
    values = errors.reshape(errors.shape[0], -1).mean(-1)
    return weighted_mean(values, examples.counting), {"values": values}
