"""Does learning by the query find planted groups, tied entries and trees?

    python -m benchmarks.learned_groups [--parts groups entries trees] [--seeds 10]

All tasks are linear regressions y = x . w + noise, x standard normal; all structure is learned by
soft tyings, Gumbel-softmax at temperature 1 (`jaxmeta.estimator.perturbed`), with Adam. Seeds and
restarts are one vmapped program.

`groups`: 24 nodes in 4 groups of 6, w of 8 entries: standard normal by group plus the node's own,
of several deviations. A node has 10 examples (or 20). MAML with `soft_by_group`, 8 restarts, of
which the one of least outer loss counts. Adjusted Rand index with the planted groups; against
k-means (10 starts) on ridge regressions of the same examples, on the true w, and on noise.

`entries`: w of 32 entries that are 4 values, mixed up; 100 tasks have values of their own, plus
every entry's own. 6 examples a support, 6 a query. `tied(soft_by_index(4))`, the assignment the
high level's, the values learned in 5 steps. Against k-means on the entries of ridge regressions, on
the true w, and on noise. The loss is on 100 new tasks, against true groups and no tying.

`trees`: 18 nodes under 3 x 3 x 2 branches, w of 8 or 32 entries that walk down the tree by steps of
deviation 1, 0.7 and 0.3, and noise of several deviations. A node has twice as many examples as w
has entries, half of them support; new ones of the same nodes to test, as many to adapt to, 60 to
judge by. Trees of widths (3, 9) are found by nearness (MAML with `near_tree`, its temperature
falling from 10 to 0.1), by logits (`soft_tree_maml`), of 4 restarts each the one of least outer
loss, penalty and all, and by Ward's linkage cut at 3 and 9, of ridge regressions and of the true w.
Every tree is then learned anew. All know the scales of the depths and the noise, so that the
prior's strength is that of the posterior's mode. Triplet agreement with the planted tree; paired
squared errors; and the outer loss that a tree reaches less that of the true one: below 0, the true
tree is not what the examples say, and no search by this loss could find it.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.cluster.hierarchy import cut_tree, linkage
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import jaxmeta as jm
from benchmarks._record import environment, write
from jaxmeta import hierarchy as jh, tying as jt
from jaxmeta.algorithms import soft_tree_maml
from jaxmeta.base import Algorithm, Bilevel, Examples, Task
from jaxmeta.bias import hierarchical, tied
from jaxmeta.estimator import penalised, perturbed, unrolled
from jaxmeta.evaluation import t_interval
from jaxmeta.models import Model
from jaxmeta.tasks import planted_means
from jaxmeta.tying import Tying

LINEAR = Model(lambda key, x: jnp.zeros(x.shape[-1], x.dtype), lambda w, x, reference=None: x @ w)
STRUCTURE = jm.named("structure")
SPLITS = 60  # of a node's examples in support and query, drawn before and gone through in turn
NOISE = 0.5


def drawn(key, w, count, noise=NOISE) -> Examples:
    """`count` examples of every row of w."""
    key_x, key_noise = jax.random.split(key)
    x = jax.random.normal(key_x, (len(w), count, w.shape[1]))
    return Examples(
        x, jnp.einsum("cnd,cd->cn", x, w) + noise * jax.random.normal(key_noise, x.shape[:2])
    )


def joined(*parts: Examples) -> Examples:
    return Examples(
        *(jnp.concatenate(fields, axis=1) for fields in zip(*(part[:2] for part in parts)))
    )


def first(data: Examples, count: int) -> Task:
    """Support the first of every node's examples, query the others."""
    return Task(
        *(
            Examples(*(field[:, part] for field in data[:2]))
            for part in (slice(count), slice(count, None))
        ),
        jnp.arange(len(data.x)),
    )


def splits(key, data: Examples, shots: int) -> Task:
    """`[SPLITS, N, ...]`: every node's examples parted at random."""

    def one(key):
        order = jnp.argsort(jax.random.uniform(key, data.y.shape), axis=1)
        return first(
            Examples(*(jax.vmap(lambda row, at: row[at])(field, order) for field in data[:2])),
            shots,
        )

    return jax.vmap(one)(jax.random.split(key, SPLITS))


