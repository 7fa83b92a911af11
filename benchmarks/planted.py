"""Which derivation finds a tree that is known to be there?

    python -m benchmarks.planted [--seeds 10]

Classes whose means walk down a known tree (`jaxmeta.tasks.planted_examples`: every edge adds a
normal vector of 32 features), 45 examples a class, within-class noise of three levels. Reported is
the triplet agreement of the tree a method derives from the examples with the planted one: of every
three concepts, which two stand together, or none. Uniform random trees are the floor. Shapes:
`balanced`, eight concepts in three binary levels; `ladder`, eight, each splitting off the rest;
`groups`, three groups of three; `uneven`, nine in groups of two, three and four, the last with a
group inside.
"""

import argparse

import jax
import numpy as np

from benchmarks._record import environment, write
from jaxmeta import hierarchy as jh
from jaxmeta.evaluation import t_interval
from jaxmeta.experiment import (
    concepts,
    derivations,
    node_scores,
)
from jaxmeta.tasks import planted_examples

SHAPES = {
    "balanced": (((0, 1), (2, 3)), ((4, 5), (6, 7))),
    "ladder": (0, (1, (2, (3, (4, (5, (6, 7))))))),
    "groups": ((0, 1, 2), (3, 4, 5), (6, 7, 8)),
    "uneven": ((0, 1), (2, 3, 4), (5, (6, 7, 8))),
}
NOISE, COUNT = (0.5, 2.0, 5.0), 45
METHODS = {
    "uniform random": ("random", None),
    "flat": ("flat", None),
    "transfer affinity": ("average", "transfer"),
    "linear transfer affinity": ("average", "linear"),
    "lookahead": ("average", "lookahead"),
    "Task2Vec": ("average", "task2vec"),
    "confusion": ("confusion", None),
    "class means, Ward": ("means", None),
    "class means, average": ("average", "means"),
    "clustering": ("clustering", None),
    "NBDT": ("nbdt", None),
    "best of 100 random": ("best-of", None),
    "exact optimum": ("optimal", None),
    "optimum by lower bound": ("lower-bound", None),
}


def agreements(tree, noise, seed):
    """Of every method the agreement of its tree with the planted one."""
    keys = jax.random.split(jax.random.key(seed), 2)
    x, y, *_ = planted_examples(keys[0], tree, COUNT, noise=noise)
    x, y = np.asarray(x), np.asarray(y)
    x = (x - x.mean(0)) / x.std(0)
    train = concepts.Folded(x, y, np.tile(np.arange(COUNT) % 3 + 1, tree.size))
    learner = jh.ridge(0.1)
    scores = node_scores.node_scores_of(learner, train)
    found = {}
    for name, (method, affinity) in METHODS.items():
        derived = derivations.derivation(method, affinity)(keys[1], train, learner, scores)
        found[name] = float(jh.triplet_agreement(derived, tree))
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    record = {
        "environment": environment("jax", "jaxlib", "scipy", "scikit-learn"),
        "seeds": given.seeds,
        "count": COUNT,
        "settings": {},
    }
    for shape, nested in SHAPES.items():
        tree = jh.Tree.from_nested(nested)
        for noise in NOISE:
            runs = [agreements(tree, noise, seed) for seed in range(given.seeds)]
            cell = {name: t_interval([one[name] for one in runs]) for name in METHODS}
            record["settings"][f"{shape}, noise {noise}"] = {
                name: {"mean": float(mean), "half": float(half)}
                for name, (mean, half) in cell.items()
            }
            shown = ", ".join(
                f"{name} {mean:.2f} +- {half:.2f}" for name, (mean, half) in cell.items()
            )
            print(f"{shape}, noise {noise}: {shown}", flush=True)
            write("planted", record)


if __name__ == "__main__":
    main()
