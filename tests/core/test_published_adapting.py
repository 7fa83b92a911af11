"""Methods that adapt a model beside references in numpy, written from the papers: the same outer
gradient. What a reference makes of theta is differentiated by the complex step, but where the paper
says another gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest
from references import (
    KEY,
    RATE,
    STEPS,
    agrees,
    conjugate,
    descended,
    each,
    features,
    flat,
    hessian,
    like,
    loss,
    moved,
    over,
    same,
    shares,
    slope,
    slopes,
    started,
    tasks,
)

import jaxmeta as jm
import jaxmeta.tying as jt
from jaxmeta.hierarchy import Tree


def learner(model=None):
    return jm.gradient(model or problems.smooth_model(), update=optax.sgd(RATE), steps=STEPS)


def encoder():
    return problems.smooth_model(None)


def test_maml_is_the_papers():
    algorithm = jm.maml(learner())
    agrees(
        algorithm,
        started(algorithm.bilevel),
        over(lambda phi, task: loss(descended(phi, task.support), task.query)),
    )


def test_fomaml_is_the_papers():
    """The query's gradient where learning ends."""
    algorithm = jm.fomaml(learner())
    theta = started(algorithm.bilevel)
    ends = [(descended(theta, task.support), task.query) for task in each(tasks())]
    grads = np.mean([flat(slope(*end)) for end in ends], axis=0)
    same(algorithm, theta, np.mean([loss(*end) for end in ends]), like(theta, grads))


def test_reptile_is_the_papers():
    """From the start to the mean of where learning ends, so that descent at rate e is
    `theta + e (mean phi_K - theta)`."""
    algorithm = jm.reptile(learner())
    theta = started(algorithm.bilevel)
    ends = [descended(theta, task.support) for task in each(tasks())]
    value = np.mean([loss(end, task.query) for end, task in zip(ends, each(tasks()))])
    same(
        algorithm,
        theta,
        value,
        like(theta, flat(theta) - np.mean([flat(end) for end in ends], axis=0)),
    )


def test_reptile_sees_minibatches_in_training_alone():
    algorithm, plain = jm.reptile(learner(), 2), jm.reptile(learner())
    theta, batch = started(plain.bilevel), tasks()
    seen = plain.bilevel._replace(bias=jm.compose(jm.minibatches(2), jm.initialisation()))
    found, _ = algorithm.estimator.estimate(KEY, algorithm.bilevel, theta, batch, ())
    expected, _ = plain.estimator.estimate(KEY, seen, ((), theta), batch, ())
    whole, _ = plain.estimator.estimate(KEY, plain.bilevel, theta, batch, ())
    np.testing.assert_array_equal(flat(found.grad), flat(expected.grad[1]))
    assert np.abs(flat(found.grad) - flat(whole.grad)).max() > 1e-3
    task = problems.one(batch)
    judged = [jm.outcome(KEY, each.bilevel, theta, task)[0] for each in (algorithm, plain)]
    assert judged[0] == judged[1]


def test_anil_is_the_papers():
    head = jm.learner.linear(problems.WAYS, optax.sgd(RATE), STEPS)
    algorithm = jm.anil(encoder(), head)

    def reference(theta, task):
        body, w = theta[0]["body"], theta[1]
        x, own = features(body, task.support.x), np.eye(problems.WAYS)[task.support.y]
        for _ in range(STEPS):
            w = w - RATE * (shares(x @ w.T) - own).T @ x / len(x)
        return loss(
            {"body": body, "head": {"kernel": w.T, "bias": np.zeros(problems.WAYS)}}, task.query
        )

    agrees(algorithm, started(algorithm.bilevel), over(reference))


def test_boil_is_the_papers():
    algorithm = jm.boil(learner())

    def reference(theta, task):
        (head, body) = theta[0]["head"], theta[1]["body"]
        for _ in range(STEPS):
            body = moved(body, slope({"body": body, "head": head}, task.support)["body"])
        return loss({"body": body, "head": head}, task.query)

    agrees(algorithm, started(algorithm.bilevel), over(reference))


def test_meta_sgd_is_the_papers():
    algorithm = jm.meta_sgd(learner())

    def reference(theta, task):
        phi, rates = theta
        for _ in range(STEPS):
            phi = jax.tree.map(
                lambda leaf, a, g: leaf - RATE * a * g, phi, rates, slope(phi, task.support)
            )
        return loss(phi, task.query)

    agrees(algorithm, started(algorithm.bilevel), over(reference))


