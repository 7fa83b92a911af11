"""`jaxmeta hierarchy optimal`."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxmeta._cli._concepts import read
from jaxmeta._cli._console import refusing, say, show_json, table
from jaxmeta._cli._hierarchy_options import Binary, Classes, Data, Json, Seed, Shots


def optimal(
    data: Data,
    binary: Binary = False,
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
    shots: Shots = 100,
    classes: Classes = None,
    seed: Seed = 0,
    as_json: Json = False,
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
    from jaxmeta._registry import chosen
    from jaxmeta.experiment import (
        derivations,
        node_models,
        node_scores,
    )

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
