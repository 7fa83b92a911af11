"""Where does structuring the concepts help, by how many points, and how many examples does it save?

    python -m benchmarks.hierarchies --data digits [--shots 5 20 100] [--seeds 20] [--learners weak strong]
    python -m benchmarks.hierarchies --table            # what all runs so far say

A run is a seed and a number of examples a class: train, derive every tree from the training examples alone, fit a model at
every node, test. Where there are people (hapt, watch), parts are people: one part in four is the test, the other three are the
folds of all inner cross-validation, and the examples of a class come from the three alike. The node learners are the same for
all trees: weak, ridge in closed form whose penalty the flat tree's cross-validation chooses for all; strong, a net of 64 hidden
units of its own at every node. Decoding is by path product (greedy is recorded too). Differences to flat are paired: the same
examples, the same test. Every finished run is written at once, and not run again.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks._record import RESULTS, environment, write
from jaxmeta import data as sets
from jaxmeta import hierarchy as jh
from jaxmeta.base import Examples
from jaxmeta.data import folds as people_folds

TEST, TRIALS, HIDDEN, PENALTIES = 1200, 100, 64, (1e-2, 1e-1, 1.0)
SHOTS = {"digits": (5, 20, 100), "watch": (5, 20, 100), "hapt_transitions": (5, 20, 100, 500), "mnist": (5, 20, 100, 500)}
EXPERT = {
    # Loops; strokes; curves.
    "digits": (((0, 6), (8, 9)), ((1, 7), 4), (2, (3, 5))),
    # Moving (level, stairs), still (upright, lying), transitions (between upright postures, to lying, from lying).
    "hapt_transitions": ((0, (1, 2)), ((3, 4), 5), ((6, 7), (8, 10), (9, 11))),
    # Pendulum; raising the arm; turning the forearm; pulling the shoulder blade up or back.
    "watch": (0, (1, 2), (3, 4), (5, 6)),
}
EXPERT["mnist"] = EXPERT["digits"]


def features(dataset):
    """`[n, d]`: of a window each channel's mean, deviation, least, greatest, mean change and log energy in 8 bands; of an image
    its pixels, of MNIST 50 principal components of the pixels (of all images, without labels)."""
    x = dataset.inputs.astype(np.float32)
    if dataset.inputs.dtype == np.uint8:
        x = x.reshape(len(x), -1) / 255
        if dataset.name == "digits":  # as scikit-learn has them, 8x8
            x = x.reshape(-1, 28, 28)[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3).mean((2, 4)).reshape(len(x), -1)
        if len(x) > 10_000:
            _, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
            x = x @ vectors[:, -50:].astype(np.float32)
        return x
    spectrum = np.abs(np.fft.rfft(x - x.mean(1, keepdims=True), axis=1))[:, 1:] ** 2
    bands = np.log(spectrum.reshape(len(x), 8, -1, x.shape[2]).mean(2) + 1e-3).reshape(len(x), -1)
    return np.concatenate([x.mean(1), x.std(1), x.min(1), x.max(1), np.abs(np.diff(x, axis=1)).mean(1), bands], 1)


def drawn(dataset, x, shots, seed):
    """Training examples `(x, y, fold)` of three folds and test examples `(x, y)`, scaled by the training examples."""
    rng, y = np.random.default_rng(seed), dataset.labels
    if dataset.by == "group":
        parts = np.zeros(len(y), int)
        for part, fold in enumerate(people_folds(dataset.groups, 4, seed, y)):
            parts[fold.test] = part
    else:
        parts = rng.integers(0, 4, len(y))
    rows = []
    for part in (1, 2, 3):
        for label in range(len(dataset.class_names)):
            there = rng.permutation(np.flatnonzero((parts == part) & (y == label)))
            rows.append(there[:(shots + part - 1) // 3])
    rows = np.concatenate(rows)
    test = rng.permutation(np.flatnonzero(parts == 0))[:TEST]
    mean, deviation = x[rows].mean(0), x[rows].std(0) + 1e-6
    return ((x[rows] - mean) / deviation, y[rows], parts[rows]), ((x[test] - mean) / deviation, y[test])


def derived(key, dataset, train, learner):
    """Every method's tree, from training examples alone."""
    x, y, fold = train
    classes = len(dataset.class_names)
    keys = jax.random.split(key, 6)
    examples = Examples(x, y)
    inside, held = fold != 3, fold == 3
    family = jh.all_partitions if classes <= 10 else jh.binary_partitions
    draw = jh.sample if classes <= 10 else jh.sample_binary
    scores = jh.cross_fitted(learner, x, y, fold, family)
    predicted = np.zeros(len(y), int)
    for part in (1, 2, 3):
        out = fold == part
        logs = jh.path_log_probabilities(learner, jh.Tree.star(classes), (x[~out], y[~out]), x[out])
        predicted[out] = logs.argmax(1)
    expert = jh.Tree.from_nested(EXPERT[dataset.name])
    permuted = np.random.default_rng(np.asarray(jax.random.key_data(keys[0]))).permutation(classes)
    weights = np.linalg.solve(x.T @ x + 0.1 * len(x) * np.eye(x.shape[1]), x.T @ np.eye(classes)[y])
    transfer = jh.transfer_affinity(keys[1], Examples(x[inside], y[inside]), Examples(x[held], y[held]),
                                    budget=max(1, int(np.bincount(y[inside]).max())))
    trees = {
        "flat": jh.Tree.star(classes),
        "expert": expert,
        "expert, labels permuted": expert.renamed(permuted.tolist()),
        "uniform random": jh.sample(keys[2], classes),
        "best of 100 random": jh.best_of(keys[3], classes, TRIALS, lambda tree: jh.score(tree, scores), draw).tree,
        "transfer affinity": jh.agglomerate(transfer),
        "clustering": jh.cluster(keys[4], x, y),
        "confusion": jh.agglomerate(jh.confusion_affinity(None, examples, predicted)),
        "class means, Ward": jh.embedding_tree(jh.class_means(examples)),
        "NBDT": jh.nbdt_tree(weights.T),
        "exact optimum": jh.optimal(scores)[0].tree,
        "optimum by lower bound": jh.optimal(scores, value=jh.lower_bound(1.0))[0].tree,
    }
    candidates = [trees[name] for name in ("flat", "transfer affinity", "clustering", "confusion", "class means, Ward",
                                           "exact optimum")]
    trees["one standard error"] = jh.one_standard_error(learner, candidates, x, y, fold)
    optimum = jh.optimal(scores)[0]
    greedy = {name: optimum.score - jh.score(tree, scores) for name, tree in trees.items()
              if classes <= 10 or all(len(tree.children[node]) == 2 for node in tree.inner)}
    return trees, greedy


