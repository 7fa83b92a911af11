"""The paper's affinity: how well the encoder of one concept serves another after little
fine-tuning.

All C encoders are trained in one program; all transfers, from every source to every target under
every budget, and from scratch, in another.

Axis letters: `C` concepts, `B` budgets, `G` groups of target concepts (the C concepts one by one,
or more at a time), `n` examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxmeta import _check
from jaxmeta._random import generator
from jaxmeta.base import Examples
from jaxmeta.hierarchy._autoencoder import Autoencoder, dense_autoencoder
from jaxmeta.hierarchy._class_data import ByClass, by_class
from jaxmeta.hierarchy._transfer_runs import Run, all_runs, chunk, fresh, in_chunks, learn
from jaxmeta.parallel import Mapper


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
    mapper = in_chunks(chunk(starts, data, held, training, memory)) if mapper is None else mapper
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


def _shuffled(key, data: ByClass) -> ByClass:
    rng = generator(key)
    x = data.x.copy()
    for concept, count in enumerate(data.counts):
        x[concept, :count] = x[concept, rng.permutation(count)]
    return ByClass(x, data.counts)


def _variance(held: ByClass):
    rows = [x[:count].reshape(count, -1) for x, count in zip(held.x, held.counts)]
    return np.array([((x - x.mean(0, keepdims=True)) ** 2).mean() for x in rows])


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
