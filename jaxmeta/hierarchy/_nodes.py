"""Node models in closed form: one factorisation a subset of the classes, from which every
partition's blocks follow.

`k` classes of a subset, `n` examples, `d` features, `B` blocks. A block's probability at a node is
its potential over the sum of the potentials of the node's blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmeta import _check

_LEAST = 1e-6  # of a residual variance; potentials are clipped long before


class Moments(NamedTuple):
    """What closed forms need of the training examples, class by class.

    Args:
      counts: Examples of each class.
      means: Their means.
      covariances: Of each class about its mean, divided by its count.
    """

    counts: Float[Array, " k"]
    means: Float[Array, "k d"]
    covariances: Float[Array, "k d d"]


class NodeLearner(NamedTuple):
    """A model for every node over a subset of the classes.

    Args:
      fit: `moments of the subset -> fitted`, a pytree.
      potentials: `(fitted, x [n, d], members [B, k] of 0 and 1, m) -> [B, n]`, the logarithm of
        every block's potential at nodes of m blocks.
    """

    fit: Callable
    potentials: Callable


def moments(x: Float[Array, "n d"], classes: Float[Array, "C n"]) -> Moments:
    """The moments of examples; `classes` is 1 where an example is of a class."""
    counts = classes.sum(axis=1)
    means = classes @ x / counts[:, None]

    def covariance(mean, member):
        centred = (x - mean[None]) * member[:, None]
        return centred.T @ centred / member.sum()

    return Moments(counts, means, jax.lax.map(lambda one: covariance(*one), (means, classes)))


def uniform(counts):
    """Classes weigh the same, however many examples they have."""
    return jnp.ones_like(counts) / counts.shape[0]


def empirical(counts):
    """Classes weigh as they occur."""
    return counts / counts.sum()


# the same settings are the same learner, and programs are compiled for it once
@functools.lru_cache
def ridge(
    penalty: float = 1e-2, prior: Callable = uniform, temperature: float = 1.0
) -> NodeLearner:
    r"""Ridge regression on the classes' indicators with an unpenalised intercept; a block's score
    is its classes' sum.

    $$ W = (\Sigma + \lambda \tfrac{\operatorname{tr}\Sigma}{d} I)^{-1} \operatorname{Cov}(x, y),
       \qquad s_B = \sum_{c \in B} s_c, \qquad
       \log\text{potential}_B = \frac{m-1}{m}\,\frac{s_B - \mu_B}{t\,\sigma^2_B} + \log \pi_B $$

    The softmax's temperature is the block's own residual variance on the training examples,
    $\sigma^2_B = 1_B^\top R 1_B$, corrected for the degrees of freedom
    $1 + \sum_i v_i / (v_i + \lambda \bar v)$ of features of variances v; $\mu_B$ is midway between
    the mean scores inside and outside B. Without penalty a node of two blocks is thereby linear
    discriminant analysis of the two, but for that correction. METHODS leave the temperature open;
    this rule is ours.

    Args:
      penalty: lambda, in units of the mean variance of a feature; above 0, or at least 0 where
        features are independent.
      prior: `counts -> weights of the classes`, in the regression and as pi: `uniform` (balanced)
        or `empirical`.
      temperature: t, a factor; 1 is the closed form.

    Returns:
      A `NodeLearner`.
    """
    _check.number("penalty", penalty, least=0)
    _check.number("temperature", temperature, above=0)

    def fit(moments: Moments):
        weights = prior(moments.counts)
        mean = weights @ moments.means
        offsets = moments.means - mean[None]
        within = jnp.einsum("k,kde->de", weights, moments.covariances)
        covariance = within + (offsets.T * weights[None]) @ offsets
        cross = (offsets * weights[:, None]).T
        coefficients = jax.scipy.linalg.cho_solve((_factor(covariance, penalty), True), cross)
        explained = coefficients.T @ cross
        residual = (
            jnp.diag(weights)
            - jnp.outer(weights, weights)
            - explained
            - explained.T
            + coefficients.T @ covariance @ coefficients
        )
        # Their trace of a matrix fraction needs a solve of d columns; this bounds it, and is exact
        # for uncorrelated features.
        spread = jnp.diag(covariance)
        free = 1 + jnp.sum(
            spread / jnp.maximum(spread + penalty * spread.mean(), jnp.finfo(spread.dtype).tiny)
        )
        examples = moments.counts.sum()
        residual = residual * examples / jnp.maximum(examples - free, 1)
        return coefficients, weights - mean @ coefficients, weights, explained, residual

    def potentials(fitted, x, members, m):
        coefficients, intercept, weights, explained, residual = fitted
        scores = members @ (x @ coefficients + intercept[None]).T
        share = jnp.clip(members @ weights, _LEAST, 1 - _LEAST)
        variance = jnp.maximum(jnp.sum(members @ residual * members, axis=1), _LEAST)
        apart = jnp.sum(members @ explained * members, axis=1) / (share * (1 - share))
        middle = share + (0.5 - share) * apart
        slope = (m - 1) / (m * temperature * variance)
        return (scores - middle[:, None]) * slope[:, None] + jnp.log(share)[:, None]

    return NodeLearner(fit, potentials)


@functools.lru_cache
def lda(shrinkage: float = 0.1, prior: Callable = uniform) -> NodeLearner:
    r"""Linear discriminant analysis of a subset's classes; a block's probability is the sum of its
    classes'.

    $$ \log p(c \mid x, S) \propto x^\top \Sigma_S^{-1} \mu_c
       - \tfrac12 \mu_c^\top \Sigma_S^{-1} \mu_c + \log \pi_c, \qquad
    P(B \mid x, S) = \sum_{c \in B} p(c \mid x, S) $$

    with $\Sigma_S = (1 - \gamma) \sum_{c \in S} \pi_c \Sigma_c + \gamma
    \tfrac{\operatorname{tr}}{d} I$, the subset's own.

    Args:
      shrinkage: gamma, between 0 and 1.
      prior: `counts -> weights of the classes`: `uniform` or `empirical`.

    Returns:
      A `NodeLearner`.
    """
    if not 0 <= shrinkage <= 1:
        raise ValueError(
            f"shrinkage must be between 0 and 1, got {shrinkage}; 0 takes the covariance as it is"
        )

    def fit(moments: Moments):
        weights = prior(moments.counts)
        within = jnp.einsum("k,kde->de", weights, moments.covariances)
        factor = _factor((1 - shrinkage) * within, shrinkage, jnp.trace(within))
        coefficients = jax.scipy.linalg.cho_solve((factor, True), moments.means.T)
        return coefficients, jnp.log(weights) - 0.5 * jnp.sum(
            moments.means.T * coefficients, axis=0
        )

    def potentials(fitted, x, members, m):
        coefficients, intercept = fitted
        posterior = jax.nn.softmax(x @ coefficients + intercept[None], axis=1)
        return jnp.log(jnp.maximum(members @ posterior.T, jnp.finfo(x.dtype).tiny))

    return NodeLearner(fit, potentials)


def _factor(matrix, share, trace=None):
    """The Cholesky factor of a covariance with a share of the mean variance on its diagonal."""
    size = matrix.shape[0]
    ridge = share * (jnp.trace(matrix) if trace is None else trace) / size
    return jnp.linalg.cholesky(matrix + ridge * jnp.eye(size, dtype=matrix.dtype))
