"""`jaxmeta hierarchy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxmeta._cli._concepts import read, tree_over, tree_text
from jaxmeta._cli._console import refusing, say, show_json, table

app = typer.Typer(
    help="Trees of concepts: how many there are, which fits the data, what it brings.",
    rich_markup_mode="markdown",
)

_AGGLOMERATED = "transfer, confusion, means, lookahead, task2vec or linear"
_Data = Annotated[
    str,
    typer.Option("--data", "-d", help="Which set; see `jaxmeta data list`.", show_default=False),
]
_Classes = Annotated[
    str | None, typer.Option(help="Only these classes, with commas between.", show_default="all")
]
_Shots = Annotated[
    int,
    typer.Option(min=3, help="Examples of each class to learn from; fewer where there are fewer."),
]
_Seed = Annotated[
    int, typer.Option(min=0, help="Of the draw of examples and of all else that is random.")
]
_Affinity = Annotated[
    str | None,
    typer.Option(help=f"What is agglomerated: {_AGGLOMERATED}.", show_default="transfer"),
]
_Fuse = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="Agglomerated levels closer than this become one, in the affinity's unit.",
        show_default="0, a binary tree",
    ),
]
_Binary = Annotated[
    bool, typer.Option("--binary", help="Only trees in which every node has two children.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

_WIDEST = 20  # classes up to which a matrix is printed


@app.command()
def count(
    concepts: Annotated[
        int, typer.Argument(min=1, help="C, how many concepts.", show_default=False)
    ],
    binary: _Binary = False,
    as_json: _Json = False,
) -> None:
    """Count the trees over C concepts, exactly.

    Example:

        jaxmeta hierarchy count 10
    """
    import sys

    from jaxmeta import hierarchy

    sys.set_int_max_str_digits(0)  # numbers here may have thousands of digits
    trees = hierarchy.count_binary(concepts) if binary else hierarchy.count(concepts)
    if as_json:
        show_json({"concepts": concepts, "binary": binary, "trees": trees})
    else:
        print(trees, flush=True)


@app.command()
def affinity(
    data: _Data,
    affinity: Annotated[str, typer.Option(help=f"Which: {_AGGLOMERATED}.")] = "transfer",
    shots: _Shots = 100,
    classes: _Classes = None,
    seed: _Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where to write the matrix: .npy or .csv, or .png for a picture.",
            show_default=False,
        ),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Measure how close each class is to each other one, larger being closer, from the class of the
    row to that of the column.

    Examples:

        jaxmeta hierarchy affinity --data digits --out affinity.png

        jaxmeta hierarchy affinity --data watch --affinity means --out affinity.csv
    """
    import csv

    import jax
    import numpy as np

    from jaxmeta import hierarchy, report
    from jaxmeta.experiment import _derivations as derivations
    from jaxmeta.experiment._configuration import chosen

    with refusing():
        if out is not None and out.suffix not in (".npy", ".csv", ".png"):
            raise ValueError(f"--out must end in .npy, .csv or .png, got {out}; choose one of them")
        measure = derivations.AFFINITIES[chosen("affinity", affinity, derivations.AFFINITIES)]
        drawn = read(data, classes).drawn(shots, seed)
        matrix = (
            np.asarray(measure(jax.random.key(seed), drawn.train, None)) + 0.0
        )  # no minus before a zero
        if out is not None and out.suffix == ".npy":
            np.save(out, matrix)
        elif out is not None and out.suffix == ".csv":
            with out.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(
                    [
                        ["", *drawn.names],
                        *([name, *row] for name, row in zip(drawn.names, matrix.tolist())),
                    ]
                )
        elif out is not None:
            report.draw_affinity(matrix, out, hierarchy.agglomerate(matrix), drawn.names)
    if as_json:
        show_json(
            {
                "data": data,
                "affinity": affinity,
                "shots": shots,
                "seed": seed,
                "classes": drawn.names,
                "matrix": matrix.tolist(),
                "out": None if out is None else str(out),
            }
        )
        return
    if len(drawn.names) <= _WIDEST:
        table(
            f"{affinity} affinity on {data}, {shots} examples a class, from row to column",
            ["", *drawn.names],
            [[name, *(f"{value:.3g}" for value in row)] for name, row in zip(drawn.names, matrix)],
        )
    elif out is None:
        say(
            f"jaxmeta: {len(drawn.names)} classes are too many for a table; write the matrix by "
            "--out"
        )
    if out is not None:
        say(f"matrix: {out}")


