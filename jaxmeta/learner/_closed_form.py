"""Heads solved in closed form: learning is over where it starts, so that `steps = 0`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta.base import Examples, Learner
from jaxmeta.learner._criteria import cross_entropy
from jaxmeta.process import no_penalty


def prototypes(ways: int, log_scale=0.0) -> Learner:
    """The class means of the support: `c_w = mean x_w`, logits `-a |x - c_w|^2`.

    Args:
      ways: Number of classes in a task.
      log_scale: Logarithm of a. Learn it across tasks with `hyperparameters`.

    Returns:
      A `Learner` whose phi is `[ways, D]`, for `Examples` with x `[n, D]` (see `jaxmeta.representation`).

    References: Snell, Swersky and Zemel, Prototypical networks, NeurIPS 2017; Oreshkin, Rodriguez Lopez and Lacoste, TADAM,
    NeurIPS 2018 (the scale).
    """
    _check.whole_number("ways", ways, least=1)

    def solve(support: Examples) -> Float[Array, "ways D"]:
        sums, counts = class_sums(support, ways)
        return sums / counts[:, None]

    def logits(phi, x):
        # |x|^2 is the same for all classes, so the softmax does not need it.
        return jnp.exp(jnp.asarray(log_scale, x.dtype)) * (2 * x @ phi.T - (phi**2).sum(-1)[None, :])

    return solved(solve, logits)


def ridge(ways: int, log_strength=0.0, log_scale=0.0, offset=0.0) -> Learner:
    """Ridge regression onto one-hot labels: `W = argmin |x W - Y|^2 + l |W|^2`, logits `a x W + b`.

    Solved over examples, `W = x'(x x' + l I)^-1 Y`, or over dimensions, whichever are fewer.

    Args:
      ways: Number of classes in a task.
      log_strength: Logarithm of l.
      log_scale: Logarithm of a.
      offset: b. Learn all three across tasks with `hyperparameters`.

    Returns:
      A `Learner` whose phi is `[D, ways]`, for `Examples` with x `[n, D]`.

    Reference: Bertinetto et al., Meta-learning with differentiable closed-form solvers (R2-D2), ICLR 2019.
    """
    _check.whole_number("ways", ways, least=1)

    def solve(support: Examples) -> Float[Array, "D ways"]:
        x = support.x
        targets = jax.nn.one_hot(support.y, ways, dtype=x.dtype)
        strength = jnp.exp(jnp.asarray(log_strength, x.dtype))
        n, dimensions = x.shape
        if n <= dimensions:
            return x.T @ _solve(x @ x.T, strength, targets)
        return _solve(x.T @ x, strength, x.T @ targets)

    def logits(phi, x):
        return jnp.exp(jnp.asarray(log_scale, x.dtype)) * (x @ phi) + jnp.asarray(offset, x.dtype)

    return solved(solve, logits)


def matching(ways: int, scale: float = 10.0) -> Learner:
    r"""Attention over the support: $p(y | x) = \sum_i softmax_i(a \cos(x, x_i))\, [y_i = y]$.

    Args:
      ways: Number of classes in a task.
      scale: a, above 0; the paper has 1, which leaves attention nearly flat for cosines.

    Returns:
      A `Learner` whose phi is the support, unit rows `[n, D]` and one-hot labels `[n, ways]`.

    Reference: Vinyals et al., Matching networks, NeurIPS 2016 (without full context embeddings).
    """
    _check.whole_number("ways", ways, least=1)
    _check.number("scale", scale, above=0)

    def solve(support: Examples):
        return {"x": unit(support.x), "y": jax.nn.one_hot(support.y, ways, dtype=support.x.dtype)}

    def logits(phi, x):
        shares = jax.nn.softmax(scale * (unit(x) @ phi["x"].T))
        return jnp.log(shares @ phi["y"] + jnp.finfo(x.dtype).tiny)

    return solved(solve, logits)


def unit(x: Float[Array, "n D"]) -> Float[Array, "n D"]:
    """Rows of length 1, with a derivative at zero."""
    return x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-12)


def class_sums(examples: Examples, ways: int) -> tuple[Float[Array, "ways D"], Float[Array, " ways"]]:
    """Of every class the sum of its rows, and how many there are."""
    members = jax.nn.one_hot(examples.y, ways, dtype=examples.x.dtype)
    return members.T @ examples.x, members.sum(0)


def _solve(gram, strength, right):
    return jax.scipy.linalg.solve(gram + strength * jnp.eye(gram.shape[0], dtype=gram.dtype), right, assume_a="pos")


def rows(x):
    """Returns x, refusing what is not `[n, D]`."""
    if x.ndim != 2:
        raise ValueError(f"a head solved in closed form needs inputs [n, D], got shape {x.shape}; put an encoder before "
                         "it with representation(model)")
    return x


def solved(solve, logits, inputs=rows) -> Learner:
    """The learner whose phi is `solve(support)` and stays there, judged by cross entropy of `logits(phi, x)`.

    `inputs` gives back the x of support and query, or refuses it.
    """
    def start(key, task):
        return solve(task.support._replace(x=inputs(task.support.x)))

    def loss(key, phi, batch):
        return cross_entropy(logits(phi, inputs(batch.x)), batch)

    return Learner(start, loss, no_penalty, optax.set_to_zero(), steps=0)
