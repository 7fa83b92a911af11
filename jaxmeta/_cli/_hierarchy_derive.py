"""`jaxmeta hierarchy derive`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxmeta._cli._concepts import read
from jaxmeta._cli._console import refusing, say, show_json
from jaxmeta._cli._hierarchy_options import Affinity, Classes, Data, Fuse, Json, Seed, Shots


def derive(
    data: Data,
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
    affinity: Affinity = None,
    fuse: Fuse = None,
    shots: Shots = 100,
    classes: Classes = None,
    seed: Seed = 0,
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
    as_json: Json = False,
) -> None:
    """Find a tree of the classes from training examples.

    Examples:

        jaxmeta hierarchy derive --data digits --fuse 0.01 --out tree.png

        jaxmeta hierarchy derive --data watch --method nbdt --newick > tree.nwk
    """
    import jax

    from jaxmeta import report
    from jaxmeta.experiment import derivations, node_scores

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
