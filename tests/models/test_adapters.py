"""Adapters agree with the framework's own apply, and refuse modules with state."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnnx

from jaxmeta import models

X = np.linspace(-1, 1, 12).reshape(3, 4)


def contract(model, params, expected):
    np.testing.assert_allclose(model.apply(params, X), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(model.apply)(params, X), expected, rtol=1e-6)
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    np.testing.assert_allclose(jax.vmap(model.apply, (0, None))(several, X)[1], expected, rtol=1e-6)
    second = jax.grad(
        lambda p: sum(
            jnp.sum(g**2)
            for g in jax.tree.leaves(jax.grad(lambda p: jnp.sum(model.apply(p, X) ** 2))(p))
        )
    )(params)
    assert all(
        bool(jnp.isfinite(leaf).all()) and bool(jnp.any(leaf != 0))
        for leaf in jax.tree.leaves(second)
    )


def test_linen():
    module = nn.Sequential([nn.Dense(5), nn.tanh, nn.Dense(2)])
    model = models.linen(module)
    params = model.init(jax.random.key(0), X)
    contract(model, params, module.apply({"params": params}, X))


def test_linen_hands_the_reference_on():
    class Centre(nn.Module):
        @nn.compact
        def __call__(self, x, reference=None):
            return x if reference is None else x[0] * reference

    model = models.linen(Centre())
    assert model.apply({}, jnp.ones((1, 2)), jnp.asarray([True, False])).tolist() == [1, 0]


def test_equal_linen_modules_are_one_model_and_programs_are_compiled_once():
    class Listed(nn.Module):
        scales: object

        def __call__(self, x):
            return x * self.scales[0]

    assert models.mlp((3,), 2) is models.mlp([3], 2) is not models.mlp((3,), 1)
    assert (
        models.linen(Listed(np.array([2.0]))).apply({}, X).tolist() == (2 * X).tolist()
    )  # not hashable


def test_nnx():
    class Net(fnnx.Module):
        def __init__(self, rngs):
            self.layers = fnnx.List([fnnx.Linear(4, 5, rngs=rngs), fnnx.Linear(5, 2, rngs=rngs)])

        def __call__(self, x):
            return self.layers[1](jnp.tanh(self.layers[0](x)))

    model = models.nnx(Net)
    params = model.init(jax.random.key(3), X)
    assert type(params) is dict
    contract(model, params, Net(fnnx.Rngs(jax.random.key(3)))(X))
    jitted = jax.jit(model.init)(jax.random.key(3), X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), jitted, params)


def test_equinox():
    make = lambda key: eqx.nn.MLP(4, 2, 5, 1, key=key)
    model = models.equinox(make)
    params = model.init(jax.random.key(3), X)
    contract(model, params, jax.vmap(make(jax.random.key(3)))(X))


def test_refuses_state():
    words = "must keep parameters only, got .*normalise by the batch at hand"
    with pytest.raises(ValueError, match="linen module BatchNorm " + words + ""):
        models.linen(nn.BatchNorm(use_running_average=False)).init(jax.random.key(0), X)
    with pytest.raises(ValueError, match="nnx module BatchNorm " + words):
        models.nnx(lambda rngs: fnnx.BatchNorm(4, rngs=rngs))
    with pytest.raises(ValueError, match="nnx module Dropout " + words):
        models.nnx(lambda rngs: fnnx.Dropout(0.5, rngs=rngs))
    with pytest.raises(ValueError, match="equinox module BatchNorm " + words):
        models.equinox(lambda key: eqx.nn.BatchNorm(4, "batch", mode="batch"))