def test_meta_curvature_is_the_papers():
    """A matrix for every mode of a gradient."""
    algorithm = jm.meta_curvature(learner())

    def reference(theta, task):
        phi, metric = theta
        for _ in range(STEPS):
            grads = slope(phi, task.support)
            grads = {
                name: {
                    "kernel": m["kernel"][0] @ grads[name]["kernel"] @ m["kernel"][1].T,
                    "bias": m["bias"][0] @ grads[name]["bias"],
                }
                for name, m in metric.items()
            }
            phi = moved(phi, grads)
        return loss(phi, task.query)

    agrees(algorithm, started(algorithm.bilevel), over(reference))


def test_t_net_is_the_papers():
    """Outputs V x are warped by T: W = T V with a column for each input, and only V moves. Offsets
    are not warped (ours)."""
    algorithm = jm.algorithms.t_net(learner())

    def reference(theta, task):
        _, (warps, _), (start, rest) = theta
        warp = {name: warps["structure"][name]["kernel"][0] for name in ("body", "head")}
        low = {name: rest[name] | {"kernel": start["free"][name]["kernel"]} for name in warp}

        def net(low):
            return {
                name: layer | {"kernel": layer["kernel"] @ warp[name].T}
                for name, layer in low.items()
            }

        for _ in range(STEPS):
            grads = slope(net(low), task.support)
            low = moved(
                low,
                {
                    name: layer | {"kernel": layer["kernel"] @ warp[name]}
                    for name, layer in grads.items()
                },
            )
        return loss(net(low), task.query)

    agrees(algorithm, started(algorithm.bilevel), over(reference))


def test_cavia_is_the_papers():
    """Inputs that begin at 0 in every task and alone adapt."""
    algorithm = jm.cavia(learner(), size=2)

    def reference(theta, task):
        def joined(context, batch):
            return batch._replace(
                x=np.concatenate([batch.x, np.broadcast_to(context, (len(batch.x), 2))], axis=1)
            )

        context = np.zeros(2)
        for _ in range(STEPS):
            context = context - RATE * slopes(theta, joined(context, task.support))[1].sum(0)[-2:]
        return loss(theta, joined(context, task.query))

    agrees(algorithm, started(algorithm.bilevel), over(reference))


@pytest.mark.parametrize(
    "solver, solved",
    [
        (jm.cg(5), lambda matrix, b: conjugate(matrix, b, 5)),
        (jm.estimator.direct(), np.linalg.solve),
    ],
    ids=["cg", "direct"],
)
def test_imaml_is_the_papers(solver, solved):
    """Adapted under a proximal term, `(I + H / lambda)^-1 d query / d phi` with H of the support's
    loss alone."""
    strength = 2.0
    algorithm = jm.imaml(learner(), strength, solver)
    theta = started(algorithm.bilevel)
    values, grads = [], []
    for task in each(tasks()):
        phi = theta
        for _ in range(STEPS):
            near = jax.tree.map(lambda leaf, start: strength * (leaf - start), phi, theta)
            phi = moved(phi, jax.tree.map(np.add, slope(phi, task.support), near))
        matrix = np.eye(len(flat(phi))) + hessian(phi, task.support) / strength
        values.append(loss(phi, task.query))
        grads.append(solved(matrix, flat(slope(phi, task.query))))
    same(algorithm, theta, np.mean(values), like(theta, np.mean(grads, axis=0)))


def test_proto_maml_is_the_papers():
    """A head that begins at twice the prototypes, offsets at less their squares."""
    algorithm = jm.algorithms.proto_maml(learner(), encoder())

    def reference(theta, task):
        body = theta[0]["body"]
        x, y = features(body, task.support.x), task.support.y
        means = np.array([x[y == way].mean(0) for way in range(problems.WAYS)])
        head = {"kernel": 2 * means.T, "bias": -(means**2).sum(1)}
        return loss(descended({"body": body, "head": head}, task.support), task.query)

    agrees(algorithm, started(algorithm.bilevel), over(reference))


