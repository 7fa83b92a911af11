"""The paper's affinity: how well the encoder of one concept serves another after little
fine-tuning.

All C encoders are trained in one program; all transfers, from every source to every target under
every budget, and from scratch, in another. Runs to one target share the fresh decoder and the order
of examples whatever their source and budget, so that they differ in these alone (ours).

Axis letters: `C` concepts, `B` budgets, `G` groups of `K` target concepts (the C concepts one by
one, or more at a time), `R` runs, `n` examples, `m` examples of a concept.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta._pytree import nbytes
from jaxmeta._random import generator
from jaxmeta.base import Examples
from jaxmeta.hierarchy._class_data import ByClass, by_class
from jaxmeta.models import Model, mlp
from jaxmeta.parallel import Mapper, over_tasks


class Autoencoder(NamedTuple):
    """An encoder f and a decoder g, `g(f(x))` being x again.

    Args:
      encoder: From `[n, ...]` to codes.
      decoder: From codes to `[n, features]`, the input with its axes flattened.
    """

    encoder: Model
    decoder: Model


@functools.lru_cache  # the same models for the same sizes, so that programs are compiled once
def dense_autoencoder(features: int, hidden: int = 128, code: int = 32) -> Autoencoder:
    """One hidden layer each way, with relu: features, hidden, code, hidden, features. Ours; the
    paper searches for its own."""
    return Autoencoder(mlp((hidden,), code), mlp((hidden,), features))


class Training(NamedTuple):
    """How an autoencoder is trained; the same for encoders, transfers and scratch.

    Args:
      steps: Updates of the C autoencoders.
      transfer_steps: Updates of each transfer, whatever its budget.
      batch: Examples an update, drawn with replacement among those that the budget allows.
      optimiser: Of encoder and decoder.
    """

    steps: int = 300
    transfer_steps: int = 150
    batch: int = 32
    optimiser: optax.GradientTransformation = optax.adam(1e-3)


class Transfers(NamedTuple):
    """What `transfers` measured: held-out mean squared errors of a reconstruction, a feature.

    Args:
      losses: `[B, C, G]` of the encoder of a source fine-tuned on a group; the diagonal, where
        there is one, is the source's own concept with a fresh decoder.
      scratch: `[B, G]` of a fresh encoder under the same budget.
      variance: `[G]`, the error of the target's mean.
      budgets: Examples of each target, ascending; B of them. A concept that has fewer gives all it
        has.
      groups: The targets of each group.
      curves: `[C, steps]`, the autoencoders' losses while they were trained.
      own: `[C]`, their held-out losses.
    """

    losses: Float[Array, "B C G"]
    scratch: Float[Array, "B G"]
    variance: Float[Array, " G"]
    budgets: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    curves: Float[Array, "C steps"]
    own: Float[Array, " C"]


class Run(NamedTuple):
    """One training: from which start, on which targets, on how many examples of each, with which
    draws."""

    start: Array
    targets: Array
    budget: Array
    key: Array


def transfers(
    key,
    train: Examples,
    held: Examples,
    budgets: Sequence[int] = (100,),
    autoencoder: Autoencoder | None = None,
    training: Training = Training(),
    groups: Sequence[Sequence[int]] | None = None,
    memory: int | None = None,
    mapper: Mapper | None = None,
) -> Transfers:
    r"""Trains an autoencoder on every concept, then moves every encoder to every group of targets.

    $$ f_i, \cdot = \arg\min E_{x|i} |g(f(x)) - x|^2, \qquad
       L_{ij}(b) = \min_{f \text{ from } f_i,\ g}
       E_{x|j} |g(f(x)) - x|^2 \text{ on } b \text{ examples} $$

    Args:
      key: Draws starts, the examples that a budget keeps, and batches.
      train: x `[n, ...]`, y `[n]`, 0 to C-1; scale the inputs first.
      held: Examples of the same concepts, on which losses are taken.
      budgets: B numbers of examples of each target; the smaller are among the larger.
      autoencoder: Default `dense_autoencoder(features)`.
      training: Steps, batch and optimiser.
      groups: Default each concept by itself. Several targets in each group, as many in all, give
        the higher-order transfers: encoder and decoder are fine-tuned on all of them jointly, in
        equal shares.
      memory: Bytes that runs under way may take, by shapes: parameters, their gradients and
        optimiser, batches. Default 4 MiB on a CPU, where what fits the cache is fastest, 4 GiB
        elsewhere.
      mapper: Default `over_tasks` in chunks within memory; one with a mesh shares runs out over
        devices.

    Raises:
      ValueError: for what `by_class` refuses, concepts held out but not trained on or the other way
        round, budgets that do not ascend from 1, groups of unlike sizes or of what is no concept.
    """
    for name in ("steps", "transfer_steps", "batch"):
        _check.whole_number(f"{name} of training", getattr(training, name), least=1)
    data = by_class(train)
    held = by_class(held, len(data.counts))
    budgets, groups = _checked(data, held, budgets, groups)
    concepts, size = len(data.counts), int(np.prod(data.x.shape[2:]))
    autoencoder = dense_autoencoder(size) if autoencoder is None else autoencoder
    shuffle, encoding, moving = jax.random.split(key, 3)
    data = _shuffled(shuffle, data)

    every, keys = jnp.arange(concepts), jax.random.split(encoding, concepts)
    runs = Run(every, every[:, None], jnp.asarray(data.counts), keys)
    starts = fresh(autoencoder, runs.key, data)
    mapper = _in_chunks(_chunk(starts, data, held, training, memory)) if mapper is None else mapper
    trained = learn(starts, data, held, runs, autoencoder, training, training.steps, mapper, True)
    starts = jax.tree.map(lambda new, old: jnp.concatenate([new, old]), trained["encoder"], starts)
    runs, where = all_runs(moving, data.counts, budgets, groups)
    moved = learn(
        starts, data, held, runs, autoencoder, training, training.transfer_steps, mapper, False
    )
    losses = moved["loss"][where]
    variance = _variance(held)[np.array(groups)].mean(1)
    return Transfers(
        losses[..., :-1].swapaxes(1, 2),
        losses[..., -1],
        variance,
        budgets,
        groups,
        trained["curve"],
        trained["loss"],
    )


def all_runs(key, counts, budgets, groups) -> tuple[Run, np.ndarray]:
    """The runs `[R]`, and where among them each of `[B, G, C + 1]` is, the last start of a group
    being fresh. Where a budget is more than all targets have, its run is that of the budget
    before."""
    groups, keys, concepts = np.asarray(groups), jax.random.split(key, len(groups)), len(counts)
    spent = np.minimum(np.asarray(budgets)[:, None], np.asarray(counts)[groups].max(1)[None])
    pairs, where = np.unique(
        np.stack([np.broadcast_to(np.arange(len(groups)), spent.shape), spent], -1).reshape(-1, 2),
        axis=0,
        return_inverse=True,
    )
    group, budget = (np.repeat(column, concepts + 1) for column in pairs.T)
    start = np.tile(np.arange(concepts + 1), len(pairs))
    start = np.where(start < concepts, start, concepts + groups[group, 0])
    runs = Run(jnp.asarray(start), jnp.asarray(groups[group]), jnp.asarray(budget), keys[group])
    return runs, where.reshape(*spent.shape, 1) * (concepts + 1) + np.arange(concepts + 1)[
        None, None
    ]


@functools.partial(jax.jit, static_argnames="autoencoder")
def fresh(autoencoder: Autoencoder, keys, data: ByClass):
    """Encoders to start from, one a key: leaves `[C, ...]`."""
    return jax.vmap(lambda key: _like(data.x, autoencoder.encoder.init(key, data.x[0, :1])))(keys)


@functools.partial(jax.jit, static_argnames=("autoencoder", "training", "steps", "mapper", "keep"))
def learn(
    starts,
    data: ByClass,
    held: ByClass,
    runs: Run,
    autoencoder,
    training,
    steps: int,
    mapper,
    keep: bool,
):
    """The program of all runs `[R]`: held-out losses `[R]`, curves `[R, steps]`, and encoders where
    they are kept."""
    encoder, decoder = autoencoder

    def errors(params, x):
        code = encoder.apply(params["encoder"], x)
        return ((decoder.apply(params["decoder"], code) - x.reshape(len(x), -1)) ** 2).mean(1)

    def one(theta, run):
        starts, data, held = theta
        begin, draw = jax.random.split(run.key)
        start = jax.tree.map(lambda leaf: leaf[run.start], starts)
        code = jax.eval_shape(encoder.apply, start, data.x[0, :1])
        params = {
            "encoder": start,
            "decoder": _like(data.x, decoder.init(begin, jnp.zeros(code.shape, code.dtype))),
        }
        limits = jnp.minimum(data.counts, run.budget)
        draws = jax.random.uniform(draw, (steps, training.batch)) * run.targets.size

        def step(carry, share):
            params, state = carry
            # The whole part names the target, the fraction the example.
            target = run.targets[share.astype(int)]
            row = ((share % 1) * limits[target]).astype(int)
            x = data.x[target, jnp.minimum(row, limits[target] - 1)]
            loss, grads = jax.value_and_grad(lambda params: errors(params, x).mean())(params)
            updates, state = training.optimiser.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss

        (params, _), curve = jax.lax.scan(step, (params, training.optimiser.init(params)), draws)
        x, counts = held.x[run.targets], held.counts[run.targets]
        each = errors(params, x.reshape(-1, *x.shape[2:])).reshape(x.shape[:2])
        there = jnp.arange(x.shape[1])[None] < counts[:, None]
        loss = (jnp.where(there, each, 0).sum(1) / counts).mean()
        return (), {"loss": loss, "curve": curve} | ({"encoder": params["encoder"]} if keep else {})

    return mapper(one, (starts, data, held), runs)[1]


_in_chunks = functools.lru_cache(
    over_tasks
)  # the same mapper for the same size, so that programs are compiled once


def _chunk(starts, data, held, training, memory=None) -> int:
    """Runs at a time. A decoder is taken to be as large as an encoder; a run holds parameters,
    gradients, updates and the optimiser's state twice, and what is computed of a batch or of the
    held-out examples about four times."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), starts)
    each = 2 * (3 * nbytes(one) + 2 * nbytes(jax.eval_shape(training.optimiser.init, one)))
    rows = max(training.batch, held.x.shape[1])
    if memory is None:
        memory = 2**22 if jax.default_backend() == "cpu" else 2**32
    return max(1, memory // (each + 4 * rows * nbytes(data.x[0, 0])))


def _shuffled(key, data: ByClass) -> ByClass:
    rng = generator(key)
    x = data.x.copy()
    for concept, count in enumerate(data.counts):
        x[concept, :count] = x[concept, rng.permutation(count)]
    return ByClass(x, data.counts)


def _variance(held: ByClass):
    rows = [x[:count].reshape(count, -1) for x, count in zip(held.x, held.counts)]
    return np.array([((x - x.mean(0, keepdims=True)) ** 2).mean() for x in rows])


def _like(x, params):
    return jax.tree.map(lambda leaf: leaf.astype(x.dtype), params)


def _checked(data, held, budgets, groups):
    if data.x.shape[2:] != held.x.shape[2:]:
        raise ValueError(
            f"held-out inputs must have the shape of those trained on, {data.x.shape[2:]}, got "
            f"{held.x.shape[2:]}"
        )
    budgets = tuple(_check.whole_number("a budget", budget, least=1) for budget in budgets)
    if not budgets or list(budgets) != sorted(set(budgets)):
        raise ValueError(f"budgets must ascend, got {budgets}; give for example (100, 200)")
    concepts = len(data.counts)
    groups = tuple(
        tuple(int(c) for c in group)
        for group in ([[c] for c in range(concepts)] if groups is None else groups)
    )
    if len({len(group) for group in groups}) != 1 or not groups[0]:
        raise ValueError(
            "groups must hold equally many targets, got sizes "
            f"{sorted({len(group) for group in groups})}; call once for each size"
        )
    wrong = [
        group
        for group in groups
        if len(set(group)) < len(group) or not set(group) <= set(range(concepts))
    ]
    if wrong:
        raise ValueError(
            f"a group must name concepts from 0 to {concepts - 1}, each once, got {wrong[0]}"
        )
    return budgets, groups
