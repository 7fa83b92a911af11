import jax
import optax

import jaxmeta as jm

model = jm.models.mlp(
    (40, 40), outputs=1
)  # or Model(init, apply) of your own; linen, nnx and equinox adapt modules


def loss(prediction, examples):  # the scalar to learn by, and whatever should be reported
    return ((prediction - examples.y) ** 2).mean(), {}


learner = jm.gradient(model, loss, optax.sgd(0.003), steps=5)  # the low level: any optax optimiser
bilevel, estimator = algorithm = jm.maml(learner)  # the high level: its initialisation
fitted = jm.fit(jax.random.key(0), algorithm, jm.sinusoids(shots=10), optax.adam(3e-3), steps=3000)
task = jm.sinusoids(shots=10)(jax.random.key(1))  # a new task, and what is learned from its support
phi = jm.adapt(jax.random.key(2), bilevel.bias.shape(fitted.theta, task, learner), task)
print(loss(model.apply(phi, task.query.x), task.query))