def test_tree_maml_is_ours():
    """Starts are sums of differences from the root to the task's node, and differences are
    preferred small."""
    tree, scales, strength = (
        Tree.from_nested((0, (1, 2))),
        [0.5, 2.0],
        0.7,
    )  # nodes 3 and 4 are the root and the pair
    algorithm = jm.algorithms.tree_maml(learner(), tree, scales, strength)
    batch = tasks()._replace(node=jnp.array([0, 2]))
    paths, depths = {0: [3, 0], 2: [3, 4, 2]}, {0: 1, 4: 1, 1: 2, 2: 2}

    def reference(delta, task):
        phi = jax.tree.map(lambda leaf: leaf[paths[int(task.node)]].sum(0), delta)
        prior = sum(
            (leaf[node] ** 2).sum() / 2 / scales[depth - 1] ** 2
            for leaf in jax.tree.leaves(delta)
            for node, depth in depths.items()
        )
        return loss(descended(phi, task.support), task.query) + strength * prior

    agrees(algorithm, started(algorithm.bilevel, batch), over(reference, batch), batch=batch)


def test_soft_tree_maml_is_ours():
    """The same, the way from a concept to the root being a softmax of noisy logits at each
    level."""
    strength, temperature, (top, own) = 0.7, 0.8, (0.5, 2.0)
    algorithm = jm.algorithms.soft_tree_maml(learner(), 3, (2,), [top, own], strength, temperature)
    batch = tasks()._replace(node=jnp.array([0, 2]))
    noise = np.asarray(jax.random.gumbel(jax.random.split(jax.random.split(KEY)[1], 1)[0], (3, 2)))

    def reference(theta, task):
        (structure,), delta, node = (
            theta["structure"],
            theta["delta"],
            int(task.node),
        )  # rows: 3 concepts, root, 2 nodes
        route = shares((structure + noise) / temperature)[node]
        phi = jax.tree.map(
            lambda leaf: leaf[3] + top * np.tensordot(route, leaf[4:], 1) + own * leaf[node], delta
        )
        prior = sum(
            (leaf[row] ** 2).sum() / 2 for leaf in jax.tree.leaves(delta) for row in (0, 1, 2, 4, 5)
        )
        return loss(descended(phi, task.support), task.query) + strength * prior

    agrees(algorithm, started(algorithm.bilevel, batch), over(reference, batch), batch=batch)


@pytest.mark.parametrize(
    "tying", [jt.reparameterised(3, 0.3, 0.5), jt.kronecker()], ids=["U", "kronecker"]
)
def test_msr_is_the_papers(tying):
    """vec W = U v; only v moves, at learned rates. Offsets are free."""
    placed = jt.applied({jm.named("kernel"): tying}, rest=jt.identity())
    algorithm = jm.algorithms.msr(learner(), placed, rate=0.9)

    def reference(theta, task):
        _, (shared, _), (start, rest), (rates, rest_rates) = theta
        structure = {name: layer["kernel"] for name, layer in shared["structure"].items()}
        if tying.init(KEY, jnp.ones((2, 2)))["free"].ndim == 1:
            full = {name: u.reshape(-1, u.shape[-1]) for name, u in structure.items()}
        else:
            full = {
                name: np.kron(*factors) for name, factors in structure.items()
            }  # of rows, one after the other
        sizes = {
            "body": (problems.FEATURES, problems.WIDTH),
            "head": (problems.WIDTH, problems.WAYS),
        }
        low = {
            name: {"kernel": start["free"][name]["kernel"], "bias": rest[name]["bias"]}
            for name in full
        }
        rate = {
            name: {"kernel": rates["free"][name]["kernel"], "bias": rest_rates[name]["bias"]}
            for name in full
        }

        def net(low):
            return {
                name: layer
                | {"kernel": (full[name] @ layer["kernel"].ravel()).reshape(sizes[name])}
                for name, layer in low.items()
            }

        for _ in range(STEPS):
            grads = {
                name: layer
                | {
                    "kernel": (full[name].T @ layer["kernel"].ravel()).reshape(
                        low[name]["kernel"].shape
                    )
                }
                for name, layer in slope(net(low), task.support).items()
            }
            low = jax.tree.map(lambda leaf, a, g: leaf - RATE * a * g, low, rate, grads)
        return loss(net(low), task.query)

    agrees(algorithm, started(algorithm.bilevel), over(reference))