def paced(rate: float, structure: float):
    """Adam, and another rate for the structure."""

    def label(theta):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: (
                "structure"
                if STRUCTURE(jax.tree_util.keystr(path, simple=True, separator="/"))
                else "rest"
            ),
            theta,
        )

    return optax.partition({"structure": optax.adam(structure), "rest": optax.adam(rate)}, label)


def trained(key, algorithm: Algorithm, optimiser, pool: Task, steps: int, annealed=None):
    """Theta after steps that go through the pool in turn, and the mean outer loss of the last
    round; `annealed` gives the estimator by the share of the steps that are made, where it
    changes."""
    key_init, key_steps = jax.random.split(key)
    theta = algorithm.bilevel.init(key_init, jax.tree.map(lambda leaf: leaf[0, 0], pool))
    rounds = len(jax.tree.leaves(pool)[0])

    def step(carry, i):
        theta, memory = carry
        tasks = jax.tree.map(lambda leaf: leaf[i % rounds], pool)
        estimator = algorithm.estimator if annealed is None else annealed(i / steps)
        estimate, _ = estimator.estimate(
            jax.random.fold_in(key_steps, i), algorithm.bilevel, theta, tasks, ()
        )
        updates, memory = optimiser.update(estimate.grad, memory, theta)
        return (optax.apply_updates(theta, updates), memory), estimate.loss

    (theta, _), losses = jax.lax.scan(step, (theta, optimiser.init(theta)), jnp.arange(steps))
    return theta, losses[-rounds:].mean()


def judged(bilevel: Bilevel, theta, tasks: Task):
    """Mean query loss after learning, nothing disturbed."""
    return jnp.mean(
        jax.vmap(lambda task: jm.process.outcome(jax.random.key(0), bilevel, theta, task)[0])(tasks)
    )


def ridge(data: Examples, noise=NOISE):
    """`[N, d]`: every node fitted alone, to the variance of noise over that of w."""
    eye = jnp.eye(data.x.shape[-1])
    return jax.vmap(lambda x, y: jnp.linalg.solve(x.T @ x + noise**2 * eye, x.T @ y))(
        data.x, data.y
    )


def k_means(vectors, groups):
    return KMeans(groups, n_init=10, random_state=0).fit_predict(vectors)


def regressor(rate, steps):
    return jm.gradient(LINEAR, jm.squared_error, optax.sgd(rate), steps)


def interval(values) -> dict:
    mean, half = t_interval(values)
    return {"mean": float(mean), "half": float(half)}


def rand_indices(truth, found) -> np.ndarray:
    return np.array([adjusted_rand_score(np.ravel(a), np.ravel(b)) for a, b in zip(truth, found)])


def agreements(truth, out) -> dict[str, np.ndarray]:
    """Adjusted Rand indices with the truth of what was learned, by all restarts and by that of
    least outer loss, and of k-means."""
    each = np.stack([rand_indices(truth, found) for found in np.swapaxes(out["all"], 0, 1)], 1)
    noise = np.random.default_rng(0).normal(size=(*out["ridge"].shape[:2], 1))
    values = {
        "learned": each[np.arange(len(each)), out["best"]],
        "any restart": each.mean(1),
        "best restart": each.max(1),
    }
    values |= {
        f"k-means on {name}": rand_indices(truth, [k_means(one, GROUPS) for one in vectors])
        for name, vectors in (("ridge", out["ridge"]), ("true w", out["w"]), ("noise", noise))
    }
    return values | {"learned - k-means on ridge": values["learned"] - values["k-means on ridge"]}


# Groups of nodes

NODES, GROUPS, SIZE = 24, 4, 8


def groups(
    seeds: int, restarts: int = 8, steps: int = 800, rates=(0.05, 0.015), shots: int = 3
) -> dict:
    learner = regressor(0.1, 1)
    algorithm = Algorithm(
        Bilevel(
            hierarchical(jm.initialisation(), jt.soft_by_group(NODES, GROUPS, spread=0.1)), learner
        ),
        perturbed(unrolled(), where=STRUCTURE),
    )
    planted = np.arange(NODES) % GROUPS

    def seed(key, sigma, count):
        key_groups, key_own, key_data, key_splits, key_runs = jax.random.split(key, 5)
        w = jax.random.normal(key_groups, (GROUPS, SIZE))[planted] + sigma * jax.random.normal(
            key_own, (NODES, SIZE)
        )
        data = drawn(key_data, w, count)
        pool = splits(key_splits, data, shots)

        def run(key):
            phi, loss = trained(key, algorithm, paced(*rates), pool, steps)
            return jnp.argmax(phi["structure"], -1), loss

        found, losses = jax.vmap(run)(jax.random.split(key_runs, restarts))
        return {"all": found, "best": jnp.argmin(losses), "ridge": ridge(data), "w": w}

    program = jax.jit(jax.vmap(seed, (0, None, None)), static_argnums=2)
    cells = {}
    for count, sigma in ((10, 0.1), (10, 0.3), (10, 0.5), (10, 0.8), (20, 0.5)):
        out = jax.device_get(program(jax.random.split(jax.random.key(1), seeds), sigma, count))
        cells[f"{count} examples, own deviation {sigma}"] = show(
            f"groups, {count} examples, own deviation {sigma}", agreements([planted] * seeds, out)
        )
    return cells


