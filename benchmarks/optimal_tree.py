"""The exact optimum over all hierarchies: how long it takes, and whether what is best on some
examples is so on others.

    # times: all hierarchies of 10 classes, all binary ones of 14
    python -m benchmarks.optimal_tree
    # which choice of a tree holds on test data
    python -m benchmarks.optimal_tree --selection

Writes `results/optimal_tree.json` and `results/optimal_tree_selection.json`. The 10 classes are
MNIST's digits, the 14 are the first 14 alphabets of Omniglot (which alphabet is a drawing from?);
features are principal components of the training examples' pixels. A time holds models, scores and
search, from arrays to the tree; the first run, which compiles, is told apart.
"""

import argparse
import itertools
import statistics
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import jaxmeta as jm
from benchmarks._record import environment, write
from jaxmeta.hierarchy import (
    Tree,
    all_partitions,
    binary_partitions,
    count_nodes,
    cross_fitted,
    lda,
    lower_bound,
    node_scores,
    one_standard_error,
    optimal,
    path_log_probabilities,
    ridge,
    score,
    stratified_folds,
)

LEARNERS = {"ridge": ridge, "lda": lda}


def images(name, groups=None):
    """Pixels `[n, d]` and labels; with groups, the labels are the first so many groups of the
    classes."""
    data = jm.data.load(name)
    labels = data.labels if groups is None else data.groups
    kept = labels < (labels.max() + 1 if groups is None else groups)
    return data.inputs[kept].reshape(kept.sum(), -1), labels[kept]


def parts(x, y, counts, rng):
    """Disjoint sets with so many examples of each class, drawn at random."""
    rows = [rng.permutation(np.flatnonzero(y == c)) for c in np.unique(y)]
    ends = np.cumsum([0, *counts])
    places = [
        np.concatenate([row[low:high] for row in rows]) for low, high in itertools.pairwise(ends)
    ]
    return [(x[place].astype(np.float32), y[place]) for place in places]


def components(sets, dims):
    """Principal components fitted on the first set, scaled to unit mean variance."""
    pca = PCA(dims, random_state=0).fit(sets[0][0])
    scale = np.sqrt(pca.explained_variance_.mean())
    return [((pca.transform(x) / scale).astype(np.float32), y) for x, y in sets]


def timed(learner, train, validation, family, rounds):
    """Seconds of scores and of the search, the first run apart."""
    runs = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        scores = node_scores(learner, train, validation, family)
        middle = time.perf_counter()
        best = optimal(scores)[0]
        runs.append((middle - begin, time.perf_counter() - middle))
    first, *runs = runs
    size = scores.size
    return {
        "classes": size,
        "nodes": count_nodes(size, family),
        "features": train[0].shape[1],
        "train": len(train[1]),
        "validation": scores.examples,
        "first_s": sum(first),
        "scores_s": [a for a, _ in runs],
        "search_s": [b for _, b in runs],
        "median_s": statistics.median(map(sum, runs)),
        "score": best.score,
        "gain_over_flat": best.value,
        "tree": best.tree.nested(),
    }


def times(options):
    rng = np.random.default_rng(options.seed)
    digits = components(parts(*images("mnist"), (500, 100), rng), 30)
    alphabets = components(parts(*images("omniglot", 14), (200, 80), rng), 30)
    rows = {}
    settings = (
        ("mnist, all", digits, all_partitions),
        ("omniglot, binary", alphabets, binary_partitions),
    )
    for name, (title, sets, family) in itertools.product(options.learners, settings):
        rows[f"{title}, {name}"] = row = timed(LEARNERS[name](), *sets, family, options.rounds)
        print(
            f"{title + ', ' + name:28s} {row['nodes']:8d} nodes {row['median_s']:7.2f} s, the "
            f"first {row['first_s']:.1f} s  {row['score']:.4f} ({row['gain_over_flat']:+.4f} over "
            f"flat)  {row['tree']}",
            flush=True,
        )
    return rows


CHOICES = [
    "flat",
    "best on one split",
    "best cross-fitted",
    "bound z = 1",
    "bound z = 2",
    "one standard error",
]


