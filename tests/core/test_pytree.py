"""Leaves taken by name and put back; tasks mapped in chunks of any size."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings, strategies as st

import jaxmeta as jm
from jaxmeta._pytree import leave, merge, paths, take

NAMES = st.sampled_from(["body", "head", "kernel", "bias", "norm1"])
TREES = st.recursive(
    st.integers(0, 9),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(TREES, st.sets(NAMES))
def test_what_is_taken_and_what_is_left_make_the_whole(tree, names):
    where = jm.named(*names)
    taken, left = take(tree, where), leave(tree, where)
    assert merge(taken, left) == merge(left, taken) == tree
    assert sorted(paths(taken) + paths(left)) == sorted(paths(tree))
    assert all(where(path) for path in paths(taken)) and not any(
        where(path) for path in paths(left)
    )
    assert take(tree, jm.excluding(*names)) == left


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(1, 15))
def test_chunks_of_any_size_are_a_loop(tasks, chunk):
    values = np.arange(1.0, tasks + 1)
    mean, each = jm.over_tasks(chunk)(
        lambda theta, x: (theta * x, x**2), jnp.asarray(3.0), jnp.asarray(values)
    )
    np.testing.assert_allclose(mean, 3 * values.mean())
    np.testing.assert_allclose(each, values**2)
