"""What is found where a step is not finite: each cause by a run that has it and no other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import learner, sample, train

import jaxmeta as jm
from jaxmeta.training import NonFinite


def failure(algorithm, sample=sample, **more):
    with pytest.raises(NonFinite) as caught:
        train(None, 4, sample=sample, algorithm=algorithm, validation=None, **more)
    assert caught.value.cause in str(caught.value)
    return caught.value


def with_loss(change, **more):
    """The small problem whose loss is `change(value, phi, batch)`."""
    plain = learner(**more)

    def loss(key, phi, batch):
        value, aux = plain.loss(key, phi, batch)
        return change(value, phi, batch), aux

    return plain._replace(loss=loss)


def low_rank(update):
    """B = 0, so that the gradient of A is exactly zero at first."""

    def loss(key, phi, batch):
        return ((phi["a"] * phi["b"] * batch.x - batch.y) ** 2).mean(), {}

    start = {"a": jnp.ones(()), "b": jnp.zeros(())}
    return jm.Learner(lambda key, task: start, loss, jm.no_penalty, update, 2)


@pytest.mark.parametrize(
    ("update", "leaf"), [(optax.adam(0.1), "a"), (optax.rmsprop(0.1, eps_in_sqrt=False), "a")]
)
def test_a_root_at_zero_is_found_in_the_update(update, leaf):
    found = failure(jm.maml(low_rank(update)))
    assert (
        f"no derivative where the gradient of '{leaf}' is exactly zero" in found.cause
        and found.tasks == [0, 1, 2, 3]
    )


def test_the_cure_cures():
    fitted = train(None, 4, algorithm=jm.maml(low_rank(jm.adam(0.1, eps=1e-3))), metric="loss")
    assert np.isfinite(fitted.theta["a"])


def test_an_adam_that_nobody_differentiates_is_not_blamed():
    assert (
        int(
            train(None, 4, algorithm=jm.fomaml(low_rank(optax.adam(0.1))), metric="loss").state.step
        )
        == 4
    )


def test_divergence_is_found_and_its_numbers_are_told():
    found = failure(jm.maml(learner(rate=1e80, steps=20)))
    assert (
        "learning diverges, the loss on the support going from" in found.cause
        and "inner learning rate" in found.cause
    )


def spoilt(change):
    batches = [
        jax.device_get(jax.vmap(sample)(jax.random.split(jax.random.key(i), 4))) for i in range(4)
    ]
    batches[2] = change(batches[2])
    return batches


@pytest.mark.parametrize(("label", "side"), [(-1, "support"), (3, "query")])
def test_labels_that_are_no_class_are_found(label, side):
    """In the third batch: `fit` looks at the first before it compiles."""
    draw = jm.episodes(jm.pool(np.arange(60.0).reshape(12, 5) / 60, np.arange(12) % 3), 3, 1, 2)
    batches = [
        jax.device_get(jax.vmap(draw)(jax.random.split(jax.random.key(i), 4))) for i in range(4)
    ]
    part = getattr(batches[2], side)
    y = np.array(part.y)
    y[1, 0] = label
    batches[2] = batches[2]._replace(**{side: part._replace(y=y)})
    found = failure(jm.maml(jm.gradient(jm.models.mlp([4], 3))), batches)
    assert (found.step, found.tasks) == (3, [1])
    assert f"labels must be from 0 to 2 for 3 classes, got {label}" in found.cause


def test_a_learner_with_constants_among_its_parameters_is_looked_into():
    def start(key, task):
        return {
            "slope": jnp.full((), 0.5),
            "offset": jnp.zeros(()),
            "count": jnp.array(3),
            "key": key,
        }

    assert (
        "learning diverges"
        in failure(jm.maml(learner(rate=1e80, steps=20)._replace(start=start))).cause
    )


def test_data_that_are_not_finite_are_found_and_named():
    def change(batch):
        x = np.array(batch.support.x)
        x[3, 1] = np.inf
        return batch._replace(support=batch.support._replace(x=x))

    found = failure(jm.maml(learner()), spoilt(change))
    assert (found.step, found.tasks) == (
        3,
        [3],
    ) and "the task's 'support/x' holds NaN or infinity" in found.cause


def test_a_theta_that_begins_as_nan_is_found():
    def start(key, task):
        return {"slope": jnp.full((), jnp.nan), "offset": jnp.zeros(())}

    assert "theta's 'slope' holds NaN" in failure(jm.maml(learner()._replace(start=start))).cause


def test_a_start_that_a_bias_makes_nan_is_found():
    bias = jm.Bilevel(jm.initialisation(), learner()).bias

    def shape(theta, task, learner):
        return bias.shape(jax.tree.map(lambda x: jnp.log(-x * x), theta), task, learner)

    bad = bias._replace(shape=shape)
    assert (
        "phi_0, where learning begins, is not finite"
        in failure(jm.base.Algorithm(jm.base.Bilevel(bad, learner()), jm.unrolled())).cause
    )


def test_a_root_at_zero_is_found_in_the_loss():
    found = failure(
        jm.maml(with_loss(lambda value, phi, batch: value + jnp.sqrt(0 * phi["offset"] ** 2)))
    )
    assert "the loss on the support has a value but no finite derivative in 'offset'" in found.cause


def test_a_loss_that_is_not_finite_at_the_start_is_found():
    found = failure(jm.maml(with_loss(lambda value, phi, batch: value + jnp.log(0 * phi["slope"]))))
    assert "the loss on the support is not finite at phi_0" in found.cause


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x: jnp.log(0 * x), "the outer loss is not finite at the end of learning"),
        (
            lambda x: jnp.sqrt(0 * x),
            "the outer loss has a value but no finite derivative in 'slope'",
        ),
    ],
)
def test_a_root_at_zero_is_found_in_the_outer_loss(function, sentence):
    def outer(key, learner, trajectory, task):
        value, aux = jm.query_loss(key, learner, trajectory, task)
        return value + function(trajectory.end["slope"] ** 2), aux

    assert sentence in failure(jm.maml(learner(), outer=outer)).cause


def test_an_outer_step_that_overflows_is_found():
    with pytest.raises(NonFinite) as caught:
        jm.fit(
            jax.random.key(0),
            jm.maml(learner()),
            sample,
            optax.chain(optax.scale(1e200), optax.scale(1e200)),
            4,
            tasks=4,
        )
    assert "outer optimiser's step is not finite" in caught.value.cause and caught.value.tasks == []
    assert "no task by itself" in str(caught.value)


def test_a_sum_that_overflows_is_found():
    huge = with_loss(
        lambda value, phi, batch: value + 1.5e308 * jax.nn.sigmoid(phi["offset"] + 40), steps=0
    )
    found = failure(jm.maml(huge))
    assert found.tasks == [] and "each task is finite and their sum is not" in found.cause


def test_what_is_not_found_is_said_to_be_not_found():
    """|phi|^(3/2) has a gradient at zero, and no Hessian."""
    odd = with_loss(lambda value, phi, batch: value + jnp.abs(phi["offset"]) ** 1.5)
    assert "the cause was not found" in failure(jm.maml(odd)).cause
