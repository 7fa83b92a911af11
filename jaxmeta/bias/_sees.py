"""What a step sees of the support."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta import _check
from jaxmeta.base import Bias
from jaxmeta.process import seeing


def seen(see: Callable, init: Callable = lambda key, task, learner: ()) -> Bias:
    r"""The high level says what each inner step sees:
    $\phi_{k+1} = \phi_k + u(\nabla L(\phi_k, s_\theta(support, k)))$.

    Weights of examples, corrected labels, distilled data and learned augmentation are this bias,
    each with a theta of its own. The query is judged as it is. What earlier biases show of the
    support is what this one is given.

    Args:
      see: `(theta, key, support, step) -> batch`. The start sees step 0, and the end of learning,
        where an estimator or an objective looks back at the support, the step after the last.
      init: `(key, task, learner) -> theta`.

    Returns:
      A `Bias`.

    A support whose examples are weighted, the weights being learned:

    >>> import jax, jax.numpy as jnp, jaxmeta as jm
    >>> weighted = jm.seen(
    ...     lambda theta, key, support, step: support._replace(weight=jax.nn.sigmoid(theta)),
    ...     lambda key, task, learner: jnp.zeros(len(task.support.y)),
    ... )
    >>> algorithm = jm.maml(jm.gradient(jm.models.mlp([8], 2)))
    >>> bilevel = algorithm.bilevel._replace(bias=jm.compose(weighted, algorithm.bilevel.bias))

    References: Ren et al., Learning to reweight examples for robust deep learning, ICML 2018; Wang
    et al., Dataset distillation, 2018.
    """

    def shape(theta, task, learner):
        return seeing(learner, lambda key, support, step: see(theta, key, support, step))

    return Bias(init, shape)


def minibatches(size: int) -> Bias:
    """Every inner step sees a part of the support, drawn anew without replacement. So do a start
    and an end that look at it. Examples of weight 0 are drawn only where there are too few others.

    Args:
      size: Examples in a part, at least 1 and at most those of the support.

    Returns:
      A `Bias` whose theta is `()`.

    Raises:
      ValueError: While tracing, for more examples than the support has.

    >>> import jax, jax.numpy as jnp, jaxmeta as jm
    >>> learner = jm.minibatches(2).shape((), None, jm.gradient(jm.models.mlp([8], 2)))
    >>> support = jm.Examples(jnp.arange(6.0)[:, None], jnp.arange(6) % 2)
    >>> learner.sees(jax.random.key(0), support, 1).x.shape
    (2, 1)
    """
    _check.whole_number("size", size, least=1)

    def see(theta, key, support, step):
        count = jax.tree.leaves(support)[0].shape[0]
        if size > count:
            raise ValueError(
                f"a part of the support must be at most its {count} examples, got {size}; take "
                "fewer"
            )
        weight = getattr(support, "weight", None)
        if weight is None:
            rows = jax.random.permutation(key, count)[:size]
        else:  # padding comes last, where the others are fewer than a part
            rows = jnp.argsort(jnp.where(weight == 0, 1.0, jax.random.uniform(key, (count,))))[
                :size
            ]
        return jax.tree.map(lambda leaf: leaf[rows], support)

    return seen(see)


def batch_by_step() -> Bias:
    """Step k sees batch k of a support `[K, ...]`, stacked batches as a data loader gives them;
    start and end see the first and the last, learning for longer goes on with the last.

    Returns:
      A `Bias` whose theta is `()`. Put it first. Biases that look at the support as a whole when
      they shape (`representation`, `routed`, `latent`) are not for stacked batches.

    >>> import jax, jax.numpy as jnp, optax, jaxmeta as jm
    >>> learner = jm.Learner(
    ...     lambda key, task: jnp.zeros(()),
    ...     lambda key, phi, b: ((phi - b) ** 2 / 2, {}),
    ...     jm.no_penalty,
    ...     optax.sgd(1.0),
    ...     steps=3,
    ... )
    >>> task = jm.Task(support=jnp.array([1.0, 2.0, 5.0]), query=None)
    >>> jm.trajectory(
    ...     jax.random.key(0), jm.batch_by_step().shape((), task, learner), task
    ... ).path.tolist()
    [1.0, 2.0, 5.0]
    """

    def see(theta, key, support, step):
        return jax.tree.map(lambda leaf: leaf[jnp.minimum(step, len(leaf) - 1)], support)

    return seen(see)
