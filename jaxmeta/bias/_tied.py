"""Learning in the free parameters of a tying, whose structure the high level may own."""

from __future__ import annotations

import jax

from jaxmeta.base import Bias
from jaxmeta.process import lifted
from jaxmeta.tying import Tying


def tied(tying: Tying) -> Bias:
    r"""The low level learns a tying's free parameters in the place of theta: a learner on theta
    becomes one on phi.

    $$ \phi_0 = init(\theta_0), \qquad loss'(\phi) = loss(T(\phi)), \qquad
       penalty'(\phi, \phi_0) = penalty(T(\phi), T(\phi_0)) + p(\phi) $$

    Nothing is learned across tasks by it. What is, the biases after it say of phi's leaves, and
    this is all there is to learned tying: after `shared(named("structure"))` the high level owns
    the structure (U of `reparameterised`, logits of the soft ones, scales of `relaxed`;
    `named("coefficients")` of `templates`, `named("log_scale")` of `along_tree_learned`), judged by
    the query, and the low level moves the rest, from where `initialisation()` learned that it
    should begin. Without a claim on it the structure would be learned of the support alone, which
    always prefers less tying.

    Args:
      tying: What `tying.init` takes as an example is what the learner's start gives, and what
        `tying.expand` gives is what its loss takes. For a tying within theta these are the same;
        for one between N nodes the loss takes theta `[N, ...]`.

    Returns:
      A `Bias` whose theta is `()`. Biases before it see theta, those after it phi.

    >>> import jax, jax.numpy as jnp, jaxmeta as jm, jaxmeta.tying as jt
    >>> from jaxmeta.bias import tied
    >>> learner = jm.Learner(lambda key, task: {"w": jnp.ones((3, 4))}, None, None, None, 1)
    >>> bias = jm.compose(
    ...     tied(jt.templates(2, 5)), jm.shared(jm.named("coefficients")), jm.initialisation()
    ... )
    >>> _, structure, start = bias.init(jax.random.key(0), jm.Task(None, None), learner)
    >>> structure["coefficients"].shape, start["bank"]["w"].shape
    ((2, 5), (5, 3, 4))

    Reference: Zhou, Knowles and Finn, Meta-learning symmetries by reparameterization, ICLR 2021.
    """

    def init(key, task, learner):
        return ()

    def shape(theta, task, learner):
        def start(key, task):
            key_start, key_tying = jax.random.split(key)
            return tying.init(key_tying, learner.start(key_start, task))

        def penalty(phi, phi_0):
            return learner.penalty(tying.expand(phi), tying.expand(phi_0)) + tying.penalty(phi)

        return lifted(learner, lambda phi, batch: (tying.expand(phi), batch))._replace(
            start=start, penalty=penalty
        )

    return Bias(init, shape)
