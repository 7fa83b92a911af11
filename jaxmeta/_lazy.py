"""Names that load when asked for: importing a folder costs nothing, and an editor knows what is in
it."""

from __future__ import annotations

import importlib
import sys

TYPE_CHECKING = False  # What type checkers take for true; to import `typing` takes longer than all.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def attach(
    package: str, path: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from the imports of its `__init__` under
    `if TYPE_CHECKING`.

    They are what type checkers and editors read, `from jaxmeta.x._y import a as a`, and are not
    executed: a name's module is imported when the name is first asked for. So that each public name
    is written once.

    Args:
      package: `__name__` of the package.
      path: `__file__` of the package.

    >>> from jaxmeta import bias
    >>> "compose" in dir(bias), bias.compose.__module__
    (True, 'jaxmeta.bias._compose')
    """
    with open(path, encoding="utf-8") as file:
        homes = _imports(file.read())

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, original = homes[name]
        home = importlib.import_module(module)
        value = home if original is None else getattr(home, original)
        setattr(sys.modules[package], name, value)  # Found at once from now on.
        return value

    return load, lambda: sorted(homes), sorted(homes)


def _imports(text: str) -> dict[str, tuple[str, str | None]]:
    """By name the module, and the name there; None for the module itself. Not by `ast`, which takes
    long to import."""
    found: dict[str, tuple[str, str | None]] = {}
    block = text.partition("\nif TYPE_CHECKING:\n")[2].partition("\nelse:\n")[0]
    for statement in block.split("    from ")[1:]:
        module, _, names = statement.partition(" import ")
        for each in names.strip(" ()\n").split(","):
            original, _, name = each.strip().partition(" as ")
            if name:
                own = module == "jaxmeta"
                found[name] = (f"jaxmeta.{original}", None) if own else (module, original)
    return found
