"""`jaxmeta tying`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxmeta._cli._concepts import read, tree_over, tree_text
from jaxmeta._cli._console import refusing, say, show_json, start_jax, table

app = typer.Typer(
    help="Who shares which parameters: schemes, pictures of them, what they bring.",
    rich_markup_mode="markdown",
)

_Scheme = Annotated[str, typer.Argument(help="One of `jaxmeta tying list`.", show_default=False)]
_Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A setting of the scheme, name=value; may be given several times.",
        show_default="as `list` says",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

_WIDEST = 20  # nodes up to which a matrix is printed


@app.command("list")
def list_schemes(as_json: _Json = False) -> None:
    """List the schemes, each with its equation and settings."""
    from jaxmeta.experiment import tyings

    if as_json:
        show_json(
            [
                {"name": name, "equation": scheme.equation, "settings": dict(scheme.settings)}
                for name, scheme in tyings.SCHEMES.items()
            ]
        )
        return
    table(
        "Schemes of tying: theta of node c from the free phi",
        ["name", "equation", "settings"],
        [
            [
                name,
                scheme.equation,
                ", ".join(f"{key}={value}" for key, value in scheme.settings.items()),
            ]
            for name, scheme in tyings.SCHEMES.items()
        ],
    )


@app.command()
def show(
    scheme: _Scheme,
    nodes: Annotated[
        int | None,
        typer.Option(min=2, max=64, help="N, in a balanced binary tree.", show_default="8"),
    ] = None,
    tree: Annotated[
        str | None,
        typer.Option(
            help="A tree over the nodes instead: Newick's text, or a file with it.",
            show_default=False,
        ),
    ] = None,
    settings: _Set = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Where to draw it, a .png for instance.", show_default=False
        ),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Say who shares with whom under a scheme, for a very small net at every node, and draw it.

    Two nodes share what free parameters both depend on, as a share of those that either does. In
    the picture entries of one colour are made of the same free parameters in the same way.

    Examples:

        jaxmeta tying show along_tree --tree "((walk,run),(sit,stand),lie);" --out sharing.png

        jaxmeta tying show low_rank --nodes 6 --set rank=2
    """
    from jaxmeta import report
    from jaxmeta.experiment import tyings

    with refusing():
        if tree is not None and nodes is not None:
            raise ValueError(
                f"nodes are those of the tree, got --nodes {nodes} and a --tree; leave one out"
            )
        start_jax(True)
        over = _read_tree(tree, "there are no data to derive it from") or tyings.balanced(
            nodes or 8
        )
        example = tyings.small_example()
        tying = tyings.tying_of(
            scheme, tyings.Layout(over, example), tyings.read_settings(settings)
        )
        found = tyings.sharing(tying, example)
        names = list(map(str, over.concepts))
        if out is not None:
            report.draw_sharing(found, out, names, scheme)
    if as_json:
        show_json(
            {
                "scheme": scheme,
                "equation": tyings.SCHEMES[scheme].equation,
                "nodes": names,
                "tree": over.newick(),
                "free": found.free,
                "full": found.full,
                "overlap": found.overlap.tolist(),
                "colours": {leaf: rows.tolist() for leaf, rows in found.colours.items()},
                "picture": None if out is None else str(out),
            }
        )
        return
    print(
        f"{scheme}: {tyings.SCHEMES[scheme].equation}\n"
        f"{found.free} free parameters for {found.full} of {len(names)} nodes",
        flush=True,
    )
    if len(names) <= _WIDEST:
        table(
            "Share in common",
            ["", *names],
            [[name, *(f"{value:.2f}" for value in row)] for name, row in zip(names, found.overlap)],
        )
    if out is not None:
        say(f"picture: {out}")


