"""The command `jaxmeta`. Importing it is light: jax comes with the commands that compute."""

from __future__ import annotations

import sys
import warnings

import typer

from jaxmeta._cli import _data, _evaluate, _hierarchy, _train, _tying
from jaxmeta._cli._console import Refusal, say
from jaxmeta._cli._plugins import load

_HELP = """Metalearning in JAX: learn from many small tasks how to learn the next one.

Start here:

    jaxmeta train --algorithm maml --data glyphs --ways 5 --shots 1 --out runs/a

    jaxmeta evaluate runs/a --ways 10

    jaxmeta hierarchy derive --data digits --out tree.png

    jaxmeta tying run along_tree --data watch

    jaxmeta data list

    jaxmeta algorithms
"""

app = typer.Typer(
    help=_HELP,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(_train.train)
app.command("evaluate")(_evaluate.evaluate)
app.command("algorithms")(_evaluate.algorithms)
app.add_typer(_hierarchy.app, name="hierarchy")
app.add_typer(_tying.app, name="tying")
app.add_typer(_data.app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        from jaxmeta import __version__

        typer.echo(f"jaxmeta {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Print the version and exit.",
    ),
    plugin: list[str] = typer.Option(
        [],
        "--plugin",
        help="A module of your own that registers methods, models or data; may be given several "
        "times.",
        show_default=False,
    ),
) -> None:
    load(plugin)


# Click comes as a package of its own or within typer, by typer's version; this is its base of all
# wrong usage.
_WrongUsage = typer.BadParameter.__mro__[1]


def main() -> None:
    """Runs the command: 0 if all went well, 2 for what was refused, 130 after Ctrl-C; other
    failures keep their traceback."""
    warnings.showwarning = lambda message, *where, **more: say(f"jaxmeta: {message}")
    try:
        # A command that needs another one after it shows its help.
        arguments = sys.argv[1:] + (
            ["--help"] if sys.argv[1:] in ([], ["data"], ["hierarchy"], ["tying"]) else []
        )
        sys.exit(app(arguments, prog_name="jaxmeta", standalone_mode=False) or 0)
    except (_WrongUsage, Refusal) as error:
        # The one sentence is enough; Click would print the usage as well.
        message = error.format_message() if isinstance(error, _WrongUsage) else str(error)
        say("jaxmeta: " + " ".join(message.split()))
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        say("jaxmeta: interrupted")
        sys.exit(130)
