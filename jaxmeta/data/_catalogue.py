"""The sets there are, and the two verbs on them: `prepare` builds one into the cache, `load` reads
it."""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path

from . import _digits, _glyphs, _hapt, _mnist, _omniglot, _phone_watch, _shl, _watch
from ._cache import building, cache_folder, read_arrays, write_arrays
from ._dataset import Dataset
from ._recipe import Recipe
from ._source import find, locate, source_folder

_RECIPES = {
    recipe.name: recipe
    for module in (_glyphs, _digits, _watch, _omniglot, _mnist, _hapt, _phone_watch, _shl)
    for recipe in module.RECIPES
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A set as `catalogue` lists it.

    Attributes:
      name: what `load` and `prepare` take.
      kind: 'image' or 'window'.
      description: one sentence.
      classes: their number.
      groups: their number.
      group: what a group is: 'alphabet', 'person', 'set'.
      by: what a split separates, 'class' or 'group'.
      origin: where it comes from, its paper and its terms.
      available: it can be prepared here without a network.
      prepared: it is in the cache.
    """

    name: str
    kind: str
    description: str
    classes: int
    groups: int
    group: str
    by: str
    origin: str
    available: bool
    prepared: bool


def catalogue(
    *, cache: str | os.PathLike | None = None, source: str | os.PathLike | None = None
) -> tuple[Entry, ...]:
    """Returns every set there is, those that need nothing first.

    Args:
      cache: as for `load`.
      source: as for `load`.

    >>> [entry.name for entry in catalogue() if entry.kind == "window"]
    ['watch', 'hapt', 'hapt_transitions', 'phone_watch', 'shl']
    """
    cache, source = cache_folder(cache), source_folder(source)
    shown = {field.name for field in dataclasses.fields(Entry)} - {"available", "prepared"}
    return tuple(
        Entry(
            **{name: getattr(recipe, name) for name in shown},
            available=all(source and find(file, source) for file in recipe.files if file.needed),
            prepared=_folder(recipe, cache).is_dir(),
        )
        for recipe in _RECIPES.values()
    )


def prepare(
    name: str, *, cache: str | os.PathLike | None = None, source: str | os.PathLike | None = None
) -> Path:
    """Builds a set into the cache, once; a set that is there is left as it is.

    Args:
      name: one of `catalogue`.
      cache: the cache folder; by default $JAXMETA_CACHE, else $XDG_CACHE_HOME/jaxmeta, else
        ~/.cache/jaxmeta.
      source: a folder that holds the archives; by default $JAXMETA_DATA. Without either, the set is
        fetched from where it is published.

    Returns:
      The folder of the prepared arrays.

    Raises:
      ValueError: an unknown name, or an archive that is damaged or holds something else.
      FileNotFoundError: the source lacks the set's archives.
      OSError: the cache cannot be written, or a download failed.
    """
    recipe = _recipe(name)
    cache = cache_folder(cache)
    target = _folder(recipe, cache)
    if target.is_dir():
        return target
    files = locate(
        recipe.files, source_folder(source) if recipe.files else None, cache / "downloads"
    )
    with building(target) as folder:
        dataset = recipe.build(files, cache)
        counts = dataset.counts()
        got = (int(counts.any(0).sum()), int(counts.any(1).sum()))
        if got != (recipe.classes, recipe.groups):
            where = ", ".join(map(str, files.values())) or "the installed package"
            raise ValueError(
                f"'{name}' must have {recipe.classes} classes in {recipe.groups} groups "
                f"({recipe.group}), got {got[0]} in {got[1]} from {where}; give the whole set"
            )
        write_arrays(folder, dataset)
    return target


def load(
    name: str, *, cache: str | os.PathLike | None = None, source: str | os.PathLike | None = None
) -> Dataset:
    """Returns a set, preparing it where needed: the same call with or without a network, local
    files, a cache.

    Args:
      name: one of `catalogue`.
      cache: as for `prepare`.
      source: as for `prepare`; not looked at when the set is prepared.

    Raises:
      ValueError, FileNotFoundError, OSError: as `prepare`; ValueError also where the cache is
        damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as cache:
    ...     load("digits", cache=cache).split("test").class_names
    ('7', '8', '9')
    """
    return read_arrays(prepare(name, cache=cache, source=source))


def _folder(recipe: Recipe, cache: Path) -> Path:
    return cache / "arrays" / f"{recipe.name}-{recipe.version}"


def _recipe(name: str) -> Recipe:
    if name not in _RECIPES:
        close = difflib.get_close_matches(str(name), _RECIPES, 1)
        meant = f" (did you mean '{close[0]}'?)" if close else ""
        raise ValueError(f"there is no set {name!r}{meant}; choose one of {', '.join(_RECIPES)}")
    return _RECIPES[name]
