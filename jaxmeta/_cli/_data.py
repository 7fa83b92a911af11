"""`jaxmeta data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxmeta._cli._console import refusing, say, show_json, table

app = typer.Typer(help="List, prepare and look at the data sets.", rich_markup_mode="markdown")

_Name = Annotated[str, typer.Argument(help="One of `jaxmeta data list`.", show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@app.command("list")
def list_sets(as_json: _Json = False) -> None:
    """List the sets: their classes, what a split separates, and whether they are here."""
    import dataclasses

    from jaxmeta import data

    with refusing():
        entries = data.catalogue()
    if as_json:
        show_json([dataclasses.asdict(entry) for entry in entries])
        return
    table(
        "Sets of --data",
        ["name", "inputs", "classes", "groups", "split by", "state", "what it is"],
        [
            [
                entry.name,
                entry.kind,
                str(entry.classes),
                f"{entry.groups} ({entry.group})",
                entry.group if entry.by == "group" else "class",
                "prepared"
                if entry.prepared
                else "here"
                if entry.available
                else "to be fetched, or set JAXMETA_DATA",
                entry.description,
            ]
            for entry in entries
        ],
    )


@app.command()
def prepare(name: _Name) -> None:
    """Build a set into the cache ahead of time; training does it by itself where needed."""
    from jaxmeta import data

    with refusing():
        print(data.prepare(name))


@app.command()
def show(
    name: _Name,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the picture.", show_default="NAME.png")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Draw examples of some classes of each split, and count by split and group: classes, examples,
    and of windows their recordings and bouts, the stretches that they were cut from.

    Example:

        jaxmeta data show glyphs --out glyphs.png
    """
    from jaxmeta import data, report

    target = Path(f"{name}.png") if out is None else out
    with refusing():
        dataset = data.load(name)
        report.show_data(dataset, target)
    counts = {}
    known = [name for name in ("recordings", "bouts") if getattr(dataset, name) is not None]
    for which in dataset.splits:
        part = dataset.split(which)
        counts[which] = {
            "classes": len(part.class_names),
            "groups": {
                group: {"classes": int((row > 0).sum()), "examples": int(row.sum())}
                | {name: len(set(getattr(part, name)[part.groups == number])) for name in known}
                for number, (group, row) in enumerate(zip(part.group_names, part.counts()))
            },
        }
    if as_json:
        show_json(
            {
                "name": name,
                "inputs": list(dataset.inputs.shape),
                "protocol": dataset.protocol,
                "picture": str(target),
                "splits": counts,
            }
        )
        return
    table(
        f"{name}: {dataset.protocol}",
        ["split", "group", "classes", "examples", *known],
        [
            [which, group, *map(str, row.values())]
            for which, part in counts.items()
            for group, row in part["groups"].items()
        ],
    )
    say(f"picture: {target}")
