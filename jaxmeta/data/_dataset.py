"""What a data set is once it is read: arrays, names, and a split that cannot leak."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Examples with a class and a group each, and the classes or groups that each split holds.

    Axes: `n` examples, `C` classes, `G` groups.

    Attributes:
      name: the set, or `set/split` for a part made by `split`.
      inputs: images [n, 28, 28, 1] uint8, strokes bright on dark, 0 to 255; or windows [n, length,
        channels] float32 in the units of the source.
      labels: [n] int32, class ids 0 to C-1.
      groups: [n] int32, group ids 0 to G-1 (an alphabet, a person).
      class_names: C names.
      group_names: G names.
      by: what a split separates, 'class' or 'group'.
      splits: 'train', 'validation', 'test' -> int32 ids of classes or groups; disjoint, together
        all of them.
      protocol: where the split comes from, in words.
      domains: [n] int32 ids of a second view of the examples (the device, the arm), all 0 where
        there is none.
      domain_names: their names.
      bouts: [n] int32, the bout that an example is a window of: a stretch of one recording and one
        label. Windows of one bout may overlap, those of different bouts share no sample. None where
        examples are not windows.
      recordings: [n] int32, the recording that it is from; None where the source does not tell.

    Raises:
      ValueError: lengths that differ, ids out of range or not integers, NaN or infinity, splits
        that overlap or miss something.
    """

    name: str
    inputs: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]
    by: Literal["class", "group"]
    splits: Mapping[str, np.ndarray]
    protocol: str = "given by the user"
    domains: np.ndarray | None = None
    domain_names: tuple[str, ...] = ("all",)
    bouts: np.ndarray | None = None
    recordings: np.ndarray | None = None

    def __post_init__(self):
        if self.by not in ("class", "group"):
            raise ValueError(
                f"by of '{self.name}' must be 'class' or 'group', got {self.by!r}; "
                "say which a split separates"
            )
        _check_inputs(self.name, self.inputs)
        if self.domains is None:
            object.__setattr__(self, "domains", np.zeros(len(self.inputs), np.int32))
        for field, names in (
            ("labels", self.class_names),
            ("groups", self.group_names),
            ("domains", self.domain_names),
            ("bouts", None),
            ("recordings", None),
        ):
            if names is None and getattr(self, field) is None:
                continue
            ids = _checked_ids(f"{field} of '{self.name}'", getattr(self, field), names)
            if ids.shape != (len(self.inputs),):
                raise ValueError(
                    f"{field} of '{self.name}' must have shape ({len(self.inputs)},), one id an "
                    f"input, got {ids.shape}; give one for each"
                )
            object.__setattr__(self, field, ids)
        object.__setattr__(self, "splits", self._checked_splits())

    def _checked_splits(self) -> dict[str, np.ndarray]:
        separated = self.class_names if self.by == "class" else self.group_names
        splits = {
            which: _checked_ids(f"split '{which}' of '{self.name}'", ids, separated)
            for which, ids in self.splits.items()
        }
        times = np.bincount(
            np.concatenate([*splits.values(), np.empty(0, np.int32)]), minlength=len(separated)
        )
        if (times != 1).any():
            wrong = int(np.argmax(times != 1))
            raise ValueError(
                f"the splits of '{self.name}' must hold every {self.by} once, got {self.by} "
                f"{wrong} ('{separated[wrong]}') {times[wrong]} times; make them disjoint and "
                f"together all {len(separated)}"
            )
        return splits

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        parts = ", ".join(f"{which} {len(ids)}" for which, ids in self.splits.items())
        return (
            f"Dataset('{self.name}', inputs {list(self.inputs.shape)} {self.inputs.dtype}, "
            f"{len(self.class_names)} classes, {len(self.group_names)} groups, split by {self.by}: "
            f"{parts})"
        )

    def counts(self) -> np.ndarray:
        """Returns the examples of each group and class, int32 [G, C]."""
        counts = np.zeros((len(self.group_names), len(self.class_names)), np.int32)
        np.add.at(counts, (self.groups, self.labels), 1)
        return counts

    @property
    def class_groups(self) -> np.ndarray:
        """The one group of each class (its alphabet), int32 [C]; ValueError where a class is in
        several."""
        present = self.counts() > 0
        if (present.sum(0) != 1).any():
            wrong = int(np.argmax(present.sum(0) != 1))
            raise ValueError(
                f"each class of '{self.name}' must lie in one group, got class "
                f"'{self.class_names[wrong]}' in {present[:, wrong].sum()}; use groups of examples"
            )
        return present.argmax(0).astype(np.int32)

    @property
    def apart(self) -> np.ndarray | None:
        """What support and query of a class take from different ones of, int32 [n]: `pool` takes it
        as its bouts.

        The recordings where there are two or more of the class (split by group: of the class in the
        example's group), else its bouts; None where neither is known.
        """
        if self.recordings is None or self.bouts is None:
            return self.recordings if self.bouts is None else self.bouts
        cells = self.labels + (len(self.class_names) * self.groups if self.by == "group" else 0)
        of = np.unique(np.stack([cells, self.recordings]), axis=1)[
            0
        ]  # the cell of each of its recordings
        return np.where(np.bincount(of)[cells] > 1, self.recordings, self.bouts)

    def taken(self, rows: np.ndarray, **changed) -> Dataset:
        """Returns the examples at some rows, with what else is `changed`; `split` and the like are
        made of it."""
        parts = ("inputs", "labels", "groups", "domains", "bouts", "recordings")
        kept = {
            part: getattr(self, part)[rows] for part in parts if getattr(self, part) is not None
        }
        return dataclasses.replace(self, **kept | changed)

    def split(self, which: str) -> Dataset:
        """Returns the examples of one split and nothing else.

        What the split separates is numbered anew from 0, with its names, so that an id of another
        split does not exist here. Split by class, the groups that remain are renumbered too. Split
        by group, classes keep their ids: a walking person of the test split has the label that
        walking had in training.

        Args:
          which: a key of `splits`: 'train', 'validation' or 'test'.

        Raises:
          ValueError: no such split.
        """
        if which not in self.splits:
            raise ValueError(
                f"'{self.name}' has no split {which!r}; choose one of "
                f"{', '.join(map(repr, self.splits))}"
            )
        kept = np.sort(self.splits[which])
        rows = np.flatnonzero(np.isin(self.labels if self.by == "class" else self.groups, kept))
        labels, class_names = self.labels[rows], self.class_names
        if self.by == "class":
            labels, class_names = _renumbered(labels, class_names, kept)
            kept_groups = np.unique(self.groups[rows])
        else:
            kept_groups = kept
        groups, group_names = _renumbered(self.groups[rows], self.group_names, kept_groups)
        return self.taken(
            rows,
            name=f"{self.name}/{which}",
            labels=labels,
            groups=groups,
            class_names=class_names,
            group_names=group_names,
            splits={which: np.arange(len(kept), dtype=np.int32)},
        )


