"""Adapting in a latent space of few dimensions.

Axis letters: `S` support examples, `W` ways, `D` features, `Z` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta._sums import weighted_mean
from jaxmeta.base import Bias
from jaxmeta.bias._representation import embed, embedder
from jaxmeta.learner.closed_form import class_sums
from jaxmeta.models import Model
from jaxmeta.process import lifted


def mean_code(
    key, mean: Float[Array, "W Z"], deviation: Float[Array, "W Z"]
) -> Float[Array, "W Z"]:
    """The mean of a class's codes, for evaluation."""
    return mean


def drawn_code(
    key, mean: Float[Array, "W Z"], deviation: Float[Array, "W Z"]
) -> Float[Array, "W Z"]:
    """One of a class's codes, drawn by the start's key, for training."""
    return mean + deviation * jax.random.normal(key, mean.shape, mean.dtype)


def latent(
    encoder: Model,
    relation: Model,
    decoder: Callable[[int], Model],
    ways: int,
    divergence: float = 1e-3,
    drift: float = 1e-9,
    code: Callable = mean_code,
) -> Bias:
    r"""Every class has a latent code where its examples say, which adapts and is decoded to the
    class's weights (LEO).

    $$ z_w \sim N(\mu_w, \mathrm{diag}\,\sigma_w^2), \qquad
       (\mu_w, s_w) = \mathrm{mean}_{i: y_i = w,\, j}\; g([f(x_i), f(x_j)]), \quad
       \sigma_w = \max(e^{s_w} - 1, 10^{-10}) $$
    $$ \phi_0 = (z, 0), \qquad loss'((z, \delta), batch) = loss(h(z) + \delta, f(batch)) $$
    $$ penalty'((z', \delta), (z, 0)) = penalty(h(z') + \delta, h(z))
       + \beta\, KL(N(\mu, \sigma^2) \,\|\, N(0, 1)) + \gamma\, |\mathrm{stop}(z') - z|^2 $$

    beta's and gamma's terms are means over classes and dimensions. They have no derivative in phi,
    so that they leave inner learning as it is; `jaxmeta.objective.regularised` adds them to what
    the high level descends. Both look at the support as the task has it, whatever a step sees of
    it. delta is what fine-tuning of the weights themselves adds. sigma is the authors' code's, near
    0 at first where g's outputs are.

    Differently from the paper: f, there pretrained and fixed, is trained with the rest; the linear
    map before g and its dropout are left to g; weights are h's and not drawn, so that h has no
    variance; the divergence is exact, there that of the one code drawn; the decoder is not drawn to
    orthogonality, nets have no L2 penalty, and gradients are not clipped at 0.1.

    Args:
      encoder: f, `[n, ...] -> [n, D]`.
      relation: g, `[n, 2 D] -> [n, 2 Z]`, mu and s.
      decoder: Makes h, `[n, Z] -> [n, D]`, given D: `lambda outputs: mlp((), outputs)`. It decodes
        each class for itself, so that theta serves any number of ways.
      ways: W, number of classes in a task.
      divergence: beta, at least 0.
      drift: gamma, at least 0: how much the relation net is to give at once what the inner steps
        find.
      code: `(key, mu, sigma) -> z`: `mean_code`, or `drawn_code`, which is for training alone.

    Returns:
      A `Bias` for a learner on features whose phi is `[W, D]`, such as `jaxmeta.learner.linear`.
      Its theta is `{"encoder", "relation", "decoder"}`, phi `{"latent": [W, Z], "offset": [W, D]}`.

    Raises:
      ValueError: At init, where the relation net gives an odd number of outputs.

    Reference: Rusu et al., Meta-learning with latent embedding optimization, ICLR 2019.
    """
    _check.whole_number("ways", ways, least=1)
    _check.number("divergence", divergence, least=0)
    _check.number("drift", drift, least=0)

    def moments(theta, support):
        related = relation.apply(theta["relation"], _pairs(support.x))
        related = related.reshape(len(support.x), len(support.x), -1)
        counting = support.counting
        of_each = (
            related.mean(1)
            if counting is None
            else jax.vmap(jax.vmap(weighted_mean, (1, None)), (0, None))(related, counting)
        )
        sums, counts = class_sums(support._replace(x=of_each), ways)
        mean, s = jnp.split(sums / jnp.where(counts == 0, 1, counts)[:, None], 2, axis=1)
        return mean, jnp.maximum(jnp.expm1(s), max(1e-10, float(jnp.finfo(s.dtype).tiny)))

    def init(key, task, learner):
        keys = jax.random.split(key, 3)
        theta = {"encoder": encoder.init(keys[0], task.support.x)}
        x = embed(encoder, theta["encoder"], task.support).x
        theta |= {"relation": relation.init(keys[1], _pairs(x))}
        codes = relation.apply(theta["relation"], _pairs(x))
        if codes.shape[1] % 2:
            raise ValueError(
                "the relation net must give an even number of outputs, means and what deviations "
                f"are made of, got {codes.shape[1]}; give it twice the latent dimensions"
            )
        return theta | {
            "decoder": decoder(x.shape[1]).init(keys[2], codes[:, : codes.shape[1] // 2])
        }

    def shape(theta, task, learner):
        embedded = embedder(encoder, theta["encoder"], task)
        features = embedded(task.support).x
        net = decoder(features.shape[1])

        def decoded(phi):
            return net.apply(theta["decoder"], phi["latent"]) + phi["offset"]

        def start(key, task):
            codes = code(key, *moments(theta, embedded(task.support)))
            return {"latent": codes, "offset": jnp.zeros((ways, features.shape[1]), codes.dtype)}

        def penalty(phi, phi_0):
            mean, deviation = moments(theta, embedded(task.support))
            from_normal = jnp.mean(mean**2 + deviation**2 - 1 - 2 * jnp.log(deviation)) / 2
            moved = jnp.mean((jax.lax.stop_gradient(phi["latent"]) - phi_0["latent"]) ** 2)
            return (
                learner.penalty(decoded(phi), decoded(phi_0))
                + divergence * from_normal
                + drift * moved
            )

        return lifted(learner, lambda phi, batch: (decoded(phi), embedded(batch)))._replace(
            start=start, penalty=penalty
        )

    return Bias(init, shape)


def _pairs(x):
    """Of `[S, D]` all ordered pairs, `[S * S, 2 D]`, the first running slower."""
    return jnp.concatenate([jnp.repeat(x, len(x), axis=0), jnp.tile(x, (len(x), 1))], axis=1)
