"""A bias of its own for every node of a hierarchy, through a tying."""

from __future__ import annotations

import jax

from jaxmeta.base import Bias
from jaxmeta.tying import Tying, at_node


def hierarchical(bias: Bias, tying: Tying) -> Bias:
    r"""Every node has its theta, and nodes share as the tying says: $\theta = T(\phi)_{task.node}$.

    `shape(phi, task, learner) = bias.shape(T(phi)[task.node], task, learner)`. What the tying
    prefers is a term in phi, not in any task's outcome:
    `jaxmeta.estimator.penalised(estimator, tying.penalty)` adds it to the outer loss and its
    derivative, exactly, whatever the estimator.

    Args:
      bias: Whose theta is the node's.
      tying: Between the nodes that `task.node` counts, as `jaxmeta.tying.along_tree(tree)`.

    Returns:
      A `Bias` whose theta is the tying's phi. A task expands its own node alone, where the tying
      can.

    Raises:
      ValueError: For a task's node that the tying does not have, where its value is known: that of
        the example at `init`, and of tasks outside jit. Inside, such a task has NaN for all that
        depends on its node (`jaxmeta.tying.at_node`).

    >>> import jax, jaxmeta as jm, jaxmeta.tying as jt
    >>> from jaxmeta.hierarchy import Tree
    >>> learner = jm.Learner(lambda key, task: jax.numpy.ones(2), None, None, None, 1)
    >>> bias = hierarchical(jm.initialisation(), jt.along_tree(Tree.star(3)))
    >>> bias.init(jax.random.key(0), jm.Task(None, None), learner).shape
    (4, 2)
    """

    def init(key, task, learner):
        key_bias, key_tying = jax.random.split(key)
        phi = tying.init(key_tying, bias.init(key_bias, task, learner))
        jax.eval_shape(
            lambda phi: at_node(tying, phi, task.node), phi
        )  # computes nothing; refuses a node that is not there
        return phi

    def shape(phi, task, learner):
        return bias.shape(at_node(tying, phi, task.node), task, learner)

    return Bias(init, shape)
