"""Transformers: what a place sees, lengths, tokens, and the plans of memory over blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmeta as jm
from jaxmeta.estimator import each_step, recomputing, saving, segments
from jaxmeta.models import language_model, transformer

SMALL = {"width": 6, "heads": 2}
TOKENS = jax.random.randint(jax.random.key(1), (4, 8), 0, 11)


def made(model, x):
    return model, jax.jit(model.init)(jax.random.key(0), x)


def test_a_language_model_sees_the_past_alone():
    model, params = made(language_model(11, **SMALL), TOKENS)
    logits, changed = (
        jax.jit(model.apply)(params, x) for x in (TOKENS, TOKENS.at[:, 5].add(1) % 11)
    )
    assert logits.shape == (4, 8, 11)
    np.testing.assert_array_equal(logits[:, :5], changed[:, :5])
    assert (jnp.abs(logits - changed)[:, 5:].max((0, 2)) > 0).all()
    np.testing.assert_allclose(model.apply(params, TOKENS[:, :3]), logits[:, :3], atol=1e-5)


def test_a_transformer_knows_the_order_of_tokens_and_sees_all():
    model, params = made(transformer(3, vocabulary=11, **SMALL), TOKENS)
    y = model.apply(params, TOKENS)
    assert y.shape == (4, 3)
    assert jnp.abs(y - model.apply(params, TOKENS[:, ::-1])).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [jax.grad, recomputing])
def test_plans_over_blocks_change_no_derivative(gradient):
    x = jax.random.normal(jax.random.key(2), (5, 4, 3))
    examples = jm.Examples(x, jnp.arange(5) % 3)
    task = jm.Task(examples, jm.Examples(x + 1, examples.y), 0)

    def meta_gradient(remat):
        learner = jm.gradient(
            transformer(3, blocks=4, remat=remat, **SMALL), update=optax.sgd(0.1), steps=2
        )
        bilevel = jm.Bilevel(jm.initialisation(), learner, jm.query_loss)
        theta = jax.tree.map(
            lambda leaf: leaf.astype(float), learner.start(jax.random.key(0), task)
        )
        return jax.jit(
            jax.grad(lambda theta: jm.outcome(jax.random.key(3), bilevel, theta, task, gradient)[0])
        )(theta)

    plain = meta_gradient(jax.lax.scan)
    for remat in (each_step, segments(2), saving("none")):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), meta_gradient(remat), plain
        )


def test_refusals():
    with pytest.raises(
        ValueError, match="heads must divide the width, got 4 heads and a width of 6"
    ):
        transformer(3, width=6)
    with pytest.raises(ValueError, match="blocks must be at least 1, got 0"):
        language_model(3, blocks=0)
    model, params = made(language_model(11, **SMALL), TOKENS)
    with pytest.raises(ValueError, match="sequences of up to 8 places, got 16"):
        model.apply(params, jnp.tile(TOKENS, 2))
    with pytest.raises(
        ValueError, match="tokens must be whole numbers below the vocabulary of 11, got float"
    ):
        model.apply(params, TOKENS.astype(float))
    with pytest.raises(ValueError, match=r"language_model takes a batch \[n, l\]"):
        model.apply(params, TOKENS[..., None])
