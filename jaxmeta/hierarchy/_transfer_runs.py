"""The compiled program of all transfers: every run is one training of an encoder and a decoder.

Runs to one target share the fresh decoder and the order of examples whatever their source and
budget, so that they differ in these alone (ours).

Axis letters: `C` concepts, `B` budgets, `G` groups of target concepts, `R` runs.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxmeta._pytree import nbytes
from jaxmeta.hierarchy._autoencoder import Autoencoder
from jaxmeta.hierarchy._class_data import ByClass
from jaxmeta.parallel import over_tasks


class Run(NamedTuple):
    """One training: from which start, on which targets, on how many examples of each, with which
    draws."""

    start: Array
    targets: Array
    budget: Array
    key: Array


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


# The same mapper for the same size, so that programs are compiled once.
in_chunks = functools.lru_cache(over_tasks)


def chunk(starts, data, held, training, memory=None) -> int:
    """Runs at a time. A decoder is taken to be as large as an encoder; a run holds parameters,
    gradients, updates and the optimiser's state twice, and what is computed of a batch or of the
    held-out examples about four times."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), starts)
    each = 2 * (3 * nbytes(one) + 2 * nbytes(jax.eval_shape(training.optimiser.init, one)))
    rows = max(training.batch, held.x.shape[1])
    if memory is None:
        memory = 2**22 if jax.default_backend() == "cpu" else 2**32
    return max(1, memory // (each + 4 * rows * nbytes(data.x[0, 0])))


def _like(x, params):
    return jax.tree.map(lambda leaf: leaf.astype(x.dtype), params)
