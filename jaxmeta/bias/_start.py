"""Where low-level learning begins."""

from __future__ import annotations

import jax

from jaxmeta import _check
from jaxmeta._pytree import Where, claim, everything, merge, take
from jaxmeta.base import Bias
from jaxmeta.process import started


def initialisation(where: Where = everything) -> Bias:
    """The high level sets where the claimed leaves start, the low level moves them (MAML).

    `phi_0 = theta` on the leaves that `where` means; the others start as the learner has it.

    Args:
      where: Which leaves of phi are claimed, by path.

    Returns:
      A `Bias` whose theta is phi with None for unclaimed leaves.

    Raises:
      ValueError: If theta's leaves are not those of the learner's parameters, or `where` means none
        of them.

    >>> import jax, jaxmeta as jm
    >>> learner = jm.Learner(
    ...     lambda key, task: {"w": jax.numpy.ones(2), "b": jax.numpy.zeros(())},
    ...     None,
    ...     None,
    ...     None,
    ...     1,
    ... )
    >>> bias = jm.initialisation(jm.named("w"))
    >>> theta = bias.init(jax.random.key(0), None, learner)
    >>> theta["w"].shape, theta["b"] is None
    ((2,), True)

    Reference: Finn, Abbeel and Levine, Model-agnostic meta-learning, ICML 2017.
    """

    def init(key, task, learner):
        return claim(started(key, learner, task), where)

    def shape(theta, task, learner):
        check_claim(theta, learner, task, where)

        def start(key, task):
            return merge(theta, learner.start(key, task))

        return learner._replace(start=start)

    return Bias(init, shape)


def check_claim(theta, learner, task, where: Where) -> None:
    """Refuses a theta whose leaves are not those that `where` means of the learner's parameters."""
    phi = jax.eval_shape(lambda task: started(jax.random.key(0), learner, task), task)
    _check.same_structure(
        "theta", take(phi, where), theta, "make theta with bias.init of the same bias and learner"
    )
