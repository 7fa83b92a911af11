"""The one place where tasks are mapped: chunks of them vmapped, the chunks scanned, the whole
sharded over devices.

On a CPU a chunk that fits the cache is several times as fast as all tasks at once, whose
temporaries stream through memory; on an accelerator all at once is the rule
(`benchmarks/README.md`). It is a wrapper: the results are those of a loop over the tasks. What is
averaged is summed in float32 at least and returned in its own dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

from jaxmeta import _check
from jaxmeta._pytree import nbytes, paths
from jaxmeta._sums import summing_dtype
from jaxmeta.base import Task

Mapper = Callable[..., tuple[PyTree, PyTree]]
"""`(function, theta, batched) -> (mean, each)`, where
`function(theta, one) -> (to be averaged, to be kept)`; a fourth argument says how many bytes one
task learns and learns from, where that is not theta and its share of batched."""

_CACHE = (
    2**19
)  # bytes of parameters and data whose learning stays in a core's own cache, activations included


def task_mesh(devices=None) -> Mesh:
    """A mesh over devices (default: all there are) with the one axis 'tasks'.

    A CPU counts as one device unless `jax.config.update("jax_num_cpu_devices", n)` came before its
    first use.
    """
    return Mesh(np.asarray(jax.devices() if devices is None else devices), ("tasks",))


def over_tasks(chunk: int | None = None, mesh: Mesh | None = None) -> Mapper:
    """Makes the mapper that estimators and evaluation take.

    Args:
      chunk: How many tasks are vmapped at a time; the largest divisor of the tasks on a device up
        to it is taken. Default: all of them on an accelerator; on a CPU as many as leave parameters
        and data in half a MiB.
      mesh: Devices to share the tasks out over, from `task_mesh`; None for the default device
        alone.

    Returns:
      A `Mapper`. It refuses, by ValueError, a number of tasks that the devices of the mesh do not
      divide.
    """
    if chunk is not None:
        _check.whole_number("chunk", chunk, least=1)

    def mapper(function, theta, batched, task_bytes=None):
        tasks = jax.tree.leaves(batched)[0].shape[0]
        if mesh is None or mesh.size == 1:
            total, each = _scan_chunks(function, theta, batched, chunk, task_bytes)
        else:
            if tasks % mesh.size:
                raise ValueError(
                    f"the number of tasks must be a multiple of the {mesh.size} devices of the "
                    f"mesh, got {tasks}; take {tasks + -tasks % mesh.size} tasks, or a mesh of "
                    f"{math.gcd(tasks, mesh.size)} devices"
                )

            def shard(theta, batched):
                total, each = _scan_chunks(function, theta, batched, chunk, task_bytes)
                return jax.lax.psum(total, "tasks"), each

            one, split = PartitionSpec(), PartitionSpec("tasks")
            total, each = jax.shard_map(
                shard, mesh=mesh, in_specs=(one, split), out_specs=(one, split), check_vma=False
            )(theta, batched)
        return jax.tree.map(lambda leaf: _mean(leaf, tasks), total, is_leaf=_is_wide), each

    return mapper


def batch(tasks: Task) -> Task:
    """A batch of tasks, refused in a sentence where its leaves are not `[T, ...]`. Where one node,
    weight or index is given for all, all have it."""
    sides = jax.tree.leaves((tasks.support, tasks.query))
    count = next((jnp.shape(leaf)[0] for leaf in sides if jnp.ndim(leaf)), None)
    alike = {
        name: value
        for name, value in (("node", tasks.node), ("weight", tasks.weight), ("index", tasks.index))
        if value is not None and jnp.ndim(value) == 0
    }
    if count is not None and alike:
        tasks = tasks._replace(
            **{
                name: jnp.broadcast_to(jnp.asarray(value), (count,))
                for name, value in alike.items()
            }
        )
    for path, leaf in zip(paths(tasks), jax.tree.leaves(tasks)):
        if jnp.ndim(leaf) == 0 or jnp.shape(leaf)[0] != count:
            has = (
                "has no axis of tasks" if jnp.ndim(leaf) == 0 else f"has {jnp.shape(leaf)[0]} tasks"
            )
            raise ValueError(
                f"every leaf of a batch of tasks must have the same leading axis T, here {count}, "
                f"got '{path}' that {has}; stack the tasks by jax.vmap of a sampler over keys, or "
                "batch a stream by its .batch(32)"
            )
    _check.weights("weights of tasks", tasks.weight)
    if not count:
        raise ValueError(f"a batch must have at least one task, got {count or 'none'}; draw some")
    return tasks


def _scan_chunks(function, theta, batched, chunk, task_bytes):
    tasks = jax.tree.leaves(batched)[0].shape[0]
    size = divisor(
        tasks,
        chunk or _default_chunk(task_bytes or nbytes(theta) + nbytes(batched) // tasks, tasks),
    )

    def one_chunk(part):
        if (
            size == 1
        ):  # no task axis at all: vmap over one task would turn every product into a batched one
            total, each = function(theta, jax.tree.map(lambda leaf: leaf[0], part))
            return jax.tree.map(_summand, total), jax.tree.map(
                lambda leaf: jnp.asarray(leaf)[None], each
            )
        total, each = jax.vmap(function, (None, 0))(theta, part)
        return jax.tree.map(lambda leaf: leaf.sum(0), jax.tree.map(_summand, total)), each

    if size == tasks:
        return one_chunk(batched)
    parts = jax.tree.map(lambda leaf: leaf.reshape(tasks // size, size, *leaf.shape[1:]), batched)

    def step(total, part):
        more, each = one_chunk(part)
        return jax.tree.map(jnp.add, total, more), each

    shapes, _ = jax.eval_shape(one_chunk, jax.tree.map(lambda leaf: leaf[0], parts))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, each = jax.lax.scan(step, zero, parts)
    return total, jax.tree.map(lambda leaf: leaf.reshape(tasks, *leaf.shape[2:]), each)


@partial(jax.tree_util.register_dataclass, data_fields=["total"], meta_fields=["dtype"])
@dataclass(frozen=True)
class _Wide:
    """A sum in more bits than its summands have, with their dtype: in bfloat16, 256 + 1 is 256."""

    total: jax.Array
    dtype: jnp.dtype


def _is_wide(leaf) -> bool:
    return isinstance(leaf, _Wide)


def _summand(leaf):
    """The leaf as it is added up; `_Wide` where its own dtype has fewer bits than sums need."""
    dtype = jnp.result_type(leaf)
    wide = summing_dtype(dtype)
    return leaf if wide == dtype else _Wide(jnp.asarray(leaf, wide), dtype)


def _mean(leaf, tasks: int):
    if not _is_wide(leaf):
        return leaf / tasks
    mean = leaf.total / tasks
    return mean.astype(leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.inexact) else mean


def _default_chunk(task_bytes: int, tasks: int) -> int:
    return tasks if jax.default_backend() != "cpu" else max(1, _CACHE // max(1, task_bytes))


def divisor(number: int, most: int) -> int:
    """The largest divisor of number up to most."""
    return next(size for size in range(min(number, most), 0, -1) if number % size == 0)
