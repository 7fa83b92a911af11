"""Packages that only some users need, and the sentence for one that is not installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# The extra of pyproject.toml that brings a package.
_EXTRAS = {
    "matplotlib": "pictures",
    "networkx": "trees",
    "seglearn": "data",
    "sklearn": "trees",
    "tensorboardX": "tensorboard",
    "threadpoolctl": "trees",
}


class MissingExtra(ImportError):
    """A package of an extra is not installed; the message says which extra brings it."""


@contextlib.contextmanager
def needed(what: str) -> Iterator[None]:
    """Within it, the import of a package of an extra that is not installed ends in one sentence.

    Args:
      what: That needs the package, the beginning of the sentence.

    Raises:
      MissingExtra: If one is not installed.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise MissingExtra(
            f"{what} needs {package}, which is not installed; run: "
            f"pip install 'jaxmeta[{_EXTRAS[package]}]'",
            name=error.name,
        ) from None
