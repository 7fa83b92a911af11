"""Modules that let a user's own into the registries: installed ones by their entry point, others
by name."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from jaxmeta._cli._console import Refusal

GROUP = "jaxmeta.plugins"


def load(modules: Sequence[str]) -> None:
    """Imports what packages name under the entry point `jaxmeta.plugins`, then the modules, which
    may lie in the current folder."""
    for point in importlib.metadata.entry_points(group=GROUP):
        point.load()
    if modules and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise Refusal(
                f"a plugin must be a module that can be imported, got {module!r}; run the command "
                "where it lies, or install it"
            ) from None
