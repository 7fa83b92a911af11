"""What a tying costs: a training step of 64 Conv4s under a tying, against the same nodes free, and against a Python loop.

    python -m benchmarks.tying_cost --rounds 7

Systems, each one step of gradient descent on all nodes' data: `free` steps theta `[N, ...]` itself; `<tying>` expands phi
inside the loss and steps phi; `loop` expands, calls a jitted value and gradient a node on its own and brings the gradients
back through the tying. Nodes are mapped by `jaxmeta.over_tasks`. Memory is the compiler's plan: a program's temporaries, in
units of one expansion.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import jaxmeta as jm
import jaxmeta.tying as jt
from benchmarks import _record
from jaxmeta._pytree import nbytes
from jaxmeta.hierarchy import Tree

RATE = 0.01


def binary(size: int) -> Tree:
    """A balanced binary tree."""
    forms = list(range(size))
    while len(forms) > 1:
        forms = [tuple(forms[i:i + 2]) if len(forms[i:i + 2]) > 1 else forms[i] for i in range(0, len(forms), 2)]
    return Tree.from_nested(forms[0])


def tyings(nodes: int) -> dict[str, jt.Tying]:
    tree = binary(nodes)
    return {"shared": jt.shared(nodes), "along_tree": jt.along_tree(tree, nodes=range(nodes)),
            "low_rank": jt.low_rank(nodes, 4), "templates": jt.templates(nodes, 8),
            "by_group": jt.by_group(np.arange(nodes) % 8)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--examples", type=int, default=5, help="a node")
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--side", type=int, default=28, help="of the images")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--chunk", type=int, default=None, help="nodes vmapped at a time; default jaxmeta's own")
    parser.add_argument("--loop", nargs="*", default=["shared"], help="tyings that are also run as a Python loop")
    parser.add_argument("--only", nargs="*", default=None, help="tyings, by name")
    parser.add_argument("--name", default="tying_cost")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(given.nodes, given.examples, given.side, given.side, 1)), "float32")
    y = jnp.asarray(rng.integers(0, 5, (given.nodes, given.examples)))
    model, over = jm.models.conv4(5, given.filters), jm.over_tasks(given.chunk)
    one = jax.jit(model.init)(jax.random.key(0), x[0])

    def node_loss(theta, x, y):
        return jm.cross_entropy(model.apply(theta, x), jm.Examples(x, y))[0]

    def step(tying):
        def loss(phi):
            theta = tying.expand(phi)
            return over(lambda _, each: (node_loss(*each), ()), (), (theta, x, y))[0]

        def run(phi):
            value, grad = jax.value_and_grad(loss)(phi)
            return value, jax.tree.map(lambda a, b: a - RATE * b, phi, grad)

        return run

    def python_loop(tying, phi):
        each = jax.jit(jax.value_and_grad(node_loss))
        expand = jax.jit(tying.expand)
        back = jax.jit(lambda phi, grads: jax.tree.map(lambda a, b: a - RATE * b / given.nodes, phi, jax.vjp(
            tying.expand, phi)[1](jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads))[0]))
        data = [(x[node], y[node]) for node in range(given.nodes)]

        def run():
            theta = expand(phi)
            found = [each(jax.tree.map(lambda leaf, node=node: leaf[node], theta), *data[node])
                     for node in range(given.nodes)]
            return jax.block_until_ready((sum(value for value, _ in found) / given.nodes, back(phi, [g for _, g in found])))

        return run

    free = jt.free(given.nodes)
    systems, about = {}, {}
    chosen = {"free": free} | {name: tying for name, tying in tyings(given.nodes).items()
                               if given.only is None or name in given.only}
    expansion = given.nodes * nbytes(one)
    for name, tying in chosen.items():
        phi = jax.jit(tying.init)(jax.random.key(1), one)
        systems[name], about[name] = _record.compiled(step(tying), phi)
        about[name] |= {"free_mb": nbytes(phi) / 1e6,
                        "expand_temporary_mb": _record.compiled(tying.expand, phi)[1]["temporary_mb"]}
        about[name]["temporary_over_free_in_expansions"] = (
            (about[name]["temporary_mb"] - about["free"]["temporary_mb"]) * 1e6 / expansion)
        if name in given.loop:
            systems[f"loop {name}"] = python_loop(tying, phi)
            np.testing.assert_allclose(systems[f"loop {name}"]()[0], systems[name]()[0], rtol=1e-4)
    _record.interleaved(systems, 1)
    times = _record.interleaved(systems, given.rounds)
    for name in about:
        about[name] |= {"milliseconds": float(np.median(times[name])),
                        "against_free": _record.median_ratio(times[name], times["free"])}
        if f"loop {name}" in times:
            about[name]["loop_against_it"] = _record.median_ratio(times[f"loop {name}"], times[name])
        print(name, about[name], flush=True)
    print(_record.write(given.name, {"environment": _record.environment("jax", "jaxlib", "flax"), "settings": vars(given),
                                     "device": jax.devices()[0].device_kind, "expansion_mb": expansion / 1e6,
                                     "systems": about, "milliseconds": times}))


if __name__ == "__main__":
    main()
