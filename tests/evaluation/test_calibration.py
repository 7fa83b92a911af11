"""Calibration: against a net that says its own chances, one that is too sure, and probabilities of
episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta as jm
from jaxmeta.evaluation import calibration
from jaxmeta.experiment import probabilities


def test_who_says_the_true_chances_is_calibrated_and_who_sharpens_them_is_not():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(4), 40_000)
    labels = (rng.random(len(chances))[:, None] > chances.cumsum(1)).sum(1)
    true = calibration(chances, labels)
    assert true.error < 0.015 and abs(true.over) < 0.01
    sharp = chances**3 / (chances**3).sum(1, keepdims=True)
    too_sure = calibration(sharp, labels)
    assert too_sure.error == pytest.approx(too_sure.over, abs=0.01) and too_sure.over > 0.15
    assert too_sure.count.sum() == len(labels)
    filled = too_sure.count > 0
    assert (np.diff(too_sure.confidence[filled]) > 0).all() and np.isnan(
        too_sure.accuracy[~filled]
    ).all()


@pytest.mark.parametrize("inductive", [False, True])
def test_probabilities_of_an_episode_are_the_softmax_of_the_heads_logits(inductive):
    x, y = jnp.asarray([[0.0, 0.0], [2.0, 1.0]]), jnp.arange(2)
    query = jnp.asarray([[0.5, 0.0], [2.0, 2.0], [1.0, 0.4]])
    task = jm.Task(
        jm.Examples(x, y), jm.Examples(query, jnp.asarray([0, 1, 1])), jnp.zeros((), int)
    )
    raw = jm.models.Model(lambda key, x: {}, lambda params, x, reference=None: x)
    outer = jm.tasks.inductive(jm.query_loss) if inductive else jm.query_loss
    found = probabilities(jax.random.key(0), jm.protonet(raw, 2, outer=outer).bilevel, {}, task)
    distances = ((query[:, None] - x[None]) ** 2).sum(-1)
    np.testing.assert_allclose(found, jax.nn.softmax(-distances, axis=1), rtol=1e-9)


@pytest.mark.parametrize(
    "rows, labels, message",
    [
        ([[0.5, 0.5]], [0, 1], "labels \\[n\\], got shapes"),
        ([[2.0, 0.5]], [0], "must sum to one, got 2.5"),
    ],
)
def test_refusals(rows, labels, message):
    with pytest.raises(ValueError, match=message):
        calibration(rows, labels)
