"""`jaxmeta hierarchy affinity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxmeta._cli._concepts import read
from jaxmeta._cli._console import refusing, say, show_json, table
from jaxmeta._cli._hierarchy_options import AGGLOMERATED, Classes, Data, Json, Seed, Shots

_WIDEST = 20  # classes up to which a matrix is printed


def affinity(
    data: Data,
    affinity: Annotated[str, typer.Option(help=f"Which: {AGGLOMERATED}.")] = "transfer",
    shots: Shots = 100,
    classes: Classes = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where to write the matrix: .npy or .csv, or .png for a picture.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
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
    from jaxmeta._registry import chosen
    from jaxmeta.experiment import derivations

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