def seeded_split(
    names: tuple[str, ...], sizes: tuple[int, int, int], seed: int = 0
) -> dict[str, np.ndarray]:
    """A fixed draw of classes or groups: a seeded shuffle of their ids, cut into train, validation
    and test.

    Args:
      names: names of the classes or groups, one each; only their number matters.
      sizes: how many go to train, validation and test; together all of them.
      seed: of `numpy.random.default_rng`.

    Returns:
      'train', 'validation', 'test' -> sorted int32 ids.

    Raises:
      ValueError: sizes that do not add up.

    >>> {which: ids.tolist() for which, ids in seeded_split(tuple("abcdef"), (3, 1, 2)).items()}
    {'train': [2, 3, 5], 'validation': [4], 'test': [0, 1]}
    """
    if sum(sizes) != len(names):
        raise ValueError(
            f"sizes of a split must add up to {len(names)}, got {sizes}; give three that do"
        )
    order = np.random.default_rng(seed).permutation(len(names)).astype(np.int32)
    return dict(
        zip(("train", "validation", "test"), map(np.sort, np.split(order, np.cumsum(sizes)[:2])))
    )


def _check_inputs(name: str, inputs: np.ndarray) -> None:
    if not isinstance(inputs, np.ndarray) or inputs.ndim < 2 or inputs.dtype.kind not in "fiu":
        got = (
            f"{inputs.dtype} {list(inputs.shape)}"
            if isinstance(inputs, np.ndarray)
            else type(inputs).__name__
        )
        raise ValueError(
            f"inputs of '{name}' must be a numeric numpy array [n, ...], got {got}; convert them"
        )
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        row = int(np.argmax(~np.isfinite(inputs).reshape(len(inputs), -1).all(1)))
        raise ValueError(
            f"inputs of '{name}' must be finite, got NaN or infinity in example {row}; "
            "drop or fill such examples"
        )


def _checked_ids(what: str, ids: np.ndarray, names: tuple[str, ...] | None) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1 or (ids.dtype.kind not in "iu" and ids.size):
        raise ValueError(
            f"{what} must be integers [n], got {ids.dtype} {list(ids.shape)}; give class ids, "
            "for example by np.unique(labels, return_inverse=True)"
        )
    count = 2**31 if names is None else len(names)
    if ids.size and not (0 <= ids.min() and ids.max() < count):
        raise ValueError(
            f"{what} must lie in 0 to {count - 1}, got {ids.min()} to {ids.max()}; "
            f"number them from 0{' and name each' if names is not None else ''}"
        )
    return ids.astype(np.int32)


def _renumbered(
    ids: np.ndarray, names: tuple[str, ...], kept: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    return np.searchsorted(kept, ids).astype(np.int32), tuple(names[i] for i in kept)
