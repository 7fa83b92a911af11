"""Options that commands of `jaxmeta hierarchy` share."""

from __future__ import annotations

from typing import Annotated

import typer

AGGLOMERATED = "transfer, confusion, means, lookahead, task2vec or linear"

Data = Annotated[
    str,
    typer.Option("--data", "-d", help="Which set; see `jaxmeta data list`.", show_default=False),
]

Classes = Annotated[
    str | None, typer.Option(help="Only these classes, with commas between.", show_default="all")
]

Shots = Annotated[
    int,
    typer.Option(min=3, help="Examples of each class to learn from; fewer where there are fewer."),
]

Seed = Annotated[
    int, typer.Option(min=0, help="Of the draw of examples and of all else that is random.")
]

Affinity = Annotated[
    str | None,
    typer.Option(help=f"What is agglomerated: {AGGLOMERATED}.", show_default="transfer"),
]

Fuse = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="Agglomerated levels closer than this become one, in the affinity's unit.",
        show_default="0, a binary tree",
    ),
]

Binary = Annotated[
    bool, typer.Option("--binary", help="Only trees in which every node has two children.")
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
