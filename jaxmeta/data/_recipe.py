"""What the catalogue knows about a set before it is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ._dataset import Dataset
from ._source import File


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a set is made.

    Attributes:
      name: what `load` takes.
      kind: 'image' or 'window'.
      description: one sentence.
      classes: how many it has; what was built is checked against it.
      groups: likewise.
      group: what a group is: 'alphabet', 'person', 'set'.
      by: what a split separates, 'class' or 'group'.
      origin: where it comes from, its paper and its terms.
      build: (files by path, cache folder) -> Dataset.
      files: what it is built from; empty for a set that a package ships.
      version: goes up when what is built changes, so that an older cache is not taken for it.
    """

    name: str
    kind: Literal["image", "window"]
    description: str
    classes: int
    groups: int
    group: str
    by: Literal["class", "group"]
    origin: str
    build: Callable[[dict[str, Path], Path], Dataset]
    files: tuple[File, ...] = ()
    version: int = 1
