"""A head that compares places with places: what a class looks like may move a little.

Axis letters: `m`, `n` examples, `p` places, `k` places nearby, `c` features of a place.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta.base import Examples, Learner
from jaxmeta.learner.closed_form import members, solved, without


def local_matching(ways: int, reach: int = 1) -> Learner:
    r"""Every place of a query is explained by a place nearby of a class's support, and the reverse.

    $$ \mathrm{logit}_w(x) = \frac1P \sum_p \log \frac{1}{n_w} \sum_{i \in w} \sum_{|q
       - p|_\infty \le r} e^{-|x_p - s_{iq}|^2}
       + \frac{1}{n_w P} \sum_{i \in w} \sum_q \log \sum_{|p - q|_\infty \le r} e^{-|x_p
       - s_{iq}|^2} $$

    The first term is the mean log-density of the query's places under mixtures of Gaussians at the
    support's, the second asks that nothing of the support is missing (ours, after the two papers
    below; DN4 sums the cosines of the 3 places most alike among all of a class). Local deformations
    are forgiven where prototypes of whole images would move.

    Args:
      ways: Number of classes in a task.
      reach: r, how many places away; with as many as there are, place does not count at all.

    Returns:
      A `Learner` whose phi is the support, `{"x": [n, ..., c], "y": [n, ways]}`, y having each
      example's weight in its class, for `Examples` with x `[n, ..., c]` of any number of place
      axes, such as `representation(models.conv_places())` gives.

    Raises:
      ValueError: For inputs without features.

    References: Keysers et al., Deformation models for image recognition, PAMI 2007 (each pixel
    matched with one nearby); Li et al., Revisiting local descriptor based image-to-class measure
    for few-shot learning (DN4), CVPR 2019 (learned descriptors, matched anywhere).
    """
    _check.whole_number("ways", ways, least=1)
    _check.whole_number("reach", reach, least=0)

    def solve(support: Examples):
        return {"x": support.x, "y": members(support, ways)}

    def logits(phi, x):
        count, labels = phi["y"].sum(0), phi["y"].argmax(1)
        absent, counted = count == 0, phi["y"].sum(1) > 0
        shares = phi["y"] / jnp.where(absent, 1, count)[None]
        seen = _log_densities(x, phi["x"], reach).swapaxes(0, 1)  # [n, m, p]
        most = jnp.where(counted[:, None, None], jax.lax.stop_gradient(seen), -jnp.inf)
        highest = jax.ops.segment_max(most, labels, ways)  # of a class, or far ones would vanish
        highest = jnp.where(absent[:, None, None], 0, highest)
        seen = jnp.where(counted[:, None, None], seen - highest[labels], 0)
        means = jnp.einsum("nmp,nw->wmp", jnp.exp(seen), shares)
        explained = (jnp.log(jnp.where(absent[:, None, None], 1, means)) + highest).mean(-1).T
        return without(explained + _log_densities(phi["x"], x, reach).mean(-1).T @ shares, absent)

    return solved(solve, logits, _featured)


def _featured(x):
    """Returns x, refusing what has no axis of features."""
    if x.ndim < 2:
        raise ValueError(
            f"local_matching needs inputs [n, ..., c], got shape {x.shape}; put an encoder before "
            "it with representation(model)"
        )
    return x


def _log_densities(
    x: Float[Array, "m ... c"], others: Float[Array, "n ... c"], reach: int
) -> Float[Array, "m n p"]:
    """Of every place of x, under each of the others: `log sum_q exp(-|x_p - o_q|^2)` over the
    places q near p."""
    places, (m, n), c = x.shape[1:-1], (len(x), len(others)), x.shape[-1]
    wide = jnp.promote_types(
        x.dtype, jnp.float32
    )  # distances are differences of sums, which bfloat16 does not bear
    around = [*[(reach, reach)] * len(places), (0, 0), (0, 0)]
    x, others = (
        jnp.moveaxis(part, 0, -2) for part in (x, others)
    )  # one product a place, of all pairs of examples
    x = x.reshape(-1, m, c)
    padded = jnp.pad(others, around)
    outside = np.pad(np.zeros((*places, 1, 1)), around, constant_values=np.inf).astype(wide)
    terms = []
    for step in itertools.product(range(2 * reach + 1), repeat=len(places)):
        there = tuple(slice(by, by + size) for by, size in zip(step, places))
        near = padded[there].reshape(-1, n, c)
        sizes = (near.astype(wide) ** 2).sum(-1)[:, None] + outside[there].reshape(-1, 1, 1)
        terms.append(2 * jnp.einsum("pmc,pnc->pmn", x, near, preferred_element_type=wide) - sizes)
    # Term by term: stacked, they would be copied before they are summed.
    highest = functools.reduce(jnp.maximum, map(jax.lax.stop_gradient, terms))
    found = (
        jnp.log(sum(jnp.exp(term - highest) for term in terms))
        + highest
        - (x.astype(wide) ** 2).sum(-1)[..., None]
    )
    return found.transpose(1, 2, 0)
