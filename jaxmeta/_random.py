"""Keys on the host: the numbers that they are made of, and randomness that follows from them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def generator(key) -> np.random.Generator:
    """numpy's generator seeded by the words of a key: for what is drawn outside of programs, such
    as whole numbers of any size.

    >>> bool(generator(jax.random.key(0)).random() == generator(jax.random.key(0)).random())
    True
    """
    return np.random.default_rng(np.ravel(np.asarray(jax.random.key_data(key))))


def words(leaf):
    """A key as the numbers that it is made of, which files and numpy can hold; any other leaf as it
    is."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def of_words(numbers, like):
    """The leaf that `words` made these numbers of, being of the dtype of another, whose shape is
    enough."""
    return (
        jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(jnp.empty((), like.dtype)))
        if _is_key(like)
        else numbers
    )


def _is_key(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
