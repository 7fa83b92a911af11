"""Where does structuring the concepts help, by how many points, and how many examples does it save?

    python -m benchmarks.hierarchies --data digits [--shots 5 20 100] [--seeds 20]
        [--learners weak strong]
    python -m benchmarks.hierarchies --table            # what all runs so far say

A run is a seed and a number of examples a class: train, derive every tree from the training
examples alone, fit a model at every node, test. Where there are people (hapt, watch), parts are
people: one part in four is the test, the other three are the folds of all inner cross-validation,
and the examples of a class come from the three alike. The node learners are the same for all trees:
weak, ridge in closed form whose penalty the flat tree's cross-validation chooses for all; strong, a
net of 64 hidden units of its own at every node. Decoding is by path product (greedy is recorded
too). Differences to flat are paired: the same examples, the same test. Every finished run is
written at once, and not run again.
"""

import argparse
import json

import jax
import numpy as np

from benchmarks._record import RESULTS, environment, write
from jaxmeta import data as sets, hierarchy as jh
from jaxmeta._random import generator
from jaxmeta.evaluation import t_interval
from jaxmeta.experiment import (
    concepts,
    derivations,
    node_models,
    node_scores,
)

SHOTS = {
    "digits": (5, 20, 100),
    "watch": (5, 20, 100),
    "hapt_transitions": (5, 20, 100, 500),
    "mnist": (5, 20, 100, 500),
}
EXPERT = {
    # Loops; strokes; curves.
    "digits": (((0, 6), (8, 9)), ((1, 7), 4), (2, (3, 5))),
    # Moving (level, stairs), still (upright, lying), transitions (between upright postures, to
    # lying, from lying).
    "hapt_transitions": ((0, (1, 2)), ((3, 4), 5), ((6, 7), (8, 10), (9, 11))),
    # Pendulum; raising the arm; turning the forearm; pulling the shoulder blade up or back.
    "watch": (0, (1, 2), (3, 4), (5, 6)),
}
EXPERT["mnist"] = EXPERT["digits"]


def derived(key, dataset, train, learner):
    """Every method's tree, from training examples alone."""
    classes = len(dataset.class_names)
    keys = jax.random.split(key, 6)
    scores = node_scores.node_scores_of(learner, train)
    expert = jh.Tree.from_nested(EXPERT[dataset.name])
    permuted = generator(keys[0]).permutation(classes)

    def by(method, key=None):
        return derivations.derivation(method)(key, train, learner, scores)

    trees = {
        "flat": by("flat"),
        "expert": expert,
        "expert, labels permuted": expert.renamed(permuted.tolist()),
        "uniform random": by("random", keys[2]),
        "best of 100 random": by("best-of", keys[3]),
        "transfer affinity": by("average", keys[1]),
        "clustering": by("clustering", keys[4]),
        "confusion": by("confusion"),
        "class means, Ward": by("means"),
        "NBDT": by("nbdt"),
        "exact optimum": by("optimal"),
        "optimum by lower bound": by("lower-bound"),
    }
    candidates = [
        trees[name]
        for name in (
            "flat",
            "transfer affinity",
            "clustering",
            "confusion",
            "class means, Ward",
            "exact optimum",
        )
    ]
    trees["one standard error"] = jh.one_standard_error(learner, candidates, *train)
    return trees, {
        name: each
        for name, each in node_scores.regrets(trees, scores()).items()
        if each is not None
    }


def tested(key, tree, head, train, test, shots):
    """What a tree's classifier does on the test: accuracy, balanced accuracy, greedy's accuracy."""
    logs = node_models.fitted_log_probabilities(key, tree, head, train, test.x, shots)
    best, down = np.asarray(jh.most_probable(tree, logs)), np.asarray(jh.greedy(tree, logs))
    hits = best == test.y
    return {
        "accuracy": float(hits.mean()),
        "greedy": float((down == test.y).mean()),
        "balanced": float(np.mean([hits[test.y == label].mean() for label in np.unique(test.y)])),
    }


def widened(key, train, test):
    """Inputs with random rectified features beside, so that a flat linear model has as many
    parameters as C - 1 binary nodes."""
    x, y, _ = train
    classes = int(y.max()) + 1
    more = round(x.shape[1] * ((2 * classes - 2) / classes - 1))
    matrix = np.asarray(jax.random.normal(key, (x.shape[1], more))) / np.sqrt(x.shape[1])
    wide = [np.concatenate([part, np.maximum(part @ matrix, 0)], 1) for part in (x, test.x)]
    return train._replace(x=wide[0]), test._replace(x=wide[1])