@app.command()
def derive(
    data: _Data,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help=(
                "average, ward, single, complete, weighted, centroid or median agglomerate an "
                "affinity; else clustering, confusion, means, nbdt, best-of (of 100 random "
                "trees), optimal or lower-bound (see `optimal`)."
            ),
        ),
    ] = "average",
    affinity: _Affinity = None,
    fuse: _Fuse = None,
    shots: _Shots = 100,
    classes: _Classes = None,
    seed: _Seed = 0,
    newick: Annotated[
        bool,
        typer.Option("--newick", help="Print Newick's text, as --tree of `evaluate` takes it."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Where to draw the tree, a .png for instance.", show_default=False
        ),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Find a tree of the classes from training examples.

    Examples:

        jaxmeta hierarchy derive --data digits --fuse 0.01 --out tree.png

        jaxmeta hierarchy derive --data watch --method nbdt --newick > tree.nwk
    """
    import jax

    from jaxmeta import report
    from jaxmeta.experiment import _derivations as derivations
    from jaxmeta.experiment import _node_scores as node_scores

    with refusing():
        find = derivations.derivation(method, affinity, fuse)
        drawn = read(data, classes).drawn(shots, seed)
        tree = find(
            jax.random.key(seed), drawn.train, None, node_scores.node_scores_of(None, drawn.train)
        )
        if out is not None:
            report.draw_tree(tree, out, drawn.names)
    named = tree.renamed(drawn.names)
    if as_json:
        show_json(
            {
                "data": data,
                "method": method,
                "affinity": affinity,
                "shots": shots,
                "seed": seed,
                "newick": named.newick(),
                "tree": named.nested(),
                "picture": None if out is None else str(out),
            }
        )
        return
    print(named.newick() if newick else named, flush=True)
    if out is not None:
        say(f"picture: {out}")


@app.command()
def optimal(
    data: _Data,
    binary: _Binary = False,
    best: Annotated[int, typer.Option(min=1, help="How many of the best trees.")] = 3,
    learner: Annotated[
        str, typer.Option(help="The nodes' models: ridge, or lda for discriminant analysis.")
    ] = "ridge",
    lower_bound: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help=(
                "Count a node by its gain less so many standard errors, so that structure stands "
                "only where it is worth that."
            ),
            show_default="by its gain",
        ),
    ] = None,
    shots: _Shots = 100,
    classes: _Classes = None,
    seed: _Seed = 0,
    as_json: _Json = False,
) -> None:
    """Find the best of all trees exactly, and what derived ones miss of it.

    A tree's score is the mean log-probability of a class by path product, of examples that its
    models did not see: other people where the set tells people. The trees are chosen by the same
    scores, so the gain is optimistic; what it is worth on further examples says
    `jaxmeta hierarchy evaluate --tree optimal`.

    Examples:

        jaxmeta hierarchy optimal --data watch --best 5

        jaxmeta hierarchy optimal --data hapt_transitions --binary --lower-bound 1
    """
    import jax

    from jaxmeta import hierarchy
    from jaxmeta.experiment import _derivations as derivations
    from jaxmeta.experiment import _node_models as node_models
    from jaxmeta.experiment import _node_scores as node_scores
    from jaxmeta.experiment._configuration import chosen

    with refusing():
        chosen("learner", learner, ("ridge", "lda"))
        family = hierarchy.binary_partitions if binary else hierarchy.all_partitions
        here = read(data, classes)
        node_scores.within_reach(len(here.names), family)
        drawn = here.drawn(shots, seed)
        nodes = (
            hierarchy.ridge(node_models.chosen_penalty(drawn.train))
            if learner == "ridge"
            else hierarchy.lda()
        )
        say(
            f"jaxmeta: scoring the {hierarchy.count_nodes(len(here.names), family)} nodes of all "
            "trees"
        )
        known = node_scores.node_scores_of(nodes, drawn.train, family)()
        value = hierarchy.gain if lower_bound is None else hierarchy.lower_bound(lower_bound)
        ranked = hierarchy.optimal(known, best, value)
        derived = [
            name for name in derivations.TREES if name not in ("random", "optimal", "lower-bound")
        ]
        ways = {
            "transfer affinity": derivations.derivation("average"),
            **{name: derivations.TREES[name] for name in derived},
        }
        say(f"jaxmeta: deriving trees by {', '.join(ways)}")
        keys = jax.random.split(jax.random.key(seed), len(ways))
        found = {
            name: way(key, drawn.train, nodes, lambda: known)
            for key, (name, way) in zip(keys, ways.items())
        }
        regrets = node_scores.regrets(found, known)
        if lower_bound is not None:
            regrets["optimum by lower bound"] = hierarchy.regret(ranked[0].tree, known)
    flat = known.flat[-1] / known.examples
    rows = [
        {
            "gain": each.score - flat,
            "standard_error": hierarchy.standard_error(each.tree, known),
            "score": each.score,
            "value": each.value,
            "newick": (named := each.tree.renamed(drawn.names)).newick(),
            "tree": named.nested(),
        }
        for each in ranked
    ]
    if as_json:
        show_json(
            {
                "data": data,
                "learner": learner,
                "binary": binary,
                "shots": shots,
                "seed": seed,
                "examples": known.examples,
                "flat": flat,
                "lower_bound": lower_bound,
                "best": rows,
                "regret": regrets,
                "derived": {
                    name: tree.renamed(drawn.names).nested() for name, tree in found.items()
                },
            }
        )
        return
    print(ranked[0].tree.renamed(drawn.names))
    table(
        f"The best {'binary ' * binary}trees of {data}'s classes, {learner} nodes, "
        f"{known.examples} examples held out in turn, in nats an example",
        ["gain over flat", "standard error", "counted as", "tree"],
        [
            [
                *(f"{row[name]:.4f}" for name in ("gain", "standard_error", "value")),
                str(row["tree"]),
            ]
            for row in rows
        ],
    )
    table(
        "What derived trees miss of the best",
        ["derived by", "regret"],
        [
            [name, "not binary" if each is None else f"{each:.4f}"]
            for name, each in sorted(regrets.items(), key=lambda item: (item[1] is None, item[1]))
        ],
    )


@app.command()
def evaluate(
    data: _Data,
    tree: Annotated[
        str,
        typer.Option(
            help="A file with Newick's text, the text itself, or a method of `derive`, by which "
            "every draw then finds its own.",
            show_default=False,
        ),
    ],
    affinity: _Affinity = None,
    fuse: _Fuse = None,
    learner: Annotated[
        str,
        typer.Option(
            help="The nodes' models: weak, ridge in closed form, or strong, a small net each."
        ),
    ] = "weak",
    shots: _Shots = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of training and test examples.")] = 10,
    classes: _Classes = None,
    as_json: _Json = False,
) -> None:
    r"""Test the hierarchical classifier against the flat one, on people or examples that played no
    part in training.

    The flat classifier has the same model at its one node. Both are measured on the tree;
    differences are paired by draw.

    Examples:

        jaxmeta hierarchy evaluate --data watch --tree optimal

        jaxmeta hierarchy evaluate --data digits --learner strong --shots 50 \
            --tree "((0,6),(1,7),(2,3,5,8,9),4);"
    """
    import jax
    import numpy as np

    from jaxmeta import hierarchy
    from jaxmeta.experiment import _derivations as derivations
    from jaxmeta.experiment import _node_models as node_models
    from jaxmeta.experiment import _node_scores as node_scores
    from jaxmeta.experiment._configuration import chosen
    from jaxmeta.experiment._intervals import t_interval

    with refusing():
        chosen("learner", learner, node_models.HEADS)
        given = tree_text(tree)
        find = derivations.derivation(tree, affinity, fuse) if given is None else None
        if find is None and (affinity is not None or fuse is not None):
            raise ValueError(
                "an affinity and levels to fuse are for a tree that is derived, got a tree; leave "
                "them out"
            )
        there = read(data, classes)
        fixed = None if given is None else tree_over(hierarchy.Tree.from_newick(given), there.names)
        trees, measured = [], {"flat": [], "tree": []}
        for seed in range(seeds):
            drawn = there.drawn(shots, seed)
            penalty = node_models.chosen_penalty(drawn.train)
            nodes = hierarchy.ridge(penalty)
            to_find, to_fit = jax.random.split(jax.random.key(seed))
            here = (
                fixed
                if find is None
                else find(
                    to_find, drawn.train, nodes, node_scores.node_scores_of(nodes, drawn.train)
                )
            )
            here = hierarchy.Tree(
                here.parents, here.concepts
            )  # heights in edges, the same unit for all trees
            trees.append(here.renamed(drawn.names))
            for name, one in {"flat": hierarchy.Tree.star(here.size), "tree": here}.items():
                logs = node_models.fitted_log_probabilities(
                    to_fit,
                    one,
                    node_models.HEADS[learner](penalty),
                    drawn.train,
                    drawn.test.x,
                    drawn.shots,
                )
                predicted = np.asarray(hierarchy.most_probable(one, logs))
                scores = hierarchy.scores(here, drawn.test.y, predicted)
                measured[name].append(
                    [scores.accuracy, scores.overlap.f1, scores.h_loss, scores.lca_height]
                )
            if seeds > 1:
                say(
                    f"jaxmeta: draw {seed + 1} of {seeds}: accuracy {measured['tree'][-1][0]:.4f}, "
                    f"flat {measured['flat'][-1][0]:.4f}"
                )
    flat, ours = (np.array(measured[name]) for name in ("flat", "tree"))
    results = {}
    for place, name in enumerate(
        ("accuracy", "hierarchical_f1", "normalised_h_loss", "lca_height")
    ):
        mean, half = t_interval(ours[:, place] - flat[:, place])
        results[name] = {
            "flat": float(flat[:, place].mean()),
            "tree": float(ours[:, place].mean()),
            "difference": float(mean),
            "half": None if seeds == 1 else float(half),
        }
    if as_json:
        show_json(
            {
                "data": data,
                "tree": tree,
                "learner": learner,
                "shots": shots,
                "seeds": seeds,
                "trees": [each.newick() for each in (trees if fixed is None else trees[:1])],
                **results,
            }
        )
        return
    table(
        f"{tree} against flat on {data}, {learner} nodes, {shots} examples a class, {seeds} draws",
        ["", "flat", "tree", "difference ± 95 %"],
        [
            [
                name.replace("_", " "),
                f"{row['flat']:.4f}",
                f"{row['tree']:.4f}",
                f"{row['difference']:+.4f}"
                + ("" if row["half"] is None else f" ± {row['half']:.4f}"),
            ]
            for name, row in results.items()
        ],
    )
