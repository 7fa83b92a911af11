"""`jaxmeta hierarchy`: its commands, and `count`."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxmeta._cli._console import show_json
from jaxmeta._cli._hierarchy_affinity import affinity
from jaxmeta._cli._hierarchy_derive import derive
from jaxmeta._cli._hierarchy_evaluate import evaluate
from jaxmeta._cli._hierarchy_optimal import optimal
from jaxmeta._cli._hierarchy_options import Binary, Json

app = typer.Typer(
    help="Trees of concepts: how many there are, which fits the data, what it brings.",
    rich_markup_mode="markdown",
)


@app.command()
def count(
    concepts: Annotated[
        int, typer.Argument(min=1, help="C, how many concepts.", show_default=False)
    ],
    binary: Binary = False,
    as_json: Json = False,
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


for command in (affinity, derive, optimal, evaluate):
    app.command()(command)
