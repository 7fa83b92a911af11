"""A theta that a task finds by what its support looks like. Axis letters: `n` examples, `L`
levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmeta._sums import weighted_mean
from jaxmeta.base import Bias, Examples
from jaxmeta.tying import soft_along_tree, soft_ancestors


def features_of(support: Examples) -> Float[Array, "n features"]:
    """What a router sees of a support: its inputs, flattened, and its targets where they are real
    values."""
    parts = [support.x, *([support.y] if jnp.issubdtype(support.y.dtype, jnp.floating) else [])]
    return jnp.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def routed(
    bias: Bias,
    router,
    widths: Sequence[int],
    temperature=1.0,
    spread: float = 0.1,
    embed: Callable[[Examples], Array] = features_of,
) -> Bias:
    r"""A place in a learned tree for every task, new ones too: `soft_along_tree` with routes made
    of the support (HSML).

    $$ a_L = softmax\Big(\tfrac{1}{n t} \sum_i h(x_i, y_i)\Big), \quad a_{l-1} = a_l R_l, \qquad
       \theta_{task} = \delta_{root} + \sum_{l=1}^{L} \sum_j (a_l)_j\, \delta_{lj} $$

    Args:
      bias: Whose theta is the task's.
      router: h, an `(init, apply)` pair, `[n, features] -> [n, n_L]`.
      widths: `(n_1, ..., n_L)`, the nodes of every level below the root.
      temperature, spread: Of the routes, as in `jaxmeta.tying.soft_along_tree`, where it is said
        what breaks their symmetry.
      embed: `(support) -> [n, features]`, what the router sees.

    Returns:
      A `Bias` whose theta is `{"structure": {"router", "routes"}, "delta": [1 + n_1 + ... + n_L,
      ...]}`.

    Raises:
      ValueError: For a router whose outputs are not as many as the deepest level has nodes.

    Reference: Yao et al., Hierarchically structured meta-learning, ICML 2019 (there an
    autoencoder's embedding, distances to learned centres, and a gate on the initialisation in the
    place of sums).
    """
    tying = soft_along_tree(1, widths, temperature=temperature, spread=spread)

    def init(key, task, learner):
        key_bias, key_router, key_tying = jax.random.split(key, 3)
        tied = tying.init(key_tying, bias.init(key_bias, task, learner))
        return {
            "structure": {
                "router": router.init(key_router, embed(task.support)),
                "routes": tied["structure"][:-1],
            },
            "delta": jax.tree.map(lambda leaf: leaf[1:], tied["delta"]),
        }  # a task has no difference of its own

    def shape(theta, task, learner):
        said, counting = (
            router.apply(theta["structure"]["router"], embed(task.support)),
            getattr(task.support, "counting", None),
        )
        logits = (
            jnp.mean(said, axis=0, keepdims=True)
            if counting is None
            else jax.vmap(weighted_mean, (1, None))(said, counting)[None]
        )
        if logits.shape != (1, widths[-1]):
            raise ValueError(
                f"the router must give {widths[-1]} numbers an example, one a node of the deepest "
                f"level, got shape {logits.shape}; make it [n, features] -> [n, {widths[-1]}]"
            )
        above = soft_ancestors([*theta["structure"]["routes"], logits], temperature)[:-1]
        path = jnp.concatenate(above, axis=1)[0]
        own = jax.tree.map(
            lambda leaf: jnp.tensordot(path.astype(leaf.dtype), leaf, 1), theta["delta"]
        )
        return bias.shape(own, task, learner)

    return Bias(init, shape)