def chosen_penalty(train, classes):
    """The penalty of ridge whose flat tree predicts held-out folds best."""
    x, y, fold = train
    hits = {}
    for penalty in PENALTIES:
        hits[penalty] = sum(
            float((jh.path_log_probabilities(jh.ridge(penalty), jh.Tree.star(classes), (x[fold != part], y[fold != part]),
                                             x[fold == part]).argmax(1) == y[fold == part]).sum()) for part in (1, 2, 3))
    return max(hits, key=hits.get)


def tested(key, tree, head, train, test, shots):
    """What a tree's classifier does on the test: accuracy, balanced accuracy, greedy's accuracy."""
    x, y, _ = train
    classes = tree.size
    rows = classes * shots + 3 * classes  # padded, so that every run of a setting is one program
    padded = np.zeros((rows, x.shape[1]), np.float32)
    labels, weights = np.zeros(rows, int), np.zeros(rows, np.float32)
    padded[:len(y)], labels[:len(y)], weights[:len(y)] = x, y, 1
    flat = len(tree.inner) == 1
    layout = jh.layout(tree) if flat else jh.layout(tree, nodes=classes - 1, arity=classes - 1)
    params = jh.fit_nodes(key, jnp.asarray(padded), jnp.asarray(labels), jnp.asarray(weights), layout, head=head)
    logs = jh.node_log_probabilities(params, jnp.asarray(test[0], jnp.float32), layout.mask, head=head)[:, :len(tree.inner)]
    best, down = np.asarray(jh.most_probable(tree, logs)), np.asarray(jh.greedy(tree, logs))
    hits = best == test[1]
    return {"accuracy": float(hits.mean()), "greedy": float((down == test[1]).mean()),
            "balanced": float(np.mean([hits[test[1] == label].mean() for label in np.unique(test[1])]))}


