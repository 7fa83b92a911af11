"""`jaxmeta hierarchy evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxmeta._cli._concepts import read, tree_over, tree_text
from jaxmeta._cli._console import refusing, say, show_json, table
from jaxmeta._cli._hierarchy_options import Affinity, Classes, Data, Fuse, Json, Shots


def evaluate(
    data: Data,
    tree: Annotated[
        str,
        typer.Option(
            help="A file with Newick's text, the text itself, or a method of `derive`, by which "
            "every draw then finds its own.",
            show_default=False,
        ),
    ],
    affinity: Affinity = None,
    fuse: Fuse = None,
    learner: Annotated[
        str,
        typer.Option(
            help="The nodes' models: weak, ridge in closed form, or strong, a small net each."
        ),
    ] = "weak",
    shots: Shots = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of training and test examples.")] = 10,
    classes: Classes = None,
    as_json: Json = False,
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
    from jaxmeta._registry import chosen
    from jaxmeta.evaluation import t_interval
    from jaxmeta.experiment import (
        derivations,
        node_models,
        node_scores,
    )

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
