"""Registries: what there is by name, ours and, once registered, a user's own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

Record = TypeVar("Record")


class Registry(Mapping[str, Record], Generic[Record]):
    """Records of one kind by name.

    A record says what a thing is and how it is built; what it builds with is named, and imported
    when it is used.

    Args:
      kind: What the records are, as messages name it: "algorithm".
      records: Ours.
      record: The type of the records, which `register` asks for.

    >>> colours = Registry("colour", {"red": "#f00", "green": "#0f0"}, str)
    >>> colours.register("blue", "#00f")
    '#00f'
    >>> colours["bleu"]
    Traceback (most recent call last):
    ValueError: there is no colour 'bleu' (did you mean 'blue'?); choose one of blue, green, red
    """

    def __init__(self, kind: str, records: Mapping[str, Record], record: type):
        self.kind, self._records, self._record = kind, dict(records), record

    def __getitem__(self, name: str) -> Record:
        if name not in self._records:
            raise ValueError(unknown(self.kind, name, self._records))
        return self._records[name]

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def register(self, name: str, record: Record) -> Record:
        """Lets a record in, which can then be named wherever ours can.

        Args:
          name: New among the records.
          record: Of their type.

        Returns:
          The record.

        Raises:
          ValueError: If the name is taken by another record, or the record is of another type.
        """
        if not isinstance(record, self._record):
            raise ValueError(
                f"the {self.kind} {name!r} must be a {self._record.__name__}, got "
                f"{type(record).__name__}; make one of it"
            )
        if self._records.get(name, record) != record:
            raise ValueError(f"the {self.kind} {name!r} is there already; choose another name")
        self._records[name] = record
        return record


def chosen(kind: str, name: str, among) -> str:
    """Returns the name; refuses by ValueError one that is not there, with the nearest that is."""
    if name not in among:
        raise ValueError(unknown(kind, name, among))
    return name


def unknown(kind: str, name: object, among) -> str:
    """The sentence for a name that is not there, with the nearest that is."""
    close = difflib.get_close_matches(str(name), among, 1)
    meant = f" (did you mean '{close[0]}'?)" if close else ""
    return f"there is no {kind} {name!r}{meant}; choose one of {', '.join(sorted(among))}"


def resolved(reference: Any) -> Any:
    """What a record names as "module:name", imported; anything else as it is.

    >>> resolved("math:sqrt")(9.0)
    3.0
    """
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