def planted(seed):
    """Eight classes at the leaves of a random tree of Gaussian steps, in 20 features."""
    rng = np.random.default_rng(seed)
    middles = np.zeros((1, 20))
    for depth in range(3):
        middles = np.repeat(middles, 2, axis=0) + 1.2 * 0.7**depth * rng.normal(
            size=(2 * len(middles), 20)
        ) / np.sqrt(2)
    y = np.arange(8 * 200) % 8
    return middles[y] + rng.normal(size=(len(y), 20)), y


def eight_digits(seed):
    """8 of scikit-learn's 10 digits, so that many seeds can be searched."""
    x, y = load_digits(return_X_y=True)
    kept = np.sort(np.random.default_rng(seed).choice(10, 8, replace=False))
    held = np.isin(y, kept)
    return x[held], np.searchsorted(kept, y[held])


def selection(options):
    """What each way to choose brings over flat on test examples: log-score, accuracy."""
    rows = {}
    for source, name, count in itertools.product(
        (planted, eight_digits), options.learners, options.counts
    ):
        found = {choice: [] for choice in CHOICES}
        for seed in range(options.seeds):
            sets = parts(*source(seed), (count, 60), np.random.default_rng([options.seed, seed]))
            for choice, values in judged(LEARNERS[name](), *components(sets, 20), seed).items():
                found[choice].append(values)
        title = f"{source.__name__}, {name}, {count} a class"
        rows[title] = summary = {}
        print(f"{title}: flat {np.mean(found['flat'], axis=0)[:2].round(4).tolist()}")
        for choice, values in found.items():
            gains = np.array(values)[:, :2] - np.array(found["flat"])[:, :2]
            half = 1.96 * gains.std(axis=0, ddof=1) / np.sqrt(len(gains))
            (log, hits), (promised, inner) = gains.mean(axis=0), np.mean(values, axis=0)[2:]
            summary[choice] = {
                "gain": [log, hits],
                "half_width": half.tolist(),
                "promised": promised,
                "inner_nodes": inner,
                "each": values,
            }
            print(
                f"  {choice:20s} log-score {log:+.4f} +- {half[0]:.4f} (promised {promised:+.4f}), "
                f"accuracy {100 * hits:+.2f} +- {100 * half[1]:.2f} points, {inner:.1f} inner "
                "nodes",
                flush=True,
            )
    return rows


def judged(learner, train, test, seed):
    """For every choice its tree's log-score and accuracy on the test, models trained on all
    training examples; the gain that its selection promised; its inner nodes."""
    x, y = train
    folds = stratified_folds(y, 5, seed)
    split = folds < 3
    crossed = cross_fitted(learner, x, y, folds)
    flat = Tree.star(list(crossed.concepts))
    alone = optimal(node_scores(learner, (x[split], y[split]), (x[~split], y[~split])))[0]
    best, *bounds = (optimal(crossed, value=lower_bound(z))[0] for z in (0.0, 1.0, 2.0))
    cautious = one_standard_error(
        learner, [flat, best.tree, *(bound.tree for bound in bounds)], x, y, folds
    )
    judgement = {}
    for choice, tree in zip(
        CHOICES, (flat, alone.tree, best.tree, *(bound.tree for bound in bounds), cautious)
    ):
        logs = np.asarray(path_log_probabilities(learner, tree, train, test[0]))
        promised = (
            alone.value if choice == CHOICES[1] else score(tree, crossed) - score(flat, crossed)
        )
        judgement[choice] = (
            float(logs[np.arange(len(logs)), test[1]].mean()),
            float((logs.argmax(axis=1) == test[1]).mean()),
            float(promised),
            len(tree.inner),
        )
    return judgement


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--selection", action="store_true")
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[15, 40, 80], help="training examples a class"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = selection(options) if options.selection else times(options)
    record = {
        "environment": environment("jax", "jaxlib", "scikit-learn"),
        "seed": options.seed,
        "settings": rows,
    }
    name = "optimal_tree_selection" if options.selection else "optimal_tree"
    print(f"\nwrote {write(name, record)}")


if __name__ == "__main__":
    main()
