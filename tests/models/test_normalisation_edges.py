"""Where models end: statistics of no example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.models import batch_norm


def test_statistics_of_no_example_are_refused_or_nan():
    norm, x = batch_norm(), jnp.arange(6.0).reshape(3, 2)
    params = norm.init(jax.random.key(0), x)
    none = np.zeros(3, bool)
    for known in (none, jnp.asarray(none)):
        with pytest.raises(ValueError, match="normalisation needs an example at least to look at"):
            norm.apply(params, x, known)
    assert np.isnan(jax.jit(norm.apply)(params, x, none)).all()
