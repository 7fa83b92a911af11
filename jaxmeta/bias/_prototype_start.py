"""A linear head that begins where prototypes are."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxmeta.base import Bias
from jaxmeta.bias._representation import embed
from jaxmeta.learner.closed_form import class_sums


def prototype_head(encoder, head: str = "head") -> Bias:
    r"""The head starts as the nearest-prototype classifier of the features that learning starts
    with (ProtoMAML).

    $$ w_k = 2 c_k, \quad b_k = -|c_k|^2, \qquad c_k = \mathrm{mean}_{i: y_i = k} f_{\phi_0}(x_i) $$

    A class without support begins at the origin's prototype, logit 0: its weights move as those of
    any class do.

    Args:
      encoder: f, the learner's model without its head: `jaxmeta.models.conv4(None)` for
        `conv4(ways)`; its parameters are those of the learner without `head`.
      head: The name of the leaf of phi that holds `{"kernel": [D, ways], "bias": [ways]}`.

    Returns:
      A `Bias` whose theta is `()`. Put it after `initialisation(excluding(head))`: what the body
      starts as is differentiated through the prototypes too.

    Raises:
      ValueError: While tracing, for a learner without such a head.

    Reference: Triantafillou et al., Meta-dataset, ICLR 2020.
    """

    def shape(theta, task, learner):
        def start(key, task):
            phi = learner.start(key, task)
            if not (isinstance(phi, dict) and set(phi.get(head, ())) == {"kernel", "bias"}):
                raise ValueError(
                    f"prototype_head needs a learner whose phi has a linear head at {head!r}, got "
                    f"{jax.tree.structure(phi)}; name the head, a dict of kernel and bias"
                )
            body = {name: part for name, part in phi.items() if name != head}
            sums, counts = class_sums(embed(encoder, body, task.support), phi[head]["bias"].size)
            means = sums / jnp.where(counts == 0, 1, counts)[:, None]
            return phi | {head: {"kernel": 2 * means.T, "bias": -(means**2).sum(1)}}

        return learner._replace(start=start)

    return Bias(lambda key, task, learner: (), shape)
