"""What the commands share: results on standard output, everything else on standard error, refusals
in one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxmeta._extras import MissingExtra


class Refusal(Exception):
    """What was asked for cannot be done; the message is the one sentence that says why. Exit code
    2."""


def say(message: str) -> None:
    """A line for the person, on standard error."""
    print(message, file=sys.stderr, flush=True)


def show_json(value: Any) -> None:
    """The one JSON value that `--json` prints on standard output."""
    print(json.dumps(value, indent=2), flush=True)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on standard output; columns as wide as they need where it goes to a file."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(
        title, markup=False, highlight=False
    )  # a table's own title is broken to the table's width
    drawn = Table(*columns)
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)


@contextlib.contextmanager
def refusing(still: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Within it a ValueError, an OSError or a missing extra is a refusal: its sentence, exit code
    2. Elsewhere they keep their traceback.

    Args:
      still: Asked when one comes; once False, errors pass as they are.
    """
    try:
        yield
    except MissingExtra as error:
        raise Refusal(str(error)) from error
    except (ValueError, OSError) as error:
        if not still():
            raise
        raise Refusal(str(error)) from error


def start_jax(compilation_cache: bool) -> None:
    """Makes every core of a CPU a device, and keeps compiled programs from one command to the
    next."""
    import jax

    from jaxmeta import cache

    jax.config.update(
        "jax_num_cpu_devices",
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )
    if compilation_cache:
        cache()


def read_json(path: Path) -> Any:
    """A JSON file; refuses, by ValueError, one that is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path.parent} holds no run of jaxmeta train ({path.name} is missing); "
            "give the folder that was its --out"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); put it back, or train again") from None