@app.command()
def run(
    scheme: _Scheme,
    data: Annotated[
        str,
        typer.Option(
            "--data", "-d", help="Which set; see `jaxmeta data list`.", show_default=False
        ),
    ],
    tree: Annotated[
        str | None,
        typer.Option(
            help="Over the nodes: Newick's text, or a file with it.",
            show_default="by Ward's method, from training examples of every draw",
        ),
    ] = None,
    settings: _Set = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Only these classes, with commas between.", show_default="all"),
    ] = None,
    shots: Annotated[
        int,
        typer.Option(
            min=1,
            help="Examples of a class, fewer where there are fewer: training ones at "
            "every node, or, where nodes are classes, in all, a third of them validation's.",
        ),
    ] = 5,
    steps: Annotated[int, typer.Option(min=10, help="Of Adam, at most.")] = 300,
    hidden: Annotated[
        int, typer.Option(min=1, help="Units of each of the two hidden layers.")
    ] = 32,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of examples.")] = 5,
    as_json: _Json = False,
) -> None:
    """Train a small net at every node under a scheme, and test it against nets that share
    everything and that share nothing.

    Nodes are persons where a set tells persons: each learns from its own earlier examples and is
    tested on its later ones. Else nodes are classes, each of which says whether an example is its
    own, by a head of its own, and the surest wins; training examples are then those of all. How
    long to train, and how strong the penalty is, each scheme chooses on validation examples;
    differences on test examples are paired by draw.

    Examples:

        jaxmeta tying run along_tree --data watch --shots 3

        jaxmeta tying run low_rank --data digits --set rank=2 --shots 20 --seeds 10
    """
    from jaxmeta.experiment import node_data as sets, tying_runs as runs, tyings

    with refusing():
        start_jax(True)
        given = tyings.read_settings(settings)
        tyings.tying_of(
            scheme, tyings.Layout(tyings.balanced(4), tyings.small_example()), given
        )  # refuse before reading data
        given_tree = _read_tree(tree, "by default it is found from examples")
        there = read(data, classes)
        accuracies: dict[str, list[float]] = {
            name: [] for name in dict.fromkeys(["shared", "free", scheme])
        }
        free = {}
        for seed in range(seeds):
            drawn = sets.node_data(there.dataset, there.x, shots, seed)
            over = drawn.tree if given_tree is None else tree_over(given_tree, drawn.names)
            for name in accuracies:
                found = runs.train_under(
                    name, drawn, over, seed, steps, hidden, given if name == scheme else None
                )
                accuracies[name].append(found.accuracy)
                free[name] = found.free
            say(
                f"jaxmeta: draw {seed + 1} of {seeds}: "
                + ", ".join(f"{name} {row[-1]:.4f}" for name, row in accuracies.items())
            )
    rows = {}
    for name, row in accuracies.items():
        rows[name] = {"free_parameters": free[name], "accuracy": _interval(row)} | {
            f"over_{other}": _interval([a - b for a, b in zip(row, accuracies[other])])
            for other in ("shared", "free")
            if name == scheme and other != scheme
        }
    if as_json:
        show_json(
            {
                "scheme": scheme,
                "equation": tyings.SCHEMES[scheme].equation,
                "data": data,
                "nodes": drawn.names,
                "settings": given,
                "shots": shots,
                "steps": steps,
                "hidden": hidden,
                "seeds": seeds,
                "accuracies": accuracies,
                "results": rows,
            }
        )
        return
    table(
        f"{scheme} on {data}: {len(drawn.names)} nodes, {shots} examples a class, {seeds} draws; "
        "accuracy in test ± 95 %",
        ["scheme", "free parameters", "accuracy", "over shared", "over free"],
        [
            [
                name,
                str(row["free_parameters"]),
                _text(row["accuracy"], ""),
                _text(row.get("over_shared"), "+"),
                _text(row.get("over_free"), "+"),
            ]
            for name, row in rows.items()
        ],
    )


def _read_tree(tree: str | None, otherwise: str):
    """The tree of Newick's text or of a file with it; None where none is given."""
    if tree is None:
        return None
    from jaxmeta.hierarchy import Tree

    text = tree_text(tree)
    if text is None:
        raise ValueError(
            f"--tree must be Newick's text or a file with it, got {tree!r}; {otherwise}"
        )
    return Tree.from_newick(text)


def _interval(values) -> dict:
    from jaxmeta.evaluation import t_interval

    mean, half = t_interval(values)
    return {"mean": float(mean), "half": float(half) if len(values) > 1 else None}


def _text(interval, sign: str) -> str:
    if interval is None:
        return ""
    return f"{interval['mean']:{sign}.4f}" + (
        "" if interval["half"] is None else f" ± {interval['half']:.4f}"
    )