# Entries of an array

ENTRIES, TASKS, HALF = 32, 100, 6


def entries(
    seeds: int,
    restarts: int = 8,
    steps: int = 800,
    rates=(0.05, 0.015),
    inner=(0.02, 5),
    batch: int = 20,
) -> dict:
    learner = regressor(*inner)

    def problem(tying):
        return Bilevel(jm.compose(tied(tying), jm.shared(STRUCTURE), jm.initialisation()), learner)

    soft = problem(jt.soft_by_index(GROUPS))
    plain = Bilevel(jm.initialisation(), learner)

    def seed(key, sigma):
        key_index, key_data, key_new, key_runs, key_one = jax.random.split(key, 5)
        index = jax.random.permutation(key_index, jnp.arange(ENTRIES) % GROUPS)

        def tasks(key):
            key_values, key_own, key_examples = jax.random.split(key, 3)
            w = jax.random.normal(key_values, (TASKS, GROUPS))[:, index]
            w = w + sigma * jax.random.normal(key_own, w.shape)
            return w, drawn(key_examples, w, 2 * HALF)

        w, data = tasks(key_data)
        new = first(tasks(key_new)[1], HALF)
        pool = jax.tree.map(
            lambda leaf: leaf.reshape(-1, batch, *leaf.shape[1:]), first(data, HALF)
        )
        hot = 100 * jax.nn.one_hot(index, GROUPS)

        def learned(bilevel, key):
            estimator = perturbed(unrolled(), where=STRUCTURE)
            return trained(key, Algorithm(bilevel, estimator), paced(*rates), pool, steps)

        def run(key):
            theta, loss = learned(soft, key)
            return jnp.argmax(theta[1]["structure"], -1), loss, judged(soft, theta, new)

        found, losses, errors = jax.vmap(run)(jax.random.split(key_runs, restarts))
        true = problem(
            jt.soft_by_index(GROUPS)._replace(
                init=lambda key, w: {"structure": hot, "bank": jnp.zeros(GROUPS)}
            )
        )
        untied, _ = trained(
            key_one, Algorithm(plain, unrolled()), optax.adam(rates[0]), pool, steps
        )
        shared, _ = trained(
            key_one,
            Algorithm(true, unrolled()),
            optax.partition(
                {"structure": optax.set_to_zero(), "rest": optax.adam(rates[0])},
                lambda theta: (
                    (),
                    {"structure": "structure", "bank": "rest"},
                    {"structure": "rest", "bank": "rest"},
                ),
            ),
            pool,
            steps,
        )
        return {
            "all": found,
            "best": jnp.argmin(losses),
            "error": errors,
            "true error": judged(true, shared, new),
            "untied error": judged(plain, untied, new),
            "ridge": ridge(data).T,
            "w": w.T,
            "index": index,
        }

    program, cells = jax.jit(jax.vmap(seed, (0, None))), {}
    for sigma in (0.0, 0.3, 0.6):
        out = jax.device_get(program(jax.random.split(jax.random.key(2), seeds), sigma))
        error = out["error"][np.arange(seeds), out["best"]]
        cells[f"own deviation {sigma}"] = show(
            f"entries, own deviation {sigma}",
            agreements(out["index"], out)
            | {
                "learned, error": error,
                "true groups, error": out["true error"],
                "untied, error": out["untied error"],
                "learned - true groups, error": error - out["true error"],
            },
        )
    return cells


# Trees

