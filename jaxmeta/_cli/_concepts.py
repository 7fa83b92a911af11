"""What the commands of `jaxmeta hierarchy` read: examples of classes, and trees over them. jax is
imported within."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

from jaxmeta._cli._console import start_jax


class Drawn(NamedTuple):
    """Training and test examples of one draw, and the most of a class that may be in training."""

    names: list[str]
    train: Any
    test: Any
    shots: int


@dataclasses.dataclass(frozen=True)
class Concepts:
    """A data set, the names of its classes, and its features once they are asked for."""

    dataset: Any
    names: list[str]

    @functools.cached_property
    def x(self):
        from jaxmeta.experiment import concepts

        return concepts.features(self.dataset)

    def drawn(self, shots: int, seed: int) -> Drawn:
        """A draw; refuses, by ValueError, one in which a class lacks examples."""
        import numpy as np

        from jaxmeta.experiment import concepts

        most = min(shots, 3 * int(np.bincount(self.dataset.labels).max()))
        train, test = concepts.drawn(self.dataset, self.x, most, seed)
        for part in concepts.PARTS:
            lacking = np.bincount(train.y[train.fold == part], minlength=len(self.names)) == 0
            if lacking.any():
                raise ValueError(
                    "every class needs examples in each fold, got none of "
                    f"{self.names[int(lacking.argmax())]!r} in fold {part} of draw {seed}; leave "
                    "the class out by --classes"
                )
        return Drawn(self.names, train, test, most)


def read(name: str, classes: str | None) -> Concepts:
    """A data set or some of its classes, their names with commas between; jax is started.

    Raises:
      ValueError: for a set or a class that is not there, or fewer than two classes.
    """
    from jaxmeta import data
    from jaxmeta.experiment import concepts

    start_jax(True)
    dataset = data.load(name)
    if classes is not None:
        dataset = concepts.only(
            dataset, [each.strip() for each in classes.split(",") if each.strip()]
        )
    if len(dataset.class_names) < 2:
        raise ValueError(
            f"a hierarchy needs at least two classes, got {list(dataset.class_names)}; give more "
            "by --classes"
        )
    return Concepts(dataset, list(dataset.class_names))


def tree_text(given: str) -> str | None:
    """Newick's text that is given, or in the file that is given; None for the name of a derivation.

    Raises:
      ValueError: for what is none of them, or a file that is no text.
    """
    from jaxmeta.experiment import derivations

    if "(" not in given:
        methods, path = [*derivations.SCHEMES, *derivations.TREES], Path(given)
        if given in methods:
            return None
        if not path.is_file():
            raise ValueError(
                f"--tree must be Newick's text, a file with it, or one of {', '.join(methods)}, "
                f"got {given!r}"
            )
        given = path.read_text(encoding="utf-8")
    given = given.strip()
    return given if given.endswith(";") else f"{given};"


def tree_over(tree, names: list[str]):
    """A tree over names of classes, or over their numbers, as one over their numbers.

    Raises:
      ValueError: for a tree over other concepts.
    """
    numbers = [str(number) for number in range(len(names))]
    if set(tree.concepts) == set(numbers):
        names = numbers
    return tree.over(names).renamed({name: number for number, name in enumerate(names)})
