"""Randomness on the host that follows from a key of jax."""

from __future__ import annotations

import jax
import numpy as np


def generator(key) -> np.random.Generator:
    """numpy's generator seeded by the words of a key: for what is drawn outside of programs, such as whole numbers of any size.

    >>> bool(generator(jax.random.key(0)).random() == generator(jax.random.key(0)).random())
    True
    """
    return np.random.default_rng(np.ravel(np.asarray(jax.random.key_data(key))))