def run(dataset, x, shots, seed, learners):
    """One run: of every learner and method what came out."""
    key = jax.random.key(seed)
    keys = jax.random.split(key, 4)
    train, test = concepts.drawn(dataset, x, shots, seed)
    classes = len(dataset.class_names)
    penalty = node_models.chosen_penalty(train)
    trees, regrets = derived(keys[0], dataset, train, jh.ridge(penalty))
    found = {
        "penalty": penalty,
        "examples": len(train[1]),
        "regret": regrets,
        "trees": {name: str(tree.nested()) for name, tree in trees.items()},
        "kappa": {
            name: float(jh.triplet_kappa(tree, trees["expert"])) for name, tree in trees.items()
        },
    }
    for name in learners:
        head = node_models.HEADS[name](penalty)
        found[name] = {
            method: tested(keys[1], tree, head, train, test, shots)
            for method, tree in trees.items()
        }
        matched = (
            tested(keys[1], trees["flat"], head, *widened(keys[2], train, test), shots)
            if name == "weak"
            else tested(
                keys[1],
                trees["flat"],
                jh.network_head((node_models.HIDDEN * (classes - 1),), steps=300, batch=64),
                train,
                test,
                shots,
            )
        )
        found[name]["flat, as many parameters"] = matched
    return found


def saved(curve, flat, shots):
    """The examples a class that flat needs for what a method reaches with `shots`, over `shots`; by
    interpolation in log n."""
    ns = sorted(flat)
    accuracies = np.maximum.accumulate([flat[n] for n in ns])
    if curve > accuracies[-1]:
        return None
    return float(np.exp(np.interp(curve, accuracies, np.log(ns))) / shots)


def table(metric):
    """Points over flat, for all that was run."""
    for path in sorted(RESULTS.glob("hierarchies_*.json")):
        record = json.loads(path.read_text())
        runs = record["runs"]
        for learner in ("weak", "strong"):
            cells = {}
            for name, one in runs.items():
                if learner in one:
                    cells.setdefault(int(name.split("/")[0]), []).append(one)
            if not cells:
                continue
            shots = sorted(cells)
            methods = list(cells[shots[0]][0][learner])
            flat = {n: np.array([one[learner]["flat"][metric] for one in cells[n]]) for n in shots}
            print(
                f"\n{record['data']}, {learner} nodes, {metric}, points over flat +- 95 % of "
                f"{len(cells[shots[0]])} paired runs"
            )
            print(f"{'examples a class':28s}" + "".join(f"{n:>16d}" for n in shots))
            print(f"{'flat itself':28s}" + "".join(f"{100 * flat[n].mean():16.2f}" for n in shots))
            for method in methods[1:]:
                row = ""
                for n in shots:
                    values = np.array([one[learner][method][metric] for one in cells[n]])
                    mean, half = t_interval(100 * (values - flat[n]))
                    row += f"{mean:+9.2f} +-{half:5.2f}"
                print(f"{method:28s}{row}")
            means = {n: flat[n].mean() for n in shots}
            best = {
                n: max(
                    methods[1:],
                    key=lambda m: np.mean([one[learner][m][metric] for one in cells[n]]),
                )
                for n in shots
            }
            for n in shots:
                value = saved(
                    np.mean([one[learner][best[n]][metric] for one in cells[n]]), means, n
                )
                print(
                    f"  at {n}: the best is {best[n]}; flat needs "
                    f"{'more than was tried' if value is None else f'{value:.2f}'} times the "
                    "examples for it"
                )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=SHOTS)
    parser.add_argument("--shots", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--learners", nargs="+", choices=("weak", "strong"), default=["weak", "strong"]
    )
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--metric", choices=("accuracy", "balanced", "greedy"), default="accuracy")
    given = parser.parse_args()
    if given.table or not given.data:
        return table(given.metric)
    dataset = sets.load(given.data)
    x = concepts.features(dataset)
    path = RESULTS / f"hierarchies_{given.data}.json"
    record = json.loads(path.read_text()) if path.exists() else {"data": given.data, "runs": {}}
    for seed in range(given.seeds):
        for shots in given.shots or SHOTS[given.data]:
            name = f"{shots}/{seed}"
            if set(given.learners) <= set(record["runs"].get(name, {})):
                continue
            record["runs"][name] = record["runs"].get(name, {}) | run(
                dataset, x, shots, seed, given.learners
            )
            record["environment"] = environment("jax", "jaxlib", "scipy", "scikit-learn")
            write(f"hierarchies_{given.data}", record)
            print(
                name,
                {
                    k: round(v["accuracy"], 3)
                    for k, v in record["runs"][name][given.learners[0]].items()
                },
                flush=True,
            )
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
