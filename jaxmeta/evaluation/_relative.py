"""Relative representations, zero-shot stitching, and how equivariant a function is.

Axis letters: `n` examples, `m` anchors, `d` features.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmeta import _index
from jaxmeta._sums import summing_dtype, widened
from jaxmeta.evaluation._similarity import cosines


def relative_representation(
    z: Float[Array, "n d"], anchors: Float[Array, "m d"]
) -> Float[Array, "n m"]:
    r"""Features told by their angles to anchors: `r_j = cos(z, a_j)`, which no orthogonal map or
    scale of the features changes.

    Args:
      z: Features of examples.
      anchors: Features of the anchors by the same net; the anchors are the same examples for every
        net that is compared.

    Raises:
      ValueError: If the two are not `[., d]` with the same d.

    >>> import jax.numpy as jnp
    >>> relative_representation(jnp.array([[2.0, 0.0]]), jnp.eye(2)).tolist()
    [[1.0, 0.0]]

    Paper: Moschella et al., "Relative representations enable zero-shot latent space communication",
    2023.
    """
    z, anchors = jnp.asarray(z), jnp.asarray(anchors)
    if z.ndim != 2 or anchors.ndim != 2 or z.shape[1] != anchors.shape[1]:
        raise ValueError(
            f"features and anchors must be [n, d] and [m, d], got shapes {z.shape} and "
            f"{anchors.shape}; encode both by the same net"
        )
    return cosines(z, anchors)


def stitching(
    decode: Callable, z: Float[Array, "n d"], anchors: Float[Array, "m d"], y: Int[Array, " n"]
) -> Float[Array, ""]:
    """Accuracy of one net's read-out on another net's features, both relative to the same anchors,
    without any training.

    Args:
      decode: `r: [n, m] -> [n, C]`, a read-out trained on relative representations of the first
        net.
      z: Features of the second net.
      anchors: Features of the anchors by the second net.
      y: Labels from 0 to C - 1.

    Returns:
      A share from 0 to 1; nan where the read-out gives nan, and under jit where a label is none of
      the C.

    Raises:
      ValueError: If z, anchors and y do not fit, or for labels that are known and not 0 to C - 1.

    >>> import jax.numpy as jnp
    >>> z = jnp.array([[1.0, 0.2], [0.1, 1.0]])
    >>> float(stitching(lambda r: r, z, jnp.eye(2), jnp.array([0, 1])))
    1.0

    Paper: Moschella et al., "Relative representations enable zero-shot latent space communication",
    2023.
    """
    scores = decode(relative_representation(z, anchors))
    if scores.ndim != 2 or jnp.shape(y) != scores.shape[:1]:
        raise ValueError(
            f"the read-out must give [n, C] for labels [n], got shapes {scores.shape} and "
            f"{jnp.shape(y)}; give one label an example"
        )
    y = jnp.asarray(
        _index.checked("labels", y, scores.shape[1], "number the classes as the read-out does")
    )
    right = (scores.argmax(1) == y).astype(summing_dtype(scores.dtype))
    right = jnp.where(
        jnp.isnan(scores).any(1), jnp.nan, right
    )  # of which an argmax would make a plausible class
    return jnp.mean(_index.or_nan(right, y, scores.shape[1]))


def equivariance_error(
    f: Callable, act_in: Callable, act_out: Callable, x: Float[Array, "n ..."]
) -> Float[Array, ""]:
    r"""How far a function is from commuting with a symmetry: the mean over examples of
    `|g f(x) - f(g x)| / |f(x)|`.

    Args:
      f: A function on batches.
      act_in: The action of one group element on a batch of inputs; for several, map this function
        over them.
      act_out: Its action on a batch of outputs; `lambda y: y` measures invariance.
      x: Inputs. An example of output zero makes the result nan.

    Raises:
      ValueError: If the two routes give outputs of different shapes.

    >>> import jax.numpy as jnp
    >>> roll = lambda x: jnp.roll(x, 1, axis=1)
    >>> x = jnp.array([[3.0, 4.0]])
    >>> (
    ...     float(equivariance_error(jnp.tanh, roll, roll, x)),
    ...     float(equivariance_error(lambda y: y, roll, lambda y: -roll(y), x)),
    ... )
    (0.0, 2.0)
    """
    y = f(x)
    there, back = act_out(y), f(act_in(x))
    if there.shape != back.shape:
        raise ValueError(
            f"acting on outputs must give the shape that acting on inputs gives, got {there.shape} "
            f"and {back.shape}; let both actions be of the same group element"
        )
    there, back, y = widened((there, back, y))
    sizes = [jnp.linalg.norm(each.reshape(len(each), -1), axis=1) for each in (there - back, y)]
    return jnp.mean(sizes[0] / sizes[1])
