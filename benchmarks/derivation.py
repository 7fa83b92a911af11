"""How long deriving a tree takes: the 964 Omniglot characters of the background set, from
embeddings of 20 drawings each.

    JAXMETA_DATA=../shared/data python -m benchmarks.derivation [--rounds 5]

An embedding is 40 principal components of the pixels, or a random, never trained Conv4. Each
derivation is timed from the embedded examples to the `Tree`, medians of the rounds, and once in
processor seconds, which other work disturbs less; the embedding is timed apart. As a check that a
tree is of use: the mean share of a character's nearest relatives in the tree (its siblings' leaves)
that are of its own alphabet, beside that of a uniform random tree and of a uniformly random pair.
Recursive clustering has one seed and 2 or 3 clusters a node here: of the drawings with the default
threshold, which leaves large flat nodes, and with none, and of the characters' means.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import numpy as np

import jaxmeta as jm
from benchmarks._record import environment, interleaved, write
from jaxmeta import data
from jaxmeta.base import Examples
from jaxmeta.hierarchy import _agglomeration as ways, class_means, cluster, embedding_tree, sample

CHARACTERS, COMPONENTS = 964, 40


def characters():
    """Images in [0, 1], labels, and each character's alphabet."""
    dataset = data.load("omniglot")
    known = dataset.labels < CHARACTERS
    x = dataset.inputs[known].astype(np.float32) / 255
    y = dataset.labels[known]
    alphabets = np.zeros(CHARACTERS, int)
    alphabets[y] = dataset.groups[known]
    return x, y, alphabets


def components(x):
    """The first principal components of the pixels."""
    flat = x.reshape(len(x), -1)
    flat = flat - flat.mean(axis=0)
    _, directions = np.linalg.eigh(flat.T @ flat)
    return flat @ directions[:, -COMPONENTS:]


def random_features(x):
    """A Conv4 of 16 filters with weights as drawn."""
    model = jm.models.conv4(None, filters=16)
    params = model.init(jax.random.key(0), x[:1])
    apply = jax.jit(model.apply)
    return np.concatenate(
        [apply(params, part).reshape(len(part), -1) for part in np.array_split(x, 16)]
    )


def relatives(tree, alphabets) -> float:
    """The mean over characters of the share of the other leaves under their parents that are of
    their alphabet."""
    shares = []
    for leaf in range(tree.size):
        near = np.flatnonzero(tree.members[tree.parents[leaf]])
        shares.append((alphabets[near[near != leaf]] == alphabets[leaf]).mean())
    return float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    x, y, alphabets = characters()
    record = {
        "environment": environment("jax", "scipy", "scikit-learn"),
        "concepts": CHARACTERS,
        "examples": len(y),
        "rounds": rounds,
        "embeddings": {},
    }
    for name, embed in {
        "40 principal components": components,
        "random Conv4": random_features,
    }.items():
        begin = time.perf_counter()
        features = embed(x)
        about = {
            "seconds": time.perf_counter() - begin,
            "features": features.shape[1],
            "derivations": {},
        }
        derive = {
            "Ward (scipy)": lambda: embedding_tree(class_means(Examples(features, y))),
            "average, fused": lambda: embedding_tree(
                class_means(Examples(features, y)), ways.average, fuse=0.05
            ),
            "flexible (our Lance-Williams)": lambda: embedding_tree(
                class_means(Examples(features, y)), ways.flexible()
            ),
        }
        if features.shape[1] == COMPONENTS:
            derive["recursive clustering"] = lambda: cluster(
                jax.random.key(0), features, y, most=3, seeds=1
            )
            derive["recursive clustering, no threshold"] = lambda: cluster(
                jax.random.key(0), features, y, most=3, seeds=1, threshold=-np.inf
            )
            derive["recursive clustering of means"] = lambda: cluster(
                jax.random.key(0),
                class_means(Examples(features, y)),
                np.arange(CHARACTERS),
                most=3,
                seeds=1,
            )
        times = interleaved(derive, rounds)
        for way, run in derive.items():
            begin = time.process_time()
            tree = run()
            used = time.process_time() - begin
            about["derivations"][way] = {
                "seconds": [ms / 1e3 for ms in times[way]],
                "median_s": statistics.median(times[way]) / 1e3,
                "processor_s": used,
                "inner_nodes": len(tree.inner),
                "deepest": max(tree.depths),
                "relatives": relatives(tree, alphabets),
            }
            print(
                f"{name}: {way}: {statistics.median(times[way]) / 1e3:.2f} s ({used:.2f} s of a "
                f"processor), {len(tree.inner)} inner nodes, "
                f"{100 * relatives(tree, alphabets):.1f} % of relatives of one alphabet",
                flush=True,
            )
        record["embeddings"][name] = about
    random = [
        relatives(sample(key, CHARACTERS), alphabets)
        for key in jax.random.split(jax.random.key(0), 5)
    ]
    same = (np.bincount(alphabets) * (np.bincount(alphabets) - 1)).sum() / (
        CHARACTERS * (CHARACTERS - 1)
    )
    record |= {"relatives_of_random_trees": random, "random_pair": float(same)}
    print(f"random trees: {100 * np.mean(random):.1f} %, random pairs: {100 * same:.1f} %")
    print(f"wrote {write('derivation', record)}")


if __name__ == "__main__":
    main()
