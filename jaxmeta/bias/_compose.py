"""Several biases as one."""

from __future__ import annotations

import jax
from jaxtyping import PyTree

from jaxmeta.base import Bias


def compose(*biases: Bias) -> Bias:
    """Biases one after the other: `shape(theta, task, .) = shape_n(theta_n, task, .) o ... o
    shape_1(theta_1, task, .)`.

    A later bias sees the learner as the earlier ones made it: after `shared(body)`,
    `initialisation()` claims the head.

    Args:
      biases: At least one.

    Returns:
      A `Bias` whose theta is the tuple of theirs.
    """
    if not biases:
        raise ValueError(
            "compose needs at least one bias, got none; give for example initialisation()"
        )

    def init(key, task, learner):
        thetas = []
        for bias, own in zip(biases, jax.random.split(key, len(biases))):
            theta = bias.init(own, task, learner)
            learner = bias.shape(theta, task, learner)
            thetas.append(theta)
        return tuple(thetas)

    def shape(theta, task, learner):
        if not isinstance(theta, tuple) or len(theta) != len(biases):
            raise ValueError(
                f"theta of {len(biases)} composed biases must be a tuple of {len(biases)}, got "
                f"{type(theta).__name__}; make theta with bias.init of the same bias"
            )
        for bias, part in zip(biases, theta):
            learner = bias.shape(part, task, learner)
        return learner

    return Bias(init, shape)


def fixed(bias: Bias, theta: PyTree = None) -> Bias:
    """The bias at one theta, which is not learned: its own theta is `()`.

    With parameters that one has, from an earlier run or somebody else's weights,
    `fixed(initialisation(), phi)` begins at them and `fixed(shared(where), take(phi, where))`
    freezes the leaves that `where` means: nobody moves them, and biases after it do not see them.
    Learning goes on from an adapted phi when more examples come:

    >>> import jax, optax, jaxmeta as jm
    >>> learner = jm.Learner(
    ...     lambda key, task: 0.0,
    ...     lambda key, phi, b: ((phi - b) ** 2, {}),
    ...     jm.no_penalty,
    ...     optax.sgd(0.25),
    ...     2,
    ... )
    >>> key, first, more = jax.random.key(0), jm.Task(1.0, None), jm.Task(3.0, None)
    >>> phi = jm.adapt(key, learner, first)
    >>> on = jm.fixed(jm.initialisation(), phi).shape((), more, learner)
    >>> float(phi), float(jm.adapt(key, on, more))
    (0.75, 2.4375)

    Args:
      bias: Any.
      theta: Its theta; None for the initial one of a bias whose init draws nothing.

    Returns:
      A `Bias` whose theta is `()`.
    """

    def init(key, task, learner):
        return ()

    def shape(_, task, learner):
        kept = bias.init(jax.random.key(0), task, learner) if theta is None else theta
        return bias.shape(kept, task, learner)

    return Bias(init, shape)