def widened(key, train, test):
    """Inputs with random rectified features beside, so that a flat linear model has as many parameters as C - 1 binary nodes."""
    x, y, fold = train
    classes = int(y.max()) + 1
    more = round(x.shape[1] * ((2 * classes - 2) / classes - 1))
    matrix = np.asarray(jax.random.normal(key, (x.shape[1], more))) / np.sqrt(x.shape[1])
    wide = [np.concatenate([part, np.maximum(part @ matrix, 0)], 1) for part in (x, test[0])]
    return (wide[0], y, fold), (wide[1], test[1])


def run(dataset, x, shots, seed, learners):
    """One run: of every learner and method what came out."""
    key = jax.random.key(seed)
    keys = jax.random.split(key, 4)
    train, test = drawn(dataset, x, shots, seed)
    classes = len(dataset.class_names)
    penalty = chosen_penalty(train, classes)
    trees, regrets = derived(keys[0], dataset, train, jh.ridge(penalty))
    found = {"penalty": penalty, "examples": len(train[1]), "regret": regrets,
             "trees": {name: str(tree.nested()) for name, tree in trees.items()},
             "kappa": {name: float(jh.triplet_kappa(tree, trees["expert"])) for name, tree in trees.items()}}
    heads = {"weak": jh.ridge_head(penalty), "strong": jh.network_head((HIDDEN,), steps=300, batch=64)}
    for name in learners:
        found[name] = {method: tested(keys[1], tree, heads[name], train, test, shots) for method, tree in trees.items()}
        matched = (tested(keys[1], trees["flat"], heads["weak"], *widened(keys[2], train, test), shots) if name == "weak" else
                   tested(keys[1], trees["flat"], jh.network_head((HIDDEN * (classes - 1),), steps=300, batch=64), train, test,
                          shots))
        found[name]["flat, as many parameters"] = matched
    return found


def interval(values):
    """Mean and half a 95 % t interval."""
    values = np.asarray(values)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return values.mean(), half


def saved(curve, flat, shots):
    """The examples a class that flat needs for what a method reaches with `shots`, over `shots`; by interpolation in log n."""
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
            print(f"\n{record['data']}, {learner} nodes, {metric}, points over flat +- 95 % of {len(cells[shots[0]])} paired runs")
            print(f"{'examples a class':28s}" + "".join(f"{n:>16d}" for n in shots))
            print(f"{'flat itself':28s}" + "".join(f"{100 * flat[n].mean():16.2f}" for n in shots))
            for method in methods[1:]:
                row = ""
                for n in shots:
                    mean, half = interval(100 * (np.array([one[learner][method][metric] for one in cells[n]]) - flat[n]))
                    row += f"{mean:+9.2f} +-{half:5.2f}"
                print(f"{method:28s}{row}")
            means = {n: flat[n].mean() for n in shots}
            best = {n: max(methods[1:], key=lambda m: np.mean([one[learner][m][metric] for one in cells[n]])) for n in shots}
            for n in shots:
                value = saved(np.mean([one[learner][best[n]][metric] for one in cells[n]]), means, n)
                print(f"  at {n}: the best is {best[n]}; flat needs {'more than was tried' if value is None else f'{value:.2f}'} "
                      "times the examples for it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SHOTS)
    parser.add_argument("--shots", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--learners", nargs="+", choices=("weak", "strong"), default=["weak", "strong"])
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--metric", choices=("accuracy", "balanced", "greedy"), default="accuracy")
    given = parser.parse_args()
    if given.table or not given.data:
        return table(given.metric)
    dataset = sets.load(given.data)
    x = features(dataset)
    path = RESULTS / f"hierarchies_{given.data}.json"
    record = json.loads(path.read_text()) if path.exists() else {"data": given.data, "runs": {}}
    for seed in range(given.seeds):
        for shots in given.shots or SHOTS[given.data]:
            name = f"{shots}/{seed}"
            if set(given.learners) <= set(record["runs"].get(name, {})):
                continue
            record["runs"][name] = record["runs"].get(name, {}) | run(dataset, x, shots, seed, given.learners)
            record["environment"] = environment("jax", "jaxlib", "scipy", "scikit-learn")
            write(f"hierarchies_{given.data}", record)
            print(name, {k: round(v["accuracy"], 3) for k, v in record["runs"][name][given.learners[0]].items()}, flush=True)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