TREE = jh.Tree.from_nested(
    (((0, 1), (2, 3), (4, 5)), ((6, 7), (8, 9), (10, 11)), ((12, 13), (14, 15), (16, 17)))
)
WIDTHS, SCALES = (3, 9), (1.0, 0.7, 0.3)
JUDGE, HOT, COLD = 60, 10.0, 0.1
CELLS = ((8, 0.5), (32, 0.5), (32, 1.0), (32, 2.0))  # entries of w, deviation of noise


def ancestors_of(vectors) -> np.ndarray:
    """`[2, N]`: Ward's linkage, cut at the widths."""
    return cut_tree(linkage(vectors, "ward"), WIDTHS).T


def paths_of(ancestors) -> np.ndarray:
    """`[N, M]`, rows as those of `soft_along_tree`, from every level's ancestors."""
    return np.concatenate(
        [
            np.eye(TREE.size),
            np.ones((TREE.size, 1)),
            *(np.eye(width)[at] for width, at in zip(WIDTHS, ancestors)),
        ],
        axis=1,
    )


def tree_of(ancestors) -> jh.Tree:
    above = np.eye(WIDTHS[0])[
        [
            at[0] if at.size else 0
            for at in (ancestors[0][ancestors[1] == node] for node in range(WIDTHS[1]))
        ]
    ]
    return jt.decided_tree([above, np.eye(WIDTHS[1])[ancestors[1]]])


def nearest(children, parents):
    return jnp.argmin(jnp.sum((children[:, None] - parents[None]) ** 2, -1), 1)


def summed(paths, strength) -> tuple[Tying, callable]:
    """Sums along paths that are arrays, so that trees of many seeds are one program; and what they
    prefer."""
    scales = np.repeat([SCALES[2], np.inf, SCALES[0], SCALES[1]], [TREE.size, 1, *WIDTHS])
    tying = Tying(lambda key, w: jnp.zeros((len(scales), *w.shape)), lambda delta: paths @ delta)
    return tying, lambda delta: strength * jnp.sum(delta**2 / (2 * jnp.asarray(scales**2))[:, None])


def strength_of(size: int, noise):
    """Of the negative log prior against the mean squared error over all examples."""
    return 2 * noise**2 / (TREE.size * 2 * size)


def drawn_tree(key, size: int, noise):
    """W, a node's examples as they are, in random halves, and new ones."""
    keys = jax.random.split(key, 4)
    w = planted_means(keys[0], TREE, size, SCALES)
    known, new = drawn(keys[1], w, 2 * size, noise), drawn(keys[2], w, size + JUDGE, noise)
    return w, known, splits(keys[3], known, size), first(new, size)


def by_nearness(key, pool: Task, strength, learner, steps: int = 800):
    """What concepts' ancestors are, and the outer loss."""

    def annealed(share):
        tying = jt.near_tree(TREE.size, WIDTHS, SCALES, HOT * jnp.power(COLD / HOT, share))
        return penalised(
            perturbed(unrolled(), jax.random.normal, 0.01, STRUCTURE), tying.penalty, strength
        )

    tying = jt.near_tree(TREE.size, WIDTHS, SCALES, COLD)
    algorithm = Algorithm(Bilevel(hierarchical(jm.initialisation(), tying), learner), annealed(1.0))
    phi, loss = trained(key, algorithm, optax.adam(0.03), pool, steps, annealed)
    _, top, low = phi["structure"]
    at = nearest(phi["theta"], low)
    return jnp.stack([nearest(low, top)[at], at]), loss


def by_logits(key, pool: Task, strength, learner, steps: int = 800):
    phi, loss = trained(
        key,
        soft_tree_maml(learner, TREE.size, WIDTHS, SCALES, strength),
        paced(0.05, 0.015),
        pool,
        steps,
    )
    top, low = (jnp.argmax(logits, -1) for logits in phi["structure"])
    return jnp.stack([top[low], low]), loss


SEARCHES = {"nearness": by_nearness, "logits": by_logits}


