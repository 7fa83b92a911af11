"""What a tying costs: a training step of N models under a tying, against the same nodes free, and
against Python loops.

    python -m benchmarks.tying_cost steps --rounds 15
    python -m benchmarks.tying_cost loops --cells mlp/64/5 mlp/1024/5 --rounds 15

A cell is model/nodes/examples a node; every system makes the same step of gradient descent on phi,
on all nodes' data.

`steps`: `jaxmeta.tying.value_and_grad` under each tying, over `free`. Memory is the compiler's
plan, beyond what comes in and goes out, in units of one expansion. `whole` expands all nodes and
differentiates the mapped loss from outside, as one would without it.

`loops`: `tied` is that step in one program, `tied, N devices` with every core a device. Against it
the nodes in a Python loop: `jitted` calls one jitted value and gradient a node on expanded
parameters, stacks the gradients and brings them back through the tying, each jitted;
`jitted, lax.conv` the same with the framework's convolution; `eager` the same without any jit;
`unrolled` traces the loop into one program. A system that is left out took too long (`--without`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import NamedTuple

import jax

jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import jaxmeta as jm  # noqa: E402
import jaxmeta.tying as jt  # noqa: E402
from benchmarks import _record  # noqa: E402
from jaxmeta._pytree import nbytes  # noqa: E402
from jaxmeta.experiment.tyings import balanced  # noqa: E402

RATE, NAME = 0.01, "tying_cost"
MODELS = {  # of a convolution, and the shape of an example
    "conv4": (lambda conv: jm.models.conv4(5, 64, convolution=conv), (28, 28, 1)),
    "conv4-8": (lambda conv: jm.models.conv4(5, 8, convolution=conv), (28, 28, 1)),
    "mlp": (lambda conv: jm.models.mlp([64], 5), (84,)),
}


TYINGS = {
    "free": jt.free,
    "shared": jt.shared,
    "along_tree": lambda nodes: jt.along_tree(balanced(nodes), nodes=range(nodes)),
    "low_rank": lambda nodes: jt.low_rank(nodes, 4),
    "templates": lambda nodes: jt.templates(nodes, 8),
    "by_group": lambda nodes: jt.by_group(np.arange(nodes) % 8),
}


class Cell(NamedTuple):
    """Nodes' models and data.

    Args:
      make: The model, of a convolution.
      nodes: N.
      x, y: The nodes' data, `[N, n, ...]`.
      one: A model's parameters at one node.
    """

    make: Callable
    nodes: int
    x: jax.Array
    y: jax.Array
    one: dict


def cell_of(text: str) -> Cell:
    name, nodes, examples = text.split("/")
    (make, shape), nodes, rng = MODELS[name], int(nodes), np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(nodes, int(examples), *shape)), "float32")
    y = jnp.asarray(rng.integers(0, 5, (nodes, int(examples))))
    return Cell(make, nodes, x, y, jax.jit(make(None).init)(jax.random.key(0), x[0]))


def loss_of(cell: Cell, conv=None):
    """At a node, `(theta, x, y) -> value`."""
    model = cell.make(conv)
    return lambda theta, x, y: jm.cross_entropy(model.apply(theta, x), jm.Examples(x, y))[0]


def started(cell: Cell, tying):
    """Phi of a tying, moved a little so that nodes differ."""
    phi = jax.jit(tying.init)(jax.random.key(1), cell.one)
    return jax.tree.map(
        lambda leaf: (
            leaf + 1e-3 * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        ),
        phi,
    )


def descended(phi, grad):
    return jax.tree.map(lambda a, b: a - RATE * b, phi, grad)


def stepping(value_and_grad, *data):
    """The step `phi -> (value, phi)` of a gradient."""

    def run(phi):
        value, grad = value_and_grad(phi, *data)
        return value, descended(phi, grad)

    return run


def tied(cell: Cell, tying, mesh=None):
    return stepping(
        jt.value_and_grad(loss_of(cell), tying, jm.over_tasks(mesh=mesh)), cell.x, cell.y
    )


def whole(cell: Cell, tying):
    loss, over = loss_of(cell), jm.over_tasks()
    return stepping(
        jax.value_and_grad(
            lambda phi: over(
                lambda _, each: (loss(*each), ()), (), (tying.expand(phi), cell.x, cell.y)
            )[0]
        )
    )


def unrolled(cell: Cell, tying):
    loss = loss_of(cell)
    return stepping(
        jax.value_and_grad(
            lambda phi: (
                sum(
                    loss(jt.at_node(tying, phi, node), cell.x[node], cell.y[node])
                    for node in range(cell.nodes)
                )
                / cell.nodes
            )
        )
    )


def loop(cell: Cell, tying, jit, conv=None):
    """Node after node, from Python; jit is `jax.jit`, or leaves functions as they are."""
    each, expand = jit(jax.value_and_grad(loss_of(cell, conv))), jit(tying.expand)
    data = [(cell.x[node], cell.y[node]) for node in range(cell.nodes)]

    @jit
    def back(phi, grads):
        grads = jax.tree.map(lambda *leaves: jnp.stack(leaves) / cell.nodes, *grads)
        return descended(phi, jax.vjp(tying.expand, phi)[1](grads)[0])

    def run(phi):
        theta = expand(phi)
        found = [
            each(jax.tree.map(lambda leaf: leaf[node], theta), *data[node])
            for node in range(cell.nodes)
        ]
        return sum(value for value, _ in found) / cell.nodes, back(phi, [grad for _, grad in found])

    return run


def steps(given):
    """Of every cell and tying: time and memory of a step over those of free nodes."""
    for name in given.cells:
        cell, systems, about = cell_of(name), {}, {}
        expansion = cell.nodes * nbytes(cell.one)
        for tying in given.tyings:
            made = TYINGS[tying](cell.nodes)
            for form, step in {tying: tied, f"{tying}, whole": whole}.items():
                if form in (*given.tyings, *given.whole):
                    phi = started(cell, made)
                    systems[form], about[form] = _record.compiled(step(cell, made), phi)
                    about[form] |= {
                        "free_mb": nbytes(phi) / 1e6,
                        "temporary_in_expansions": about[form]["temporary_mb"] * 1e6 / expansion,
                    }
                    print(name, form, about[form], flush=True)
        _record.interleaved(systems, 2)
        times = _record.interleaved(systems, given.rounds)
        for form in about:
            about[form] |= {
                "milliseconds": float(np.median(times[form])),
                "against_free": _record.median_ratio(times[form], times["free"]),
            }
            print(name, form, about[form]["milliseconds"], about[form]["against_free"])
        keep(
            "steps",
            name,
            {
                "settings": vars(given),
                "expansion_mb": expansion / 1e6,
                "systems": about,
                "rounds": times,
            },
        )


def loops(given):
    """Of every cell: Python loops over the time of the one program."""
    mesh = jm.task_mesh()
    for name in given.cells:
        cell, made = cell_of(name), TYINGS[given.tying]
        made, phi = made(cell.nodes), started(cell, made(cell.nodes))
        several = f"tied, {mesh.size} devices"
        ahead = {
            "tied": tied(cell, made),
            several: tied(cell, made, mesh),
            "unrolled": unrolled(cell, made),
        }
        called = {
            "jitted": loop(cell, made, jax.jit),
            "eager": loop(cell, made, lambda function: function),
        }
        if name.startswith("conv"):
            called["jitted, lax.conv"] = loop(cell, made, jax.jit, jm.models.lax_conv)
        systems, about = {}, {}
        for form, step in ahead.items():
            if form not in given.without:
                systems[form], about[form] = _record.compiled(
                    step, replicated(phi, mesh) if form == several else phi
                )
        for form, step in called.items():
            if form not in given.without:
                systems[form], about[form] = (
                    (lambda step=step: jax.block_until_ready(step(phi))),
                    {},
                )
        found = {form: run() for form, run in systems.items()}
        for value, moved in found.values():
            np.testing.assert_allclose(value, found["tied"][0], rtol=1e-4)
            for ours, theirs in zip(jax.tree.leaves(found["tied"][1]), jax.tree.leaves(moved)):
                np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
        _record.interleaved(systems, 1)
        times = _record.interleaved(systems, given.rounds)
        for form in about:
            about[form] |= {
                "milliseconds": float(np.median(times[form])),
                "against_tied": _record.median_ratio(times[form], times["tied"]),
            }
            print(name, form, about[form], flush=True)
        keep("loops", name, {"settings": vars(given), "systems": about, "rounds": times})


def replicated(phi, mesh):
    return jax.device_put(phi, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def keep(part: str, cell: str, found: dict):
    """Adds a cell to the record."""
    record = _record.read(NAME)
    record.setdefault(part, {})[cell] = found | {
        "environment": _record.environment("jax", "jaxlib", "flax")
    }
    print(_record.write(NAME, record))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("steps", "loops"))
    parser.add_argument("--cells", nargs="+", default=["conv4/64/5"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--tyings",
        nargs="+",
        choices=TYINGS,
        default=list(TYINGS),
        help="of steps; free among them",
    )
    parser.add_argument(
        "--whole",
        nargs="*",
        default=["along_tree, whole"],
        help="of steps: which are also made whole",
    )
    parser.add_argument("--tying", choices=TYINGS, default="along_tree", help="of loops")
    parser.add_argument(
        "--without", nargs="*", default=[], help="of loops: systems that take too long"
    )
    given = parser.parse_args()
    {"steps": steps, "loops": loops}[given.part](given)


if __name__ == "__main__":
    main()
