"""Heads solved in closed form: learning is over where it starts, so that `steps = 0`.

Examples count by their weights, so that one of weight 0 is as good as absent. A class without
support has the log-probability -inf: a prototype infinitely far away, a column of weights that is
infinite. A query of such a class counts nothing and is told in aux, so that tasks of fewer classes
go with those of more.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta._sums import weighted_mean, widened
from jaxmeta.base import Examples, Learner
from jaxmeta.learner._criteria import classes, cross_entropy, squared_error
from jaxmeta.process import no_penalty


def prototypes(ways: int, log_scale=0.0) -> Learner:
    """The class means of the support: `c_w = mean x_w`, logits `-a |x - c_w|^2`.

    Args:
      ways: Number of classes in a task.
      log_scale: Logarithm of a. Learn it across tasks with `hyperparameters`.

    Returns:
      A `Learner` whose phi is `[ways, D]`, for `Examples` with x `[n, D]` (see
      `jaxmeta.representation`).

    References: Snell, Swersky and Zemel, Prototypical networks, NeurIPS 2017; Oreshkin, Rodriguez
    Lopez and Lacoste, TADAM, NeurIPS 2018 (the scale).
    """
    _check.whole_number("ways", ways, least=1)

    def solve(support: Examples) -> Float[Array, "ways D"]:
        sums, counts = class_sums(support, ways)
        return or_infinite(sums / jnp.where(counts == 0, 1, counts)[:, None], counts[:, None] != 0)

    def logits(phi, x):
        finite, absent = parted(phi, axis=1)
        # |x|^2 is the same for all classes, so the softmax does not need it.
        scores = jnp.exp(jnp.asarray(log_scale, x.dtype)) * (
            2 * x @ finite.T - (finite**2).sum(-1)[None, :]
        )
        return without(scores, absent)

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


def matching(ways: int, scale: float = 10.0) -> Learner:
    r"""Attention over the support: $p(y | x) = \sum_i softmax_i(a \cos(x, x_i))\, [y_i = y]$.

    Args:
      ways: Number of classes in a task.
      scale: a, above 0; the paper has 1, which leaves attention nearly flat for cosines.

    Returns:
      A `Learner` whose phi is the support, unit rows `[n, D]` and labels `[n, ways]`, each
      example's weight in its class.

    Reference: Vinyals et al., Matching networks, NeurIPS 2016 (without full context embeddings).
    """
    _check.whole_number("ways", ways, least=1)
    _check.number("scale", scale, above=0)

    def solve(support: Examples):
        own = members(support, ways)
        return (
            {"x": unit(support.x), "y": own}
            if support.counting is None
            else {"x": unit(support.x), "y": own, "weight": own.sum(1)}
        )

    def logits(phi, x):
        scores, weight = scale * (unit(x) @ phi["x"].T), phi.get("weight")
        if weight is None:
            shares = jax.nn.softmax(scores)
        else:  # y has the weights already
            there = jnp.where(weight[None] == 0, -jnp.inf, jax.lax.stop_gradient(scores)).max(
                1, keepdims=True
            )
            # What does not count may be far above what does: it is kept from overflowing.
            shares = jnp.exp(jnp.minimum(scores - jnp.where(jnp.isfinite(there), there, 0), 30))
            total = shares @ weight
            shares = shares / jnp.where(total > 0, total, 1)[:, None]
        found = jnp.log(shares @ phi["y"] + jnp.finfo(x.dtype).tiny)
        return without(found, phi["y"].sum(0) == 0)

    return solved(solve, logits)


def unit(x: Float[Array, "n D"]) -> Float[Array, "n D"]:
    """Rows of length 1, with a derivative at zero."""
    return x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-12)


def class_sums(
    examples: Examples, ways: int
) -> tuple[Float[Array, "ways D"], Float[Array, " ways"]]:
    """Of every class the sum of its rows by their weights, and the sum of the weights."""
    own = members(examples, ways)
    return own.T @ examples.x, own.sum(0)


def members(examples: Examples, ways: int) -> Float[Array, "n ways"]:
    """How much each example counts in each class: its weight (1 without weights) in its own. Under
    jit a label that is no class makes its row NaN, unless the example counts nothing."""
    known, counting = classes(examples, ways), examples.counting
    own = jnp.where(
        known[:, None], jax.nn.one_hot(examples.y, ways, dtype=examples.x.dtype), jnp.nan
    )
    if counting is None:
        return own
    counting = counting.astype(own.dtype)
    return jnp.where((known | (counting != 0))[:, None], counting[:, None] * own, 0)


def without(scores: Float[Array, "n ways"], absent) -> Float[Array, "n ways"]:
    """The scores, -inf for the classes that have no support."""
    return jnp.where(absent[None], -jnp.inf, scores)


def or_infinite(weights, present):
    """What a class is known by, infinite for one without support."""
    return jnp.where(present, weights, jnp.inf)


def parted(phi, axis):
    """phi with 0 for infinite classes, and which these are."""
    absent = jnp.isposinf(phi).all(axis)
    return jnp.where(jnp.expand_dims(absent, axis), 0, phi), absent


def _solve(gram, strength, right, assume="pos"):
    return jax.scipy.linalg.solve(
        gram + strength * jnp.eye(gram.shape[0], dtype=gram.dtype), right, assume_a=assume
    )


def rows(x):
    """Returns x, refusing what is not `[n, D]`."""
    if x.ndim != 2:
        raise ValueError(
            f"a head solved in closed form needs inputs [n, D], got shape {x.shape}; put an "
            "encoder before it with representation(model)"
        )
    return x


def solved(solve, logits, inputs=rows) -> Learner:
    """The learner whose phi is `solve(support)` and stays there, judged by cross entropy of
    `logits(phi, x)`; its aux tells which queries are "unsupported" `[n]`, of a class without
    support, and count nothing.

    `inputs` gives back the x of support and query, or refuses it.
    """

    def start(key, task):
        if not jnp.issubdtype(task.support.y.dtype, jnp.integer):
            raise ValueError(
                "a head of classes needs labels that are integers, got dtype "
                f"{task.support.y.dtype}; for real targets take jaxmeta.learner.ridge_regression, "
                "or gradient steps on squared_error"
            )
        return solve(task.support._replace(x=inputs(task.support.x)))

    def predict(key, phi, batch):
        return logits(phi, inputs(batch.x))

    def loss(key, phi, batch):
        return supported_cross_entropy(predict(key, phi, batch), batch)

    return Learner(start, loss, no_penalty, optax.set_to_zero(), steps=0, predict=predict)


def supported_cross_entropy(scores: Float[Array, "n ways"], batch: Examples):
    """`cross_entropy` of the examples whose class has a score; the others, of score -inf, count
    nothing and are told in aux."""
    unsupported = (
        jnp.isneginf(scores) & (batch.y[:, None] == jnp.arange(scores.shape[1])[None])
    ).any(1)
    weight = jnp.asarray(1, scores.dtype) if batch.weight is None else batch.weight
    value, aux = cross_entropy(scores, batch._replace(weight=jnp.where(unsupported, 0, weight)))
    return value, aux | {"unsupported": unsupported}
