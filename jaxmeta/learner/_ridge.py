"""Heads of ridge regression, onto classes and onto values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta._sums import weighted_mean, widened
from jaxmeta.base import Examples, Learner
from jaxmeta.learner._criteria import squared_error
from jaxmeta.learner.closed_form import members, or_infinite, parted, rows, solved, without
from jaxmeta.process import no_penalty


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

    Reference: Bertinetto et al., Meta-learning with differentiable closed-form solvers (R2-D2),
    ICLR 2019.
    """
    return _ridge(ways, lambda x: x, lambda total: log_strength, log_scale, offset)


def mean_ridge(ways: int, log_strength=0.0, log_scale=0.0, offset=0.0) -> Learner:
    r"""`ridge` as the code of R2-D2's authors has it: with a bias, and a strength for each example.

    $$ W = \arg\min \tfrac{1}{n} |[x, 1] W - Y|^2 + l |W|^2, \quad logits = a\, [x, 1] W + b $$

    One strength means the same for few examples and for many, where that of `ridge`, the paper's
    equation, weighs less the more there are: take this one to train and judge at different ways or
    shots. n is the sum of the examples' weights.

    Args:
      ways, log_strength, log_scale, offset: As in `ridge`.

    Returns:
      A `Learner` whose phi is `[D + 1, ways]`, the bias last, for `Examples` with x `[n, D]`.

    >>> import jax, jax.numpy as jnp, jaxmeta as jm
    >>> pair = jm.Examples(jnp.array([[1.0], [3.0]]), jnp.array([0, 1]))
    >>> phi = jm.adapt(
    ...     jax.random.key(0), jm.learner.mean_ridge(2, log_strength=-20.0), jm.Task(pair, pair)
    ... )
    >>> [[f"{value:.2f}" for value in row] for row in phi]
    [['-0.50', '0.50'], ['1.50', '-0.50']]

    Reference: Bertinetto et al., Meta-learning with differentiable closed-form solvers (R2-D2),
    ICLR 2019, and its code.
    """

    def lifted(x):
        return jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)

    return _ridge(
        ways,
        lifted,
        lambda total: log_strength + jnp.log(jnp.where(total == 0, 1, total)),
        log_scale,
        offset,
    )


def _ridge(ways, lifted, log_strength, log_scale, offset) -> Learner:
    _check.whole_number("ways", ways, least=1)

    def solve(support: Examples):
        targets = members(support, ways)
        weights = ridge_weights(
            lifted(support.x), targets, support.counting, log_strength(widened(targets).sum())
        )
        return or_infinite(weights, targets.sum(0)[None] != 0)

    def logits(phi, x):
        finite, absent = parted(phi, axis=0)
        scores = lifted(x) @ finite
        return without(
            jnp.exp(jnp.asarray(log_scale, x.dtype)) * scores + jnp.asarray(offset, x.dtype), absent
        )

    return solved(solve, logits)


def ridge_regression(log_strength=0.0) -> Learner:
    r"""Ridge regression onto values: the closed-form head of regression tasks.

    $$ (W, b) = \arg\min \sum_i w_i |x_i W + b - y_i|^2 + l |W|^2 $$

    Args:
      log_strength: Logarithm of l. Learn it across tasks with `hyperparameters`.

    Returns:
      A `Learner` whose phi is `{"kernel": [D, d], "bias": [d]}`, for `Examples` with x `[n, D]` and
      y `[n, d]` or `[n]`; judged by `squared_error`.

    >>> import jax.numpy as jnp, jaxmeta as jm
    >>> line = jm.Examples(jnp.array([[0.0], [1.0], [2.0]]), jnp.array([1.0, 3.0, 5.0]))
    >>> head = jm.learner.ridge_regression(log_strength=-20.0)
    >>> phi = jm.adapt(jax.random.key(0), head, jm.Task(line, line))
    >>> [f"{value:.3f}" for value in head.predict(None, phi, line)]
    ['1.000', '3.000', '5.000']

    Reference: Bertinetto et al., Meta-learning with differentiable closed-form solvers (R2-D2),
    ICLR 2019, section 3.
    """

    def start(key, task):
        x, y, counting = rows(task.support.x), task.support.y, task.support.counting
        if not jnp.issubdtype(y.dtype, jnp.floating):
            raise ValueError(
                f"ridge_regression needs real targets [n] or [n, d], got dtype {y.dtype}; take "
                "ridge(ways) for classes"
            )
        y = y.reshape(len(x), -1).astype(x.dtype)
        mean_x, mean_y = (
            jax.vmap(lambda column: weighted_mean(column, counting), 1)(part) for part in (x, y)
        )
        targets = y - mean_y[None]
        if counting is not None:
            targets = counting.astype(x.dtype)[:, None] * targets
        kernel = ridge_weights(x - mean_x[None], targets, counting, log_strength)
        return {"kernel": kernel, "bias": mean_y - mean_x @ kernel}

    def predict(key, phi, batch):
        values = rows(batch.x) @ phi["kernel"] + phi["bias"][None]
        return values if batch.y is None else values.reshape(len(values), *batch.y.shape[1:])

    def loss(key, phi, batch):
        return squared_error(predict(key, phi, batch), batch)

    return Learner(start, loss, no_penalty, optax.set_to_zero(), steps=0, predict=predict)


def ridge_weights(
    x: Float[Array, "n D"], targets: Float[Array, "n k"], counting, log_strength
) -> Float[Array, "D k"]:
    """`argmin_W sum_i w_i |x_i W - Y_i|^2 + l |W|^2`, given the targets `w_i Y_i`; solved in
    float32 at least."""
    dtype = x.dtype
    x, targets = widened((x, targets))
    return _ridge_weights(x, targets, counting, log_strength).astype(dtype)


def _ridge_weights(x, targets, counting, log_strength):
    strength = jnp.exp(jnp.asarray(log_strength, x.dtype))
    n, dimensions = x.shape
    weighted = x if counting is None else counting.astype(x.dtype)[:, None] * x
    if n > dimensions:
        return _solve(x.T @ weighted, strength, x.T @ targets)
    # Of weighted rows the product is not symmetric; with roots of the weights it would be, but they
    # have no derivative at 0.
    return x.T @ _solve(weighted @ x.T, strength, targets, "pos" if counting is None else "gen")


def _solve(gram, strength, right, assume="pos"):
    return jax.scipy.linalg.solve(
        gram + strength * jnp.eye(gram.shape[0], dtype=gram.dtype), right, assume_a=assume
    )