def programs_of(size: int, restarts: int = 4, refit: int = 300) -> dict:
    """Jitted, over seeds: searches, what else is seen, and a tree that is given, learned."""
    learner = regressor(0.1, 1)

    def searching(search):
        def one(key, noise):
            _, _, pool, _ = drawn_tree(key, size, noise)
            return jax.vmap(lambda key: search(key, pool, strength_of(size, noise), learner))(
                jax.random.split(jax.random.fold_in(key, 1), restarts)
            )

        return jax.jit(jax.vmap(one, (0, None)))

    def seen(key, noise):
        w, known, _, _ = drawn_tree(key, size, noise)
        return ridge(known, noise), w

    def given(key, noise, paths):
        _, _, pool, new = drawn_tree(key, size, noise)
        tying, prior = summed(paths, strength_of(size, noise))
        algorithm = Algorithm(
            Bilevel(hierarchical(jm.initialisation(), tying), learner), penalised(unrolled(), prior)
        )
        delta, loss = trained(
            key, algorithm, optax.adam(optax.cosine_decay_schedule(0.1, refit)), pool, refit
        )
        return judged(algorithm.bilevel, delta, new), loss

    return {name: searching(search) for name, search in SEARCHES.items()} | {
        "seen": jax.jit(jax.vmap(seen, (0, None))),
        "given": jax.jit(jax.vmap(jax.vmap(given, (None, None, 0)), (0, None, 1))),
    }


def trees(seeds: int) -> dict:
    programs = {size: programs_of(size) for size, _ in CELLS}
    return {
        title: {
            part: show(f"trees, {title}, {part}", table)
            for part, table in tree_cell(programs[size], seeds, noise).items()
        }
        for size, noise in CELLS
        for title in [f"{size} entries, noise {noise}"]
    }


def tree_cell(programs: dict, seeds: int, noise: float) -> dict:
    keys, rows = jax.random.split(jax.random.key(3), seeds), np.arange(seeds)
    runs = {name: jax.device_get(programs[name](keys, noise)) for name in SEARCHES}
    ridges, w = jax.device_get(programs["seen"](keys, noise))
    true, rng = (
        np.stack([np.arange(TREE.size) // 6, np.arange(TREE.size) // 2]),
        np.random.default_rng(0),
    )
    found = {
        "true tree": [true] * seeds,
        "true tree, permuted": [true[:, rng.permutation(TREE.size)] for _ in rows],
        "Ward on ridge": [ancestors_of(one) for one in ridges],
        "Ward on true w": [ancestors_of(one) for one in w],
    }
    found |= {name: list(trees[rows, losses.argmin(1)]) for name, (trees, losses) in runs.items()}
    agreement = {name: agreeing(each) for name, each in found.items()}
    for name, (trees, _) in runs.items():
        every = np.stack([agreeing(each) for each in trees])
        agreement |= {f"{name}, any restart": every.mean(1), f"{name}, best restart": every.max(1)}
    paths = {name: np.stack([paths_of(one) for one in each]) for name, each in found.items()}
    own, root = (
        np.isin(np.arange(paths["true tree"].shape[2]), at)
        for at in (np.arange(TREE.size), TREE.size)
    )
    paths |= {"star": paths["true tree"] * (own | root), "none shared": paths["true tree"] * own}
    errors, losses = (
        dict(zip(paths, table.T))
        for table in jax.device_get(
            programs["given"](keys, noise, jnp.asarray(np.stack(list(paths.values()))))
        )
    )

    def over(values, names):
        return {
            f"nearness minus {name}": values["nearness"] - values[name]
            for name in names
            if name != "nearness"
        }

    return {
        "triplet agreement": agreement | over(agreement, found),
        "squared error": errors | over(errors, paths),
        "outer loss minus the true tree's": {
            name: losses[name] - losses["true tree"] for name in list(found)[1:]
        },
    }


def agreeing(trees) -> np.ndarray:
    return np.array([jh.triplet_agreement(tree_of(one), TREE) for one in trees])


def show(title: str, values: dict[str, np.ndarray]) -> dict:
    """Means and half intervals over seeds."""
    table = {name: interval(value) for name, value in values.items()}
    print(
        f"{title}: "
        + ", ".join(
            f"{name} {cell['mean']:.3f} +- {cell['half']:.3f}" for name, cell in table.items()
        ),
        flush=True,
    )
    return table


PARTS = {"groups": groups, "entries": entries, "trees": trees}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    for name in given.parts:
        begin = time.perf_counter()
        found = PARTS[name](given.seeds)
        write(
            f"learned_groups_{name}",
            {
                "environment": environment("jax", "jaxlib", "optax", "scikit-learn", "scipy"),
                "seeds": given.seeds,
                "seconds": time.perf_counter() - begin,
                "found": found,
            },
        )


if __name__ == "__main__":
    main()
